"""What the tables hold is what happened: each scenario of the simulated market, watched over its own protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flow_runs import (
    count_of,
    differences,
    journal_of,
    last_emitted,
    live,
    payloads,
    program,
    repeated,
    replay,
    rows_of,
    simulator,
    tables_of,
    wait_until,
    watching,
)
from liquidation_identity import record_identity, row_identity

pytestmark = pytest.mark.slow

SEED = 1
AT_ONCE = 2  # scenarios
STORIES = {  # scenario: simulated seconds per second, and how far the story is watched
    "long-cascade": (3, 33),
    "short-squeeze": (3, 33),
    "burst": (1, 12),
    "calm": (3, 27),
    "single-print": (3, 27),
}
NO_CHAIN = {"CHAIN__URL": None}
WITH_CHAIN = "calm"  # the others do without: making and reading four hours of blocks takes seconds of both programs


@dataclass(frozen=True)
class Watched:
    """A run, and what really happened.

    Attributes:
        token_sums: Of the blocks that the run read: all transfers, and without small ones. Empty without a chain.
    """

    data: Path
    published: list[dict[str, Any]]
    delivered: dict[str, dict[str, dict[str, Any]]]
    token_sums: tuple[dict[str, Any], dict[str, Any]]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return a table's rows, oldest frame first."""
        return sorted_rows(self.data, table)


@cache
def sorted_rows(data: Path, table: str) -> list[dict[str, Any]]:
    return sorted(rows_of(data, table), key=lambda row: row["sequence"])


def watch(scenario: str, folder: Path) -> Watched:
    """Watch a scenario from its first moment until everything that was published has arrived."""
    speed, seconds = STORIES[scenario]
    data = folder / scenario
    has_chain = scenario == WITH_CHAIN
    with (
        simulator(scenario, "--wait", "--speed", str(speed), seed=SEED) as market,
        program(live(data), watching(market, **NO_CHAIN if not has_chain else {}), folder / f"{scenario}.log") as run,
    ):
        wait_until(lambda: market.scenario_seconds() >= seconds, what="the end of the story", seconds=60, program=run)
        market.post("/control/stop-liquidations")
        summary = market.get("/truth/summary")["venues"]
        delivered = {venue: sums["delivered"] for venue, sums in summary.items()}
        expected = sum(tally["count"] for sides in delivered.values() for tally in sides.values())
        wait_until(lambda: count_of(data, "liquidations") >= expected, what="all of it in the table", program=run)
        if has_chain:
            wait_until(lambda: is_pressure_known(data), what="pressure", program=run)
        code = run.stop()
        assert code == 0, run.words()
        venues = market.get("/truth?published=true")["venues"]
        published = [record for records in venues.values() for record in records]
        return Watched(data, published, delivered, token_sums(market, data) if has_chain else ({}, {}))


def is_pressure_known(data: Path) -> bool:
    return any(row["stablecoin_pressure"] is not None for row in rows_of(data, "scores"))


def token_sums(market: Any, data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the chain says of the blocks that a run read: of all transfers, and without small ones."""
    blocks = [(body["from_block"], body["to_block"]) for body in payloads(data, "ethereum/logs", last=last_emitted(data))]
    where = f"from={min(first for first, _ in blocks)}&to={max(last for _, last in blocks)}"
    everything, large = (market.get(f"/ethereum/truth?{where}&minimum_micros={minimum}") for minimum in (0, 10**12))
    return everything, large


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Watched]]:
    """Run all scenarios, two at a time; return what gives one of them when it is over."""
    folder = tmp_path_factory.mktemp("truth")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs: dict[str, Future[Watched]] = {name: pool.submit(watch, name, folder) for name in STORIES}
        yield lambda name: runs[name].result()


@pytest.mark.parametrize("scenario", STORIES)
def test_every_liquidation_that_reached_us_is_a_row_and_no_other(watched, scenario: str) -> None:
    run = watched(scenario)
    reached = [record for record in run.published if record["receivers"]]

    assert reached
    assert Counter(map(row_identity, run.rows("liquidations"))) == Counter(map(record_identity, reached))


@pytest.mark.parametrize("scenario", STORIES)
def test_counts_and_sums_by_venue_and_side_are_the_truth_to_the_cent(watched, scenario: str) -> None:
    run = watched(scenario)
    rows = run.rows("liquidations")

    for venue, sides in run.delivered.items():
        for side, tally in sides.items():
            amounts = [row["notional_usd"] for row in rows if (row["venue"], row["position_side"]) == (venue, side)]
            assert len(amounts) == tally["count"], (venue, side)
            assert sum(amounts) == pytest.approx(float(tally["notional_usd"]), abs=0.005), (venue, side)


@pytest.mark.parametrize("scenario", STORIES)
def test_nothing_was_refused_missed_or_said_twice(watched, scenario: str) -> None:
    run = watched(scenario)

    assert run.rows("dead_letters") == []
    assert run.rows("gaps") == []
    assert repeated(run.data) == {}


@pytest.mark.parametrize(("scenario", "side"), [("long-cascade", "LONG"), ("short-squeeze", "SHORT")])
def test_a_cascade_is_called_on_the_side_that_was_liquidated(watched, scenario: str, side: str) -> None:
    began = [row for row in watched(scenario).rows("cascades") if row["phase"] == "began"]

    assert "BTC" in {row["asset"] for row in began}
    assert {row["position_side"] for row in began} == {side}


@pytest.mark.parametrize("scenario", ["calm", "burst", "single-print"])
def test_where_nothing_follows_no_cascade_is_called(watched, scenario: str) -> None:
    assert watched(scenario).rows("cascades") == []


def test_a_single_large_print_is_seen(watched) -> None:
    largest = max(watched("single-print").rows("liquidations"), key=lambda row: row["notional_usd"])

    assert (largest["venue"], largest["symbol"], largest["position_side"]) == ("binance-usdm", "BTCUSDT", "LONG")
    assert largest["notional_usd"] == pytest.approx(8e6, rel=0.01)


def test_a_burst_arrives_whole_where_the_venue_publishes_all(watched) -> None:
    run = watched("burst")
    everything = run.delivered["bybit-linear"]["LONG"]["count"] + run.delivered["bybit-linear"]["SHORT"]["count"]

    assert everything > 6_000
    assert sum(row["venue"] == "bybit-linear" for row in run.rows("liquidations")) == everything


def test_a_burst_replays_to_the_same_tables(watched, tmp_path: Path) -> None:
    data = watched("burst").data
    replay(journal_of(data), tmp_path / "replay", "--last", last_emitted(data), EPOCH_SECONDS=0.1)

    assert differences(tables_of(data), tables_of(tmp_path / "replay")) == {}


def test_stablecoin_flows_are_those_of_the_blocks_that_were_read(watched) -> None:
    run = watched(WITH_CHAIN)
    rows = run.rows("stablecoin_transfers")
    everything, large = run.token_sums

    assert sums_by_kind(rows) == sums_of(everything)
    assert len(rows) == everything["events"]
    counted = sums_by_kind([row for row in rows if row["counted"]])
    assert counted == {**sums_of(large), "internal": 0}  # from one exchange to another: neither in nor out


def sums_by_kind(rows: list[dict[str, Any]]) -> dict[str, int]:
    sums = Counter(dict.fromkeys(("inflow", "outflow", "internal", "mint", "burn"), 0))
    for row in rows:
        sums[row["kind"]] += round(row["amount_usd"] * 1_000_000)
    return dict(sums)


def sums_of(truth: dict[str, Any]) -> dict[str, int]:
    return {kind: truth[f"{kind}_micros"] for kind in ("inflow", "outflow", "internal", "mint", "burn")}


def test_pressure_is_known_with_a_chain_and_named_as_missing_without(watched) -> None:
    with_chain, without = watched(WITH_CHAIN).rows("scores")[-1], watched("long-cascade").rows("scores")[-1]

    assert with_chain["stablecoin_pressure"] is not None
    assert "pressure" not in with_chain["missing_inputs"]
    assert without["stablecoin_pressure"] is None
    assert "pressure" in without["missing_inputs"]


def test_the_miners_are_heard_of(watched) -> None:
    run = watched(WITH_CHAIN)

    for name in ("expanding", "rolling_3y", "glassnode_2022"):
        assert run.rows("miner_days")[-1][f"{name}_multiple"] is not None, name
        assert run.rows("scores")[-1][f"difficulty_multiple_{name}"] is not None, name
