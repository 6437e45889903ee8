"""Bybit linear and inverse contracts. Docs: the vendor's v5 pages, All Liquidation and Market.

Every parser serves both venues and takes the venue from the feed's name. Linear contracts count coins as the symbol spells
them, inverse ones US dollars: a contract's size is always 1.
Every parser raises what :func:`parse_liquidations` lists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar
from urllib.parse import quote

import msgspec

from connectors.sources.feed import Endpoints, KeepAlive, Parser, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import Frame, FrameError, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.digits import product, quotient
from connectors.sources.venues.wire import WIRE_ERRORS, Millis, MillisText, address, decode, each, said
from market.raw import (
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

INSTRUMENTS_SECONDS = 3600.0  # new contracts are announced a day ahead
TICKERS_SECONDS = 10.0  # mark price, funding and open interest in one answer; six a minute draw a cascade well enough
RATIO_SECONDS = 300.0  # published every 5 min
DEPTH_SECONDS = 10.0  # as often as the tickers
DEPTH_LEVELS = 500  # what every version of the endpoint gave at most; the newest documents a thousand
PING_SECONDS = 20.0  # as the venue recommends

MAX_ARGS_CHARACTERS = 21_000
"""The venue's limit on the topics of one connection, as JSON."""

MAX_TOPICS = 200
"""In one message. The venue sets no such limit, but refuses a message whole for one topic that it does not know."""

# Bybit names the position's side: Buy means that a long was liquidated.
_POSITION_SIDE = {"Buy": PositionSide.LONG, "Sell": PositionSide.SHORT}

_FULL = Completeness.FULL  # by name: looking a member up costs a tenth of what reading a frame may take

_KIND_AND_IS_PERPETUAL = {
    "LinearPerpetual": (ContractKind.LINEAR, True),
    "LinearFutures": (ContractKind.LINEAR, False),
    "InversePerpetual": (ContractKind.INVERSE, True),
    "InverseFutures": (ContractKind.INVERSE, False),
}

_TOPIC = "allLiquidation."
_ANSWERED_OPERATIONS = frozenset({"subscribe", "unsubscribe", "ping", "pong"})
_RATIO_PLACES = 6  # the two shares come with four decimals
_CURSOR = "&cursor="


class _Item(msgspec.Struct, gc=False):
    """One liquidation: ``v`` contracts at ``p``, the bankruptcy price."""

    T: Millis
    s: str
    S: str
    v: str
    p: str


class _Message(msgspec.Struct, gc=False):
    topic: str = ""
    type: str = ""
    data: list[_Item] = []


class _Envelope(msgspec.Struct):
    """Whatever comes over the socket."""

    topic: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")
    success: bool | None = None
    ret_msg: str = ""
    op: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    """Every REST answer. ``result`` is empty or null when ``ret_code`` is not 0."""

    ret_code: int
    ret_msg: str
    time: Millis
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Page(msgspec.Struct, rename="camel"):
    items: list[msgspec.Raw] = msgspec.field(name="list")
    next_page_cursor: str = ""


class _Instrument(msgspec.Struct, rename="camel"):
    """``funding_interval`` is in minutes, 0 for a dated future."""

    symbol: str
    contract_type: str
    base_coin: str
    quote_coin: str
    settle_coin: str
    funding_interval: int = 0


class _Ticker(msgspec.Struct, rename="camel"):
    """``open_interest`` counts both sides of every contract, ``single_open_interest`` (since 2026) one."""

    symbol: str
    mark_price: str = ""
    index_price: str = ""
    open_interest: str = ""
    single_open_interest: str = ""
    funding_rate: str = ""
    funding_interval_hour: str = ""


class _AccountRatio(msgspec.Struct, rename="camel"):
    """Shares of the accounts that are net long and net short."""

    symbol: str
    buy_ratio: str
    sell_ratio: str
    timestamp: MillisText


class _Ratios(msgspec.Struct):
    items: list[_AccountRatio] = msgspec.field(name="list")


class _Book(msgspec.Struct):
    s: str
    b: tuple[tuple[str, str], ...]
    a: tuple[tuple[str, str], ...]
    ts: Millis


_MESSAGE = msgspec.json.Decoder(_Message)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ITEM = msgspec.json.Decoder(_Item)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ANSWER = msgspec.json.Decoder(_Answer)
_PAGE = msgspec.json.Decoder(_Page)
_INSTRUMENT = msgspec.json.Decoder(_Instrument)
_TICKER = msgspec.json.Decoder(_Ticker)
_RATIOS = msgspec.json.Decoder(_Ratios)
_BOOK = msgspec.json.Decoder(_Book)


def parse_liquidations(frame: Frame) -> list[RawEvent]:
    """Read one frame of ``allLiquidation.<symbol>``.

    Returns:
        Its liquidations, with refusals in the places of those that can't be read; nothing for acknowledgements and pongs.

    Raises:
        MalformedFrameError: Not Bybit's JSON.
        UnknownFrameError: Another topic (the former ``liquidation.`` among them), or nothing but unknown sides.
        RefusedFrameError: A subscription or a request failed.
    """
    cause = frame.cause
    venue = frame.feed.partition("/")[0]
    try:
        message = _MESSAGE.decode(frame.payload)
        if message.type != "snapshot" or not message.topic.startswith(_TOPIC):
            return _read_slowly(frame, venue)
        return [
            RawLiquidation(cause, venue, item.s, _POSITION_SIDE[item.S], item.p, item.v, _FULL, item.T * 1000)
            for item in message.data
        ]
    except (KeyError, *WIRE_ERRORS):
        return _read_slowly(frame, venue)


def _read_slowly(frame: Frame, venue: str) -> list[RawEvent]:
    """Read a frame that is no run of good liquidations, item by item."""
    envelope = decode(_ENVELOPE, frame.payload)
    if envelope.topic.startswith(_TOPIC) and envelope.type == "snapshot":
        items: list[msgspec.Raw] = decode(_ITEMS, envelope.data)
        return each(frame.cause, items, partial(_read_item, frame, venue))
    if envelope.topic:
        raise UnknownFrameError(f"topic {envelope.topic!r} of type {envelope.type!r}")
    if envelope.success is False:
        raise RefusedFrameError(f"{envelope.op}: {envelope.ret_msg}")
    if envelope.op not in _ANSWERED_OPERATIONS:
        raise UnknownFrameError(f"operation {envelope.op!r}")
    return []


def _read_item(frame: Frame, venue: str, raw: msgspec.Raw) -> list[RawEvent]:
    item = decode(_ITEM, raw)
    position_side = _POSITION_SIDE.get(item.S)
    if position_side is None:
        raise UnknownFrameError(f"position side {item.S!r} of {item.s}")
    time_us = item.T * 1000
    return [RawLiquidation(frame.cause, venue, item.s, position_side, item.p, item.v, _FULL, time_us)]


def parse_instruments(frame: Frame) -> list[RawEvent]:
    """Read one page of ``/v5/market/instruments-info``."""
    _time_us, page = _answer(_PAGE, frame)
    return each(frame.cause, page.items, partial(_read_instrument, frame))


def _read_instrument(frame: Frame, raw: msgspec.Raw) -> list[RawEvent]:
    contract = decode(_INSTRUMENT, raw)
    if contract.contract_type not in _KIND_AND_IS_PERPETUAL:
        raise UnknownFrameError(f"contract type {contract.contract_type!r} of {contract.symbol}")
    kind, is_perpetual = _KIND_AND_IS_PERPETUAL[contract.contract_type]
    minutes = contract.funding_interval
    return [
        RawInstrument(
            cause=frame.cause,
            venue=_venue(frame),
            symbol=contract.symbol,
            base=contract.base_coin,
            quote=contract.quote_coin,
            settle=contract.settle_coin,
            kind=kind,
            contract_size="1",
            is_perpetual=is_perpetual,
            funding_interval_hours=quotient(str(minutes), "60", places=_RATIO_PLACES) if minutes else None,
        ),
    ]


def parse_tickers(frame: Frame) -> list[RawEvent]:
    """Read ``/v5/market/tickers``: mark and index price, open interest of one side, funding. The time is the answer's."""
    time_us, page = _answer(_PAGE, frame)

    def read(raw: msgspec.Raw) -> list[RawEvent]:
        ticker = decode(_TICKER, raw)
        return [
            RawDerivatives(
                cause=frame.cause,
                venue=_venue(frame),
                symbol=ticker.symbol,
                event_time_us=time_us,
                mark_price=said(ticker.mark_price),
                index_price=said(ticker.index_price),
                open_interest_contracts=_single_side(ticker),
                funding_rate=said(ticker.funding_rate),
                funding_interval_hours=said(ticker.funding_interval_hour),
            ),
        ]

    return each(frame.cause, page.items, read)


def _single_side(ticker: _Ticker) -> str | None:
    if ticker.single_open_interest:
        return ticker.single_open_interest
    return product(ticker.open_interest, "0.5") if ticker.open_interest else None


def parse_long_short_ratio(frame: Frame) -> list[RawEvent]:
    """Read ``/v5/market/account-ratio``: the newest row; nothing where the venue has none."""
    _time_us, ratios = _answer(_RATIOS, frame)
    if not ratios.items:
        return []
    row = max(ratios.items, key=lambda item: int(item.timestamp))
    ratio = quotient(row.buy_ratio, row.sell_ratio, places=_RATIO_PLACES)
    return [RawDerivatives(frame.cause, _venue(frame), row.symbol, int(row.timestamp) * 1000, long_short_ratio=ratio)]


def parse_depth(frame: Frame) -> list[RawEvent]:
    """Read ``/v5/market/orderbook``."""
    _time_us, book = _answer(_BOOK, frame)
    return [RawBookDepth(frame.cause, _venue(frame), book.s, book.ts * 1000, book.b, book.a)]


def _venue(frame: Frame) -> str:
    return frame.feed.partition("/")[0]


def _answer(decoder: msgspec.json.Decoder[T], frame: Frame) -> tuple[int, T]:
    """Read a REST answer: when the venue made it, in microseconds, and its result."""
    answer = decode(_ANSWER, frame.payload)
    if answer.ret_code != 0:
        raise RefusedFrameError(f"{answer.ret_code}: {answer.ret_msg}")
    return answer.time * 1000, decode(decoder, answer.result)


@dataclass(frozen=True)
class Bybit:
    """Descriptions of one category's feeds."""

    category: Literal["linear", "inverse"]
    endpoints: Endpoints = Endpoints("https://api.bybit.com", "wss://stream.bybit.com")  # noqa: RUF009 - the default is frozen
    rate_limit: RateLimit = RateLimit(600, 5.0)  # noqa: RUF009 - the default is frozen

    @property
    def id(self) -> str:
        """As in the venue reference."""
        return f"bybit-{self.category}"

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel."""
        return _PARSERS

    def instrument_polls(self, endpoints: Endpoints) -> Sequence[PollFeed]:
        """Describe the first page of the list of contracts in trade."""
        url = address(endpoints.rest_url, "/v5/market/instruments-info", category=self.category, limit="1000")
        return (PollFeed(f"{self.id}/instruments", url, INSTRUMENTS_SECONDS),)

    def next_instrument_page(self, poll: PollFeed, payload: bytes) -> PollFeed | None:
        """Describe the page after the one that ``poll`` brought; None after the last, or when the payload is no page."""
        try:
            page = decode(_PAGE, decode(_ANSWER, payload).result)
        except FrameError:
            return None
        # Cursors come escaped (``first%3D…``), and the venue wants them back as they came.
        url = poll.url.partition(_CURSOR)[0] + _CURSOR + quote(page.next_page_cursor, safe="%")
        is_last = not page.next_page_cursor or url == poll.url
        return None if is_last else dataclasses.replace(poll, url=url)

    def websockets(self, endpoints: Endpoints, instruments: Sequence[RawInstrument]) -> Sequence[WebSocketFeed]:
        """Describe as many connections as it takes to subscribe every symbol; the venue has no topic for all."""
        topics = [_TOPIC + symbol for symbol in sorted({instrument.symbol for instrument in instruments})]
        url = f"{endpoints.websocket_url}/v5/public/{self.category}"
        keep_alive = KeepAlive('{"op":"ping"}', PING_SECONDS)
        return [
            WebSocketFeed(f"{self.id}/liquidations", str(number), url, tuple(_subscribe(group)), keep_alive)
            for number, group in enumerate(_groups(topics), start=1)
        ]

    def polls(self, endpoints: Endpoints, watched: Sequence[RawInstrument]) -> Sequence[PollFeed]:
        """Describe what is asked about the watched contracts; the venue has no account ratio of contracts in USDC."""
        feeds: list[PollFeed] = []
        for instrument in watched:
            feeds.append(self._one(endpoints, "tickers", "tickers", TICKERS_SECONDS, instrument))
            limit = str(DEPTH_LEVELS)
            feeds.append(self._one(endpoints, "depth", "orderbook", DEPTH_SECONDS, instrument, limit=limit))
            if instrument.quote != "USDC":
                query = {"period": "5min", "limit": "1"}
                feeds.append(self._one(endpoints, "long-short-ratio", "account-ratio", RATIO_SECONDS, instrument, **query))
        return feeds

    def _one(
        self, endpoints: Endpoints, channel: str, path: str, every_seconds: float, instrument: RawInstrument, **query: str
    ) -> PollFeed:
        symbol = instrument.symbol
        url = address(endpoints.rest_url, f"/v5/market/{path}", category=self.category, symbol=symbol, **query)
        return PollFeed(f"{self.id}/{channel}/{symbol}", url, every_seconds)


def _groups(topics: Sequence[str]) -> Iterator[list[str]]:
    """Yield the topics of one connection after the other, each within the venue's limit."""
    group: list[str] = []
    characters = 2  # the brackets
    for topic in topics:
        wanted = len(topic) + 3  # two quotes and a comma
        if group and characters + wanted >= MAX_ARGS_CHARACTERS:
            yield group
            group, characters = [], 2
        group.append(topic)
        characters += wanted
    if group:
        yield group


def _subscribe(topics: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(topics), MAX_TOPICS):
        yield msgspec.json.encode({"op": "subscribe", "args": topics[start : start + MAX_TOPICS]}).decode()


_PARSERS: Mapping[str, Parser] = {
    "liquidations": parse_liquidations,
    "instruments": parse_instruments,
    "tickers": parse_tickers,
    "long-short-ratio": parse_long_short_ratio,
    "depth": parse_depth,
}

BYBIT_LINEAR = Bybit("linear")
BYBIT_INVERSE = Bybit("inverse")
