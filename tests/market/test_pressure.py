"""Stablecoin Pressure."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.parameters import PressureParameters
from market.pressure import stablecoin_pressure

MILLION = 1_000_000 * 1_000_000  # USD in micro-USD
DEFAULTS = PressureParameters()

amounts = st.integers(min_value=0, max_value=2_000 * MILLION)


def pressure(
    inflow: int = 0, outflow: int = 0, mint: int = 0, burn: int = 0, parameters: PressureParameters = DEFAULTS
) -> int:
    return stablecoin_pressure(
        inflow_micros=inflow, outflow_micros=outflow, mint_micros=mint, burn_micros=burn, parameters=parameters
    )


def formula(inflow: int, outflow: int, mint: int, burn: int) -> int:
    """Scores §2, word by word, in exact fractions."""

    flow = max(Fraction(-50), min(Fraction(50), Fraction(outflow - inflow, 2 * MILLION)))
    supply = max(Fraction(-50), min(Fraction(50), Fraction(mint - burn, 10 * MILLION)))
    return max(-100, min(100, int(flow + supply)))


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        ({}, 0),
        ({"outflow": 60 * MILLION}, 30),
        ({"inflow": 60 * MILLION}, -30),
        ({"mint": 300 * MILLION}, 30),
        ({"burn": 300 * MILLION}, -30),
        ({"outflow": 100 * MILLION}, 50),
        ({"outflow": 101 * MILLION}, 50),
        ({"inflow": 5_000 * MILLION}, -50),
        ({"mint": 5_000 * MILLION}, 50),
        ({"outflow": 5_000 * MILLION, "mint": 5_000 * MILLION}, 100),
        ({"inflow": 5_000 * MILLION, "burn": 5_000 * MILLION}, -100),
        ({"outflow": 5_000 * MILLION, "burn": 5_000 * MILLION}, 0),
    ],
)
def test_each_term_gives_at_most_fifty_points(flows: dict[str, int], expected: int) -> None:
    assert pressure(**flows) == expected


def test_a_part_of_a_point_is_cut_off_towards_zero() -> None:
    assert pressure(outflow=2 * MILLION - 1) == 0
    assert pressure(outflow=2 * MILLION) == 1
    assert pressure(inflow=2 * MILLION - 1) == 0
    assert pressure(inflow=2 * MILLION) == -1


def test_the_terms_are_added_before_the_cut() -> None:
    assert pressure(outflow=MILLION, mint=5 * MILLION) == 1


def test_the_disputed_sign_turns_the_flow_term_only() -> None:
    dry_powder = PressureParameters(inflow_is_bearish=False)

    assert pressure(inflow=60 * MILLION, mint=100 * MILLION, parameters=dry_powder) == 40
    assert pressure(inflow=60 * MILLION, outflow=20 * MILLION, parameters=dry_powder) == 20


def test_the_units_are_settings() -> None:
    parameters = PressureParameters(flow_unit_usd=1_000_000, supply_unit_usd=2_000_000)

    assert pressure(outflow=3 * MILLION, mint=4 * MILLION, parameters=parameters) == 5


@given(inflow=amounts, outflow=amounts, mint=amounts, burn=amounts)
def test_it_is_the_formula_of_the_reference(inflow: int, outflow: int, mint: int, burn: int) -> None:
    assert pressure(inflow, outflow, mint, burn) == formula(inflow, outflow, mint, burn)


@given(inflow=amounts, outflow=amounts, mint=amounts, burn=amounts)
def test_the_mirror_image_has_the_opposite_pressure(inflow: int, outflow: int, mint: int, burn: int) -> None:
    assert pressure(inflow, outflow, mint, burn) == -pressure(outflow, inflow, burn, mint)
