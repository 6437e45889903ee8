"""Rolling liquidations of one asset over every look-back (scores §4). Wants sequence order; takes disorder in event time.

The law: a window of w holds, by event time, (now − w, now], where now is the receive time of the newest item. What is
published is what a recount of all liquidations would say, to the micro-USD, whatever order they came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from market.events import AssetTick, Liquidation
from market.parameters import Parameters
from market.raw import Cause, Completeness, PositionSide
from market.readings import LiquidationPulse, LiquidationWindows
from operators.liquidation_ledger import NEVER_US
from operators.liquidation_side import HEAD_US, LONGEST_US, MAX_VENUES, Side, SideState
from operators.machine import Handler
from operators.pace import next_emission_us

OTHER_VENUES = "other"
"""What the last number stands for: all venues beyond the first forty, which are told apart by name."""

_AT_ONCE = -1  # wakes the next tick: there is something new to say

# Members looked up once: an attribute of an enum class costs more than the comparison.
_LONG = PositionSide.LONG
_FULL = Completeness.FULL


class _State(msgspec.Struct, frozen=True, gc=False):
    """The machine, saved. ``venues`` are in order of their codes."""

    now_us: int
    next_emission_us: int
    wake_us: int
    is_quiet: bool
    late_until_us: int
    venues: tuple[str, ...]
    long: SideState
    short: SideState


class LiquidationWindowsMachine:
    """Publish one asset's rolling liquidations: a pulse per liquidation, a full reading at most once per interval.

    A liquidation goes on, followed by its :class:`LiquidationPulse` and, when none was published in this interval of its
    clock, by :class:`LiquidationWindows`; otherwise the next tick publishes that. A tick also publishes when time alone
    changed a window. What a tick publishes goes before the tick, which so closes its second.

    A liquidation received more than ``allowed_lateness_us`` after its event time is late: it is counted and goes on, and
    enters no window. ``late_count`` counts since the asset's windows were last all empty.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._lateness_us = parameters.windows.allowed_lateness_us
        self._interval_us = parameters.windows.emit_interval_us
        self._patience_us = max(0, HEAD_US - self._lateness_us)  # no event leaves the head sooner after its arrival
        self._begin()
        if state is not None:
            self._restore(cast("_State", state))

    def _begin(self) -> None:
        self._now_us = 0
        self._next_emission_us = 0
        self._settle_us = 0  # by then at the latest, new events are brought into the ledgers
        self._wake_us = NEVER_US  # a tick before it has nothing to say
        self._is_quiet = False  # all was empty when last published: what the next tick does, unless at once, is to forget
        self._late_until_us = 0
        self._venues: list[str] = []
        self._full_codes: dict[str, int] = {}
        self._sampled_codes: dict[str, int] = {}
        self._long = Side(None)
        self._short = Side(None)

    def _restore(self, state: _State) -> None:
        self._now_us = state.now_us
        self._next_emission_us = state.next_emission_us
        self._wake_us = state.wake_us
        self._is_quiet = state.is_quiet
        self._late_until_us = state.late_until_us
        for venue in state.venues:
            self._learn(venue)
        self._long = Side(state.long)
        self._short = Side(state.short)

    def handlers(self) -> Mapping[type, Handler]:
        """Own liquidations and ticks."""
        return {Liquidation: self.on_liquidation, AssetTick: self.on_tick}

    def snapshot(self) -> object:
        """Return the state; a side that did not change is not copied again."""
        return _State(
            self._now_us,
            self._next_emission_us,
            self._wake_us,
            self._is_quiet,
            self._late_until_us,
            tuple(self._venues),
            self._long.snapshot(),
            self._short.snapshot(),
        )

    def is_idle(self) -> bool:
        """Say whether every window is empty, that has been published, and its interval is over."""
        return not self._now_us

    def on_liquidation(self, liquidation: Liquidation) -> tuple[object, ...]:
        """Return the liquidation, its pulse, and a full reading where one is due."""
        cause = liquidation.cause
        now_us = cause.receive_time_us
        if now_us > self._now_us:
            self._now_us = now_us
        else:
            now_us = self._now_us
        long, short = self._long, self._short
        side = long if liquidation.position_side is _LONG else short
        event_time_us = liquidation.event_time_us
        if now_us - event_time_us > self._lateness_us:
            self._note_late(side)
            return (liquidation,)
        is_due = now_us >= self._settle_us
        if is_due:
            self._settle()
        head_from_us = now_us - HEAD_US
        if long.leaves_us <= head_from_us:
            long.advance(head_from_us)
        if short.leaves_us <= head_from_us:
            short.advance(head_from_us)
        code = (self._full_codes if liquidation.completeness is _FULL else self._sampled_codes).get(liquidation.venue)
        if code is None:
            code = self._learn(liquidation.venue) + (liquidation.completeness is _FULL)
        if event_time_us > head_from_us:
            side.add(event_time_us, liquidation.notional_micros, code, head_from_us)
        else:
            side.add_behind(event_time_us, liquidation.notional_micros, code)
        self._wake_us = _AT_ONCE
        pulse = LiquidationPulse(
            cause,
            liquidation.asset,
            long.total_micros,
            short.total_micros,
            long.total_count,
            short.total_count,
            long.venues_active,
            short.venues_active,
            liquidation,
        )
        if is_due and now_us >= self._next_emission_us:
            return (liquidation, pulse, self._read(cause, liquidation.asset))
        return (liquidation, pulse)

    def on_tick(self, tick: AssetTick) -> tuple[object, ...]:
        """Return a full reading, where there is something new to say, and the tick."""
        now_us = tick.cause.receive_time_us
        if now_us < self._wake_us or now_us < self._next_emission_us:
            return (tick,)
        if self._is_quiet and self._wake_us != _AT_ONCE:
            self._begin()
            return (tick,)
        self._now_us = max(now_us, self._now_us)
        return (self._read(tick.cause, tick.asset), tick)

    def _settle(self) -> None:
        self._long.settle()
        self._short.settle()
        self._settle_us = min(self._next_emission_us, self._now_us + self._patience_us)

    def _read(self, cause: Cause, asset: str) -> LiquidationWindows:
        now_us = self._now_us
        self._next_emission_us = next_emission_us(asset, now_us, self._interval_us)
        self._settle()
        head_from_us = now_us - HEAD_US
        self._long.advance(head_from_us)
        self._short.advance(head_from_us)
        long, long_changes_us = self._long.read(now_us, self._venues)
        short, short_changes_us = self._short.read(now_us, self._venues)
        self._is_quiet = self._long.is_empty() and self._short.is_empty()
        self._wake_us = self._late_until_us if self._is_quiet else min(long_changes_us, short_changes_us)
        return LiquidationWindows(cause, asset, long, short)

    def _note_late(self, side: Side) -> None:
        side.count_late()
        self._late_until_us = self._now_us + LONGEST_US
        self._wake_us = _AT_ONCE

    def _learn(self, venue: str) -> int:
        """Return the code of a new venue's sampled events; those of a venue that publishes all have one more."""
        if len(self._venues) >= MAX_VENUES - 1:
            venue = OTHER_VENUES
            if venue in self._sampled_codes:
                return self._sampled_codes[venue]
        code = 2 * len(self._venues)
        self._venues.append(venue)
        self._sampled_codes[venue] = code
        self._full_codes[venue] = code + 1
        return code
