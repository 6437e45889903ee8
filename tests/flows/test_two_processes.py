"""Two processes by mistake: one data directory has one, and of two that write one feed partition the stale one is fenced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from deltalake.exceptions import TableNotFoundError
from flow_runs import (
    START_SECONDS,
    Simulator,
    count_of,
    differences,
    journal_of,
    last_emitted,
    last_journaled,
    live,
    program,
    repeated,
    replay,
    replaying,
    simulator,
    tables_of,
    wait_until,
    watching,
    write_busy_journal,
)
from patched_runs import commits_wait_for, patched
from s3_server import s3_server
from stored_runs import Pages, StoredTables

pytestmark = pytest.mark.slow

TABLES = ("liquidations", "scores", "derivatives")  # those that a busy market fills at once


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    with simulator("long-cascade", "--speed", "4") as running:
        yield running


@pytest.fixture(params=["a folder", "an object store"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoredTables]:
    if request.param == "a folder":
        yield StoredTables(str(tmp_path / "tables"), {})
    else:
        with s3_server(tmp_path / "s3") as server:
            yield StoredTables(server.uri("tables"), server.storage_options())


def test_a_data_directory_that_is_in_use_is_refused_to_whoever_comes_second(market: Simulator, tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere" / "0.db"
    elsewhere.parent.mkdir()
    write_busy_journal(elsewhere, seconds=2, per_second=2)
    environment = watching(market, CHAIN__URL=None)
    with program(live(data), environment, tmp_path / "first.log") as first:
        wait_until(lambda: last_emitted(data) > 0, what="a frame", program=first)
        seconds = (live(data), replaying(elsewhere, data), ["-m", "cascadewatch", "drain", "--data", str(data)])
        for arguments in seconds:
            with program(arguments, environment, tmp_path / "second.log") as second:
                assert second.wait(START_SECONDS) == 1, second.words()
                refusal = f"cascadewatch: another process uses the data directory {data}; stop it, or choose another"
                assert refusal in second.words()
        reached = last_journaled(data)
        wait_until(lambda: last_journaled(data) > reached, what="progress", program=first)
        assert first.stop() == 0, first.words()


def test_a_stale_writer_is_fenced_and_has_added_nothing(market: Simulator, stored: StoredTables, tmp_path: Path) -> None:
    data, stale, gate = tmp_path / "data", tmp_path / "stale", tmp_path / "gate"
    environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=0.5, **stored.settings())
    with program(live(data), environment, tmp_path / "before.log") as run:
        wait_until(lambda: has_rows(stored), what="rows", program=run)
        assert run.stop() == 0, run.words()
    shutil.copytree(data, stale)  # as a snapshot of a volume that somebody restores beside the original

    with program(patched(commits_wait_for(gate), live(stale)), environment, tmp_path / "stale.log") as second:
        wait_until(lambda: any((stale / "spool").rglob("*.arrow")), what="a row of its own", program=second)
        with program(live(data), environment, tmp_path / "first.log") as first:
            pages = Pages(first)
            wait_until(
                lambda: pages.metrics().get("rows_committed_total", 0) > 0,
                what="a commit",
                seconds=120,
                program=first,
            )
            versions = {name: stored.table(name).version() for name in TABLES}
            wait_until(
                lambda: all(stored.table(name).version() > versions[name] for name in TABLES),
                what="commits to all tables",
                seconds=120,
                program=first,
            )
            gate.touch()
            assert second.wait(START_SECONDS) == 1, second.words()
            last = second.words().strip().splitlines()[-1]
            assert last.startswith("cascadewatch: "), second.words()
            assert "another process writes the same feed partition. Stop one of them" in last
            assert first.stop() == 0, first.words()

    drained(data, environment, tmp_path / "drain.log")
    replay(journal_of(data), tmp_path / "replay")
    stored.bring(data)
    assert differences(tables_of(data), tables_of(tmp_path / "replay")) == {}
    assert repeated(data) == {}


def test_a_journal_that_is_behind_the_tables_is_refused(market: Simulator, tmp_path: Path) -> None:
    data, fresh = tmp_path / "data", tmp_path / "fresh"
    environment = watching(market, CHAIN__URL=None, SINK__TABLES_URI=data / "tables")
    with program(live(data), environment, tmp_path / "first.log") as first:
        wait_until(lambda: count_of(data, "scores") > 0, what="a row", program=first)
        with program(live(fresh), environment, tmp_path / "second.log") as second:
            assert second.wait(START_SECONDS) == 1, second.words()
            last = second.words().strip().splitlines()[-1]
            assert (
                f"the journal {journal_of(fresh)} ends at frame 0, but the tables or the saved state already hold frame"
                in last
            )
            assert "it would give numbers out twice" in last
        assert first.stop() == 0, first.words()


def has_rows(stored: StoredTables) -> bool:
    try:
        return all(stored.table(name).count() > 0 for name in TABLES)
    except TableNotFoundError:
        return False  # not made yet


def drained(data: Path, environment: Mapping[str, str], log: Path) -> None:
    """Have all that was journaled committed."""
    with program(["-m", "cascadewatch", "drain", "--data", str(data)], environment, log) as draining:
        assert draining.wait(START_SECONDS) == 0, draining.words()
