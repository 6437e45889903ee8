"""The inbox: where every transport hands over what it received, and the only way into the journal.

The law: a frame is numbered and journaled before anything sees it. Frames that arrive in one turn of the event loop are one
group: one transaction, one entry in the queue.

The queue to the dataflow is bounded. When it is full, groups stay in the journal only and the reader fetches them from there,
so that a slow consumer costs neither frames nor memory, and venues never meet a socket that nobody reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Annotated, Protocol

import msgspec

from connectors import clock
from connectors.sources.frame import STATUS_FEED
from connectors.sources.journal import FrameRow, Journal, JournalError
from market.raw import FeedState

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Payload bytes in the queue beyond which groups stay in the journal: a burst of 200,000 liquidations is about 50 MB."""


class StatusPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a frame of the feed ``status`` says."""

    feed: str
    connection: str
    state: FeedState
    reason: str
    seen_until_us: Annotated[int, msgspec.Meta(ge=0)] | None = None


class SourceObserver(Protocol):
    """Who wants to know how the source fares. Methods are quick and raise nothing."""

    def frames_received(self, feed: str, count: int, payload_bytes: int) -> None:
        """Count frames of one feed that were journaled."""

    def queue_depth(self, frames: int) -> None:
        """Take the number of frames journaled and not yet handed to the flow."""

    def reception_failed(self, reason: str) -> None:
        """Take note that no more frames can come, until the process is started again. The transports' thread."""

    def batch_handed_on(self) -> None:
        """Take note that the flow moves: it was handed a batch, maybe an empty one. The flow's thread."""

    def journal_size(self, size_bytes: int, frames: int) -> None:
        """Take the journal's size at the end of an epoch. The flow's thread."""


class FrameGroup(msgspec.Struct, frozen=True, gc=False):
    """Frames numbered from ``first`` on, without a hole."""

    first: int
    rows: list[FrameRow]
    payload_bytes: int


class Inbox:
    """Number, journal and queue frames. All methods but :meth:`take` belong to the event loop's thread."""

    def __init__(self, journal: Journal, observer: SourceObserver | None = None) -> None:
        """Start empty; the last receive time is taken over from the journal so that it never falls."""
        self._journal = journal
        self._observer = observer
        self._queue: SimpleQueue[FrameGroup] = SimpleQueue()
        self._bytes_in = 0  # written by the event loop's thread only
        self._bytes_out = 0  # written by the taking thread only
        self._pending: list[FrameRow] = []
        self._receive_time_us = _last_receive_time_us(journal)
        self.taken_sequence = 0
        self.failure: JournalError | None = None

    def put(self, feed: str, payload: bytes) -> None:
        """Take one frame, stamped with the time of now (or the last frame's, should the clock have stepped back)."""
        self._receive_time_us = max(self._receive_time_us, clock.now_us())
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append((feed, payload, self._receive_time_us))

    def status(self, feed: str, connection: str, state: FeedState, reason: str, *, seen_until_us: int | None = None) -> None:
        """Take what became of a connection or a poll: a frame like any other."""
        self.put(STATUS_FEED, msgspec.json.encode(StatusPayload(feed, connection, state, reason, seen_until_us)))

    def newest_of(self, feed: str) -> Iterator[bytes]:
        """Yield what a feed brought, this time and before, newest first: what the journal still has of it. Any thread."""
        return self._journal.newest_of(feed)

    def flush(self) -> None:
        """Journal what is pending and queue it. After a failed write the inbox stays closed: see :attr:`failure`."""
        rows, self._pending = self._pending, []
        if not rows or self.failure is not None:
            return
        try:
            first = self._journal.append(rows)
        except JournalError as error:
            self.fail(error)
            return
        payload_bytes = sum(len(payload) for _feed, payload, _time in rows)
        if self._bytes_in - self._bytes_out + payload_bytes <= MAX_WAITING_BYTES:
            self._bytes_in += payload_bytes
            self._queue.put(FrameGroup(first, rows, payload_bytes))
        if self._observer is not None:
            self._observe(rows)

    def fail(self, failure: JournalError) -> None:
        """Close: nothing more is journaled, and the consumer is to raise the failure."""
        self.failure = self.failure or failure
        self.observe_failure(str(failure))

    def observe_failure(self, reason: str) -> None:
        """Say that no more frames can come. The flow may be waiting for something else just then."""
        if self._observer is not None:
            self._observer.reception_failed(reason)

    def take(self, timeout_seconds: float) -> FrameGroup | None:
        """Return the next queued group, waiting at most so long (0: not at all). The consumer's thread only."""
        try:
            group = self._queue.get(timeout=timeout_seconds) if timeout_seconds else self._queue.get_nowait()
        except Empty:
            return None
        self._bytes_out += group.payload_bytes
        return group

    def _observe(self, rows: list[FrameRow]) -> None:
        assert self._observer is not None  # noqa: S101 - the caller looked
        counts: dict[str, list[int]] = {}
        for feed, payload, _time in rows:
            count = counts.setdefault(feed, [0, 0])
            count[0] += 1
            count[1] += len(payload)
        for feed, (frames, payload_bytes) in counts.items():
            self._observer.frames_received(feed, frames, payload_bytes)
        self._observer.queue_depth(self._journal.next_sequence - 1 - self.taken_sequence)


def _last_receive_time_us(journal: Journal) -> int:
    newest = journal.next_sequence - 1
    for _sequence, (_feed, _payload, receive_time_us) in journal.read(newest):
        return receive_time_us
    return 0
