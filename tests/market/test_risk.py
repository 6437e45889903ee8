from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.readings import AbsoluteRisk
from market.risk import (
    absolute_risk,
    funding_points,
    liquidation_points,
    long_short_ratio_points,
    open_interest_points,
)

USD = 1_000_000
MILLION = 1_000_000 * USD


@pytest.mark.parametrize(
    ("funding_rate_8h", "points"),
    [
        (0.0, 0),
        (0.000099, 0),
        (0.0001, 10),
        (0.000499, 10),
        (0.0005, 20),
        (0.000999, 20),
        (0.001, 30),
        (0.0125, 30),
        (-0.000099, 0),
        (-0.0001, 10),
        (-0.0005, 20),
        (-0.001, 30),
    ],
)
def test_funding_counts_by_its_absolute_value(funding_rate_8h, points):
    assert funding_points(funding_rate_8h) == points


@pytest.mark.parametrize(("funding_rate_8h", "points"), [(0.0000999, 0), (0.0004999, 10), (0.0009999, 20)])
def test_what_lies_below_a_funding_threshold_by_a_thousandth_of_it_does_not_reach_it(funding_rate_8h, points):
    assert funding_points(funding_rate_8h) == points


def test_a_mean_that_misses_a_funding_threshold_by_rounding_alone_still_reaches_it():
    just_below = 0.0001 * (1 - 2**-52)

    assert just_below < 0.0001
    assert funding_points(just_below) == 10


@pytest.mark.parametrize(
    ("open_interest", "price", "points"),
    [
        (5.0, 0.0, 0),
        (5.01, 0.0, 15),
        (5.01, 1.99, 15),
        (5.01, -1.99, 15),
        (5.01, 2.0, 0),
        (5.01, -2.0, 0),
        (6.0, 0.0, 18),
        (9.99, 0.0, 29),
        (10.0, 0.0, 30),
        (50.0, 0.0, 30),
        (10.0, 3.0, 0),
        (10.01, 3.0, 20),
        (10.5, -3.0, 21),
        (14.99, 3.0, 29),
        (15.0, 3.0, 30),
        (400.0, 40.0, 30),
        (-20.0, 0.0, 0),
        (100 * (1.05 - 1), 0.0, 0),  # 5.000000000000004 in floats, 5 in truth
        (100 * (1.05 - 1) + 0.01, 100 * (1.02 - 1), 0),  # 2 % is not flat
    ],
)
def test_open_interest_counts_where_it_builds_up_on_a_flat_price_or_by_more_than_ten_percent(open_interest, price, points):
    assert open_interest_points(open_interest_change_percent=open_interest, price_change_percent=price) == points


@pytest.mark.parametrize(
    ("ratio", "points"),
    [
        (1.0, 0),
        (2.0, 0),
        (2.01, 10),
        (2.3, 13),  # 10·(2.3 − 1) is 12.999999999999998 in floats
        (2.99, 19),
        (3.0, 20),
        (50.0, 20),
        (0.5, 0),
        (0.49, 10),
        (0.4, 15),
        (1 / 2.3, 13),
        (1 / 3, 20),
        (0.01, 20),
        (5e-324, 20),
        (0.0, 20),
    ],
)
def test_the_long_short_ratio_counts_beyond_two_to_one_either_way(ratio, points):
    assert long_short_ratio_points(ratio) == points


@pytest.mark.parametrize(
    ("micros", "points"),
    [
        (0, 0),
        (10 * MILLION, 0),
        (10 * MILLION + 1, 2),
        (10 * MILLION + USD, 2),
        (14_999_999 * USD, 2),
        (15 * MILLION, 3),
        (24_900_000 * USD, 4),
        (25 * MILLION, 5),
        (100 * MILLION, 20),
        (3_210 * MILLION, 20),
    ],
)
def test_liquidations_count_above_ten_million_a_point_for_every_five(micros, points):
    assert liquidation_points(micros) == points


def test_the_total_is_the_sum_of_the_components():
    risk = absolute_risk(
        funding_rate_8h=-0.0007,
        open_interest_change_percent=6.4,
        price_change_percent=-0.3,
        long_short_ratio=2.5,
        liquidations_micros=37 * MILLION,
    )

    assert risk == AbsoluteRisk(total=61, funding=20, open_interest=19, long_short_ratio=15, liquidations=7)


def test_everything_at_its_worst_is_one_hundred():
    risk = absolute_risk(
        funding_rate_8h=1.0,
        open_interest_change_percent=100.0,
        price_change_percent=0.0,
        long_short_ratio=9.0,
        liquidations_micros=5_000 * MILLION,
    )

    assert risk == AbsoluteRisk(100, 30, 30, 20, 20)


def test_a_missing_input_gives_no_component_and_adds_nothing():
    nothing = {
        "funding_rate_8h": None,
        "open_interest_change_percent": None,
        "price_change_percent": None,
        "long_short_ratio": None,
        "liquidations_micros": None,
    }

    assert absolute_risk(**nothing) == AbsoluteRisk(0, None, None, None, None)
    assert absolute_risk(**{**nothing, "funding_rate_8h": 0.001}) == AbsoluteRisk(30, 30, None, None, None)
    assert absolute_risk(**{**nothing, "open_interest_change_percent": 20.0}) == AbsoluteRisk(0, None, None, None, None)
    assert absolute_risk(**{**nothing, "price_change_percent": 0.0}) == AbsoluteRisk(0, None, None, None, None)
    assert absolute_risk(**{**nothing, "liquidations_micros": 0}) == AbsoluteRisk(0, None, None, None, 0)


hundredths = st.integers(-100_000, 100_000).map(lambda count: Fraction(count, 100))


@given(hundredths, hundredths)
def test_open_interest_points_are_those_of_exact_arithmetic(open_interest, price):
    exact = 0
    if open_interest > 5 and abs(price) < 2:
        exact = min(30, int(3 * open_interest))
    elif open_interest > 10:
        exact = min(30, int(2 * open_interest))

    points = open_interest_points(open_interest_change_percent=float(open_interest), price_change_percent=float(price))

    assert points == exact


@given(st.integers(1, 100_000).map(lambda count: Fraction(count, 1000)))
def test_ratio_points_are_those_of_exact_arithmetic(ratio):
    exact = 0
    if ratio > 2:
        exact = min(20, int(10 * (ratio - 1)))
    elif ratio < Fraction(1, 2):
        exact = min(20, int(10 * (1 / ratio - 1)))

    assert long_short_ratio_points(float(ratio)) == exact


finite = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite, finite, st.none() | st.floats(0, allow_nan=False, allow_infinity=False), st.none() | st.integers(0))
def test_no_input_leads_out_of_the_scale(funding, open_interest, price, ratio, liquidations):
    risk = absolute_risk(
        funding_rate_8h=funding,
        open_interest_change_percent=open_interest,
        price_change_percent=price,
        long_short_ratio=ratio,
        liquidations_micros=liquidations,
    )

    assert 0 <= risk.total <= 100
    assert risk.total == sum(filter(None, (risk.funding, risk.open_interest, risk.long_short_ratio, risk.liquidations)))


def test_what_raises_a_risk_is_told_in_words_without_what_adds_nothing_or_is_not_known() -> None:
    risk = AbsoluteRisk(total=45, funding=25, open_interest=None, long_short_ratio=20, liquidations=0)

    assert risk.points() == {"funding": 25, "open_interest": None, "long_short_ratio": 20, "liquidations": 0}
    assert risk.raised_by() == (("funding", 25), ("long/short ratio", 20))
