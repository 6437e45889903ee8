"""OKX swaps and futures. Docs: the vendor's v5 pages, Liquidation orders channel. REST answers are read in ``okx_rest``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from connectors.sources.feed import Endpoints, KeepAlive, Parser, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import Frame, MalformedFrameError, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.okx_rest import (
    INSTRUMENT_TYPES,
    VENUE_ID,
    is_perpetual,
    parse_depth,
    parse_funding_rate,
    parse_index_price,
    parse_instruments,
    parse_long_short_ratio,
    parse_mark_price,
    parse_open_interest,
)
from connectors.sources.venues.wire import WIRE_ERRORS, MillisText, address, decode, each
from market.raw import Cause, Completeness, PositionSide, RawEvent, RawInstrument, RawLiquidation

INSTRUMENTS_SECONDS = 3600.0  # new contracts are announced a day ahead
MARK_PRICE_SECONDS = 10.0  # mark and index price: six a minute draw a cascade's price well enough
FUNDING_RATE_SECONDS = 10.0  # as often as the mark price, of which it is made
OPEN_INTEREST_SECONDS = 15.0  # the shortest delta looks back 5 min: twenty samples
RATIO_SECONDS = 300.0  # published every 5 min
DEPTH_SECONDS = 10.0  # as often as the mark price
DEPTH_LEVELS = 400  # the most that ``books`` gives
PING_SECONDS = 20.0  # the venue ends a connection after 30 s of silence

# When the position has no side of its own ("net"), OKX names the closing order's; the position was the other one.
_POSITION_SIDE = {"long": PositionSide.LONG, "short": PositionSide.SHORT}
_CLOSED_BY = {"sell": PositionSide.LONG, "buy": PositionSide.SHORT}

_SAMPLED = Completeness.SAMPLED  # by name: looking a member up costs a tenth of what reading a frame may take

_CHANNEL = "liquidation-orders"
_SAYING_NOTHING = frozenset({"subscribe", "unsubscribe", "channel-conn-count", "notice"})
_FAILURES = frozenset({"error", "channel-conn-count-error"})


class _Detail(msgspec.Struct, rename="camel", gc=False):
    """One liquidation: ``sz`` contracts at ``bk_px``, the bankruptcy price."""

    pos_side: str
    side: str
    bk_px: str
    sz: str
    ts: MillisText


class _Order(msgspec.Struct, rename="camel", gc=False):
    inst_id: str
    inst_type: str
    details: list[_Detail]


class _Argument(msgspec.Struct, frozen=True, gc=False):
    channel: str = ""


class _Push(msgspec.Struct, gc=False):
    arg: _Argument = _Argument()
    data: list[_Order] | None = None


class _RawOrder(msgspec.Struct, rename="camel"):
    inst_id: str
    inst_type: str
    details: list[msgspec.Raw]


class _Envelope(msgspec.Struct):
    """Whatever comes over the socket."""

    arg: _Argument = _Argument()
    data: list[msgspec.Raw] | None = None
    event: str = ""
    code: str = ""
    msg: str = ""


_PUSH = msgspec.json.Decoder(_Push)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_RAW_ORDER = msgspec.json.Decoder(_RawOrder)
_DETAIL = msgspec.json.Decoder(_Detail)


def parse_liquidations(frame: Frame) -> list[RawEvent]:
    """Read one frame of the ``liquidation-orders`` channel.

    Returns:
        Its liquidations, with refusals in the places of those that can't be read; nothing for acknowledgements, notices and
        the text ``pong``.

    Raises:
        MalformedFrameError: Not OKX's JSON.
        UnknownFrameError: Another channel or event, or nothing but unknown sides and instrument types.
        RefusedFrameError: A subscription or a request failed.
    """
    if frame.payload == b"pong":
        return []
    try:
        push = _PUSH.decode(frame.payload)
    except WIRE_ERRORS:
        return _read_slowly(frame)
    if push.data is None or push.arg.channel != _CHANNEL:
        return _read_slowly(frame)
    events: list[RawEvent] = []
    for order in push.data:
        if order.inst_type not in INSTRUMENT_TYPES:
            return _read_slowly(frame)
        for detail in order.details:
            position_side = _position_side(detail)
            if position_side is None:
                return _read_slowly(frame)
            events.append(_liquidation(frame.cause, order.inst_id, position_side, detail))
    return events


def _position_side(detail: _Detail) -> PositionSide | None:
    return _CLOSED_BY.get(detail.side) if detail.pos_side == "net" else _POSITION_SIDE.get(detail.pos_side)


def _liquidation(cause: Cause, symbol: str, position_side: PositionSide, detail: _Detail) -> RawLiquidation:
    time_us = int(detail.ts) * 1000
    return RawLiquidation(cause, VENUE_ID, symbol, position_side, detail.bk_px, detail.sz, _SAMPLED, time_us)


def _read_slowly(frame: Frame) -> list[RawEvent]:
    """Read a frame that is no run of good liquidations, item by item."""
    envelope = decode(_ENVELOPE, frame.payload)
    if envelope.event in _FAILURES:
        raise RefusedFrameError(f"{envelope.code}: {envelope.msg}")
    if envelope.event in _SAYING_NOTHING:
        return []
    if envelope.event or envelope.arg.channel != _CHANNEL:
        raise UnknownFrameError(f"event {envelope.event!r} of channel {envelope.arg.channel!r}")
    if envelope.data is None:
        raise MalformedFrameError("a push without data")
    return each(frame.cause, envelope.data, partial(_read_order, frame.cause))


def _read_order(cause: Cause, raw: msgspec.Raw) -> list[RawEvent]:
    order = decode(_RAW_ORDER, raw)
    is_perpetual(order.inst_type, order.inst_id)
    return each(cause, order.details, partial(_read_detail, cause, order.inst_id))


def _read_detail(cause: Cause, symbol: str, raw: msgspec.Raw) -> list[RawEvent]:
    detail = decode(_DETAIL, raw)
    position_side = _position_side(detail)
    if position_side is None:
        raise UnknownFrameError(f"position side {detail.pos_side!r} with order side {detail.side!r} of {symbol}")
    return [_liquidation(cause, symbol, position_side, detail)]


@dataclass(frozen=True)
class Okx:
    """Descriptions of OKX's feeds."""

    id: str = VENUE_ID
    endpoints: Endpoints = Endpoints("https://www.okx.com", "wss://ws.okx.com:8443")  # noqa: RUF009 - the default is frozen
    rate_limit: RateLimit = RateLimit(20, 2.0)  # noqa: RUF009 - the default is frozen

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel."""
        return _PARSERS

    def instrument_polls(self, endpoints: Endpoints) -> Sequence[PollFeed]:
        """Describe the lists of contracts: one call for each instrument type."""
        return [
            PollFeed(
                f"{self.id}/instruments/{instrument_type}",
                address(endpoints.rest_url, "/api/v5/public/instruments", instType=instrument_type),
                INSTRUMENTS_SECONDS,
            )
            for instrument_type in INSTRUMENT_TYPES
        ]

    def next_instrument_page(self, poll: PollFeed, payload: bytes) -> PollFeed | None:  # noqa: ARG002 - as the protocol says
        """Return None: each list has one page."""
        return None

    def websockets(self, endpoints: Endpoints, instruments: Sequence[RawInstrument]) -> Sequence[WebSocketFeed]:  # noqa: ARG002 - as the protocol says
        """Describe the one connection that brings every contract of both types."""
        args = [{"channel": _CHANNEL, "instType": instrument_type} for instrument_type in INSTRUMENT_TYPES]
        subscribe = msgspec.json.encode({"op": "subscribe", "args": args}).decode()
        url = f"{endpoints.websocket_url}/ws/v5/public"
        return (WebSocketFeed(f"{self.id}/liquidations", "all", url, (subscribe,), KeepAlive("ping", PING_SECONDS)),)

    def polls(self, endpoints: Endpoints, watched: Sequence[RawInstrument]) -> Sequence[PollFeed]:
        """Describe what is asked about the watched contracts.

        The venue limits most of these calls per contract; the limit of all together is what its list of contracts allows.
        """
        feeds: list[PollFeed] = []
        for instrument in watched:
            symbol = instrument.symbol
            index = f"{instrument.base}-{instrument.quote}"
            by_type = {"instType": "SWAP" if instrument.is_perpetual else "FUTURES", "instId": symbol}
            by_symbol = {"instId": symbol}
            ratio = by_symbol | {"period": "5m", "limit": "1"}
            for channel, path, every_seconds, query in (
                ("mark-price", "public/mark-price", MARK_PRICE_SECONDS, by_type),
                ("index-price", "market/index-tickers", MARK_PRICE_SECONDS, {"instId": index}),
                ("funding-rate", "public/funding-rate", FUNDING_RATE_SECONDS, by_symbol),
                ("open-interest", "public/open-interest", OPEN_INTEREST_SECONDS, by_type),
                ("long-short-ratio", "rubik/stat/contracts/long-short-account-ratio-contract", RATIO_SECONDS, ratio),
                ("depth", "market/books", DEPTH_SECONDS, by_symbol | {"sz": str(DEPTH_LEVELS)}),
            ):
                url = address(endpoints.rest_url, f"/api/v5/{path}", **query)
                feeds.append(PollFeed(f"{self.id}/{channel}/{symbol}", url, every_seconds))
        return feeds


_PARSERS: Mapping[str, Parser] = {
    "liquidations": parse_liquidations,
    "instruments": parse_instruments,
    "mark-price": parse_mark_price,
    "index-price": parse_index_price,
    "funding-rate": parse_funding_rate,
    "open-interest": parse_open_interest,
    "long-short-ratio": parse_long_short_ratio,
    "depth": parse_depth,
}

OKX = Okx()
