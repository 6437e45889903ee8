"""Which connected feeds are silent, and what can be seen of liquidations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from partition_machines import cause, derived, run, tick, us

from market.events import Gap, Liquidation
from market.feeds import FeedSight, LiquidationConnections, LiquidationFeeds, OpenGap, Sight
from market.parameters import Parameters, SilenceParameters
from market.raw import Completeness, PositionSide
from operators import silence
from operators.silence import Silence, faded

A, B, C = "binance-usdm", "bybit-linear", "okx"
QUICK = Parameters(
    silence=SilenceParameters(
        min_quiet_us=60_000_000,
        half_life_us=10**15,
        min_events=3,
        learn_us=100_000_000,
        min_other_events=8,
    )
)


def build(state):
    return Silence(QUICK, state)


def connections(at_s, **gaps):
    """All are connected unless told otherwise: since when not, and why."""
    found = {A: None, B: None, C: None, **{{"a": A, "b": B, "c": C}[name]: gap for name, gap in gaps.items()}}
    return LiquidationConnections(cause(at_s), {venue: gap and OpenGap(us(gap[0]), *gap[1:]) for venue, gap in found.items()})


def liquidation(at_s, venue=A):
    return Liquidation(
        cause(at_s), venue, "BTCUSDT", "BTC", PositionSide.LONG, 1.0, 1.0, 1_000_000, Completeness.FULL, us(at_s)
    )


def liquidations(venue, *at_s):
    return [liquidation(each, venue) for each in at_s]


def in_order(*items):
    """Return items, and items of lists, by their time; those of one moment as they stand here."""
    flat = [each for item in items for each in (in_order(*item) if isinstance(item, list) else [item])]
    return sorted(flat, key=lambda item: item.cause.receive_time_us)


def ticks(from_s, to_s, step_s=1):
    return [tick(at_s) for at_s in range(from_s, to_s + 1, step_s)]


def seeing(since_s=0):
    return FeedSight(Sight.SEEING, us(since_s), "")


def silent(since_s, reason):
    return FeedSight(Sight.SILENT, us(since_s), reason)


def told(*items):
    return [output for output in derived(build, in_order(*items)) if isinstance(output, LiquidationFeeds)]


def silences(*items):
    """Return (seconds, venues that are silent) whenever that changes."""
    found = [(0, [])]
    for feeds in told(*items):
        names = [venue for venue, each in feeds.sights.items() if each.sight is Sight.SILENT]
        if names != found[-1][1]:
            found.append(((feeds.cause.receive_time_us - us(0)) / 1e6, names))
    return found[1:]


def gaps(*items):
    return [output for output in derived(build, in_order(*items)) if isinstance(output, Gap)]


def gap(from_s, to_s, reason, venue=A, told_s=None):
    told_s = to_s if told_s is None else told_s
    return Gap(cause(told_s), venue, f"{venue}/liquidations", us(from_s), us(to_s), reason)


# A is usually heard every 40 s, the others every 10 s.
USUAL = [connections(0), *liquidations(A, 40, 80, 120, 160)]
OTHERS = [*liquidations(B, *range(5, 1_000, 10)), *liquidations(C, *range(3, 1_000, 10))]
WORDS = "silent: connected, and no liquidation in 80 s, while 2 other venues had 16; usual quiet: at most 40 s"


# Silence


def test_a_feed_is_silent_when_it_says_nothing_for_twice_its_usual_quiet_while_two_others_do():
    assert silences(USUAL, OTHERS, ticks(0, 300)) == [(240, [A])]


def test_it_is_told_with_when_it_began_and_why_before_the_tick_that_showed_it():
    items = in_order(USUAL, OTHERS, ticks(0, 240))
    feeds, last = run(build, items)[items.index(tick(240))]

    assert last == tick(240)
    assert feeds == LiquidationFeeds(
        cause(240), {A: silent(160, WORDS), B: seeing(), C: seeing()}, (A,), silent_after_us={A: 80_000_000}
    )


def test_nobody_is_silent_alone_with_one_other():
    others = liquidations(B, *range(5, 300, 10))

    assert silences(USUAL, liquidations(C, 160), others, ticks(162, 255)) == []
    assert silences(USUAL, liquidations(C, 161), others, ticks(162, 255)) == [(240, [A])]


def test_two_may_be_silent_while_two_others_are_not():
    fourth = [*liquidations("gate", *range(7, 300, 10))]
    both = [LiquidationConnections(cause(0), dict.fromkeys((A, B, C, "gate"))), *liquidations(A, 40, 80, 120, 160)]

    assert silences(both, liquidations(B, 40, 80, 120, 160), liquidations(C, *range(3, 300, 10)), fourth, ticks(0, 300)) == [
        (240, [A, B])
    ]


def test_no_quiet_shorter_than_the_least_is_silence():
    often = liquidations(A, *range(1, 162))

    assert silences([connections(0)], often, OTHERS, ticks(0, 300)) == [(222, [A])]


def test_time_in_which_nobody_ticked_counts_as_quiet_too():
    assert silences(USUAL, OTHERS, [tick(200), tick(239), tick(244)]) == [(244, [A])]


def test_a_second_is_judged_once_however_often_the_clock_ticks():
    often = [tick(239 + tenth / 10) for tenth in range(30)]

    assert silences(USUAL, OTHERS, often) == [(240, [A])]
    assert silences(USUAL, OTHERS, [tick(239.9), tick(240.05)]) == [(240.05, [A])]
    assert silences(USUAL, OTHERS, [tick(239), tick(239.99), tick(240.98), tick(240.99)]) == [(240.98, [A])]


# Its end


def test_a_silence_ends_with_the_next_liquidation_and_is_a_gap():
    items = in_order(USUAL, OTHERS, liquidation(260.5), ticks(0, 270))
    became = run(build, items)[items.index(liquidation(260.5))]

    assert gaps(items) == [gap(160, 260.5, WORDS)]
    assert became[:2] == [liquidation(260.5), gap(160, 260.5, WORDS)]
    assert (became[2].sights, became[2].missing) == ({A: seeing(), B: seeing(), C: seeing()}, (A,))


def test_a_silence_ends_where_a_gap_of_the_connections_begins():
    lost = connections(250, a=(248, "closed"))

    assert gaps(USUAL, OTHERS, ticks(0, 249), lost) == [gap(160, 248, WORDS, told_s=250)]
    assert told(USUAL, OTHERS, ticks(0, 249), lost)[-1].sights[A] == FeedSight(Sight.BLIND, us(248), "closed")


def test_a_new_connection_does_not_end_the_suspicion_but_a_liquidation_does():
    again = [connections(250, a=(250, "closed")), connections(255), liquidation(400), tick(401)]
    items = in_order(USUAL, OTHERS, ticks(0, 249), again)

    assert gaps(items) == [gap(160, 250, WORDS), gap(255, 400, WORDS)]
    assert silences(items) == [(240, [A]), (250, []), (255, [A]), (400, [])]


def test_a_liquidation_while_a_connection_is_away_ends_the_suspicion_without_a_word():
    again = [connections(250, a=(250, "closed")), liquidation(252), connections(255), tick(256)]

    assert silences(USUAL, OTHERS, ticks(0, 249), again) == [(240, [A]), (250, [])]


def test_a_liquidation_at_once_after_a_new_connection_ends_the_suspicion():
    again = [connections(250, a=(250, "closed")), connections(255), liquidation(255.5)]

    assert gaps(USUAL, OTHERS, ticks(0, 249), again) == [gap(160, 250, WORDS), gap(255, 255.5, WORDS)]


def test_a_silent_feed_that_is_not_expected_any_more_has_its_gap_until_then():
    fewer = LiquidationConnections(cause(250), {B: None, C: None})

    assert gaps(USUAL, OTHERS, ticks(0, 249), fewer) == [gap(160, 250, WORDS)]
    assert told(USUAL, OTHERS, ticks(0, 249), fewer)[-1].sights == {B: seeing(), C: seeing()}


# What is usual


def test_quiet_before_a_first_liquidation_counts_from_the_connection():
    late = [connections(0, a=(0, "not connected yet", True)), connections(700), *liquidations(A, 740, 780, 820)]

    assert silences(late, OTHERS, ticks(0, 900)) == [(900, [A])]  # 80 s after the last, not 1,480 s


def test_before_it_is_known_quiet_must_be_as_long_as_learning_takes_and_the_others_busy():
    assert silences([connections(0)], OTHERS, ticks(0, 300)) == [(101, [A])]
    assert silences([connections(0), *liquidations(A, 10, 20)], OTHERS, ticks(0, 300)) == [(121, [A])]


def test_before_it_is_known_a_feed_is_not_suspected_while_the_others_have_brought_little():
    few = [*liquidations(B, *range(10, 61, 10)), *liquidations(C, 100, 200, 300)]

    assert silences([connections(0), few], ticks(0, 150)) == []
    words = told([connections(0), few], ticks(0, 150), liquidation(160, B), ticks(151, 170))[-1].sights[A].reason
    assert words == ("silent: connected, and no liquidation in 160 s, while 2 other venues had 8; usual quiet: not known yet")


def test_what_the_others_brought_before_it_was_connected_does_not_count():
    late = connections(300, a=(0, "not connected yet", True))
    few = [*liquidations(B, *range(10, 300, 10)), *liquidations(C, *range(15, 300, 10)), *liquidations(C, 390, 395)]

    assert silences(late, few, connections(301), liquidations(B, 380, 385), ticks(302, 470)) == []


def test_two_liquidations_are_too_few_to_know_what_is_usual():
    few = [*liquidations(B, 200, 205), *liquidations(C, 200, 205)]

    assert silences([connections(0)], liquidations(A, 52, 104), few, ticks(0, 250)) == []
    assert silences([connections(0)], liquidations(A, 52, 103, 104), few, ticks(0, 250)) == [(208, [A])]


def test_quiet_while_a_connection_is_away_teaches_nothing():
    away = [connections(161, a=(161, "closed")), liquidation(360), connections(365)]

    assert silences(USUAL, OTHERS, away, ticks(0, 600)) == [(445, [A])]


def test_many_liquidations_at_once_teach_nothing():
    burst = [liquidation(10 + number / 100) for number in range(50)]

    assert silences([connections(0)], burst, OTHERS, ticks(0, 300)) == [(111, [A])]


def test_time_without_a_connection_teaches_nothing():
    away = [connections(100, a=(90, "closed")), connections(500)]
    items = in_order([connections(0)], liquidations(A, 20, 40, 510, 520, 530, 540), OTHERS, away, ticks(0, 700))

    assert silences(items) == [(641, [A])]  # watched for 40 s and for 40 s: not known yet

    more = in_order(items, liquidations(A, 560, 580))
    assert silences(more) == [(641, [A])]  # for 40 s and for 80 s: known; no quiet was longer than 20 s


def test_what_was_usual_is_forgotten_by_half():
    steady = liquidations(A, 100, 200, *range(220, 2_000, 20))
    others = [*liquidations(B, *range(5, 3_000, 10)), *liquidations(C, *range(3, 3_000, 10))]
    forgetful = Parameters(silence=SilenceParameters(60_000_000, 600_000_000, 3, 100_000_000, 8))
    items = in_order([connections(0)], steady, others, ticks(0, 2_500))

    def after(parameters):
        outs = derived(lambda state: Silence(parameters, state), items)
        return [each.cause.receive_time_us - us(1_980) for each in outs if getattr(each, "missing", ())]

    assert after(QUICK) == [200_000_000]
    assert after(forgetful) == [61_000_000]  # 100 s three half-lives ago: the least is more


def test_a_quiet_that_was_called_silence_teaches_what_was_allowed():
    again = liquidations(A, 600, 640)  # back after 440 s, where 80 s were allowed

    assert silences(USUAL, OTHERS, again, ticks(0, 900)) == [(240, [A]), (600, []), (800, [A])]


def test_what_faded_is_half_after_a_half_life_and_a_quarter_after_two():
    assert [faded(1_000, age_us, half_life_us=10) for age_us in (-5, 0, 5, 10, 15, 20)] == [1_000, 1_000, 750, 500, 375, 250]


@given(value=st.integers(0, 10**12), ages=st.lists(st.integers(0, 10**13), min_size=2), half_life_us=st.integers(1, 10**12))
def test_what_fades_never_grows(value, ages, half_life_us):
    left = [faded(value, age_us, half_life_us=half_life_us) for age_us in sorted(ages)]

    assert left == sorted(left, reverse=True)
    assert 0 <= left[-1] <= left[0] <= value


# What can be seen


def missing(*items):
    """Return (cause, venues that are missing) whenever that changes."""
    found = [((), None)]
    for feeds in told(*items):
        if feeds.missing != found[-1][0]:
            found.append((feeds.missing, feeds.cause))
    return [(at, list(names)) for names, at in found[1:]]


def test_what_cannot_be_seen_is_missing_and_for_five_minutes_more():
    items = [connections(0), connections(10, a=(10, "closed")), connections(20), ticks(0, 400)]

    assert missing(*items) == [(cause(10), [A]), (cause(320), [])]


def test_before_a_first_connection_nothing_can_be_seen_and_there_is_no_gap_to_look_back_on():
    waiting = dict.fromkeys("abc", (0, "not connected yet", True))
    items = [connections(0, **waiting), connections(1, **{**waiting, "a": None}), connections(2), ticks(0, 10)]

    assert missing(*items) == [(cause(0), [A, B, C]), (cause(1), [B, C]), (cause(2), [])]
    assert [feeds.is_any_seeing for feeds in told(items)] == [False, True, True]


def test_a_feed_that_was_refused_before_its_first_connection_is_looked_back_on():
    refused = [connections(0, a=(0, "not connected yet", True)), connections(1, a=(1, "HTTP 451")), connections(2)]

    assert missing(refused, ticks(0, 400)) == [(cause(0), [A]), (cause(302), [])]


def test_a_gap_that_turns_out_longer_is_told():
    assert [feeds.sights[A] for feeds in told(connections(2, a=(2, "closed")), connections(3, a=(1, "HTTP 403")))] == [
        FeedSight(Sight.BLIND, us(2), "closed"),
        FeedSight(Sight.BLIND, us(1), "HTTP 403"),
    ]


def test_a_liquidation_tells_of_nothing_but_the_end_of_a_silence():
    assert run(build, [connections(0), liquidation(70)])[1] == [liquidation(70)]


def test_what_is_the_same_is_not_told_again():
    assert len(told(connections(0), connections(1), ticks(0, 50))) == 1


def test_where_fewer_than_two_others_are_in_sight_no_silence_can_be_told_and_that_is_said():
    two = LiquidationConnections(cause(0), {A: None, B: None})

    assert [feeds.silent_after_us for feeds in told(two, OTHERS, ticks(0, 900))] == [{}]
    assert [each.silent_after_us for each in told(connections(0), connections(1, c=(1, "closed")))] == [
        {A: 100_000_000, B: 100_000_000, C: 100_000_000},
        {},
    ]


def test_after_what_quiet_a_feed_is_silent_is_told_once_a_minute_at_most():
    learnt = [(each.cause, each.silent_after_us) for each in told(USUAL, OTHERS, ticks(0, 239))]

    assert learnt == [
        (cause(0), {A: 100_000_000, B: 100_000_000, C: 100_000_000}),
        (cause(103), {A: 100_000_000, B: 100_000_000, C: 60_000_000}),
        (cause(163), {A: 80_000_000, B: 60_000_000, C: 60_000_000}),
    ]


def test_rows_without_connections_are_nobodys_silence():
    items = in_order(OTHERS, ticks(0, 900))

    assert run(build, items) == [[item] for item in items]


def test_what_connections_say_ends_here():
    assert [type(output) for output in run(build, [connections(0)])[0]] == [LiquidationFeeds]


def test_beyond_the_limit_venues_pass_unwatched(monkeypatch):
    monkeypatch.setattr(silence, "MAX_VENUES", 2)

    assert list(told(connections(0), OTHERS, ticks(0, 300))[0].sights) == [A, B]
    assert derived(build, [connections(0), liquidation(1, C)])[1:] == []


def test_it_never_becomes_idle():
    assert not build(None).is_idle()


# Properties


def history(steps):
    at_s, items = 0, [connections(0)]
    for pause_s, kind, venue in steps:
        at_s += pause_s
        if kind == "liquidation":
            items.append(liquidation(at_s, venue))
        elif kind in {"all speak", "one is quiet"}:
            for later_s in range(0, 150, 15):
                speaking = [each for each in (A, B, C) if kind == "all speak" or each != venue]
                items += [tick(at_s + later_s), *(liquidation(at_s + later_s + 1, each) for each in speaking)]
            at_s += 150
        else:
            gap = None if kind == "connected" else OpenGap(us(at_s - pause_s), "closed", is_first=kind == "awaited")
            gaps = {A: None, B: None, C: None, venue: gap}
            items.append(
                LiquidationConnections(cause(at_s), {name: gaps[name] for name in gaps if kind != "gone" or name != venue})
            )
    return items


steps = st.tuples(
    st.sampled_from([0, 0.5, 1, 20, 70]),
    st.sampled_from(["liquidation", "all speak", "one is quiet"] * 3 + ["lost", "connected", "awaited", "gone"]),
    st.sampled_from([A, B, C]),
)
histories = st.lists(steps, max_size=20).map(history)


@given(items=histories, restarts=st.sets(st.integers(0, 200)))
def test_a_restart_at_any_point_changes_nothing(items, restarts):
    assert run(build, items, restarts) == run(build, items)


@given(items=histories)
def test_who_is_silent_is_connected_and_was_quiet_for_the_least_at_least_while_two_others_were_not(items):
    heard, connected, feeds = {}, {}, None
    for item, outputs in zip(items, run(build, items), strict=True):
        now_us = item.cause.receive_time_us
        if isinstance(item, Liquidation):
            heard[item.venue] = now_us
        if isinstance(item, LiquidationConnections):
            connected = {venue: connected.get(venue, now_us) for venue, gap in item.gaps.items() if gap is None}
        was_silent = {venue for venue, each in (feeds.sights if feeds else {}).items() if each.sight is Sight.SILENT}
        feeds = next((output for output in outputs if isinstance(output, LiquidationFeeds)), feeds)
        for venue, each in feeds.sights.items():
            assert (each.sight is Sight.BLIND) == (venue not in connected)
            if each.sight is Sight.SILENT:
                assert each.since_us == max(heard.get(venue, 0), connected[venue])
                assert venue in feeds.missing
            if each.sight is Sight.SILENT and venue not in was_silent and isinstance(item, type(tick())):
                assert now_us - each.since_us > 60_000_000
                assert sum(other != venue and at_us > each.since_us for other, at_us in heard.items()) >= 2


@given(items=histories)
def test_gaps_of_silence_never_overlap(items):
    rows = gaps(items)

    for venue in (A, B, C):
        bounds = [bound for row in rows if row.venue == venue for bound in (row.from_time_us, row.to_time_us)]
        assert bounds == sorted(bounds)
