"""Bitcoin's past as a seeded series: block heights, difficulty by epoch, and a price that wanders about its production cost.

Halving days and the course of difficulty are roughly the real ones; everything else is drawn. The price follows
ln(market cap) = 10.3 + 0.522·ln(difficulty), which is about what a regression over the real years gives, plus a residual that
wanders, so that whoever fits a line to it finds one.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

FIRST_DAY = date(2010, 7, 18)
DAY_SECONDS = 86_400
EPOCH_BLOCKS = 2_016
BLOCK_SECONDS = 600
HALVING_BLOCKS = 210_000

INTERCEPT, SLOPE = 10.3, 0.522
_RESIDUAL_DEVIATION = 0.55
_RESIDUAL_DAYS = 300.0  # the residual forgets itself in this time
_BRIDGE_DAYS = 730  # over so many last days the price is led to where the market is
_EPOCH_NOISE = 0.02  # of the logarithm of difficulty
_GROWTH_PER_YEAR = 0.2  # of the logarithm of difficulty, after the last known point
_MEAN_FEES_BTC = 0.04

_HEIGHTS = (  # (unix seconds, height): the first day, then the halvings
    (1_279_411_200, 68_900),
    (1_354_116_278, 210_000),
    (1_468_082_773, 420_000),
    (1_589_225_023, 630_000),
    (1_713_571_767, 840_000),
)
_DIFFICULTIES = (  # (day, difficulty), rounded
    (date(2010, 7, 18), 1.8e2),
    (date(2011, 6, 8), 5.7e5),
    (date(2012, 11, 28), 3.4e6),
    (date(2013, 11, 30), 7.1e8),
    (date(2015, 1, 14), 4.4e10),
    (date(2016, 7, 9), 2.1e11),
    (date(2017, 12, 17), 1.6e12),
    (date(2018, 12, 15), 5.6e12),
    (date(2020, 5, 11), 1.6e13),
    (date(2021, 4, 14), 2.3e13),
    (date(2022, 11, 21), 3.7e13),
    (date(2024, 4, 20), 8.6e13),
    (date(2025, 10, 6), 1.5e14),
)


@dataclass(frozen=True)
class Day:
    """One day. ``difficulty`` is the mean over its 24 hours, so that the day of an adjustment is a blend."""

    date: date
    price_usd: float
    difficulty: float


@dataclass(frozen=True)
class Adjustment:
    """The difficulty from a block on. ``ratio`` is to the one before."""

    time_s: int
    height: int
    difficulty: float
    ratio: float


class BitcoinHistory:
    """Everything up to the end of one day."""

    def __init__(self, seed: int, today: date, *, known_price: tuple[date, float] | None = None) -> None:
        """Draw the series. A later ``today`` adds days and changes none.

        Args:
            seed: Decides everything.
            today: Last day.
            known_price: A day, and the price in USD to which the series is led by then.
        """
        self._seed = seed
        end_s = seconds_of(today) + DAY_SECONDS
        first_epoch = math.ceil(height_at(seconds_of(FIRST_DAY)) / EPOCH_BLOCKS) - 1  # the epoch that the first day lies in
        last_epoch = math.floor(height_at(end_s)) // EPOCH_BLOCKS
        self.adjustments = self._draw_adjustments(first_epoch, last_epoch)
        self._adjustment_times = [adjustment.time_s for adjustment in self.adjustments]
        self.days = self._draw_days(today, known_price)

    def difficulty_at(self, time_s: float) -> float:
        """Return the difficulty in force."""
        return self.adjustments[max(0, bisect.bisect_right(self._adjustment_times, time_s) - 1)].difficulty

    def price_at(self, time_s: float) -> float:
        """Return the price, between the closes of the day before and of the day; the first close before it."""
        place = (time_s - seconds_of(FIRST_DAY)) / DAY_SECONDS - 1.0
        before = min(max(math.floor(place), 0), len(self.days) - 1)
        after = min(before + 1, len(self.days) - 1)
        share = min(max(place - before, 0.0), 1.0)
        return math.exp(
            math.log(self.days[before].price_usd) * (1 - share) + math.log(self.days[after].price_usd) * share,
        )

    def fees_satoshi(self, height: int) -> int:
        """Return one block's transaction fees."""
        rng = random.Random(f"{self._seed}:fees:{height}")
        return round(_MEAN_FEES_BTC * math.exp(rng.gauss(0.0, 0.5)) * 1e8)

    def _draw_adjustments(self, first_epoch: int, last_epoch: int) -> list[Adjustment]:
        rng = random.Random(f"{self._seed}:difficulty")
        adjustments: list[Adjustment] = []
        noise = 0.0
        for epoch in range(first_epoch, last_epoch + 1):
            time_s = round(time_of(epoch * EPOCH_BLOCKS))
            noise = 0.8 * noise + rng.gauss(0.0, _EPOCH_NOISE)
            difficulty = math.exp(_trend(time_s) + noise)
            ratio = difficulty / adjustments[-1].difficulty if adjustments else 1.0
            adjustments.append(Adjustment(time_s, epoch * EPOCH_BLOCKS, difficulty, ratio))
        return adjustments

    def _draw_days(self, today: date, known_price: tuple[date, float] | None) -> list[Day]:
        rng = random.Random(f"{self._seed}:price")
        keep = math.exp(-1.0 / _RESIDUAL_DAYS)
        residual = rng.gauss(0.0, _RESIDUAL_DEVIATION)
        days: list[Day] = []
        for number in range((today - FIRST_DAY).days + 1):
            day = FIRST_DAY + timedelta(days=number)
            begin = seconds_of(day)
            capitalisation = INTERCEPT + SLOPE * _trend(begin + DAY_SECONDS)
            price = math.exp(capitalisation + residual) / supply(height_at(begin + DAY_SECONDS))
            days.append(Day(day, price, self._mean_difficulty(begin)))
            residual = keep * residual + rng.gauss(0.0, _RESIDUAL_DEVIATION * math.sqrt(1.0 - keep * keep))
        return days if known_price is None else _led_to(days, *known_price)

    def _mean_difficulty(self, begin_s: int) -> float:
        end_s = begin_s + DAY_SECONDS
        first, last = (bisect.bisect_right(self._adjustment_times, time_s) for time_s in (begin_s, end_s - 1))
        edges = [begin_s, *self._adjustment_times[first:last], end_s]
        return sum(self.difficulty_at(a) * (b - a) for a, b in itertools.pairwise(edges)) / DAY_SECONDS


@functools.lru_cache(maxsize=4)
def drawn(seed: int, today: date, known_price: tuple[date, float] | None) -> BitcoinHistory:
    """Return the history, which takes a third of a second to draw; the same one for the same arguments."""
    return BitcoinHistory(seed, today, known_price=known_price)


def seconds_of(day: date) -> int:
    """Return a day's beginning in unix seconds."""
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())


def height_at(time_s: float) -> float:
    """Return the chain's height, with its fraction: on a straight line between halvings, then a block in ten minutes."""
    for (time_0, height_0), (time_1, height_1) in itertools.pairwise(_HEIGHTS):
        if time_s < time_1:
            return height_0 + (height_1 - height_0) * (time_s - time_0) / (time_1 - time_0)
    time_0, height_0 = _HEIGHTS[-1]
    return height_0 + (time_s - time_0) / BLOCK_SECONDS


def time_of(height: float) -> float:
    """Return when the chain reaches a height: the inverse of :func:`height_at`."""
    for (time_0, height_0), (time_1, height_1) in itertools.pairwise(_HEIGHTS):
        if height < height_1:
            return time_0 + (time_1 - time_0) * (height - height_0) / (height_1 - height_0)
    time_0, height_0 = _HEIGHTS[-1]
    return time_0 + (height - height_0) * BLOCK_SECONDS


def subsidy(height: int) -> float:
    """Return a block's new coins, in BTC."""
    return math.ldexp(50.0, -(height // HALVING_BLOCKS))


def supply(height: float) -> float:
    """Return all coins mined up to a height, in BTC."""
    halvings = int(height // HALVING_BLOCKS)
    whole = sum(HALVING_BLOCKS * subsidy(number * HALVING_BLOCKS) for number in range(halvings))
    return whole + (height - halvings * HALVING_BLOCKS) * subsidy(int(height))


_TRENDS = tuple((seconds_of(day), math.log(difficulty)) for day, difficulty in _DIFFICULTIES)


def _trend(time_s: float) -> float:
    """Return the logarithm of difficulty without noise."""
    for (begin, trend_0), (end, trend_1) in itertools.pairwise(_TRENDS):
        if time_s < end:
            return trend_0 + (trend_1 - trend_0) * (time_s - begin) / (end - begin)
    begin, trend_0 = _TRENDS[-1]
    return trend_0 + _GROWTH_PER_YEAR * (time_s - begin) / (365.25 * DAY_SECONDS)


def _led_to(days: list[Day], known_day: date, known_price_usd: float) -> list[Day]:
    """Bend the price so that it is the known one on that day, beginning two years before, and keep the bend after it."""
    known = (known_day - FIRST_DAY).days
    missing = math.log(known_price_usd / days[known].price_usd)
    return [
        Day(day.date, day.price_usd * math.exp(missing * _share_of_bend(number - known)), day.difficulty)
        for number, day in enumerate(days)
    ]


def _share_of_bend(days_after: int) -> float:
    return min(max(1.0 + days_after / _BRIDGE_DAYS, 0.0), 1.0)
