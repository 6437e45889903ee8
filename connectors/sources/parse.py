"""From frames to raw events: the first step of the flow, stateless.

Whatever a parser refuses becomes a dead letter that keeps the whole frame; its neighbours go on.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.sources.frame import CLOCK_FEED, STATUS_FEED, Frame, FrameError, MalformedFrameError
from connectors.sources.inbox import StatusPayload
from connectors.sources.registry import parser_of
from connectors.sources.venues.wire import WIRE_ERRORS
from market.raw import DeadLetter, FeedStatus, RawEvent, RawRefusal, Tick

_STATUS = msgspec.json.Decoder(StatusPayload)


def parse_batch(frames: list[Frame]) -> list[tuple[str, list[Any]]]:
    """Return what a batch of frames says, as ``(feed partition, events in order)``.

    One item for the whole batch, since a process has one feed partition: an item per event would cost more in Bytewax than
    the parsing.
    """
    if not frames:
        return []
    return [(frames[0].cause.feed_partition, [event for frame in frames for event in parse(frame)])]


def parse(frame: Frame) -> list[RawEvent | DeadLetter]:
    """Return what one frame says; for what it refuses, a dead letter. Raises nothing."""
    feed = frame.feed
    if feed == CLOCK_FEED:
        return [Tick(frame.cause)]
    try:
        events = _parse_status(frame) if feed == STATUS_FEED else parser_of(feed)(frame)
    except FrameError as error:
        return [_dead_letter(frame, type(error).__name__, str(error))]
    except Exception as error:  # noqa: BLE001 - a parser's bug costs its frame, kept whole, never the flow
        return [_dead_letter(frame, "UnexpectedError", f"{type(error).__name__}: {error}")]
    for event in events:
        if type(event) is RawRefusal:
            return [_dead_letter(frame, item.error, item.reason) if isinstance(item, RawRefusal) else item for item in events]
    return list(events)


def _parse_status(frame: Frame) -> list[RawEvent]:
    try:
        status = _STATUS.decode(frame.payload)
    except WIRE_ERRORS as error:
        raise MalformedFrameError(f"not a status: {error}") from error
    return [FeedStatus(frame.cause, status.feed, status.connection, status.state, status.reason, status.seen_until_us)]


def _dead_letter(frame: Frame, error: str, reason: str) -> DeadLetter:
    venue = frame.feed.partition("/")[0]
    return DeadLetter(frame.cause, frame.feed, venue, error, reason, frame.payload)
