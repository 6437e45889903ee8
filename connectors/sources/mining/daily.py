"""What the mining sources have in common: how one is described, numbers kept as the text they came as, days from seconds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated

import msgspec

from connectors.sources.feed import Parser, PollFeed
from connectors.sources.frame import Frame, MalformedFrameError
from connectors.sources.venues.digits import quotient
from market.raw import RawEvent, RawMiningFees, RawMiningHistory

UnixSeconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Up to the year 9999, the last that has a date."""

Days = tuple[tuple[str, str], ...]
"""``(YYYY-MM-DD, value text)``, oldest first, one value a day."""

_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
SECONDS_PER_DAY = 86_400

_FEE_DECIMALS = 12  # of a BTC: four more than a satoshi has, so that rounding is far below any meaning
_EXPONENT = re.compile(r"[eE]")


@dataclass(frozen=True)
class Channel:
    """One URL of a source.

    Attributes:
        name: Second part of the feed's name.
        path: After the base URL, query included.
        every_seconds: Why so often is said where it is set.
    """

    name: str
    path: str
    every_seconds: float
    parser: Parser
    timeout_seconds: float = 10.0


@dataclass(frozen=True)
class MiningSource:
    """Where Bitcoin's difficulty, price and fees can be read.

    Attributes:
        id: First part of its feeds' names.
        base_url: The operator's own, without a trailing slash; settings may replace it.
    """

    id: str
    base_url: str
    channels: tuple[Channel, ...]

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel."""
        return {channel.name: channel.parser for channel in self.channels}

    def polls(self, base_url: str) -> tuple[PollFeed, ...]:
        """Describe what is asked, and how often."""
        return tuple(
            PollFeed(
                f"{self.id}/{channel.name}",
                f"{base_url}{channel.path}",
                channel.every_seconds,
                timeout_seconds=channel.timeout_seconds,
            )
            for channel in self.channels
        )


def day_of(seconds: int) -> str:
    """Return the UTC day of a time in unix seconds."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).date().isoformat()


def number_text(literal: msgspec.Raw | str) -> str:
    """Return a number as it was written, in JSON or in a JSON string: no float comes in between.

    Raises:
        MalformedFrameError: It is no number, or longer than any that a source has shown.
    """
    text = literal if isinstance(literal, str) else bytes(literal).decode(errors="replace")
    bare = text[1:-1] if text.startswith('"') else text
    if _NUMBER.fullmatch(bare) is None:
        raise MalformedFrameError(f"not a number: {text[:80]!r}")
    return bare


def is_positive(text: str) -> bool:
    """Say whether a number is above zero, without computing it."""
    return not text.startswith("-") and any(digit in "123456789" for digit in _EXPONENT.split(text)[0])


def days_of(points: Iterable[tuple[int, msgspec.Raw]]) -> Days:
    """Return one value a day from ``(unix seconds, number)`` in any order: of several on a day, the last in time.

    A day whose value is not above zero is left out: no difficulty and no price is; sources write 0 or −1 for "not known".

    Raises:
        MalformedFrameError: A day's value is no number.
    """
    last: dict[int, tuple[int, msgspec.Raw]] = {}
    for point in points:  # some ten thousand of them: only what is kept is looked at
        seconds = point[0]
        day = seconds // SECONDS_PER_DAY
        known = last.get(day)
        if known is None or seconds >= known[0]:
            last[day] = point
    values = ((day_of(seconds), number_text(literal)) for seconds, literal in (last[day] for day in sorted(last)))
    return tuple((day, text) for day, text in values if is_positive(text))


def history(frame: Frame, *, difficulty: Days = (), price_usd: Days = ()) -> list[RawEvent]:
    """Return the days as an event of the frame's source; nothing when there are none."""
    return [RawMiningHistory(frame.cause, _source_of(frame), difficulty, price_usd)] if difficulty or price_usd else []


def mean_fees(frame: Frame, total_btc: str, blocks: int) -> list[RawEvent]:
    """Return the mean of so many BTC of fees in so many blocks, as an event of the frame's source.

    Raises:
        MalformedFrameError: The total is no plain decimal, or there are no blocks.
    """
    mean = quotient(total_btc, str(blocks), places=_FEE_DECIMALS)
    return [RawMiningFees(frame.cause, _source_of(frame), mean, blocks)]


def _source_of(frame: Frame) -> str:
    return frame.feed.partition("/")[0]
