"""All that is known of an asset, weighed: Liquidation Risk, Cascade Score, severity (scores §1, §3, §5). Wants sequence order.

The law: a :class:`Score` says what was known at its ``as_of`` and names what was not. It comes at once with every full window
reading (those are already limited to one per ``emit_interval_us``); what else changes is said at the next tick, at most one
score per interval.

No liquidations while the feeds are up is a true zero: an asset without a window reading scores 0 for liquidations, and its
``windows`` are ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from market.cascade_score import breadth, cascade_score, dominance, speed
from market.events import AssetMiners, AssetPressure, AssetTick, MinerDay, Pressure
from market.parameters import CascadeScoreParameters, Parameters
from market.raw import Cause
from market.readings import (
    WINDOWS_S,
    CascadeScore,
    DerivativesReading,
    LiquidationWindows,
    Score,
    SideWindows,
)
from market.risk import absolute_risk
from market.severity import assess_severity
from operators.machine import Handler

_TEN_S, _NINETY_S, _FIVE_MIN = (WINDOWS_S.index(seconds) for seconds in (10, 90, 300))
_DELTA_5_MIN = 0  # of DELTA_WINDOWS_S

_NOTHING = SideWindows((0,) * len(WINDOWS_S), (0,) * len(WINDOWS_S), (0,) * len(WINDOWS_S), {}, 0, 0, 0)


class _State(msgspec.Struct, array_like=True):
    """The last of every input. Bounded: one of each."""

    windows: LiquidationWindows | None = None
    derivatives: DerivativesReading | None = None
    pressure: Pressure | None = None
    miners: MinerDay | None = None
    emitted_us: int = 0
    is_changed: bool = False


_DECODER = msgspec.msgpack.Decoder(_State)


class Scores:
    """One asset's scores. Consumes window readings, deltas, pressure and miner days: the score carries them."""

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._cascade = parameters.cascade_score
        self._severity = parameters.severity
        self._interval_us = parameters.windows.emit_interval_us
        self._miners_max_age_us = parameters.miners.max_age_us
        self._version = parameters.version
        self._state = _DECODER.decode(state) if isinstance(state, bytes) else _State()

    def handlers(self) -> Mapping[type, Handler]:
        """Own every input of a score, and the tick."""
        return {
            LiquidationWindows: self._on_windows,
            DerivativesReading: self._on_derivatives,
            AssetPressure: self._on_pressure,
            AssetMiners: self._on_miners,
            AssetTick: self._on_tick,
        }

    def snapshot(self) -> bytes:
        """Return the last of every input."""
        return msgspec.msgpack.encode(self._state)

    def is_idle(self) -> bool:
        """Forgetting would change nothing: no input is remembered."""
        state = self._state
        return state.windows is None and state.derivatives is None and state.pressure is None and state.miners is None

    def _on_windows(self, reading: LiquidationWindows) -> tuple[Score]:
        self._state.windows = reading
        return (self._score(reading.cause, reading.asset),)

    def _on_derivatives(self, reading: DerivativesReading) -> tuple[()]:
        self._state.derivatives = reading
        self._state.is_changed = True
        return ()

    def _on_pressure(self, item: AssetPressure) -> tuple[()]:
        self._state.pressure = item.pressure
        self._state.is_changed = True
        return ()

    def _on_miners(self, item: AssetMiners) -> tuple[()]:
        self._state.miners = item.miners
        self._state.is_changed = True
        return ()

    def _on_tick(self, tick: AssetTick) -> tuple[AssetTick] | tuple[AssetTick, Score]:
        state, now_us = self._state, tick.cause.receive_time_us
        if state.miners is not None and now_us - state.miners.cause.receive_time_us > self._miners_max_age_us:
            state.miners = None
            state.is_changed = True
        if not state.is_changed or now_us - state.emitted_us < self._interval_us:
            return (tick,)
        return (tick, self._score(tick.cause, tick.asset))

    def _score(self, cause: Cause, asset: str) -> Score:
        state = self._state
        state.emitted_us = cause.receive_time_us
        state.is_changed = False
        long, short = (state.windows.long, state.windows.short) if state.windows is not None else (_NOTHING, _NOTHING)
        derivatives = state.derivatives
        risk = absolute_risk(
            funding_rate_8h=derivatives.funding_rate_8h if derivatives else None,
            open_interest_change_percent=derivatives.open_interest_changes_percent[_DELTA_5_MIN] if derivatives else None,
            price_change_percent=derivatives.price_changes_percent[_DELTA_5_MIN] if derivatives else None,
            long_short_ratio=derivatives.long_short_ratio if derivatives else None,
            liquidations_micros=long.usd_micros[_FIVE_MIN] + short.usd_micros[_FIVE_MIN],
        )
        pressure = state.pressure.pressure if state.pressure is not None else None
        verdict = assess_severity(risk=risk.total, pressure=pressure, thresholds=self._severity)
        both_micros = long.usd_micros[_NINETY_S] + short.usd_micros[_NINETY_S]
        return Score(
            cause,
            asset,
            state.windows,
            derivatives,
            state.pressure,
            state.miners,
            risk,
            _side_score(long, both_micros, self._cascade),
            _side_score(short, both_micros, self._cascade),
            verdict.severity,
            verdict.pressure_waived,
            _missing_inputs(derivatives, pressure, state.miners),
            self._version,
        )


def _side_score(side: SideWindows, both_micros: int, parameters: CascadeScoreParameters) -> CascadeScore:
    window_micros = side.usd_micros[_NINETY_S]
    return cascade_score(
        components={
            "speed": speed(micros_10s=side.usd_micros[_TEN_S], micros_90s=window_micros),
            "breadth": breadth(side.venue_micros.values()),
        },
        side_dominance=dominance(side_micros=window_micros, both_sides_micros=both_micros),
        window_micros=window_micros,
        parameters=parameters,
    )


def _missing_inputs(derivatives: DerivativesReading | None, pressure: int | None, miners: MinerDay | None) -> tuple[str, ...]:
    """Name the inputs that are not known: a closed set, in this order."""
    if derivatives is None:
        known = dict.fromkeys(("funding", "open_interest", "price", "long_short_ratio"), False)
    else:
        known = {
            "funding": derivatives.funding_rate_8h is not None,
            "open_interest": derivatives.open_interest_changes_percent[_DELTA_5_MIN] is not None,
            "price": derivatives.price_changes_percent[_DELTA_5_MIN] is not None,
            "long_short_ratio": derivatives.long_short_ratio is not None,
        }
    known["pressure"] = pressure is not None
    known["miners"] = miners is not None
    return tuple(name for name, is_known in known.items() if not is_known)
