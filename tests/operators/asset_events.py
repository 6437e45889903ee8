"""Builders and runners for the machines keyed by asset. Times are seconds after noon unless a name says otherwise."""

from __future__ import annotations

import pickle

from market.events import AssetTick, Derivatives, Liquidation
from market.raw import Cause, Completeness, PositionSide

SECOND = 1_000_000
NOON_US = 1_760_097_600 * SECOND
USD = 1_000_000

LONG = PositionSide.LONG
SHORT = PositionSide.SHORT


def at(seconds):
    return NOON_US + round(seconds * SECOND)


def cause(seconds=0.0, sequence=1):
    return Cause("0", sequence, at(seconds))


def liquidation(
    at_s=0.0,
    *,
    usd=1_000,
    position_side=LONG,
    venue="bybit-linear",
    delay_s=0.0,
    completeness=Completeness.FULL,
    sequence=1,
    asset="BTC",
):
    """Received ``at_s``, dated ``delay_s`` earlier."""
    return Liquidation(
        cause=cause(at_s, sequence),
        venue=venue,
        symbol=f"{asset}USDT",
        asset=asset,
        position_side=position_side,
        price=100_000.0,
        base_quantity=usd / 100_000,
        notional_micros=round(usd * USD),
        completeness=completeness,
        event_time_us=at(at_s - delay_s),
    )


def tick(at_s=0.0, sequence=1, asset="BTC"):
    return AssetTick(cause(at_s, sequence), asset)


def derivatives(at_s=0.0, *, venue="bybit-linear", symbol="BTCUSDT", delay_s=0.0, sequence=1, **values):
    unknown = {
        "mark_price": None,
        "index_price": None,
        "open_interest_base": None,
        "open_interest_usd": None,
        "funding_rate": None,
        "funding_interval_hours": None,
        "funding_rate_8h": None,
        "long_short_ratio": None,
    }
    return Derivatives(
        cause=cause(at_s, sequence),
        venue=venue,
        symbol=symbol,
        asset="BTC",
        event_time_us=at(at_s - delay_s),
        **{**unknown, **values},
    )


def handle(machine, item):
    """What goes on in place of an item."""
    handler = machine.handlers().get(type(item))
    return [item] if handler is None else list(handler(item))


def feed(machine, items):
    return [out for item in items for out in handle(machine, item)]


def feed_with_restarts(build, items, restart_before=(), forget_when_idle=False):
    """Feed a machine; before some items (by number) replace it by one rebuilt from its saved state, as a restart does.

    ``forget_when_idle`` also throws it away whenever it says that nothing would be lost.
    """
    machine = build(None)
    outs = []
    for number, item in enumerate(items):
        if number in restart_before:
            saved = pickle.dumps(machine.snapshot())
            machine = build(pickle.loads(saved))  # noqa: S301 - our own bytes, as the framework stores them
        outs += handle(machine, item)
        if forget_when_idle and machine.is_idle():
            machine = build(None)
    return outs, machine


class InTurn:
    """Machines one behind another, as a chain of the flow runs them."""

    def __init__(self, builds, states=None):
        self.machines = [build(state) for build, state in zip(builds, states or [None] * len(builds), strict=True)]

    def handle(self, item):
        items = [item]
        for machine in self.machines:
            items = feed(machine, items)
        return items

    def feed(self, items):
        return [out for item in items for out in self.handle(item)]

    def snapshot(self):
        return tuple(machine.snapshot() for machine in self.machines)
