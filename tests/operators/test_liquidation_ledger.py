"""The ledger against a recount of all it holds, through both of its ways: the one for a few events and NumPy's."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from operators.liquidation_ledger import MAX_SUM_MICROS, Ledger, Totals, add_by_code

SPANS_US = (10, 30, 100)
FEW_AND_MANY = (0, 1, 2, 23, 24, 25, 47, 48, 60)


class Event(NamedTuple):
    time_us: int
    notional_micros: int
    code: int


class Step(NamedTuple):
    """Time goes on, events come in any order, and some of the oldest are dropped: those outside, and so many more."""

    pass_us: int
    events: int
    is_trimmed: bool
    dropped: int


steps = st.builds(
    Step,
    pass_us=st.integers(0, 60),
    events=st.sampled_from(FEW_AND_MANY),
    is_trimmed=st.booleans(),
    dropped=st.sampled_from((0, 0, 0, 1, 30)),
)


def recount(events: list[Event], now_us: int) -> Totals:
    held = [[event.notional_micros for event in events if event.time_us > now_us - span_us] for span_us in SPANS_US]
    return Totals(
        tuple(map(sum, held)),
        tuple(map(len, held)),
        tuple(max(notionals, default=0) for notionals in held),
    )


def held_by(ledger: Ledger) -> list[Event]:
    return [Event(*properties) for properties in zip(ledger.times, ledger.notionals, ledger.codes, strict=True)]


def insert(ledger: Ledger, events: list[Event]) -> None:
    ledger.insert(*(list(properties) for properties in zip(*events, strict=True)))


def of(*notionals: int) -> Ledger:
    """Return a ledger of events one microsecond apart, from the first on."""
    ledger = Ledger(SPANS_US)
    insert(ledger, [Event(number, notional, 0) for number, notional in enumerate(notionals, start=1)])
    return ledger


@settings(max_examples=examples(200))
@given(story=st.lists(steps, max_size=12), seed=st.integers(0, 2**32))
def test_totals_are_those_of_a_recount_whatever_comes_and_goes(story: list[Step], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a load, not a secret
    ledger, events, now_us = Ledger(SPANS_US), list[Event](), 1_000
    for step in story:
        now_us += step.pass_us
        new = [Event(now_us - chance.randrange(120), chance.randrange(1, 40), chance.randrange(3)) for _ in range(step.events)]
        if new:
            insert(ledger, new)
            events = sorted([*events, *new], key=lambda event: event.time_us)

        assert ledger.update()
        assert ledger.totals(now_us) == recount(events, now_us)
        assert held_by(ledger) == events
        leaves_us = [event.time_us + span_us for event in events for span_us in SPANS_US if event.time_us + span_us > now_us]
        assert min(ledger.changes_us(), now_us + 1_000) == min(leaves_us, default=now_us + 1_000)
        assert ledger.outside() == sum(event.time_us <= now_us - max(SPANS_US) for event in events)

        count = step.dropped + (ledger.outside() if step.is_trimmed else 0)
        if count:
            ledger.drop(count)
            events = events[count:]


def test_the_largest_sum_that_fits_is_told_and_one_more_is_not() -> None:
    fitting, too_large = of(MAX_SUM_MICROS - 1, 1), of(MAX_SUM_MICROS, 1)

    assert fitting.update()
    assert fitting.totals(5).usd_micros == (MAX_SUM_MICROS,) * 3
    assert not too_large.update()


def test_what_was_dropped_does_not_count_towards_the_limit() -> None:
    ledger = of(MAX_SUM_MICROS - 5, 3)
    ledger.update()
    ledger.totals(2)
    ledger.drop(1)

    insert(ledger, [Event(3, MAX_SUM_MICROS - 3, 0)])

    assert ledger.update()
    assert ledger.totals(3) == Totals((MAX_SUM_MICROS,) * 3, (2,) * 3, (MAX_SUM_MICROS - 3,) * 3)


def test_what_is_outside_may_be_dropped_between_two_totals() -> None:
    ledger = of(7, 5, 3)
    ledger.update()
    assert ledger.totals(102) == Totals((0, 0, 3), (0, 0, 1), (0, 0, 3))

    ledger.drop(ledger.outside())

    assert ledger.totals(102) == Totals((0, 0, 3), (0, 0, 1), (0, 0, 3))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("count", [0, 1, 127, 128, 300])
def test_notionals_are_added_to_the_sum_of_their_code(count: int, sign: int) -> None:
    notionals = [number * 10**15 for number in range(count)]
    codes = [number % 3 for number in range(count)]
    sums = [5, 6, 7]

    add_by_code(sums, notionals, codes, sign=sign)

    assert sums == [5 + code + sign * sum(notionals[code::3]) for code in range(3)]


def test_notionals_beyond_the_limit_are_added_exactly() -> None:
    notionals = [2**60] * 200
    sums = [0]

    add_by_code(sums, notionals, [0] * 200)

    assert sums == [200 * 2**60]
