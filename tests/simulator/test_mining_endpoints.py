"""Both mining sites, asked over HTTP as any client would."""

import asyncio
import functools
import itertools
import json
import math
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_client import serving_part

from simulator.bitcoin_history import (
    FIRST_DAY,
    BitcoinHistory,
    height_at,
    seconds_of,
    subsidy,
    supply,
    time_of,
)
from simulator.mining import SimulatedMining, _java_number

TODAY = date(2026, 11, 21)
NOON = seconds_of(TODAY) + 43_200
DAY_S = 86_400


def sites(seed=7, **options):
    return SimulatedMining(seed, TODAY, **options)


def fetch(part, path):
    """Return status, content type and body."""

    async def scenario():
        async with serving_part(part) as session, session.get(path) as response:
            return response.status, response.headers.get("Content-Type"), await response.text()

    return asyncio.run(scenario())


def get(part, path):
    status, content_type, body = fetch(part, path)
    assert status == 200
    assert content_type == ("application/json; charset=utf-8" if path.startswith("/mempool") else "application/json")
    return json.loads(body)


def day_of(time_s):
    return datetime.fromtimestamp(time_s, tz=timezone.utc).date()


@functools.cache
def history_of(seed=7, today=TODAY, **known):
    """Return a history that others may look at too: drawing one takes a tenth of a second."""
    return BitcoinHistory(seed, today, **known)


@pytest.fixture
def history():
    return history_of()


def test_there_is_one_value_a_day_from_the_first_price_to_today(history):
    days = [day.date for day in history.days]

    assert days == [FIRST_DAY + timedelta(days=number) for number in range((TODAY - FIRST_DAY).days + 1)]
    assert min(day.price_usd for day in history.days) > 0


def test_halvings_fall_on_their_days():
    halvings = [day_of(time_of(height)) for height in (210_000, 420_000, 630_000, 840_000)]

    assert halvings == [date(2012, 11, 28), date(2016, 7, 9), date(2020, 5, 11), date(2024, 4, 20)]
    assert [subsidy(height) for height in (209_999, 210_000, 840_000)] == [50.0, 25.0, 3.125]
    assert supply(840_000) == 19_687_500


@given(height=st.floats(70_000, 1_100_000))
def test_time_and_height_are_each_others_inverse(height):
    assert math.isclose(height_at(time_of(height)), height, rel_tol=1e-9)


@pytest.mark.parametrize("seed", [7, 8, 9, 10])
def test_a_regression_finds_the_production_cost(seed):
    days = history_of(seed).days
    difficulty = [math.log(day.difficulty) for day in days]
    capitalisation = [math.log(day.price_usd * supply(height_at(seconds_of(day.date) + DAY_S))) for day in days]

    slope, intercept = np.polyfit(difficulty, capitalisation, 1)

    assert slope == pytest.approx(0.522, abs=0.05)
    assert intercept + slope * 24 == pytest.approx(10.3 + 0.522 * 24, abs=0.7)
    assert np.corrcoef(difficulty, capitalisation)[0, 1] ** 2 > 0.93


def test_difficulty_changes_every_2016_blocks_and_by_less_than_a_factor_of_four(history):
    assert {later.height - earlier.height for earlier, later in itertools.pairwise(history.adjustments)} == {2016}
    assert all(0.25 < item.ratio < 4 for item in history.adjustments)
    assert all(
        later.difficulty == pytest.approx(earlier.difficulty * later.ratio)
        for earlier, later in itertools.pairwise(history.adjustments)
    )


def test_the_day_of_an_adjustment_is_a_blend(history):
    item = history.adjustments[-3]
    day = history.days[(day_of(item.time_s) - FIRST_DAY).days]
    before, after = history.days[(day.date - FIRST_DAY).days - 1], history.days[(day.date - FIRST_DAY).days + 1]
    share_before = (item.time_s - seconds_of(day.date)) / DAY_S

    assert after.difficulty == item.difficulty
    assert day.difficulty == pytest.approx(before.difficulty * share_before + after.difficulty * (1 - share_before))


def test_the_same_seed_gives_the_same_history_and_another_another(history):
    assert BitcoinHistory(7, TODAY).days == history.days
    assert history_of(8).days != history.days


def test_a_later_day_adds_to_the_history_and_changes_nothing():
    known_price = (TODAY, 82_000.0)

    today, later = (history_of(today=day, known_price=known_price) for day in (TODAY, TODAY + timedelta(days=30)))

    assert later.days[: len(today.days)] == today.days
    assert today.days[-1].price_usd == pytest.approx(82_000.0)


def test_the_price_is_led_to_the_markets_over_two_years(history):
    led = history_of(today=TODAY, known_price=(TODAY, 82_000.0))

    unlike = [day.date for day, other in zip(history.days, led.days, strict=True) if day != other]
    assert unlike[0] == TODAY - timedelta(days=729)


def test_prices_between_closes_lie_between_them(history):
    yesterday, today = history.days[-2], history.days[-1]
    low, high = sorted((yesterday.price_usd, today.price_usd))

    assert history.price_at(seconds_of(TODAY)) == pytest.approx(yesterday.price_usd)
    assert low <= history.price_at(NOON) <= high
    assert history.price_at(0) == pytest.approx(history.days[0].price_usd)
    assert history.price_at(1e10) == pytest.approx(today.price_usd)


def test_hashrate_of_all_times():
    part = sites()

    answer = get(part, "/mempool/api/v1/mining/hashrate/all")

    assert set(answer) == {"hashrates", "difficulty", "currentHashrate", "currentDifficulty"}
    assert answer["difficulty"][-1] == {
        "time": part.history.adjustments[-1].time_s,
        "height": part.history.adjustments[-1].height,
        "difficulty": part.history.adjustments[-1].difficulty,
        "adjustment": pytest.approx(part.history.adjustments[-1].ratio, abs=1e-6),
    }
    assert answer["currentDifficulty"] == answer["difficulty"][-1]["difficulty"]
    assert answer["currentHashrate"] == pytest.approx(answer["currentDifficulty"] * 2**32 / 600)
    assert [set(item) for item in answer["hashrates"][:1]] == [{"timestamp", "avgHashrate"}]
    assert len(answer["hashrates"]) == len(part.history.days)
    assert day_of(answer["difficulty"][0]["time"]) <= FIRST_DAY
    assert get(part, "/mempool/api/v1/mining/hashrate") == answer


def test_hashrate_of_three_years():
    answer = get(sites(), "/mempool/api/v1/mining/hashrate/3y")

    assert len(answer["hashrates"]) == 1095
    assert 77 <= len(answer["difficulty"]) <= 79


def test_reward_stats_are_sums_as_text():
    answer = get(sites(), "/mempool/api/v1/mining/reward-stats/144")

    height = int(height_at(NOON))
    fees = int(answer["totalFee"])
    assert (answer["startBlock"], answer["endBlock"]) == (height - 143, height)
    assert int(answer["totalReward"]) - fees == 144 * 312_500_000
    assert 0.01 < fees / 144 / 1e8 < 0.2
    assert answer["totalTx"].isdigit()


@pytest.mark.parametrize("blocks", ["0", "x", "-1", "2017"])
def test_reward_stats_of_a_wrong_number_of_blocks_fail(blocks):
    assert fetch(sites(), f"/mempool/api/v1/mining/reward-stats/{blocks}")[0] == 500


def test_difficulty_adjustment():
    part = sites()

    answer = get(part, "/mempool/api/v1/difficulty-adjustment")

    height = int(height_at(NOON))
    assert answer["nextRetargetHeight"] == height + answer["remainingBlocks"]
    assert answer["nextRetargetHeight"] % 2016 == 0
    assert answer["progressPercent"] == pytest.approx(100 * (1 - answer["remainingBlocks"] / 2016))
    assert answer["previousTime"] == part.history.adjustments[-1].time_s
    assert answer["timeAvg"] == pytest.approx(600_000, rel=0.01)
    assert answer["estimatedRetargetDate"] == NOON * 1000 + answer["remainingTime"]
    assert set(answer) == {
        "progressPercent",
        "difficultyChange",
        "estimatedRetargetDate",
        "remainingBlocks",
        "remainingTime",
        "previousRetarget",
        "previousTime",
        "nextRetargetHeight",
        "timeAvg",
        "adjustedTimeAvg",
        "timeOffset",
        "expectedBlocks",
    }


def test_no_block_since_the_adjustment_is_no_division_by_zero():
    part = sites()
    item = part.history.adjustments[-1]

    answer = get(
        sites(clock=lambda: time_of(item.height) + 1.0),
        "/mempool/api/v1/difficulty-adjustment",
    )

    assert (answer["progressPercent"], answer["remainingBlocks"], answer["timeAvg"]) == (0.0, 2016, 600_000)


def test_current_prices_follow_the_market():
    market = [82_000.0]
    part = sites(price=lambda: market[0])
    before = get(part, "/mempool/api/v1/prices")

    market[0] = 79_000.4

    assert before == {
        "time": NOON,
        "USD": 82_000,
        "EUR": 75_440,
        "GBP": 63_960,
        "CAD": 111_520,
        "CHF": 72_980,
        "AUD": 125_460,
        "JPY": 12_257_360,
    }
    assert get(part, "/mempool/api/v1/prices")["USD"] == 79_000
    assert part.history.days[-1].price_usd == pytest.approx(82_000)


def test_without_a_market_the_current_price_is_the_historys():
    part = sites()

    assert get(part, "/mempool/api/v1/prices")["USD"] == round(part.history.price_at(NOON))


def test_historical_prices_are_weekly_then_daily_then_hourly_newest_first():
    answer = get(sites(), "/mempool/api/v1/historical-price?currency=USD")

    times = [row["time"] for row in answer["prices"]]
    steps = [later - earlier for later, earlier in itertools.pairwise(times)]
    today = seconds_of(TODAY)
    assert set(answer["prices"][0]) == {"time", "USD"}
    assert times[0] <= NOON
    assert {step for time_s, step in zip(times, steps, strict=False) if time_s > today - 29 * DAY_S} == {3600}
    assert {step for time_s, step in zip(times, steps, strict=False) if today - 719 * DAY_S < time_s < today - 31 * DAY_S} == {
        DAY_S
    }
    assert {step for time_s, step in zip(times, steps, strict=False) if time_s < today - 721 * DAY_S} == {7 * DAY_S}
    assert day_of(times[-1]) == FIRST_DAY + timedelta(days=1)
    assert answer["exchangeRates"]["USDEUR"] == 0.92


def test_one_historical_price_is_the_last_one_before_the_time():
    part = sites()
    asked = seconds_of(date(2026, 11, 20)) + 5000

    answer = get(part, f"/mempool/api/v1/historical-price?currency=EUR&timestamp={asked}")

    (row,) = answer["prices"]
    assert row["time"] == asked - asked % 3600
    assert row["USD"] == round(part.history.price_at(row["time"]))
    assert row["EUR"] == round(row["USD"] * 0.92)


def test_historical_prices_without_a_currency_have_them_all():
    (row,) = get(sites(), f"/mempool/api/v1/historical-price?timestamp={NOON}")["prices"]

    assert set(row) == {"time", "USD", "EUR", "GBP", "CAD", "CHF", "AUD", "JPY"}


def test_an_unknown_currency_is_answered_with_nothing():
    status, _content_type, body = fetch(sites(), "/mempool/api/v1/historical-price?currency=XXX")

    assert (status, body) == (200, "")


def test_the_clock_reaching_another_day_adds_it():
    now = [float(NOON)]
    part = sites(clock=lambda: now[0], price=lambda: 82_000.0)
    before = part.history.days

    now[0] += DAY_S

    assert part.history.days[:-1] == before
    assert part.history.days[-1].date == TODAY + timedelta(days=1)


def test_a_chart_of_everything():
    part = sites()

    answer = get(part, "/blockchain-com/charts/market-price?timespan=all&format=json&sampled=false")

    assert {name: answer[name] for name in ("status", "name", "unit", "period")} == {
        "status": "ok",
        "name": "Market Price (USD)",
        "unit": "USD",
        "period": "day",
    }
    assert answer["values"] == [{"x": seconds_of(day.date), "y": round(day.price_usd, 2)} for day in part.history.days]


def test_large_numbers_of_a_chart_are_powers_of_ten():
    part = sites()

    _status, _content_type, body = fetch(part, "/blockchain-com/charts/difficulty?timespan=3years&sampled=false")

    values = json.loads(body)["values"]
    assert "E14}" in body
    assert [point["y"] for point in values] == [day.difficulty for day in part.history.days[-len(values) :]]
    assert len(values) == 1096


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0"), (0.05, "0.05"), (9_999_999.5, "9999999.5"), (1e7, "1.0E7"), (14_627_700, "1.46277E7"), (0.0001, "1.0E-4")],
)
def test_numbers_are_printed_as_the_site_prints_them(value, text):
    assert _java_number(value) == text
    assert json.loads(text) == value


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_printed_is_the_number(value):
    assert float(_java_number(value)) == value


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("hash-rate", 5e8, 5e9),  # TH/s
        ("total-bitcoins", 2.0e7, 2.02e7),
        ("transaction-fees", 1.0, 20.0),  # BTC a day
    ],
)
def test_other_charts(name, low, high):
    values = get(sites(), f"/blockchain-com/charts/{name}?timespan=5days&format=json&sampled=false")["values"]

    assert len(values) == 5
    assert all(low < point["y"] < high for point in values)


def test_a_chart_is_sampled_unless_asked_otherwise():
    part = sites()

    def points(query):
        return len(get(part, f"/blockchain-com/charts/market-price?{query}")["values"])

    assert points("timespan=all") == math.ceil(len(part.history.days) / math.ceil(len(part.history.days) / 1500)) <= 1500
    assert points("timespan=all&sampled=true") == points("timespan=all")
    assert (points(""), points("timespan=2weeks"), points("timespan=48hours")) == (365, 14, 2)


def test_a_chart_as_csv():
    part = sites()

    status, content_type, body = fetch(part, "/blockchain-com/charts/market-price?timespan=1day&format=csv")

    assert (status, content_type) == (200, "text/csv; charset=ascii")
    assert body == f"2026-11-21 00:00:00,{round(part.history.days[-1].price_usd, 2)!r}\n"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("charts/moon-phase", 404),
        ("charts/difficulty?timespan=soon", 400),
        ("charts/difficulty?rollingAverage=8hours", 400),
        ("charts/difficulty?start=2020-01-01", 400),
    ],
)
def test_what_is_not_simulated_is_refused(path, status):
    assert fetch(sites(), f"/blockchain-com/{path}")[0] == status
