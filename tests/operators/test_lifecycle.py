import dataclasses
from functools import partial

import pytest
from asset_events import LONG, SECOND, SHORT, USD, InTurn, at, cause, feed, liquidation, tick
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from market.parameters import CascadeThresholds, Parameters
from market.readings import CascadePhase, CascadeTransition, LiquidationPulse, LiquidationWindows, SideWindows
from operators.lifecycle import CascadeLifecycle
from operators.liquidation_windows import LiquidationWindowsMachine

DEFAULTS = Parameters()
MILLION = 1_000_000


def chain(parameters=DEFAULTS, states=None):
    return InTurn([partial(LiquidationWindowsMachine, parameters), partial(CascadeLifecycle, parameters)], states)


def run(items, parameters=DEFAULTS, restart_before=()):
    machines = chain(parameters)
    outs = []
    for number, item in enumerate(items):
        if number in restart_before:
            machines = chain(parameters, machines.snapshot())
        outs += machines.handle(item)
    return outs, machines


def transitions(items, parameters=DEFAULTS):
    return [out for out in run(items, parameters)[0] if isinstance(out, CascadeTransition)]


def rout(start_s=0, position_side=LONG, usd=1_200_000, count=5, venues=("bybit-linear", "okx")):
    """So many liquidations, a second apart, in turn from these venues."""
    return [
        liquidation(
            start_s + number,
            usd=usd,
            position_side=position_side,
            venue=venues[number % len(venues)],
            sequence=start_s + number,
        )
        for number in range(count)
    ]


def ticks(*seconds):
    return [tick(second, sequence=second) for second in seconds]


def test_a_cascade_begins_with_the_liquidation_that_meets_the_last_condition_and_ends_when_its_window_is_empty():
    assert transitions([*rout(), *ticks(*range(5, 100))]) == [
        CascadeTransition(
            cause=cause(4, sequence=4),
            cascade_id="BTC-LONG-0-4",
            asset="BTC",
            position_side=LONG,
            phase=CascadePhase.BEGAN,
            began_time_us=at(4),
            window_micros=6 * MILLION * USD,
            peak_micros=6 * MILLION * USD,
            total_micros=6 * MILLION * USD,
            total_count=5,
            venues=("bybit-linear", "okx"),
        ),
        CascadeTransition(
            cause=cause(94, sequence=94),
            cascade_id="BTC-LONG-0-4",
            asset="BTC",
            position_side=LONG,
            phase=CascadePhase.ENDED,
            began_time_us=at(4),
            window_micros=0,
            peak_micros=6 * MILLION * USD,
            total_micros=6 * MILLION * USD,
            total_count=5,
            venues=("bybit-linear", "okx"),
        ),
    ]


def test_totals_count_from_the_window_that_began_it_and_the_peak_is_the_largest_window():
    later = [
        liquidation(80, usd=2_000_000, venue="binance-usdm", sequence=80),
        liquidation(100, usd=500_000, delay_s=11, sequence=100),
        liquidation(120, usd=600_000, sequence=120),
    ]

    ended = transitions([*rout(), *later, *ticks(175, 215)])[-1]

    assert (ended.total_micros, ended.total_count) == (8_600_000 * USD, 7)
    assert ended.peak_micros == 8_000_000 * USD
    assert ended.venues == ("binance-usdm", "bybit-linear", "okx")
    assert (ended.phase, ended.cause, ended.window_micros) == (CascadePhase.ENDED, cause(215, sequence=215), 0)


def test_it_ends_on_a_pulse_when_the_window_is_below_a_tenth_of_the_threshold():
    begins_then_ends = [*rout(), liquidation(200, usd=499_999, sequence=200)]
    goes_on = [*rout(), liquidation(50, usd=500_000, sequence=50), liquidation(100, usd=0, sequence=100)]

    assert [(out.phase.value, out.window_micros // USD) for out in transitions(begins_then_ends)] == [
        ("began", 6_000_000),
        ("ended", 499_999),
    ]
    assert [out.phase.value for out in transitions(goes_on)] == ["began"]


@pytest.mark.parametrize(
    "quiet",
    [
        rout(usd=1_000_000),  # exactly the threshold
        rout(count=4, usd=2_000_000),
        rout(venues=("okx",)),
        [liquidation(0, usd=3_300_000, position_side=SHORT), *rout()],  # 64.5 % of both sides
        [liquidation(second, usd=2_000_000, delay_s=11, venue=f"venue-{second}") for second in range(9)],  # late
        rout(count=20, usd=200_000, start_s=0)[:5] + rout(count=5, start_s=200, usd=900_000),
    ],
)
def test_there_is_no_cascade_where_one_condition_is_not_met(quiet):
    assert transitions(quiet) == []


def test_the_conditions_themselves_are_enough():
    others = liquidation(0, usd=3_230_769, position_side=SHORT)  # longs are just 65 % of both

    began = transitions([others, *rout(usd=1_200_000)])

    assert [(out.phase.value, out.position_side) for out in began] == [("began", LONG)]


def test_the_venues_are_those_of_the_last_90_seconds():
    old = liquidation(0, usd=1, venue="deribit")

    assert transitions([old, *rout(start_s=86)])[0].venues == ("bybit-linear", "okx")
    assert transitions([old, *rout(start_s=85)])[0].venues == ("bybit-linear", "deribit", "okx")


def test_a_liquidation_that_comes_late_makes_its_venue_no_older():
    late = [liquidation(60, usd=1, venue="deribit"), liquidation(61, usd=1, venue="deribit", delay_s=56)]

    assert transitions([*late, *rout(start_s=100)])[0].venues == ("bybit-linear", "deribit", "okx")


def test_nor_does_it_those_that_go_by_one_name():
    known = ["bybit-linear", "okx", *(f"venue-{number:02}" for number in range(38))]
    late = [liquidation(60, usd=1, venue="one more"), liquidation(61, usd=1, venue="and another", delay_s=56)]
    events = [*(liquidation(0, usd=1, venue=venue) for venue in known), *late]

    assert transitions([*events, *rout(start_s=100)])[0].venues == ("bybit-linear", "okx", "other")


def test_both_sides_can_be_in_a_cascade_and_one_side_in_one_after_another():
    items = [
        *rout(),
        *rout(start_s=10, position_side=SHORT, usd=3_000_000, count=6),
        liquidation(16, usd=1),
        *ticks(*range(17, 120)),
        *rout(start_s=200),
    ]

    assert [(out.phase.value, out.cascade_id) for out in transitions(items)] == [
        ("began", "BTC-LONG-0-4"),
        ("began", "BTC-SHORT-0-14"),
        ("ended", "BTC-LONG-0-4"),
        ("ended", "BTC-SHORT-0-14"),
        ("began", "BTC-LONG-0-204"),
    ]


def test_the_other_side_falling_silent_begins_no_cascade():
    others = liquidation(0, usd=6_000_000, position_side=SHORT)

    assert transitions([others, *rout(start_s=60), *ticks(90, 91)]) == []


def test_pulses_are_consumed_and_all_else_goes_on():
    outs, _ = run([liquidation(), tick(1)])

    assert [type(out).__name__ for out in outs] == ["Liquidation", "LiquidationWindows", "AssetTick"]


def test_more_venues_than_are_told_apart_go_by_one_name():
    events = [liquidation(0, usd=200_000, venue=f"venue-{number:02}") for number in range(45)]

    began = transitions(events)[0]
    later = transitions([*events, *ticks(1, 90)])[-1]

    assert len(began.venues) == 26
    assert later.venues == ("other", *(f"venue-{number:02}" for number in range(40)))


def test_a_changed_threshold_takes_effect_on_resume():
    _, machines = run(rout(usd=500_000))
    lower = dataclasses.replace(DEFAULTS, cascade=CascadeThresholds(window_usd=1_000_000))

    outs = chain(lower, machines.snapshot()).handle(liquidation(5, usd=1, sequence=5))

    assert [out.cascade_id for out in outs if isinstance(out, CascadeTransition)] == ["BTC-LONG-0-5"]


def test_a_snapshot_does_not_change_with_what_comes_after_it():
    machine = chain()
    machine.feed(rout())
    saved = machine.snapshot()[1]
    before = repr(saved)

    machine.feed(rout(start_s=20, venues=("deribit",)))

    assert repr(saved) == before


EMPTY = SideWindows((0,) * 6, (0,) * 6, (0,) * 6, {}, 0, 0, 0)


@st.composite
def markets(draw):
    items, now_s = [], 0.0
    for sequence in range(draw(st.integers(1, 40))):
        now_s = round(now_s + draw(st.sampled_from([0.0, 0.3, 1.0, 1.0, 5.0, 40.0, 100.0])), 1)
        if draw(st.integers(0, 3)) == 0:
            items.append(tick(now_s, sequence))
            continue
        items.append(
            liquidation(
                now_s,
                usd=draw(st.sampled_from([10_000, 600_000, 2_000_000, 6_000_000])),
                position_side=draw(st.sampled_from([LONG, LONG, LONG, SHORT])),
                venue=draw(st.sampled_from(["binance-usdm", "bybit-linear", "okx"])),
                delay_s=draw(st.sampled_from([0.0, 3.0, 11.0])),
                sequence=sequence,
            ),
        )
    return items, now_s


@settings(max_examples=examples(40))
@given(markets(), st.sets(st.integers(0, 40)))
def test_a_restart_at_any_point_changes_nothing(market, restarts):
    items, _ = market

    assert run(items, restart_before=restarts)[0] == run(items)[0]


@settings(max_examples=examples(40))
@given(markets())
def test_each_side_begins_and_ends_in_turn_and_every_begin_meets_the_thresholds(market):
    items, end_s = market
    seen = {}
    for out in transitions([*items, tick(end_s + 91), tick(end_s + 93)]):
        before = seen.get(out.position_side)
        if out.phase is CascadePhase.BEGAN:
            assert before is None or before.phase is CascadePhase.ENDED
            assert out.window_micros > 5 * MILLION * USD
            assert out.total_count >= 5
            assert len(out.venues) >= 2
        else:
            assert before.phase is CascadePhase.BEGAN
            assert (before.cascade_id, before.began_time_us) == (out.cascade_id, out.began_time_us)
            assert out.window_micros < MILLION * USD // 2
            assert out.total_micros >= before.total_micros
            assert set(out.venues) >= set(before.venues)
        seen[out.position_side] = out
    assert all(out.phase is CascadePhase.ENDED for out in seen.values())


def by_the_book(outs):
    """Scores §4 word by word, over what the windows say: (phase, side, window, peak, total, count, venues)."""
    running, told, entered = {}, [], {LONG: [], SHORT: []}
    for out in outs:
        if isinstance(out, LiquidationPulse):
            entered[out.liquidation.position_side].append(out.liquidation)
            sums = {LONG: out.long_micros, SHORT: out.short_micros}
            counts = {LONG: out.long_count, SHORT: out.short_count}
            venues = {LONG: out.long_venues, SHORT: out.short_venues}
        elif isinstance(out, LiquidationWindows):
            sums = {LONG: out.long.usd_micros[2], SHORT: out.short.usd_micros[2]}
        else:
            continue
        now_us = out.cause.receive_time_us
        for side in (LONG, SHORT):
            if side not in running:
                continue
            running[side]["peak"] = max(running[side]["peak"], sums[side])
            if sums[side] == 0 or sums[side] < 500_000 * USD:
                began_us, peak = running[side]["began_us"], running.pop(side)["peak"]
                seen = [event for event in entered[side] if event.event_time_us > began_us - 90 * SECOND]
                total = sum(event.notional_micros for event in seen)
                told.append(("ended", side, sums[side], peak, total, len(seen), {event.venue for event in seen}))
        if not isinstance(out, LiquidationPulse):
            continue
        for side in (LONG, SHORT):
            is_large = sums[side] > 5 * MILLION * USD and sums[side] >= 0.65 * sum(sums.values())
            if side not in running and is_large and counts[side] >= 5 and venues[side] >= 2:
                running[side] = {"began_us": now_us, "peak": sums[side]}
                seen = {event.venue for event in entered[side] if event.event_time_us > now_us - 90 * SECOND}
                told.append(("began", side, sums[side], sums[side], sums[side], counts[side], seen))
    return told


@settings(max_examples=examples(60))
@given(markets())
def test_cascades_are_those_of_the_rule_book(market):
    items, end_s = market
    windows = LiquidationWindowsMachine(DEFAULTS)
    outs = feed(windows, [*items, tick(end_s + 91), tick(end_s + 93)])

    told = [out for out in feed(CascadeLifecycle(DEFAULTS), outs) if isinstance(out, CascadeTransition)]

    assert [
        (
            out.phase.value,
            out.position_side,
            out.window_micros,
            out.peak_micros,
            out.total_micros,
            out.total_count,
            set(out.venues),
        )
        for out in told
    ] == by_the_book(outs)


@settings(max_examples=examples(40))
@given(markets())
def test_a_quiet_side_is_forgotten(market):
    items, end_s = market

    _, machines = run([*items, tick(end_s + 91), tick(end_s + 93)])

    assert CascadeLifecycle(DEFAULTS, machines.snapshot()[1]).is_idle()


def test_a_side_that_was_active_within_90_seconds_is_not_idle():
    machine = CascadeLifecycle(DEFAULTS)
    assert machine.is_idle()

    feed(machine, [LiquidationPulse(cause(), "BTC", 1, 0, 1, 0, 1, 0, liquidation())])

    assert not machine.is_idle()
    feed(machine, [LiquidationWindows(cause(90), "BTC", EMPTY, EMPTY)])
    assert machine.is_idle()


def test_a_pulse_without_a_liquidation_ends_a_cascade_too():
    machine = CascadeLifecycle(DEFAULTS)
    began = LiquidationPulse(cause(), "BTC", 6 * MILLION * USD, 0, 5, 0, 2, 0, liquidation())

    outs = feed(machine, [began, LiquidationPulse(cause(90), "BTC", 0, 0, 0, 0, 0, 0)])

    assert [out.phase.value for out in outs] == ["began", "ended"]
