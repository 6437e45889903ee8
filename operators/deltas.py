"""Where an asset's leverage stands and how it moved: open interest, funding, price and long/short ratio over all venues.

The law: what is summed or compared covers the same venues at both ends, and a venue that is expected and does not know a
number is named. Windows of all inputs end at the same tick, so a change of open interest and of price are over the same time.

Wants sequence order. Polls pass on, since they are table rows; the reading comes on the tick after something changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from market.events import AssetTick, Derivatives
from market.parameters import Parameters
from market.raw import Cause
from market.readings import DELTA_WINDOWS_S, DerivativesReading
from operators.machine import Handler
from operators.sample_ring import SampleRing

MAX_VENUES = 40
"""Venues remembered per asset; further ones are passed over. More than there are."""

MAX_SYMBOLS = 50
"""Contracts remembered per asset and venue; further ones are passed over."""

_DAY_US = 86_400_000_000
_WINDOWS_US = tuple(seconds * 1_000_000 for seconds in DELTA_WINDOWS_S)
_WINDOW_NAMES = ("5m", "1h", "24h")
_SHORT_REACH_US = 3_600_000_000

_OPEN_INTEREST, _FUNDING, _PRICE = range(3)  # columns of a sample
_WIDTH = 3


class _Value(msgspec.Struct, array_like=True, frozen=True):
    """The last value heard, and its event time."""

    value: float
    time_us: int


class _Contract(msgspec.Struct, array_like=True):
    """What polls last said of one contract."""

    open_interest_base: _Value | None = None
    open_interest_usd: _Value | None = None
    funding_rate_8h: _Value | None = None
    mark_price: _Value | None = None
    long_short_ratio: _Value | None = None


_FIELDS = _Contract.__struct_fields__


class _SavedVenue(msgspec.Struct, array_like=True):
    contracts: dict[str, _Contract]
    heard_us: int
    short: tuple[bytes, bytes]
    long: tuple[bytes, bytes]


class _SavedState(msgspec.Struct, array_like=True):
    venues: dict[str, _SavedVenue]
    emitted_us: int
    stale_us: int | None
    is_changed: bool


class _Standing(msgspec.Struct, frozen=True):
    """One venue's numbers for the asset at one moment; ``None`` where not known or too old."""

    open_interest_base: float | None
    open_interest_usd: float | None
    funding_rate_8h: float | None
    mark_price: float | None
    long_short_ratio: float | None

    def sample(self) -> tuple[float | None, float | None, float | None]:
        """Return what is kept to compare with later."""
        return self.open_interest_base, self.funding_rate_8h, self.mark_price


_DECODER = msgspec.msgpack.Decoder(_SavedState)


class _Venue:
    """One venue's contracts of the asset, and its samples."""

    def __init__(self, parameters: Parameters, saved: _SavedVenue | None = None) -> None:
        deltas = parameters.deltas
        self.contracts: dict[str, _Contract] = saved.contracts if saved else {}
        self.heard_us = saved.heard_us if saved else 0
        self._short = SampleRing(
            _WIDTH, every_us=deltas.sample_us, reach_us=_SHORT_REACH_US, saved=saved.short if saved else None
        )
        self._long = SampleRing(
            _WIDTH, every_us=deltas.long_sample_us, reach_us=max(_WINDOWS_US), saved=saved.long if saved else None
        )

    def save(self) -> _SavedVenue:
        return _SavedVenue(self.contracts, self.heard_us, self._short.save(), self._long.save())

    def hear(self, event: Derivatives) -> None:
        """Take what a poll said; what it did not speak of stays."""
        self.heard_us = event.cause.receive_time_us
        if event.symbol not in self.contracts and len(self.contracts) >= MAX_SYMBOLS:
            return
        contract = self.contracts.setdefault(event.symbol, _Contract())
        for name in _FIELDS:
            value = getattr(event, name)
            if value is not None:
                setattr(contract, name, _Value(value, event.event_time_us))

    def standing(self, oldest_us: int) -> _Standing:
        """Sum or weigh the contracts by what is known of them and not older than ``oldest_us``."""
        bases = self._fresh("open_interest_base", oldest_us)
        usds = self._fresh("open_interest_usd", oldest_us)

        def weighed(name: str) -> float | None:
            return _weighed(self._fresh(name, oldest_us), bases)

        return _Standing(
            sum(bases.values()) if bases else None,
            sum(usds.values()) if usds else None,
            weighed("funding_rate_8h"),
            weighed("mark_price"),
            weighed("long_short_ratio"),
        )

    def sample(self, now_us: int, standing: _Standing) -> bool:
        """Keep a sample where one is due; say whether one was kept."""
        row = standing.sample()
        kept_short = self._short.add(now_us, row)
        return self._long.add(now_us, row) or kept_short

    def before(self, now_us: int, window_us: int) -> tuple[float | None, ...]:
        """Return the sample of a window's start; all ``None`` where there is none."""
        ring = self._short if window_us <= _SHORT_REACH_US else self._long
        return ring.at(now_us - window_us) or (None,) * _WIDTH

    def times_us(self, oldest_us: int) -> Iterable[int]:
        """Return the event times of every value that is not older than ``oldest_us``."""
        for contract in self.contracts.values():
            for name in _FIELDS:
                held: _Value | None = getattr(contract, name)
                if held is not None and held.time_us >= oldest_us:
                    yield held.time_us

    def _fresh(self, name: str, oldest_us: int) -> dict[str, float]:
        held = ((symbol, getattr(contract, name)) for symbol, contract in self.contracts.items())
        return {symbol: value.value for symbol, value in held if value is not None and value.time_us >= oldest_us}


class Deltas:
    """One asset's leverage. State: at most :data:`MAX_VENUES` venues, each with bounded contracts and samples."""

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters
        self._max_age_us = parameters.deltas.max_age_us
        self._interval_us = parameters.windows.emit_interval_us
        self._venues: dict[str, _Venue] = {}
        self._emitted_us = 0
        self._stale_us: int | None = None  # when the next value becomes too old
        self._is_changed = False
        self._saved: bytes | None = None
        if isinstance(state, bytes):
            saved = _DECODER.decode(state)
            self._venues = {name: _Venue(parameters, venue) for name, venue in saved.venues.items()}
            self._emitted_us, self._stale_us, self._is_changed = saved.emitted_us, saved.stale_us, saved.is_changed

    def handlers(self) -> Mapping[type, Handler]:
        """Own polls and ticks; both pass on."""
        return {Derivatives: self._on_derivatives, AssetTick: self._on_tick}

    def snapshot(self) -> bytes:
        """Return all venues; the bytes are kept until something changes."""
        if self._saved is None:
            venues = {name: venue.save() for name, venue in self._venues.items()}
            self._saved = msgspec.msgpack.encode(_SavedState(venues, self._emitted_us, self._stale_us, self._is_changed))
        return self._saved

    def is_idle(self) -> bool:
        """Forgetting would change nothing: no venue has been heard for a day."""
        return not self._venues

    def _on_derivatives(self, event: Derivatives) -> tuple[Derivatives]:
        venue = self._venues.get(event.venue)
        if venue is None:
            if len(self._venues) >= MAX_VENUES:
                return (event,)
            venue = self._venues[event.venue] = _Venue(self._parameters)
        venue.hear(event)
        self._is_changed = True
        self._saved = None
        return (event,)

    def _on_tick(self, tick: AssetTick) -> tuple[AssetTick] | tuple[AssetTick, DerivativesReading]:
        now_us = tick.cause.receive_time_us
        if not self._venues:
            return (tick,)
        if self._stale_us is not None and now_us >= self._stale_us:
            self._is_changed = True
        if not self._is_changed or now_us - self._emitted_us < self._interval_us:
            return (tick,)
        return (tick, self._read(tick.cause, tick.asset))

    def _read(self, cause: Cause, asset: str) -> DerivativesReading:
        now_us = cause.receive_time_us
        oldest_us = now_us - self._max_age_us
        for name in [name for name, venue in self._venues.items() if now_us - venue.heard_us > _DAY_US]:
            del self._venues[name]
        standings = {name: venue.standing(oldest_us) for name, venue in sorted(self._venues.items())}
        times_us = [time_us for venue in self._venues.values() for time_us in venue.times_us(oldest_us)]
        self._emitted_us, self._is_changed, self._saved = now_us, False, None
        self._stale_us = min(times_us) + self._max_age_us + 1 if times_us else None
        reading = _reading(cause, asset, standings, self._starts(now_us, standings), min(times_us, default=None))
        for name, standing in standings.items():
            self._venues[name].sample(now_us, standing)
        return reading

    def _starts(self, now_us: int, standings: Iterable[str]) -> list[dict[str, tuple[float | None, ...]]]:
        return [{name: self._venues[name].before(now_us, window_us) for name in standings} for window_us in _WINDOWS_US]


def _reading(
    cause: Cause,
    asset: str,
    standings: dict[str, _Standing],
    starts: list[dict[str, tuple[float | None, ...]]],
    oldest_input_time_us: int | None,
) -> DerivativesReading:
    ends = {name: standing.sample() for name, standing in standings.items()}
    bases, usds, fundings, prices, ratios = (
        _known({name: getattr(standing, field) for name, standing in standings.items()}) for field in _FIELDS
    )
    inputs = {"open_interest": bases, "funding": fundings, "price": prices, "long_short_ratio": ratios}
    missing = {name: tuple(venue for venue in standings if venue not in known) for name, known in inputs.items()}
    for window_name, start in zip(_WINDOW_NAMES, starts, strict=True):
        for name, column in (("open_interest", _OPEN_INTEREST), ("funding", _FUNDING), ("price", _PRICE)):
            both = _both_ends(start, ends, column)
            missing[f"{name}_{window_name}"] = tuple(venue for venue in standings if venue not in both)
    return DerivativesReading(
        cause,
        asset,
        _weighed(prices, bases),
        tuple(_change(start, ends, _PRICE, lambda values: _weighed(values, bases)) for start in starts),
        sum(bases.values()) if bases else None,
        sum(usds.values()) if usds else None,
        tuple(_change(start, ends, _OPEN_INTEREST, lambda values: sum(values.values())) for start in starts),
        _by_venue(standings, lambda venue: tuple(_venue_percent(start, ends, venue) for start in starts)),
        _weighed(fundings, bases),
        tuple(_funding_change(start, ends, bases) for start in starts),
        _by_venue(standings, lambda venue: tuple(_venue_difference(start, ends, venue) for start in starts)),
        _weighed(ratios, bases),
        {name: venues for name, venues in missing.items() if venues},
        oldest_input_time_us,
    )


_Rows = Mapping[str, tuple[float | None, ...]]


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _weighed(values: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """Return the mean weighted by open interest; the plain mean where no open interest is known; ``None`` of nothing."""
    if not values:
        return None
    total = sum(weights.get(name, 0.0) for name in values)
    if total <= 0:
        return sum(values.values()) / len(values)
    return sum(value * weights.get(name, 0.0) for name, value in values.items()) / total


def _both_ends(start: _Rows, end: _Rows, column: int) -> dict[str, tuple[float, float]]:
    pairs = ((name, start[name][column], end[name][column]) for name in end)
    return {name: (before, now) for name, before, now in pairs if before is not None and now is not None}


def _change(start: _Rows, end: _Rows, column: int, whole: Callable[[dict[str, float]], float | None]) -> float | None:
    """Return the change in percent of the venues that know both ends."""
    both = _both_ends(start, end, column)
    before = whole({name: pair[0] for name, pair in both.items()})
    now = whole({name: pair[1] for name, pair in both.items()})
    return _percent(before, now)


def _percent(before: float | None, now: float | None) -> float | None:
    return (now / before - 1) * 100 if before and now is not None else None


def _funding_change(start: _Rows, end: _Rows, bases: Mapping[str, float]) -> float | None:
    both = _both_ends(start, end, _FUNDING)
    return _weighed({name: now - before for name, (before, now) in both.items()}, bases)


def _venue_percent(start: _Rows, end: _Rows, venue: str) -> float | None:
    return _percent(start[venue][_OPEN_INTEREST], end[venue][_OPEN_INTEREST])


def _venue_difference(start: _Rows, end: _Rows, venue: str) -> float | None:
    before, now = start[venue][_FUNDING], end[venue][_FUNDING]
    return None if before is None or now is None else now - before


def _by_venue(
    venues: Iterable[str], changes_of: Callable[[str], tuple[float | None, ...]]
) -> dict[str, tuple[float | None, ...]]:
    """Return the changes of every venue that knows any."""
    changes = {venue: changes_of(venue) for venue in venues}
    return {venue: change for venue, change in changes.items() if any(value is not None for value in change)}
