"""Polled answers in coins and USD: open interest, funding, prices and the order book of one instrument.

Contracts and number texts are :mod:`market.contracts`'s; nothing is rounded before the last step.
"""

from __future__ import annotations

from decimal import Decimal

from market.contracts import EXACT, QUOTIENT, AbsurdValueError, Contract, not_negative, number, positive
from market.events import BookDepth, Derivatives
from market.raw import ContractKind, RawBookDepth, RawDerivatives

_MIN_AMOUNT = Decimal("1e-18")  # as small as a price may be
_MAX_FUNDING_RATE = Decimal(1)  # 100 % per interval; venues cap it at 4 % or less
_DISTANCES = (Decimal("0.005"), Decimal("0.01"), Decimal("0.02"))  # of the mid price, in the order of BookDepth
_EIGHT = Decimal(8)  # hours
_ANY = Decimal(1)  # stands for a price that the formula of that kind does not read

Levels = list[tuple[Decimal, Decimal]]
"""Price per unit and USD, best first."""


def measure_derivatives(
    raw: RawDerivatives,
    contract: Contract,
    *,
    event_time_us: int,
    last_mark: float | None = None,
    last_interval_hours: float | None = None,
    settlement_usd: float | None = None,
) -> Derivatives:
    """Return a poll's answer in coins and USD.

    Open interest is taken from coins, else contracts, else USD; the other unit follows with the mark price, and stays
    ``None`` without one. A funding rate's interval is the message's, else the last message's, else the contract's;
    without any the 8-hour rate stays ``None``.

    Args:
        raw: As parsed.
        contract: Of that symbol.
        event_time_us: The venue's clock, clamped.
        last_mark: USD per coin, for messages without a mark price.
        last_interval_hours: Of an earlier message.
        settlement_usd: USD per unit of the settlement currency; only quanto needs it.

    Raises:
        AbsurdValueError: A value that is no number, or outside what it can be.
        UnsupportedContractError: Open interest in contracts of a quanto without ``settlement_usd``.
    """
    mark = _price_per_coin(raw.mark_price, "mark price", contract)
    reference = mark if mark is not None else _from_float(last_mark)
    base, usd = _open_interest(raw, contract, reference, settlement_usd)
    rate = _funding_rate(raw.funding_rate)
    interval = _positive_or_none(raw.funding_interval_hours, "funding interval")
    if interval is None and rate is not None:
        interval = _from_float(last_interval_hours or contract.funding_interval_hours)
    return Derivatives(
        cause=raw.cause,
        venue=raw.venue,
        symbol=raw.symbol,
        asset=contract.asset,
        event_time_us=event_time_us,
        mark_price=_to_float(mark),
        index_price=_to_float(_price_per_coin(raw.index_price, "index price", contract)),
        open_interest_base=_to_float(base),
        open_interest_usd=_to_float(usd),
        funding_rate=_to_float(rate),
        funding_interval_hours=_to_float(interval),
        funding_rate_8h=None
        if rate is None or interval is None
        else float(QUOTIENT.divide(EXACT.multiply(rate, _EIGHT), interval)),
        long_short_ratio=_to_float(_positive_or_none(raw.long_short_ratio, "long/short ratio")),
    )


def _open_interest(
    raw: RawDerivatives, contract: Contract, mark: Decimal | None, settlement_usd: float | None
) -> tuple[Decimal | None, Decimal | None]:
    """Return open interest in coins and in USD; ``mark`` is USD per coin."""
    coins = usd = None
    if raw.open_interest_usd is not None:
        usd = _amount(raw.open_interest_usd, "open interest in USD")
    if raw.open_interest_base is not None:
        coins = EXACT.multiply(_amount(raw.open_interest_base, "open interest in units"), Decimal(contract.multiplier))
    elif raw.open_interest_contracts is not None:
        contracts = _amount(raw.open_interest_contracts, "open interest in contracts")
        if contract.kind is ContractKind.LINEAR:
            coins = contract.coins(_ANY, contracts, _ANY)
        elif usd is None and (mark is not None or contract.kind is ContractKind.INVERSE):
            per_unit = _ANY if mark is None else EXACT.multiply(mark, Decimal(contract.multiplier))
            usd = contract.notional(per_unit, contracts, settlement_usd)
    if mark is not None:
        coins = QUOTIENT.divide(usd, mark) if coins is None and usd is not None else coins
        usd = EXACT.multiply(coins, mark) if usd is None and coins is not None else usd
    return coins, usd


def _amount(text: str, what: str) -> Decimal:
    """Read what may be nothing, but not next to nothing: a change from there would be beyond any float."""
    value = not_negative(text, what)
    if 0 < value <= _MIN_AMOUNT:
        raise AbsurdValueError(f"{what} is absurdly small: {text}")
    return value


def _price_per_coin(text: str | None, what: str, contract: Contract) -> Decimal | None:
    return None if text is None else contract.per_coin(positive(text, what))


def _positive_or_none(text: str | None, what: str) -> Decimal | None:
    return None if text is None else positive(text, what)


def _funding_rate(text: str | None) -> Decimal | None:
    if text is None:
        return None
    rate = number(text, "funding rate")
    if abs(rate) > _MAX_FUNDING_RATE:
        raise AbsurdValueError(f"funding rate is absurdly large: {text} is a fraction per interval")
    return rate


def _from_float(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(repr(value))


def _to_float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def measure_book(
    raw: RawBookDepth, contract: Contract, *, event_time_us: int, settlement_usd: float | None = None
) -> BookDepth:
    """Return what rests within 0.5, 1 and 2 % of the mid price, in USD; ``None`` beyond the deepest level.

    Raises:
        AbsurdValueError: A side is empty, the book is crossed or not sorted, or a level is no number.
        UnsupportedContractError: Quanto without ``settlement_usd``.
    """
    if not raw.bids or not raw.asks:
        raise AbsurdValueError("a side of the book is empty")
    bids = _levels(raw.bids, contract, settlement_usd, sign=-1)
    asks = _levels(raw.asks, contract, settlement_usd, sign=1)
    best_bid, best_ask = bids[0][0], asks[0][0]
    if best_bid >= best_ask:
        raise AbsurdValueError(f"the book is crossed: bid {best_bid}, ask {best_ask}")
    mid = (best_bid + best_ask) / 2
    bid_usd = [_usd_within(bids, mid * (1 - distance), sign=-1) for distance in _DISTANCES]
    ask_usd = [_usd_within(asks, mid * (1 + distance), sign=1) for distance in _DISTANCES]
    return BookDepth(
        raw.cause,
        raw.venue,
        raw.symbol,
        contract.asset,
        event_time_us,
        float(contract.per_coin(mid)),
        float((best_ask - best_bid) / mid * 10_000),
        *bid_usd,
        *ask_usd,
    )


def _levels(texts: tuple[tuple[str, str], ...], contract: Contract, settlement_usd: float | None, *, sign: int) -> Levels:
    """Read one side; ``sign`` is 1 where prices rise away from the best (asks), −1 where they fall."""
    levels: Levels = []
    for price_text, quantity_text in texts:
        price = positive(price_text, "price")
        if levels and (price - levels[-1][0]) * sign <= 0:
            raise AbsurdValueError(f"the book is not sorted: {price_text} after {levels[-1][0]}")
        levels.append((price, contract.notional(price, not_negative(quantity_text, "quantity"), settlement_usd)))
    return levels


def _usd_within(levels: Levels, bound: Decimal, *, sign: int) -> float | None:
    """Sum the levels up to ``bound``, inclusive; ``None`` when the deepest does not reach it."""
    if (levels[-1][0] - bound) * sign < 0:
        return None
    return float(sum(usd for price, usd in levels if (price - bound) * sign <= 0))
