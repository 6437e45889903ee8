"""Where a cascade begins and ends, per asset and position side (scores §4, absolute threshold). Wants sequence order.

The law: at most one cascade runs per side; it begins with the liquidation that meets every condition, is said at once, and
ends when its 90-second sum is zero or has come down below ``end_fraction`` of the threshold.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from market.events import Liquidation
from market.parameters import Parameters
from market.raw import PositionSide
from market.readings import WINDOWS_S, CascadePhase, CascadeTransition, LiquidationPulse, LiquidationWindows
from operators.liquidation_side import MAX_VENUES
from operators.liquidation_windows import OTHER_VENUES
from operators.machine import Handler

_MICROS = 1_000_000
_WINDOW_US = 90_000_000
_WINDOW = WINDOWS_S.index(90)

# A member looked up once: an attribute of an enum class costs more than the comparison.
_LONG = PositionSide.LONG


@dataclass(slots=True)
class _Cascade:
    """A cascade that runs."""

    cascade_id: str
    began_time_us: int
    peak_micros: int
    total_micros: int
    total_count: int


@dataclass(slots=True)
class _Side:
    """One position side.

    Attributes:
        newest_us: Event time of the newest liquidation per venue, for the last 90 s at least; at most ``MAX_VENUES``.
        low_micros: Not saved, like the next: the 90-second sums between which, both included, nothing begins, grows or ends.
    """

    position_side: PositionSide
    newest_us: dict[str, int] = field(default_factory=dict)
    cascade: _Cascade | None = None
    low_micros: int = 0
    high_micros: int = 0

    def copy(self) -> _Side:
        """Return one that shares nothing that changes."""
        cascade = None if self.cascade is None else dataclasses.replace(self.cascade)
        return _Side(self.position_side, dict(self.newest_us), cascade)


class CascadeLifecycle:
    """Follow one asset's cascades from begin to end.

    A cascade begins on a :class:`LiquidationPulse` only: what makes one is a liquidation, not the other side's falling silent.
    It ends on a pulse or, where time alone ends it, on the :class:`LiquidationWindows` of a tick. Pulses are consumed: nothing
    after this needs them. Late liquidations have none: they belong to no window, and so to no cascade.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._thresholds = parameters.cascade
        self._begin_micros = parameters.cascade.window_usd * _MICROS
        end_micros = math.ceil(parameters.cascade.end_fraction * self._begin_micros)
        self._end_micros = max(1, end_micros)  # a sum of zero always ends it
        saved = (_Side(PositionSide.LONG), _Side(PositionSide.SHORT))
        if state is not None:
            saved = cast("tuple[_Side, _Side]", state)
        self._long, self._short = saved[0].copy(), saved[1].copy()
        self._watch(self._long)
        self._watch(self._short)

    def handlers(self) -> Mapping[type, Handler]:
        """Own the pulses, which carry the liquidations that no window misses, and the full readings."""
        return {LiquidationPulse: self.on_pulse, LiquidationWindows: self.on_windows}

    def snapshot(self) -> object:
        """Return both sides, some hundred bytes."""
        return (self._long.copy(), self._short.copy())

    def is_idle(self) -> bool:
        """Say whether no cascade runs, and the last full reading told of nothing in the last 90 s."""
        return not any(side.newest_us or side.cascade is not None for side in (self._long, self._short))

    def on_pulse(self, pulse: LiquidationPulse) -> tuple[object, ...]:
        """Return what began or ended, in place of the pulse."""
        long, short = self._long, self._short
        liquidation = pulse.liquidation
        if liquidation is not None:
            side = long if liquidation.position_side is _LONG else short
            event_time_us = liquidation.event_time_us
            newest_us = side.newest_us.get(liquidation.venue)
            if newest_us is None:
                self._meet(side, liquidation)
            elif event_time_us > newest_us:
                side.newest_us[liquidation.venue] = event_time_us
            cascade = side.cascade
            if cascade is not None:
                cascade.total_micros += liquidation.notional_micros
                cascade.total_count += 1
        long_micros, short_micros = pulse.long_micros, pulse.short_micros
        transitions: tuple[object, ...] = ()
        if not long.low_micros <= long_micros <= long.high_micros:
            transitions = self._judge(long, pulse, long_micros, pulse.long_count, pulse.long_venues)
        if not short.low_micros <= short_micros <= short.high_micros:
            transitions += self._judge(short, pulse, short_micros, pulse.short_count, pulse.short_venues)
        return transitions

    def _meet(self, side: _Side, liquidation: Liquidation) -> None:
        """Take in a venue that was silent, under a common name when there are too many."""
        venue = liquidation.venue if len(side.newest_us) < MAX_VENUES - 1 else OTHER_VENUES
        side.newest_us[venue] = max(liquidation.event_time_us, side.newest_us.get(venue, 0))

    def on_windows(self, windows: LiquidationWindows) -> tuple[object, ...]:
        """Return the reading, and what ended; forget the venues of a silent side."""
        outputs: tuple[object, ...] = (windows,)
        for side, reading in ((self._long, windows.long), (self._short, windows.short)):
            if side.cascade is not None:
                outputs += self._follow(side, side.cascade, windows, reading.usd_micros[_WINDOW])
            if not reading.counts[_WINDOW]:
                side.newest_us.clear()
        return outputs

    def _judge(
        self, side: _Side, pulse: LiquidationPulse, micros: int, count: int, venues: int
    ) -> tuple[CascadeTransition, ...]:
        """Follow the cascade that runs; begin one on a side that is large, dominant and broad enough."""
        if side.cascade is not None:
            return self._follow(side, side.cascade, pulse, micros)
        is_dominant = micros >= self._thresholds.dominance_share * (pulse.long_micros + pulse.short_micros)
        if not is_dominant or count < self._thresholds.min_count or venues < self._thresholds.min_venues:
            return ()
        cause = pulse.cause
        side.cascade = _Cascade(
            cascade_id=f"{pulse.asset}-{side.position_side.value}-{cause.feed_partition}-{cause.sequence}",
            began_time_us=cause.receive_time_us,
            peak_micros=micros,
            total_micros=micros,
            total_count=count,
        )
        self._watch(side)
        return (_transition(CascadePhase.BEGAN, side, side.cascade, pulse, micros),)

    def _follow(
        self, side: _Side, cascade: _Cascade, reading: LiquidationPulse | LiquidationWindows, micros: int
    ) -> tuple[CascadeTransition, ...]:
        cascade.peak_micros = max(cascade.peak_micros, micros)
        has_ended = micros < self._end_micros
        if has_ended:
            side.cascade = None
        self._watch(side)
        return (_transition(CascadePhase.ENDED, side, cascade, reading, micros),) if has_ended else ()

    def _watch(self, side: _Side) -> None:
        """Set the sums between which there is nothing to do."""
        if side.cascade is None:
            side.low_micros, side.high_micros = 0, self._begin_micros
        else:
            side.low_micros, side.high_micros = self._end_micros, side.cascade.peak_micros


def _transition(
    phase: CascadePhase, side: _Side, cascade: _Cascade, reading: LiquidationPulse | LiquidationWindows, micros: int
) -> CascadeTransition:
    # All it counts is younger than the window it began with, and no venue is forgotten while it runs.
    from_us = cascade.began_time_us - _WINDOW_US
    return CascadeTransition(
        cause=reading.cause,
        cascade_id=cascade.cascade_id,
        asset=reading.asset,
        position_side=side.position_side,
        phase=phase,
        began_time_us=cascade.began_time_us,
        window_micros=micros,
        peak_micros=cascade.peak_micros,
        total_micros=cascade.total_micros,
        total_count=cascade.total_count,
        venues=tuple(sorted(venue for venue, newest_us in side.newest_us.items() if newest_us > from_us)),
    )
