import asyncio
import itertools
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_client import Tape, get, post, serving, until

from simulator.instruments import VENUES, universe
from simulator.market import Liquidation
from simulator.positions import LONG, SHORT
from simulator.scenarios import SCENARIOS, Window
from simulator.throttles import EverythingTwiceASecond, LargestPerSecond, OnePerContractAndSecond
from simulator.truth import Truth, make_record

NOON_MS = 1_795_262_400_000
LISTED = {(each.venue, each.symbol): each for each in universe(NOON_MS)}
DATED = next(symbol for venue, symbol in LISTED if venue == "okx" and symbol[-1].isdigit())


def liquidation(
    *, venue="binance-usdm", symbol="BTCUSDT", side=LONG, lots=1000, bankruptcy_ticks=820_000, average_units=8_230_000
):
    return Liquidation(
        step=1,
        instrument=LISTED[venue, symbol],
        position_side=side,
        lots=lots,
        bankruptcy_ticks=bankruptcy_ticks,
        average_units=average_units,
        last_fill_lots=1,
    )


def record(number=1, at_ms=NOON_MS, **fields):
    return make_record(number, liquidation(**fields), at_ms)


def figures(of):
    whole = of.to_json()
    return {name: whole[name] for name in ("price", "contract_quantity", "base_quantity", "notional_usd")}


def test_binance_counts_its_mean_fill_price():
    assert figures(record(lots=190, average_units=8_265_190, bankruptcy_ticks=823_383)) == {
        "price": "82651.90",
        "contract_quantity": "0.190",
        "base_quantity": "0.190",
        "notional_usd": "15703.861000",
    }


def test_bybit_counts_the_bankruptcy_price():
    assert figures(record(venue="bybit-linear", lots=38, bankruptcy_ticks=823_943)) == {
        "price": "82394.30",
        "contract_quantity": "0.038",
        "base_quantity": "0.038",
        "notional_usd": "3130.983400",
    }


def test_a_thousand_pepe_are_a_thousand_coins():
    assert figures(record(venue="bybit-linear", symbol="1000PEPEUSDT", lots=7, bankruptcy_ticks=68_123)) == {
        "price": "0.0068123",
        "contract_quantity": "700",
        "base_quantity": "700000",
        "notional_usd": "4.768610",
    }


def test_inverse_quantities_are_dollars_already():
    assert figures(record(venue="bybit-inverse", symbol="BTCUSD", lots=12_345, bankruptcy_ticks=800_000)) == {
        "price": "80000.00",
        "contract_quantity": "12345",
        "base_quantity": "0.154312500000",
        "notional_usd": "12345.000000",
    }


def test_okx_contracts_have_a_size_in_coins():
    assert figures(record(venue="okx", symbol="BTC-USDT-SWAP", lots=855, bankruptcy_ticks=826_557)) == {
        "price": "82655.7",
        "contract_quantity": "8.55",
        "base_quantity": "0.0855",
        "notional_usd": "7067.062350",
    }


def test_okx_coin_margined_contracts_have_a_size_in_dollars():
    assert figures(record(venue="okx", symbol="ETH-USD-SWAP", lots=3, bankruptcy_ticks=250_000)) == {
        "price": "2500.00",
        "contract_quantity": "3",
        "base_quantity": "0.012000000000",
        "notional_usd": "30.000000",
    }


@pytest.mark.parametrize(("ticks", "expected"), [(5, "0.000000"), (15, "0.000002"), (25, "0.000002"), (26, "0.000003")])
def test_notionals_are_rounded_half_even_to_micro_dollars(ticks, expected):
    # One lot of 1000PEPEUSDT is one unit; a tick is a tenth of a micro-dollar.
    assert figures(record(symbol="1000PEPEUSDT", lots=1, average_units=ticks))["notional_usd"] == expected


def test_a_record_says_what_became_of_it():
    truth = Truth()
    entered = truth.happened(liquidation(), NOON_MS)
    assert (entered.to_json()["published"], entered.to_json()["sent_ms"], entered.to_json()["receivers"]) == (False, None, 0)

    truth.was_published(entered, NOON_MS + 1000, receivers=2)

    assert entered.to_json() == {
        "id": 1,
        "venue": "binance-usdm",
        "symbol": "BTCUSDT",
        "asset": "BTC",
        "position_side": "LONG",
        "price": "82300.00",
        "contract_quantity": "1.000",
        "base_quantity": "1.000",
        "notional_usd": "82300.000000",
        "event_time_ms": NOON_MS,
        "published": True,
        "sent_ms": NOON_MS + 1000,
        "receivers": 2,
    }


def test_sums_tell_all_from_published_from_delivered():
    truth = Truth()
    one, two, _ = (truth.happened(liquidation(side=side), NOON_MS) for side in (LONG, LONG, SHORT))
    truth.was_published(one, NOON_MS, receivers=0)
    truth.was_published(two, NOON_MS, receivers=1)

    none, single = {"count": 0, "notional_usd": "0.000000"}, {"count": 1, "notional_usd": "82300.000000"}
    double = {"count": 2, "notional_usd": "164600.000000"}
    assert truth.venues["binance-usdm"].to_json() == {
        "first_subscribed_ms": None,
        "all": {"LONG": double, "SHORT": single},
        "published": {"LONG": double, "SHORT": none},
        "delivered": {"LONG": single, "SHORT": none},
    }


def test_binance_publishes_the_largest_of_a_second_at_its_end():
    throttle = LargestPerSecond()
    small, large, medium, other = record(1, lots=1), record(2, lots=3), record(3, lots=2), record(4, symbol="ETHUSDT")
    throttle.add(small, NOON_MS)
    throttle.add(large, NOON_MS + 400)
    throttle.add(medium, NOON_MS + 999)
    throttle.add(other, NOON_MS + 999)

    assert throttle.due(NOON_MS + 999) == []
    assert throttle.due(NOON_MS + 1000) == [[large]]
    assert not throttle.is_idle()
    assert throttle.due(NOON_MS + 1999) == [[other]]
    assert throttle.is_idle()


def test_bybit_publishes_everything_twice_a_second_by_symbol():
    throttle = EverythingTwiceASecond()
    one, two, other = (
        record(number, venue="bybit-linear", symbol=symbol)
        for number, symbol in enumerate(("BTCUSDT", "BTCUSDT", "ETHUSDT"), 1)
    )
    throttle.due(NOON_MS)
    for number, each in enumerate((one, two, other)):
        throttle.add(each, NOON_MS + number)

    assert throttle.due(NOON_MS + 499) == []
    assert throttle.due(NOON_MS + 500) == [[one, two], [other]]
    assert throttle.is_idle()


def test_okx_publishes_one_per_contract_and_second_several_contracts_at_once():
    throttle = OnePerContractAndSecond()
    one, two, three = (record(number, venue="okx", symbol="BTC-USDT-SWAP") for number in (1, 2, 3))
    other, dated = record(4, venue="okx", symbol="ETH-USDT-SWAP"), record(5, venue="okx", symbol=DATED)
    for each in (one, two, other, dated):
        throttle.add(each, NOON_MS)

    assert throttle.due(NOON_MS) == [[one, other], [dated]]
    throttle.add(two, NOON_MS + 999)
    assert throttle.is_idle()
    throttle.add(three, NOON_MS + 1000)
    assert throttle.due(NOON_MS + 1000) == [[three]]


MOMENTS = st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["BTC", "ETH"]), st.integers(1, 9)), max_size=40)


@given(MOMENTS)
def test_sampling_venues_never_publish_a_symbol_twice_within_a_second(moments):
    for throttle, venue, pattern in (
        (LargestPerSecond(), "binance-usdm", "{}USDT"),
        (OnePerContractAndSecond(), "okx", "{}-USDT-SWAP"),
    ):
        sent = defaultdict(list)
        for step in range(260):
            now_ms = NOON_MS + 20 * step
            for at, coin, lots in moments:
                if at == step:
                    throttle.add(record(venue=venue, symbol=pattern.format(coin), lots=lots), now_ms)
            for message in throttle.due(now_ms):
                for each in message:
                    sent[each.liquidation.instrument.symbol].append(now_ms)
        assert throttle.is_idle()
        assert sent.keys() == {pattern.format(coin) for _, coin, _ in moments}
        assert all(later - earlier >= 1000 for times in sent.values() for earlier, later in itertools.pairwise(times))


@given(MOMENTS)
def test_bybit_publishes_each_liquidation_exactly_once(moments):
    throttle, sent = EverythingTwiceASecond(), []
    for step in range(260):
        for number, (at, coin, lots) in enumerate(moments):
            if at == step:
                throttle.add(record(number, venue="bybit-linear", symbol=f"{coin}USDT", lots=lots), NOON_MS + 20 * step)
        sent += [each.number for message in throttle.due(NOON_MS + 20 * step) for each in message]

    assert sorted(sent) == list(range(len(moments)))


def expected_sums(summary, kind):
    return {
        venue: {side: [tally["count"], Decimal(tally["notional_usd"])] for side, tally in truth[kind].items()}
        for venue, truth in summary["venues"].items()
    }


async def record_until_quiet(scenario, seconds, **options):
    """Return what a client read, and the truth about it, once nobody can be liquidated any more."""
    async with serving(scenario, waits=True, **options) as (_, url, session):
        async with Tape(session, url).rolling() as tape:
            await until(session, url, seconds)
            await post(session, url, "/control/stop-liquidations")
        return tape, await get(session, url, "/truth/summary"), await get(session, url, "/truth")


CASCADE_AT_ONCE = replace(SCENARIOS["long-cascade"], shock=Window(0.0, 5.0))
BURST_AT_ONCE = replace(SCENARIOS["burst"], volley=replace(SCENARIOS["burst"].volley, at=0.5))


@pytest.mark.slow
def test_the_truth_is_what_a_client_reads_in_a_cascade():
    tape, summary, truth = asyncio.run(record_until_quiet(CASCADE_AT_ONCE, 9, seed=3, speed=6.0))

    assert tape.sums() == expected_sums(summary, "published") == expected_sums(summary, "delivered")
    assert all(sum(count for count, _ in sides.values()) > 0 for sides in tape.sums().values())
    listed = {
        (each["venue"], each["symbol"], each["position_side"], Decimal(each["notional_usd"]), each["event_time_ms"])
        for events in truth["venues"].values()
        for each in events
        if each["published"]
    }
    assert set(tape.events()) == listed
    numbers = sorted(each["id"] for events in truth["venues"].values() for each in events)
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
def test_a_burst_reaches_a_client_as_each_venue_would_publish_it():
    tape, summary, truth = asyncio.run(record_until_quiet(BURST_AT_ONCE, 2, seed=3))

    assert tape.sums() == expected_sums(summary, "published")
    times = [each["event_time_ms"] for events in truth["venues"].values() for each in events]
    assert len(times) == 20_000
    assert max(times) - min(times) < 1000
    for venue in ("bybit-linear", "bybit-inverse"):
        assert expected_sums(summary, "published")[venue] == expected_sums(summary, "all")[venue]
    assert max(len(frame["data"]) for frame in tape.frames["bybit-linear"]) > 200
    assert 10 <= sum(count for count, _ in tape.sums()["binance-usdm"].values()) <= 26
    assert 10 <= sum(count for count, _ in tape.sums()["okx"].values()) <= 30
    check_pace(tape)


def check_pace(tape):
    binance, okx = defaultdict(list), defaultdict(list)
    for frame in tape.frames["binance-usdm"]:
        binance[frame["o"]["s"]].append(frame["E"])
        assert 0 < frame["E"] - frame["o"]["T"] <= 1020
    for frame in tape.frames["okx"]:
        symbols = [item["instId"] for item in frame["data"]]
        assert len(set(symbols)) == len(symbols)
        for item in frame["data"]:
            okx[item["instId"]] += [int(detail["ts"]) for detail in item["details"]]
    for times in (*binance.values(), *okx.values()):
        assert all(later - earlier >= 1000 for earlier, later in itertools.pairwise(times))
    pushes = defaultdict(list)
    for frame in tape.frames["bybit-linear"]:
        pushes[frame["topic"]].append(frame["ts"])
        assert all(0 <= frame["ts"] - item["T"] <= 520 for item in frame["data"])
    for times in pushes.values():
        assert all(later - earlier >= 480 for earlier, later in itertools.pairwise(times))


@pytest.mark.slow
def test_stopping_publishes_what_happened_and_then_nothing_happens():
    async def stop_and_look():
        async with serving(CASCADE_AT_ONCE, speed=6.0) as (_, url, session):
            await until(session, url, 6)
            state = await post(session, url, "/control/stop-liquidations")
            assert (state["is_frozen"], state["is_idle"]) == (True, True)
            first = await get(session, url, "/truth/summary")
            await until(session, url, first["scenario_seconds"] + 1)
            second = await get(session, url, "/truth/summary")
            assert first["venues"] == second["venues"]
            assert second["steps"] > first["steps"]
            assert first["venues"]["bybit-linear"]["published"]["LONG"]["count"] > 0
            assert first["venues"]["bybit-linear"]["delivered"]["LONG"]["count"] == 0

    asyncio.run(stop_and_look())


def test_the_truth_can_be_narrowed_down():
    async def look():
        async with serving(SCENARIOS["calm"]) as (simulation, url, session):
            for number, venue in enumerate(("okx", "okx", "bybit-linear"), 1):
                symbol = "BTC-USDT-SWAP" if venue == "okx" else "BTCUSDT"
                entered = simulation.exchange.truth.happened(liquidation(venue=venue, symbol=symbol), NOON_MS)
                if number == 1:
                    simulation.exchange.truth.was_published(entered, NOON_MS, receivers=1)
            whole = await get(session, url, "/truth")
            okx = await get(session, url, "/truth?venue=okx")
            published = await get(session, url, "/truth?venue=okx&published=true")
            async with session.get(url + "/truth?venue=ftx") as refused:
                assert (refused.status, await refused.text()) == (400, f"unknown venue ftx; one of {', '.join(VENUES)}")
        assert {venue: len(events) for venue, events in whole["venues"].items()} == {
            "binance-usdm": 0, "bybit-linear": 1, "bybit-inverse": 0, "okx": 2
        }  # fmt: skip
        assert [each["id"] for each in okx["venues"].pop("okx")] == [1, 2]
        assert okx["venues"] == {}
        assert [each["id"] for each in published["venues"]["okx"]] == [1]

    asyncio.run(look())
