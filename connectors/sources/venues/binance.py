"""Binance USD-M futures. Docs: the vendor's USDⓈ-M pages, Websocket Market Streams (Liquidation Order) and Market Data.

Quantities are coins as the symbol spells them (``1000PEPEUSDT`` counts thousands), so a contract's size is always 1.

Every parser raises what :func:`parse_liquidations` lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from connectors.sources.feed import Endpoints, Parser, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import Frame, MalformedFrameError, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.wire import WIRE_ERRORS, Millis, address, decode, each, said, subject_of
from market.raw import (
    Cause,
    Completeness,
    ContractKind,
    PositionSide,
    RawBookDepth,
    RawDerivatives,
    RawEvent,
    RawInstrument,
    RawLiquidation,
)

T = TypeVar("T")

VENUE_ID = "binance-usdm"

INSTRUMENTS_SECONDS = 3600.0  # new contracts are announced a day ahead
MARK_PRICE_SECONDS = 10.0  # the venue's own stream has it every 3 s; six a minute draw a cascade's price well enough
OPEN_INTEREST_SECONDS = 15.0  # the shortest delta looks back 5 min: twenty samples
RATIO_SECONDS = 300.0  # published every 5 min
FUNDING_INFO_SECONDS = 300.0  # intervals change a few times a week; a process that starts wants them within minutes
USUAL_FUNDING_HOURS = "8"  # of every perpetual that fundingInfo leaves out
DEPTH_SECONDS = 10.0  # six a minute, see DEPTH_WEIGHT_PER_MINUTE
DEPTH_LEVELS = 1000  # the most that is given: even so the book of BTC reaches some tenths of a percent
DEPTH_WEIGHT = 20.0  # documented for 1000 levels
DEPTH_WEIGHT_PER_MINUTE = 1600.0  # two thirds of what the venue allows; with more symbols each is read less often
MARK_PRICE_SYMBOLS = 20  # one symbol weighs 1, all of them 10: above this one call brings all, unwatched ones too
ALL_MARK_PRICES_WEIGHT = 10.0

_SECONDS_PER_DAY = 86_400.0

# Binance names the closing order's side; the position was the other one.
_POSITION_SIDE = {"SELL": PositionSide.LONG, "BUY": PositionSide.SHORT}

_SAMPLED = Completeness.SAMPLED  # by name: looking a member up costs a tenth of what reading a frame may take

# The contract types of exchangeInfo; the delivering ones are seen with a blank, too.
_IS_PERPETUAL = {
    "PERPETUAL": True,
    "PERPETUAL_DELIVERING": True,
    "TRADIFI_PERPETUAL": True,
    "CURRENT_MONTH": False,
    "NEXT_MONTH": False,
    "CURRENT_QUARTER": False,
    "CURRENT_QUARTER_DELIVERING": False,
    "NEXT_QUARTER": False,
    "NEXT_QUARTER_DELIVERING": False,
}

# Nobody has a position in these: not yet, or not any more. The list keeps hundreds of delisted contracts.
_STATUS_WITHOUT_POSITIONS = frozenset({"PENDING_TRADING", "SETTLING", "DELIVERED", "CLOSE"})


class _Order(msgspec.Struct, gc=False):
    """``z`` is the quantity filled, ``ap`` the average price of the fills: together they are what was liquidated.

    The fields stand in the order of the wire, which is the fastest to decode.
    """

    s: str
    S: str
    ap: str
    z: str
    T: Millis


class _Event(msgspec.Struct, gc=False):
    e: str = ""
    o: _Order | None = None


class _Message(msgspec.Struct, gc=False):
    """One stream's event, or, on a combined stream, the event within ``data``."""

    e: str = ""
    o: _Order | None = None
    data: _Event | None = None


class _Refusal(msgspec.Struct):
    code: int
    msg: str


class _Named(msgspec.Struct):
    e: str = ""


class _Control(msgspec.Struct):
    """Whatever else comes over the socket."""

    e: str = ""
    data: _Named | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Refusal | None = None


class _ExchangeInfo(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    contract_type: str
    status: str
    base_asset: str
    quote_asset: str
    margin_asset: str


class _PremiumIndex(msgspec.Struct, rename="camel"):
    """``last_funding_rate`` is the rate of the running interval, and empty for a dated future."""

    symbol: str
    mark_price: str
    index_price: str
    last_funding_rate: str
    time: Millis


class _FundingInfo(msgspec.Struct, rename="camel"):
    symbol: str
    funding_interval_hours: int


class _OpenInterest(msgspec.Struct, rename="camel"):
    symbol: str
    open_interest: str
    time: Millis


class _AccountRatio(msgspec.Struct, rename="camel"):
    symbol: str
    long_short_ratio: str
    timestamp: Millis


class _Depth(msgspec.Struct):
    """``E`` is when the answer was made: until then the book was like this."""

    E: Millis
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]


_MESSAGE = msgspec.json.Decoder(_Message)
_CONTROL = msgspec.json.Decoder(_Control)
_REFUSAL = msgspec.json.Decoder(_Refusal)
_EXCHANGE_INFO = msgspec.json.Decoder(_ExchangeInfo)
_SYMBOL = msgspec.json.Decoder(_Symbol)
_PREMIUM_INDEX = msgspec.json.Decoder(_PremiumIndex)
_FUNDING_INFO = msgspec.json.Decoder(_FundingInfo)
_OPEN_INTEREST = msgspec.json.Decoder(_OpenInterest)
_ACCOUNT_RATIOS = msgspec.json.Decoder(list[_AccountRatio])
_DEPTH = msgspec.json.Decoder(_Depth)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def parse_liquidations(frame: Frame) -> list[RawEvent]:
    """Read one frame of ``!forceOrder@arr`` or ``<symbol>@forceOrder``, wrapped in ``stream`` and ``data`` or not.

    Returns:
        The liquidation; nothing for acknowledgements.

    Raises:
        MalformedFrameError: Not Binance's JSON.
        UnknownFrameError: Another event than ``forceOrder``, or an unknown side.
        RefusedFrameError: A subscription failed.
    """
    try:
        message = _MESSAGE.decode(frame.payload)
    except WIRE_ERRORS as error:
        return _read_control(frame.payload, str(error))
    event = message.data or message
    order = event.o
    if order is None or event.e != "forceOrder":
        return _read_control(frame.payload, "no order")
    position_side = _POSITION_SIDE.get(order.S)
    if position_side is None:
        raise UnknownFrameError(f"order side {order.S!r}")
    return [
        RawLiquidation(frame.cause, VENUE_ID, order.s, position_side, order.ap, order.z, _SAMPLED, order.T * 1000),
    ]


def _read_control(payload: bytes, fault: str) -> list[RawEvent]:
    """Read a frame that is no liquidation; ``fault`` says why it is none, should it be named one."""
    control = decode(_CONTROL, payload)
    if control.error is not None:
        raise _refused(control.error)
    name = (control.data or control).e
    if name == "forceOrder":
        raise MalformedFrameError(fault)
    if control.result is not msgspec.UNSET:
        return []
    _raise_if_refused(payload)
    raise UnknownFrameError(f"event {name!r}")


def parse_instruments(frame: Frame) -> list[RawEvent]:
    """Read ``/fapi/v1/exchangeInfo``: every contract in which somebody may have a position."""
    return each(frame.cause, _answer(_EXCHANGE_INFO, frame.payload).symbols, partial(_read_symbol, frame.cause))


def _read_symbol(cause: Cause, item: msgspec.Raw) -> list[RawEvent]:
    contract = decode(_SYMBOL, item)
    if contract.status in _STATUS_WITHOUT_POSITIONS:
        return []
    is_perpetual = _IS_PERPETUAL.get(contract.contract_type.replace(" ", "_"))
    if is_perpetual is None:
        raise UnknownFrameError(f"contract type {contract.contract_type!r} of {contract.symbol}")
    return [
        RawInstrument(
            cause=cause,
            venue=VENUE_ID,
            symbol=contract.symbol,
            base=contract.base_asset,
            quote=contract.quote_asset,
            settle=contract.margin_asset,
            kind=ContractKind.LINEAR,
            contract_size="1",
            is_perpetual=is_perpetual,
            funding_interval_hours=USUAL_FUNDING_HOURS if is_perpetual else None,
        ),
    ]


def parse_mark_price(frame: Frame) -> list[RawEvent]:
    """Read ``/fapi/v1/premiumIndex``, of one symbol or of all: mark and index price and the running funding rate."""
    if frame.payload.lstrip()[:1] == b"[":
        items = decode(_ITEMS, frame.payload)
        return each(frame.cause, items, lambda item: [_mark_price(frame.cause, decode(_PREMIUM_INDEX, item))])
    return [_mark_price(frame.cause, _answer(_PREMIUM_INDEX, frame.payload))]


def _mark_price(cause: Cause, index: _PremiumIndex) -> RawDerivatives:
    return RawDerivatives(
        cause=cause,
        venue=VENUE_ID,
        symbol=index.symbol,
        event_time_us=index.time * 1000,
        mark_price=said(index.mark_price),
        index_price=said(index.index_price),
        funding_rate=said(index.last_funding_rate),
    )


def parse_funding_info(frame: Frame) -> list[RawEvent]:
    """Read ``/fapi/v1/fundingInfo``: hours between fundings, for all symbols that differ from the venue's usual terms.

    The answer carries no time: ``event_time_us`` is the receive time.
    """

    def read(item: msgspec.Raw) -> list[RawEvent]:
        info = decode(_FUNDING_INFO, item)
        hours = str(info.funding_interval_hours)
        event_time_us = frame.cause.receive_time_us
        return [RawDerivatives(frame.cause, VENUE_ID, info.symbol, event_time_us, funding_interval_hours=hours)]

    items: list[msgspec.Raw] = _answer(_ITEMS, frame.payload)
    return each(frame.cause, items, read)


def parse_open_interest(frame: Frame) -> list[RawEvent]:
    """Read ``/fapi/v1/openInterest``: one side, in coins."""
    answer = _answer(_OPEN_INTEREST, frame.payload)
    return [
        RawDerivatives(frame.cause, VENUE_ID, answer.symbol, answer.time * 1000, open_interest_base=answer.open_interest),
    ]


def parse_long_short_ratio(frame: Frame) -> list[RawEvent]:
    """Read ``/futures/data/globalLongShortAccountRatio``: the newest row; nothing where the venue has none."""
    rows = _answer(_ACCOUNT_RATIOS, frame.payload)
    if not rows:
        return []
    row = max(rows, key=lambda item: item.timestamp)
    return [RawDerivatives(frame.cause, VENUE_ID, row.symbol, row.timestamp * 1000, long_short_ratio=row.long_short_ratio)]


def parse_depth(frame: Frame) -> list[RawEvent]:
    """Read ``/fapi/v1/depth``. The answer does not name its symbol: the feed does."""
    book = _answer(_DEPTH, frame.payload)
    return [RawBookDepth(frame.cause, VENUE_ID, subject_of(frame), book.E * 1000, book.bids, book.asks)]


def _answer(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """Read a REST answer; one of another shape may be the venue's refusal."""
    try:
        return decode(decoder, payload)
    except MalformedFrameError:
        _raise_if_refused(payload)
        raise


def _raise_if_refused(payload: bytes) -> None:
    try:
        refusal = _REFUSAL.decode(payload)
    except WIRE_ERRORS:
        return
    raise _refused(refusal)


def _refused(refusal: _Refusal) -> RefusedFrameError:
    return RefusedFrameError(f"{refusal.code}: {refusal.msg}")


@dataclass(frozen=True)
class BinanceUsdm:
    """Descriptions of Binance USD-M's feeds."""

    id: str = VENUE_ID
    endpoints: Endpoints = Endpoints("https://fapi.binance.com", "wss://fstream.binance.com")  # noqa: RUF009 - the default is frozen
    rate_limit: RateLimit = RateLimit(2400, 60.0)  # noqa: RUF009 - the default is frozen

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel."""
        return _PARSERS

    def instrument_polls(self, endpoints: Endpoints) -> Sequence[PollFeed]:
        """Describe the list of contracts: one call."""
        return (PollFeed(f"{self.id}/instruments", f"{endpoints.rest_url}/fapi/v1/exchangeInfo", INSTRUMENTS_SECONDS),)

    def next_instrument_page(self, poll: PollFeed, payload: bytes) -> PollFeed | None:  # noqa: ARG002 - as the protocol says
        """Return None: the list has one page."""
        return None

    def websockets(self, endpoints: Endpoints, instruments: Sequence[RawInstrument]) -> Sequence[WebSocketFeed]:  # noqa: ARG002 - as the protocol says
        """Describe the one connection that brings every symbol. The stream is named by the URL: nothing is subscribed.

        The venue pings every 3 min and ends a connection after 24 h. Without ``/market`` it would connect and stay silent.
        """
        url = f"{endpoints.websocket_url}/market/ws/!forceOrder@arr"
        return (WebSocketFeed(f"{self.id}/liquidations", "all", url, lifetime_seconds=_SECONDS_PER_DAY),)

    def polls(self, endpoints: Endpoints, watched: Sequence[RawInstrument]) -> Sequence[PollFeed]:
        """Describe what is asked about the watched contracts; a hundred of them keep within the rate limit."""
        symbols = [instrument.symbol for instrument in watched]
        if not symbols:
            return ()
        rest = endpoints.rest_url
        feeds = [PollFeed(f"{self.id}/funding-info", f"{rest}/fapi/v1/fundingInfo", FUNDING_INFO_SECONDS)]
        feeds += self._mark_prices(rest, symbols)
        depth_seconds = _depth_seconds(len(symbols))
        for symbol in symbols:
            feeds.append(self._one(rest, "open-interest", "/fapi/v1/openInterest", OPEN_INTEREST_SECONDS, symbol))
            path = "/futures/data/globalLongShortAccountRatio"
            feeds.append(self._one(rest, "long-short-ratio", path, RATIO_SECONDS, symbol, period="5m", limit="1"))
            url = address(rest, "/fapi/v1/depth", symbol=symbol, limit=str(DEPTH_LEVELS))
            feeds.append(PollFeed(f"{self.id}/depth/{symbol}", url, depth_seconds, DEPTH_WEIGHT))
        return feeds

    def _mark_prices(self, rest: str, symbols: Sequence[str]) -> list[PollFeed]:
        path = "/fapi/v1/premiumIndex"
        if len(symbols) > MARK_PRICE_SYMBOLS:
            return [PollFeed(f"{self.id}/mark-price", f"{rest}{path}", MARK_PRICE_SECONDS, ALL_MARK_PRICES_WEIGHT)]
        return [self._one(rest, "mark-price", path, MARK_PRICE_SECONDS, symbol) for symbol in symbols]

    def _one(self, rest: str, channel: str, path: str, every_seconds: float, symbol: str, **query: str) -> PollFeed:
        return PollFeed(f"{self.id}/{channel}/{symbol}", address(rest, path, symbol=symbol, **query), every_seconds)


def _depth_seconds(symbols: int) -> float:
    """Return how often a book is read, so that all of them keep within their share of the rate limit."""
    weight_per_minute = symbols * DEPTH_WEIGHT * 60.0 / DEPTH_SECONDS
    return DEPTH_SECONDS * max(1, math.ceil(weight_per_minute / DEPTH_WEIGHT_PER_MINUTE))


_PARSERS: Mapping[str, Parser] = {
    "liquidations": parse_liquidations,
    "instruments": parse_instruments,
    "mark-price": parse_mark_price,
    "funding-info": parse_funding_info,
    "open-interest": parse_open_interest,
    "long-short-ratio": parse_long_short_ratio,
    "depth": parse_depth,
}

BINANCE_USDM = BinanceUsdm()
