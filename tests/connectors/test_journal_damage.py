"""Whatever happens to a journal's files: what is read is what was written, as far as it goes; else it is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from connectors.sources.journal import FrameRow, Journal, JournalError

pytestmark = pytest.mark.slow

GROUPS, GROUP = 60, 8


def frames() -> list[FrameRow]:
    return [(f"venue/{number % 3}", b"payload %d " % number * (1 + number % 90), number) for number in range(GROUPS * GROUP)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a journal as a killed process leaves it: trimmed, partly in its file, partly in its log."""
    folder, copy = tmp_path_factory.mktemp("journal"), tmp_path_factory.mktemp("killed")
    journal, rows = Journal(folder / "0.db"), frames()
    for group in range(GROUPS):
        journal.append(rows[group * GROUP : (group + 1) * GROUP])
        if group in {15, 30, 45}:
            journal.checkpoint()
        if group == 40:
            journal.trim(100)
    for file in ("0.db", "0.db-wal"):
        shutil.copy(folder / file, copy)
    journal.close()
    return copy


def read_back(folder: Path) -> list[tuple[int, FrameRow]]:
    journal = Journal(folder / "0.db")
    try:
        found = list(journal.read(journal.first_sequence))
        if [sequence for sequence, _row in found] != list(range(journal.first_sequence, journal.next_sequence)):
            raise journal.damaged("frames are missing")  # as the source and a replay find it
        return found
    finally:
        journal.close()


def test_an_undamaged_journal_is_read_whole(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed, tmp_path / "journal")

    found = read_back(tmp_path / "journal")

    assert (found[0][0], found[-1][0]) == (100, GROUPS * GROUP)
    assert [row for _sequence, row in found] == frames()[99:]


@settings(max_examples=examples(100))
@given(
    file=st.sampled_from(["0.db", "0.db-wal"]),
    kept=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999_999), st.integers(0, 7)), max_size=4),
)
def test_a_torn_or_overwritten_journal_gives_the_first_of_its_frames_or_says_that_it_is_damaged(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, file: str, kept: float, flips: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "journal"
    shutil.copytree(killed, folder)
    content = bytearray((folder / file).read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    (folder / file).write_bytes(content[: int(kept * len(content))] if not flips else content)
    try:
        found = read_back(folder)
    except JournalError as error:
        assert str(folder / "0.db") in str(error)  # noqa: PT017 - either is right, and both are looked at
        return
    finally:
        shutil.rmtree(folder.parent)
    assert all(row == frames()[sequence - 1] for sequence, row in found)
