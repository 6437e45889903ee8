"""The one Bytewax source: a partition that emits journaled frames, live or again after a restart, in sequence order.

Transports live in an asyncio loop in a thread of their own; they hand frames to the inbox, which journals and queues them.
``next_batch`` waits a few milliseconds at most in that queue, so that a frame is in the flow about 0.2 ms after it was on the
socket and epochs still end on time.

What Bytewax 0.21.1 guarantees and this relies on: the first ``next_batch`` after a ``snapshot`` means that the epoch of that
snapshot is durable; ``StopIteration`` closes the epoch, makes it durable and ends the run, and the next run carries on from
there (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors import clock
from connectors.sources.frame import CLOCK_FEED, Frame, portion
from connectors.sources.inbox import FrameGroup, Inbox, SourceObserver
from connectors.sources.journal import GIVE_UP, FrameRow, Journal, JournalError
from market.raw import Cause

# A constant past time means "call again at once"; a time computed from now is compared with a stale clock and sleeps again.
_AT_ONCE = datetime(2020, 1, 1, tzinfo=timezone.utc)
_WAIT_SECONDS = 0.005  # how long next_batch may block: epochs and other steps wait as long
_BATCH_FRAMES = 2_000  # per batch at most, so that an epoch is never late by more than some 20 ms
_TICK_US = 50_000
_CHECKPOINT_SECONDS = 1.0
_JOIN_SECONDS = 5.0  # closing sockets takes two seconds at most

_log = structlog.get_logger(__name__)

Collect = Callable[[Inbox], Awaitable[None]]
"""Runs every transport until cancelled, handing what they receive to the inbox."""


@dataclass(frozen=True)
class Retention:
    """How much of the journal is kept after it is no longer needed to resume.

    Attributes:
        seconds: The last so many can always be replayed …
        limit_bytes: … unless they take more room than this.
    """

    seconds: float = 3600.0
    limit_bytes: int = 4 * 1024**3


class StopSignal:
    """Asks the source to stop cleanly: emit no more, let the epoch become durable, end."""

    def __init__(self) -> None:
        """Not asked yet."""
        self._asked = threading.Event()
        self._asked_at_seconds = 0.0

    def ask(self) -> None:
        """Ask; any thread, any number of times."""
        if not self._asked.is_set():
            self._asked_at_seconds = clock.monotonic_seconds()
            self._asked.set()

    def is_asked(self) -> bool:
        """Say whether somebody asked."""
        return self._asked.is_set()

    def age_seconds(self) -> float:
        """Return how long ago somebody first asked; 0 when nobody has."""
        return clock.monotonic_seconds() - self._asked_at_seconds if self._asked.is_set() else 0.0


class FrameSource(FixedPartitionedSource[Frame, int]):
    """Frames of this process's feeds, as one partition that multiplexes every connection."""

    def __init__(
        self,
        *,
        partition: str,
        journal_path: Path,
        collect: Collect,
        committed: Callable[[], int],
        stop: StopSignal,
        retention: Retention,
        observer: SourceObserver | None = None,
    ) -> None:
        """Describe the source; nothing is opened before Bytewax builds the partition.

        Args:
            partition: Name of the feed partition: the key of its state and part of its transaction ids.
            journal_path: SQLite file; made when missing.
            collect: Runs the transports.
            committed: Returns the highest sequence number that any table holds of this partition, 0 when none.
            stop: Ends the source cleanly.
            retention: How much of the journal to keep.
            observer: Told of frames received.
        """
        self._partition = partition
        self._journal_path = journal_path
        self._collect = collect
        self._committed = committed
        self._stop = stop
        self._retention = retention
        self._observer = observer

    def list_parts(self) -> list[str]:
        """Return the one partition."""
        return [self._partition]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> FramePartition:  # noqa: ARG002 - Bytewax's
        """Open the journal, check that it can carry on where the state and the tables are, and start the transports.

        Raises:
            JournalError: The journal lacks frames that are needed, or would use sequence numbers twice.
        """
        journal = Journal(self._journal_path)
        next_sequence = _beginning(journal, resume_state, self._committed())
        inbox = Inbox(journal, self._observer)
        worker = _Transports(lambda: self._collect(inbox), inbox, journal, self._retention)
        return FramePartition(for_part, _Room(journal, inbox, worker, self._stop, self._observer), next_sequence)


@dataclass(frozen=True)
class _Room:
    """What a partition stands in."""

    journal: Journal
    inbox: Inbox
    worker: _Transports
    stop: StopSignal
    observer: SourceObserver | None


class FramePartition(StatefulSourcePartition[Frame, int]):
    """Emit frames from the journal until it is caught up with, then from the queue, then from either as need be."""

    def __init__(self, name: str, room: _Room, next_sequence: int) -> None:
        """Start the transports: frames that they bring wait in the queue while older ones come from the journal."""
        self._name = name
        self._journal = room.journal
        self._inbox = room.inbox
        self._worker = room.worker
        self._stop = room.stop
        self._observer = room.observer
        self._next = next_sequence
        self._snapshot_to: int | None = None
        self._held: FrameGroup | None = None
        self._worker.start()

    def next_batch(self) -> list[Frame]:
        """Return the next frames in order, without a hole; an empty list after a few quiet milliseconds.

        Raises:
            StopIteration: The stop was asked for.
            JournalError: The journal could not be written.
        """
        if self._observer is not None:
            self._observer.batch_handed_on()
        if self._snapshot_to is not None:
            self._worker.durable_below(self._snapshot_to)
            self._snapshot_to = None
        if self._worker.failure is not None:
            raise self._worker.failure
        if self._stop.is_asked():
            raise StopIteration
        return self._frames()

    def next_awake(self) -> datetime:
        """Ask to be called again at once."""
        return _AT_ONCE

    def snapshot(self) -> int:
        """Return the next sequence number to emit, after what is below it has reached the disk."""
        self._journal.sync()
        self._snapshot_to = self._next
        if self._observer is not None:
            self._observer.journal_size(self._journal.bytes_on_disk(), self._journal.frame_count)
        return self._next

    def close(self) -> None:
        """End the transports. Bytewax calls this after a panic too, so nothing is flushed here."""
        self._worker.stop()
        self._journal.close()

    def _frames(self) -> list[Frame]:
        frames: list[Frame] = []
        is_behind = self._next < self._journal.next_sequence
        group = self._held or self._inbox.take(0.0 if is_behind else _WAIT_SECONDS)
        self._held = None
        while group is not None:
            if group.first > self._next:
                self._held = group  # the journal has what comes before it
                break
            self._emit(frames, group.first, group.rows)
            group = self._inbox.take(0.0) if len(frames) < _BATCH_FRAMES else None
        if not frames and self._next < self._journal.next_sequence:
            # Behind the queue: after a restart, or because the queue was full.
            last = self._held.first - 1 if self._held is not None else self._journal.next_sequence - 1
            frames = portion(self._journaled(last), _BATCH_FRAMES)
            self._next += len(frames)
        self._inbox.taken_sequence = self._next - 1
        return frames

    def _journaled(self, last: int) -> Iterator[Frame]:
        expected = self._next
        for sequence, (feed, payload, receive_time_us) in self._journal.read(expected, last):
            if sequence != expected:
                break
            yield Frame(feed, payload, Cause(self._name, sequence, receive_time_us))
            expected += 1
        if expected <= last:
            raise self._journal.damaged(f"frame {expected} is missing")

    def _emit(self, frames: list[Frame], first: int, rows: list[FrameRow]) -> None:
        """Append the frames numbered ``first`` on; those already emitted from the journal are passed over."""
        name = self._name
        unseen = rows[max(self._next - first, 0) :]
        for sequence, (feed, payload, receive_time_us) in enumerate(unseen, start=max(first, self._next)):
            frames.append(Frame(feed, payload, Cause(name, sequence, receive_time_us)))
        self._next += len(unseen)


class _Transports:
    """The event loop in its thread: runs the transports and the clock, trims the journal, stops in order."""

    def __init__(self, collect: Callable[[], Awaitable[None]], inbox: Inbox, journal: Journal, retention: Retention) -> None:
        self._collect = collect
        self._inbox = inbox
        self._journal = journal
        self._retention = retention
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="transports", daemon=True)
        self._crash: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """Why no more frames can come, if so."""
        return self._inbox.failure or self._crash

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel the transports and wait until their sockets are closed; safe to call after a failure."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join(_JOIN_SECONDS)

    def durable_below(self, sequence: int) -> None:
        """Take note that nothing below ``sequence`` is needed to resume: trim what retention allows."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._trim, sequence)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._receive())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the flow's thread, which raises it
            self._crash = error
            self._inbox.observe_failure(f"{type(error).__name__}: {error}")
        finally:
            self._loop.close()

    async def _receive(self) -> None:
        tasks = {asyncio.ensure_future(each) for each in (self._collect(), self._tick(), self._checkpoint())}
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._inbox.flush()

    async def _tick(self) -> None:
        """Hand over a tick at each twentieth of a second; one slept through is not made up for."""
        ticked = clock.now_us() // _TICK_US
        while True:
            await asyncio.sleep((_TICK_US - clock.now_us() % _TICK_US) / 1_000_000)
            due = clock.now_us() // _TICK_US
            if due > ticked:  # a sleep may end a hair early
                ticked = due
                self._inbox.put(CLOCK_FEED, b"")

    async def _checkpoint(self) -> None:
        """Once a second, and in another thread: a slow disk must not hold up the sockets or the clock."""
        while True:
            await asyncio.sleep(_CHECKPOINT_SECONDS)
            await asyncio.to_thread(self._journal.checkpoint)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _trim(self, durable_below: int) -> None:
        keep_from = durable_below
        try:
            if self._journal.bytes_in_use() <= self._retention.limit_bytes:
                oldest_kept_us = clock.now_us() - int(self._retention.seconds * 1_000_000)
                keep_from = min(keep_from, self._journal.first_received_at_or_after(oldest_kept_us))
            if self._journal.trim(keep_from):
                self._loop.call_soon(self._trim, durable_below)
        except JournalError as error:  # a journal that cannot be trimmed would fill the disk
            self._inbox.fail(error)


def _beginning(journal: Journal, resume_state: int | None, committed: int) -> int:
    """Return the number of the first frame to emit, and say what was found.

    Raises:
        JournalError: Frames would be lost or numbered twice, or emitted without the state that came of those before them.
    """
    next_sequence = resume_state if resume_state is not None else journal.first_sequence
    if journal.next_sequence <= committed or journal.next_sequence < next_sequence:
        raise JournalError(
            f"the journal {journal.path} ends at frame {journal.next_sequence - 1}, but the tables or the saved state "
            f"already hold frame {max(committed, next_sequence - 1)}: it would give numbers out twice. Restore the journal "
            f"that belongs to these tables, or {GIVE_UP}"
        )
    if next_sequence < journal.first_sequence:
        raise JournalError(
            f"the saved state resumes at frame {next_sequence}, but the journal {journal.path} begins at "
            f"{journal.first_sequence}. Restore the journal that belongs to this state, or {GIVE_UP}"
        )
    if resume_state is None and committed and not journal.is_whole:
        raise JournalError(
            f"there is no saved state, but the tables hold rows up to frame {committed}, and the journal {journal.path} has "
            f"been trimmed up to frame {journal.first_sequence - 1}: from the rest alone the state would be another. Restore "
            f"the recovery directory, or {GIVE_UP}"
        )
    found = {"first_frame": journal.first_sequence, "last_frame": journal.next_sequence - 1, "tables_reach_frame": committed}
    if resume_state is None and committed:
        _log.warning("no_saved_state", **found, does="rebuilds it from all frames; rows that the tables have are not repeated")
    else:
        _log.info("journal_opened", **found, next_frame=next_sequence)
    return next_sequence
