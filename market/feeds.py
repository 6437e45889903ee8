"""What can be seen of the venues' liquidations: missing data is never shown as quiet."""

from __future__ import annotations

import enum

import msgspec

from market.raw import Cause

LIQUIDATIONS_CHANNEL = "liquidations"
"""Second part of the name of every feed that brings liquidations."""

INSTRUMENTS_CHANNEL = "instruments"
"""Of every feed that lists contracts: without it nothing can be subscribed."""

NO_LONGER_WANTED = "no longer wanted"
"""The reason of a connection that is lost for good: its symbols come over others now."""


class Sight(str, enum.Enum):
    """What a venue's liquidation feed shows."""

    SEEING = "seeing"  # connected, and alive as far as can be told
    BLIND = "blind"  # a connection of it is away
    SILENT = "silent"  # connected, and says nothing while other venues do


class OpenGap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An interval in which a feed cannot see, not over yet.

    Attributes:
        is_first: The feed has not been connected yet, and nothing has failed: what was never watched is no gap.
    """

    from_us: int
    reason: str
    is_first: bool = False


class LiquidationConnections(msgspec.Struct, frozen=True, gc=False):
    """How the connections of every expected liquidation feed fare; told when that changes.

    Attributes:
        gaps: By venue, the gap that is open; ``None`` while every connection of the feed is up.
    """

    cause: Cause
    gaps: dict[str, OpenGap | None]


class FeedSight(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One venue's liquidation feed.

    Attributes:
        since_us: Since when it is so: connected, or without sight.
        reason: Empty while it sees.
    """

    sight: Sight
    since_us: int
    reason: str


class LiquidationFeeds(msgspec.Struct, frozen=True, gc=False):
    """What can be seen of liquidations, over all venues of a feed partition; told when it changes.

    Attributes:
        sights: By venue.
        missing: Venues of whose liquidations in the last five minutes not all are known: they cannot be seen now, or could
            not be in that time. By name.
        silent_after_us: By venue, the quiet after which it counts as silent; absent while that cannot be told. Told anew once
            a minute at most.
    """

    cause: Cause
    sights: dict[str, FeedSight]
    missing: tuple[str, ...]
    silent_after_us: dict[str, int]

    @property
    def is_any_seeing(self) -> bool:
        """Whether at least one venue can be seen now; otherwise sums of liquidations say nothing."""
        return any(each.sight is Sight.SEEING for each in self.sights.values())


class AssetFeeds(msgspec.Struct, frozen=True, gc=False):
    """What can be seen of liquidations, market-wide, handed to one asset: what a score needs of :class:`LiquidationFeeds`."""

    cause: Cause
    asset: str
    missing: tuple[str, ...]
    is_any_seeing: bool


def liquidations_feed(venue: str) -> str:
    """Return the name of a venue's liquidation feed."""
    return f"{venue}/{LIQUIDATIONS_CHANNEL}"


def venue_of(feed: str) -> str:
    """Return the first part of a feed's name."""
    return feed.partition("/")[0]


def channel_of(feed: str) -> str:
    """Return the second part of a feed's name; its subject, a symbol say, is left out."""
    return feed.partition("/")[2].partition("/")[0]
