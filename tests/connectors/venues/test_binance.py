import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_frames import CAUSE, HOSTILE_PAYLOADS, RECEIVED_US, fixture, fixtures_of, frame, mutated, read_or_refuse, refusal

from connectors.sources.feed import Endpoints, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import MalformedFrameError, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.binance import BINANCE_USDM
from market.raw import Completeness, ContractKind, PositionSide, RawBookDepth, RawDerivatives, RawInstrument, RawLiquidation

VENUE = "binance-usdm"
SIMULATED = Endpoints("http://127.0.0.1:1234/binance-usdm", "ws://127.0.0.1:1234/binance-usdm")


def liquidation(symbol, position_side, price, contract_quantity, time_ms):
    return RawLiquidation(CAUSE, VENUE, symbol, position_side, price, contract_quantity, Completeness.SAMPLED, time_ms * 1000)


def instrument(symbol, base, quote, settle, *, is_perpetual=True):
    hours = "8" if is_perpetual else None
    return RawInstrument(CAUSE, VENUE, symbol, base, quote, settle, ContractKind.LINEAR, "1", is_perpetual, hours)


def derivatives(symbol, time_us, **said):
    return RawDerivatives(CAUSE, VENUE, symbol, time_us, **said)


EXPECTED = {
    "liquidation_wrapped.json": (
        "liquidations",
        [liquidation("BTCUSDT", PositionSide.LONG, "82651.90", "0.190", 1791565602120)],
    ),
    "liquidation.json": (
        "liquidations",
        [liquidation("MANTAUSDT", PositionSide.LONG, "0.0722187", "2049.1", 1791091026103)],
    ),
    "liquidation_of_a_short.json": (
        "liquidations",
        [liquidation("BTCUSDT", PositionSide.SHORT, "4706.04", "0.014", 1584059031421)],
    ),
    "liquidation_of_a_coin_margined_contract.json": (
        "liquidations",
        [liquidation("BTCUSD_200925", PositionSide.LONG, "9352.7", "3", 1594622954021)],
    ),
    "subscribed.json": ("liquidations", []),
    "exchange_info.json": (
        "instruments",
        [
            instrument("BTCUSDT", "BTC", "USDT", "USDT"),
            instrument("1000PEPEUSDT", "1000PEPE", "USDT", "USDT"),
            instrument("ETHBTC", "ETH", "BTC", "BTC"),
            instrument("BTCUSDT_261225", "BTC", "USDT", "USDT", is_perpetual=False),
            instrument("XAUUSDT", "XAU", "USDT", "USDT"),
            refusal("UnknownFrameError", "contract type 'FORTNIGHTLY' of ODDUSDT"),
        ],
    ),
    "premium_index.json": (
        "mark-price/BTCUSDT",
        [
            derivatives(
                "BTCUSDT",
                1783307788007000,
                mark_price="63392.81973913",
                index_price="63415.27130435",
                funding_rate="0.00009007",
            ),
        ],
    ),
    "premium_index_of_all.json": (
        "mark-price",
        [
            derivatives(
                "BTCUSDT",
                1791565602000000,
                mark_price="82651.90000000",
                index_price="82690.10000000",
                funding_rate="-0.00002143",
            ),
            derivatives("BTCUSDT_261225", 1791565602000000, mark_price="83102.40000000", index_price="82690.10000000"),
        ],
    ),
    "funding_info.json": (
        "funding-info",
        [
            derivatives("MANTAUSDT", RECEIVED_US, funding_interval_hours="4"),
            derivatives("BTCUSDT", RECEIVED_US, funding_interval_hours="8"),
        ],
    ),
    "open_interest.json": (
        "open-interest/BTCUSDT",
        [derivatives("BTCUSDT", 1783307783695000, open_interest_base="104935.279")],
    ),
    "account_ratio.json": (
        "long-short-ratio/BTCUSDT",
        [derivatives("BTCUSDT", 1787372700000000, long_short_ratio="1.9823")],
    ),
    "depth.json": (
        "depth/BTCUSDT",
        [
            RawBookDepth(
                CAUSE,
                VENUE,
                "BTCUSDT",
                1791565603101000,
                bids=(("82651.80", "4.119"), ("82651.70", "0.002")),
                asks=(("82651.90", "1.870"), ("82652.30", "0.045")),
            ),
        ],
    ),
}

REFUSED = {
    "book_ticker.json": ("liquidations", UnknownFrameError, "event 'bookTicker'"),
    "subscription_refused.json": ("liquidations", RefusedFrameError, "2: Invalid request: invalid stream"),
    "request_refused.json": ("liquidations", RefusedFrameError, "2: Invalid request: unknown method"),
    "invalid_symbol.json": ("open-interest/NOSUCHUSDT", RefusedFrameError, "-1121: Invalid symbol."),
}


def parse(channel_and_subject, payload):
    channel = channel_and_subject.partition("/")[0]
    return BINANCE_USDM.parsers[channel](frame(f"{VENUE}/{channel_and_subject}", payload))


def order(**changed):
    return {"s": "BTCUSDT", "S": "SELL", "p": "82338.30", "ap": "82651.90", "z": "0.190", "T": 1791565602120} | changed


def test_every_fixture_has_its_expectation():
    assert fixtures_of("binance") == {f"binance/{name}" for name in EXPECTED | REFUSED}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fixture_gives_exactly_its_events(name):
    channel, events = EXPECTED[name]

    assert parse(channel, fixture(f"binance/{name}")) == events


@pytest.mark.parametrize("name", REFUSED)
def test_each_refused_fixture_is_refused_with_its_words(name):
    channel, error, words = REFUSED[name]

    with pytest.raises(error) as caught:
        parse(channel, fixture(f"binance/{name}"))

    assert (type(caught.value), str(caught.value)) == (error, words)


def test_an_unknown_side_is_never_guessed():
    with pytest.raises(UnknownFrameError, match="order side 'LIQUIDATE'"):
        parse("liquidations", {"e": "forceOrder", "o": order(S="LIQUIDATE")})


@pytest.mark.parametrize("field", ["ap", "z"])
def test_a_number_where_text_is_expected_is_refused_and_not_rounded(field):
    with pytest.raises(MalformedFrameError, match="Expected `str`, got `float`"):
        parse("liquidations", {"e": "forceOrder", "o": order(**{field: 82651.9})})


@pytest.mark.parametrize("time_ms", [-1, 253_402_300_800_000, 1.5, "1791565602120", None])
def test_a_time_that_fits_no_table_is_refused(time_ms):
    with pytest.raises(MalformedFrameError):
        parse("liquidations", {"e": "forceOrder", "o": order(T=time_ms)})


@pytest.mark.parametrize("payload", [{"e": "forceOrder"}, {"stream": "!forceOrder@arr", "data": {"e": "forceOrder"}}])
def test_a_liquidation_without_its_order_is_refused(payload):
    with pytest.raises(MalformedFrameError, match="no order"):
        parse("liquidations", payload)


def test_an_event_whose_order_field_means_something_else_is_unknown_and_not_malformed():
    with pytest.raises(UnknownFrameError, match="event '24hrTicker'"):
        parse("liquidations", {"e": "24hrTicker", "o": "82000.00"})


def test_an_order_without_its_event_type_is_unknown():
    with pytest.raises(UnknownFrameError, match="event ''"):
        parse("liquidations", {"o": order()})


def test_contracts_in_which_nobody_has_a_position_are_left_out():
    kept = {event.symbol for event in parse("instruments", fixture("binance/exchange_info.json")) if hasattr(event, "symbol")}

    assert not kept & {"NEWUSDT", "FTTUSDT"}


@pytest.mark.parametrize("contract_type", ["CURRENT_QUARTER_DELIVERING", "CURRENT_QUARTER DELIVERING"])
def test_a_contract_type_is_known_in_both_spellings(contract_type):
    contract = json.loads(fixture("binance/exchange_info.json"))["symbols"][3] | {"contractType": contract_type}

    assert parse("instruments", {"symbols": [contract]}) == [
        instrument("BTCUSDT_261225", "BTC", "USDT", "USDT", is_perpetual=False),
    ]


def test_a_list_whose_every_contract_is_unknown_is_refused_whole():
    contracts = json.loads(fixture("binance/exchange_info.json"))["symbols"][-1:]

    with pytest.raises(UnknownFrameError, match="contract type 'FORTNIGHTLY' of ODDUSDT"):
        parse("instruments", {"symbols": contracts})


def test_one_malformed_mark_price_does_not_cost_the_others():
    rows = json.loads(fixture("binance/premium_index_of_all.json"))
    rows[0]["markPrice"] = 82651.9

    assert parse("mark-price", rows) == [
        refusal("MalformedFrameError", "Expected `str`, got `float` - at `$.markPrice`"),
        EXPECTED["premium_index_of_all.json"][1][1],
    ]


def test_the_newest_of_several_ratios_counts():
    rows = [{"symbol": "BTCUSDT", "longShortRatio": str(n), "timestamp": n} for n in (1, 3, 2)]

    assert parse("long-short-ratio/BTCUSDT", rows) == [derivatives("BTCUSDT", 3000, long_short_ratio="3")]


def test_an_answer_of_another_shape_that_is_no_refusal_is_malformed():
    with pytest.raises(MalformedFrameError, match="missing required field `symbols`"):
        parse("instruments", {"serverTime": 1791565600000})


def test_a_symbol_without_ratios_says_nothing():
    assert parse("long-short-ratio/BTCUSDT", []) == []


def test_a_book_whose_feed_names_no_symbol_is_refused():
    with pytest.raises(MalformedFrameError, match="the feed 'binance-usdm/depth' names no symbol"):
        parse("depth", fixture("binance/depth.json"))


@pytest.mark.parametrize("channel", sorted(BINANCE_USDM.parsers))
@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS, ids=range(len(HOSTILE_PAYLOADS)))
def test_hostile_payloads_are_read_or_refused(channel, payload):
    read_or_refuse(BINANCE_USDM.parsers[channel], f"{VENUE}/{channel}/BTCUSDT", payload)


@given(channel=st.sampled_from(sorted(BINANCE_USDM.parsers)), payload=st.binary() | mutated(fixtures_of("binance")))
def test_any_bytes_are_read_or_refused(channel, payload):
    read_or_refuse(BINANCE_USDM.parsers[channel], f"{VENUE}/{channel}/BTCUSDT", payload)


def test_one_connection_brings_every_symbol():
    assert BINANCE_USDM.websockets(BINANCE_USDM.endpoints, []) == (
        WebSocketFeed(
            "binance-usdm/liquidations",
            "all",
            "wss://fstream.binance.com/market/ws/!forceOrder@arr",
            lifetime_seconds=86_400.0,
        ),
    )


def test_the_list_of_contracts_is_one_page():
    (poll,) = BINANCE_USDM.instrument_polls(SIMULATED)

    assert poll == PollFeed("binance-usdm/instruments", "http://127.0.0.1:1234/binance-usdm/fapi/v1/exchangeInfo", 3600.0)
    assert BINANCE_USDM.next_instrument_page(poll, fixture("binance/exchange_info.json")) is None


def test_a_watched_contract_is_polled_for_everything_that_is_scored():
    rest = "http://127.0.0.1:1234/binance-usdm"

    assert BINANCE_USDM.polls(SIMULATED, [instrument("BTCUSDT", "BTC", "USDT", "USDT")]) == [
        PollFeed("binance-usdm/funding-info", f"{rest}/fapi/v1/fundingInfo", 300.0),
        PollFeed("binance-usdm/mark-price/BTCUSDT", f"{rest}/fapi/v1/premiumIndex?symbol=BTCUSDT", 10.0),
        PollFeed("binance-usdm/open-interest/BTCUSDT", f"{rest}/fapi/v1/openInterest?symbol=BTCUSDT", 15.0),
        PollFeed(
            "binance-usdm/long-short-ratio/BTCUSDT",
            f"{rest}/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT&period=5m&limit=1",
            300.0,
        ),
        PollFeed("binance-usdm/depth/BTCUSDT", f"{rest}/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 10.0, 20.0),
    ]


def test_nothing_is_polled_when_nothing_is_watched():
    assert BINANCE_USDM.polls(SIMULATED, []) == ()


def test_a_symbol_in_another_script_is_escaped_in_the_url_but_not_in_the_name():
    polls = {poll.name: poll.url for poll in BINANCE_USDM.polls(SIMULATED, [instrument("币USDT", "币", "USDT", "USDT")])}

    assert polls["binance-usdm/open-interest/币USDT"].endswith("?symbol=%E5%B8%81USDT")


@pytest.mark.parametrize(("count", "mark_price_calls"), [(20, 20), (21, 1)])
def test_many_mark_prices_are_cheaper_in_one_call(count, mark_price_calls):
    watched = [instrument(f"C{n}USDT", f"C{n}", "USDT", "USDT") for n in range(count)]

    polls = [poll for poll in BINANCE_USDM.polls(SIMULATED, watched) if poll.name.startswith("binance-usdm/mark-price")]

    assert len(polls) == mark_price_calls
    assert sum(poll.weight for poll in polls) <= 20


@given(st.integers(1, 100))
def test_a_hundred_watched_contracts_keep_within_the_rate_limit(count):
    watched = [instrument(f"C{n}USDT", f"C{n}", "USDT", "USDT") for n in range(count)]

    weight_per_minute = sum(poll.weight * 60 / poll.every_seconds for poll in BINANCE_USDM.polls(SIMULATED, watched))

    assert RateLimit(2400, 60.0) == BINANCE_USDM.rate_limit
    assert weight_per_minute <= 2400
