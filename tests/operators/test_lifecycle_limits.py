"""Where a cascade begins and ends to the very amount, on either side: found wanting by mutation testing."""

from functools import partial

import pytest
from asset_events import LONG, SHORT, USD, InTurn, liquidation

from market.parameters import CascadeThresholds, Parameters
from market.readings import CascadePhase, CascadeTransition
from operators.lifecycle import CascadeLifecycle
from operators.liquidation_windows import LiquidationWindowsMachine

PARAMETERS = Parameters(cascade=CascadeThresholds(window_usd=100, dominance_share=0.75, min_count=2, min_venues=2))
OTHER = {LONG: SHORT, SHORT: LONG}


def steps(*items):
    machines = InTurn([partial(LiquidationWindowsMachine, PARAMETERS), partial(CascadeLifecycle, PARAMETERS)])
    return [out for out in machines.feed(items) if isinstance(out, CascadeTransition)]


def print_of(at_s, usd, side, venue="okx", **more):
    return liquidation(at_s, usd=usd, position_side=side, venue=venue, **more)


@pytest.mark.parametrize("side", [LONG, SHORT])
@pytest.mark.parametrize(("usd_of_the_other", "phases"), [(40, [CascadePhase.BEGAN]), (40.000001, [])])
def test_exactly_the_share_of_both_sides_is_dominance_enough(side, usd_of_the_other, phases):
    began = steps(
        print_of(0, usd_of_the_other, OTHER[side]),
        print_of(1, 60, side, "bybit-linear"),
        print_of(2, 60, side),
    )

    assert [step.phase for step in began] == phases


@pytest.mark.parametrize("side", [LONG, SHORT])
def test_exactly_the_threshold_is_no_cascade_and_a_micro_dollar_more_is_one(side):
    assert steps(print_of(0, 50, side, "bybit-linear"), print_of(1, 50, side)) == []
    assert len(steps(print_of(0, 50, side, "bybit-linear"), print_of(1, 50.000001, side))) == 1


@pytest.mark.parametrize("side", [LONG, SHORT])
@pytest.mark.parametrize("other", [LONG, SHORT])
def test_a_side_ends_on_the_pulse_of_either_with_its_own_sum_and_the_pulses_cause(side, other):
    ended = steps(
        print_of(0, 60, side, "bybit-linear"),
        print_of(1, 60, side, sequence=2),
        print_of(200, 9, other, sequence=3),
    )[-1]

    assert (ended.phase, ended.position_side, ended.cause.sequence) == (CascadePhase.ENDED, side, 3)
    assert ended.window_micros == (9 * USD if other is side else 0)
    assert ended.total_micros == (129 if other is side else 120) * USD


def test_both_sides_may_end_on_one_pulse():
    ended = steps(
        print_of(0, 60, LONG, "bybit-linear"),
        print_of(1, 60, LONG),
        print_of(50, 400, SHORT, "bybit-linear"),
        print_of(51, 400, SHORT),
        print_of(300, 1, LONG, sequence=9),
    )

    assert [(step.phase, step.position_side) for step in ended] == [
        (CascadePhase.BEGAN, LONG),
        (CascadePhase.BEGAN, SHORT),
        (CascadePhase.ENDED, LONG),
        (CascadePhase.ENDED, SHORT),
    ]
    assert [step.window_micros // USD for step in ended[2:]] == [1, 0]


@pytest.mark.parametrize(("usd", "phases"), [(10, 1), (9.999999, 2)])
def test_exactly_the_fraction_that_ends_it_lets_it_go_on(usd, phases):
    assert len(steps(print_of(0, 60, LONG, "bybit-linear"), print_of(1, 60, LONG), print_of(200, usd, LONG))) == phases
