import dataclasses
from functools import partial

import pytest
from asset_events import SECOND, at, cause, feed, feed_with_restarts, tick
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from market.events import Pressure
from market.parameters import AlertParameters, Parameters
from market.readings import AbsoluteRisk, AlertChange, AlertState, CascadeScore, Score, Severity
from market.severity import assess_severity
from operators.alerts import Alerts

DEFAULTS = Parameters()
NONE, INFO, WARNING, CRITICAL = Severity
NO_CASCADE = CascadeScore(0.0, 0.0, {}, ())

build = partial(Alerts, DEFAULTS)


def score(at_s=0.0, risk=0, pressure=-41, sequence=1, missing=()):
    """Points go to funding, then open interest, then liquidations."""
    funding, open_interest = min(30, risk), min(30, max(0, risk - 30))
    verdict = assess_severity(risk=risk, pressure=pressure, thresholds=DEFAULTS.severity)
    return Score(
        cause=cause(at_s, sequence),
        asset="BTC",
        windows=None,
        derivatives=None,
        pressure=None if pressure is None else Pressure(cause(at_s), pressure, 0, 0, 0, 0, 0, 0, 0, 0, at(at_s), at(at_s)),
        miners=None,
        risk=AbsoluteRisk(risk, funding, open_interest, None, risk - funding - open_interest),
        cascade_long=NO_CASCADE,
        cascade_short=NO_CASCADE,
        severity=verdict.severity,
        pressure_waived=verdict.pressure_waived,
        missing_inputs=missing,
        parameter_version="",
    )


def changes_of(outs):
    return [out for out in outs if isinstance(out, AlertChange)]


def told(items, machine=None):
    return [
        (round((out.cause.receive_time_us - at(0)) / SECOND, 3), out.severity.value)
        for out in changes_of(feed(machine or build(), items))
    ]


def test_an_alert_is_one_row_with_a_sentence_that_has_the_numbers():
    scores = [score(0, risk=74, sequence=7), score(1, risk=74, sequence=8)]

    assert feed(build(), scores) == [
        scores[0],
        AlertChange(
            cause=cause(0, sequence=7),
            asset="BTC",
            severity=CRITICAL,
            previous_severity=NONE,
            state=AlertState.FIRING,
            reason="BTC risk 74 (funding 30, open interest 30, liquidations 14), pressure −41: critical",
            score_sequence=7,
            risk=74,
            pressure=-41,
        ),
        scores[1],
    ]


def test_a_resolved_alert_says_what_it_was():
    changes = changes_of(feed(build(), [score(0, risk=55, pressure=-1), score(60, risk=0, pressure=3, sequence=9)]))

    assert changes[1] == AlertChange(
        cause=cause(60, sequence=9),
        asset="BTC",
        severity=NONE,
        previous_severity=WARNING,
        state=AlertState.RESOLVED,
        reason="BTC risk 0, pressure +3: resolved, was warning",
        score_sequence=9,
        risk=0,
        pressure=3,
    )


def test_the_sentence_says_what_was_not_known():
    missing = ("open_interest", "price", "pressure", "miners")

    (change,) = changes_of(feed(build(), [score(0, risk=52, pressure=None, missing=missing)]))

    assert change.reason == (
        "BTC risk 52 (funding 30, open interest 22), pressure not known: warning (without open interest, price)"
    )


def test_an_alert_rises_at_once_step_by_step():
    assert told([score(0, risk=31), score(1, risk=51), score(2, risk=71)]) == [(0, "info"), (1, "warning"), (2, "critical")]


@pytest.mark.parametrize(
    ("risk", "told_next"),
    [(70, []), (66, []), (65, [(100, "warning")]), (46, [(100, "info")]), (0, [(100, "none")])],
)
def test_it_falls_only_when_the_risk_is_five_points_below_its_threshold_and_then_to_what_the_score_says(risk, told_next):
    assert told([score(0, risk=71), score(100, risk=risk)])[1:] == told_next


def test_it_falls_when_the_pressure_leaves_though_the_risk_stays():
    assert told([score(0, risk=80), score(100, risk=80, pressure=-30)]) == [(0, "critical"), (100, "warning")]
    assert told([score(0, risk=80), score(59, risk=80, pressure=0), tick(60)]) == [(0, "critical"), (60, "info")]


def test_a_pressure_that_becomes_unknown_does_not_end_an_alert():
    assert told([score(0, risk=80), score(100, risk=80, pressure=None)]) == [(0, "critical")]


def test_it_is_held_for_a_minute_and_falls_at_the_first_tick_after_it():
    fallen = score(30, risk=0, sequence=5)
    machine = build()

    changes = changes_of(feed(machine, [score(0, risk=80), fallen, tick(59.9), tick(60.2, sequence=99), tick(61)]))

    assert [(out.cause, out.asset, out.score_sequence, out.severity) for out in changes[1:]] == [
        (cause(60.2, sequence=99), "BTC", 5, NONE)
    ]


def test_a_change_by_a_tick_goes_before_the_tick():
    outs = feed(build(), [score(0, risk=80), score(30, risk=0), tick(60)])

    assert [type(out).__name__ for out in outs] == ["Score", "AlertChange", "Score", "AlertChange", "AssetTick"]


def test_risk_that_returns_within_the_hold_is_no_change():
    assert told([score(0, risk=80), score(30, risk=0), score(50, risk=80), tick(60), tick(300)]) == [(0, "critical")]


def test_the_hold_counts_from_the_last_change():
    assert told([score(0, risk=40), score(50, risk=60), score(61, risk=0), tick(109), tick(110)]) == [
        (0, "info"),
        (50, "warning"),
        (110, "none"),
    ]


def test_after_it_cleared_the_same_or_less_waits_for_the_cool_down_and_more_does_not():
    cleared = [score(0, risk=60), score(100, risk=0)]
    was = [(0, "warning"), (100, "none")]

    assert told([*cleared, score(200, risk=60), tick(399), tick(400), tick(401)]) == [*was, (400, "warning")]
    assert told([*cleared, score(200, risk=40), score(400, risk=40)]) == [*was, (400, "info")]
    assert told([*cleared, score(200, risk=60), score(250, risk=0), tick(400)]) == was
    assert told([*cleared, score(200, risk=80), score(300, risk=60), score(301, risk=80)]) == [
        *was,
        (200, "critical"),
        (300, "warning"),
        (301, "critical"),
    ]


def test_severity_none_makes_no_alert():
    machine = build()

    assert told([score(0, risk=30), tick(1)], machine) == []
    assert machine.is_idle()


def test_an_asset_is_idle_again_when_the_cool_down_is_over():
    machine = build()
    feed(machine, [score(0, risk=60), score(100, risk=0), score(101, risk=0), tick(399)])
    assert not machine.is_idle()

    feed(machine, [tick(400)])

    assert machine.is_idle()


def test_changed_parameters_take_effect_on_resume():
    machine = build()
    feed(machine, [score(0, risk=60)])
    patient = dataclasses.replace(DEFAULTS, alerts=AlertParameters(minimum_hold_us=600 * SECOND))

    assert told([score(100, risk=0), tick(599), tick(600)], Alerts(patient, machine.snapshot())) == [(600, "none")]


@st.composite
def streams(draw):
    items, now_s = [], 0.0
    for sequence in range(draw(st.integers(1, 40))):
        now_s = round(now_s + draw(st.sampled_from([0.0, 1.0, 10.0, 59.0, 60.0, 200.0, 300.0])), 1)
        if draw(st.booleans()):
            items.append(tick(now_s, sequence))
        else:
            risk = draw(st.sampled_from([0, 28, 31, 44, 46, 51, 64, 66, 71, 100]))
            items.append(score(now_s, risk, draw(st.sampled_from([None, -50, -10, 10])), sequence))
    return items, now_s


@settings(max_examples=examples(70))
@given(streams(), st.sets(st.integers(0, 40)), st.booleans())
def test_a_restart_at_any_point_changes_nothing(stream, restarts, forgets):
    items, _ = stream

    assert feed_with_restarts(build, items, restarts, forget_when_idle=forgets)[0] == feed(build(), items)


@settings(max_examples=examples(70))
@given(streams())
def test_every_row_is_a_change_and_no_alert_falls_before_its_hold_or_returns_before_its_cool_down(stream):
    items, _ = stream
    rank = list(Severity).index
    previous, since_us, cleared = NONE, 0, None
    for change in changes_of(feed(build(), items)):
        now_us = change.cause.receive_time_us
        assert change.previous_severity is previous
        assert change.severity is not previous
        assert (change.state is AlertState.RESOLVED) == (change.severity is NONE)
        if rank(change.severity) < rank(previous):
            assert now_us - since_us >= 60 * SECOND
        if previous is NONE and cleared is not None:
            assert now_us - since_us >= 300 * SECOND or rank(change.severity) > rank(cleared)
        if change.severity is NONE:
            cleared = previous
        previous, since_us = change.severity, now_us


LIMITS = {NONE: (-1, None), INFO: (30, None), WARNING: (50, 0), CRITICAL: (70, -30)}  # scores §3: risk above, pressure below


class WrittenOut:
    """The rules, looked at again with every item: no waking, no forgetting."""

    def __init__(self, alerts):
        self.alerts = alerts
        self.severity, self.since_us = NONE, 0
        self.cleared, self.cleared_us = NONE, None
        self.score = None

    def take(self, item):
        now_us = item.cause.receive_time_us
        self.score = item if isinstance(item, Score) else self.score
        if self.score is None or self.score.severity is self.severity or not self.may_change(now_us):
            return []
        if self.score.severity is NONE:
            self.cleared, self.cleared_us = self.severity, now_us
        else:
            self.cleared, self.cleared_us = NONE, None
        self.severity, self.since_us = self.score.severity, now_us
        return [(item.cause, self.score.cause.sequence, self.severity)]

    def may_change(self, now_us):
        rank = list(Severity).index
        if rank(self.score.severity) > rank(self.severity):
            is_cool = self.cleared_us is None or now_us - self.cleared_us >= self.alerts.cooldown_us
            return is_cool or rank(self.score.severity) > rank(self.cleared)
        risk, below = LIMITS[self.severity]
        pressure = None if self.score.pressure is None else self.score.pressure.pressure
        is_gone = self.score.risk.total <= risk - self.alerts.clear_below_points
        has_left = below is not None and pressure is not None and pressure >= below
        return (is_gone or has_left) and now_us - self.since_us >= self.alerts.minimum_hold_us


@settings(max_examples=examples(200))
@given(
    streams(),
    st.builds(
        AlertParameters,
        clear_below_points=st.sampled_from([0, 5, 20]),
        minimum_hold_us=st.sampled_from([0, 60 * SECOND, 250 * SECOND]),
        cooldown_us=st.sampled_from([0, 61 * SECOND, 300 * SECOND]),
    ),
)
def test_every_change_comes_when_the_rules_say_and_no_other_does(stream, alerts):
    items, end_s = stream
    machine, rules = Alerts(dataclasses.replace(DEFAULTS, alerts=alerts)), WrittenOut(alerts)

    for item in [*items, tick(end_s + 100), tick(end_s + 400)]:
        changes = changes_of(feed(machine, [item]))

        assert [(out.cause, out.score_sequence, out.severity) for out in changes] == rules.take(item)


@settings(max_examples=examples(50))
@given(streams())
def test_a_quiet_asset_becomes_idle(stream):
    items, end_s = stream

    _, machine = feed_with_restarts(build, [*items, score(end_s + 1, 0), tick(end_s + 61), tick(end_s + 361)])

    assert machine.is_idle()
