"""What the suites of the machines keyed by feed partition share: run items through a machine, with or without restarts."""

from __future__ import annotations

import pickle

import msgspec
from hypothesis import strategies as st

from market.raw import Cause, Tick
from operators.machine import MachineChain

SECOND = 1_000_000
NOON_US = 1_767_182_400_000_000  # 2025-12-31 12:00:00 UTC


def us(at_s):
    """Return the time so many seconds after noon."""
    return NOON_US + round(at_s * SECOND)


def cause(at_s=0.0, sequence=1):
    return Cause("p", sequence, us(at_s))


def tick(at_s=0.0, sequence=1):
    return Tick(cause(at_s, sequence))


def numbered(items):
    """Return the items, each in a frame of its own, in this order."""
    replace = msgspec.structs.replace
    return [replace(item, cause=replace(item.cause, sequence=sequence)) for sequence, item in enumerate(items, 1)]


def histories(kinds, pauses_s, *choices):
    """Draw lists of items, each some pause after the one before it, made by a kind from its time and one of each choice."""
    steps = st.tuples(st.sampled_from(pauses_s), st.sampled_from(sorted(kinds)), *map(st.sampled_from, choices))

    def history(drawn):
        at_s, items = 0, []
        for pause_s, kind, *chosen in drawn:
            at_s += pause_s
            items.append(kinds[kind](at_s, *chosen))
        return items

    return st.lists(steps, max_size=30).map(history)


def run(build, items, restarts=()):
    """Return what each item became; before the item at each place in ``restarts`` the machine is saved and rebuilt."""
    chain = MachineChain([build], None)
    became = []
    for place, item in enumerate(items):
        if place in restarts:
            saved = pickle.dumps(chain.snapshot())
            chain = MachineChain([build], pickle.loads(saved))  # noqa: S301 - our own bytes, as Bytewax stores them
        became.append([out for bunch in chain.on_batch([[item]])[0] for out in bunch])
    return became


def derived(build, items):
    """Return what was derived, without the items that were passed on."""
    became = run(build, items)
    return [output for item, outputs in zip(items, became, strict=True) for output in outputs if output is not item]
