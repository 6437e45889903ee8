"""The market on the wall clock: steps on time, publishes through each venue's throttle, keeps the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from simulator.instruments import VENUES
from simulator.market import STEP_MS, Liquidation, Market
from simulator.throttles import make_throttles
from simulator.truth import Record, Truth

Outlet = Callable[[Sequence[Record], int], Sequence[int]]
"""Publishes records in one message at a time in ms; returns for each record how many connections it went to."""

_STEPS_AT_ONCE = 50  # then others get their turn, also while catching up
_MESSAGES_AT_ONCE = 200  # the same, in a flood


def wall_ms() -> int:
    """Return milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


class Exchange:
    """Everything that moves by itself.

    The venues' clock is the wall clock: an event's time is the start plus its step's time (divided by the speed), so no
    event is ever ahead of the clock, and throttles count real seconds at any speed.
    """

    def __init__(self, market: Market, *, speed: float = 1.0, start_ms: int | None = None) -> None:
        """Take a market that has not begun.

        Args:
            market: The market.
            speed: Simulated seconds per second.
            start_ms: When it starts; the moment of :meth:`run` if not given.
        """
        self.market = market
        self.truth = Truth()
        self.speed = speed
        self.start_ms = wall_ms() if start_ms is None else start_ms
        self.is_held = False
        self.clock_ahead_ms = dict.fromkeys(VENUES, 0)  # a fault: how wrong a venue's clock is
        self._throttles = make_throttles()
        self._outlets: Mapping[str, Outlet] = {}
        self._go = asyncio.Event()
        self._settled = asyncio.Event()  # nobody can be liquidated, and nothing waits to be published

    def connect(self, outlets: Mapping[str, Outlet]) -> None:
        """Say how each venue's messages reach its subscribers."""
        self._outlets = outlets

    @property
    def now_ms(self) -> int:
        """Time of the latest step on the venues' clock."""
        return self.start_ms + round(self.market.steps * STEP_MS / self.speed)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be published."""
        return all(throttle.is_idle() for throttle in self._throttles.values())

    def advance(self) -> list[Record]:
        """Take one step and publish what is due."""
        liquidations = self.market.step()
        now_ms = self.now_ms
        records = [self._happened(liquidation, now_ms) for liquidation in liquidations]
        for record in records:
            self._throttles[record.liquidation.instrument.venue].add(record, now_ms)
        for venue, throttle in self._throttles.items():
            for message in throttle.due(now_ms):
                self._publish(venue, message, now_ms)
        if self.market.is_frozen and self.is_idle:
            self._settled.set()
        return records

    async def flood(self, venue: str, count: int) -> None:
        """Liquidate and publish so many in one millisecond, each in a message of its own, past every throttle."""
        now_ms = self.now_ms
        for number, liquidation in enumerate(self.market.crowd(venue, count), start=1):
            self._publish(venue, [self._happened(liquidation, now_ms)], now_ms)
            if number % _MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def hold(self) -> None:
        """Let time stand still until :meth:`start`, or until every venue has a subscriber."""
        self.is_held = True

    def start(self) -> None:
        """End the hold."""
        self.is_held = False
        self._go.set()

    def was_subscribed(self, venue: str) -> None:
        """Hear of a subscription."""
        self.truth.was_subscribed(venue, wall_ms())
        if self.is_held and all(self.truth.venues[each].first_subscribed_ms is not None for each in VENUES):
            self.start()

    async def run(self) -> None:
        """Step on the wall clock, for ever."""
        if self.is_held:
            await self._go.wait()
        self.start_ms = wall_ms()
        begin = time.monotonic()
        while True:
            due = int((time.monotonic() - begin) * 1000 * self.speed / STEP_MS)
            for _ in range(min(due - self.market.steps, _STEPS_AT_ONCE)):
                self.advance()
            is_behind = due > self.market.steps
            await asyncio.sleep(0.0 if is_behind else STEP_MS / 1000 / max(self.speed, 1.0))

    async def stop_liquidations(self) -> None:
        """Let nobody be liquidated any more, and wait until all that happened has been published."""
        self.market.is_frozen = True
        if not self.is_held:
            self._settled.clear()
            await self._settled.wait()

    def _happened(self, liquidation: Liquidation, now_ms: int) -> Record:
        return self.truth.happened(liquidation, now_ms + self.clock_ahead_ms[liquidation.instrument.venue])

    def _publish(self, venue: str, records: Sequence[Record], now_ms: int) -> None:
        outlet = self._outlets.get(venue)
        sent_ms = now_ms + self.clock_ahead_ms[venue]
        receivers = outlet(records, sent_ms) if outlet is not None else [0] * len(records)
        for record, count in zip(records, receivers, strict=True):
            self.truth.was_published(record, now_ms, count)
