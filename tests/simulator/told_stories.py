"""Runs of the first seed without sockets, shared by all tests that only look at what happened."""

import functools

from simulator.exchange import Exchange
from simulator.instruments import universe
from simulator.market import Market
from simulator.scenarios import SCENARIOS

NOON_MS = 1_795_262_400_000
INSTRUMENTS = universe(NOON_MS)
STEPS_PER_SECOND = 50


@functools.cache
def _telling(scenario):
    return Exchange(Market(INSTRUMENTS, SCENARIOS[scenario], 1), start_ms=NOON_MS), []


def until(scenario, seconds):
    """Return what happened in the first seconds, with what each venue's throttle let through marked as published."""
    exchange, told = _telling(scenario)
    while exchange.market.steps < seconds * STEPS_PER_SECOND:
        told += exchange.advance()
    return [record for record in told if record.liquidation.step <= seconds * STEPS_PER_SECOND]
