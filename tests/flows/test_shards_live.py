"""Shards that watch a simulated market at the same time: one dies, and then there are three instead of two."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from flow_runs import (
    STOP_SECONDS,
    Program,
    Simulator,
    last_emitted,
    live,
    pause,
    program,
    repeated,
    replaying,
    rows_of,
    settings_environment,
    simulator,
    wait_until,
    watching,
)
from liquidation_identity import record_identity, row_identity

from market.contracts import split_multiplier
from market.parameters import WatchParameters
from market.shards import Shard, owner_of

pytestmark = pytest.mark.slow

SPEED = 3
STEADY_SECONDS = 5
ALL_MARKET = ("binance-usdm/liquidations", "okx/liquidations")
FEEDS = (*ALL_MARKET, "bybit-linear/liquidations", "bybit-inverse/liquidations")


@dataclass
class Story:
    """What was done to the shards.

    Attributes:
        steady_ms: Times in which all shards were connected, of the simulator's clock.
        while_dead: What the shard that lived had emitted when the other had just died, and some seconds later.
        label: Of the metrics of a shard.
    """

    data: Path
    steady_ms: list[tuple[int, int]] = field(default_factory=list)
    while_dead: tuple[int, int] = (0, 0)
    refused: str = ""
    metrics: str = ""
    published: list[dict[str, Any]] = field(default_factory=list)


def home(data: Path, shard: Shard) -> Path:
    return data / f"shard-{shard.index}-of-{shard.count}"


def journal(data: Path, shard: Shard) -> Path:
    """Return the newest journal of a shard."""
    return max((home(data, shard) / "journal").glob("*.db"), key=lambda path: path.stem.rpartition("g")[2])


def asked(path: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as opened:
        return [value for (value,) in opened.execute(question)]


def connected(data: Path, shard: Shard, start: int = 1) -> set[str]:
    """Return the feeds that a shard has connected since it last started; none before its ``start``-th start."""
    folder = home(data, shard) / "journal"
    if not folder.is_dir() or not list(folder.glob("*.db")):
        return set()
    try:
        payloads = asked(journal(data, shard), "SELECT payload FROM frames WHERE feed = 'status' ORDER BY sequence")
    except sqlite3.OperationalError:
        return set()  # it has no tables yet
    statuses = [json.loads(payload) for payload in payloads]
    begins = [place for place, status in enumerate(statuses) if status["state"] == "started"]
    recent = statuses[begins[-1] :] if len(begins) >= start else []
    return {status["feed"] for status in recent if status["state"] == "connected"}


@contextmanager
def shards(count: int, story: Story, environment: dict[str, str]) -> Iterator[list[Program]]:
    """Run so many shards until all of them have connected everything, and while the context lasts; then stop them."""
    with ExitStack() as around:
        runs = []
        for index in range(count):
            log = story.data.parent / f"{index}-of-{count}.log"
            own = {**environment, "CASCADEWATCH_SHARD": f"{index}/{count}"}
            runs.append(around.enter_context(program(live(story.data), own, log)))
        for index, run in enumerate(runs):
            shard = Shard(index, count)
            wait_until(lambda: connected(story.data, shard) >= set(FEEDS), what="connections", program=run, seconds=60)  # noqa: B023 - called here
        yield runs
        for run in runs:
            run.process.terminate()
        for run in runs:
            assert run.wait(2 * STOP_SECONDS) == 0, run.words()
            assert "handed_over" in run.words()


def watch_steadily(market: Simulator, story: Story) -> None:
    """Let the shards watch undisturbed for a while."""
    begin_ms = market.get("/control/state")["now_ms"]
    pause(STEADY_SECONDS)
    story.steady_ms.append((begin_ms, market.get("/control/state")["now_ms"]))
    pause(1.5)  # what came last is read before anybody is asked to stop, on a busy machine too


def die_and_come_back(runs: list[Program], story: Story, environment: dict[str, str], around: ExitStack) -> None:
    """Kill shard 1, look at shard 0, start shard 1 again."""
    other = home(story.data, Shard(0, 2))
    runs[1].kill()
    before = last_emitted(other)
    wait_until(lambda: last_emitted(other) > before, what="progress of the other", program=runs[0])
    story.while_dead = before, last_emitted(other)
    own = {**environment, "CASCADEWATCH_SHARD": "1/2"}
    runs[1] = around.enter_context(program(live(story.data), own, story.data.parent / "1-of-2.log"))
    wait_until(
        lambda: connected(story.data, Shard(1, 2), start=2) >= set(FEEDS), what="connections", program=runs[1], seconds=60
    )
    pause(1)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    told = Story(tmp_path_factory.mktemp("shards") / "data")
    with simulator("long-cascade", "--speed", str(SPEED)) as market, ExitStack() as around:
        environment = watching(market, CHAIN__LOOKBACK_BLOCKS=40, EPOCH_SECONDS=0.5, PARAMETERS__CASCADE__WINDOW_USD=200_000)
        with shards(2, told, environment) as runs:
            wait_until(lambda: bool(rows_of(told.data, "liquidations")), what="liquidations", program=runs[0])
            watch_steadily(market, told)
            told.metrics = metrics_of(runs[1])
            with program(
                live(told.data), {**environment, "CASCADEWATCH_SHARD": "0/3"}, told.data.parent / "early.log"
            ) as early:
                assert early.wait(60) == 1
                told.refused = early.words()
            die_and_come_back(runs, told, environment, around)
        with shards(3, told, environment):
            watch_steadily(market, told)
        venues = market.get("/truth?published=true")["venues"]
        told.published = [record for records in venues.values() for record in records]
    return told


def metrics_of(run: Program) -> str:
    url = next(json.loads(line)["metrics"] for line in run.words().splitlines() if '"started"' in line)
    return httpx.get(url, trust_env=False, timeout=10).text


def generations() -> list[Shard]:
    return [Shard(index, count) for count in (2, 3) for index in range(count)]


def test_no_liquidation_is_written_twice_by_whomever_and_none_was_made_up(story: Story) -> None:
    written = [row_identity(row) for row in rows_of(story.data, "liquidations")]

    assert written
    assert len(written) == len(set(written))
    assert set(written) <= set(map(record_identity, story.published))
    assert repeated(story.data) == {}


def test_every_liquidation_that_came_while_all_were_connected_is_a_row(story: Story) -> None:
    written = {row_identity(row) for row in rows_of(story.data, "liquidations")}
    published = [
        record for record in story.published if any(begin <= record["sent_ms"] < end - 500 for begin, end in story.steady_ms)
    ]

    assert len(published) > 50
    assert [record for record in published if record_identity(record) not in written] == []


def test_the_other_shard_goes_on_while_one_is_dead(story: Story) -> None:
    before, later = story.while_dead

    assert later > before
    gaps = [row for row in rows_of(story.data, "gaps") if row["feed_partition"] == "0of2g1"]
    assert gaps == []


def test_every_row_of_an_asset_is_its_owners_and_what_concerns_all_is_the_first_ones(story: Story) -> None:
    wrong: defaultdict[str, set[str]] = defaultdict(set)
    for table in ("liquidations", "derivatives", "book_depth", "scores", "cascades", "stablecoin_transfers", "miner_days"):
        for row in rows_of(story.data, table):
            shard, _, rest = row["feed_partition"].partition("of")
            owner = owner_of(row["asset"], int(rest.partition("g")[0])) if "asset" in row else 0
            if owner != int(shard):
                wrong[table].add(row["feed_partition"])
    assert wrong == {}


def test_shards_poll_and_subscribe_only_what_is_theirs(story: Story) -> None:
    for shard in generations():
        feeds = asked(journal(story.data, shard), "SELECT DISTINCT feed FROM frames")
        symbols = {parts[2] for feed in feeds if len(parts := feed.split("/")) == 3 and parts[1] in {"depth", "open-interest"}}
        owners = {asset for asset in WatchParameters().watched_assets for symbol in symbols if symbol.startswith(asset)}
        bybit = asked(
            journal(story.data, shard), "SELECT CAST(payload AS TEXT) FROM frames WHERE feed = 'bybit-linear/liquidations'"
        )
        topics = {json.loads(payload).get("topic", "").rpartition(".")[2] for payload in bybit} - {""}
        coins = {split_multiplier(topic.removesuffix("USDT").removesuffix("PERP"))[0] for topic in topics}
        assert all(shard.owns(asset) for asset in owners), shard
        assert all(shard.owns(coin) for coin in coins), shard


def test_a_shard_that_comes_too_early_is_told_what_to_do(story: Story) -> None:
    assert "cannot begin as shard 0/3: not handed over yet: shard 0/2, shard 1/2. Stop what still runs" in story.refused


def test_windows_go_on_when_an_asset_changes_hands(story: Story) -> None:
    counts: defaultdict[str, list[tuple[Any, int]]] = defaultdict(list)
    for row in rows_of(story.data, "scores"):
        if row["long_count_3600s"] is not None:
            counts[row["asset"]].append((row["as_of"], row["long_count_3600s"] + row["short_count_3600s"]))
    moved = [asset for asset in counts if owner_of(asset, 2) != owner_of(asset, 3)]

    assert moved
    for asset, of_asset in counts.items():
        in_order = [count for _as_of, count in sorted(of_asset)]
        assert in_order == sorted(in_order), asset


def test_what_nobody_saw_while_shards_changed_is_a_gap_of_each(story: Story) -> None:
    by_partition = defaultdict(set)
    for row in rows_of(story.data, "gaps"):
        if row["reason"] == "process was not running":
            by_partition[row["feed_partition"]].add(row["feed"])

    for index in range(3):
        assert by_partition[f"{index}of3g2"] >= set(ALL_MARKET)


@pytest.mark.parametrize("index", [0, 1])
def test_a_replay_of_a_shards_journal_gives_its_rows(story: Story, tmp_path: Path, index: int) -> None:
    shard = Shard(index, 2)
    path = journal(story.data, shard)
    environment = settings_environment(PARAMETERS__CASCADE__WINDOW_USD=200_000)
    with program(replaying(path, tmp_path / "again"), environment, tmp_path / "again.log") as run:
        assert run.wait(90) == 0, run.words()

    for table in ("liquidations", "scores", "derivatives", "cascades", "alerts", "gaps", "dead_letters", "miner_days"):
        live_rows = [row for row in rows_of(story.data, table) if row["feed_partition"] == path.stem]
        assert in_any_order(rows_of(tmp_path / "again", table)) == in_any_order(live_rows), table


def in_any_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))


def test_a_shards_metrics_carry_its_number(story: Story) -> None:
    samples = [line for line in story.metrics.splitlines() if not line.startswith("#")]

    assert 'cascadewatch_shards{shard="1"} 2.0' in samples
    assert all('shard="1"' in line for line in samples)


def test_a_journal_holds_nothing_that_was_not_emitted(story: Story) -> None:
    for shard in generations():
        (newest,) = asked(journal(story.data, shard), "SELECT max(sequence) FROM frames")
        assert last_emitted(home(story.data, shard)) == newest, shard
