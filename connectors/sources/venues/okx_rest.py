"""OKX's REST answers. Docs: the vendor's v5 pages, Public Data, Market Data, Trading Statistics.

Quantities are contracts (they may be fractional), whose size is ``ctVal`` × ``ctMult``: coins for linear contracts, US dollars
for inverse ones. Every parser raises what :func:`parse_instruments` lists.
"""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import msgspec

from connectors.sources.frame import Frame, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.digits import product, quotient
from connectors.sources.venues.wire import MillisText, MillisTextOrEmpty, decode, each, said, subject_of
from market.raw import Cause, ContractKind, RawBookDepth, RawDerivatives, RawEvent, RawInstrument

T = TypeVar("T")

VENUE_ID = "okx"

_MILLIS_PER_HOUR = "3600000"
_HOUR_PLACES = 6

_IS_PERPETUAL = {"SWAP": True, "FUTURES": False}
_KIND = {"linear": ContractKind.LINEAR, "inverse": ContractKind.INVERSE}

INSTRUMENT_TYPES = tuple(_IS_PERPETUAL)

# Nobody has a position in these yet.
_STATES_WITHOUT_POSITIONS = frozenset({"preopen", "test"})


class _Answer(msgspec.Struct):
    """Every REST answer. ``data`` is empty when ``code`` is not 0."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class _Instrument(msgspec.Struct, rename="camel"):
    """``inst_family`` is base and quote, with a mark such as ``_UM`` where several margins share an index."""

    inst_id: str
    inst_type: str
    inst_family: str
    ct_type: str
    ct_val: str
    ct_mult: str
    ct_val_ccy: str
    settle_ccy: str
    state: str


class _MarkPrice(msgspec.Struct, rename="camel"):
    inst_id: str
    mark_px: str
    ts: MillisText


class _IndexPrice(msgspec.Struct, rename="camel"):
    idx_px: str
    ts: MillisText


class _FundingRate(msgspec.Struct, rename="camel"):
    """``funding_rate`` is to be paid at ``funding_time``, for the time since ``prev_funding_time``."""

    inst_id: str
    funding_rate: str
    ts: MillisText
    funding_time: MillisTextOrEmpty = ""
    next_funding_time: MillisTextOrEmpty = ""
    prev_funding_time: MillisTextOrEmpty = ""


class _OpenInterest(msgspec.Struct, rename="camel"):
    inst_id: str
    oi: str
    ts: MillisText


class _Ratio(msgspec.Struct, array_like=True):
    ts: MillisText
    ratio: str


class _Level(msgspec.Struct, array_like=True):
    """Followed by a zero and the number of orders, which nobody needs."""

    price: str
    contract_quantity: str


class _Book(msgspec.Struct):
    bids: list[_Level]
    asks: list[_Level]
    ts: MillisText


_ANSWER = msgspec.json.Decoder(_Answer)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_INSTRUMENT = msgspec.json.Decoder(_Instrument)
_MARK_PRICE = msgspec.json.Decoder(_MarkPrice)
_INDEX_PRICES = msgspec.json.Decoder(list[_IndexPrice])
_FUNDING_RATE = msgspec.json.Decoder(_FundingRate)
_OPEN_INTEREST = msgspec.json.Decoder(_OpenInterest)
_RATIOS = msgspec.json.Decoder(list[_Ratio])
_BOOKS = msgspec.json.Decoder(list[_Book])


def is_perpetual(instrument_type: str, symbol: str) -> bool:
    """Return False for a dated future.

    Raises:
        UnknownFrameError: Neither that nor a swap.
    """
    if instrument_type not in _IS_PERPETUAL:
        raise UnknownFrameError(f"instrument type {instrument_type!r} of {symbol}")
    return _IS_PERPETUAL[instrument_type]


def parse_instruments(frame: Frame) -> list[RawEvent]:
    """Read ``/api/v5/public/instruments`` of one instrument type: every contract in which somebody may have a position.

    Raises:
        MalformedFrameError: Not OKX's JSON.
        UnknownFrameError: Nothing but unknown types.
        RefusedFrameError: The request failed.
    """
    return each(frame.cause, _items(frame), partial(_read_instrument, frame.cause))


def _read_instrument(cause: Cause, raw: msgspec.Raw) -> list[RawEvent]:
    contract = decode(_INSTRUMENT, raw)
    if contract.state in _STATES_WITHOUT_POSITIONS:
        return []
    kind = _KIND.get(contract.ct_type)
    if kind is None:
        raise UnknownFrameError(f"contract type {contract.ct_type!r} of {contract.inst_id}")
    family_base, _, quote_and_mark = contract.inst_family.partition("-")
    quote = quote_and_mark.partition("_")[0]
    _refuse_unknown_unit(contract, kind, quote)
    return [
        RawInstrument(
            cause=cause,
            venue=VENUE_ID,
            symbol=contract.inst_id,
            base=contract.ct_val_ccy if kind is ContractKind.LINEAR else family_base,
            quote=quote,
            settle=contract.settle_ccy,
            kind=kind,
            contract_size=contract.ct_val if contract.ct_mult == "1" else product(contract.ct_val, contract.ct_mult),
            is_perpetual=is_perpetual(contract.inst_type, contract.inst_id),
        ),
    ]


def _refuse_unknown_unit(contract: _Instrument, kind: ContractKind, quote: str) -> None:
    """Refuse a contract that counts something else than coins (linear) or US dollars (inverse)."""
    unit = contract.ct_val_ccy
    is_known = unit not in {"", quote} if kind is ContractKind.LINEAR else unit == "USD"
    if not is_known:
        raise UnknownFrameError(f"{contract.ct_type} contract counted in {unit!r}: {contract.inst_id}")


def parse_mark_price(frame: Frame) -> list[RawEvent]:
    """Read ``/api/v5/public/mark-price``."""

    def read(raw: msgspec.Raw) -> list[RawEvent]:
        row = decode(_MARK_PRICE, raw)
        return [RawDerivatives(frame.cause, VENUE_ID, row.inst_id, int(row.ts) * 1000, mark_price=said(row.mark_px))]

    return each(frame.cause, _items(frame), read)


def parse_index_price(frame: Frame) -> list[RawEvent]:
    """Read ``/api/v5/market/index-tickers``. The answer names the index; the contract that it was asked for is the feed's."""
    symbol = subject_of(frame)
    rows = _answer(_INDEX_PRICES, frame)
    return [RawDerivatives(frame.cause, VENUE_ID, symbol, int(row.ts) * 1000, index_price=said(row.idx_px)) for row in rows]


def parse_funding_rate(frame: Frame) -> list[RawEvent]:
    """Read ``/api/v5/public/funding-rate``: the rate of the running interval, and how long that is."""

    def read(raw: msgspec.Raw) -> list[RawEvent]:
        row = decode(_FUNDING_RATE, raw)
        return [
            RawDerivatives(
                cause=frame.cause,
                venue=VENUE_ID,
                symbol=row.inst_id,
                event_time_us=int(row.ts) * 1000,
                funding_rate=said(row.funding_rate),
                funding_interval_hours=_interval_hours(row),
            ),
        ]

    return each(frame.cause, _items(frame), read)


def _interval_hours(row: _FundingRate) -> str | None:
    """Return None where the venue leaves the times empty, as it does for a contract that is not funded yet."""
    begin, end = row.prev_funding_time, row.funding_time
    if not begin:
        begin, end = row.funding_time, row.next_funding_time
    if not begin or not end or int(end) <= int(begin):
        return None
    return quotient(str(int(end) - int(begin)), _MILLIS_PER_HOUR, places=_HOUR_PLACES)


def parse_open_interest(frame: Frame) -> list[RawEvent]:
    """Read ``/api/v5/public/open-interest``: one side, in contracts."""

    def read(raw: msgspec.Raw) -> list[RawEvent]:
        row = decode(_OPEN_INTEREST, raw)
        contracts = said(row.oi)
        return [RawDerivatives(frame.cause, VENUE_ID, row.inst_id, int(row.ts) * 1000, open_interest_contracts=contracts)]

    return each(frame.cause, _items(frame), read)


def parse_long_short_ratio(frame: Frame) -> list[RawEvent]:
    """Read ``…/long-short-account-ratio-contract``: the newest row. The answer does not name its symbol: the feed does."""
    symbol = subject_of(frame)
    rows = _answer(_RATIOS, frame)
    if not rows:
        return []
    row = max(rows, key=lambda item: int(item.ts))
    return [RawDerivatives(frame.cause, VENUE_ID, symbol, int(row.ts) * 1000, long_short_ratio=row.ratio)]


def parse_depth(frame: Frame) -> list[RawEvent]:
    """Read ``/api/v5/market/books``. The answer does not name its symbol: the feed does."""
    symbol = subject_of(frame)
    books = _answer(_BOOKS, frame)
    return [
        RawBookDepth(frame.cause, VENUE_ID, symbol, int(book.ts) * 1000, _levels(book.bids), _levels(book.asks))
        for book in books
    ]


def _levels(levels: list[_Level]) -> tuple[tuple[str, str], ...]:
    return tuple((level.price, level.contract_quantity) for level in levels)


def _items(frame: Frame) -> list[msgspec.Raw]:
    return _answer(_ITEMS, frame)


def _answer(decoder: msgspec.json.Decoder[T], frame: Frame) -> T:
    answer = decode(_ANSWER, frame.payload)
    if answer.code != "0":
        raise RefusedFrameError(f"{answer.code}: {answer.msg}")
    return decode(decoder, answer.data)
