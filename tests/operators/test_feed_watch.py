"""Gaps: when a feed could not see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_machines import NOON_US, SECOND, cause, derived, histories, run, tick, us
from property_examples import examples

from market.events import Gap, Liquidation
from market.feeds import NO_LONGER_WANTED, LiquidationConnections, OpenGap
from market.parameters import Parameters
from market.raw import Completeness, FeedState, FeedStatus, PositionSide
from operators import feed_watch
from operators.feed_watch import NOT_CONNECTED_YET, NOT_RUNNING, FeedWatch

BINANCE, BYBIT = "binance-usdm/liquidations", "bybit-linear/liquidations"
POLL = "okx/open_interest/BTC-USDT-SWAP"


def build(state):
    return FeedWatch(Parameters(), state)


def status(state, at_s, connection="1", feed=BINANCE, reason=""):
    return FeedStatus(cause(at_s), feed, connection, state, reason)


def connected(at_s, connection="1", feed=BINANCE):
    return status(FeedState.CONNECTED, at_s, connection, feed)


def lost(at_s, connection="1", feed=BINANCE, reason="closed"):
    return status(FeedState.LOST, at_s, connection, feed, reason)


def refused(at_s, connection="1", feed=BINANCE, reason="HTTP 403"):
    return status(FeedState.REFUSED, at_s, connection, feed, reason)


def started(at_s):
    return status(FeedState.STARTED, at_s, "process", "process")


def expected(at_s, feed=BINANCE):
    return status(FeedState.EXPECTED, at_s, "", feed)


def poll_failed(at_s, reason="HTTP 500", feed=POLL):
    return status(FeedState.POLL_FAILED, at_s, "poll", feed, reason)


def poll_answered(at_s, feed=POLL):
    return status(FeedState.POLL_ANSWERED, at_s, "poll", feed)


def lost_after_silence(at_s, *, seen_until_s, feed=BINANCE):
    seen_until_us = cause(seen_until_s).receive_time_us
    return FeedStatus(cause(at_s), feed, "1", FeedState.LOST, "stale", seen_until_us)


def ticks(from_s, to_s):
    return [tick(at_s) for at_s in range(from_s, to_s + 1)]


def liquidation(at_s, venue="binance-usdm"):
    return Liquidation(
        cause(at_s), venue, "BTCUSDT", "BTC", PositionSide.LONG, 1.0, 1.0, 1_000_000, Completeness.FULL, us(at_s)
    )


def gap(from_s, to_s, reason="closed", feed=BINANCE):
    return Gap(cause(to_s), feed.partition("/")[0], feed, us(from_s), us(to_s), reason)


def gaps(*items):
    return [output for output in derived(build, items) if isinstance(output, Gap)]


def became(items):
    """Return what each item became, but for what is said of open gaps."""
    return [[output for output in outputs if not isinstance(output, LiquidationConnections)] for outputs in run(build, items)]


def told(*items):
    """Return what is said of open gaps."""
    return [output for output in derived(build, items) if isinstance(output, LiquidationConnections)]


def seen(at_s, **gaps):
    """Return that so many seconds after noon these venues have these gaps: None, or since when and why."""
    found = {venue: gap and OpenGap(us(gap[0]), *gap[1:]) for venue, gap in gaps.items()}
    names = {"binance": "binance-usdm", "bybit": "bybit-linear"}
    return LiquidationConnections(cause(at_s), {names[venue]: gap for venue, gap in found.items()})


# Connections


def test_between_the_loss_of_the_last_connection_and_the_next_one_lies_a_gap():
    assert gaps(connected(0), lost(3), connected(7)) == [gap(3, 7)]


def test_the_gap_of_a_connection_that_fell_silent_begins_with_the_last_that_came():
    silent = lost_after_silence(63, seen_until_s=3)

    assert gaps(*ticks(0, 1), connected(1), *ticks(2, 62), silent, *ticks(64, 66), connected(67)) == [gap(3, 67, "stale")]
    assert told(connected(0), lost_after_silence(4, seen_until_s=2))[-1] == seen(4, binance=(2, "stale"))


def test_nothing_was_seen_after_the_loss_itself():
    assert gaps(connected(0), lost_after_silence(3, seen_until_s=9), connected(5)) == [gap(3, 5, "stale")]


def test_a_silence_before_the_loss_does_not_make_an_open_gap_longer():
    assert gaps(connected(0), lost(3), lost_after_silence(4, seen_until_s=1), connected(5)) == [gap(3, 5)]


def test_every_status_passes_on_before_its_gap():
    items = [connected(0), lost(3), connected(7), poll_failed(8), refused(9)]

    assert became(items) == [[items[0]], [items[1]], [items[2], gap(3, 7)], [items[3]], [items[4]]]


def test_a_gap_that_is_still_open_says_nothing():
    assert gaps(connected(0), *ticks(0, 3), lost(3), *ticks(4, 30)) == []


def test_a_successor_that_overlaps_leaves_no_gap():
    assert gaps(connected(0), connected(1, "1#2"), lost(2), connected(3, "1#3"), lost(4, "1#2")) == []


def test_a_successor_that_is_lost_leaves_a_gap_like_any_other():
    assert gaps(connected(0), connected(1, "1#2"), lost(2), lost(3, "1#2"), connected(4, "1#2")) == [gap(3, 4)]


def test_a_successor_lost_before_its_predecessor_leaves_none():
    assert gaps(connected(0), connected(1, "1#2"), lost(2, "1#2"), connected(3, "1#2"), lost(4)) == []


def test_a_line_of_connections_that_begins_anew_replaces_the_old_one_which_leaves_without_a_word():
    items = [connected(0), connected(1, "1#2"), lost(2), connected(3, "1"), lost(4, "1"), connected(5, "1")]

    assert gaps(*items) == [gap(4, 5)]


def test_each_of_several_connections_of_a_feed_has_its_own_gaps():
    items = [connected(0, "1"), connected(0, "2"), lost(1, "1"), lost(2, "2"), connected(3, "2"), connected(4, "1")]

    assert gaps(*items) == [gap(2, 3), gap(1, 4)]


def test_a_gap_begins_with_the_first_refusal():
    assert gaps(refused(1), refused(2, reason="HTTP 451"), lost(3), connected(4)) == [gap(1, 4, "HTTP 403")]


def test_a_refusal_keeps_a_gap_open_and_its_reason():
    assert gaps(connected(0), lost(1), refused(2), connected(3)) == [gap(1, 3)]


def test_a_refusal_beside_a_living_connection_is_no_gap():
    assert gaps(connected(0), refused(1, "1#2"), connected(2)) == []


def test_repeated_statuses_change_nothing():
    items = [connected(0), connected(1, "1#2"), connected(1, "1#2"), lost(2, "1#2"), lost(2, "1#2"), lost(3), lost(4)]

    assert gaps(*items, connected(5), connected(6)) == [gap(3, 5)]


def test_a_gap_never_ends_before_it_begins():
    (only,) = gaps(connected(5), lost(5), connected(4))

    assert (only.from_time_us, only.to_time_us) == (us(5), us(5))


# Polls


def test_a_poll_has_a_gap_from_its_failure_to_its_answer():
    assert gaps(poll_failed(1), poll_failed(2, "HTTP 502"), poll_answered(3)) == [gap(1, 3, "HTTP 500", POLL)]


def test_an_answer_without_a_failure_is_no_gap():
    assert gaps(poll_answered(3)) == []


# The process itself


def test_while_the_process_was_not_running_no_feed_could_see():
    items = [connected(0), connected(0, feed=BYBIT), *ticks(0, 10), tick(30), connected(31), connected(33, feed=BYBIT)]

    assert gaps(*items) == [gap(10, 31, NOT_RUNNING), gap(10, 33, NOT_RUNNING, BYBIT)]


def test_a_connection_may_be_back_before_the_first_tick():
    assert gaps(connected(0), tick(1), connected(30), tick(31), lost(32), connected(33)) == [
        gap(1, 30, NOT_RUNNING),
        gap(32, 33),
    ]


def test_five_seconds_without_a_tick_are_no_silence():
    assert gaps(connected(0), tick(0), tick(5), lost(6), connected(7)) == [gap(6, 7)]
    assert gaps(connected(0), tick(0), tick(5.000_001), lost(6), connected(7)) == [gap(0, 7, NOT_RUNNING)]


def test_a_process_that_was_killed_and_is_soon_back_leaves_a_gap_too():
    items = [connected(0), connected(0, feed=BYBIT), *ticks(0, 3), started(5), tick(6), connected(7), connected(8, feed=BYBIT)]

    assert gaps(*items) == [gap(3, 7, NOT_RUNNING), gap(3, 8, NOT_RUNNING, BYBIT)]


def test_no_connection_survives_the_process():
    items = [connected(0, "1"), connected(0, "2"), tick(1), tick(30), started(31), liquidation(32), connected(33, "1")]

    assert gaps(*items) == [gap(1, 33, NOT_RUNNING)]


def test_a_gap_that_the_process_announced_before_it_stopped_keeps_its_begin_and_reason():
    assert gaps(connected(0), tick(1), lost(2, reason="stopped"), started(4), connected(5)) == [gap(2, 5, "stopped")]


def test_a_poll_that_failed_has_its_gap_until_the_process_has_started_anew():
    assert gaps(poll_failed(1), started(3), poll_answered(4)) == [gap(1, 3, "HTTP 500", POLL)]


def test_the_first_start_of_all_is_no_gap_and_nobody_else_hears_of_it():
    assert became([started(0), connected(1)]) == [[], [connected(1)]]


def test_a_gap_that_was_open_when_the_process_stopped_keeps_its_begin_and_reason():
    assert gaps(connected(0), lost(1), tick(2), tick(30), connected(31)) == [gap(1, 31)]


def test_a_poll_that_failed_when_the_process_stopped_has_its_gap_until_the_process_is_back():
    items = [poll_failed(1), tick(2), tick(30), poll_answered(31), poll_failed(32), poll_answered(33)]

    assert gaps(*items) == [gap(1, 30, "HTTP 500", POLL), gap(32, 33, "HTTP 500", POLL)]


def test_a_liquidation_shows_that_the_connection_survived_a_standstill():
    items = [connected(0), tick(1), tick(30), liquidation(31, "okx"), liquidation(32), liquidation(33)]

    assert became(items)[3:] == [[items[3]], [items[4], gap(1, 32, NOT_RUNNING)], [items[5]]]


def test_a_connection_that_survived_can_be_lost_or_replaced_afterwards():
    survived = [connected(0), tick(1), tick(30), liquidation(32)]

    assert gaps(*survived, lost(33), connected(34))[1:] == [gap(33, 34)]
    assert gaps(*survived, connected(33, "1#2"), lost(34))[1:] == []


def test_where_connections_are_made_anew_each_speaks_for_itself():
    items = [connected(0, "1"), connected(0, "2"), tick(1), connected(30, "1"), liquidation(31), connected(32, "2")]

    assert gaps(*items) == [gap(1, 30, NOT_RUNNING), gap(1, 32, NOT_RUNNING)]


def test_a_liquidation_says_nothing_of_other_feeds_of_its_venue():
    depth = "binance-usdm/depth"

    assert gaps(connected(0, feed=depth), tick(1), tick(30), liquidation(31), connected(32, feed=depth)) == [
        gap(1, 32, NOT_RUNNING, depth)
    ]


def test_a_liquidation_ends_no_gap_of_a_connection_that_was_lost():
    assert gaps(connected(0), lost(1), liquidation(2), connected(3)) == [gap(1, 3)]


# What is expected


def test_an_expected_feed_that_connects_has_had_no_gap_and_what_the_process_says_of_its_start_ends_here():
    assert became([started(0), expected(0), tick(1), connected(2)]) == [[], [], [tick(1)], [connected(2)]]


def test_a_feed_whose_contracts_cannot_be_had_has_a_gap_until_it_is_connected():
    listing = "binance-usdm/instruments"
    items = [expected(0), poll_failed(1, feed=listing), poll_failed(2, "HTTP 451", listing), poll_answered(5, listing)]

    assert gaps(*items, connected(6)) == [
        gap(1, 5, "HTTP 500", listing),
        gap(1, 6, "no list of contracts: HTTP 500"),
    ]


def test_another_poll_that_fails_says_nothing_of_an_expected_feed():
    assert gaps(expected(0), poll_failed(1, feed="binance-usdm/tickers"), connected(2)) == []


def test_a_list_of_contracts_that_fails_later_is_no_gap_of_a_feed_that_is_connected():
    assert gaps(expected(0), connected(1), poll_failed(2, feed="binance-usdm/instruments"), tick(3)) == []


def test_an_expected_feed_that_is_refused_has_a_gap_from_then_on():
    assert gaps(expected(0), refused(1), connected(2)) == [gap(1, 2, "HTTP 403")]


def test_the_gap_of_a_feed_that_is_not_expected_any_more_ends_with_the_first_tick_after_the_start():
    before = [started(0), expected(0), expected(0, BYBIT), connected(0), connected(0, feed=BYBIT), tick(1)]
    items = [*before, started(3), expected(3), tick(3.5), connected(4), tick(4.5), started(9), tick(10), connected(11)]

    assert gaps(*items) == [
        gap(1, 3.5, NOT_RUNNING, BYBIT),
        gap(1, 4, NOT_RUNNING),
        gap(4.5, 11, NOT_RUNNING),
    ]


def test_a_start_that_comes_to_nothing_gives_no_feed_up():
    assert gaps(connected(0), connected(0, feed=BYBIT), tick(1), started(2), expected(2), started(3), tick(4)) == []


def test_a_feed_that_was_never_connected_and_is_not_expected_any_more_leaves_without_a_row():
    assert gaps(expected(0), expected(0, BYBIT), tick(1), started(2), expected(2), tick(3), connected(4, feed=BYBIT)) == []


def test_a_connection_whose_symbols_come_over_others_has_no_gap():
    items = [connected(0), connected(0, "2"), lost(1, "2", reason=NO_LONGER_WANTED), tick(2), lost(3), connected(4)]

    assert gaps(*items) == [gap(3, 4)]


def test_a_connection_that_was_away_when_it_was_no_longer_wanted_has_its_gap_until_then():
    ended = [lost(at_s, "2", reason=NO_LONGER_WANTED) for at_s in (3, 4)]
    items = [connected(0), connected(0, "2"), lost(1, "2"), *ended]

    assert gaps(*items) == [gap(1, 3)]
    assert told(*items)[-1] == seen(3, binance=None)


def test_a_feed_whose_last_connection_is_no_longer_wanted_cannot_see():
    assert gaps(connected(0), lost(1, reason=NO_LONGER_WANTED), connected(4)) == [gap(1, 4, NO_LONGER_WANTED)]


# What is said of open gaps


def test_the_open_gaps_of_liquidation_feeds_are_told_whenever_they_change():
    items = [started(0), expected(0), expected(0, BYBIT), connected(1), connected(2, feed=BYBIT), lost(3), lost(4), tick(5)]

    assert told(*items, connected(6)) == [
        seen(0, binance=(0, NOT_CONNECTED_YET, True)),
        seen(0, binance=(0, NOT_CONNECTED_YET, True), bybit=(0, NOT_CONNECTED_YET, True)),
        seen(1, binance=None, bybit=(0, NOT_CONNECTED_YET, True)),
        seen(2, binance=None, bybit=None),
        seen(3, binance=(3, "closed"), bybit=None),
        seen(6, binance=None, bybit=None),
    ]


def test_of_several_connections_the_gap_that_began_first_is_told():
    items = [connected(0), connected(0, "2"), connected(0, "3"), lost(1, "2"), lost(2, reason="reset"), connected(3, "2")]

    assert told(*items, connected(4)) == [
        seen(0, binance=None),
        seen(1, binance=(1, "closed")),
        seen(3, binance=(2, "reset")),
        seen(4, binance=None),
    ]


def test_a_start_a_standstill_and_a_survivor_are_told():
    assert told(connected(0), tick(1), started(3), connected(4))[1:] == [
        seen(3, binance=(1, NOT_RUNNING)),
        seen(4, binance=None),
    ]
    assert told(connected(0), tick(1), tick(30), liquidation(31))[1:] == [
        seen(30, binance=(1, NOT_RUNNING)),
        seen(31, binance=None),
    ]


def test_a_feed_that_is_not_expected_any_more_is_told_no_longer():
    items = [expected(0), expected(0, BYBIT), connected(1), connected(1, feed=BYBIT), tick(2), started(3), expected(3)]

    assert told(*items, tick(4))[-2:] == [
        seen(3, binance=(2, NOT_RUNNING), bybit=(2, NOT_RUNNING)),
        seen(4, binance=(2, NOT_RUNNING)),
    ]


def test_a_list_of_contracts_that_cannot_be_had_is_told():
    assert told(expected(0), poll_failed(1, feed="binance-usdm/instruments"))[1:] == [
        seen(1, binance=(1, "no list of contracts: HTTP 500")),
    ]


def test_other_feeds_are_not_told_of():
    assert told(connected(0, feed="binance-usdm/depth"), lost(1, feed="binance-usdm/depth"), poll_failed(2)) == []


# Bounds


def test_beyond_the_limit_new_connections_and_polls_pass_unwatched(monkeypatch):
    monkeypatch.setattr(feed_watch, "MAX_WATCHED", 1)
    items = [connected(0), expected(0, BYBIT), connected(0, feed=BYBIT), lost(1, feed=BYBIT), poll_failed(1), lost(2)]

    assert gaps(*items, connected(3, feed=BYBIT), poll_answered(3), connected(3)) == [gap(2, 3)]


def test_it_never_becomes_idle():
    assert not build(None).is_idle()


# Properties


KINDS = {
    "tick": lambda at_s, _connection, _feed: tick(at_s),
    "connected": connected,
    "lost": lost,
    "refused": refused,
    "expected": lambda at_s, _connection, feed: expected(at_s, feed),
    "unwanted": lambda at_s, connection, feed: lost(at_s, connection, feed, NO_LONGER_WANTED),
    "poll_failed": lambda at_s, _connection, feed: poll_failed(at_s, feed=f"{feed.partition('/')[0]}/instruments"),
    "poll_answered": lambda at_s, _connection, _feed: poll_answered(at_s),
    "liquidation": lambda at_s, _connection, feed: liquidation(at_s, feed.partition("/")[0]),
}
HISTORIES = histories(KINDS, [0, 0.5, 1, 2, 7, -1], ["1", "1#2", "1#3", "2"], [BINANCE, BYBIT])


@settings(max_examples=examples(80))
@given(items=HISTORIES, restarts=st.sets(st.integers(0, 30)), start_s=st.floats(-5, 60))
def test_a_restart_at_any_point_changes_nothing(items, restarts, start_s):
    items = [*items[:15], started(start_s), *items[15:]]

    assert run(build, items, restarts) == run(build, items)


@given(items=HISTORIES)
def test_whatever_comes_passes_on_first_and_the_state_stays_bounded(items):
    machine = build(None)
    for item in items:
        outputs = list(machine.handlers()[type(item)](item))

        if getattr(item, "state", None) is not FeedState.EXPECTED:
            assert outputs.pop(0) is item
        assert all(output.from_time_us <= output.to_time_us for output in outputs if isinstance(output, Gap))
        assert [type(output) for output in outputs[:-1]] == [Gap] * len(outputs[:-1])
        assert len(machine._slots) <= 4
        assert all(len(slot.labels) <= 2 for slot in machine._slots.values())


@pytest.mark.parametrize("lost_at_s", [0.5, 3, 60])
@given(seconds=st.integers(1, 100))
def test_a_gap_lasts_exactly_from_the_loss_to_the_return(lost_at_s, seconds):
    back_s = lost_at_s + seconds
    clock = [tick(at_s) for at_s in range(200)]
    items = sorted([*clock, connected(0.1), lost(lost_at_s), connected(back_s)], key=lambda item: item.cause.receive_time_us)

    (only,) = gaps(*items)

    assert (only.from_time_us - NOON_US, only.to_time_us - NOON_US) == (lost_at_s * SECOND, back_s * SECOND)
