"""Gaps: when a feed could not see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_machines import NOON_US, SECOND, cause, derived, run, tick, us
from property_examples import examples

from market.events import Gap, Liquidation
from market.parameters import Parameters
from market.raw import Completeness, FeedState, FeedStatus, PositionSide
from operators import feed_watch
from operators.feed_watch import NOT_RUNNING, FeedWatch

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


def poll_failed(at_s, reason="HTTP 500"):
    return status(FeedState.POLL_FAILED, at_s, "poll", POLL, reason)


def poll_answered(at_s):
    return status(FeedState.POLL_ANSWERED, at_s, "poll", POLL)


def ticks(from_s, to_s):
    return [tick(at_s) for at_s in range(from_s, to_s + 1)]


def liquidation(at_s, venue="binance-usdm"):
    return Liquidation(
        cause(at_s), venue, "BTCUSDT", "BTC", PositionSide.LONG, 1.0, 1.0, 1_000_000, Completeness.FULL, us(at_s)
    )


def gap(from_s, to_s, reason="closed", feed=BINANCE):
    return Gap(cause(to_s), feed.partition("/")[0], feed, us(from_s), us(to_s), reason)


def gaps(*items):
    return derived(build, items)


# Connections


def test_between_the_loss_of_the_last_connection_and_the_next_one_lies_a_gap():
    assert gaps(connected(0), lost(3), connected(7)) == [gap(3, 7)]


def test_every_status_passes_on_before_its_gap():
    items = [connected(0), lost(3), connected(7), poll_failed(8), refused(9)]

    assert run(build, items) == [[items[0]], [items[1]], [items[2], gap(3, 7)], [items[3]], [items[4]]]


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
    assert run(build, [started(0), connected(1)]) == [[], [connected(1)]]


def test_a_gap_that_was_open_when_the_process_stopped_keeps_its_begin_and_reason():
    assert gaps(connected(0), lost(1), tick(2), tick(30), connected(31)) == [gap(1, 31)]


def test_a_poll_that_failed_when_the_process_stopped_has_its_gap_until_the_process_is_back():
    items = [poll_failed(1), tick(2), tick(30), poll_answered(31), poll_failed(32), poll_answered(33)]

    assert gaps(*items) == [gap(1, 30, "HTTP 500", POLL), gap(32, 33, "HTTP 500", POLL)]


def test_a_liquidation_shows_that_the_connection_survived_a_standstill():
    items = [connected(0), tick(1), tick(30), liquidation(31, "okx"), liquidation(32), liquidation(33)]

    assert run(build, items)[3:] == [[items[3]], [items[4], gap(1, 32, NOT_RUNNING)], [items[5]]]


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


# Bounds


def test_beyond_the_limit_new_connections_and_polls_pass_unwatched(monkeypatch):
    monkeypatch.setattr(feed_watch, "MAX_WATCHED", 1)
    items = [connected(0), connected(0, feed=BYBIT), lost(1, feed=BYBIT), poll_failed(1), lost(2)]

    assert gaps(*items, connected(3, feed=BYBIT), poll_answered(3), connected(3)) == [gap(2, 3)]


def test_it_never_becomes_idle():
    assert not build(None).is_idle()


# Properties


KINDS = {
    "tick": lambda at_s, _connection, _feed: tick(at_s),
    "connected": connected,
    "lost": lost,
    "refused": refused,
    "poll_failed": lambda at_s, _connection, _feed: poll_failed(at_s),
    "poll_answered": lambda at_s, _connection, _feed: poll_answered(at_s),
    "liquidation": lambda at_s, _connection, feed: liquidation(at_s, feed.partition("/")[0]),
}


def history(steps):
    at_s, items = 0.0, []
    for pause_s, kind, connection, feed in steps:
        at_s += pause_s
        items.append(KINDS[kind](at_s, connection, feed))
    return items


steps = st.tuples(
    st.sampled_from([0, 0.5, 1, 2, 7, -1]),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["1", "1#2", "1#3", "2"]),
    st.sampled_from([BINANCE, BYBIT]),
)
histories = st.lists(steps, max_size=30).map(history)


@settings(max_examples=examples(80))
@given(items=histories, restarts=st.sets(st.integers(0, 30)), start_s=st.floats(-5, 60))
def test_a_restart_at_any_point_changes_nothing(items, restarts, start_s):
    items = [*items[:15], started(start_s), *items[15:]]

    assert run(build, items, restarts) == run(build, items)


@given(items=histories)
def test_whatever_comes_passes_on_first_and_the_state_stays_bounded(items):
    machine = build(None)
    for item in items:
        first, *rest = machine.handlers()[type(item)](item)

        assert first is item
        assert all(isinstance(output, Gap) and output.from_time_us <= output.to_time_us for output in rest)
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
