"""Difficulty Multiple: spot divided by the production cost that a regression on difficulty models (scores §6).

Every fit is past-only: what is said of a day comes from that day and earlier ones. A fit includes the day it speaks of.

Logarithms are kept as integers in steps of 2⁻⁴⁰, so sums are exact: adding a day costs the same on the first day and on the
six-thousandth, leaving the rolling window takes away exactly what entered, and the order of arithmetic cannot matter.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

import msgspec

from market.events import DifficultyFit, MinerStatus
from market.hashprice import block_height, day_number, day_text, supply_btc

EXPANDING = "expanding"
ROLLING_3Y = "rolling_3y"
GLASSNODE_2022 = "glassnode_2022"

ROLLING_DAYS = 1096
"""Three calendar years, one of them a leap year: the day itself and the 1,095 before it."""

_GLASSNODE_INTERCEPT = 10.2560  # on market cap; Glassnode's Difficulty Regression Model of September 2022
_GLASSNODE_SLOPE = 0.5250

# Below this a regression says nothing yet: a month is two or three changes of difficulty. A fit over "3 years" of a series
# that is younger, or weekly in parts as mempool.space's early prices are, says so by its first day and its number of days.
_MIN_DAYS = 30

_MAX_LOG = 300.0
"""Of what a line models, in either direction: 130 digits, which a float still holds with any price above or below it."""

_MAX_VALUE = 1e18
"""Of a price or a difficulty; the same limit as for every number from outside."""

_LOSS_BELOW = 1.0
_COMFORT_ABOVE = 1.5

_STEP = 1 << 40
"""Steps per unit of logarithm: a rounding of 10⁻¹², far below the data's own error."""


def miner_status(multiple: float) -> MinerStatus:
    """Say what a multiple means: below 1.0 a loss, above 1.5 comfort, watch from one to the other, both included.

    The bare threshold is weak: below 1.0 held in more than half of all weeks since 2014. Show the percentile with it.
    """
    if multiple < _LOSS_BELOW:
        return MinerStatus.SELLING_AT_A_LOSS
    return MinerStatus.COMFORTABLE if multiple > _COMFORT_ABOVE else MinerStatus.WATCH


class DifficultyReading(msgspec.Struct, frozen=True):
    """One day and what its fits say of it; ``fits`` by name."""

    day: str
    price_usd: float
    difficulty: float
    fits: dict[str, DifficultyFit]


class _Sums:
    """Exact sums of points (x, y), in steps."""

    __slots__ = ("n", "x", "xx", "xy", "y", "yy")

    def __init__(self) -> None:
        self.n = self.x = self.y = self.xx = self.xy = self.yy = 0

    def copy(self) -> _Sums:
        other = _Sums()
        other.n, other.x, other.y, other.xx, other.xy, other.yy = self.n, self.x, self.y, self.xx, self.xy, self.yy
        return other

    def add(self, x: int, y: int, sign: int = 1) -> None:
        """Let a point in, or with a ``sign`` of −1 out."""
        self.n += sign
        self.x += sign * x
        self.y += sign * y
        self.xx += sign * x * x
        self.xy += sign * x * y
        self.yy += sign * y * y

    def line(self) -> tuple[float, float] | None:
        """Return intercept and slope of least squares, or ``None`` when all x are the same."""
        spread = self.n * self.xx - self.x * self.x
        if spread == 0:
            return None
        slope = (self.n * self.xy - self.x * self.y) / spread
        return (self.y / self.n - slope * (self.x / self.n)) / _STEP, slope

    def r_squared(self, intercept: float, slope: float) -> float | None:
        """Return 1 − residual ÷ total squares of any line; ``None`` when all y are the same."""
        area = self.n * _STEP * _STEP
        total = (self.n * self.yy - self.y * self.y) / area
        if total == 0:
            return None
        spread = (self.n * self.xx - self.x * self.x) / area
        shared = (self.n * self.xy - self.x * self.y) / area
        offset = self.y / self.n / _STEP - intercept - slope * (self.x / self.n / _STEP)
        residual = total - 2 * slope * shared + slope * slope * spread + self.n * offset * offset
        return 1 - residual / total


class _Line(msgspec.Struct):
    """A fit as of the newest day."""

    intercept: float
    slope: float
    modelled_price: float
    multiple: float


class DifficultyModel:
    """The three fits, day after day; memory grows by three numbers a day and the rolling window is bounded."""

    def __init__(self) -> None:
        """Start without a day."""
        self._by_market_cap = _Sums()
        self._by_price = _Sums()
        self._window: deque[tuple[int, int, int]] = deque()
        self._first_number = 0
        self._last_number = -1
        self._price_usd = 0.0
        self._difficulty = 0.0
        self._lines: dict[str, _Line] = {}
        self._past_multiples: dict[str, list[float]] = {EXPANDING: [], ROLLING_3Y: [], GLASSNODE_2022: []}

    @property
    def days(self) -> int:
        """How many days have entered."""
        return self._by_market_cap.n

    def copy(self) -> DifficultyModel:
        """Return a model that goes on from here by itself."""
        other = DifficultyModel()
        other._by_market_cap = self._by_market_cap.copy()
        other._by_price = self._by_price.copy()
        other._window = self._window.copy()
        other._first_number, other._last_number = self._first_number, self._last_number
        other._price_usd, other._difficulty = self._price_usd, self._difficulty
        other._lines = self._lines
        other._past_multiples = {name: multiples.copy() for name, multiples in self._past_multiples.items()}
        return other

    def add(self, number: int, price_usd: float, difficulty: float) -> None:
        """Let a day enter (:func:`market.hashprice.day_number`); price and difficulty are above zero.

        Raises:
            ValueError: Not later than the day before, or before the first block.
        """
        if self.days and number <= self._last_number:
            raise ValueError(f"{day_text(number)} does not come after {day_text(self._last_number)}")
        supply = supply_btc(block_height(number))
        for name, line in self._lines.items():
            insort(self._past_multiples[name], line.multiple)
        if not self.days:
            self._first_number = number
        self._last_number, self._price_usd, self._difficulty = number, price_usd, difficulty
        x = _steps(difficulty)
        self._by_market_cap.add(x, _steps(price_usd * supply))
        self._roll(number, x, _steps(price_usd))
        self._lines = self._draw(supply)

    def _roll(self, number: int, x: int, y: int) -> None:
        self._window.append((number, x, y))
        self._by_price.add(x, y)
        while self._window[0][0] <= number - ROLLING_DAYS:
            _, old_x, old_y = self._window.popleft()
            self._by_price.add(old_x, old_y, sign=-1)

    def _draw(self, supply: float) -> dict[str, _Line]:
        lines = {GLASSNODE_2022: self._line(_GLASSNODE_INTERCEPT, _GLASSNODE_SLOPE, supply)}
        expanding = self._by_market_cap.line() if self.days >= _MIN_DAYS else None
        if expanding is not None:
            lines[EXPANDING] = self._line(*expanding, supply)
        rolling = self._by_price.line() if self._by_price.n >= _MIN_DAYS else None
        if rolling is not None:
            lines[ROLLING_3Y] = self._line(*rolling, 1.0)
        return {name: line for name, line in lines.items() if line is not None}

    def _line(self, intercept: float, slope: float, supply: float) -> _Line | None:
        """Return ``None`` for a line so steep that its price is absurd: as good as one difficulty, prices far apart."""
        log_modelled = intercept + slope * math.log(self._difficulty)
        if abs(log_modelled) > _MAX_LOG:
            return None
        modelled = math.exp(log_modelled) / supply
        return _Line(intercept, slope, modelled, self._price_usd / modelled)

    def reading(self) -> DifficultyReading:
        """Return what the fits say of the newest day; a fit with too short a history is absent.

        Raises:
            ValueError: No day has entered.
        """
        if not self.days:
            raise ValueError("no day has entered")
        fits = {}
        for name in (EXPANDING, ROLLING_3Y, GLASSNODE_2022):
            if name in self._lines:
                fits[name] = self._fit(name, self._lines[name])
        return DifficultyReading(day_text(self._last_number), self._price_usd, self._difficulty, fits)

    def _fit(self, name: str, line: _Line) -> DifficultyFit:
        sums, first = self._by_market_cap, self._first_number
        if name == ROLLING_3Y:
            sums, first = self._by_price, self._window[0][0]
        past = self._past_multiples[name]
        return DifficultyFit(
            name=name,
            intercept=line.intercept,
            slope=line.slope,
            r_squared=sums.r_squared(line.intercept, line.slope),
            first_day=day_text(first),
            last_day=day_text(self._last_number),
            days=sums.n,
            modelled_price=line.modelled_price,
            multiple=line.multiple,
            status=miner_status(line.multiple),
            percentile=bisect_left(past, line.multiple) / len(past) if past else None,
        )


def _steps(value: float) -> int:
    return round(math.log(value) * _STEP)


def fit_history(days: Iterable[tuple[str, float | None, float | None]], upto_day: str) -> DifficultyReading | None:
    """Return what was known at the end of ``upto_day`` (inclusive) from rows of day, price in USD and difficulty.

    Rows may come in any order; those without a price and a difficulty between zero and 10^18 do not enter. The reading is
    of the last day that enters, which is earlier than ``upto_day`` where that has no row; ``None`` when none enters.

    Raises:
        ValueError: A day comes twice, is before the first block, or is not written as YYYY-MM-DD.
    """
    last = day_number(upto_day)
    model = DifficultyModel()
    for number, price_usd, difficulty in sorted((day_number(day), price or 0.0, work or 0.0) for day, price, work in days):
        if number <= last and 0 < price_usd < _MAX_VALUE and 0 < difficulty < _MAX_VALUE:
            model.add(number, price_usd, difficulty)
    return model.reading() if model.days else None
