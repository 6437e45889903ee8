"""Mining days: what polls say of Bitcoin's chain and price, day by day."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from partition_machines import NOON_US, cause, derived, numbered, run, tick

from market.difficulty import EXPANDING, GLASSNODE_2022, fit_history
from market.events import MinerDay
from market.hashprice import break_even_usd, hashprice_usd_per_ph_day
from market.parameters import MinerParameters, Parameters
from market.raw import DeadLetter, RawMiningFees, RawMiningHistory
from operators import miners
from operators.miners import Miners

HOUR = 3600
DAY = 24 * HOUR
TODAY = "2025-12-31"  # of NOON_US
YESTERDAY = "2025-12-30"
TOMORROW = "2026-01-01"
SUBSIDY = 3.125
PARAMETERS = Parameters(miners=MinerParameters(fleet_efficiencies_j_per_th=(17.5, 30.0), electricity_usd_per_kwh=0.05))


def build(state=None):
    return Miners(PARAMETERS, state)


def day(back):
    """Return the day so many days before today."""
    return (date.fromisoformat(TODAY) - timedelta(days=back)).isoformat()


def history(difficulty=(), price=(), *, at_s=0.0):
    return RawMiningHistory(cause(at_s), "mempool", tuple(difficulty), tuple(price))


def both(days, *, price="90000", difficulty="1.5e14", at_s=0.0):
    return history([(of, difficulty) for of in days], [(of, price) for of in days], at_s=at_s)


def fees(text="0.02", *, at_s=0.0):
    return RawMiningFees(cause(at_s), "mempool", text, 144)


def told(*items, build=build):
    """Return day, price, difficulty and finality of every day emitted."""
    return [
        (row.day, row.price_usd, row.difficulty, row.is_final) for row in derived(build, items) if isinstance(row, MinerDay)
    ]


def test_a_day_is_told_with_its_hashprice_break_even_prices_and_fits():
    row, running = derived(build, [fees(), both([YESTERDAY, TODAY])])
    of_block = SUBSIDY + 0.02

    assert row.mean_fees_btc_per_block is None
    assert row.hashprice_usd_per_ph_day == hashprice_usd_per_ph_day(difficulty=1.5e14, price_usd=9e4, btc_per_block=SUBSIDY)
    assert running == MinerDay(
        cause=cause(),
        day=TODAY,
        price_usd=90_000.0,
        difficulty=1.5e14,
        mean_fees_btc_per_block=0.02,
        hashprice_usd_per_ph_day=hashprice_usd_per_ph_day(difficulty=1.5e14, price_usd=90_000, btc_per_block=of_block),
        break_even_usd={
            name: break_even_usd(
                efficiency_j_per_th=efficiency, electricity_usd_per_kwh=0.05, difficulty=1.5e14, btc_per_block=of_block
            )
            for name, efficiency in (("17.5", 17.5), ("30", 30.0))
        },
        fits=fit_history([(YESTERDAY, 90_000, 1.5e14), (TODAY, 90_000, 1.5e14)], TODAY).fits,
        is_final=False,
    )


def test_polls_fees_and_ticks_go_on():
    items = [history(), fees(), tick(), "anything"]

    assert run(build, items) == [[item] for item in items]


def test_the_first_history_tells_its_last_closed_day_and_the_running_one():
    assert told(both([day(back) for back in (3, 2, 1, 0)])) == [(YESTERDAY, 9e4, 1.5e14, True), (TODAY, 9e4, 1.5e14, False)]


def test_a_first_history_without_the_running_day_tells_its_last_closed_day():
    assert told(both([day(5), day(4)])) == [(day(4), 9e4, 1.5e14, True)]


def test_a_history_after_a_running_day_is_told_from_yesterday_on():
    assert told(both([TODAY]), both([day(back) for back in (3, 2, 1)])) == [
        (TODAY, 9e4, 1.5e14, False),
        (YESTERDAY, 9e4, 1.5e14, True),
        (TODAY, 9e4, 1.5e14, False),  # its fits have more days now
    ]


def test_difficulty_and_price_may_come_from_different_polls():
    assert told(history(difficulty=[(YESTERDAY, "1.5e14")]), history(price=[(YESTERDAY, "90000")])) == [
        (YESTERDAY, 9e4, 1.5e14, True)
    ]


def test_a_day_without_its_own_difficulty_has_the_last_one_for_a_month():
    adjustment = [(day(33), "1.4e14"), (day(32), "1.5e14")]

    assert told(history(adjustment, [(day(1), "90000")])) == [(day(1), 9e4, 1.5e14, True)]
    assert told(history(adjustment, [(day(0), "90000")])) == []


def test_a_difficulty_carried_forward_does_not_grow_young_again():
    prices = [(day(back), "90000") for back in range(60, 0, -1)]
    rows = derived(build, [history([(day(60), "1.5e14")], prices)])

    assert [(row.day, row.fits[GLASSNODE_2022].days) for row in rows] == [(day(29), 32)]


def test_a_difficulty_carried_forward_does_not_grow_young_again_with_the_next_poll():
    first = history([(day(60), "1.5e14")], [(day(back), "90000") for back in range(60, 31, -1)])
    second = history(price=[(day(back), "90000") for back in range(31, 0, -1)], at_s=60)

    assert told(first, second) == [
        (day(32), 9e4, 1.5e14, True),
        (day(31), 9e4, 1.5e14, True),
        (day(30), 9e4, 1.5e14, True),
        (day(29), 9e4, 1.5e14, True),
    ]


def test_the_same_poll_again_says_nothing_new():
    assert len(told(both([YESTERDAY, TODAY]), both([YESTERDAY, TODAY], at_s=60))) == 2


def test_the_running_day_is_told_again_when_its_price_or_its_fees_change():
    items = [
        both([TODAY]),
        both([TODAY], price="91000", at_s=60),
        fees(at_s=120),
        fees("0.03", at_s=180),
        fees("0.03", at_s=240),
    ]

    rows = derived(build, items)

    assert [(row.price_usd, row.mean_fees_btc_per_block) for row in rows] == [
        (9e4, None),
        (9.1e4, None),
        (9.1e4, 0.02),
        (9.1e4, 0.03),
    ]


def test_a_day_is_final_with_the_first_history_after_its_end_and_keeps_its_fees():
    rows = derived(build, [both([TODAY]), fees(), fees("0.09", at_s=DAY), both([TODAY, TOMORROW], price="91000", at_s=DAY)])

    assert [(row.day, row.price_usd, row.mean_fees_btc_per_block, row.is_final) for row in rows[2:]] == [
        (TODAY, 9.1e4, 0.02, True),
        (TOMORROW, 9.1e4, 0.09, False),
    ]


def test_a_closed_day_that_was_used_is_never_revised():
    first = both([day(3), YESTERDAY])

    assert len(told(first, both([YESTERDAY], price="1", difficulty="1", at_s=60))) == 1
    assert run(build, [first, both([YESTERDAY], price="1", at_s=60), both([TODAY], at_s=120)])[-1] == [
        both([TODAY], at_s=120),
        *derived(build, [both([day(3), YESTERDAY, TODAY], at_s=120)])[1:],
    ]


def test_the_running_days_values_wait_a_week_for_the_final_ones():
    running = both([TODAY])

    assert told(running, both([TODAY], price="91000", at_s=7 * DAY))[1:] == [(TODAY, 9.1e4, 1.5e14, True)]
    assert told(running, tick(at_s=8 * DAY), both([TODAY], price="91000", at_s=8 * DAY))[1:] == [(TODAY, 9e4, 1.5e14, True)]
    in_time = told(running, tick(at_s=7 * DAY), both([TODAY], price="91000", at_s=7 * DAY + 60))
    assert in_time[1:] == [(TODAY, 9e4, 1.5e14, True), (TODAY, 9.1e4, 1.5e14, True)]


def test_values_that_come_too_late_are_in_no_fit_either():
    running, late = [both([TODAY]), tick(at_s=8 * DAY)], both([TODAY], price="91000", at_s=8 * DAY + 60)
    next_day = both([day(-8)], at_s=8 * DAY + 120)

    assert derived(build, [*running, late, next_day]) == derived(build, [*running, next_day])


def test_fees_are_told_for_a_week():
    items = [both([TODAY]), fees(), both([TODAY], price="91000", at_s=7 * DAY)]

    assert [row.mean_fees_btc_per_block for row in derived(build, items)] == [None, 0.02, 0.02]


def test_a_price_after_the_end_may_come_before_the_difficulty():
    price = history(price=[(TODAY, "91000")], at_s=DAY)
    difficulty = history([(TODAY, "1.6e14")], at_s=DAY + HOUR)

    assert told(both([TODAY]), price, difficulty)[1:] == [(TODAY, 9.1e4, 1.5e14, True), (TODAY, 9.1e4, 1.6e14, True)]


def test_without_polls_the_clock_closes_a_day_one_day_late():
    items = [both([TODAY]), tick(at_s=12 * HOUR), tick(at_s=36 * HOUR - 1), tick(at_s=36 * HOUR), tick(at_s=36 * HOUR + 1)]

    became = run(build, items)

    assert [len(outputs) for outputs in became] == [2, 1, 1, 2, 1]
    assert (became[3][1].day, became[3][1].is_final) == (TODAY, True)


def test_a_day_closed_by_a_poll_is_not_reopened_by_the_clock():
    items = [both([TODAY]), both([TOMORROW], at_s=12 * HOUR), tick(at_s=12 * HOUR + 1), fees(at_s=12 * HOUR + 2)]

    assert told(*items) == [
        (TODAY, 9e4, 1.5e14, False),
        (TODAY, 9e4, 1.5e14, True),
        (TOMORROW, 9e4, 1.5e14, False),
        (TOMORROW, 9e4, 1.5e14, False),
    ]


def test_an_older_history_that_comes_later_enters_the_fits():
    recent, older = [day(back) for back in range(10, 0, -1)], [day(back) for back in range(60, 10, -1)]
    now = both([TODAY], at_s=60)

    assert told(both(recent), both(older)) == [(YESTERDAY, 9e4, 1.5e14, True)]
    late = derived(build, [both(recent), both(older), now])[-1]
    once = derived(build, [both(older + recent), now])[-1]

    assert late == once
    assert late.fits[GLASSNODE_2022].days == 61


def test_fits_are_those_of_the_whole_history():
    rows = [(day(back), str(40_000 + back * back % 977), str(10**14 + 10**12 * (back // 14))) for back in range(400, 0, -1)]

    (row,) = derived(build, [history([(of, work) for of, _, work in rows], [(of, price) for of, price, _ in rows])])

    assert row.fits == fit_history([(of, float(price), float(work)) for of, price, work in rows], TODAY).fits
    assert row.fits[EXPANDING].days == 400


@pytest.mark.parametrize(
    ("pair", "error", "reason"),
    [
        (("2025-12-29", "-1"), "AbsurdValueError", "value of 2025-12-29 is negative: -1"),
        (("2025-12-29", "x"), "AbsurdValueError", "value of 2025-12-29 is not a number: 'x'"),
        (("20251229", "1"), "AbsurdValueError", "not a day written as YYYY-MM-DD: '20251229'"),
        (("2009-01-02", "1"), "AbsurdValueError", "2009-01-02 is not one of the 20000 days from the first block on"),
        (("2063-10-07", "1"), "AbsurdValueError", "2063-10-07 is not one of the 20000 days from the first block on"),
        (("2063-10-06", "1"), "FutureTimeError", "2063-10-06 has not begun"),
        (("2026-01-01", "1"), "FutureTimeError", "2026-01-01 has not begun"),
        (("2025-12-29", "9e-13"), "AbsurdValueError", "value of 2025-12-29 is absurdly small: 9e-13"),
    ],
)
def test_a_bad_value_is_a_dead_letter_and_costs_its_neighbours_nothing(pair, error, reason):
    poll = history([(YESTERDAY, "1.5e14"), pair], [pair, (YESTERDAY, "90000")])

    letter, row = derived(build, [poll])

    assert letter == DeadLetter(cause(), "mempool/history", "mempool", error, reason, msgspec.json.encode([pair, pair]))
    assert (row.day, row.price_usd) == (YESTERDAY, 9e4)


def test_the_first_block_has_a_day_and_it_is_never_revised():
    first, revised = both(["2009-01-03"], price="1", difficulty="1"), both(["2009-01-03"], price="2", difficulty="2")
    now = both([YESTERDAY], at_s=60)

    assert told(first) == [("2009-01-03", 1.0, 1.0, True)]
    assert derived(build, [first, revised, now]) == derived(build, [first, now])


def test_the_first_days_may_come_last():
    first_days = ["2009-01-03", "2009-01-04", "2009-01-05"]
    now = both([day(back) for back in range(400, 0, -1)], at_s=60)

    late = derived(build, [both(["2009-01-06"]), both(first_days), now])[-1]

    assert late == derived(build, [both([*first_days, "2009-01-06"]), now])[-1]
    assert late.fits[GLASSNODE_2022].days == 404


def test_the_dearest_fees_that_are_believed():
    assert [row.mean_fees_btc_per_block for row in derived(build, [both([TODAY]), fees("1000")])] == [None, 1000.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "mean fees is negative: -1"),
        ("x", "mean fees is not a number: 'x'"),
        ("1000.1", "mean fees are absurdly large: 1000.1 BTC per block"),
    ],
)
def test_absurd_fees_are_a_dead_letter(text, reason):
    (letter,) = derived(build, [fees(text)])

    assert letter == DeadLetter(
        cause(), "mempool/fees", "mempool", "AbsurdValueError", reason, msgspec.json.encode(fees(text))
    )


def test_the_smallest_value_that_is_believed_still_gives_finite_rows():
    (row,) = derived(build, [history([(YESTERDAY, "1e-12")], [(YESTERDAY, "999999999999999999")])])

    assert 0 < row.hashprice_usd_per_ph_day < float("inf")


def test_a_value_of_zero_means_that_there_was_none():
    nothing = history([(YESTERDAY, "1.5e14")], [(YESTERDAY, "0"), (day(2), "0.0")])

    assert derived(build, [nothing]) == []
    assert told(nothing, history(price=[(YESTERDAY, "1")], at_s=60)) == [(YESTERDAY, 1.0, 1.5e14, True)]


def test_a_day_that_begins_while_our_clock_lags_is_believed():
    skew_s = PARAMETERS.contracts.max_clock_skew_us / 1e6

    assert told(both([TOMORROW], at_s=12 * HOUR - skew_s)) == [(TOMORROW, 9e4, 1.5e14, False)]


def test_days_beyond_the_bound_are_refused(monkeypatch):
    monkeypatch.setattr(miners, "MAX_DAYS", 10)

    assert [type(output) for output in derived(build, [both([YESTERDAY])])] == [DeadLetter]


def test_six_thousand_days_are_saved_in_a_hundred_kilobytes_once_and_then_in_a_few():
    machine = build()
    handlers = machine.handlers()
    prices = [(day(back), f"{back * 7919 % 100_003 + 0.25}") for back in range(6000, 0, -1)]
    handlers[RawMiningHistory](history([(day(back), f"{10**13 + back // 14}") for back in range(6000, 0, -1)], prices))
    first = machine.snapshot()

    handlers[type(tick())](tick(at_s=1))
    assert machine.snapshot()[0] is first[0]
    assert machine.snapshot()[1] is first[1]
    assert len(first[0]) < 100_000

    handlers[RawMiningHistory](both([TODAY], at_s=60))
    later = machine.snapshot()
    assert later[0] is first[0]
    assert later[1] != first[1]
    assert len(later[1]) < 1000


def test_the_history_is_never_idle():
    assert not build().is_idle()


SECONDS = st.integers(0, 24).map(lambda half_days: half_days * 12 * HOUR)
DAYS = st.lists(st.integers(-12, 40).map(day), max_size=6).map(lambda days: sorted(set(days)))
VALUES = st.sampled_from(["1.5e14", "90000", "91000", "0", "x"])
ITEMS = st.one_of(
    st.builds(both, DAYS, price=VALUES, difficulty=VALUES, at_s=SECONDS),
    st.builds(lambda days, value, at_s: history(price=[(of, value) for of in days], at_s=at_s), DAYS, VALUES, SECONDS),
    st.builds(lambda days, value, at_s: history([(of, value) for of in days], at_s=at_s), DAYS, VALUES, SECONDS),
    st.builds(fees, st.sampled_from(["0.01", "0.02"]), at_s=SECONDS),
    st.builds(tick, at_s=SECONDS),
)
RUNS = st.lists(ITEMS, max_size=14).map(lambda items: numbered(sorted(items, key=lambda item: item.cause.receive_time_us)))


@given(RUNS, st.sets(st.integers(0, 13)))
def test_a_restart_at_any_point_changes_nothing(items, restarts):
    assert run(build, items, restarts) == run(build, items)


@given(RUNS)
def test_every_row_is_told_once_is_past_only_and_never_loses_its_finality(items):
    final = set()
    for item, outputs in zip(items, run(build, items), strict=True):
        assert outputs[0] is item
        rows = [output for output in outputs if isinstance(output, MinerDay)]
        assert [row.day for row in rows] == sorted({row.day for row in rows})
        for row in rows:
            assert row.is_final or row.day not in final
            assert row.is_final is False or (date.fromisoformat(row.day) - date(1970, 1, 1)).days < _day_of(item)
            assert {fit.last_day for fit in row.fits.values()} == {row.day}
            final |= {row.day} if row.is_final else set()


def _day_of(item):
    return item.cause.receive_time_us // (DAY * 1_000_000)


def test_noon_is_on_the_day_that_the_other_tests_call_today():
    assert (date.fromisoformat(TODAY) - date(1970, 1, 1)).days == NOON_US // 1_000_000 // DAY


def test_a_restart_between_a_long_history_and_the_running_day_changes_nothing():
    rows = [(day(back), str(40_000 + back * back % 977), str(10**14 + 10**12 * (back // 14))) for back in range(1200, 0, -1)]
    past = history([(of, work) for of, _, work in rows], [(of, price) for of, price, _ in rows])
    items = numbered([past, both([TODAY], at_s=60), tick(at_s=120), both([TODAY], price="91000", at_s=180)])

    assert run(build, items, restarts={1, 3}) == run(build, items)


def test_a_restart_beside_a_running_day_changes_nothing():
    items = numbered(
        [
            both([day(2), YESTERDAY, TODAY]),
            both([TODAY], price="91000", at_s=60),
            both([TODAY, TOMORROW], price="92000", at_s=DAY),
            both([TOMORROW], price="93000", at_s=DAY + 60),
        ]
    )

    assert run(build, items, restarts={1, 2, 3}) == run(build, items)
