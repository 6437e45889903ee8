from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_stories import INSTRUMENTS, NOON_MS, STEPS_PER_SECOND, until

from simulator.exchange import Exchange
from simulator.instruments import VENUES, quarter_end_ms
from simulator.market import Market
from simulator.positions import LONG, Positions
from simulator.scenarios import SCENARIOS


def market(scenario="calm", seed=1, **options):
    return Market(INSTRUMENTS, SCENARIOS[scenario] if isinstance(scenario, str) else scenario, seed, **options)


def run(of, seconds):
    return [liquidation for _ in range(int(seconds * STEPS_PER_SECOND)) for liquidation in of.step()]


def story(scenario, seconds):
    """Return what happened in the first seconds with the first seed."""
    return [record.liquidation for record in until(scenario, seconds)]


def usd(liquidation):
    instrument = liquidation.instrument
    face = liquidation.lots * instrument.lot * instrument.contract_size
    return float(face) if instrument.is_inverse else float(face * liquidation.bankruptcy_ticks * instrument.tick)


def test_the_same_seed_gives_the_same_liquidations():
    again = run(market("long-cascade"), 18)

    assert len(again) > 100
    assert again == story("long-cascade", 18)


def test_another_seed_gives_others():
    assert run(market("long-cascade", seed=5), 8) != run(market("long-cascade", seed=6), 8)


def test_event_times_are_relative_to_the_start():
    def times(start_ms):
        exchange = Exchange(market("long-cascade"), start_ms=start_ms)
        return [record.event_time_ms - start_ms for _ in range(400) for record in exchange.advance()]

    assert times(NOON_MS) == times(NOON_MS + 86_400_123) != []


@pytest.mark.slow
def test_reading_quotes_changes_nothing_that_happens():
    read = market("long-cascade")

    seen = []
    for step in range(18 * STEPS_PER_SECOND):
        seen += read.step()
        for index in (0, 20, 41) if step % 5 == 0 else ():
            read.mark_price(index), read.open_interest_lots(index), read.shown_depth(index), read.long_short_ratio(index)

    assert seen == story("long-cascade", 18)


@pytest.mark.slow
def test_a_cascade_feeds_on_itself():
    whole = sum(usd(each) for each in story("long-cascade", 45) if each.position_side == LONG)
    shock_alone = sum(usd(each) for each in run(market("long-cascade", has_feedback=False), 45) if each.position_side == LONG)

    assert whole > 2 * shock_alone > 0


@pytest.mark.slow
def test_a_cascade_outlasts_its_shock_and_then_dies_down():
    seconds = [each.step / STEPS_PER_SECOND for each in story("long-cascade", 70) if each.position_side == LONG]
    shock = SCENARIOS["long-cascade"].shock

    assert sum(second > shock.end for second in seconds) > sum(second < shock.end for second in seconds)
    assert sum(second > 60 for second in seconds) < 0.02 * len(seconds)


def test_without_fuel_the_same_shock_starts_nothing():
    scenario = replace(SCENARIOS["long-cascade"], long_fuel=0.0, short_fuel=0.0, has_trickle=False)

    assert run(market(scenario), 20) == []


@pytest.mark.slow
def test_a_falling_price_liquidates_the_nearest_longs_first():
    wanted = ("binance-usdm", "BTCUSDT", LONG)
    prices = [
        each.bankruptcy_ticks
        for each in story("long-cascade", 70)
        if (each.instrument.venue, each.instrument.symbol, each.position_side) == wanted and 16 < each.step / 50 < 40
    ]

    assert len(prices) > 50
    # The price trembles and new positions open on the way, but over some seconds it only falls.
    assert np.mean(prices[:20]) > np.mean(prices[-20:])


def test_open_interest_falls_by_what_is_liquidated():
    volley = market("burst")
    index = next(n for n, each in enumerate(INSTRUMENTS) if (each.venue, each.symbol) == ("bybit-linear", "ETHUSDT"))
    before = volley.open_interest_lots(index)

    liquidations = run(volley, 12)

    lots = sum(each.lots for each in liquidations if each.instrument is INSTRUMENTS[index])
    assert lots > 0
    assert volley.open_interest_lots(index) == before - lots


def test_in_a_cascade_makers_withdraw_and_the_crowded_side_shrinks():
    running = market("long-cascade")
    depth_before, ratio_before = running.shown_depth(0), running.long_short_ratio(0)
    run(running, 25)

    bids, asks = running.shown_depth(0)
    assert bids < 0.6 * depth_before[0]
    assert bids < asks
    assert ratio_before > 2
    assert running.long_short_ratio(0) < 0.8 * ratio_before


def test_a_frozen_market_moves_but_liquidates_nobody():
    frozen = market("long-cascade")
    run(frozen, 16)
    frozen.is_frozen = True
    price = frozen.mark_price(0)

    assert run(frozen, 3) == []
    assert frozen.mark_price(0) != price


@pytest.mark.slow
def test_no_two_liquidations_of_one_moment_look_alike():
    liquidations = story("burst", 12)
    identities = {
        (each.step, each.instrument.venue, each.instrument.symbol, each.position_side, each.lots, each.bankruptcy_ticks)
        for each in liquidations
    }

    assert len(identities) == len(liquidations) == 20_000


@pytest.mark.slow
def test_fills_lie_between_the_market_and_the_bankruptcy_price():
    for each in story("burst", 12):
        tick = float(each.instrument.tick)
        average, bankruptcy = each.average_units / 10**each.instrument.price_decimals, each.bankruptcy_ticks * tick
        sign = 1 if each.position_side == LONG else -1
        assert sign * (average - bankruptcy) >= -tick
        assert 1 <= each.last_fill_lots <= each.lots


def opened(*pairs):
    """Return positions made of pairs of key and lots."""
    positions = Positions()
    keys, lots = np.array([key for key, _ in pairs]), np.array([lots for _, lots in pairs], dtype=np.int64)
    positions.open(keys, lots)
    return positions


def test_owners_close_what_is_far_away_and_a_share_of_the_rest():
    positions = opened((1.0, 10), (2.0, 20), (3.0, 30), (4.0, 40))

    positions.close(beyond=1.5, share=np.array([0.9, 0.9, 0.1, 0.9]), churn=0.2)

    assert positions.total_lots == 20 + 40
    assert positions.take_crossed(0.0)[0].tolist() == [4.0, 2.0]


def test_positions_are_taken_nearest_first_and_only_once():
    positions = opened((4.0, 40), (6.0, 60), (5.0, 50))

    keys, lots = positions.take_crossed(5.0)

    assert (keys.tolist(), lots.tolist()) == ([6.0, 5.0], [60, 50])
    assert (len(positions), positions.total_lots, positions.nearest) == (1, 40, 4.0)
    assert positions.take_crossed(5.0)[0].tolist() == []


def test_no_position_is_nearest_when_there_is_none():
    assert Positions().nearest == -np.inf


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 1000)), max_size=30), st.lists(st.floats(-1, 1), max_size=5))
def test_positions_are_neither_lost_nor_made(pairs, marks):
    positions = opened(*pairs)

    taken = [pair for mark in marks for pair in zip(*(each.tolist() for each in positions.take_crossed(mark)), strict=True)]

    reached = [pair for pair in pairs if marks and pair[0] >= min(marks)]
    assert sorted(taken) == sorted(reached)
    assert positions.total_lots == sum(lots for _, lots in pairs) - sum(lots for _, lots in taken)


def test_every_venue_lists_every_coin_once_per_kind():
    assert {each.venue for each in INSTRUMENTS} == set(VENUES)
    assert len({(each.venue, each.symbol) for each in INSTRUMENTS}) == len(INSTRUMENTS) == 42
    assert sum(not each.is_perpetual for each in INSTRUMENTS) == 2
    assert {each.asset for each in INSTRUMENTS if each.coins_per_base == 1000} == {"PEPE"}


@given(st.integers(1_700_000_000_000, 2_000_000_000_000))
def test_a_dated_future_ends_on_a_friday_at_least_three_weeks_away(now_ms):
    end_ms = quarter_end_ms(now_ms)

    days = (end_ms - now_ms) / 86_400_000
    assert 21 <= days <= 21 + 100
    assert (end_ms // 86_400_000 + 3) % 7 == 4  # 1 January 1970 was a Thursday
    assert end_ms % 86_400_000 == 8 * 3_600_000
