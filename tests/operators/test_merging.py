"""What several shards knew, as one of them knows it afterwards."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_machines import cause, tick, us
from property_examples import examples

from market.events import AssetMiners, AssetPressure, AssetTick, Gap, Liquidation, MinerDay, Pressure
from market.feeds import AssetFeeds
from market.parameters import DuplicateParameters, Parameters, WatchParameters
from market.raw import Cause, Completeness, ContractKind, FeedState, FeedStatus, PositionSide, RawDerivatives, RawInstrument
from market.raw import RawLiquidation as Raw
from market.readings import Score
from operators.duplicates import Duplicates
from operators.feed_watch import NOT_RUNNING, FeedWatch
from operators.heartbeats import Heartbeats
from operators.machine import MachineChain
from operators.merging import merged, renamed
from operators.miners import Miners
from operators.normalise import Normalise
from operators.scores import Scores
from operators.silence import Silence
from operators.stablecoins import Stablecoins

PARAMETERS = Parameters(watch=WatchParameters(watched_assets=("BTC", "ETH")))
FEW = Parameters(duplicates=DuplicateParameters(max_keys=3))
BINANCE, BYBIT = "binance-usdm/liquidations", "bybit-linear/liquidations"


def chain_of(machine, state=None, parameters=PARAMETERS):
    return MachineChain([lambda saved: machine(parameters, saved)], None if state is None else (state,))


def outputs(chain, *items):
    return [output for item in items for bunch in chain.on_batch([[item]])[0] for output in bunch]


def state_after(machine, *items, parameters=PARAMETERS):
    """What a shard leaves that has met these items."""
    chain = chain_of(machine, parameters=parameters)
    outputs(chain, *items)
    return chain.snapshot()[0]


def merge(machine, *states, parameters=PARAMETERS):
    """Begin with what the shards have left."""
    (state,) = merged([machine.__name__], [[state] for state in states], parameters)
    return chain_of(machine, state, parameters)


def after(machine, *shards, parameters=PARAMETERS):
    """Begin where shards left off that have met these items."""
    return merge(machine, *(state_after(machine, *items, parameters=parameters) for items in shards), parameters=parameters)


@pytest.mark.parametrize("machine", [Stablecoins, Miners, Silence])
def test_what_all_read_alike_is_the_first_shards(machine):
    assert merged([machine.__name__], [["zero"], ["one"]], PARAMETERS) == ("zero",)


def test_machines_are_merged_each_by_its_rule():
    one, two = state_after(Heartbeats, liquidation(0, "SOL")), state_after(Heartbeats, liquidation(0, "XRP"))

    states = merged(["Miners", "Heartbeats"], [["zero", one], ["one", two]], PARAMETERS)

    assert states[0] == "zero"
    assert outputs(chain_of(Heartbeats, states[1]), tick(1))[1:] == asset_ticks(1, "BTC", "ETH", "SOL", "XRP")


def test_a_machine_without_a_rule_is_an_error_not_a_guess():
    with pytest.raises(KeyError, match="Unheard"):
        merged(["Unheard"], [["zero"]], PARAMETERS)


# Names


def test_an_asset_believes_of_the_new_partition_what_it_believed_of_the_old():
    blind = AssetFeeds(cause(0), "BTC", ("okx",), False)  # noqa: FBT003 - the event's own order
    before = state_after(Scores, blind)

    (state,) = renamed(["Scores"], [before], PARAMETERS, partition="new")

    chain = chain_of(Scores, state)
    seeing = msgspec.structs.replace(blind, cause=Cause("new", 2, us(1)), missing=(), is_any_seeing=True)
    items = [seeing, AssetPressure(cause(2), "BTC", pressure(2, 7)), AssetTick(cause(5), "BTC")]
    (score,) = [each for each in outputs(chain, *items) if isinstance(each, Score)]
    assert not [name for name in score.missing_inputs if name.startswith("liquidations")]


def test_what_an_asset_knew_it_knows_under_the_new_name():
    known = AssetPressure(cause(0), "BTC", pressure(0, 7))
    before = state_after(Scores, AssetFeeds(cause(0), "BTC", ("okx",), False), known)  # noqa: FBT003 - the event's own order

    (state,) = renamed(["Scores"], [before], PARAMETERS, partition="new")

    (score, *_) = outputs(chain_of(Scores, state), AssetTick(cause(5), "BTC"))
    assert score == outputs(chain_of(Scores, before), AssetTick(cause(5), "BTC"))[0]
    assert score.pressure == known.pressure


def test_states_that_name_no_partition_are_taken_as_they_are():
    nothing = state_after(Scores)

    assert renamed(["Alerts", "Scores"], ["as it is", nothing], PARAMETERS, partition="new") == ("as it is", nothing)


# Duplicates


def raw(number, at_s=0.0, sequence=1):
    """Return a liquidation that its number tells from others."""
    return Raw(cause(at_s, sequence), "okx", "BTC-USDT-SWAP", PositionSide.LONG, str(number), "1", Completeness.FULL, us(0))


def test_what_any_shard_has_seen_is_a_repeat_for_all():
    chain = after(Duplicates, [raw(1), raw(2)], [raw(2), raw(3, 1.5)])

    assert outputs(chain, raw(1, 2, 9), raw(2, 2, 9), raw(3, 2, 9)) == []
    assert outputs(chain, raw(4, 2, 9)) == [raw(4, 2, 9)]


def test_of_too_many_the_oldest_are_forgotten():
    chain = after(Duplicates, [raw(1, 0), raw(2, 1)], [raw(3, 2), raw(4, 3)], parameters=FEW)

    assert outputs(chain, raw(2, 4, 9), raw(3, 4, 9), raw(4, 4, 9)) == []
    assert outputs(chain, raw(1, 4, 9)) == [raw(1, 4, 9)]


def test_each_is_forgotten_in_its_own_time():
    horizon_s = PARAMETERS.duplicates.horizon_us / 1e6
    chain = after(Duplicates, [raw(1, 0), raw(2, 100)], [raw(3, 100)])
    later_s = horizon_s + 50

    assert outputs(chain, raw(1, later_s, 9)) == [raw(1, later_s, 9)]
    assert outputs(chain, raw(2, later_s, 9), raw(3, later_s, 9)) == []


def test_shards_that_have_seen_nothing_leave_nothing():
    assert outputs(after(Duplicates, [], []), raw(1)) == [raw(1)]


def test_what_a_shard_had_forgotten_stays_forgotten():
    chain = after(Duplicates, [raw(number, number) for number in range(5)], parameters=FEW)

    assert outputs(chain, raw(1, 6, 9)) == [raw(1, 6, 9)]
    assert outputs(chain, raw(3, 6, 9), raw(4, 6, 9)) == []


NUMBERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12)  # which print, and after how many seconds


def history(numbers, *, sequence, at_s=0):
    items = []
    for number, pause_s in numbers:
        at_s += pause_s
        items.append(raw(number, at_s, sequence))
        sequence += 1
    return items


@settings(max_examples=examples(100))
@given(before=NUMBERS, later=NUMBERS)
def test_a_state_merged_with_itself_goes_on_as_if_nothing_had_been(before, later):
    state = state_after(Duplicates, *history(before, sequence=1))
    items = history(later, sequence=100, at_s=40)

    assert outputs(merge(Duplicates, state, state), *items) == outputs(chain_of(Duplicates, state), *items)


@settings(max_examples=examples(100))
@given(one=NUMBERS, two=NUMBERS, later=NUMBERS)
def test_a_liquidation_passes_if_and_only_if_no_shard_has_seen_it(one, two, later):
    chain = after(Duplicates, history(one, sequence=1), history(two, sequence=1))
    seen = {number for number, _pause in (*one, *two)}
    items = history(later, sequence=100, at_s=40)
    first = {number: item for item, (number, _pause) in reversed(list(zip(items, later, strict=True)))}

    assert outputs(chain, *items) == [item for number, item in sorted_by_time(first) if number not in seen]


def sorted_by_time(first):
    return sorted(first.items(), key=lambda pair: pair[1].cause.sequence)


# Contracts


def instrument(symbol, base):
    usdt = {"quote": "USDT", "settle": "USDT", "kind": ContractKind.LINEAR, "contract_size": "1", "is_perpetual": True}
    return RawInstrument(cause(), "okx", symbol, base, **usdt)


def poll(symbol, at_s, **said):
    return RawDerivatives(cause(at_s), "okx", symbol, us(at_s), **said)


BTC, ETH = instrument("BTCUSDT", "BTC"), instrument("ETHUSDT", "ETH")


def test_the_contracts_of_all_shards_are_known():
    chain = after(Normalise, [BTC], [ETH, BTC])

    values = [
        (event.asset, event.mark_price)
        for event in outputs(chain, poll("BTCUSDT", 1, mark_price="9"), poll("ETHUSDT", 1, mark_price="7"))
    ]
    assert values == [("BTC", 9.0), ("ETH", 7.0)]


def test_of_two_lists_of_contracts_the_first_shards_counts():
    chain = after(Normalise, [BTC], [instrument("BTCUSDT", "XBT"), ETH])

    assert [event.asset for event in outputs(chain, poll("BTCUSDT", 1, mark_price="9"))] == ["BTC"]


def test_the_most_that_any_shard_counted_of_a_venues_clock_is_counted_on():
    ahead = RawDerivatives(cause(0), "okx", "BTCUSDT", us(1), mark_price="9")
    chain = after(Normalise, [BTC, ahead, ahead], [BTC, ahead])
    machine = Normalise(PARAMETERS, chain.snapshot()[0])

    assert machine.clock_skew_counts == {"okx": 2}


def test_what_each_shard_polled_of_its_own_contracts_is_known_to_the_next():
    of_btc = [BTC, ETH, poll("BTCUSDT", 0, mark_price="100"), poll("BTCUSDT", 0, funding_interval_hours="4")]
    of_eth = [BTC, ETH, poll("ETHUSDT", 0, mark_price="10")]

    chain = after(Normalise, of_btc, of_eth)

    said = {"open_interest_base": "2", "funding_rate": "0.001"}
    btc, eth = outputs(chain, poll("BTCUSDT", 5, **said), poll("ETHUSDT", 5, **said))
    assert (btc.open_interest_usd, btc.funding_interval_hours) == (200.0, 4.0)
    assert (eth.open_interest_usd, eth.funding_interval_hours) == (20.0, None)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_newer_of_two_marks_counts_and_an_interval_that_only_one_knows(order):
    shards = [
        [BTC, poll("BTCUSDT", 0, mark_price="100"), poll("BTCUSDT", 0, funding_interval_hours="4")],
        [BTC, poll("BTCUSDT", 3, mark_price="110")],
    ]

    chain = after(Normalise, *(shards[place] for place in order))

    (event,) = outputs(chain, poll("BTCUSDT", 5, open_interest_base="2", funding_rate="0.001"))
    assert (event.open_interest_usd, event.funding_interval_hours) == (220.0, 4.0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_both_know_an_interval_that_of_the_newer_mark_counts(order):
    shards = [
        [BTC, poll("BTCUSDT", at_s, mark_price="100"), poll("BTCUSDT", at_s, funding_interval_hours=hours)]
        for at_s, hours in ((0, "4"), (3, "8"))
    ]

    chain = after(Normalise, *(shards[place] for place in order))

    (event,) = outputs(chain, poll("BTCUSDT", 5, funding_rate="0.001"))
    assert event.funding_interval_hours == 8.0


# Feeds


def build_watch(*shards):
    return after(FeedWatch, *shards)


def status(state, at_s, connection="1", feed=BINANCE, reason=""):
    return FeedStatus(cause(at_s), feed, connection, state, reason)


def connected(at_s, feed=BINANCE, connection="1"):
    return status(FeedState.CONNECTED, at_s, connection, feed)


def lost(at_s, feed=BINANCE, reason="closed"):
    return status(FeedState.LOST, at_s, "1", feed, reason)


def gaps(chain, *items):
    return [
        (each.feed, each.from_time_us, each.to_time_us, each.reason) for each in outputs(chain, *items) if type(each) is Gap
    ]


def restart(at_s, *feeds):
    """A new process starts and connects."""
    return [status(FeedState.STARTED, at_s, "process", "process"), *(connected(at_s + 1, feed) for feed in feeds)]


def test_a_feed_was_unseen_from_the_moment_that_the_first_shard_had_stopped():
    chain = build_watch([connected(0), tick(5)], [connected(0), tick(3)], [connected(0), tick(4), tick(8)])

    assert gaps(chain, *restart(20, BINANCE)) == [(BINANCE, us(3), us(21), NOT_RUNNING)]


def test_a_gap_that_only_one_shard_had_is_not_forgotten():
    chain = build_watch([connected(0), tick(5)], [connected(0), lost(2), tick(5)])

    assert gaps(chain, *restart(20, BINANCE)) == [(BINANCE, us(2), us(21), "closed")]


def test_of_several_gaps_the_one_that_began_first_counts():
    chain = build_watch([connected(0), lost(4, reason="later"), tick(5)], [connected(0), lost(2), tick(5)])

    assert gaps(chain, *restart(20, BINANCE)) == [(BINANCE, us(2), us(21), "closed")]


def test_a_shard_that_had_stopped_before_anothers_gap_began_was_blind_before():
    chain = build_watch([connected(0), lost(4), tick(5)], [connected(0), tick(1)])

    assert gaps(chain, *restart(20, BINANCE)) == [(BINANCE, us(1), us(21), "closed")]


def test_each_shards_feeds_are_known():
    chain = build_watch([connected(0), tick(5)], [connected(0, BYBIT), tick(5)])

    assert gaps(chain, *restart(20, BINANCE, BYBIT)) == [
        (BINANCE, us(5), us(21), NOT_RUNNING),
        (BYBIT, us(5), us(21), NOT_RUNNING),
    ]


@pytest.mark.parametrize("times", [(3, 2), (2, 3)])
def test_polls_that_failed_failed_since_the_first_of_them(times):
    def failing(at_s):
        return status(FeedState.POLL_FAILED, at_s, "poll", "okx/depth/X", f"at {at_s}")

    chain = build_watch(*([failing(at_s)] for at_s in times), [])

    answered = status(FeedState.POLL_ANSWERED, 4, "poll", "okx/depth/X")
    assert gaps(chain, answered) == [("okx/depth/X", us(2), us(4), "at 2")]


def test_equal_watches_go_on_as_if_nothing_had_been():
    items = [connected(0), connected(0, BYBIT), lost(2, BYBIT), tick(5)]
    later = [tick(6), connected(7, BYBIT), lost(8), connected(9)]
    alone = chain_of(FeedWatch, state_after(FeedWatch, *items))

    assert (
        gaps(build_watch(items, items), *later)
        == gaps(alone, *later)
        == [
            (BYBIT, us(2), us(7), "closed"),
            (BINANCE, us(8), us(9), "closed"),
        ]
    )


def test_connections_that_are_up_everywhere_stay_up_though_their_labels_differ():
    chain = build_watch([connected(0), tick(5)], [connected(0), connected(1, BINANCE, "1#2"), tick(5)])

    assert gaps(chain, tick(6), lost(7), connected(8)) == [(BINANCE, us(7), us(8), "closed")]


def test_watches_that_have_heard_nothing_leave_nothing():
    assert gaps(build_watch([], []), *restart(20, BINANCE)) == []


# Heartbeats


def liquidation(at_s, asset):
    side, full = PositionSide.LONG, Completeness.FULL
    return Liquidation(cause(at_s), "okx", f"{asset}-USDT", asset, side, 1.0, 1.0, 1_000_000, full, us(at_s))


def pressure(at_s, value):
    return Pressure(cause(at_s), value, 0, 0, 0, 0, 0, 0, 0, 0, us(-20_000), us(0))


def miners(at_s, day):
    return MinerDay(cause(at_s), day, 90_000.0, 1e14, None, 40.0, {}, {}, is_final=True)


def asset_ticks(at_s, *assets):
    return [AssetTick(cause(at_s), asset) for asset in assets]


def test_an_asset_that_any_shard_kept_awake_stays_awake_from_its_newest_event_on():
    active_us = PARAMETERS.watch.active_us
    chain = after(Heartbeats, [liquidation(0, "SOL"), liquidation(0, "XRP")], [liquidation(100, "SOL")])

    assert outputs(chain, tick(active_us / 1e6 + 50))[1:] == asset_ticks(active_us / 1e6 + 50, "BTC", "ETH", "SOL")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_an_asset_that_wakes_is_sent_the_newest_that_any_shard_knew(order):
    old, new = pressure(1, 7), pressure(2, -7)
    day, next_day = miners(3, "2025-12-30"), miners(2, "2025-12-31")
    shards = [[old, next_day], [new, day], []]
    chain = after(Heartbeats, *(shards[place] for place in order))

    woken = liquidation(5, "SOL")
    assert outputs(chain, woken) == [
        woken,
        AssetPressure(woken.cause, "SOL", new),
        AssetMiners(woken.cause, "SOL", next_day),
    ]


def test_other_fields_of_a_state_are_the_first_shards():
    first, second = state_after(Heartbeats, tick(1)), state_after(Heartbeats, tick(2))
    (state,) = merged(["Heartbeats"], [[first], [second]], PARAMETERS)

    assert msgspec.msgpack.decode(state)[3] == us(1)
