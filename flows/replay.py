"""Recorded frames and recorded rows as sources: the same flow over them is a replay or a backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.sources.frame import Frame
from connectors.sources.journal import Journal
from market.raw import Cause

_BATCH_FRAMES = 1_000

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
        batch = [] if self._source.is_stopped else list(islice(self._frames, _BATCH_FRAMES))
        if not batch:
            raise StopIteration
        self._next = batch[-1].cause.sequence + 1
        self._source.emitted += len(batch)
        return batch

    def snapshot(self) -> int:
        """Return the next sequence number to emit."""
        return self._next


def journal_source(path: Path, *, last: int | None = None) -> ReplaySource:
    """Replay a journal file, up to frame ``last`` where given. Its name without the ending is the partition.

    Raises:
        JournalError: It cannot be opened.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal {path}")
    partition = path.stem
    journal = Journal(path)

    def frames_from(first: int) -> Iterator[Frame]:
        for sequence, (feed, payload, receive_time_us) in journal.read(first, last):
            yield Frame(feed, payload, Cause(partition, sequence, receive_time_us))

    return ReplaySource(partition, frames_from, first_sequence=journal.first_sequence)
