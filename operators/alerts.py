"""From severity to alerts: one change, one row (scores §3). Wants sequence order.

The law: an alert rises at once; it falls only when it has been held for its minimum and its reason is clearly gone; after it
has cleared, the same or less is not said again for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from market.events import AssetTick
from market.parameters import Parameters
from market.raw import Cause
from market.readings import AlertChange, AlertState, Score, Severity
from market.severity import is_pressure_low_enough, risk_threshold
from operators.liquidation_ledger import NEVER_US
from operators.machine import Handler

_RISK_INPUTS = frozenset({"funding", "open_interest", "price", "long_short_ratio", "liquidations"})
_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class _Finding(msgspec.Struct, frozen=True, gc=False):
    """What an alert needs of the last score.

    Attributes:
        points: The components of the risk that are not zero, by name.
        missing: Inputs that the risk was without.
    """

    severity: Severity
    risk: int
    points: tuple[tuple[str, int], ...]
    pressure: int | None
    missing: tuple[str, ...]
    sequence: int


class _State(msgspec.Struct, gc=False):
    """All that is saved.

    Attributes:
        severity: Of the alert that fires; ``NONE`` without one.
        since_us: When it became that.
        cleared: The severity that was cleared last, while the cool-down lasts; else ``NONE``.
        finding: Of the last score, while there is an alert or a reason for one.
        wake_us: When a tick has to look again.
    """

    severity: Severity = Severity.NONE
    since_us: int = 0
    cleared: Severity = Severity.NONE
    cleared_us: int = 0
    finding: _Finding | None = None
    wake_us: int = NEVER_US


_STATE = msgspec.msgpack.Decoder(_State)


class Alerts:
    """Follow one asset's severity with hysteresis, minimum hold and cool-down.

    Falling needs the risk to be ``clear_below_points`` below the threshold of the present severity, or the pressure to have
    left what that severity wants; either way not before ``minimum_hold_us``. It then falls to what the score says. A fall that
    had to wait for the hold, and a rise that had to wait for the cool-down, come with the first tick after it, from the last
    score. A rise above what was cleared does not wait.

    ``reason`` names the inputs that the score was without: an alert on degraded data says so.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters.alerts
        self._thresholds = parameters.severity
        self._state = _State() if state is None else _STATE.decode(cast("bytes", state))

    def handlers(self) -> Mapping[type, Handler]:
        """Own scores and ticks; both go on."""
        return {Score: self.on_score, AssetTick: self.on_tick}

    def snapshot(self) -> object:
        """Return the state, some hundred bytes."""
        return msgspec.msgpack.encode(self._state)

    def is_idle(self) -> bool:
        """Say whether nothing fires, nothing would but for the cool-down, and the cool-down is over."""
        return self._state == _State()

    def on_score(self, score: Score) -> tuple[object, ...]:
        """Return the score, and the alert's change if it makes one."""
        state = self._state
        if score.severity is Severity.NONE and state.severity is Severity.NONE:
            state.finding = None
            return (score,)
        risk = score.risk
        state.finding = _Finding(
            score.severity,
            risk.total,
            risk.raised_by(),
            None if score.pressure is None else score.pressure.pressure,
            tuple(name for name in score.missing_inputs if name.partition(":")[0] in _RISK_INPUTS),
            score.cause.sequence,
        )
        return (score, *self._judge(score.cause, score.asset))

    def on_tick(self, tick: AssetTick) -> tuple[object, ...]:
        """Return a change that had to wait until now, and the tick."""
        if tick.cause.receive_time_us < self._state.wake_us:
            return (tick,)
        return (*self._judge(tick.cause, tick.asset), tick)

    def _judge(self, cause: Cause, asset: str) -> tuple[AlertChange, ...]:
        state = self._state
        now_us = cause.receive_time_us
        cool_us = state.cleared_us + self._parameters.cooldown_us
        if now_us >= cool_us:
            state.cleared, state.cleared_us = Severity.NONE, 0
        state.wake_us = NEVER_US if state.cleared is Severity.NONE else cool_us
        finding = state.finding
        if finding is None:
            return ()
        step = _RANK[finding.severity] - _RANK[state.severity]
        if step > 0 and _RANK[finding.severity] > _RANK[state.cleared]:
            return (self._change(cause, asset, finding),)
        if step < 0 and self._is_gone(finding):
            held_us = state.since_us + self._parameters.minimum_hold_us
            if now_us >= held_us:
                return (self._change(cause, asset, finding),)
            state.wake_us = held_us
        return ()

    def _is_gone(self, finding: _Finding) -> bool:
        """Say whether the reason for the present severity is clearly gone."""
        severity = self._state.severity
        clear_risk = risk_threshold(severity, self._thresholds) - self._parameters.clear_below_points
        return finding.risk <= clear_risk or not is_pressure_low_enough(severity, finding.pressure, self._thresholds)

    def _change(self, cause: Cause, asset: str, finding: _Finding) -> AlertChange:
        state = self._state
        previous, severity = state.severity, finding.severity
        is_resolved = severity is Severity.NONE
        state.severity = severity
        state.since_us = 0 if is_resolved else cause.receive_time_us
        state.cleared = previous if is_resolved else Severity.NONE
        state.cleared_us = cause.receive_time_us if is_resolved else 0
        state.wake_us = cause.receive_time_us + self._parameters.cooldown_us if is_resolved else NEVER_US
        state.finding = None if is_resolved else finding
        return AlertChange(
            cause=cause,
            asset=asset,
            severity=severity,
            previous_severity=previous,
            state=AlertState.RESOLVED if is_resolved else AlertState.FIRING,
            reason=_reason(asset, finding, previous),
            score_sequence=finding.sequence,
            risk=finding.risk,
            pressure=finding.pressure,
        )


def _reason(asset: str, finding: _Finding, previous: Severity) -> str:
    """Say it in a sentence with the numbers; what the score did not know comes last."""
    points = ", ".join(f"{name} {value}" for name, value in finding.points)
    risk = f"{asset} risk {finding.risk} ({points})" if points else f"{asset} risk {finding.risk}"
    pressure = "not known" if finding.pressure is None else f"{finding.pressure:+d}".replace("-", "−")
    verdict = "resolved" if finding.severity is Severity.NONE else finding.severity.value
    before = "" if previous is Severity.NONE else f", was {previous.value}"
    missing = ", ".join(name.replace("_", " ") for name in finding.missing)
    without = f" (without {missing})" if missing else ""
    return f"{risk}, pressure {pressure}: {verdict}{before}{without}"
