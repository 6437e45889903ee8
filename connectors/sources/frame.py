"""A frame: what came in, as it came in. Everything the flow ever learns is one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import msgspec

from market.raw import Cause

CLOCK_FEED = "clock"
"""Ticks: twenty a second, empty payload."""

STATUS_FEED = "status"
"""What became of connections and polls: JSON written by :mod:`connectors.sources.inbox`."""


MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Payload of the frames read from a journal at once, and one frame more: 2,000 usual ones are half a megabyte."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """Bytes from one feed.

    Attributes:
        feed: ``venue/channel`` or ``venue/channel/subject``; the subject names what the bytes do not (a symbol asked for).
        payload: As received, text as UTF-8.
        cause: Its place in the journal and its receive time.
    """

    feed: str
    payload: bytes
    cause: Cause

    @property
    def subject(self) -> str:
        """The third part of the feed's name, or an empty string."""
        _venue, _, channel_and_subject = self.feed.partition("/")
        return channel_and_subject.partition("/")[2]


def portion(frames: Iterable[Frame], most: int) -> list[Frame]:
    """Return the next frames: ``most`` of them, or fewer where they are large, so that no batch fills the memory."""
    batch, payload_bytes = [], 0
    for frame in islice(frames, most):
        batch.append(frame)
        payload_bytes += len(frame.payload)
        if payload_bytes >= MAX_BATCH_BYTES:
            break
    return batch


class FrameError(Exception):
    """A frame that a parser refuses. It becomes a dead letter; nothing else is lost."""


class MalformedFrameError(FrameError):
    """Not what this feed speaks: no JSON, or a field of the wrong shape."""


class UnknownFrameError(FrameError):
    """Well-formed, but a kind, a side or a value that nobody has shown us: refused, never guessed."""


class RefusedFrameError(FrameError):
    """The venue itself says that a request or a subscription failed."""
