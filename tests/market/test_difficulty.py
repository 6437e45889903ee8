from __future__ import annotations

import math
from statistics import correlation, linear_regression

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from market.difficulty import (
    EXPANDING,
    GLASSNODE_2022,
    ROLLING_3Y,
    ROLLING_DAYS,
    DifficultyModel,
    DifficultyReading,
    fit_history,
    miner_status,
)
from market.events import DifficultyFit, MinerStatus
from market.hashprice import block_height, day_number, day_text, supply_btc

START = day_number("2015-01-01")


def supply(number: int) -> float:
    return supply_btc(block_height(number))


def difficulty_of(at: int) -> float:
    """Rise by a twentieth every fortnight, with a dent each half year."""
    return 4e10 * 1.05 ** (at // 14) * (0.9 if at // 14 % 13 == 0 else 1.0)


def market_cap_law(days: int, *, intercept: float, slope: float) -> list[tuple[str, float, float]]:
    """Return days whose market cap follows a power law of difficulty exactly."""
    rows = []
    for at in range(days):
        number, difficulty = START + at, difficulty_of(at)
        market_cap = math.exp(intercept + slope * math.log(difficulty))
        rows.append((day_text(number), market_cap / supply(number), difficulty))
    return rows


def price_law(days: int, *, first: int = 0, intercept: float, slope: float) -> list[tuple[str, float, float]]:
    """Return days whose price follows a power law of difficulty exactly."""
    return [
        (day_text(START + at), math.exp(intercept + slope * math.log(difficulty_of(at))), difficulty_of(at))
        for at in range(first, first + days)
    ]


def wandering(days: int) -> list[tuple[str, float, float]]:
    """Return days whose price follows no law."""
    return [(day_text(START + at), 500.0 + 37 * (at * at % 101), difficulty_of(at)) for at in range(days)]


def test_the_expanding_fit_recovers_a_law_of_market_cap():
    reading = fit_history(market_cap_law(1500, intercept=10.5, slope=0.52), "2030-01-01")

    fit = reading.fits[EXPANDING]
    assert fit.intercept == pytest.approx(10.5, abs=1e-8)
    assert fit.slope == pytest.approx(0.52, abs=1e-9)
    assert fit.r_squared == pytest.approx(1.0, abs=1e-12)
    assert fit.multiple == pytest.approx(1.0, abs=1e-9)
    assert fit.modelled_price == pytest.approx(reading.price_usd, rel=1e-9)
    assert (fit.first_day, fit.last_day, fit.days) == ("2015-01-01", "2019-02-08", 1500)


def test_the_rolling_fit_forgets_what_is_older_than_three_years():
    rows = price_law(700, intercept=3.0, slope=0.2) + price_law(ROLLING_DAYS, first=700, intercept=-40.0, slope=1.7)

    fit = fit_history(rows, "2030-01-01").fits[ROLLING_3Y]

    assert fit.intercept == pytest.approx(-40.0, abs=1e-7)
    assert fit.slope == pytest.approx(1.7, abs=1e-8)
    assert fit.r_squared == pytest.approx(1.0, abs=1e-10)
    assert fit.modelled_price == pytest.approx(rows[-1][1], rel=1e-6)
    assert fit.multiple == pytest.approx(1.0, rel=1e-6)
    assert (fit.first_day, fit.last_day, fit.days) == ("2016-12-01", "2019-12-01", 1096)


def test_three_years_are_the_day_and_the_1095_days_before_it_where_days_are_missing_too():
    rows = [row for row in wandering(2000) if not "2017-03-01" <= row[0] <= "2017-03-31"]

    fit = fit_history(rows, "2018-01-02").fits[ROLLING_3Y]

    assert (fit.first_day, fit.last_day, fit.days) == ("2015-01-03", "2018-01-02", 1096 - 31)


def test_fits_are_those_of_ordinary_least_squares():
    rows = wandering(1400)
    reading = fit_history(rows, "2030-01-01")
    x = [math.log(difficulty) for _, _, difficulty in rows]
    y = [math.log(price * supply(day_number(day))) for day, price, _ in rows]
    z = [math.log(price) for _, price, _ in rows]

    for name, xs, ys in ((EXPANDING, x, y), (ROLLING_3Y, x[-ROLLING_DAYS:], z[-ROLLING_DAYS:])):
        slope, intercept = linear_regression(xs, ys)
        fit = reading.fits[name]
        assert (fit.intercept, fit.slope) == pytest.approx((intercept, slope), rel=1e-8)
        assert fit.r_squared == pytest.approx(correlation(xs, ys) ** 2, rel=1e-8)


@pytest.mark.parametrize(
    ("day", "difficulty", "modelled_price", "tolerance"),
    [
        ("2022-06-20", 30.28e12, 17_800, 50),
        ("2022-10-24", 36.84e12, 19_660, 10),
        ("2023-01-13", 34.09e12, 18_800, 10),
        ("2024-04-20", 86.39e12, 29_960, 10),
    ],
)
def test_the_frozen_constants_give_the_published_prices(day, difficulty, modelled_price, tolerance):
    fit = fit_history([(day, 20_000.0, difficulty)], day).fits[GLASSNODE_2022]

    assert fit.modelled_price == pytest.approx(modelled_price, abs=tolerance)
    assert fit.multiple == 20_000 / fit.modelled_price


def test_a_single_day_has_the_frozen_fit_alone_and_no_past():
    reading = fit_history([("2022-06-20", 20_599.5, 30.28e12)], "2022-06-20")
    modelled = math.exp(10.2560 + 0.5250 * math.log(30.28e12)) / supply(day_number("2022-06-20"))

    assert reading == DifficultyReading(
        day="2022-06-20",
        price_usd=20_599.5,
        difficulty=30.28e12,
        fits={
            GLASSNODE_2022: DifficultyFit(
                name=GLASSNODE_2022,
                intercept=10.2560,
                slope=0.5250,
                r_squared=None,
                first_day="2022-06-20",
                last_day="2022-06-20",
                days=1,
                modelled_price=modelled,
                multiple=20_599.5 / modelled,
                status=MinerStatus.WATCH,
                percentile=None,
            ),
        },
    )


def test_the_frozen_fit_is_judged_on_the_same_days_as_the_expanding_one():
    rows = market_cap_law(1200, intercept=10.2560, slope=0.5250)

    frozen = fit_history(rows, "2030-01-01").fits[GLASSNODE_2022]
    wrong = fit_history(market_cap_law(1200, intercept=11.2560, slope=0.5250), "2030-01-01").fits[GLASSNODE_2022]

    assert (frozen.first_day, frozen.days) == ("2015-01-01", 1200)
    assert frozen.r_squared == pytest.approx(1.0, abs=1e-9)
    assert wrong.r_squared < 0.5


@pytest.mark.parametrize(
    ("days", "names"),
    [
        (29, {GLASSNODE_2022}),
        (30, {GLASSNODE_2022, EXPANDING, ROLLING_3Y}),
    ],
)
def test_a_fit_is_absent_until_its_history_is_long_enough(days, names):
    assert set(fit_history(wandering(days), "2030-01-01").fits) == names


def test_without_any_change_of_difficulty_nothing_can_be_fitted():
    rows = [(day_text(START + at), 100.0 + at % 7, 4e10) for at in range(1100)]

    assert set(fit_history(rows, "2030-01-01").fits) == {GLASSNODE_2022}


@pytest.mark.parametrize(
    ("multiple", "status"),
    [
        (0.999, MinerStatus.SELLING_AT_A_LOSS),
        (1.0, MinerStatus.WATCH),
        (1.5, MinerStatus.WATCH),
        (1.501, MinerStatus.COMFORTABLE),
    ],
)
def test_the_multiple_says_how_miners_stand(multiple, status):
    assert miner_status(multiple) is status


@pytest.mark.parametrize(("last_price", "percentile"), [(1.0, 0.0), (2.0, 0.0), (3.0, 0.75), (9.0, 1.0)])
def test_the_percentile_is_the_share_of_earlier_days_below(last_price, percentile):
    # One difficulty, and a fortnight too short for the supply to matter: multiples are in proportion to prices.
    prices = [2.5, 2.6, 2.7, 8.0, last_price]
    rows = [(day_text(START + at), price, 4e10) for at, price in enumerate(prices)]

    assert fit_history(rows, "2030-01-01").fits[GLASSNODE_2022].percentile == percentile


def test_no_later_day_is_ever_seen():
    rows = wandering(1300)
    day = rows[1200][0]

    assert fit_history(rows, day) == fit_history(rows[:1201], day) == fit_history(rows[:1201], "2030-01-01")


def test_rows_may_come_in_any_order():
    rows = wandering(60)

    assert fit_history(reversed(rows), "2030-01-01") == fit_history(rows, "2030-01-01")


def test_days_without_a_price_or_a_difficulty_do_not_enter():
    rows = wandering(40)
    gaps = [
        ("2009-01-04", None, 0.0),
        ("2009-01-05", 0.0, 1.0),
        ("2010-01-05", 5.0, 0.0),
        ("2015-02-20", None, 5e10),
        ("2015-02-21", math.nan, math.inf),
    ]

    reading = fit_history(gaps + rows, "2015-02-20")

    assert reading == fit_history(rows, "2030-01-01")
    assert (reading.day, reading.fits[EXPANDING].days) == ("2015-02-09", 40)


def test_before_the_first_day_nothing_is_known():
    assert fit_history(wandering(40), "2014-12-31") is None
    with pytest.raises(ValueError, match="no day has entered"):
        DifficultyModel().reading()


def test_a_day_comes_once():
    with pytest.raises(ValueError, match="2015-01-01 does not come after 2015-01-01"):
        fit_history([("2015-01-01", 1.0, 4e10), ("2015-01-01", 2.0, 4e10)], "2030-01-01")


def filled(rows) -> DifficultyModel:
    model = DifficultyModel()
    for day, price, difficulty in rows:
        model.add(day_number(day), price, difficulty)
    return model


@given(st.integers(1, 59))
@settings(max_examples=examples(20))
def test_a_copy_goes_on_by_itself(at):
    rows = wandering(60)
    model = filled(rows[:at])
    before = msgspec.json.encode(model.reading())

    copy = model.copy()
    for day, price, difficulty in rows[at:]:
        copy.add(day_number(day), price, difficulty)

    assert copy.reading() == filled(rows).reading()
    assert (model.days, msgspec.json.encode(model.reading())) == (at, before)


def test_leaving_the_window_takes_away_exactly_what_entered():
    rows = wandering(ROLLING_DAYS + 900)

    fit = fit_history(rows, "2030-01-01").fits[ROLLING_3Y]
    alone = fit_history(rows[900:], "2030-01-01").fits[ROLLING_3Y]

    assert msgspec.structs.replace(fit, percentile=None) == msgspec.structs.replace(alone, percentile=None)


@pytest.mark.parametrize("last", [3.2, -3.2])
def test_a_line_so_steep_that_it_models_an_absurd_price_is_absent(last):
    """Prices leap by 29 digits where difficulties differ by a fifth: carried on to 25 times as much, that is 200 digits."""
    rows = [(day_text(START + at), (1e-12, 1e17)[at % 2], 1e12 * math.exp(0.2 * (at % 2))) for at in range(1000)]
    rows.append((day_text(START + 1000), 300.0, 1e12 * math.exp(0.1 + last)))

    reading = fit_history(rows, "2030-01-01")

    assert set(reading.fits) == {GLASSNODE_2022}
    assert reading.fits[GLASSNODE_2022].days == 1001


@pytest.mark.parametrize("value", [1e18, 1e308])
def test_absurdly_large_values_do_not_enter(value):
    day = day_text(START)

    assert fit_history([(day, value, 1e12)], day) is None
    assert fit_history([(day, 1.0, value)], day) is None
    assert fit_history([(day, 1e17, 1e17)], day).price_usd == 1e17
