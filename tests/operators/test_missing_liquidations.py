"""What cannot be seen of liquidations reaches the scores: fanned out to the assets, named there, and never counted as zero."""

from __future__ import annotations

import dataclasses
import pickle
from functools import partial

import pytest
from asset_events import LONG, SECOND, USD, InTurn, at, cause, feed, feed_with_restarts, liquidation, tick
from hypothesis import given
from hypothesis import strategies as st

from market.events import AssetPressure, AssetTick, Liquidation, Pressure
from market.feeds import AssetFeeds, FeedSight, LiquidationFeeds, Sight
from market.parameters import Parameters, SilenceParameters, WatchParameters
from market.raw import Cause, FeedState, FeedStatus, Tick
from market.readings import AbsoluteRisk, AlertChange, CascadeScore, LiquidationWindows, Score, SideWindows
from operators.alerts import Alerts
from operators.feed_watch import FeedWatch
from operators.heartbeats import Heartbeats
from operators.liquidation_windows import LiquidationWindowsMachine
from operators.scores import Scores
from operators.silence import Silence

WITHOUT_INPUT = ("size", "self_excitation", "fuel", "crowding")
OTHERS = ("funding", "open_interest", "price", "long_short_ratio", "pressure", "miners")
EMPTY = SideWindows((0,) * 6, (0,) * 6, (0,) * 6, {}, 0, 0, 0)
QUIET = Parameters(watch=WatchParameters(watched_assets=()))

fan_out = partial(Heartbeats, QUIET)
score = partial(Scores, Parameters())


def feeds(at_s=0.0, *missing, is_any_seeing=True, reason=""):
    """Return what can be seen of OKX and Bybit: ``missing`` is what scores must name."""
    sights = {"okx": FeedSight(Sight.BLIND, at(at_s), reason)} if reason else {}
    sights["bybit-linear"] = FeedSight(Sight.SEEING if is_any_seeing else Sight.SILENT, at(0), "")
    return LiquidationFeeds(cause(at_s), sights, missing, {})


def handed(at_s=0.0, *missing, is_any_seeing=True, asset="BTC", partition="0"):
    return AssetFeeds(Cause(partition, 1, at(at_s)), asset, missing, is_any_seeing)


def windows(at_s=0.0, usd=30_000_000):
    sums = (usd * USD,) * 6
    both = {"okx": usd * USD // 2, "bybit-linear": usd * USD // 2}
    return LiquidationWindows(
        cause(at_s), "BTC", SideWindows(sums, (9 if usd else 0,) * 6, sums, both, sums[0], sums[0], 0), EMPTY
    )


def scores_of(outs):
    return [out for out in outs if isinstance(out, Score)]


# Fanned out


def test_what_can_be_seen_goes_on_and_to_every_active_asset():
    items = [liquidation(0, asset="SOL"), liquidation(0, asset="ADA"), feeds(1, "okx")]

    assert feed(fan_out(), items)[2:] == [items[2], handed(1, "okx", asset="ADA"), handed(1, "okx", asset="SOL")]


def test_what_changes_no_score_only_goes_on():
    items = [feeds(0, "okx"), liquidation(1), feeds(2, "okx", reason="closed"), feeds(3, "okx", is_any_seeing=False)]

    assert feed(fan_out(), items)[3:] == [items[2], items[3], handed(3, "okx", is_any_seeing=False)]


def test_an_asset_that_becomes_active_is_told_before_the_event_that_made_it_so():
    pressure = Pressure(cause(0), 7, 0, 0, 0, 0, 0, 0, 0, 0, at(-20_000), at(0))
    items = [feeds(0, "okx"), pressure, liquidation(1), liquidation(2)]

    assert feed(fan_out(), items)[2:] == [
        handed(1, "okx"),
        items[2],
        AssetPressure(cause(1), "BTC", pressure),
        items[3],
    ]


def test_a_watched_asset_is_told_with_the_first_tick():
    watching = Heartbeats(Parameters(watch=WatchParameters(watched_assets=("BTC",))))
    clock = Tick(cause(1))

    assert feed(watching, [feeds(0, "okx"), clock])[1:] == [clock, handed(1, "okx"), AssetTick(cause(1), "BTC")]


def test_what_can_be_seen_survives_a_restart():
    machine = fan_out()
    feed(machine, [feeds(0, "okx")])
    resumed = fan_out(pickle.loads(pickle.dumps(machine.snapshot())))  # noqa: S301 - our own bytes

    assert feed(resumed, [liquidation(1), feeds(2, "okx")]) == [handed(1, "okx"), liquidation(1), feeds(2, "okx")]


# Scored


def test_a_venue_that_is_missing_is_named_and_sums_are_floors():
    (whole,) = feed(score(), [windows(1)])
    (partly,) = feed(score(), [handed(0, "bybit-linear", "okx"), windows(1)])

    assert (whole.missing_inputs, whole.liquidations_are_floors) == (OTHERS, False)
    assert (partly.missing_inputs, partly.liquidations_are_floors) == (
        (*OTHERS, "liquidations:bybit-linear", "liquidations:okx"),
        True,
    )
    assert (partly.windows, partly.risk, partly.cascade_long, partly.cascade_short) == (
        whole.windows,
        whole.risk,
        whole.cascade_long,
        whole.cascade_short,
    )


def test_while_no_venue_can_be_seen_what_is_made_of_liquidations_is_missing_and_not_zero():
    (blind,) = feed(score(), [handed(0, "okx", is_any_seeing=False), windows(1)])

    unknown = (*WITHOUT_INPUT[:1], "speed", "self_excitation", "breadth", "fuel", "crowding")
    assert blind.risk == AbsoluteRisk(0, None, None, None, None)
    assert blind.cascade_long == CascadeScore(None, 1.0, {}, unknown)
    assert blind.cascade_short == CascadeScore(None, 0.0, {}, unknown)
    assert blind.missing_inputs == (*OTHERS, "liquidations", "liquidations:okx")
    assert blind.liquidations_are_floors


def test_a_side_without_liquidations_is_not_known_to_be_quiet_while_no_venue_can_be_seen():
    machine = score()
    outs = feed(machine, [windows(1, usd=0), handed(2, is_any_seeing=False), tick(3), handed(4), tick(5)])

    assert [out.cascade_long.score for out in scores_of(outs)] == [0.0, None, 0.0]
    assert [out.risk.liquidations for out in scores_of(outs)] == [0, None, 0]
    assert [out.liquidations_are_floors for out in scores_of(outs)] == [False, True, False]
    assert [out.missing_inputs[6:] for out in scores_of(outs)] == [(), ("liquidations",), ()]


def test_a_change_is_scored_with_the_next_tick_where_anything_is_known():
    machine = score()

    assert scores_of(feed(machine, [handed(0, "okx"), tick(1)])) == []
    assert len(scores_of(feed(machine, [windows(2), tick(3)]))) == 1
    assert [out.cause for out in scores_of(feed(machine, [handed(4), tick(5), handed(6), tick(7)]))] == [cause(5)]


def test_what_several_partitions_see_adds_up():
    machine = score()
    feed(machine, [handed(0, "okx", partition="a", is_any_seeing=False), handed(0, "gate", partition="b")])

    (only,) = feed(machine, [windows(1)])

    assert only.missing_inputs[6:] == ("liquidations:gate", "liquidations:okx")
    assert only.risk.liquidations == 6


def test_an_asset_of_which_nothing_else_is_known_is_forgotten_unless_something_is_missing():
    whole, partly = score(), score()
    feed(whole, [handed(0), windows(1), tick(2), windows(3602, usd=0), tick(3603), tick(3604)])
    later = [handed(0, "okx"), windows(1), tick(2), windows(3602, usd=0), tick(3603), tick(3604)]
    feed(partly, later)

    assert whole.is_idle()
    assert not partly.is_idle()
    assert scores_of(feed(partly, [windows(3700)]))[0].missing_inputs[6:] == ("liquidations:okx",)


@st.composite
def streams(draw):
    makers = [
        windows,
        partial(windows, usd=0),
        handed,
        lambda at_s: handed(at_s, "okx"),
        lambda at_s: handed(at_s, "okx", is_any_seeing=False),
        tick,
        tick,
    ]
    items, now_s = [], 0.0
    for _ in range(draw(st.integers(1, 30))):
        now_s = round(now_s + draw(st.sampled_from([0.0, 0.4, 1.0, 30.0, 3_600.0])), 1)
        items.append(draw(st.sampled_from(makers))(now_s))
    return items


@given(streams(), st.sets(st.integers(0, 30)), st.booleans())
def test_a_restart_at_any_point_changes_nothing(items, restarts, forgets):
    assert feed_with_restarts(score, items, restarts, forget_when_idle=forgets)[0] == feed(score(), items)


@given(streams())
def test_every_score_says_what_was_handed_last(items):
    newest = handed()
    machine = score()
    for item in items:
        newest = item if isinstance(item, AssetFeeds) else newest
        for found in scores_of(feed(machine, [item])):
            assert found.missing_inputs[6:] == (() if newest.is_any_seeing else ("liquidations",)) + tuple(
                f"liquidations:{venue}" for venue in newest.missing
            )
            assert (found.risk.liquidations is None) == (not newest.is_any_seeing)


# Alerted


def test_an_alert_without_all_liquidations_says_so():
    low = dataclasses.replace(Parameters().severity, info_risk=3)
    chain = [partial(Scores, dataclasses.replace(Parameters(), severity=low))]
    chain.append(partial(Alerts, dataclasses.replace(Parameters(), severity=low)))

    outs = InTurn(chain).feed([handed(0, "okx"), windows(1)])

    (change,) = [out for out in outs if isinstance(out, AlertChange)]
    assert change.reason.endswith(
        "pressure not known: info (without funding, open interest, price, long short ratio, liquidations:okx)"
    )


# From the wire to the score


PARTITION = [
    partial(FeedWatch, QUIET),
    partial(
        Silence,
        Parameters(silence=SilenceParameters(20 * SECOND, 10**15, min_events=3, learn_us=20 * SECOND, min_other_events=9)),
    ),
    partial(Heartbeats, QUIET),
]
ASSET = [partial(LiquidationWindowsMachine, Parameters()), partial(Scores, Parameters())]
VENUES = ("binance-usdm", "bybit-linear", "okx")


def status(at_s, venue, state, reason=""):
    return FeedStatus(cause(at_s), f"{venue}/liquidations", "1", state, reason)


def scored(items):
    """Return (second, venues named as missing) whenever that changes, from the first score on."""
    partition, asset, found = InTurn(PARTITION), InTurn(ASSET), []
    for item in sorted(items, key=lambda item: item.cause.receive_time_us):
        for event in partition.handle(item):
            for out in scores_of(asset.handle(event)):
                if not found or out.missing_inputs[6:] != found[-1][1]:
                    found.append(((out.cause.receive_time_us - at(0)) // SECOND, out.missing_inputs[6:]))
    return found


CLOCK = [Tick(cause(second)) for second in range(500)]
BUSY = [liquidation(second + number / 7, venue=venue) for second in range(1, 500) for number, venue in enumerate(VENUES, 1)]
UP = [status(0, venue, FeedState.CONNECTED) for venue in VENUES]


def test_a_lost_connection_is_named_from_the_next_tick_until_five_minutes_after_it_is_back():
    lost = [status(100, "okx", FeedState.LOST, "closed"), status(110, "okx", FeedState.CONNECTED)]

    assert scored([*CLOCK, *BUSY, *UP, *lost]) == [(1, ()), (101, ("liquidations:okx",)), (410, ())]


def test_a_feed_that_falls_silent_is_named():
    deaf = [
        item for item in BUSY if item.venue != "okx" or not 100 < item.cause.receive_time_us / SECOND - at(0) / SECOND < 150
    ]

    assert scored([*CLOCK, *deaf, *UP]) == [(1, ()), (120, ("liquidations:okx",)), (451, ())]


@pytest.mark.parametrize("state", [FeedState.LOST, FeedState.REFUSED])
def test_with_every_feed_down_liquidations_are_missing_as_a_whole(state):
    down = [status(100, venue, state, "closed") for venue in VENUES]
    before = [item for item in BUSY if item.cause.receive_time_us < at(100)]

    assert scored([*CLOCK, *before, *UP, *down])[-1] == (
        101,
        ("liquidations", "liquidations:binance-usdm", "liquidations:bybit-linear", "liquidations:okx"),
    )


def test_rows_that_come_without_connections_are_scored_as_they_are():
    assert scored([*CLOCK, *BUSY]) == [(1, ())]
    assert {type(item) for item in BUSY} == {Liquidation}
    assert BUSY[0].position_side is LONG
