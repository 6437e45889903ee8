"""What every venue's parser needs: typed decoding, salvage of single items, times, addresses. No venue's words in here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar
from urllib.parse import urlencode

import msgspec

from connectors.sources.frame import Frame, FrameError, MalformedFrameError
from market.raw import Cause, RawEvent, RawRefusal

T = TypeVar("T")

WIRE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that a msgspec decoder raises on bytes: wrong shape or no JSON, text that is not UTF-8, nesting without end."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""Milliseconds since the epoch as a number, up to the year 9999: so that microseconds fit any table's 64 bits."""

MillisText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,14}\Z")]
"""The same as text; fourteen digits reach the year 5138."""

MillisTextOrEmpty = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{0,14}\Z")]
"""The same, or nothing said."""


def decode(decoder: msgspec.json.Decoder[T], payload: bytes | msgspec.Raw) -> T:
    """Return what the decoder reads.

    Raises:
        MalformedFrameError: The payload has not the decoder's shape.
    """
    try:
        return decoder.decode(payload)
    except WIRE_ERRORS as error:
        raise MalformedFrameError(str(error)) from error


def each(cause: Cause, items: Iterable[T], read: Callable[[T], Iterable[RawEvent]]) -> list[RawEvent]:
    """Return what the items say, in order; an item that ``read`` refuses becomes a ``RawRefusal`` in its place.

    Raises:
        FrameError: The first refusal, when every item was refused: then it is the frame that can't be read.
    """
    events: list[RawEvent] = []
    first_error: FrameError | None = None
    is_readable = False
    for item in items:
        try:
            events.extend(read(item))
        except FrameError as error:
            first_error = first_error or error
            events.append(RawRefusal(cause, type(error).__name__, str(error)))
        else:
            is_readable = True
    if first_error is not None and not is_readable:
        raise first_error
    return events


def subject_of(frame: Frame) -> str:
    """Return the symbol that was asked for: where the answer does not name it.

    Raises:
        MalformedFrameError: The feed's name does not say it either.
    """
    subject = frame.subject
    if not subject:
        raise MalformedFrameError(f"the feed {frame.feed!r} names no symbol")
    return subject


def address(base_url: str, path: str, **query: str) -> str:
    """Return a URL; some venues have symbols that are not ASCII."""
    return f"{base_url}{path}?{urlencode(query)}"


def said(text: str) -> str | None:
    """Return None for the empty text, with which venues say that they don't say."""
    return text or None
