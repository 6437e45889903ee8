"""What one venue says of one asset's leverage: the newest of every instrument, and samples of the last day.

Two tracks of samples: a fine one for look-backs up to an hour, a coarse one for the longer. An end of a change must be known
well: a value stands for a moment when it was observed at most two intervals of the fine track before, a sample for the
beginning of a look-back when it is at most two of its track's intervals older. So a venue that stopped answering shows no
change, rather than one of zero.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import msgspec

from market.events import Derivatives
from market.parameters import DeltaParameters

MAX_INSTRUMENTS = 50
"""Per venue and asset; further ones are not heard. The most that a venue lists of one asset is about fifteen."""

HOUR_US = 3_600_000_000
DAY_US = 86_400_000_000
"""A venue or an instrument not heard of for so long is forgotten; also the longest look-back."""

INPUTS = ("open_interest", "funding", "price", "long_short_ratio")
_OPEN_INTEREST, _FUNDING, _PRICE, _RATIO = range(len(INPUTS))

Observed = tuple[float, int]
"""A value and its event time in microseconds."""


class Instrument(msgspec.Struct, gc=False):
    """The newest value of every input, in the order of :data:`INPUTS`."""

    seen_us: int
    values: list[Observed | None]


class Levels(msgspec.Struct, frozen=True):
    """What a venue's instruments amount to; ``None`` where none of them knows.

    Attributes:
        open_interest: Coins per instrument.
        funding: Fraction per 8 hours; weighted by open interest, as are the following.
        price: USD per coin, of perpetuals where there are any.
        oldest_us: Event time of the oldest value that entered.
    """

    open_interest: dict[str, float]
    funding: float | None
    price: float | None
    long_short_ratio: float | None
    oldest_us: int | None

    @property
    def open_interest_base(self) -> float | None:
        """Coins, summed."""
        return math.fsum(self.open_interest.values()) if self.open_interest else None


class Sample(msgspec.Struct, frozen=True):
    """A venue at an earlier moment."""

    open_interest: dict[str, float]
    funding: float | None
    price: float | None


class TrackState(msgspec.Struct, frozen=True):
    """Samples, saved: columns as the bytes of their arrays."""

    times: bytes
    funding: bytes
    price: bytes
    open_interest: dict[str, bytes]


class VenueState(msgspec.Struct, frozen=True):
    """A venue, saved."""

    seen_us: int
    is_touched: bool
    instruments: dict[str, tuple[int, tuple[Observed | None, ...]]]
    fine: TrackState
    coarse: TrackState


def weighted_mean(values: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the mean of (value, weight) pairs: of those with a weight; of all, evenly, when none has one.

    Summed as distances from the least value, so that equal values give exactly that value: the usual funding rate of 0.0001
    is itself a threshold (scores §1).
    """
    pairs = list(values)
    weighted = [(value, weight) for value, weight in pairs if weight] or [(value, 1.0) for value, _ in pairs]
    if not weighted:
        return None
    least = min(value for value, _ in weighted)
    excess = math.fsum((value - least) * weight for value, weight in weighted)
    return least + excess / math.fsum(weight for _, weight in weighted)


class Track:
    """One sample per interval, for as long as a look-back reaches. NaN where a value is not known."""

    def __init__(self, interval_us: int, reach_us: int, saved: TrackState | None) -> None:
        """Build from a snapshot, or new."""
        self._interval_us = interval_us
        self._tolerance_us = 2 * interval_us
        self._reach_us = reach_us + self._tolerance_us
        self._times = array("q")
        self._funding = array("d")
        self._price = array("d")
        self._open_interest: dict[str, array[float]] = {}  # per instrument
        if saved is not None:
            self._times.frombytes(saved.times)
            self._funding.frombytes(saved.funding)
            self._price.frombytes(saved.price)
            self._open_interest = {symbol: array("d", column) for symbol, column in saved.open_interest.items()}

    def snapshot(self) -> TrackState:
        """Return the state."""
        return TrackState(
            self._times.tobytes(),
            self._funding.tobytes(),
            self._price.tobytes(),
            {symbol: column.tobytes() for symbol, column in self._open_interest.items()},
        )

    def write(self, now_us: int, levels: Levels) -> None:
        """Write down how it stands; within one interval, over what was written before. Drop what no look-back reaches."""
        times, interval_us = self._times, self._interval_us
        if times and times[-1] // interval_us == now_us // interval_us:
            self._cut(len(times) - 1, len(times))
        self._cut(0, bisect_left(times, now_us - self._reach_us))
        for symbol in levels.open_interest:
            if symbol not in self._open_interest:
                self._open_interest[symbol] = array("d", [math.nan]) * len(times)
        times.append(now_us)
        self._funding.append(_or_nan(levels.funding))
        self._price.append(_or_nan(levels.price))
        for symbol, column in self._open_interest.items():
            column.append(_or_nan(levels.open_interest.get(symbol)))

    def _cut(self, start: int, end: int) -> None:
        del self._times[start:end], self._funding[start:end], self._price[start:end]
        for column in self._open_interest.values():
            del column[start:end]

    def forget(self, symbol: str) -> None:
        """Drop an instrument."""
        self._open_interest.pop(symbol, None)

    def sample_at(self, start_us: int) -> Sample | None:
        """Return the last sample up to ``start_us``, unless that is older than the tolerance."""
        row = bisect_right(self._times, start_us) - 1
        if row < 0 or self._times[row] < start_us - self._tolerance_us:
            return None
        known = ((symbol, column[row]) for symbol, column in self._open_interest.items())
        return Sample(
            {symbol: open_interest for symbol, open_interest in known if not math.isnan(open_interest)},
            _or_none(self._funding[row]),
            _or_none(self._price[row]),
        )

    def holds_until_us(self, start_us: int) -> list[int]:
        """Return up to which beginnings :meth:`sample_at` says the same as for ``start_us``, for this reason or that."""
        row = bisect_right(self._times, start_us)
        next_us = [time_us - 1 for time_us in self._times[row : row + 1]]
        return next_us + [time_us + self._tolerance_us for time_us in self._times[max(0, row - 1) : row]]


class Venue:
    """One venue's view of one asset."""

    def __init__(self, parameters: DeltaParameters, saved: VenueState | None) -> None:
        """Build from a snapshot, or new."""
        self._max_age_us = parameters.max_age_us
        self._fresh_us = 2 * parameters.sample_us
        self._saved = saved
        self.seen_us = 0 if saved is None else saved.seen_us
        self.is_touched = saved is not None and saved.is_touched  # heard of since last sampled
        self._fine = Track(parameters.sample_us, HOUR_US, None if saved is None else saved.fine)
        self._coarse = Track(parameters.long_sample_us, DAY_US, None if saved is None else saved.coarse)
        self._instruments: dict[str, Instrument] = {}
        if saved is not None:
            for symbol, (seen_us, values) in saved.instruments.items():
                self._instruments[symbol] = Instrument(seen_us, list(values))

    def snapshot(self) -> VenueState:
        """Return the state; the same object again while nothing changed."""
        if self._saved is None:
            self._saved = VenueState(
                self.seen_us,
                self.is_touched,
                {symbol: (known.seen_us, tuple(known.values)) for symbol, known in self._instruments.items()},
                self._fine.snapshot(),
                self._coarse.snapshot(),
            )
        return self._saved

    def note(self, event: Derivatives) -> None:
        """Keep what is newer than what is known; an answer that arrives late changes nothing."""
        instrument = self._instruments.get(event.symbol)
        if instrument is None:
            if len(self._instruments) >= MAX_INSTRUMENTS:
                return
            instrument = self._instruments[event.symbol] = Instrument(0, [None] * len(INPUTS))
        self._saved = None
        self.is_touched = True
        self.seen_us = instrument.seen_us = event.cause.receive_time_us
        event_time_us = event.event_time_us
        values = (event.open_interest_base, event.funding_rate_8h, event.mark_price, event.long_short_ratio)
        for number, value in enumerate(values):
            known = instrument.values[number]
            if value is not None and (known is None or event_time_us >= known[1]):
                instrument.values[number] = (value, event_time_us)

    def levels(self, now_us: int) -> Levels:
        """Return what is known: not older than ``max_age_us``."""
        return self._levels(now_us - self._max_age_us)

    def fresh_levels(self, now_us: int) -> Levels:
        """Return what is known well enough to be an end of a change."""
        return self._levels(now_us - self._fresh_us)

    def _levels(self, from_us: int) -> Levels:
        known: list[list[float | None]] = []
        open_interest: dict[str, float] = {}
        oldest_us: int | None = None
        for symbol, instrument in self._instruments.items():
            row: list[float | None] = [None] * len(INPUTS)
            for number, observed in enumerate(instrument.values):
                if observed is not None and observed[1] >= from_us:
                    row[number] = observed[0]
                    oldest_us = observed[1] if oldest_us is None else min(oldest_us, observed[1])
            known.append(row)
            coins = row[_OPEN_INTEREST]
            if coins is not None:
                open_interest[symbol] = coins
        perpetuals = [row for row in known if row[_FUNDING] is not None and row[_PRICE] is not None]
        return Levels(
            open_interest,
            _mean(known, _FUNDING),
            _mean(perpetuals or known, _PRICE),
            _mean(known, _RATIO),
            oldest_us,
        )

    def settle(self, now_us: int) -> None:
        """Sample what was heard since the last time, and drop instruments that have ended."""
        ended = [symbol for symbol, known in self._instruments.items() if now_us - known.seen_us > DAY_US]
        for symbol in ended:
            del self._instruments[symbol]
            self._fine.forget(symbol)
            self._coarse.forget(symbol)
        if self.is_touched:
            levels = self.fresh_levels(now_us)
            self._fine.write(now_us, levels)
            self._coarse.write(now_us, levels)
        if self.is_touched or ended:
            self._saved = None
        self.is_touched = False

    def sample_before(self, now_us: int, look_back_us: int) -> Sample | None:
        """Return how the venue stood at the beginning of a look-back, if that is known."""
        return self._track(look_back_us).sample_at(now_us - look_back_us)

    def _track(self, look_back_us: int) -> Track:
        return self._fine if look_back_us <= HOUR_US else self._coarse

    def changes_us(self, now_us: int, look_backs_us: Iterable[int]) -> int:
        """Return when time alone changes what levels and samples say, or forgets the venue."""
        observed_us = [value[1] for known in self._instruments.values() for value in known.values if value is not None]
        holds_until = [self.seen_us + DAY_US]
        holds_until += [time_us + self._max_age_us for time_us in observed_us]
        holds_until += [time_us + self._fresh_us for time_us in observed_us]
        if max(observed_us, default=0) + self._fresh_us >= now_us:  # else no change has a present end
            for look_back_us in look_backs_us:
                starts_us = self._track(look_back_us).holds_until_us(now_us - look_back_us)
                holds_until += [start_us + look_back_us for start_us in starts_us]
        return 1 + min(until_us for until_us in holds_until if until_us >= now_us)


def _mean(known: list[list[float | None]], number: int) -> float | None:
    return weighted_mean((value, row[_OPEN_INTEREST]) for row in known if (value := row[number]) is not None)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
