"""How an asset's open interest, funding and price stand and change, over all venues. Wants sequence order.

The law: both ends of a change come from the same venues (for open interest, the same instruments), and whoever is expected and
does not know an end is named. Nothing is carried forward beyond its age: what is old is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

import msgspec

from market.events import AssetTick, Derivatives
from market.parameters import Parameters
from market.raw import Cause
from market.readings import DELTA_WINDOWS_S, DerivativesReading
from operators.liquidation_ledger import NEVER_US
from operators.machine import Handler
from operators.pace import next_emission_us
from operators.venue_derivatives import DAY_US, Levels, Sample, Venue, VenueState, weighted_mean

MAX_VENUES = 40
"""Per asset; further ones pass by unheard, except into their table."""

_LOOK_BACKS_US = tuple(seconds * 1_000_000 for seconds in DELTA_WINDOWS_S)
_LOOK_BACK_NAMES = tuple({300: "5m", 3600: "1h", 86_400: "24h"}[seconds] for seconds in DELTA_WINDOWS_S)
_NUMBERS = range(len(_LOOK_BACKS_US))
_AT_ONCE = -1  # wakes the next tick: there is something new to say
_PERCENT = 100


class _State(msgspec.Struct, frozen=True):
    """The machine, saved."""

    wake_us: int
    emitted_us: int
    venues: dict[str, VenueState]


class _Ends(NamedTuple):
    """A value now and at the beginning of a look-back."""

    now: float
    then: float

    def percent(self) -> float | None:
        """Return the change in percent; ``None`` from zero."""
        return _PERCENT * (self.now - self.then) / self.then if self.then else None


class _Change(NamedTuple):
    """One venue over one look-back: what it knows both ends of."""

    open_interest: _Ends | None
    funding: _Ends | None
    price: _Ends | None


class _Expected(NamedTuple):
    """A venue that is expected to know: how it stands, with the weight of its open interest, and how it changed."""

    name: str
    levels: Levels
    weight: float | None
    changes: tuple[_Change, ...]


class Deltas:
    """Sum and compare what polls say of one asset's derivatives.

    Polls are only noted, and go on; several belong together. The next tick publishes one reading of all, before the tick; a
    tick also does when time alone made an input old, moved a look-back's beginning, or made a venue forgotten, which is when
    it has been silent for a day. At most one reading per interval of the clock.

    A level may be ``max_age_us`` old; the ends of a change must be known better (see :mod:`operators.venue_derivatives`). So
    when a venue stops answering, its changes become unknown before its levels do.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters.deltas
        self._interval_us = parameters.windows.emit_interval_us
        saved = _State(NEVER_US, -1, {}) if state is None else cast("_State", state)
        self._wake_us = saved.wake_us
        self._emitted_us = saved.emitted_us
        self._venues = {name: Venue(self._parameters, venue) for name, venue in saved.venues.items()}

    def handlers(self) -> Mapping[type, Handler]:
        """Own polls and ticks."""
        return {Derivatives: self.on_derivatives, AssetTick: self.on_tick}

    def snapshot(self) -> object:
        """Return the state: for a day of samples, some 5 kB per venue and 2 kB per instrument."""
        return _State(self._wake_us, self._emitted_us, {name: venue.snapshot() for name, venue in self._venues.items()})

    def is_idle(self) -> bool:
        """Say whether no venue is known, that has been published, and the interval in which it was is over."""
        return self._wake_us == NEVER_US

    def on_derivatives(self, event: Derivatives) -> tuple[object, ...]:
        """Note what a poll said, and pass it on."""
        venue = self._venues.get(event.venue)
        if venue is None:
            if len(self._venues) >= MAX_VENUES:
                return (event,)
            venue = self._venues[event.venue] = Venue(self._parameters, None)
        venue.note(event)
        self._wake_us = _AT_ONCE
        return (event,)

    def on_tick(self, tick: AssetTick) -> tuple[object, ...]:
        """Return a reading, where there is something new to say, and the tick."""
        now_us = tick.cause.receive_time_us
        if now_us < self._wake_us or now_us < next_emission_us(tick.asset, self._emitted_us, self._interval_us):
            return (tick,)
        if not self._venues:
            self._wake_us = NEVER_US
            self._emitted_us = -1
            return (tick,)
        for name, venue in list(self._venues.items()):
            venue.settle(now_us)
            if now_us - venue.seen_us > DAY_US:
                del self._venues[name]
        self._emitted_us = now_us
        self._wake_us = min((venue.changes_us(now_us, _LOOK_BACKS_US) for venue in self._venues.values()), default=now_us)
        return (self._read(tick.cause, tick.asset, now_us), tick)

    def _read(self, cause: Cause, asset: str, now_us: int) -> DerivativesReading:
        expected = [_expect(name, venue, now_us) for name, venue in self._venues.items()]
        levels = [venue.levels for venue in expected]
        sums = [venue.weight for venue in expected if venue.weight is not None]
        open_interest = math.fsum(sums) if sums else None
        price = _mean((venue.levels.price, venue.weight) for venue in expected)
        return DerivativesReading(
            cause=cause,
            asset=asset,
            mark_price=price,
            price_changes_percent=tuple(_price_change(expected, number) for number in _NUMBERS),
            open_interest_base=open_interest,
            open_interest_usd=None if open_interest is None or price is None else open_interest * price,
            open_interest_changes_percent=tuple(_open_interest_change(expected, number) for number in _NUMBERS),
            venue_open_interest_changes_percent=_by_venue(expected, _open_interest_percent),
            funding_rate_8h=_mean((venue.levels.funding, venue.weight) for venue in expected),
            funding_changes=tuple(_funding_change(expected, number) for number in _NUMBERS),
            venue_funding_changes=_by_venue(expected, _funding_difference),
            long_short_ratio=_mean((venue.levels.long_short_ratio, venue.weight) for venue in expected),
            missing=_missing(expected),
            oldest_input_time_us=min((level.oldest_us for level in levels if level.oldest_us is not None), default=None),
        )


def _expect(name: str, venue: Venue, now_us: int) -> _Expected:
    levels = venue.levels(now_us)
    fresh = venue.fresh_levels(now_us)
    changes = tuple(_compare(fresh, venue.sample_before(now_us, look_back_us)) for look_back_us in _LOOK_BACKS_US)
    return _Expected(name, levels, levels.open_interest_base, changes)


def _compare(now: Levels, then: Sample | None) -> _Change:
    if then is None:
        return _Change(None, None, None)
    both = [(coins, then.open_interest[symbol]) for symbol, coins in now.open_interest.items() if symbol in then.open_interest]
    return _Change(
        _Ends(math.fsum(coins for coins, _ in both), math.fsum(coins for _, coins in both)) if both else None,
        _ends(now.funding, then.funding),
        _ends(now.price, then.price),
    )


def _ends(now: float | None, then: float | None) -> _Ends | None:
    return None if now is None or then is None else _Ends(now, then)


def _mean(values: Iterable[tuple[float | None, float | None]]) -> float | None:
    return weighted_mean((value, weight) for value, weight in values if value is not None)


def _open_interest_change(expected: list[_Expected], number: int) -> float | None:
    known = [ends for venue in expected if (ends := venue.changes[number].open_interest) is not None]
    return _Ends(math.fsum(ends.now for ends in known), math.fsum(ends.then for ends in known)).percent()


def _price_change(expected: list[_Expected], number: int) -> float | None:
    """Both ends weighted alike, by open interest now: weights that move would look like a price that moves."""
    known = [(ends, venue.weight) for venue in expected if (ends := venue.changes[number].price) is not None]
    ends = _ends(_mean((ends.now, weight) for ends, weight in known), _mean((ends.then, weight) for ends, weight in known))
    return None if ends is None else ends.percent()


def _funding_change(expected: list[_Expected], number: int) -> float | None:
    return _mean((_funding_difference(venue.changes[number]), venue.weight) for venue in expected)


def _open_interest_percent(change: _Change) -> float | None:
    return None if change.open_interest is None else change.open_interest.percent()


def _funding_difference(change: _Change) -> float | None:
    return None if change.funding is None else change.funding.now - change.funding.then


def _by_venue(expected: list[_Expected], measure: Callable[[_Change], float | None]) -> dict[str, tuple[float | None, ...]]:
    measured = {venue.name: tuple(measure(change) for change in venue.changes) for venue in expected}
    return {name: changes for name, changes in measured.items() if any(change is not None for change in changes)}


def _missing(expected: list[_Expected]) -> dict[str, tuple[str, ...]]:
    """Return, per input and per input and look-back, the venues that do not know it; without what every venue knows."""
    lacking: dict[str, list[str]] = {}
    for name, levels, weight, changes in expected:
        lacks = {
            "open_interest": weight is None,
            "funding": levels.funding is None,
            "price": levels.price is None,
            "long_short_ratio": levels.long_short_ratio is None,
        }
        for look_back, change in zip(_LOOK_BACK_NAMES, changes, strict=True):
            lacks[f"open_interest_{look_back}"] = change.open_interest is None
            lacks[f"funding_{look_back}"] = change.funding is None
            lacks[f"price_{look_back}"] = change.price is None
        for what, is_lacking in lacks.items():
            if is_lacking:
                lacking.setdefault(what, []).append(name)
    return {what: tuple(sorted(names)) for what, names in lacking.items()}
