import math
from datetime import date, timedelta

import numpy as np
import pytest

from cascadewatch.miner_history import HistoryError, read_miner_day
from market.hashprice import block_height, day_number, supply_btc

FIRST_DAY = date(2018, 1, 1)
LAST_DAY = "2022-02-08"  # the 1,500th

INTERCEPT, SLOPE = 10.5, 0.52  # of the synthetic power law between market cap and difficulty

FIT_KEYS = {
    "intercept",
    "slope",
    "r_squared",
    "first_day",
    "last_day",
    "days",
    "modelled_price",
    "multiple",
    "status",
    "percentile",
}


def power_law(days=1_500, *, last_price_factor=1.0):
    """Rows of day, price and difficulty in which market cap is exactly exp(A)·difficulty^B, but for the last day's price."""
    rows = []
    for number in range(days):
        day = str(FIRST_DAY + timedelta(number))
        difficulty = 2e12 * math.exp(number / 600 + 0.3 * math.sin(number / 40))
        supply = supply_btc(block_height(day_number(day)))
        rows.append((day, math.exp(INTERCEPT + SLOPE * math.log(difficulty)) / supply, difficulty))
    day, price, difficulty = rows[-1]
    rows[-1] = (day, price * last_price_factor, difficulty)
    return rows


def history(tmp_path, rows, header="date,price_usd,difficulty", encoding="utf-8"):
    path = tmp_path / "history.csv"
    path.write_text("\n".join([header, *(",".join(str(cell) for cell in row) for row in rows)]) + "\n", encoding=encoding)
    return path


def refusal_of(path, day=LAST_DAY):
    with pytest.raises(HistoryError) as refused:
        read_miner_day(path, day)
    return str(refused.value)


def test_an_exact_power_law_is_found_again(tmp_path):
    answer = read_miner_day(history(tmp_path, power_law()), LAST_DAY)

    expanding = answer["fits"]["expanding"]

    assert (expanding["intercept"], expanding["slope"]) == pytest.approx((INTERCEPT, SLOPE), abs=1e-6)
    assert expanding["r_squared"] == pytest.approx(1)
    assert expanding["modelled_price"] == pytest.approx(answer["price_usd"])
    assert expanding["multiple"] == pytest.approx(1)
    assert (expanding["first_day"], expanding["last_day"], expanding["days"]) == ("2018-01-01", LAST_DAY, 1_500)


def test_the_answer_has_these_keys(tmp_path):
    rows = power_law()

    answer = read_miner_day(history(tmp_path, rows), LAST_DAY)

    assert list(answer) == ["day", "price_usd", "difficulty", "hashprice_usd_per_ph_day", "fits"]
    assert (answer["day"], answer["price_usd"], answer["difficulty"]) == rows[-1]
    assert list(answer["fits"]) == ["expanding", "rolling_3y", "glassnode_2022"]
    assert [set(fit) for fit in answer["fits"].values()] == [FIT_KEYS] * 3


def test_the_hashprice_is_that_of_the_subsidy_alone(tmp_path):
    answer = read_miner_day(history(tmp_path, [(LAST_DAY, 100_000, 1e14)]), LAST_DAY)

    assert answer["hashprice_usd_per_ph_day"] == pytest.approx(1e15 * 86_400 / (1e14 * 2**32) * 6.25 * 100_000)


def test_the_rolling_fit_is_of_price_over_three_years(tmp_path):
    rows = power_law(last_price_factor=2)
    slope, intercept = np.polyfit(np.log([row[2] for row in rows[-1096:]]), np.log([row[1] for row in rows[-1096:]]), 1)

    rolling = read_miner_day(history(tmp_path, rows), LAST_DAY)["fits"]["rolling_3y"]

    assert (rolling["intercept"], rolling["slope"]) == pytest.approx((intercept, slope), abs=1e-6)
    assert rolling["modelled_price"] == pytest.approx(math.exp(intercept + slope * math.log(rows[-1][2])))
    assert rolling["days"] == 1_096
    assert rolling["status"] == "comfortable"


@pytest.mark.parametrize(
    ("factor", "status"), [(0.98, "selling_at_a_loss"), (1.02, "watch"), (1.48, "watch"), (1.55, "comfortable")]
)
def test_the_frozen_constants_judge_the_price(tmp_path, factor, status):
    difficulty = 30.28e12
    supply = supply_btc(block_height(day_number("2022-06-20")))
    modelled = math.exp(10.2560 + 0.5250 * math.log(difficulty)) / supply

    answer = read_miner_day(history(tmp_path, [("2022-06-20", factor * modelled, difficulty)]), "2022-06-20")

    assert list(answer["fits"]) == ["glassnode_2022"]
    frozen = answer["fits"]["glassnode_2022"]
    assert (frozen["intercept"], frozen["slope"], frozen["status"]) == (10.2560, 0.5250, status)
    assert frozen["multiple"] == pytest.approx(factor)
    assert frozen["modelled_price"] == pytest.approx(17_800, rel=0.005)


def test_nothing_after_the_day_is_looked_at(tmp_path):
    rows = power_law()
    day = rows[1_200][0]

    whole = read_miner_day(history(tmp_path, rows), day)

    assert whole == read_miner_day(history(tmp_path, rows[:1_201]), day)
    assert whole["fits"]["expanding"]["last_day"] == day


def test_columns_are_found_by_name_in_any_order_and_others_are_passed_over(tmp_path):
    rows = power_law(100)
    swapped = [(difficulty, "x", day, price) for day, price, difficulty in rows]

    path = history(tmp_path, swapped, "difficulty,note,date,price_usd")

    assert read_miner_day(path, rows[-1][0])["difficulty"] == rows[-1][2]


def test_a_spreadsheets_mark_before_the_first_column_does_no_harm(tmp_path):
    path = history(tmp_path, [(LAST_DAY, 40_000, 27e12)], encoding="utf-8-sig")

    assert read_miner_day(path, LAST_DAY)["price_usd"] == 40_000


def test_days_without_a_value_do_not_enter(tmp_path):
    rows = [("2022-02-05", 40_000, ""), ("2022-02-06", "", 27e12), ("2022-02-07", 0, 27e12), (LAST_DAY, 40_000, 27e12)]

    assert read_miner_day(history(tmp_path, rows), LAST_DAY)["fits"]["glassnode_2022"]["days"] == 1


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("date,price_usd", "difficulty"),
        ("day,price_usd,difficulty", "date"),
        ("a,b,c", "date, price_usd, difficulty"),
        ("", "date, price_usd, difficulty"),
    ],
)
def test_a_missing_column_is_named(tmp_path, header, missing):
    path = history(tmp_path, [], header)

    assert refusal_of(path) == f"{path} lacks the column {missing}; it needs date, price_usd, difficulty"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("2022-02-07", 40_000, 27e12)],
        [(LAST_DAY, "", 27e12)],
        [(LAST_DAY, -1, 27e12)],
        [(LAST_DAY, 40_000, "nan")],
        [(LAST_DAY, 40_000, "inf")],
        [(LAST_DAY,)],
    ],
)
def test_a_day_that_the_file_does_not_know_is_said(tmp_path, rows):
    path = history(tmp_path, rows)

    assert refusal_of(path) == f"{path} has no price and difficulty above zero for {LAST_DAY}"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((LAST_DAY, 40_000, "27T"), "could not convert string to float: '27T'"),
        ((LAST_DAY, "40,000", 27e12), "more values than columns"),
        (("8.2.2022", 40_000, 27e12), "Invalid isoformat string: '8.2.2022'"),
        (("", 40_000, 27e12), "Invalid isoformat string: ''"),
        (("20220208", 40_000, 27e12), None),  # Python 3.10 words it otherwise
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(tmp_path, row, words):
    path = history(tmp_path, [("2022-02-07", 40_000, 27e12), row])

    refusal = refusal_of(path)

    assert refusal == f"{path}, line 3: {words}" if words else refusal.startswith(f"{path}, line 3: ")


@pytest.mark.parametrize("day", ["yesterday", "2022-13-01", "2022-2-8", "20220208", ""])
def test_a_day_that_is_none_is_said(tmp_path, day):
    assert refusal_of(history(tmp_path, []), day) == f"--date {day!r} is not a day written as YYYY-MM-DD"


def test_a_file_that_is_not_there_is_not_text_or_contradicts_itself_is_said(tmp_path):
    absent, binary = tmp_path / "absent.csv", tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    twice = history(tmp_path, [(LAST_DAY, 40_000, 27e12)] * 2)

    assert refusal_of(absent) == f"{absent} cannot be used: No such file or directory"
    assert refusal_of(tmp_path) == f"{tmp_path} cannot be used: Is a directory"
    assert refusal_of(binary).startswith(f"{binary} cannot be used: 'utf-8' codec can't decode byte 0xff")
    assert refusal_of(twice) == f"{twice} cannot be used: {LAST_DAY} does not come after {LAST_DAY}"


def test_a_day_before_the_first_block_is_refused(tmp_path):
    path = history(tmp_path, [("2008-12-31", 1, 1)])

    assert refusal_of(path, "2008-12-31") == f"{path} cannot be used: 2008-12-31 is before the first block"
