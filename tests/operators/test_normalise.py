"""Contracts and coins: from what a venue said to what it means."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_machines import NOON_US, SECOND, cause, numbered, run, tick, us
from property_examples import examples

from market.events import BookDepth, Derivatives, Liquidation
from market.parameters import ContractLimits, Parameters, WatchParameters
from market.raw import (
    Completeness,
    ContractKind,
    DeadLetter,
    PositionSide,
    RawBookDepth,
    RawDerivatives,
    RawInstrument,
    RawLiquidation,
)
from operators import normalise
from operators.normalise import Normalise


def build(state=None):
    return Normalise(Parameters(), state)


def instrument(symbol="BTCUSDT", base="BTC", **changes):
    terms = {"quote": "USDT", "settle": "USDT", "kind": ContractKind.LINEAR, "contract_size": "1", "is_perpetual": True}
    return RawInstrument(cause(), "okx", symbol, base, **(terms | changes))


def liquidation(symbol="BTCUSDT", price="50000", quantity="0.5", *, at_s=0.0, event_s=None):
    event_time_us = us(at_s if event_s is None else event_s)
    side, completeness = PositionSide.LONG, Completeness.SAMPLED
    return RawLiquidation(cause(at_s), "okx", symbol, side, price, quantity, completeness, event_time_us)


def poll(symbol="BTCUSDT", *, at_s=0.0, **said):
    return RawDerivatives(cause(at_s), "okx", symbol, us(at_s), **said)


def book(symbol="BTCUSDT", bid="99", ask="101", *, at_s=0.0, event_s=0.0):
    return RawBookDepth(cause(at_s), "okx", symbol, us(event_s), ((bid, "1"), ("90", "2")), ((ask, "3"), ("110", "4")))


def last(*items, build=build):
    """Return what the last item became, after the others."""
    (output,) = run(build, items)[-1]
    return output


def refused(raw, channel, error, reason):
    return DeadLetter(raw.cause, f"okx/{channel}", "okx", error, reason, msgspec.json.encode(raw))


QUANTO = instrument("ETHUSD", "ETH", quote="USD", settle="XBT", kind=ContractKind.QUANTO, contract_size="0.000001")


def test_a_liquidation_is_stated_in_coins_and_micro_dollars():
    assert last(instrument("1000PEPE-SWAP", "1000PEPE"), liquidation("1000PEPE-SWAP", "0.01", "300")) == Liquidation(
        cause=cause(),
        venue="okx",
        symbol="1000PEPE-SWAP",
        asset="PEPE",
        position_side=PositionSide.LONG,
        price=0.00001,
        base_quantity=300_000.0,
        notional_micros=3_000_000,
        completeness=Completeness.SAMPLED,
        event_time_us=NOON_US,
    )


def test_instruments_end_here_and_everything_else_passes_by():
    assert run(build, [instrument(), tick(), "anything"]) == [[], [tick()], ["anything"]]


def test_an_unknown_symbol_is_a_dead_letter_never_a_guess():
    for raw, channel in ((liquidation(), "liquidations"), (poll(mark_price="1"), "derivatives"), (book(), "depth")):
        reason = "no list of instruments of okx has named 'BTCUSDT'"
        assert last(raw) == refused(raw, channel, "UnknownSymbolError", reason)


def test_the_same_symbol_of_another_venue_is_unknown():
    raw = msgspec.structs.replace(liquidation(), venue="bybit-linear")

    assert last(instrument(), raw).error == "UnknownSymbolError"


def test_an_absurd_quantity_is_a_dead_letter_with_its_reason():
    raw = liquidation(quantity="-0.5")

    assert last(instrument(), raw) == refused(raw, "liquidations", "AbsurdValueError", "quantity is negative: -0.5")


def test_the_largest_believable_notional_is_a_setting():
    small = Parameters(contracts=ContractLimits(max_notional_usd=24_999))

    assert last(instrument(), liquidation(), build=lambda state: Normalise(small, state)).error == "AbsurdValueError"


def test_a_contract_that_is_not_priced_in_dollars_is_a_dead_letter():
    raw = instrument(quote="EUR")
    reason = "priced in 'EUR', which is not the US dollar"

    assert last(raw) == refused(raw, "instruments", "UnsupportedContractError", reason)


def test_a_full_table_refuses_new_contracts_and_still_corrects_the_known(monkeypatch):
    monkeypatch.setattr(normalise, "MAX_CONTRACTS", 1)
    newcomer = instrument("ETHUSDT", "ETH")

    became = run(build, [instrument(), newcomer, instrument(contract_size="0.1"), liquidation()])

    full = refused(newcomer, "instruments", "UnsupportedContractError", "the contract table is full: 1")
    assert became[:3] == [[], [full], []]
    assert became[3][0].base_quantity == 0.05


def test_a_contract_whose_terms_change_is_measured_by_the_new_ones():
    became = run(build, [instrument(), liquidation(), instrument(contract_size="0.1"), liquidation()])

    assert [became[1][0].base_quantity, became[3][0].base_quantity] == [0.5, 0.05]


def test_a_time_slightly_ahead_becomes_the_receive_time_and_is_counted():
    machine = build()
    handlers = machine.handlers()
    handlers[RawInstrument](instrument())

    for raw in (
        liquidation(at_s=5, event_s=65),
        book(at_s=5, event_s=6),
        liquidation(at_s=5, event_s=5.000001),
        liquidation(at_s=5, event_s=5),
    ):
        (event,) = handlers[type(raw)](raw)
        assert event.event_time_us == us(5)

    assert machine.clock_skew_counts == {"okx": 3}
    assert Normalise(Parameters(), machine.snapshot()).clock_skew_counts == {"okx": 3}


def test_a_time_far_ahead_is_a_dead_letter():
    raw, later = liquidation(at_s=5, event_s=65.000001), liquidation(at_s=5, event_s=1_005)

    assert last(instrument(), raw) == refused(raw, "liquidations", "FutureTimeError", "60.000 s ahead of our clock")
    assert last(instrument(), later) == refused(later, "liquidations", "FutureTimeError", "1000.000 s ahead of our clock")
    assert last(instrument(), book(at_s=0, event_s=61)).error == "FutureTimeError"


def test_a_poll_is_stated_in_coins_and_dollars():
    said = {"mark_price": "50000", "open_interest_contracts": "2", "funding_rate": "0.0001", "funding_interval_hours": "4"}

    assert last(instrument(), poll(**said)) == Derivatives(
        cause=cause(),
        venue="okx",
        symbol="BTCUSDT",
        asset="BTC",
        event_time_us=NOON_US,
        mark_price=50_000.0,
        index_price=None,
        open_interest_base=2.0,
        open_interest_usd=100_000.0,
        funding_rate=0.0001,
        funding_interval_hours=4.0,
        funding_rate_8h=0.0002,
        long_short_ratio=None,
    )


def test_an_absurd_poll_is_a_dead_letter():
    raw = poll(mark_price="0")

    assert last(instrument(), raw) == refused(raw, "derivatives", "AbsurdValueError", "mark price is zero: 0")


def test_open_interest_without_a_mark_price_uses_the_last_one():
    event = last(instrument(), poll(mark_price="50000"), poll(open_interest_base="2", at_s=900))

    assert (event.open_interest_usd, event.mark_price) == (100_000.0, None)


def test_a_mark_price_that_has_gone_stale_is_not_used():
    event = last(instrument(), poll(mark_price="50000"), poll(open_interest_base="2", at_s=900.000001))

    assert event.open_interest_usd is None


def test_a_funding_interval_told_on_its_own_holds_for_later_rates_and_before_the_lists():
    listed = instrument(funding_interval_hours="8")
    rate = poll(funding_rate="0.0001")
    told = poll(funding_interval_hours="4")

    assert last(listed, rate).funding_rate_8h == 0.0001
    assert last(listed, told, rate).funding_rate_8h == 0.0002
    assert last(listed, told, listed, rate).funding_rate_8h == 0.0002


def test_an_interval_alone_is_no_row_not_even_for_a_contract_that_nobody_listed():
    told = poll(funding_interval_hours="4")

    assert run(build, numbered([told])) == [[]]
    assert run(build, numbered([instrument(), told])) == [[], []]


def test_a_poll_of_a_contract_that_is_not_watched_is_no_row():
    watching_others = Parameters(watch=WatchParameters(watched_assets=("ETH",)))
    items = numbered([instrument(), poll(mark_price="50000")])

    assert run(lambda state: Normalise(watching_others, state), items) == [[], []]


def test_a_quanto_contract_settles_at_the_last_mark_of_its_currency():
    event = last(QUANTO, instrument(), poll(mark_price="50000"), liquidation("ETHUSD", "2000", "100"))

    assert (event.notional_micros, event.base_quantity) == (10_000_000_000, 5.0)


def test_so_do_its_polls_and_its_book():
    known = [QUANTO, instrument(), poll(mark_price="50000")]

    said = last(*known, poll("ETHUSD", mark_price="2000", open_interest_contracts="100"))
    depth = last(*known, book("ETHUSD"))

    assert (said.open_interest_usd, said.open_interest_base) == (10_000.0, 5.0)
    assert (depth.bid_usd_1p0, depth.ask_usd_1p0) == (pytest.approx(4.95), pytest.approx(15.15))


@pytest.mark.parametrize("marks", [(), (poll(mark_price="50000", at_s=-901),)])
def test_a_quanto_contract_without_a_fresh_mark_of_its_currency_is_a_dead_letter(marks):
    raw = liquidation("ETHUSD", "2000", "100")
    reason = "settles in BTC, whose price in USD is not known"

    assert last(QUANTO, instrument(), *marks, raw) == refused(raw, "liquidations", "UnsupportedContractError", reason)


def test_a_book_is_stated_in_dollars_around_its_middle():
    assert last(instrument(), book()) == BookDepth(
        cause=cause(),
        venue="okx",
        symbol="BTCUSDT",
        asset="BTC",
        event_time_us=NOON_US,
        mid_price=100.0,
        spread_bps=200.0,
        bid_usd_0p5=0.0,
        bid_usd_1p0=99.0,
        bid_usd_2p0=99.0,
        ask_usd_0p5=0.0,
        ask_usd_1p0=303.0,
        ask_usd_2p0=303.0,
    )


def test_a_crossed_book_is_a_dead_letter():
    raw = book(bid="102")

    assert last(instrument(), raw) == refused(raw, "depth", "AbsurdValueError", "the book is crossed: bid 102, ask 101")


def test_saved_bytes_are_made_anew_only_after_a_change():
    machine = build()
    handlers = machine.handlers()
    handlers[RawInstrument](instrument())
    contracts, polled = machine.snapshot()

    handlers[RawInstrument](instrument())
    handlers[RawLiquidation](liquidation())
    handlers[RawDerivatives](poll(open_interest_base="1"))
    again = machine.snapshot()
    assert again[0] is contracts
    assert again[1] is polled

    handlers[RawDerivatives](poll(mark_price="1"))
    later = machine.snapshot()
    assert later[0] is contracts
    assert later[1] != polled


def test_two_thousand_contracts_are_saved_in_a_few_tens_of_kilobytes():
    machine = build()
    for number in range(2000):
        machine.handlers()[RawInstrument](instrument(f"COIN{number}-USDT-SWAP", f"COIN{number}", contract_size="0.01"))

    assert sum(map(len, machine.snapshot())) < 40_000


def test_a_contract_table_is_never_idle():
    assert not build().is_idle()


SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSD", "NEW"])
NUMBERS = st.sampled_from(["1", "2.5", "0", "x"])
SECONDS = st.sampled_from([0.0, 1.0, 61.0, 1000.0])
ITEMS = st.one_of(
    st.sampled_from([QUANTO, instrument(), instrument(contract_size="0.1"), instrument("NEW", "NEW", quote="EUR")]),
    st.builds(liquidation, SYMBOLS, NUMBERS, NUMBERS, at_s=SECONDS, event_s=SECONDS),
    st.builds(poll, SYMBOLS, at_s=SECONDS, mark_price=NUMBERS),
    st.builds(poll, SYMBOLS, at_s=SECONDS, open_interest_base=NUMBERS, funding_rate=NUMBERS),
    st.builds(poll, SYMBOLS, at_s=SECONDS, funding_interval_hours=NUMBERS),
    st.builds(book, SYMBOLS, at_s=SECONDS, event_s=SECONDS),
)


@given(st.lists(ITEMS, max_size=25).map(numbered), st.sets(st.integers(0, 24)))
@settings(max_examples=examples(60))
def test_a_restart_at_any_point_changes_nothing(items, restarts):
    assert run(build, items, restarts) == run(build, items)


@given(st.lists(ITEMS, max_size=25).map(numbered))
def test_every_item_that_says_something_becomes_exactly_one_event_that_names_its_cause(items):
    for item, outputs in zip(items, run(build, items), strict=True):
        says_nothing = isinstance(item, RawInstrument) or getattr(item, "funding_interval_hours", None) is not None
        assert len(outputs) <= 1 if says_nothing else len(outputs) == 1
        assert all(output.cause == item.cause for output in outputs)
        assert all(getattr(output, "event_time_us", 0) <= NOON_US + 1000 * SECOND for output in outputs)
