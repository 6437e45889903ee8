"""One asset's score: everything known of it at a moment, judged. Wants sequence order.

The law: a score says what was known at its cause's receive time. What is older than its maximum age is not known, and named.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import cast

import msgspec

from market.cascade_score import breadth, cascade_score, dominance, speed
from market.events import AssetMiners, AssetPressure, AssetTick, MinerDay, Pressure
from market.feeds import AssetFeeds
from market.parameters import Parameters
from market.raw import Cause
from market.readings import (
    DELTA_WINDOWS_S,
    WINDOWS_S,
    AbsoluteRisk,
    CascadeScore,
    DerivativesReading,
    LiquidationWindows,
    Score,
    SideWindows,
)
from market.risk import absolute_risk
from market.severity import assess_severity
from operators.liquidation_ledger import NEVER_US
from operators.machine import Handler
from operators.pace import next_emission_us

_IN_10_S = WINDOWS_S.index(10)
_IN_90_S = WINDOWS_S.index(90)
_IN_300_S = WINDOWS_S.index(300)
_IN_1_H = WINDOWS_S.index(3600)
_OVER_300_S = DELTA_WINDOWS_S.index(300)

_AT_ONCE = -1  # wakes the next tick: there is something new to say
_EPOCH = dt.date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_LIQUIDATIONS = "liquidations"
_NOTHING = SideWindows((0,) * len(WINDOWS_S), (0,) * len(WINDOWS_S), (0,) * len(WINDOWS_S), {}, 0, 0, 0)


_Seen = tuple[tuple[str, ...], bool]
"""Venues whose liquidations are missing, and whether any venue's can be seen."""

_WHOLE: _Seen = ((), True)


class _Known(msgspec.Struct):
    """What was last heard; the whole saved state. ``feeds``: what can be seen of liquidations, by feed partition."""

    windows: LiquidationWindows | None = None
    derivatives: DerivativesReading | None = None
    pressure: Pressure | None = None
    miners: MinerDay | None = None
    wake_us: int = NEVER_US
    emitted_us: int = -1
    feeds: dict[str, _Seen] = {}

    def is_nothing(self) -> bool:
        """Say whether it is what a new machine knows: also where all liquidations can be seen, as long as nobody denies it."""
        return msgspec.structs.replace(self, feeds={}) == _Known() and all(seen == _WHOLE for seen in self.feeds.values())


_KNOWN = msgspec.msgpack.Decoder(_Known)


class Scores:
    """Keep the newest of every input of one asset, and publish a score when one of them changed.

    Window readings, derivatives readings, pressure and miner days are consumed: the score carries them. A window reading gives
    a score at once, so that a liquidation is answered at once; for everything else the next tick gives one, before the tick;
    also for an input that has grown too old. There is at most one score per interval of the clock: a window reading that comes
    after one waits for the tick.

    Age counts from the receive time of the reading; of a miner day, from that day's beginning. An asset without liquidations
    in the last hour has sums of zero, not missing ones; ``windows`` is ``None`` until its first.

    While a venue's liquidations are missing, every score names them (``liquidations:okx``) and says that sums are floors. As
    long as no venue can be seen, ``liquidations`` is missing as a whole, and so are the components made of nothing else.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters
        self._interval_us = parameters.windows.emit_interval_us
        self._version: str | None = None
        self._quiet: CascadeScore | None = None  # the score of a side without liquidations that can be seen: always the same
        self._known = _Known() if state is None else _KNOWN.decode(cast("bytes", state))

    def handlers(self) -> Mapping[type, Handler]:
        """Own every input, and ticks."""
        return {
            LiquidationWindows: self.on_windows,
            DerivativesReading: self.on_derivatives,
            AssetPressure: self.on_pressure,
            AssetMiners: self.on_miners,
            AssetFeeds: self.on_feeds,
            AssetTick: self.on_tick,
        }

    def snapshot(self) -> object:
        """Return what was last heard, as bytes."""
        return msgspec.msgpack.encode(self._known)

    def is_idle(self) -> bool:
        """Say whether nothing is known, and the interval in which that was published is over."""
        return self._known.is_nothing()

    def on_windows(self, windows: LiquidationWindows) -> tuple[object, ...]:
        """Return a score, unless there was one in this interval: then the next tick does."""
        known = self._known
        known.windows = windows
        known.wake_us = _AT_ONCE
        now_us = windows.cause.receive_time_us
        if now_us < next_emission_us(windows.asset, known.emitted_us, self._interval_us):
            return ()
        self._forget_old(now_us)
        return (self._score(windows.cause, windows.asset),)

    def on_derivatives(self, reading: DerivativesReading) -> tuple[object, ...]:
        """Remember it for the next score."""
        self._known.derivatives = reading
        self._known.wake_us = _AT_ONCE
        return ()

    def on_pressure(self, handed: AssetPressure) -> tuple[object, ...]:
        """Remember it for the next score."""
        self._known.pressure = handed.pressure
        self._known.wake_us = _AT_ONCE
        return ()

    def on_miners(self, handed: AssetMiners) -> tuple[object, ...]:
        """Remember it for the next score."""
        self._known.miners = handed.miners
        self._known.wake_us = _AT_ONCE
        return ()

    def on_feeds(self, handed: AssetFeeds) -> tuple[object, ...]:
        """Remember it for the next score; it is a reason for one where anything else is known."""
        known, partition = self._known, handed.cause.feed_partition
        before, seen = known.feeds.get(partition, _WHOLE), (handed.missing, handed.is_any_seeing)
        inputs = (known.windows, known.derivatives, known.pressure, known.miners)
        if seen != before and any(known_input is not None for known_input in inputs):
            known.wake_us = _AT_ONCE
        known.feeds = {**known.feeds, partition: seen}
        return ()

    def on_tick(self, tick: AssetTick) -> tuple[object, ...]:
        """Return a score, where an input changed or grew old, and the tick. Forget an asset of which nothing is known."""
        known = self._known
        now_us = tick.cause.receive_time_us
        if now_us < known.wake_us or now_us < next_emission_us(tick.asset, known.emitted_us, self._interval_us):
            return (tick,)
        is_changed = self._forget_old(now_us) or known.wake_us == _AT_ONCE
        if not is_changed:
            self._known = _Known(feeds=known.feeds)
            return (tick,)
        return (self._score(tick.cause, tick.asset), tick)

    def _forget_old(self, now_us: int) -> bool:
        """Drop every input that is too old; say whether there was one."""
        known = self._known
        before = (known.derivatives, known.pressure, known.miners)
        derivatives_until_us, pressure_until_us, miners_until_us = self._known_until_us()
        if now_us > derivatives_until_us:
            known.derivatives = None
        if now_us > pressure_until_us:
            known.pressure = None
        if now_us > miners_until_us:
            known.miners = None
        return before != (known.derivatives, known.pressure, known.miners)

    def _known_until_us(self) -> tuple[int, int, int]:
        """Return until when, that included, derivatives, pressure and miners are known; never to end, where they are not."""
        known, parameters = self._known, self._parameters
        derivatives, pressure, miners = known.derivatives, known.pressure, known.miners
        return (
            NEVER_US if derivatives is None else derivatives.cause.receive_time_us + parameters.deltas.max_age_us,
            NEVER_US if pressure is None else pressure.cause.receive_time_us + parameters.pressure.max_age_us,
            NEVER_US if miners is None else _day_us(miners.day) + parameters.miners.max_age_us,
        )

    def _score(self, cause: Cause, asset: str) -> Score:
        known = self._known
        self._sleep(cause.receive_time_us)
        if self._version is None:
            self._version = self._parameters.version
        windows = known.windows
        long, short = (_NOTHING, _NOTHING) if windows is None else (windows.long, windows.short)
        pressure = None if known.pressure is None else known.pressure.pressure
        is_blind = bool(known.feeds) and not any(is_any_seeing for _missing, is_any_seeing in known.feeds.values())
        unseen = sorted({venue for missing, _is_any_seeing in known.feeds.values() for venue in missing})
        risk = _risk(known.derivatives, long, short, is_blind=is_blind)
        verdict = assess_severity(risk=risk.total, pressure=pressure, thresholds=self._parameters.severity)
        return Score(
            cause=cause,
            asset=asset,
            windows=windows,
            derivatives=known.derivatives,
            pressure=known.pressure,
            miners=known.miners,
            risk=risk,
            cascade_long=self._cascade_score(long, short, is_blind=is_blind),
            cascade_short=self._cascade_score(short, long, is_blind=is_blind),
            severity=verdict.severity,
            pressure_waived=verdict.pressure_waived,
            missing_inputs=_missing(known, pressure) + _missing_liquidations(unseen, is_blind=is_blind),
            parameter_version=self._version,
            liquidations_are_floors=is_blind or bool(unseen),
        )

    def _sleep(self, now_us: int) -> None:
        """Wake when the next input is too old; at the next tick, to be forgotten, when nothing is known any more."""
        known = self._known
        known.emitted_us = now_us
        known.wake_us = min(NEVER_US, *self._known_until_us()) + 1
        if known.wake_us > NEVER_US and (known.windows is None or _is_empty(known.windows)):
            known.wake_us = now_us

    def _cascade_score(self, side: SideWindows, other: SideWindows, *, is_blind: bool) -> CascadeScore:
        if is_blind or side.counts[_IN_90_S]:
            return self._judge_side(side, other, is_blind=is_blind)
        if self._quiet is None:
            self._quiet = self._judge_side(_NOTHING, _NOTHING, is_blind=False)
        return self._quiet

    def _judge_side(self, side: SideWindows, other: SideWindows, *, is_blind: bool) -> CascadeScore:
        in_90_s = side.usd_micros[_IN_90_S]
        return cascade_score(
            components={
                "speed": None if is_blind else speed(micros_10s=side.usd_micros[_IN_10_S], micros_90s=in_90_s),
                "breadth": None if is_blind else breadth(side.venue_micros.values()),
            },
            side_dominance=dominance(side_micros=in_90_s, both_sides_micros=in_90_s + other.usd_micros[_IN_90_S]),
            window_micros=in_90_s,
            parameters=self._parameters.cascade_score,
        )


def _risk(derivatives: DerivativesReading | None, long: SideWindows, short: SideWindows, *, is_blind: bool) -> AbsoluteRisk:
    """Both changes are over the same five minutes. Where no venue can be seen, what was liquidated is not known."""
    return absolute_risk(
        funding_rate_8h=None if derivatives is None else derivatives.funding_rate_8h,
        open_interest_change_percent=None if derivatives is None else derivatives.open_interest_changes_percent[_OVER_300_S],
        price_change_percent=None if derivatives is None else derivatives.price_changes_percent[_OVER_300_S],
        long_short_ratio=None if derivatives is None else derivatives.long_short_ratio,
        liquidations_micros=None if is_blind else long.usd_micros[_IN_300_S] + short.usd_micros[_IN_300_S],
    )


def _missing(known: _Known, pressure: int | None) -> tuple[str, ...]:
    """Name what the score would have used: of open interest and price, the change over five minutes."""
    reading = known.derivatives
    inputs = {
        "funding": None if reading is None else reading.funding_rate_8h,
        "open_interest": None if reading is None else reading.open_interest_changes_percent[_OVER_300_S],
        "price": None if reading is None else reading.price_changes_percent[_OVER_300_S],
        "long_short_ratio": None if reading is None else reading.long_short_ratio,
        "pressure": pressure,
        "miners": known.miners,
    }
    return tuple(name for name, value in inputs.items() if value is None)


def _missing_liquidations(unseen: list[str], *, is_blind: bool) -> tuple[str, ...]:
    """Name the input where it is missing as a whole, and every venue of which something is missing."""
    venues = tuple(f"{_LIQUIDATIONS}:{venue}" for venue in unseen)
    return (_LIQUIDATIONS, *venues) if is_blind else venues


def _is_empty(windows: LiquidationWindows) -> bool:
    return not (windows.long.counts[_IN_1_H] or windows.short.counts[_IN_1_H])


def _day_us(day: str) -> int:
    """Return when a day, YYYY-MM-DD, begins."""
    return (dt.date.fromisoformat(day).toordinal() - _EPOCH) * _DAY_US
