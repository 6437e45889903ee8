import dataclasses
from functools import partial

import pytest
from asset_events import SECOND, USD, InTurn, at, cause, derivatives, feed, feed_with_restarts, liquidation, tick
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from market.events import AssetMiners, AssetPressure, MinerDay, Pressure
from market.parameters import CascadeScoreParameters, Parameters
from market.readings import (
    AbsoluteRisk,
    CascadeScore,
    DerivativesReading,
    LiquidationWindows,
    Score,
    Severity,
    SideWindows,
)
from operators.deltas import Deltas
from operators.liquidation_windows import LiquidationWindowsMachine
from operators.scores import Scores

DEFAULTS = Parameters()
TODAY = "2025-10-10"
MISSING = ("funding", "open_interest", "price", "long_short_ratio", "pressure", "miners")
WITHOUT_INPUT = ("size", "self_excitation", "fuel", "crowding")
EMPTY = SideWindows((0,) * 6, (0,) * 6, (0,) * 6, {}, 0, 0, 0)

build = partial(Scores, DEFAULTS)


def side(*, usd_10s=0, usd_90s=0, usd_300s=None, venue_usd=None):
    usd_300s = usd_90s if usd_300s is None else usd_300s
    usd = (usd_10s, usd_90s, usd_90s, usd_90s, usd_300s, usd_300s)
    venues = {"okx": usd_90s} if venue_usd is None else venue_usd
    return SideWindows(
        tuple(each * USD for each in usd),
        tuple(int(each > 0) for each in usd),
        tuple(each * USD for each in usd),
        {venue: each * USD for venue, each in venues.items() if each},
        usd_90s * USD,
        usd_90s * USD,
        0,
    )


def windows(at_s=0.0, long=EMPTY, short=EMPTY):
    return LiquidationWindows(cause(at_s), "BTC", long, short)


def reading(at_s=0.0, **changes):
    values = {
        "mark_price": 100_000.0,
        "price_changes_percent": (0.5, None, None),
        "open_interest_base": 1_000.0,
        "open_interest_usd": 100_000_000.0,
        "open_interest_changes_percent": (6.0, None, None),
        "venue_open_interest_changes_percent": {},
        "funding_rate_8h": 0.0006,
        "funding_changes": (None, None, None),
        "venue_funding_changes": {},
        "long_short_ratio": 2.5,
        "missing": {},
        "oldest_input_time_us": at(at_s),
    }
    return DerivativesReading(cause=cause(at_s), asset="BTC", **{**values, **changes})


def pressure(at_s=0.0, value=-41):
    return AssetPressure(cause(at_s), "BTC", Pressure(cause(at_s), value, 0, 0, 0, 0, 0, 0, 0, 0, at(at_s - 14_400), at(at_s)))


def miners(at_s=0.0, day=TODAY):
    return AssetMiners(cause(at_s), "BTC", MinerDay(cause(at_s), day, 100_000.0, 1e14, None, 50.0, {}, {}, is_final=False))


def scores_of(outs):
    return [out for out in outs if isinstance(out, Score)]


def last(items, machine=None):
    return scores_of(feed(machine or build(), items))[-1]


def test_a_score_carries_every_input_and_its_judgement():
    long = side(usd_10s=10_000_000, usd_90s=30_000_000, venue_usd={"okx": 15_000_000, "bybit-linear": 15_000_000})
    inputs = [reading(), pressure(), miners()]

    score = last([*inputs, windows(1, long)])

    assert score == Score(
        cause=cause(1),
        asset="BTC",
        windows=windows(1, long),
        derivatives=inputs[0],
        pressure=inputs[1].pressure,
        miners=inputs[2].miners,
        risk=AbsoluteRisk(total=59, funding=20, open_interest=18, long_short_ratio=15, liquidations=6),
        cascade_long=CascadeScore(10.0, 1.0, {"speed": 1.0, "breadth": 1.0}, WITHOUT_INPUT),
        cascade_short=CascadeScore(0.0, 0.0, {"speed": 0.0, "breadth": 0.0}, WITHOUT_INPUT),
        severity=Severity.WARNING,
        pressure_waived=False,
        missing_inputs=(),
        parameter_version=DEFAULTS.version,
    )


def test_an_asset_of_which_only_the_pressure_is_known_has_no_liquidations_and_names_the_rest():
    score = last([pressure(0), tick(1)])

    assert (score.windows, score.risk) == (None, AbsoluteRisk(0, None, None, None, 0))
    assert score.cascade_long == CascadeScore(0.0, 0.0, {"speed": 0.0, "breadth": 0.0}, WITHOUT_INPUT)
    assert score.missing_inputs == ("funding", "open_interest", "price", "long_short_ratio", "miners")


def test_without_a_pressure_severity_is_waived_and_missing():
    unknown = pressure(0, value=None)
    certain = [reading(), windows(0, side(usd_90s=60_000_000))]

    score = last([unknown, *certain])

    assert (score.risk.total, score.severity, score.pressure_waived) == (65, Severity.WARNING, True)
    assert score.pressure == unknown.pressure
    assert score.missing_inputs == ("pressure", "miners")
    assert last(certain).missing_inputs == ("pressure", "miners")
    assert last(certain).pressure_waived


def test_liquidations_of_both_sides_count_over_five_minutes():
    both = windows(0, side(usd_90s=1, usd_300s=20_000_000), side(usd_90s=1, usd_300s=15_000_000))

    assert last([both]).risk.liquidations == 7


def test_a_side_below_the_floor_scores_zero():
    assert last([windows(0, side(usd_10s=249_999, usd_90s=249_999))]).cascade_long.score == 0.0
    score = last([windows(0, side(usd_10s=250_000, usd_90s=250_000))]).cascade_long.score
    assert score == pytest.approx(10 * 0.15 / 0.25)


def test_a_window_reading_is_answered_at_once_and_everything_else_at_the_next_tick():
    outs = feed(build(), [windows(0.5), reading(1.2), pressure(1.5), miners(1.7), tick(2), tick(3)])

    assert [type(out).__name__ for out in outs] == ["Score", "Score", "AssetTick", "AssetTick"]
    assert [out.cause for out in scores_of(outs)] == [cause(0.5), cause(2)]


def test_there_is_at_most_one_score_per_interval_of_the_clock():
    outs = feed(
        build(), [reading(0), tick(1.001), windows(1.5, side(usd_90s=9)), tick(1.9), tick(2.0), windows(2.3), tick(3.0)]
    )

    assert [(out.cause, out.windows and out.windows.cause) for out in scores_of(outs)] == [
        (cause(1.001), None),
        (cause(2.0), cause(1.5)),
        (cause(3.0), cause(2.3)),
    ]


@pytest.mark.parametrize(
    ("item", "known_until_s", "names"),
    [
        (reading(0), 900, MISSING),
        (pressure(0), 900, ("pressure", "miners")),
        (miners(0), 172_800 - 43_200, ("miners",)),
    ],
)
def test_an_input_older_than_its_maximum_age_is_missing(item, known_until_s, names):
    fields = {DerivativesReading: "derivatives", AssetPressure: "pressure", AssetMiners: "miners"}
    field = fields[type(item)]
    machine = build()
    feed(machine, [item, tick(1), tick(known_until_s - 1)])

    still = scores_of(feed(machine, [windows(known_until_s, side(usd_90s=1))]))
    gone = scores_of(feed(machine, [tick(known_until_s + 1), tick(known_until_s + 2)]))

    assert [getattr(out, field) is None for out in still + gone] == [False, True]
    assert set(names) <= set(gone[0].missing_inputs)
    assert getattr(last([item, windows(known_until_s + 1)]), field) is None


def test_the_price_alone_missing_is_named():
    score = last([reading(price_changes_percent=(None, 1.0, 1.0)), tick(1)])

    assert score.risk == AbsoluteRisk(35, 20, None, 15, 0)
    assert score.missing_inputs == ("price", "pressure", "miners")


def test_an_asset_of_which_nothing_is_known_any_more_is_forgotten():
    machine = build()
    feed(machine, [windows(0, side(usd_90s=1)), tick(1)])
    assert not machine.is_idle()

    outs = feed(machine, [windows(3600)])
    assert outs[0].windows == windows(3600)
    assert not machine.is_idle()
    feed(machine, [tick(3601)])
    assert machine.is_idle()
    assert feed(machine, [tick(3602)]) == [tick(3602)]


def test_empty_windows_stay_known_while_anything_else_is():
    machine = build()
    feed(machine, [windows(0), reading(0), tick(1)])

    assert scores_of(feed(machine, [reading(60), tick(61)]))[0].windows == windows(0)


def test_parameters_take_effect_on_resume():
    machine = build()
    feed(machine, [reading(0), windows(0, side(usd_90s=100))])
    cheaper = dataclasses.replace(DEFAULTS, cascade_score=CascadeScoreParameters(floor_usd=1))

    resumed = Scores(cheaper, machine.snapshot())

    score = last([windows(1, side(usd_90s=100))], resumed)
    assert (score.derivatives, score.parameter_version) == (reading(0), cheaper.version)
    assert score.cascade_long.score == 0.0
    assert last([windows(2, side(usd_10s=100, usd_90s=100))], resumed).cascade_long.score > 0


@st.composite
def streams(draw):
    makers = [
        lambda at_s: windows(at_s, side(usd_10s=300_000, usd_90s=400_000)),
        windows,
        reading,
        pressure,
        miners,
        tick,
        tick,
    ]
    items, now_s = [], 0.0
    for _ in range(draw(st.integers(1, 30))):
        now_s = round(now_s + draw(st.sampled_from([0.0, 0.4, 1.0, 30.0, 899.0, 901.0, 50_000.0])), 1)
        items.append(draw(st.sampled_from(makers))(now_s))
    return items, now_s


@settings(max_examples=examples(70))
@given(streams(), st.sets(st.integers(0, 30)), st.booleans())
def test_a_restart_at_any_point_changes_nothing(stream, restarts, forgets):
    items, _ = stream

    assert feed_with_restarts(build, items, restarts, forget_when_idle=forgets)[0] == feed(build(), items)


@settings(max_examples=examples(50))
@given(streams())
def test_no_interval_has_two_scores_and_none_says_what_is_too_old(stream):
    items, end_s = stream

    scores = scores_of(feed(build(), [*items, tick(end_s + 1)]))

    seconds = [score.cause.receive_time_us // SECOND for score in scores]
    assert len(set(seconds)) == len(seconds)
    for score in scores:
        for known in (score.derivatives, score.pressure):
            assert known is None or score.cause.receive_time_us - known.cause.receive_time_us <= 900 * SECOND


def expected_scores(items):
    """The cause of each score and the causes of what it knew, by the rules written out: there is no waking."""
    known, is_news, second, expected = {}, False, None, []
    max_age_us = {DerivativesReading: 900 * SECOND, Pressure: 900 * SECOND, MinerDay: 172_800 * SECOND}
    today_us = at(-12 * 3600)  # where the age of a miner day begins
    for item in items:
        now_us = item.cause.receive_time_us
        is_tick = isinstance(item, type(tick()))
        if not is_tick:
            value = getattr(item, "pressure", None) or getattr(item, "miners", None) or item
            known[type(value)], is_news = value, True
        if now_us // SECOND == second or not (is_tick or isinstance(item, LiquidationWindows)):
            continue
        for kind, value in list(known.items()):
            begin_us = today_us if kind is MinerDay else value.cause.receive_time_us
            if now_us - begin_us > max_age_us.get(kind, now_us):
                del known[kind]
                is_news = True
        if is_news:
            kinds = (LiquidationWindows, DerivativesReading, Pressure, MinerDay)
            expected.append((item.cause, *(known[kind].cause if kind in known else None for kind in kinds)))
            is_news, second = False, now_us // SECOND
    return expected


@settings(max_examples=examples(70))
@given(streams())
def test_every_score_comes_when_the_rules_say_with_all_that_is_known_and_no_other_does(stream):
    items, end_s = stream
    items = [*items, tick(end_s + 1), tick(end_s + 902), tick(end_s + 200_000)]

    scores = scores_of(feed(build(), items))

    # An asset of which nothing is known but that its windows are empty is forgotten: then its windows are not known either.
    found = [
        (out.cause, *(known and known.cause for known in (out.windows, out.derivatives, out.pressure, out.miners)))
        for out in scores
    ]
    expected = expected_scores(items)
    assert [(row[0], *row[2:]) for row in found] == [(row[0], *row[2:]) for row in expected]
    for row, wanted, score in zip(found, expected, scores, strict=True):
        assert row[1] == wanted[1] or (row[1] is None and score.risk.liquidations == 0)


@settings(max_examples=examples(50))
@given(streams())
def test_a_quiet_asset_becomes_idle(stream):
    items, end_s = stream
    later = [windows(end_s + 1), *(tick(end_s + seconds) for seconds in (2, 1_000, 200_000, 200_001, 200_002))]

    _, machine = feed_with_restarts(build, [*items, *later])

    assert machine.is_idle()


def test_behind_the_windows_and_the_deltas_a_polled_asset_is_scored_every_second_that_something_changed():
    chain = InTurn([partial(machine, DEFAULTS) for machine in (LiquidationWindowsMachine, Deltas, Scores)])
    items = [
        derivatives(0.1, open_interest_base=5.0, mark_price=1.0, funding_rate_8h=0.0001),
        tick(1),
        tick(2),
        liquidation(2.5, usd=300_000),
        tick(3),
    ]

    outs = scores_of(chain.feed(items))

    assert [(out.cause, out.risk.funding, out.windows is not None) for out in outs] == [
        (cause(1), 10, False),
        (cause(2.5), 10, True),
    ]
