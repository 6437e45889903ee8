"""A store that is away, slow, refuses or hangs costs neither rows nor latency: they wait in the spool, and a full spool waits.

``OUTAGE_SECONDS=60`` makes every fault last for so long (``make test-faults``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    STOP_SECONDS,
    Program,
    Simulator,
    differences,
    journal_of,
    last_emitted,
    last_journaled,
    live,
    pause,
    program,
    repeated,
    replay,
    simulator,
    tables_of,
    wait_until,
    watching,
    write_busy_journal,
)
from patched_runs import lags_between, noting_lags, patched
from s3_server import S3Server, s3_server
from store_proxy import StoreProxy, store_proxy
from stored_runs import Pages, StoredTables

from connectors.sinks.delta_tables import DeltaTables

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "8"))
QUIET_SECONDS = 3.0
RECOVERY_SECONDS = 60 + 2 * OUTAGE_SECONDS  # tries to commit come less and less often, at last every 30 s
FLAT_SECONDS = 1.0
"""Rows that waited for a store of these tests would be late by far more than this; a busy machine makes them late by less."""

OFTEN = {"EPOCH_SECONDS": 0.5, "SINK__COMMIT_INTERVAL_SECONDS": 1.0, "CHAIN__URL": None}
LOWEST_SPOOL_LIMIT = 1024**2
SHORT_EPOCH_SECONDS = 0.05
RUSH = {"seconds": 200, "per_second": 60, "unreadable_bytes": 20_000}
"""The spool is full after some 40 of these seconds and the epoch under way, whose rows pass; both together are far less than
the rush on a machine that takes fewer than 100,000 frames a second."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: S3Server) -> Iterator[StoreProxy]:
    with store_proxy(server.endpoint) as running:
        yield running


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    with simulator("long-cascade", "--speed", "2") as running:
        yield running


@pytest.fixture
def stored(server: S3Server, tmp_path: Path) -> StoredTables:
    return StoredTables(server.uri(tmp_path.name), server.storage_options())


def committed(pages: Pages) -> float:
    return pages.metrics().get("rows_committed_total", 0.0)


def waiting_in(data: Path) -> list[Path]:
    """Return the files in a run's spool."""
    return list((data / "spool").rglob("*.arrow"))


def drained(files: list[Path], run: Program) -> None:
    """Wait until these files of a spool were committed."""
    assert files
    wait_until(lambda: not any(file.exists() for file in files), what="a drained spool", seconds=RECOVERY_SECONDS, program=run)


def finish(data: Path, environment: dict[str, str]) -> None:
    """Have all that was journaled committed, however long the store takes."""
    for _ in range(5):
        with program(["-m", "cascadewatch", "drain", "--data", str(data)], environment, data.with_suffix(".log")) as run:
            if run.wait(START_SECONDS + RECOVERY_SECONDS) == 0:
                return
    raise AssertionError(run.words())


def typical(lags: list[float]) -> float:
    """Return what nine of ten rows did not exceed."""
    return lags[len(lags) * 9 // 10]


def nothing_is_lost_or_doubled(data: Path, stored: StoredTables, replayed: Path) -> None:
    replay(journal_of(data), replayed)
    assert stored.disorder() == {}
    stored.bring(data)
    assert differences(tables_of(data), tables_of(replayed)) == {}
    assert repeated(data) == {}
    assert tables_of(data)["scores"]


def test_while_the_store_is_away_rows_go_on_to_the_spool_as_quickly_and_then_to_the_store_in_order(
    server: S3Server, market: Simulator, stored: StoredTables, tmp_path: Path
) -> None:
    data, lags = tmp_path / "data", tmp_path / "lags"
    environment = watching(market, **OFTEN, **stored.settings())
    with program(patched(noting_lags(lags), live(data)), environment, tmp_path / "log") as run:
        pages = Pages(run)
        wait_until(lambda: committed(pages) > 0, what="a commit", program=run)
        before = time.time()
        pause(QUIET_SECONDS)
        server.kill()
        away = time.time()
        pause(OUTAGE_SECONDS)
        while_away, pages_while_away = pages.metrics(), (pages.status("healthz"), pages.status("readyz"))
        back = time.time()
        server.start()
        drained(waiting_in(data), run)
        assert run.stop() == 0, run.words()

    assert while_away["spool_bytes"] > 0
    assert while_away["spool_blocked"] == 0
    assert pages_while_away == (200, 200)
    usual, meanwhile = lags_between(lags, before, away), lags_between(lags, away, back)
    print(f"frame to sink, 90 %: {typical(usual):.4f} s, without the store {typical(meanwhile):.4f} s")  # noqa: T201
    assert typical(meanwhile) < typical(usual) + FLAT_SECONDS
    assert len(meanwhile) / (back - away) > len(usual) / (away - before) / 4  # rows went on to come
    finish(data, environment)
    nothing_is_lost_or_doubled(data, stored, tmp_path / "replay")


def test_a_store_that_is_slow_or_refuses_holds_nothing_up_and_a_stop_does_not_wait_for_it(
    proxy: StoreProxy, market: Simulator, stored: StoredTables, tmp_path: Path
) -> None:
    data, lags = tmp_path / "data", tmp_path / "lags"
    environment = watching(market, **OFTEN, **stored.settings(through=proxy.url))
    spans: dict[str, tuple[float, float]] = {}

    def lasts(what: str, run: Program) -> None:
        began = time.time()
        pause(OUTAGE_SECONDS / 2)
        assert run.is_running(), run.words()
        spans[what] = began, time.time()

    with program(patched(noting_lags(lags), live(data)), environment, tmp_path / "log") as run:
        pages = Pages(run)
        wait_until(lambda: committed(pages) > 0, what="a commit", program=run)
        lasts("usual", run)
        for status in (403, 503):
            proxy.refuses_with = status
            lasts(str(status), run)
        failures = pages.metrics()["commit_failures_total"]
        proxy.refuses_with = None
        proxy.delay_seconds = 1.0
        lasts("slow", run)
        began = time.monotonic()
        assert run.stop() == 0, run.words()
        stopped_in = time.monotonic() - began
        proxy.delay_seconds = 0.0

    assert failures > 0
    assert stopped_in < STOP_SECONDS
    ninety = {what: typical(lags_between(lags, *span)) for what, span in spans.items()}
    print(f"frame to sink, 90 %, in s: {ninety}; stopped in {stopped_in:.1f} s")  # noqa: T201
    assert max(ninety.values()) < ninety["usual"] + FLAT_SECONDS

    left = waiting_in(data)
    with program(live(data), environment, tmp_path / "log") as run:
        drained(left, run)
        proxy.is_silent = True
        pause(QUIET_SECONDS)
        assert run.stop() == 0, run.words()
        assert waiting_in(data)
        proxy.is_silent = False
    finish(data, environment)
    nothing_is_lost_or_doubled(data, stored, tmp_path / "replay")


def test_a_full_spool_has_the_flow_wait_and_says_so_while_frames_are_journaled_and_nothing_is_lost(
    proxy: StoreProxy, market: Simulator, stored: StoredTables, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "journal").mkdir(parents=True)
    busy = write_busy_journal(journal_of(data), **RUSH)
    DeltaTables(stored.uri, stored.options).open()
    environment = watching(
        market,
        **{**OFTEN, "EPOCH_SECONDS": SHORT_EPOCH_SECONDS},
        **stored.settings(through=proxy.url),
        SINK__SPOOL_LIMIT_BYTES=LOWEST_SPOOL_LIMIT,
        JOURNAL__RETENTION_SECONDS=10**9,  # the busy market was years ago
    )
    proxy.refuses_with, proxy.refuses_writes_only = 403, True
    with program(live(data), environment, tmp_path / "log") as run:
        pages = Pages(run)
        wait_until(lambda: pages.metrics().get("spool_blocked") == 1, what="a full spool", program=run)
        reached = last_emitted(data)
        print(f"the spool was full at frame {reached:,} of {busy:,}")  # noqa: T201
        pause(OUTAGE_SECONDS / 2)
        full, readiness, health = pages.metrics(), pages.status("readyz"), pages.status("healthz")
        still_reached, journaled = last_emitted(data), last_journaled(data)
        proxy.refuses_with, proxy.refuses_writes_only = None, False
        wait_until(lambda: last_emitted(data) > busy, what="the end of the rush", seconds=RECOVERY_SECONDS, program=run)
        wait_until(lambda: pages.metrics()["spool_blocked"] == 0, what="room in the spool", program=run)
        assert run.stop() == 0, run.words()

    assert (full["spool_blocked"], readiness, health) == (1, 503, 200)
    assert full["spool_bytes"] <= LOWEST_SPOOL_LIMIT
    assert still_reached == reached < busy  # the flow waits …
    assert journaled > busy + OUTAGE_SECONDS  # … and what comes meanwhile is journaled
    finish(data, environment)
    nothing_is_lost_or_doubled(data, stored, tmp_path / "replay")
