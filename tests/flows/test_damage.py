"""Damaged or missing files: the start says what it found and did, or what to do. It loses and doubles nothing silently."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    VENUES,
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
    rows_of,
    simulator,
    tables_of,
    wait_until,
    watching,
)
from patched_runs import COMMITS_HANG, patched

pytestmark = pytest.mark.slow

GARBAGE = b"\xa5" * 4096
A_MILLISECOND = timedelta(milliseconds=1)  # to which Delta's statistics cut the newest time of a file
SETTINGS = {"CHAIN__URL": None, "EPOCH_SECONDS": 0.5}
ANEW = "begin-anew`: it goes on with the same tables"


@dataclass(frozen=True)
class Left:
    """What a process has left behind. Each test damages a copy.

    Attributes:
        killed: Killed; its journal has every frame, and a log that was not brought into its file.
        trimmed: Stopped; its journal has been trimmed.
        spooling: Killed while the store took nothing: all its rows are in the spool.
    """

    killed: Path
    trimmed: Path
    spooling: Path


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    with simulator("long-cascade", "--speed", "4") as running:
        yield running


@pytest.fixture(scope="module")
def left(market: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("left")
    killed, trimmed, spooling = (folder / name for name in ("killed", "trimmed", "spooling"))
    with program(live(killed), watching(market, **{**SETTINGS, "EPOCH_SECONDS": 3}), folder / "killed.log") as run:
        wait_until(lambda: count_of(killed, "scores") > 0, what="rows", program=run)
        wait_until(lambda: last_journaled(killed) > last_emitted(killed) + 20, what="frames of an epoch", program=run)
        run.kill()
    with program(live(trimmed), watching(market, **SETTINGS, JOURNAL__RETENTION_SECONDS=1), folder / "trimmed.log") as run:
        wait_until(
            lambda: count_of(trimmed, "scores") > 0 and first_journaled(trimmed) > 1,
            what="less",
            program=run,
        )
        assert run.stop() == 0, run.words()
    with program(patched(COMMITS_HANG, live(spooling)), watching(market, **SETTINGS), folder / "spooling.log") as run:
        wait_until(
            lambda: len(spooled(spooling, "derivatives")) > 2 and last_emitted(spooling) > 0,
            what="files",
            program=run,
        )
        run.kill()
    return Left(killed, trimmed, spooling)


class Start:
    """Starts of a run on a damaged directory."""

    def __init__(self, market: Simulator, data: Path, **settings: object) -> None:
        self.data = data
        self.log = data.with_suffix(".log")
        self.environment = watching(market, **SETTINGS, **settings)

    def is_refused_with(self, *words: str) -> None:
        before = tables_of(self.data)
        with program(live(self.data), self.environment, self.log) as run:
            assert run.wait(START_SECONDS) == 1, run.words()
            last = run.words().strip().splitlines()[-1]
            assert last.startswith("cascadewatch: "), run.words()
            assert [each for each in words if each not in last] == [], run.words()
            assert "Traceback" not in run.log.read_text()
        assert differences(before, tables_of(self.data)) == {}
        self.log.unlink()

    def goes_on(self, *, says: str = "", gaps: int = 0) -> None:
        """It runs until it has more rows, and so many gaps have ended; it stops in order, and nothing is there twice."""
        rows = count_of(self.data, "scores")
        with program(live(self.data), self.environment, self.log) as run:
            wait_until(lambda: count_of(self.data, "scores") > rows, what="rows", program=run)
            wait_until(lambda: count_of(self.data, "gaps") >= gaps, what="connections", program=run)
            assert run.stop() == 0, run.words()
        assert says in self.log.read_text()
        assert repeated(self.data) == {}

    def begins_anew(self) -> None:
        command = ["-m", "cascadewatch", "begin-anew", "--data", str(self.data)]
        with program(command, self.environment, self.log) as run:
            assert run.wait(START_SECONDS) == 0, run.words()

    def has_the_tables_of_a_replay(self) -> None:
        replayed = self.data.with_name(f"{self.data.name}-replay")
        replay(journal_of(self.data), replayed, "--last", last_emitted(self.data))
        assert differences(tables_of(self.data), tables_of(replayed)) == {}


StartOf = Callable[..., Start]


@pytest.fixture
def start(market: Simulator, tmp_path: Path) -> StartOf:
    return lambda left, **settings: Start(market, shutil.copytree(left, tmp_path / "data"), **settings)


def test_a_torn_last_record_of_the_journal_is_left_out_and_the_time_without_it_is_a_gap(left: Left, start: StartOf) -> None:
    damaged = start(left.killed)
    lost, log = last_journaled(damaged.data), Path(f"{journal_of(damaged.data)}-wal")
    while (kept := last_journaled(damaged.data)) == lost:
        torn(log, 100)

    damaged.goes_on(says=f'"last_frame": {kept}, ', gaps=len(VENUES))

    assert kept < lost
    damaged.has_the_tables_of_a_replay()
    assert sorted((row["reason"], row["feed"]) for row in rows_of(damaged.data, "gaps")) == [
        ("process was not running", f"{venue}/liquidations") for venue in sorted(VENUES)
    ]


def test_a_journal_without_its_log_is_refused_where_it_would_number_frames_twice(left: Left, start: StartOf) -> None:
    damaged = start(left.killed)
    journal = journal_of(damaged.data)
    with closing(sqlite3.connect(journal)) as opened:  # as if what came after had never been
        opened.execute("DELETE FROM frames WHERE sequence > 50")
        opened.commit()

    damaged.is_refused_with(f"the journal {journal} ends at frame 50", "it would give numbers out twice", ANEW)


def test_a_truncated_journal_is_refused(left: Left, start: StartOf) -> None:
    damaged = start(left.trimmed)
    journal = journal_of(damaged.data)
    torn(journal, journal.stat().st_size // 2)

    damaged.is_refused_with(f"the journal {journal}", "estore", ANEW)


def test_a_frame_that_was_flipped_is_refused_by_its_number(left: Left, start: StartOf) -> None:
    damaged = start(left.killed)
    journal, last = journal_of(damaged.data), last_journaled(damaged.data)
    with closing(sqlite3.connect(journal)) as opened:
        opened.execute("UPDATE frames SET receive_time_us = receive_time_us + 1 WHERE sequence = ?", (last,))
        opened.commit()

    damaged.is_refused_with(f"the journal {journal} is damaged: frame {last} is not as it was written", ANEW)


@pytest.mark.parametrize("is_emptied", [False, True], ids=["missing", "empty"])
def test_a_recovery_store_that_is_lost_is_made_anew_from_a_whole_journal(left: Left, start: StartOf, is_emptied: bool) -> None:
    damaged = start(left.killed)
    shutil.rmtree(damaged.data / "recovery")
    if is_emptied:
        (damaged.data / "recovery").mkdir()
        store_of(damaged.data).touch()

    damaged.goes_on(says='"event": "no_saved_state"')

    damaged.has_the_tables_of_a_replay()
    assert ('"event": "recovery_store_empty"' in damaged.log.read_text()) is is_emptied


@pytest.mark.parametrize("how", ["truncated", "overwritten", "not even a database"])
def test_a_recovery_store_that_is_damaged_is_refused_with_what_to_do(left: Left, start: StartOf, how: str) -> None:
    damaged = start(left.trimmed)
    store = store_of(damaged.data)
    content = store.read_bytes()
    overwritten = content[:4096] + GARBAGE + content[8192:]
    store.write_bytes({"truncated": content[: len(content) // 3], "overwritten": overwritten}.get(how, GARBAGE))

    damaged.is_refused_with(f"the recovery store {store} is damaged", "Restore it", ANEW)


def test_a_lost_recovery_store_with_a_trimmed_journal_is_refused_and_begin_anew_goes_on_with_a_gap(
    left: Left, start: StartOf
) -> None:
    damaged = start(left.trimmed)
    shutil.rmtree(damaged.data / "recovery")
    damaged.is_refused_with("there is no saved state, but the tables hold rows up to frame", "Restore the recovery", ANEW)
    before = tables_of(damaged.data)

    damaged.begins_anew()
    assert (damaged.data / "given-up-1" / "0.db").is_file()
    damaged.goes_on(says='"event": "no_saved_state"', gaps=len(VENUES))

    after = tables_of(damaged.data)
    assert all(set(rows) <= set(after[name]) for name, rows in before.items())
    gaps = [row for row in rows_of(damaged.data, "gaps") if row["reason"] == "the data directory was given up"]
    assert len(gaps) == len(VENUES)
    newest = max(row["receive_time"] for row in rows_of(damaged.data, "derivatives") if repr(row) in before["derivatives"])
    assert all(row["from_time"] >= newest - A_MILLISECOND for row in gaps)
    assert not rows_of(damaged.data, "dead_letters")


def test_a_table_that_is_older_than_the_state_is_refused_by_name(left: Left, start: StartOf) -> None:
    damaged = start(left.trimmed)
    table = damaged.data / "tables" / "derivatives"
    shutil.rmtree(table)  # the oldest version of all

    damaged.is_refused_with(
        f"the table {table} ends at frame 0 of feed partition 0", "an older table was put back", "begin-anew"
    )


@pytest.mark.parametrize("kept", [0, 200])
def test_a_torn_spool_file_is_refused_by_name_and_begin_anew_goes_on_without_it(left: Left, start: StartOf, kept: int) -> None:
    damaged = start(left.spooling)
    file = spooled(damaged.data, "derivatives")[0]
    file.write_bytes(file.read_bytes()[:kept])
    damaged.is_refused_with(f"{file} is damaged", "its rows are in no table yet", "Restore it; or move it away")

    if kept:
        file.rename(damaged.data / file.name)
        damaged.is_refused_with("an older table was put back, or files of the spool taken away", ANEW.partition("`")[0])
        damaged.begins_anew()
        damaged.goes_on()


def spooled(data: Path, table: str) -> list[Path]:
    return sorted((data / "spool" / table).glob("*.arrow"))


def store_of(data: Path) -> Path:
    return data / "recovery" / "part-0.sqlite3"


def torn(path: Path, lost_bytes: int) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - lost_bytes)


def first_journaled(data: Path) -> int:
    with closing(sqlite3.connect(f"file:{journal_of(data)}?mode=ro", uri=True)) as opened:
        return int(opened.execute("SELECT min(sequence) FROM frames").fetchone()[0] or 0)
