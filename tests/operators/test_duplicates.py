"""Repeated liquidations."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_machines import cause, run, us
from property_examples import examples

from market.parameters import DuplicateParameters, Parameters
from market.raw import Completeness, PositionSide, RawLiquidation
from operators.duplicates import Duplicates

HORIZON_S = 600


def default(state):
    return Duplicates(Parameters(), state)


def with_parameters(max_keys=200_000, horizon_s=HORIZON_S):
    parameters = Parameters(duplicates=DuplicateParameters(horizon_us=horizon_s * 1_000_000, max_keys=max_keys))
    return lambda state: Duplicates(parameters, state)


def liquidation(at_s=0.0, sequence=1, **changes):
    """Return a liquidation of a frame received so many seconds after noon; the venue's time is noon."""
    usual = RawLiquidation(
        cause=cause(at_s, sequence),
        venue="okx",
        symbol="BTC-USDT-SWAP",
        position_side=PositionSide.LONG,
        price="100000.5",
        contract_quantity="3",
        completeness=Completeness.SAMPLED,
        event_time_us=us(0),
    )
    return msgspec.structs.replace(usual, **changes)


def passed(items, built=default, restarts=()):
    return [output for outputs in run(built, items, restarts) for output in outputs]


def test_the_same_liquidation_in_a_later_frame_is_dropped():
    first, again = liquidation(0, 1), liquidation(5, 2)

    assert passed([first, again]) == [first]


@pytest.mark.parametrize(
    "changes",
    [
        {"venue": "binance-usdm"},
        {"symbol": "ETH-USDT-SWAP"},
        {"position_side": PositionSide.SHORT},
        {"price": "100000.6"},
        {"contract_quantity": "4"},
        {"event_time_us": us(0) + 1},
    ],
)
def test_a_liquidation_that_differs_in_anything_is_another(changes):
    items = [liquidation(0, 1), liquidation(0, 2, **changes)]

    assert passed(items) == items


def test_two_equal_prints_of_one_frame_are_two_liquidations():
    items = [liquidation(0, 1), liquidation(0, 1)]

    assert passed(items) == items


def test_a_frame_with_two_equal_prints_received_again_brings_nothing():
    first, second, third = ([liquidation(sequence, sequence)] * 2 for sequence in (1, 2, 3))

    assert passed([*first, *second, *third]) == first


def test_of_equal_prints_in_several_frames_as_many_count_as_the_fullest_frame_had():
    one, three, two = ([liquidation(sequence, sequence)] * count for sequence, count in ((1, 1), (2, 3), (3, 2)))

    assert passed([*one, *three, *two]) == [*one, *three[:2]]


def test_what_was_dropped_is_counted_by_venue():
    machine = default(None)
    for item in (
        liquidation(0, 1),
        liquidation(0, 2),
        liquidation(0, 3),
        liquidation(0, 4, venue="bybit-linear"),
        liquidation(0, 5, venue="bybit-linear"),
    ):
        machine.on_liquidation(item)

    assert machine.counts == {"okx": 2, "bybit-linear": 1}
    assert default(machine.snapshot()).counts == {"okx": 2, "bybit-linear": 1}


def test_a_repeat_is_recognised_for_the_horizon_and_at_most_a_second_longer():
    first = liquidation(0.2, 1)

    assert passed([first, liquidation(0.2 + HORIZON_S, 2)]) == [first]
    assert passed([first, liquidation(1 + HORIZON_S, 2)]) == [first, liquidation(1 + HORIZON_S, 2)]


def test_a_clock_that_steps_back_shortens_no_memory():
    items = [liquidation(100, 1), liquidation(50, 2, price="1"), liquidation(100, 3, price="1"), liquidation(100, 4)]

    assert passed(items) == items[:2]


def test_beyond_the_limit_the_oldest_are_forgotten_first():
    prices = ["1", "2", "3", "2", "3", "1"]
    items = [liquidation(number / 2, number, price=price) for number, price in enumerate(prices, 1)]

    assert passed(items, with_parameters(max_keys=2)) == [*items[:3], items[5]]


def test_equal_prints_of_one_frame_keep_to_the_limit_too():
    machine = with_parameters(max_keys=2)(None)
    for _ in range(5):
        machine.on_liquidation(liquidation(0, 1))

    assert len(machine._seen) == 2


def test_a_snapshot_encodes_only_what_is_new():
    machine = default(None)
    parts = [machine.snapshot()[1]]
    for number in (1, 2):
        machine.on_liquidation(liquidation(number, number, price=str(number)))
        parts.append(machine.snapshot()[1])
    machine.on_liquidation(liquidation(3, 3, price="1"))
    parts.append(machine.snapshot()[1])

    assert [len(each) for each in parts] == [0, 1, 2, 2]
    assert parts[2][0] is parts[1][0]
    assert parts[3][1] is parts[2][1]


def test_a_part_is_dropped_when_all_its_keys_are_forgotten():
    machine = default(None)
    for number in range(3):
        machine.on_liquidation(liquidation(number * HORIZON_S / 2, number, price=str(number)))
        machine.snapshot()
    machine.on_liquidation(liquidation(HORIZON_S + 1, 3, price="3"))

    assert len(machine.snapshot()[1]) == 3


@pytest.mark.parametrize("max_keys", [200_000, 4])
def test_however_often_much_was_forgotten_a_restart_knows_the_rest(max_keys):
    machine = with_parameters(max_keys)(None)
    for turn, count in enumerate((5, 3, 2, 4)):
        at_s = turn * (HORIZON_S + 2)
        items = [liquidation(at_s, 10 * turn + number, price=str(number + 1)) for number in range(count)]
        assert [output for item in items for output in machine.on_liquidation(item) if machine.snapshot()] == items

        restarted = with_parameters(max_keys)(machine.snapshot())
        repeats = [liquidation(at_s + 1, 1_000, price=item.price) for item in items[-max_keys:]]
        assert [output for item in repeats for output in restarted.on_liquidation(item)] == []
        assert len(machine.snapshot()[1]) == min(count, max_keys)  # a part per snapshot or second, and none of what is gone


def test_it_never_becomes_idle():
    assert not default(None).is_idle()


# Properties


@st.composite
def frames(draw):
    """Return the liquidations of frames in sequence order, from a handful that repeat."""
    items, at_s = [], 0.0
    for sequence in range(1, draw(st.integers(0, 12)) + 1):
        at_s += draw(st.sampled_from([0, 0.3, 1, 4, -2]))
        items += [liquidation(at_s, sequence, price=price) for price in draw(st.lists(st.sampled_from("123"), max_size=5))]
    return items


@settings(max_examples=examples(150))
@given(items=frames(), restarts=st.sets(st.integers(0, 60)), max_keys=st.integers(0, 8), horizon_s=st.integers(1, 20))
def test_a_restart_at_any_point_changes_nothing(items, restarts, max_keys, horizon_s):
    built = with_parameters(max_keys, horizon_s)

    assert run(built, items, restarts) == run(built, items)


@given(items=frames(), looks=st.sets(st.integers(0, 60)), max_keys=st.integers(0, 8))
def test_the_state_stays_bounded_and_a_snapshot_changes_nothing(items, looks, max_keys):
    machine = with_parameters(max_keys, horizon_s=5)(None)
    outputs = []
    for place, item in enumerate(items):
        outputs += machine.on_liquidation(item)
        assert len(machine._seen) <= max_keys
        assert len(machine._seen) == sum(len(keys) for _end_us, keys in machine._buckets)
        if place in looks:
            assert len(machine.snapshot()[1]) <= max_keys

    assert outputs == passed(items, with_parameters(max_keys, horizon_s=5))


@given(items=frames())
def test_within_the_memory_exactly_the_fullest_frame_of_equal_prints_passes(items):
    per_frame = Counter((item.price, item.cause.sequence) for item in items)
    expected = Counter()
    for (price, _sequence), count in per_frame.items():
        expected[price] = max(expected[price], count)

    assert Counter(item.price for item in passed(items)) == expected
