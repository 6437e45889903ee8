from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.hashprice import (
    block_height,
    break_even_usd,
    btc_per_ph_day,
    day_number,
    day_text,
    hashprice_usd_per_ph_day,
    subsidy_btc,
    supply_btc,
)


def test_hashprice_is_what_the_published_formula_gives():
    hashprice = hashprice_usd_per_ph_day(difficulty=1e14, price_usd=100_000, btc_per_block=3.125)

    assert hashprice == pytest.approx(62.86, abs=0.005)


def test_fees_are_earned_like_the_subsidy():
    with_fees = btc_per_ph_day(difficulty=1e14, btc_per_block=3.125 + 3.125)

    assert with_fees == pytest.approx(2 * btc_per_ph_day(difficulty=1e14, btc_per_block=3.125))


def test_at_its_break_even_price_a_fleet_earns_exactly_its_electricity():
    price = break_even_usd(efficiency_j_per_th=30, electricity_usd_per_kwh=0.07, difficulty=1e14, btc_per_block=3.125)

    assert hashprice_usd_per_ph_day(difficulty=1e14, price_usd=price, btc_per_block=3.125) == pytest.approx(30 * 24 * 0.07)
    assert price == pytest.approx(80_172.72, abs=0.01)


@pytest.mark.parametrize(
    ("height", "subsidy"),
    [(0, 50.0), (209_999, 50.0), (210_000, 25.0), (630_000, 6.25), (840_000, 3.125), (6_929_999, 1e-8), (6_930_000, 0.0)],
)
def test_the_subsidy_halves_every_210000_blocks(height, subsidy):
    assert subsidy_btc(height) == subsidy


@pytest.mark.parametrize(
    ("height", "supply"),
    [(0, 50.0), (209_999, 10_500_000.0), (210_000, 10_500_025.0), (839_999, 19_687_500.0), (6_930_000, 20_999_999.9769)],
)
def test_the_supply_is_the_sum_of_all_subsidies(height, supply):
    assert supply_btc(height) == supply


@pytest.mark.parametrize(
    ("day", "height"),
    [
        ("2009-01-03", 0),
        ("2012-11-28", 210_000),
        ("2016-07-09", 420_000),
        ("2020-05-11", 630_000),
        ("2024-04-19", 839_852),
        ("2024-04-20", 840_000),
        ("2024-04-21", 840_144),
        ("2025-04-20", 892_560),
    ],
)
def test_the_height_of_a_day_is_known_on_halvings_and_follows_the_pace_elsewhere(day, height):
    assert block_height(day_number(day)) == height


def test_before_the_first_block_there_is_no_height():
    with pytest.raises(ValueError, match="2009-01-02 is before the first block"):
        block_height(day_number("2009-01-02"))


@given(st.integers(day_number("2009-01-03"), day_number("2063-01-01")))
def test_height_and_supply_never_fall_from_one_day_to_the_next(number):
    today, tomorrow = block_height(number), block_height(number + 1)

    assert today < tomorrow
    assert supply_btc(today) < supply_btc(tomorrow) < 21_000_000


@given(st.dates(date(2009, 1, 3), date(9999, 12, 30)))
def test_days_are_counted_and_written_back(day):
    number = day_number(day.isoformat())

    assert day_text(number) == day.isoformat()
    assert day_number((day + timedelta(days=1)).isoformat()) == number + 1


@pytest.mark.parametrize("text", ["20240420", "2024-W16-6", "2024-4-20", "2024-13-01", "2024-02-30", "", "yesterday"])
def test_a_day_in_any_other_spelling_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        day_number(text)
