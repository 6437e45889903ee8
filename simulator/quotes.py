"""What a venue's REST interface says of an instrument at this moment, in numbers; each venue prints them its own way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from simulator.instruments import Instrument
from simulator.market import Market

_HOUR_MS = 3_600_000
_LEVEL_SPACING = 0.00005  # of the price: 500 levels reach 2.5 %
_BASE_RATE = 0.0001  # funding per 8 h when both sides are alike
_CROWD_RATE = 0.0006  # more per unit of the logarithm of longs per short
_RATE_CAP = 0.003
_MINUTES_5_MS = 300_000


@dataclass(frozen=True)
class Quote:
    """One instrument now.

    Attributes:
        open_interest: Contracts, one side.
        open_interest_coins: Coins in the venue's own unit (``1000PEPE``), one side.
        open_interest_usd: USD, one side.
        funding_rate: Fraction per ``funding_hours``; positive: longs pay.
        next_funding_ms: 0 for a dated future.
    """

    instrument: Instrument
    mark_price: float
    index_price: float
    bid_ticks: int
    ask_ticks: int
    open_interest: Decimal
    open_interest_coins: float
    open_interest_usd: float
    funding_rate: float
    next_funding_ms: int
    long_short_ratio: float

    @property
    def funding_hours(self) -> int:
        """Hours between two payments."""
        return self.instrument.funding_hours


@dataclass(frozen=True)
class Book:
    """Levels, best first: price in ticks and quantity in lots."""

    bids: Sequence[tuple[int, int]]
    asks: Sequence[tuple[int, int]]


class Quotes:
    """Reads the market for the venues."""

    def __init__(self, market: Market, seed: int) -> None:
        """Read this market; ``seed`` varies the sizes of the book's levels."""
        self._market = market
        self._seed = seed
        self._index = {(instrument.venue, instrument.symbol): n for n, instrument in enumerate(market.instruments)}

    def instruments(self, venue: str) -> list[Instrument]:
        """Return the venue's instruments."""
        return [instrument for instrument in self._market.instruments if instrument.venue == venue]

    def find(self, venue: str, symbol: str) -> Instrument | None:
        """Return the instrument, or nothing when the venue does not list it."""
        index = self._index.get((venue, symbol))
        return None if index is None else self._market.instruments[index]

    def quote(self, instrument: Instrument, now_ms: int) -> Quote:
        """Return the instrument's figures."""
        index = self._index[instrument.venue, instrument.symbol]
        mark = self._market.mark_price(index)
        bid_ticks, ask_ticks = _best(self._market.mid_price(index), float(instrument.tick))
        contracts = self._market.open_interest_lots(index) * instrument.lot
        face = float(contracts * instrument.contract_size)
        ratio = self._market.long_short_ratio(index)
        interval_ms = instrument.funding_hours * _HOUR_MS
        return Quote(
            instrument=instrument,
            mark_price=mark,
            index_price=self._market.index_price(index),
            bid_ticks=bid_ticks,
            ask_ticks=ask_ticks,
            open_interest=contracts,
            open_interest_coins=face / mark if instrument.is_inverse else face,
            open_interest_usd=face if instrument.is_inverse else face * mark,
            funding_rate=_funding_rate(ratio, instrument.funding_hours) if instrument.is_perpetual else 0.0,
            next_funding_ms=(now_ms // interval_ms + 1) * interval_ms if instrument.is_perpetual else 0,
            long_short_ratio=ratio,
        )

    def book(self, instrument: Instrument, levels: int) -> Book:
        """Return the best levels of both sides."""
        index = self._index[instrument.venue, instrument.symbol]
        tick = float(instrument.tick)
        mid = self._market.mid_price(index)
        spacing = max(1, round(mid * _LEVEL_SPACING / tick))
        best_bid, best_ask = _best(mid, tick)
        levels = min(levels, 1 + (best_bid - 1) // spacing)
        bid_depth, ask_depth = self._market.shown_depth(index)
        usd_per_depth = spacing * tick / mid
        noise = np.random.default_rng([self._seed, index, self._market.steps // 25]).uniform(0.5, 1.5, (2, levels))
        contract_usd = float(instrument.lot * instrument.contract_size) * (1.0 if instrument.is_inverse else mid)
        lots = np.maximum(np.rint(noise * [[bid_depth], [ask_depth]] * (usd_per_depth / contract_usd)), 1).astype(int).tolist()
        return Book(
            bids=[(best_bid - level * spacing, quantity) for level, quantity in enumerate(lots[0])],
            asks=[(best_ask + level * spacing, quantity) for level, quantity in enumerate(lots[1])],
        )


def five_minutes(now_ms: int, count: int) -> list[int]:
    """Return the latest full five minutes, newest first."""
    latest = now_ms // _MINUTES_5_MS * _MINUTES_5_MS
    return [latest - number * _MINUTES_5_MS for number in range(count)]


def _best(mid: float, tick: float) -> tuple[int, int]:
    """Return best bid and ask in ticks: one tick apart around the mid price."""
    bid = max(1, math.floor(mid / tick - 0.5))
    return bid, bid + 1


def _funding_rate(ratio: float, hours: int) -> float:
    """Return what the crowded side pays: more, the more one-sided the accounts are."""
    rate = _BASE_RATE + _CROWD_RATE * math.log(ratio)
    return min(max(rate, -_RATE_CAP), _RATE_CAP) * hours / 8
