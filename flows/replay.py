"""Recorded frames and recorded rows as sources: the same flow over them is a replay or a backtest."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.sources.frame import CLOCK_FEED, Frame, portion
from connectors.sources.journal import Journal, JournalError
from flows.recorded_rows import Row, recorded_rows
from market.raw import Cause

TABLE_PARTITION = "replay"
"""Feed partition of what is replayed from tables: never a live run's, so that nobody takes the one for the other."""

TICKS_AFTER_SECONDS = 3_700
"""The clock ticks on for so long after a row: the longest window, 3,600 s, and slack for it to empty."""

_BATCH_FRAMES = 1_000
_SECOND_US = 1_000_000

FramesFrom = Callable[[int], Iterator[Frame]]
"""Returns the frames numbered so or higher, in order, without a hole."""


class ReplaySource(FixedPartitionedSource[Frame, int]):
    """Emit recorded frames as fast as the flow takes them, then end."""

    def __init__(self, partition: str, frames_from: FramesFrom, *, first_sequence: int = 1) -> None:
        """Describe the source.

        Args:
            partition: Name of the feed partition that the rows will carry.
            frames_from: Opens the recording at a sequence number; called when Bytewax builds the partition.
            first_sequence: Where to begin when there is no saved state.
        """
        self._partition = partition
        self._frames_from = frames_from
        self._first_sequence = first_sequence
        self.emitted = 0
        self.is_stopped = False

    def stop(self) -> None:
        """End after the batch under way; a later run with the same data directory carries on. Any thread."""
        self.is_stopped = True

    def list_parts(self) -> list[str]:
        """Return the one partition."""
        return [self._partition]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _ReplayPartition:  # noqa: ARG002 - Bytewax's
        """Open the recording at the frame to begin with."""
        first = resume_state if resume_state is not None else self._first_sequence
        return _ReplayPartition(self, self._frames_from(first), first)


class _ReplayPartition(StatefulSourcePartition[Frame, int]):
    def __init__(self, source: ReplaySource, frames: Iterator[Frame], first: int) -> None:
        self._source = source
        self._frames = frames
        self._next = first

    def next_batch(self) -> list[Frame]:
        """Return the next frames.

        Raises:
            StopIteration: There are no more.
        """
        batch = [] if self._source.is_stopped else portion(self._frames, _BATCH_FRAMES)
        if not batch:
            raise StopIteration
        self._next = batch[-1].cause.sequence + 1
        self._source.emitted += len(batch)
        return batch

    def snapshot(self) -> int:
        """Return the next sequence number to emit."""
        return self._next


def journal_source(
    path: Path, *, last: int | None = None, partition: str | None = None, first: int | None = None
) -> ReplaySource:
    """Replay a journal file, up to frame ``last`` where given. Its name without the ending is the partition, or ``partition``.

    It begins with the oldest frame that is there, or with frame ``first``.

    What is there now is replayed; frames that a run appends meanwhile are not. Replaying is safe while a run is using the
    journal: no frame is changed, the run waits for milliseconds at most, and should it trim frames before they were replayed
    (they are older than its retention), the replay ends with an error instead of leaving them out. SQLite needs the journal's
    folder to be writable: it keeps the files ``-wal`` and ``-shm`` beside it.

    Raises:
        JournalError: It cannot be opened, or is none. Raised also when a frame is no longer there that is to be emitted.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal {path}")
    _check_is_journal(path)
    name = partition or path.stem
    journal = Journal(path)

    def frames_from(first: int) -> Iterator[Frame]:
        expected = first
        for sequence, (feed, payload, receive_time_us) in journal.read(first, last):
            if sequence != expected:
                break
            yield Frame(feed, payload, Cause(name, sequence, receive_time_us))
            expected += 1
        wanted = journal.next_sequence if last is None else min(last + 1, journal.next_sequence)
        if expected < wanted:
            raise JournalError(
                f"frame {expected} of the journal {path} has been trimmed: what is to be replayed begins with it"
            )

    return ReplaySource(name, frames_from, first_sequence=first or journal.first_sequence)


def _check_is_journal(path: Path) -> None:
    """Look before anything is opened to be written: a journal's opening makes the tables that it misses."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM frames, trimmed LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise JournalError(f"{path} is no journal: {error}") from error


def table_source(
    uri: str,
    storage_options: Mapping[str, str] | None = None,
    *,
    partition: str = TABLE_PARTITION,
    first: int | None = None,
) -> ReplaySource:
    """Replay the rows of ``liquidations`` and ``derivatives`` in the order they were received, as partition ``replay``.

    Each row is a frame, numbered from 1. Between them the clock ticks at every whole second, but no longer than
    ``TICKS_AFTER_SECONDS`` after a row: a longer silence is jumped over. A tick comes before a row of the same moment.

    Memory is bounded. A replay that resumes generates its frames again and passes over those it has emitted; that gives the
    same frames as long as nothing was added to the tables in between.

    Args:
        uri: Folder or object-store prefix that holds the tables.
        storage_options: For the object store, as delta-rs names them.
        partition: Another name, of a shard.
        first: Frame with which to begin.

    Raises:
        FileNotFoundError: Neither table is there.
        DeltaTablesError: They cannot be reached, or have other columns.
    """
    rows = recorded_rows(uri, storage_options)
    return ReplaySource(
        partition, lambda first: islice(frames_of(rows(), partition), first - 1, None), first_sequence=first or 1
    )


def frames_of(rows: Iterable[Row], partition: str = TABLE_PARTITION) -> Iterator[Frame]:
    """Yield rows, ordered by receive time, and the clock's ticks between and after them, as frames numbered from 1."""
    sequence = 0
    tick_us = end_us = 0  # the next tick, and until when the clock ticks; none before the first row
    for receive_time_us, _partition, _sequence, feed, payload in rows:
        if tick_us <= receive_time_us:
            for due_us in range(tick_us, min(receive_time_us + 1, end_us), _SECOND_US):
                sequence += 1
                yield Frame(CLOCK_FEED, b"", Cause(partition, sequence, due_us))
            tick_us = receive_time_us - receive_time_us % _SECOND_US + _SECOND_US
        sequence += 1
        yield Frame(feed, payload, Cause(partition, sequence, receive_time_us))
        end_us = receive_time_us + TICKS_AFTER_SECONDS * _SECOND_US + 1
    for due_us in range(tick_us, end_us, _SECOND_US):
        sequence += 1
        yield Frame(CLOCK_FEED, b"", Cause(partition, sequence, due_us))
