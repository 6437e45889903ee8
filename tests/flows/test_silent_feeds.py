"""A retired endpoint acknowledges everything and says nothing: what the real flow makes of it, and of a market that went."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from flow_runs import (
    differences,
    journal_of,
    last_emitted,
    live,
    payloads,
    program,
    replay,
    rows_of,
    simulator,
    tables_of,
    wait_until,
    watching,
)
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow

FROM_THE_START, LATER = "okx", "binance-usdm"
FEEDS = ("binance-usdm/liquidations", "bybit-linear/liquidations", "okx/liquidations")
# In this market each venue brings a liquidation or two a second: eight seconds without one are unusual.
SETTINGS = {
    "VENUES": "binance-usdm,bybit-linear,okx",
    "CHAIN__URL": None,
    "PARAMETERS__SILENCE__MIN_QUIET_US": 8_000_000,
    "PARAMETERS__SILENCE__LEARN_US": 8_000_000,
    "PARAMETERS__SILENCE__MIN_EVENTS": 5,
    "PARAMETERS__SILENCE__MIN_OTHER_EVENTS": 5,
}


@dataclass(frozen=True)
class Watched:
    """A run, and what its pages said: before anything was silent, and while it was.

    Attributes:
        metrics: By name and venue, at each of these moments.
        readiness: Answer of ``/readyz``.
    """

    data: Path
    metrics: dict[str, dict[tuple[str, str], float]]
    readiness: dict[str, dict[str, Any]]


class Pages:
    """What the run serves."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def _get(self, path: str) -> httpx.Response | None:
        try:
            return httpx.get(f"{self._url}{path}", trust_env=False, timeout=10)
        except httpx.TransportError:
            return None  # it does not serve yet

    def metrics(self) -> dict[tuple[str, str], float]:
        page = self._get("/metrics")
        families = text_string_to_metric_families(page.text) if page is not None else ()
        samples = [sample for family in families for sample in family.samples]
        return {(each.name.removeprefix("cascadewatch_"), each.labels.get("venue", "")): each.value for each in samples}

    def readiness(self) -> dict[str, Any]:
        answer = self._get("/readyz")
        assert answer is not None
        body: dict[str, Any] = {"status": answer.status_code, **answer.json()}
        return body

    def is_silent(self, venue: str) -> bool:
        return self.metrics().get(("feed_silent", venue)) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Watch one venue that was retired from the start, and is revived; one that is retired later; at last, nothing at all."""
    folder = tmp_path_factory.mktemp("silence")
    data, port = folder / "live", free_port()
    pages = Pages(port)
    metrics, readiness = {}, {}
    with ExitStack() as market_is_there, ExitStack() as around:
        market = market_is_there.enter_context(simulator("calm", "--speed", "10", "--retire", FROM_THE_START))
        environment = watching(market, **SETTINGS, METRICS__PORT=port)
        run = around.enter_context(program(live(data), environment, folder / "live.log"))

        def until(is_so: Any, what: str) -> None:
            wait_until(is_so, what=what, seconds=60, program=run)

        until(lambda: pages.is_silent(FROM_THE_START), f"{FROM_THE_START} silent")
        metrics["deaf"], readiness["deaf"] = pages.metrics(), pages.readiness()
        market.post(f"/control/revive?venue={FROM_THE_START}")
        until(lambda: not pages.is_silent(FROM_THE_START), f"{FROM_THE_START} heard")
        metrics["heard"], readiness["heard"] = pages.metrics(), pages.readiness()
        market.post(f"/control/retire?venue={LATER}")
        until(lambda: pages.is_silent(LATER), f"{LATER} silent")
        metrics["later"] = pages.metrics()
        market.post(f"/control/revive?venue={LATER}")
        until(lambda: not pages.is_silent(LATER), f"{LATER} heard")
        market_is_there.close()
        until(lambda: bool(scores_without(data, "liquidations")), "a score without any liquidations")
        metrics["gone"], readiness["gone"] = pages.metrics(), pages.readiness()
        code = run.stop()
        assert code == 0, run.words()
    return Watched(data, metrics, readiness)


def scores_without(data: Path, name: str) -> list[dict[str, Any]]:
    """Return the scores that name an input as missing, oldest first."""
    rows = sorted(rows_of(data, "scores"), key=lambda row: row["sequence"])
    return [row for row in rows if name in row["missing_inputs"]]


def silences(data: Path) -> list[dict[str, Any]]:
    rows = sorted(rows_of(data, "gaps"), key=lambda row: row["sequence"])
    return [row for row in rows if row["reason"].startswith("silent")]


def test_a_venue_that_never_said_a_word_is_found_silent_though_it_is_connected(watched: Watched) -> None:
    metrics, readiness = watched.metrics["deaf"], watched.readiness["deaf"]

    assert metrics["feed_silent", FROM_THE_START] == 1
    assert {venue: metrics["feed_blind", venue] for venue in ("okx", "binance-usdm", "bybit-linear")} == dict.fromkeys(
        ("okx", "binance-usdm", "bybit-linear"), 0
    )
    assert metrics["feed_connections", FROM_THE_START] >= 1
    assert metrics["feed_unseen_timestamp_seconds", FROM_THE_START] > 0
    assert ("liquidation_timestamp_seconds", FROM_THE_START) not in metrics
    assert readiness["status"] == 503
    (reason,) = readiness["reasons"]
    assert reason.startswith("feed okx/liquidations is silent: connected, and no liquidation in ")
    assert reason.endswith("usual quiet: not known yet")


def test_what_is_heard_again_is_no_longer_silent_and_the_process_is_ready(watched: Watched) -> None:
    assert watched.metrics["heard"]["feed_silent", FROM_THE_START] == 0
    assert ("feed_unseen_timestamp_seconds", FROM_THE_START) not in watched.metrics["heard"]
    assert watched.readiness["heard"]["status"] == 200


def test_a_venue_that_falls_silent_is_found_by_its_own_usual_quiet(watched: Watched) -> None:
    metrics = watched.metrics["later"]

    assert metrics["feed_silent", LATER] == 1
    assert ("feed_silent", "bybit-linear") not in metrics  # with one other venue in sight nothing can be told of it
    assert metrics["liquidation_timestamp_seconds", LATER] == pytest.approx(metrics["feed_unseen_timestamp_seconds", LATER])


def test_every_silence_is_a_row_of_gaps_from_the_last_liquidation_to_the_next(watched: Watched) -> None:
    rows = silences(watched.data)
    liquidations = rows_of(watched.data, "liquidations")

    assert [row["feed"] for row in rows] == [f"{FROM_THE_START}/liquidations", f"{LATER}/liquidations"]
    assert rows[0]["reason"].endswith("usual quiet: not known yet")
    assert "usual quiet: at most" in rows[1]["reason"]
    for row in rows:
        heard = sorted(each["receive_time"] for each in liquidations if each["venue"] == row["venue"])
        assert row["to_time"] in heard
        assert not [at for at in heard if row["from_time"] < at < row["to_time"]]
    assert rows[1]["from_time"] in {each["receive_time"] for each in liquidations if each["venue"] == LATER}


def test_scores_name_a_silent_venue_from_the_moment_it_was_found_and_say_that_sums_are_floors(watched: Watched) -> None:
    for venue in (FROM_THE_START, LATER):
        named = scores_without(watched.data, f"liquidations:{venue}")
        (row,) = (row for row in silences(watched.data) if row["venue"] == venue)

        assert named
        assert all(score["liquidations_are_floors"] for score in named)
        assert any(row["from_time"] < score["receive_time"] < row["to_time"] for score in named)
    whole = [row for row in rows_of(watched.data, "scores") if not row["liquidations_are_floors"]]
    assert {name for row in whole for name in row["missing_inputs"] if name.startswith("liquidations")} == set()


def test_with_every_feed_down_scores_are_without_liquidations_instead_of_counting_none(watched: Watched) -> None:
    blind = scores_without(watched.data, "liquidations")

    for row in blind:
        assert set(row["missing_inputs"]) >= {f"liquidations:{feed.partition('/')[0]}" for feed in FEEDS}
        assert row["risk_absolute_liquidations"] is None
        assert row["cascade_score_long"] is None
        assert {"speed", "breadth"} <= set(row["cascade_missing_long"])
    seeing = [row for row in rows_of(watched.data, "scores") if "liquidations" not in row["missing_inputs"]]
    assert None not in {row["risk_absolute_liquidations"] for row in seeing}
    assert {watched.metrics["gone"]["feed_blind", feed.partition("/")[0]] for feed in FEEDS} == {1}
    assert watched.readiness["gone"]["status"] == 503


def test_a_start_names_the_feeds_that_it_expects(watched: Watched) -> None:
    statuses = payloads(watched.data, "status", last=last_emitted(watched.data))

    assert tuple(status["feed"] for status in statuses if status["state"] == "expected") == FEEDS


def test_a_replay_finds_the_same_silences(watched: Watched, tmp_path: Path) -> None:
    parameters = {name: value for name, value in SETTINGS.items() if name.startswith("PARAMETERS")}
    replay(
        journal_of(watched.data), tmp_path / "replay", "--last", last_emitted(watched.data), EPOCH_SECONDS=0.3, **parameters
    )

    assert differences(tables_of(watched.data), tables_of(tmp_path / "replay")) == {}
