"""How a feed is described: data handed to a transport. A venue is one file that makes these descriptions and parses frames.

Nothing here does I/O. A feed's name is ``venue/channel`` or ``venue/channel/subject``; the channel selects the parser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from connectors.sources.frame import Frame
from market.raw import FeedState, RawEvent, RawInstrument

Parser = Callable[[Frame], list[RawEvent]]
"""Reads one frame. ``[]`` means "understood, says nothing". Raises nothing but ``FrameError``."""


@dataclass(frozen=True)
class KeepAlive:
    """What to send on a quiet or busy connection, and how often. ``message`` of None: protocol pings only."""

    message: str | None
    every_seconds: float


@dataclass(frozen=True)
class WebSocketFeed:
    """One WebSocket connection.

    Attributes:
        name: Feed name of every frame it brings.
        connection: Tells connections of one feed apart (a venue may need several for all its symbols).
        subscribe: Messages sent after opening, in order.
        keep_alive: The venue's own; besides it protocol pings are always answered.
        stale_after_seconds: Nothing at all received for so long, pongs included: the connection is dead.
        lifetime_seconds: The venue ends the connection after this; a new one is opened, with overlap, well before.
        messages_per_second: The venue's limit on what we send.
    """

    name: str
    connection: str
    url: str
    subscribe: tuple[str, ...] = ()
    keep_alive: KeepAlive | None = None
    stale_after_seconds: float = 60.0
    lifetime_seconds: float | None = None
    messages_per_second: float = 5.0


@dataclass(frozen=True)
class PollFeed:
    """One URL read again and again.

    Attributes:
        name: Feed name of every answer.
        every_seconds: Period, aligned to the clock: a poll of 10 s runs at :00, :10, :20, shifted by a fixed jitter.
        weight: What one call costs against the venue's rate limit.
    """

    name: str
    url: str
    every_seconds: float
    weight: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    timeout_seconds: float = 10.0


@dataclass(frozen=True)
class RateLimit:
    """``weight`` units per ``per_seconds``, shared by all polls of one venue."""

    weight: float
    per_seconds: float


@dataclass(frozen=True)
class Endpoints:
    """Where a venue is reached: base URLs without a trailing slash."""

    rest_url: str
    websocket_url: str


class Venue(Protocol):
    """One exchange: pure descriptions of its feeds, and its parsers."""

    @property
    def id(self) -> str:
        """As in the venue reference: ``binance-usdm``."""

    @property
    def endpoints(self) -> Endpoints:
        """The vendor's own; settings may replace them."""

    @property
    def rate_limit(self) -> RateLimit:
        """Of the REST endpoints."""

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel. ``instruments`` and ``liquidations`` are always there."""

    def instrument_polls(self, endpoints: Endpoints) -> Sequence[PollFeed]:
        """Describe what lists the contracts: asked before anything is subscribed, then hourly."""

    def next_instrument_page(self, poll: PollFeed, payload: bytes) -> PollFeed | None:
        """Describe the page after the one that ``poll`` brought; None after the last, or where lists have one page."""

    def websockets(self, endpoints: Endpoints, instruments: Sequence[RawInstrument]) -> Sequence[WebSocketFeed]:
        """Describe the connections that bring every symbol's liquidations."""

    def polls(self, endpoints: Endpoints, watched: Sequence[RawInstrument]) -> Sequence[PollFeed]:
        """Describe the polls for the watched instruments: open interest, funding, mark, ratio, depth."""


class FrameReceiver(Protocol):
    """Where transports leave what they received. Called only on the thread of their asyncio loop."""

    def put(self, feed: str, payload: bytes) -> None:
        """Journal and queue one frame, stamped with the receive time."""

    def status(self, feed: str, connection: str, state: FeedState, reason: str, *, seen_until_us: int | None = None) -> None:
        """Journal and queue what became of a connection or a poll.

        ``seen_until_us`` is given of a connection that fell silent before it was lost: when anything last came over it.
        """
