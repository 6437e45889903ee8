"""A full disk ends a run with one sentence that names the file and what to do; started again with room, nothing is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    Program,
    Simulator,
    count_of,
    differences,
    journal_of,
    last_emitted,
    live,
    pause,
    program,
    repeated,
    replay,
    rows_of,
    simulator,
    tables_of,
    wait_until,
    watching,
    write_busy_journal,
)
from patched_runs import COMMITS_FAIL, patched
from small_volume import small_volume
from stored_runs import Pages

pytestmark = pytest.mark.slow

LOWEST_SPOOL_LIMIT = 1024**2
WORDS = {
    "journal": ("cascadewatch: cannot write the journal", "free disk space"),
    "spool": ("cascadewatch: cannot write", "spool", "free disk space"),
    "recovery": ("cascadewatch: cannot use the recovery store", "free disk space"),
}


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    with simulator("long-cascade", "--speed", "4") as running:
        yield running


def said(run: Program) -> str:
    """Return the last line that a program said: what a person reads first."""
    return run.words().strip().splitlines()[-1]


def nothing_is_lost_or_doubled(data: Path, replayed: Path) -> None:
    replay(journal_of(data), replayed, "--last", last_emitted(data))
    assert differences(tables_of(data), tables_of(replayed)) == {}
    assert repeated(data) == {}


@pytest.mark.parametrize("place", ["journal", "spool", "recovery"])
def test_a_full_disk_ends_the_run_with_a_sentence_and_costs_no_row(market: Simulator, tmp_path: Path, place: str) -> None:
    data = tmp_path / "data"
    environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=0.5)
    with small_volume(data / place) as volume:
        with program(live(data), environment, tmp_path / "first.log") as run:
            wait_until(lambda: count_of(data, "scores") > 0, what="a row", program=run)
            volume.fill()
            assert run.wait(START_SECONDS) == 1, run.words()
            assert all(words in said(run) for words in (*WORDS[place], str(data / place))), run.words()
            assert "Traceback" not in run.log.read_text()
        with program(live(data), environment, tmp_path / "second.log") as run:
            assert run.wait(START_SECONDS) == 1, run.words()
            assert "free disk space" in said(run), run.words()

        volume.make_room()
        reached = last_emitted(data)
        with program(live(data), environment, tmp_path / "third.log") as run:
            wait_until(lambda: last_emitted(data) > reached, what="progress", program=run)
            wait_until(lambda: bool(rows_of(data, "gaps")), what="a gap", program=run)
            assert run.stop() == 0, run.words()
        nothing_is_lost_or_doubled(data, tmp_path / "replay")
        assert {row["reason"] for row in rows_of(data, "gaps")} == {"process was not running"}


def test_a_full_disk_is_noticed_while_the_flow_waits_for_room_in_its_spool(market: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_volume(data / "journal") as volume:
        write_busy_journal(journal_of(data), seconds=200, per_second=60)  # more rows than the spool has room for
        environment = watching(
            market,
            CHAIN__URL=None,
            EPOCH_SECONDS=0.5,
            JOURNAL__RETENTION_SECONDS=10**9,  # the busy market was years ago
            SINK__SPOOL_LIMIT_BYTES=LOWEST_SPOOL_LIMIT,
        )
        with program(patched(COMMITS_FAIL, live(data)), environment, tmp_path / "first.log") as run:
            wait_until(
                lambda: Pages(run).metrics().get("spool_blocked") == 1,
                what="a full spool",
                program=run,
            )
            volume.fill()
            assert run.wait(START_SECONDS) == 1, run.words()
            assert "cannot write the journal" in said(run), run.words()

        volume.make_room()
        reached = last_emitted(data)
        with program(live(data), environment, tmp_path / "second.log") as run:
            wait_until(lambda: last_emitted(data) > reached, what="progress", program=run)
            assert run.stop() == 0, run.words()
        nothing_is_lost_or_doubled(data, tmp_path / "replay")


def test_tables_on_a_full_disk_are_a_store_that_refuses(market: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=0.5)
    with small_volume(data / "tables") as volume:
        with program(live(data), environment, tmp_path / "log") as run:
            wait_until(lambda: count_of(data, "scores") > 0, what="a row", program=run)
            volume.fill()
            wait_until(lambda: failures(run) > 0, what="a refusal", program=run)
            pause(2.0)
            left = list((data / "spool").rglob("*.arrow"))
            volume.make_room()
            assert left
            wait_until(lambda: not any(map(Path.exists, left)), what="a drained spool", program=run)
            assert run.stop() == 0, run.words()
        nothing_is_lost_or_doubled(data, tmp_path / "replay")


def failures(run: Program) -> float:
    return Pages(run).metrics().get("commit_failures_total", 0.0)


def test_a_small_volume_is_full_when_it_was_filled(tmp_path: Path) -> None:
    with small_volume(tmp_path / "small", megabytes=1) as volume:
        volume.fill()
        with pytest.raises(OSError, match="No space left"):
            (volume.folder / "more").write_bytes(b"x")
        volume.make_room()
        (volume.folder / "more").write_bytes(b"x")
