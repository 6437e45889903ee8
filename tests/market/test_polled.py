from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.contracts import AbsurdValueError, Contract, UnsupportedContractError
from market.events import BookDepth, Derivatives
from market.polled import measure_book, measure_derivatives
from market.raw import Cause, ContractKind, RawBookDepth, RawDerivatives

CAUSE = Cause("p0", 7, 1_700_000_000_500_000)
TIME_US = 1_700_000_000_000_000
BTCUSDT = Contract("okx", "X", "BTC", ContractKind.LINEAR, Decimal("0.01"), 1, "USDT", None, is_perpetual=True)
PEPE = Contract("okx", "X", "PEPE", ContractKind.LINEAR, Decimal(1), 1000, "USDT", 4.0, is_perpetual=True)
BTCUSD = Contract("okx", "X", "BTC", ContractKind.INVERSE, Decimal(100), 1, "BTC", 8.0, is_perpetual=True)
ETHUSD = Contract("okx", "X", "ETH", ContractKind.QUANTO, Decimal("0.000001"), 1, "BTC", 8.0, is_perpetual=True)


def polled(**said) -> RawDerivatives:
    return RawDerivatives(CAUSE, "okx", "X", TIME_US, **said)


def measured(raw, contract, **known) -> dict:
    """Return what is not ``None`` of the measured answer, without what is copied."""
    event = measure_derivatives(raw, contract, event_time_us=TIME_US, **known)
    copied = {"cause", "venue", "symbol", "asset", "event_time_us"}
    return {name: value for name, value in msgspec.structs.asdict(event).items() if name not in copied and value is not None}


def test_everything_that_a_poll_says_is_stated_in_coins_and_dollars():
    raw = polled(
        mark_price="50000.5",
        index_price="50001",
        open_interest_contracts="200",
        funding_rate="-0.0001",
        funding_interval_hours="4",
        long_short_ratio="1.25",
    )

    assert measure_derivatives(raw, BTCUSDT, event_time_us=TIME_US) == Derivatives(
        cause=CAUSE,
        venue="okx",
        symbol="X",
        asset="BTC",
        event_time_us=TIME_US,
        mark_price=50_000.5,
        index_price=50_001.0,
        open_interest_base=2.0,
        open_interest_usd=100_001.0,
        funding_rate=-0.0001,
        funding_interval_hours=4.0,
        funding_rate_8h=-0.0002,
        long_short_ratio=1.25,
    )


def test_what_a_poll_does_not_say_stays_unknown():
    assert measured(polled(), PEPE) == {}


def test_a_coin_listed_by_the_thousand_is_counted_one_by_one():
    raw = polled(mark_price="0.01", index_price="0.02", open_interest_base="5")

    assert measured(raw, PEPE) == {
        "mark_price": 0.00001,
        "index_price": 0.00002,
        "open_interest_base": 5000.0,
        "open_interest_usd": 0.05,
    }


@pytest.mark.parametrize(
    ("contract", "said", "known", "expected"),
    [
        (BTCUSDT, {"open_interest_contracts": "200"}, {}, {"open_interest_base": 2.0}),
        (BTCUSDT, {"open_interest_base": "2"}, {}, {"open_interest_base": 2.0}),
        (BTCUSDT, {"open_interest_usd": "100"}, {}, {"open_interest_usd": 100.0}),
        (BTCUSDT, {"open_interest_base": "0"}, {"last_mark": 5.0}, {"open_interest_base": 0.0, "open_interest_usd": 0.0}),
        (BTCUSDT, {"open_interest_usd": "100"}, {"last_mark": 50.0}, {"open_interest_base": 2.0, "open_interest_usd": 100.0}),
        (PEPE, {"open_interest_contracts": "3"}, {"last_mark": 2.0}, {"open_interest_base": 3e3, "open_interest_usd": 6e3}),
        (BTCUSD, {"open_interest_contracts": "3"}, {}, {"open_interest_usd": 300.0}),
        (
            BTCUSD,
            {"open_interest_contracts": "3"},
            {"last_mark": 50.0},
            {"open_interest_base": 6.0, "open_interest_usd": 300.0},
        ),
        (ETHUSD, {"open_interest_contracts": "3"}, {}, {}),
        (
            ETHUSD,
            {"open_interest_contracts": "100"},
            {"last_mark": 2000.0, "settlement_usd": 50_000.0},
            {"open_interest_base": 5.0, "open_interest_usd": 10_000.0},
        ),
        (
            BTCUSD,
            {"open_interest_contracts": "3", "open_interest_base": "2", "open_interest_usd": "290"},
            {"last_mark": 50.0},
            {"open_interest_base": 2.0, "open_interest_usd": 290.0},
        ),
        (
            BTCUSD,
            {"open_interest_contracts": "3", "open_interest_usd": "290"},
            {"last_mark": 50.0},
            {"open_interest_base": 5.8, "open_interest_usd": 290.0},
        ),
    ],
)
def test_open_interest_is_known_in_as_many_units_as_the_mark_price_allows(contract, said, known, expected):
    assert measured(polled(**said), contract, **known) == expected


def test_a_message_with_its_own_mark_price_needs_no_other():
    raw = polled(mark_price="50", open_interest_usd="100")

    assert measured(raw, BTCUSDT, last_mark=25.0)["open_interest_base"] == 2.0


@pytest.mark.parametrize(
    ("contract", "said", "known", "interval", "rate_8h"),
    [
        (PEPE, {"funding_rate": "0.0003", "funding_interval_hours": "1"}, {"last_interval_hours": 2.0}, 1.0, 0.0024),
        (PEPE, {"funding_rate": "0.0003"}, {"last_interval_hours": 2.0}, 2.0, 0.0012),
        (PEPE, {"funding_rate": "0.0003"}, {}, 4.0, 0.0006),
        (BTCUSDT, {"funding_rate": "0.0003"}, {}, None, None),
        (PEPE, {"funding_interval_hours": "1"}, {}, 1.0, None),
        (PEPE, {"mark_price": "1"}, {}, None, None),
    ],
)
def test_funding_is_normalised_to_eight_hours_where_its_interval_is_known(contract, said, known, interval, rate_8h):
    event = measure_derivatives(polled(**said), contract, event_time_us=TIME_US, **known)

    assert (event.funding_interval_hours, event.funding_rate_8h) == (interval, rate_8h)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("mark_price", "0", "mark price is zero: 0"),
        ("index_price", "-1", "index price is negative: -1"),
        ("open_interest_contracts", "-1", "open interest in contracts is negative: -1"),
        ("open_interest_base", "x", "open interest in units is not a number: 'x'"),
        ("open_interest_usd", "1e18", "open interest in USD is absurdly large: 1e18"),
        ("funding_rate", "1.01", "funding rate is absurdly large: 1.01 is a fraction per interval"),
        ("funding_rate", "-1.01", "funding rate is absurdly large: -1.01 is a fraction per interval"),
        ("funding_rate", "x", "funding rate is not a number: 'x'"),
        ("funding_interval_hours", "0", "funding interval is zero: 0"),
        ("long_short_ratio", "0", "long/short ratio is zero: 0"),
    ],
)
def test_an_absurd_value_is_refused_by_name(name, text, reason):
    with pytest.raises(AbsurdValueError) as refusal:
        measure_derivatives(polled(**{name: text}), BTCUSDT, event_time_us=TIME_US)

    assert refusal.value.reason == reason


@pytest.mark.parametrize("text", ["1", "-1"])
def test_all_of_a_position_as_funding_is_the_most_that_is_believed(text):
    assert measured(polled(funding_rate=text), BTCUSDT) == {"funding_rate": float(text)}


def test_open_interest_of_a_quanto_needs_the_price_of_its_settlement_currency():
    with pytest.raises(UnsupportedContractError):
        measure_derivatives(polled(mark_price="2000", open_interest_contracts="1"), ETHUSD, event_time_us=TIME_US)


def book(bids, asks) -> RawBookDepth:
    return RawBookDepth(CAUSE, "okx", "X", TIME_US, tuple(bids), tuple(asks))


UNIT = Contract("okx", "X", "BTC", ContractKind.LINEAR, Decimal(1), 1, "USDT", None, is_perpetual=True)


def test_resting_orders_are_summed_by_their_distance_from_the_mid_price():
    raw = book(
        bids=[("99.9", "1"), ("99.5", "2"), ("99", "3"), ("98.5", "0")],
        asks=[("100.1", "1"), ("100.6", "2"), ("101", "4"), ("102", "8"), ("103", "16")],
    )

    assert measure_book(raw, UNIT, event_time_us=TIME_US) == BookDepth(
        cause=CAUSE,
        venue="okx",
        symbol="X",
        asset="BTC",
        event_time_us=TIME_US,
        mid_price=100.0,
        spread_bps=20.0,
        bid_usd_0p5=298.9,
        bid_usd_1p0=595.9,
        bid_usd_2p0=None,
        ask_usd_0p5=100.1,
        ask_usd_1p0=705.3,
        ask_usd_2p0=1521.3,
    )


def test_a_book_reaches_exactly_as_far_as_its_deepest_level():
    raw = book(bids=[("99.9", "1"), ("98", "1")], asks=[("100.1", "1")])

    depth = measure_book(raw, UNIT, event_time_us=TIME_US)

    assert (depth.bid_usd_2p0, depth.ask_usd_0p5) == (197.9, None)


def test_an_inverse_book_counts_dollars_and_a_price_is_per_coin():
    inverse = Contract("okx", "X", "PEPE", ContractKind.INVERSE, Decimal(10), 1000, "PEPE", None, is_perpetual=True)
    raw = book(bids=[("99.9", "1"), ("90", "1")], asks=[("100.1", "3"), ("110", "1")])

    depth = measure_book(raw, inverse, event_time_us=TIME_US)

    assert (depth.mid_price, depth.bid_usd_2p0, depth.ask_usd_2p0) == (0.1, 10.0, 30.0)


def test_a_quanto_book_is_worth_its_settlement_currency():
    raw = book(bids=[("1999", "100"), ("1", "1")], asks=[("2001", "100"), ("3000", "1")])

    depth = measure_book(raw, ETHUSD, event_time_us=TIME_US, settlement_usd=50_000.0)

    assert (depth.bid_usd_0p5, depth.ask_usd_0p5) == (9995.0, 10_005.0)
    with pytest.raises(UnsupportedContractError):
        measure_book(raw, ETHUSD, event_time_us=TIME_US)


@pytest.mark.parametrize(
    ("bids", "asks", "reason"),
    [
        ([], [("101", "1")], "a side of the book is empty"),
        ([("99", "1")], [], "a side of the book is empty"),
        ([("101", "1")], [("101", "1")], "the book is crossed: bid 101, ask 101"),
        ([("102", "1")], [("101", "1")], "the book is crossed: bid 102, ask 101"),
        ([("98", "3"), ("99", "1")], [("101", "1")], "the book is not sorted: 99 after 98"),
        ([("99", "1")], [("101", "1"), ("101", "1")], "the book is not sorted: 101 after 101"),
        ([("99", "-1")], [("101", "1")], "quantity is negative: -1"),
        ([("0", "1")], [("101", "1")], "price is zero: 0"),
    ],
)
def test_a_book_that_cannot_be_is_refused(bids, asks, reason):
    with pytest.raises(AbsurdValueError) as refusal:
        measure_book(book(bids, asks), UNIT, event_time_us=TIME_US)

    assert refusal.value.reason == reason


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 50)), min_size=1, max_size=30, unique_by=lambda level: level[0]))
def test_a_wider_distance_never_holds_less(levels):
    bids = [(f"{10_000 - distance}", f"{quantity}") for distance, quantity in sorted(levels)]
    asks = [(f"{10_000 + distance}", f"{quantity}") for distance, quantity in sorted(levels)]

    depth = measure_book(book(bids, asks), UNIT, event_time_us=TIME_US)

    for sums in (
        (depth.bid_usd_0p5, depth.bid_usd_1p0, depth.bid_usd_2p0),
        (depth.ask_usd_0p5, depth.ask_usd_1p0, depth.ask_usd_2p0),
    ):
        known = [total for total in sums if total is not None]
        assert known == sorted(known)
        assert sums[len(known) :] == (None,) * (3 - len(known))


@pytest.mark.parametrize("name", ["open_interest_base", "open_interest_contracts", "open_interest_usd"])
@pytest.mark.parametrize("text", ["5e-324", "1e-999", "0.000000000000000001"])
def test_an_open_interest_next_to_nothing_is_absurd_but_nothing_is_not(name, text):
    """A venue that went from there to anything would have grown by more percent than a float holds."""
    with pytest.raises(AbsurdValueError, match=f"is absurdly small: {text}"):
        measured(polled(**{name: text}), BTCUSDT)

    assert measured(polled(**{name: "1.1e-18"}), BTCUSDT)
    assert measured(polled(**{name: "0"}), BTCUSDT)
