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
_NOTHING = SideWindows((0,) * len(WINDOWS_S), (0,) * len(WINDOWS_S), (0,) * len(WINDOWS_S), {}, 0, 0, 0)


class _Known(msgspec.Struct):
    """What was last heard; the whole saved state."""

    windows: LiquidationWindows | None = None
    derivatives: DerivativesReading | None = None
    pressure: Pressure | None = None
    miners: MinerDay | None = None
    wake_us: int = NEVER_US
    emitted_us: int = -1


class Scores:
    """Keep the newest of every input of one asset, and publish a score when one of them changed.

    Window readings, derivatives readings, pressure and miner days are consumed: the score carries them. A window reading gives
    a score at once, so that a liquidation is answered at once; for everything else the next tick gives one, before the tick;
    also for an input that has grown too old. There is at most one score per interval of the clock: a window reading that comes
    after one waits for the tick.

    Age counts from the receive time of the reading; of a miner day, from that day's beginning. An asset without liquidations
    in the last hour has sums of zero, not missing ones; ``windows`` is ``None`` until its first.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters
        self._interval_us = parameters.windows.emit_interval_us
        self._version: str | None = None
        self._quiet: CascadeScore | None = None  # the score of a side without liquidations: always the same
        self._known = _Known() if state is None else msgspec.structs.replace(cast("_Known", state))

    def handlers(self) -> Mapping[type, Handler]:
        """Own every input, and ticks."""
        return {
            LiquidationWindows: self.on_windows,
            DerivativesReading: self.on_derivatives,
            AssetPressure: self.on_pressure,
            AssetMiners: self.on_miners,
            AssetTick: self.on_tick,
        }

    def snapshot(self) -> object:
        """Return what was last heard: immutable readings, not copied."""
        return msgspec.structs.replace(self._known)

    def is_idle(self) -> bool:
        """Say whether nothing is known, and the interval in which that was published is over."""
        return self._known == _Known()

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

    def on_tick(self, tick: AssetTick) -> tuple[object, ...]:
        """Return a score, where an input changed or grew old, and the tick. Forget an asset of which nothing is known."""
        known = self._known
        now_us = tick.cause.receive_time_us
        if now_us < known.wake_us or now_us < next_emission_us(tick.asset, known.emitted_us, self._interval_us):
            return (tick,)
        is_changed = self._forget_old(now_us) or known.wake_us == _AT_ONCE
        if not is_changed:
            self._known = _Known()
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
        risk = _risk(known.derivatives, long, short)
        verdict = assess_severity(risk=risk.total, pressure=pressure, thresholds=self._parameters.severity)
        return Score(
            cause=cause,
            asset=asset,
            windows=windows,
            derivatives=known.derivatives,
            pressure=known.pressure,
            miners=known.miners,
            risk=risk,
            cascade_long=self._cascade_score(long, short),
            cascade_short=self._cascade_score(short, long),
            severity=verdict.severity,
            pressure_waived=verdict.pressure_waived,
            missing_inputs=_missing(known, pressure),
            parameter_version=self._version,
        )

    def _sleep(self, now_us: int) -> None:
        """Wake when the next input is too old; at the next tick, to be forgotten, when nothing is known any more."""
        known = self._known
        known.emitted_us = now_us
        known.wake_us = min(NEVER_US, *self._known_until_us()) + 1
        if known.wake_us > NEVER_US and (known.windows is None or _is_empty(known.windows)):
            known.wake_us = now_us

    def _cascade_score(self, side: SideWindows, other: SideWindows) -> CascadeScore:
        if side.counts[_IN_90_S]:
            return self._judge_side(side, other)
        if self._quiet is None:
            self._quiet = self._judge_side(_NOTHING, _NOTHING)
        return self._quiet

    def _judge_side(self, side: SideWindows, other: SideWindows) -> CascadeScore:
        in_90_s = side.usd_micros[_IN_90_S]
        return cascade_score(
            components={
                "speed": speed(micros_10s=side.usd_micros[_IN_10_S], micros_90s=in_90_s),
                "breadth": breadth(side.venue_micros.values()),
            },
            side_dominance=dominance(side_micros=in_90_s, both_sides_micros=in_90_s + other.usd_micros[_IN_90_S]),
            window_micros=in_90_s,
            parameters=self._parameters.cascade_score,
        )


def _risk(derivatives: DerivativesReading | None, long: SideWindows, short: SideWindows) -> AbsoluteRisk:
    """Both changes are over the same five minutes."""
    return absolute_risk(
        funding_rate_8h=None if derivatives is None else derivatives.funding_rate_8h,
        open_interest_change_percent=None if derivatives is None else derivatives.open_interest_changes_percent[_OVER_300_S],
        price_change_percent=None if derivatives is None else derivatives.price_changes_percent[_OVER_300_S],
        long_short_ratio=None if derivatives is None else derivatives.long_short_ratio,
        liquidations_micros=long.usd_micros[_IN_300_S] + short.usd_micros[_IN_300_S],
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


def _is_empty(windows: LiquidationWindows) -> bool:
    return not (windows.long.counts[_IN_1_H] or windows.short.counts[_IN_1_H])


def _day_us(day: str) -> int:
    """Return when a day, YYYY-MM-DD, begins."""
    return (dt.date.fromisoformat(day).toordinal() - _EPOCH) * _DAY_US
