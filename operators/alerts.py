"""From severity to alerts: an alert rises at once and falls late, and only its changes are said (scores §3).

The law: an alert rises when a score's severity is above its own, unless the asset is cooling down from an alert at least as
severe. It falls to the score's severity when it has stood for the minimum hold and either the risk is ``clear_below_points``
below the threshold of its own severity or the pressure that it needs is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from market.events import AssetTick
from market.parameters import Parameters
from market.raw import Cause
from market.readings import AlertChange, AlertState, Score, Severity
from market.severity import is_pressure_low_enough, risk_threshold
from operators.machine import Handler

_NONE = Severity.NONE
_RANK = {Severity.NONE: 0, Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}


class _Judged(msgspec.Struct, array_like=True, frozen=True):
    """What an alert needs of a score."""

    severity: Severity
    risk: int
    pressure: int | None
    reason: str
    score_sequence: int


class _State(msgspec.Struct, array_like=True):
    """One alert. ``held_back`` is the newest score whose change had to wait."""

    severity: Severity = Severity.NONE
    since_us: int = 0
    worst: Severity = Severity.NONE  # since it last rose from none
    cooling: Severity = Severity.NONE
    cooling_until_us: int = 0
    held_back: _Judged | None = None


_DECODER = msgspec.msgpack.Decoder(_State)


class Alerts:
    """One asset's alert."""

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters.alerts
        self._thresholds = parameters.severity
        self._state = _DECODER.decode(state) if isinstance(state, bytes) else _State()

    def handlers(self) -> Mapping[type, Handler]:
        """Own scores, which pass on, and ticks, which let a change through that had to wait."""
        return {Score: self._on_score, AssetTick: self._on_tick}

    def snapshot(self) -> bytes:
        """Return the alert."""
        return msgspec.msgpack.encode(self._state)

    def is_idle(self) -> bool:
        """Forgetting would change nothing: no alert stands, none is cooling down."""
        return self._state.severity is _NONE and self._state.cooling is _NONE and self._state.held_back is None

    def _on_score(self, score: Score) -> tuple[Score] | tuple[Score, AlertChange]:
        if score.severity is _NONE and self.is_idle():
            return (score,)
        pressure = score.pressure.pressure if score.pressure is not None else None
        judged = _Judged(score.severity, score.risk.total, pressure, _reason(score, pressure), score.cause.sequence)
        change = self._judge(score.cause, score.asset, judged)
        return (score,) if change is None else (score, change)

    def _on_tick(self, tick: AssetTick) -> tuple[AssetTick] | tuple[AssetTick, AlertChange]:
        state = self._state
        if state.cooling is not _NONE and tick.cause.receive_time_us >= state.cooling_until_us:
            state.cooling = _NONE
        if state.held_back is None:
            return (tick,)
        change = self._judge(tick.cause, tick.asset, state.held_back)
        return (tick,) if change is None else (tick, change)

    def _judge(self, cause: Cause, asset: str, judged: _Judged) -> AlertChange | None:
        state, now_us = self._state, cause.receive_time_us
        state.held_back = None
        if judged.severity is state.severity:
            return None
        is_allowed = (
            self._may_rise(judged, now_us) if _is_above(judged.severity, state.severity) else self._may_fall(judged, now_us)
        )
        if not is_allowed:
            state.held_back = judged
            return None
        return self._change(cause, asset, judged)

    def _may_rise(self, judged: _Judged, now_us: int) -> bool:
        state = self._state
        return now_us >= state.cooling_until_us or _is_above(judged.severity, state.cooling)

    def _may_fall(self, judged: _Judged, now_us: int) -> bool:
        state = self._state
        if now_us - state.since_us < self._parameters.minimum_hold_us:
            return False
        cleared_at = risk_threshold(state.severity, self._thresholds) - self._parameters.clear_below_points
        return judged.risk <= cleared_at or not is_pressure_low_enough(state.severity, judged.pressure, self._thresholds)

    def _change(self, cause: Cause, asset: str, judged: _Judged) -> AlertChange:
        state, before = self._state, self._state.severity
        state.severity, state.since_us = judged.severity, cause.receive_time_us
        if judged.severity is _NONE:
            state.cooling, state.cooling_until_us = state.worst, cause.receive_time_us + self._parameters.cooldown_us
            state.worst = _NONE
        elif _is_above(judged.severity, state.worst):
            state.worst = judged.severity
        return AlertChange(
            cause,
            asset,
            judged.severity,
            before,
            AlertState.RESOLVED if judged.severity is _NONE else AlertState.FIRING,
            judged.reason,
            judged.score_sequence,
            judged.risk,
            judged.pressure,
        )


def _is_above(severity: Severity, other: Severity) -> bool:
    return _RANK[severity] > _RANK[other]


def _reason(score: Score, pressure: int | None) -> str:
    """Say in a sentence what decided."""
    risk = score.risk
    parts = (
        ("funding", risk.funding),
        ("open interest", risk.open_interest),
        ("long/short ratio", risk.long_short_ratio),
        ("liquidations", risk.liquidations),
    )
    points = ", ".join(f"{name} {value}" for name, value in parts if value)
    of_what = f" ({points})" if points else ""
    pressure_words = "pressure not known" if pressure is None else f"pressure {pressure:+d}".replace("-", "−")
    return f"{score.asset} risk {risk.total}{of_what}, {pressure_words}: {score.severity.value}"
