import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.cascade_score import breadth, cascade_score, clip, dominance, speed
from market.parameters import CascadeScoreParameters
from market.readings import CascadeScore

DEFAULTS = CascadeScoreParameters()
USD = 1_000_000
FLOOR = 250_000 * USD
NAMES = tuple(DEFAULTS.weights)

shares = st.floats(0, 1)


def score(components, side_dominance=1.0, window_micros=FLOOR, parameters=DEFAULTS):
    return cascade_score(
        components=components, side_dominance=side_dominance, window_micros=window_micros, parameters=parameters
    )


def test_with_every_component_the_score_is_the_weighted_sum_times_dominance_times_ten():
    components = {"size": 0.5, "speed": 1.0, "self_excitation": 0.25, "breadth": 0.0, "fuel": 0.2, "crowding": 1.0}

    assert score(components, side_dominance=0.8) == CascadeScore(
        score=pytest.approx(10 * 0.8 * (0.15 + 0.15 + 0.05 + 0.0 + 0.03 + 0.10)),
        dominance=0.8,
        components=components,
        missing=(),
    )


def test_missing_components_drop_out_and_the_other_weights_are_rescaled():
    present = {"speed": 1.0, "breadth": 0.5}

    assert score({**present, "size": None}) == CascadeScore(
        score=pytest.approx(10 * (0.15 * 1.0 + 0.10 * 0.5) / 0.25),
        dominance=1.0,
        components=present,
        missing=("size", "self_excitation", "fuel", "crowding"),
    )


def test_without_any_input_there_is_no_score():
    assert score({}) == CascadeScore(None, 1.0, {}, NAMES)
    assert score(dict.fromkeys(NAMES)) == CascadeScore(None, 1.0, {}, NAMES)


def test_a_component_without_a_weight_is_published_and_counts_nothing():
    parameters = dataclasses.replace(DEFAULTS, weights={"speed": 1.0, "breadth": 0.0})

    assert score({"speed": 0.5, "breadth": 1.0, "size": 1.0}, parameters=parameters) == CascadeScore(
        5.0, 1.0, {"speed": 0.5, "breadth": 1.0, "size": 1.0}, ()
    )
    assert score({"breadth": 1.0}, parameters=parameters).score is None


def test_below_the_floor_a_side_scores_zero_and_still_shows_its_components():
    full = {"speed": 1.0, "breadth": 1.0}

    assert score(full, window_micros=FLOOR - 1) == CascadeScore(
        0.0, 1.0, full, ("size", "self_excitation", "fuel", "crowding")
    )
    assert score(full, window_micros=FLOOR).score == 10.0


@pytest.mark.parametrize(
    ("side", "both", "expected"),
    [
        (0, 0, 0.0),
        (0, 100, 0.0),
        (50, 100, 0.0),
        (575, 1000, pytest.approx(0.5)),
        (65, 100, pytest.approx(1.0)),
        (100, 100, 1.0),
        (1, 1, 1.0),
    ],
)
def test_dominance_grows_from_half_of_both_sides_to_65_percent(side, both, expected):
    assert dominance(side_micros=side, both_sides_micros=both) == expected


@pytest.mark.parametrize(
    ("micros_10s", "micros_90s", "expected"),
    [(0, 0, 0.0), (0, 90, 0.0), (10, 90, pytest.approx(1 / 3)), (30, 90, 1.0), (90, 90, 1.0), (1, 1, 1.0)],
)
def test_speed_compares_ten_seconds_with_three_times_the_rate_of_ninety(micros_10s, micros_90s, expected):
    assert speed(micros_10s=micros_10s, micros_90s=micros_90s) == expected


@pytest.mark.parametrize(
    ("venue_micros", "expected"),
    [
        ([], 0.0),
        ([5], 0.0),
        ([5, 0], 0.0),
        ([5, 5, 0], 1.0),
        ([5, 5], 1.0),
        ([7, 7, 7], 1.0),
        ([9, 1], pytest.approx(2 * (1 - 0.82))),
        ([2, 1, 1], pytest.approx(1.5 * (1 - 0.375))),
    ],
)
def test_breadth_is_the_scaled_herfindahl_index_of_the_venues(venue_micros, expected):
    assert breadth(venue_micros) == expected


@given(st.lists(st.integers(0, 10**18), max_size=40))
def test_breadth_lies_between_zero_and_one_whatever_the_order(venue_micros):
    assert 0.0 <= breadth(venue_micros) <= 1.0
    assert breadth(venue_micros) == breadth(venue_micros[::-1])


@given(st.integers(1, 10**18), st.integers(2, 40))
def test_equal_shares_of_any_number_of_venues_give_one(micros, venues):
    assert breadth([micros] * venues) == 1.0


@given(st.dictionaries(st.sampled_from(NAMES), shares), shares, st.integers(0, 10**15))
def test_the_score_stays_on_its_scale_and_names_what_is_missing(components, side_dominance, window_micros):
    reading = score(components, side_dominance, window_micros)

    assert reading.score is None if not components else 0.0 <= reading.score <= 10.0
    assert set(reading.missing) == set(NAMES) - set(components)


@given(st.floats(allow_nan=False))
def test_clipping_holds_a_number_between_zero_and_one(x):
    assert 0.0 <= clip(x) <= 1.0
    assert clip(x) == x or not 0.0 <= x <= 1.0
