"""Where a cascade begins and ends, per asset and position side (scores §4, absolute threshold). Wants sequence order.

The law: at most one cascade runs per side; it begins with the liquidation that meets every condition, is said at once, and
ends when its 90-second sum is zero or has come down below ``end_fraction`` of the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import msgspec

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


class _Cascade(msgspec.Struct):
    """A cascade that runs."""

    cascade_id: str
    began_time_us: int
    total_micros: int
    total_count: int


class _Side(msgspec.Struct):
    """One position side.

    Attributes:
        newest_us: Event time of the newest liquidation per venue, for the last 90 s at least; at most ``MAX_VENUES``.
        low_micros: A 90-second sum below this ends the cascade that runs.
        high_micros: Above this one may begin; while one runs, its largest 90-second sum.
    """

    position_side: PositionSide
    newest_us: dict[str, int] = msgspec.field(default_factory=dict)
    cascade: _Cascade | None = None
    low_micros: int = 0
    high_micros: int = 0


_SIDES = msgspec.msgpack.Decoder(tuple[_Side, _Side])


class CascadeLifecycle:
    """Follow one asset's cascades from begin to end.

    A cascade begins on a :class:`LiquidationPulse` only: what makes one is a liquidation, not the other side's falling silent.
    It ends on a pulse or, where time alone ends it, on the :class:`LiquidationWindows` of a tick. Pulses are consumed: nothing
    after this needs them. Late liquidations have none: they belong to no window, and so to no cascade.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._thresholds = parameters.cascade
        self._dominance_share = parameters.cascade.dominance_share
        self._begin_micros = parameters.cascade.window_usd * _MICROS
        end_micros = math.ceil(parameters.cascade.end_fraction * self._begin_micros)
        self._end_micros = max(1, end_micros)  # a sum of zero always ends it
        saved = (_Side(PositionSide.LONG), _Side(PositionSide.SHORT))
        if state is not None:
            saved = _SIDES.decode(cast("bytes", state))
        self._long, self._short = saved
        self._watch(self._long)
        self._watch(self._short)

    def handlers(self) -> Mapping[type, Handler]:
        """Own the pulses, which carry the liquidations that no window misses, and the full readings."""
        return {LiquidationPulse: self.on_pulse, LiquidationWindows: self.on_windows}

    def snapshot(self) -> object:
        """Return both sides, some hundred bytes."""
        return msgspec.msgpack.encode((self._long, self._short))

    def is_idle(self) -> bool:
        """Say whether no cascade runs, and the last full reading told of nothing in the last 90 s."""
        return not any(side.newest_us or side.cascade is not None for side in (self._long, self._short))

    def on_pulse(self, pulse: LiquidationPulse) -> tuple[object, ...]:
        """Return what began or ended, in place of the pulse."""
        long, short = self._long, self._short
        long_micros, short_micros = pulse.long_micros, pulse.short_micros
        if pulse.liquidation is not None:
            self._note(pulse.liquidation)
        transitions: tuple[object, ...] = ()
        if long_micros > long.high_micros:
            if long.cascade is not None:
                long.high_micros = long_micros
            elif long_micros >= self._dominance_share * (long_micros + short_micros):
                transitions = self._begin(long, pulse, long_micros, pulse.long_count, pulse.long_venues)
        if short_micros > short.high_micros:
            if short.cascade is not None:
                short.high_micros = short_micros
            elif short_micros >= self._dominance_share * (long_micros + short_micros):
                transitions = self._begin(short, pulse, short_micros, pulse.short_count, pulse.short_venues)
        if long_micros < long.low_micros or short_micros < short.low_micros:
            transitions = (*self._end(long, pulse, long_micros), *self._end(short, pulse, short_micros), *transitions)
        return transitions

    def _note(self, liquidation: Liquidation) -> None:
        """Know its venue, under a common name when there are too many; count it towards the cascade that runs."""
        side = self._long if liquidation.position_side is _LONG else self._short
        event_time_us = liquidation.event_time_us
        venue = liquidation.venue
        newest_us = side.newest_us.get(venue)
        if newest_us is None and len(side.newest_us) >= MAX_VENUES - 1:
            venue = OTHER_VENUES
            newest_us = side.newest_us.get(venue)
        if newest_us is None or event_time_us > newest_us:
            side.newest_us[venue] = event_time_us
        cascade = side.cascade
        if cascade is not None:
            cascade.total_micros += liquidation.notional_micros
            cascade.total_count += 1

    def on_windows(self, windows: LiquidationWindows) -> tuple[object, ...]:
        """Return the reading, and what ended; forget the venues of a silent side."""
        outputs: tuple[object, ...] = (windows,)
        for side, reading in ((self._long, windows.long), (self._short, windows.short)):
            outputs += self._end(side, windows, reading.usd_micros[_WINDOW])
            if not reading.counts[_WINDOW]:
                side.newest_us.clear()
        return outputs

    def _begin(
        self, side: _Side, pulse: LiquidationPulse, micros: int, count: int, venues: int
    ) -> tuple[CascadeTransition, ...]:
        """Begin a cascade on a side that is large and dominant enough, if it is broad enough too."""
        if count < self._thresholds.min_count or venues < self._thresholds.min_venues:
            return ()
        cause = pulse.cause
        side.cascade = _Cascade(
            cascade_id=f"{pulse.asset}-{side.position_side.value}-{cause.feed_partition}-{cause.sequence}",
            began_time_us=cause.receive_time_us,
            total_micros=micros,
            total_count=count,
        )
        side.low_micros = self._end_micros
        side.high_micros = micros
        return (_transition(CascadePhase.BEGAN, side, side.cascade, pulse, micros),)

    def _end(self, side: _Side, reading: LiquidationPulse | LiquidationWindows, micros: int) -> tuple[CascadeTransition, ...]:
        cascade = side.cascade
        if cascade is None or micros >= side.low_micros:
            return ()
        ended = _transition(CascadePhase.ENDED, side, cascade, reading, micros)
        side.cascade = None
        self._watch(side)
        return (ended,)

    def _watch(self, side: _Side) -> None:
        """Set what a side waits for, by the thresholds that hold now."""
        side.low_micros = 0 if side.cascade is None else self._end_micros
        if side.cascade is None:
            side.high_micros = self._begin_micros


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
        peak_micros=side.high_micros,
        total_micros=cascade.total_micros,
        total_count=cascade.total_count,
        venues=tuple(sorted(venue for venue, newest_us in side.newest_us.items() if newest_us > from_us)),
    )
