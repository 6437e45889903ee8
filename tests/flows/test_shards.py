"""Shards over the same recorded frames, as processes of their own: together they write what one process writes."""

from __future__ import annotations

import re
import signal
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    Program,
    Tables,
    differences,
    dying,
    journal_of,
    live,
    pause,
    program,
    replaying,
    rows_of,
    settings_environment,
    simulator,
    wait_until,
    watching,
)

from connectors.sinks.tables import TABLES
from connectors.sources.journal import Journal
from market.shards import owner_of

pytestmark = pytest.mark.slow

EASY = {"PARAMETERS__CASCADE__WINDOW_USD": 200_000, "PARAMETERS__SEVERITY__INFO_RISK": 2, "EPOCH_SECONDS": 0.2}
PARTITION_IN_ID = re.compile(r"(?<=-)[^-]+(?:-[0-9]+of[0-9]+g[0-9]+)?(?=-[0-9]+$)")
GARBAGE = b'{"not": "what a venue says"'
REPLAY_SECONDS = START_SECONDS + 60


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recorded cascade, with a time in which nobody listened and frames that nobody can read."""
    data = tmp_path_factory.mktemp("recorded") / "live"
    log = data.with_suffix(".log")
    with simulator("long-cascade", "--speed", "5", seed=7) as market:
        environment = watching(market, CHAIN__LOOKBACK_BLOCKS=40, **EASY)
        with program(live(data), environment, log) as run:
            wait_until(lambda: bool(rows_of(data, "liquidations")), what="liquidations", program=run)
            run.kill()
        with program(live(data), environment, log) as run:
            for name in ("gaps", "cascades", "alerts"):
                wait_until(lambda: bool(rows_of(data, name)), what=name, program=run)  # noqa: B023 - called here
            pause(2)
            assert run.stop() == 0, run.words()
    return with_garbage(journal_of(data), data.parent / "0.db")


def with_garbage(recorded: Path, path: Path) -> Path:
    """Copy a journal, with a frame that nobody can read after every twentieth."""
    source, copy = Journal(recorded), Journal(path)
    for sequence, row in source.read(1):
        receive_time_us = row[2]
        garbage = [("okx/liquidations", GARBAGE + b"%d" % sequence, receive_time_us)] if sequence % 20 == 0 else []
        copy.append([row, *garbage])
    copy.close()
    source.close()
    return path


def frames_in(journal: Path) -> int:
    opened = Journal(journal)
    count = opened.next_sequence - 1
    opened.close()
    return count


def environment_of(shard: str | None) -> dict[str, str]:
    return settings_environment(SHARD=shard, **EASY)


def replay_as(shards: list[str | None], journal: Path, data: Path, last: int | None = None) -> None:
    """Replay as these shards, all at the same time."""
    options = [] if last is None else ["--last", last]
    with ExitStack() as around:
        runs: list[Program] = []
        for shard in shards:
            log = data.parent / f"{data.name}-{shard or 'whole'}.log".replace("/", "-of-")
            runs.append(around.enter_context(program(replaying(journal, data, *options), environment_of(shard), log)))
        for run in runs:
            assert run.wait(REPLAY_SECONDS) == 0, run.words()


def all_of(count: int) -> list[str | None]:
    return [f"{index}/{count}" for index in range(count)]


def whoever_wrote(data: Path) -> Tables:
    """Return all rows without what names the shard that wrote them."""
    tables: Tables = {}
    for table in TABLES:
        rows = rows_of(data, table.name)
        for row in rows:
            del row["feed_partition"]
            if "cascade_id" in row:
                row["cascade_id"] = PARTITION_IN_ID.sub("P", row["cascade_id"])
        tables[table.name] = sorted(repr(row) for row in rows)
    return tables


@pytest.fixture(scope="module")
def whole(journal: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Return what one process writes."""
    data = tmp_path_factory.mktemp("whole") / "data"
    replay_as([None], journal, data)
    tables = whoever_wrote(data)
    for name in ("liquidations", "scores", "cascades", "alerts", "stablecoin_transfers", "miner_days", "gaps", "dead_letters"):
        assert tables[name], name
    return tables


@pytest.mark.parametrize("count", [2, 3])
def test_shards_write_together_what_one_process_writes(journal: Path, whole: Tables, tmp_path: Path, count: int) -> None:
    replay_as(all_of(count), journal, tmp_path / "data")

    assert differences(whoever_wrote(tmp_path / "data"), whole) == {}
    assert owners(tmp_path / "data", count) == {}


def owners(data: Path, count: int) -> dict[str, set[str]]:
    """Return assets whose rows any other than their owner has written, and rows of no asset that the first shard has not."""
    wrong: defaultdict[str, set[str]] = defaultdict(set)
    for table in TABLES:
        for row in rows_of(data, table.name):
            owner = owner_of(row["asset"], count) if "asset" in row else 0
            if row["feed_partition"] != f"0-{owner}of{count}g1":
                wrong[row.get("asset", table.name)].add(row["feed_partition"])
    return dict(wrong)


def test_a_shard_that_dies_in_the_middle_goes_on_and_nobody_else_notices(journal: Path, whole: Tables, tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "dying.log"
    for count, where in (
        (1, ("connectors.sinks.delta", "RowsPartition", "snapshot", "after")),
        (2, ("connectors.sinks.delta_tables", "DeltaTables", "commit", "after")),
    ):
        with program(dying(where, count, replaying(journal, data)), environment_of("1/2"), log) as run:
            assert run.wait(REPLAY_SECONDS) == -signal.SIGKILL, run.words()
    replay_as(["0/2"], journal, data)
    with program(replaying(journal, data), environment_of("0/3"), log) as run:
        assert run.wait(REPLAY_SECONDS) == 1
        assert "cannot begin as shard 0/3: not handed over yet: shard 1/2. Stop what still runs" in run.words()

    replay_as(["1/2"], journal, data)

    assert differences(whoever_wrote(data), whole) == {}


def test_a_number_that_changes_again_and_again_loses_and_doubles_nothing(journal: Path, whole: Tables, tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "drained.log"
    last = frames_in(journal)
    replay_as([None], journal, data, last // 5)
    with program(replaying(journal, data), environment_of("0/2"), log) as run:
        assert run.wait(REPLAY_SECONDS) == 1
        assert "the undivided process has written these tables and has not handed over" in run.words()
    with program(["-m", "cascadewatch", "drain", "--data", str(data)], environment_of(None), log) as run:
        assert run.wait(REPLAY_SECONDS) == 0, run.words()

    for count, upto in ((2, last * 2 // 5), (3, last * 3 // 5), (2, last * 4 // 5)):
        replay_as(all_of(count), journal, data, upto)
    replay_as([None], journal, data)

    assert differences(whoever_wrote(data), whole) == {}
    partitions = {row["feed_partition"] for row in rows_of(data, "liquidations")}
    assert partitions <= {
        "0",
        "0-0of2g2",
        "0-1of2g2",
        *(f"0-{index}of3g3" for index in range(3)),
        "0-0of2g4",
        "0-1of2g4",
        "0-0of1g5",
    }
    assert {partition.rpartition("g")[2] for partition in partitions} == {"0", "2", "3", "4", "5"}


def test_every_liquidation_has_one_row(whole: Tables) -> None:
    assert Counter(Counter(whole["liquidations"]).values()).keys() == {1}
