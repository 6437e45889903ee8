import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_frames import CAUSE, HOSTILE_PAYLOADS, fixture, fixtures_of, frame, mutated, read_or_refuse, refusal

from connectors.sources.feed import Endpoints, KeepAlive, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import MalformedFrameError, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.bybit import BYBIT_INVERSE, BYBIT_LINEAR
from market.raw import Completeness, ContractKind, PositionSide, RawBookDepth, RawDerivatives, RawInstrument, RawLiquidation

SIMULATED = Endpoints("http://127.0.0.1:1234/bybit", "ws://127.0.0.1:1234/bybit")
PAGE = PollFeed(
    "bybit-linear/instruments", "http://127.0.0.1:1234/bybit/v5/market/instruments-info?category=linear&limit=1000", 3600.0
)


def liquidation(symbol, position_side, price, contract_quantity, time_ms, *, venue="bybit-linear"):
    return RawLiquidation(CAUSE, venue, symbol, position_side, price, contract_quantity, Completeness.FULL, time_ms * 1000)


def linear(symbol, base="BTC", quote="USDT", *, hours="8", is_perpetual=True):
    kind = ContractKind.LINEAR
    return RawInstrument(CAUSE, "bybit-linear", symbol, base, quote, quote, kind, "1", is_perpetual, hours)


def inverse(symbol, base="BTC", *, hours="8", is_perpetual=True):
    kind = ContractKind.INVERSE
    return RawInstrument(CAUSE, "bybit-inverse", symbol, base, "USD", base, kind, "1", is_perpetual, hours)


EXPECTED = {
    "liquidations.json": (
        "bybit-linear/liquidations",
        [
            liquidation("BTCUSDT", PositionSide.LONG, "82396.90", "0.006", 1791565600992),
            liquidation("BTCUSDT", PositionSide.LONG, "82394.30", "0.038", 1791565601058),
        ],
    ),
    "liquidation_of_a_short.json": (
        "bybit-linear/liquidations",
        [liquidation("ADAUSDT", PositionSide.SHORT, "0.1915", "13248", 1786014946933)],
    ),
    "subscribed.json": ("bybit-linear/liquidations", []),
    "pong.json": ("bybit-inverse/liquidations", []),
    "instruments_linear.json": (
        "bybit-linear/instruments",
        [
            linear("BTCUSDT"),
            linear("BTCPERP", quote="USDC"),
            linear("1000PEPEUSDT", "1000PEPE", hours="4"),
            linear("BTCUSDT-25DEC26", hours=None, is_perpetual=False),
            refusal("UnknownFrameError", "contract type 'LinearOddity' of ODDUSDT"),
        ],
    ),
    "instruments_inverse.json": (
        "bybit-inverse/instruments",
        [inverse("BTCUSD"), inverse("BTCUSDZ26", hours=None, is_perpetual=False)],
    ),
    "tickers_linear.json": (
        "bybit-linear/tickers/BTCUSDT",
        [
            RawDerivatives(
                CAUSE,
                "bybit-linear",
                "BTCUSDT",
                1791565603000000,
                mark_price="82651.20",
                index_price="82689.70",
                open_interest_contracts="52774.028",
                funding_rate="-0.00002143",
                funding_interval_hours="8",
            ),
        ],
    ),
    "tickers_inverse.json": (
        "bybit-inverse/tickers/BTCUSD",
        [
            RawDerivatives(
                CAUSE,
                "bybit-inverse",
                "BTCUSD",
                1791565603000000,
                mark_price="82655.40",
                index_price="82690.20",
                open_interest_contracts="224868337.5",
                funding_rate="0.0001",
                funding_interval_hours="8",
            ),
            RawDerivatives(
                CAUSE, "bybit-inverse", "BTCUSDZ26", 1791565603000000, mark_price="83120.00", index_price="82690.20"
            ),
        ],
    ),
    "account_ratio.json": (
        "bybit-linear/long-short-ratio/BTCUSDT",
        [RawDerivatives(CAUSE, "bybit-linear", "BTCUSDT", 1787372700000000, long_short_ratio="1.171553")],
    ),
    "orderbook.json": (
        "bybit-linear/depth/BTCUSDT",
        [
            RawBookDepth(
                CAUSE,
                "bybit-linear",
                "BTCUSDT",
                1791565602981000,
                bids=(("82650.00", "2.1"), ("82649.90", "0.7")),
                asks=(("82650.10", "0.4"), ("82650.60", "3")),
            ),
        ],
    ),
}

REFUSED = {
    "former_topic.json": ("bybit-inverse/liquidations", UnknownFrameError, "topic 'liquidation.ETHUSD' of type ''"),
    "former_topic_2023.json": (
        "bybit-linear/liquidations",
        UnknownFrameError,
        "topic 'liquidation.GALAUSDT' of type 'snapshot'",
    ),
    "tickers_topic.json": ("bybit-linear/liquidations", UnknownFrameError, "topic 'tickers.BTCUSDT' of type 'delta'"),
    "subscription_refused.json": (
        "bybit-linear/liquidations",
        RefusedFrameError,
        "subscribe: error:handler not found,topic:allLiquidation.NOSUCHUSDT",
    ),
    "request_refused.json": ("bybit-linear/tickers/NOSUCHUSDT", RefusedFrameError, "10001: params error: Symbol Invalid"),
}


def parse(feed, payload):
    return BYBIT_LINEAR.parsers[feed.split("/")[1]](frame(feed, payload))


def push(*items, topic="allLiquidation.BTCUSDT", kind="snapshot"):
    return {"topic": topic, "type": kind, "ts": 1791565601482, "data": list(items)}


def item(**changed):
    return {"T": 1791565600992, "s": "BTCUSDT", "S": "Buy", "v": "0.006", "p": "82396.90"} | changed


def answer(*rows):
    return {"retCode": 0, "retMsg": "OK", "result": {"list": list(rows)}, "time": 1791565603000}


def ratio(buy, sell, timestamp="1787372700000"):
    return {"symbol": "BTCUSDT", "buyRatio": buy, "sellRatio": sell, "timestamp": timestamp}


def subscribed(websocket):
    return [json.loads(message) for message in websocket.subscribe]


def test_every_fixture_has_its_expectation():
    assert fixtures_of("bybit") == {f"bybit/{name}" for name in EXPECTED | REFUSED}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fixture_gives_exactly_its_events(name):
    feed, events = EXPECTED[name]

    assert parse(feed, fixture(f"bybit/{name}")) == events


@pytest.mark.parametrize("name", REFUSED)
def test_each_refused_fixture_is_refused_with_its_words(name):
    feed, error, words = REFUSED[name]

    with pytest.raises(error) as caught:
        parse(feed, fixture(f"bybit/{name}"))

    assert (type(caught.value), str(caught.value)) == (error, words)


def test_the_venue_of_a_liquidation_is_its_feeds():
    assert parse("bybit-inverse/liquidations", push(item(s="BTCUSD", S="Sell", v="3655"))) == [
        liquidation("BTCUSD", PositionSide.SHORT, "82396.90", "3655", 1791565600992, venue="bybit-inverse"),
    ]


def test_a_push_of_nothing_says_nothing():
    assert parse("bybit-linear/liquidations", push()) == []


def test_an_unknown_side_costs_its_item_and_not_the_others():
    assert parse("bybit-linear/liquidations", push(item(S="Both"), item())) == [
        refusal("UnknownFrameError", "position side 'Both' of BTCUSDT"),
        liquidation("BTCUSDT", PositionSide.LONG, "82396.90", "0.006", 1791565600992),
    ]


def test_a_number_where_text_is_expected_is_refused_and_not_rounded():
    assert parse("bybit-linear/liquidations", push(item(), item(p=82396.9))) == [
        liquidation("BTCUSDT", PositionSide.LONG, "82396.90", "0.006", 1791565600992),
        refusal("MalformedFrameError", "Expected `str`, got `float` - at `$.p`"),
    ]


def test_a_push_of_nothing_but_unknown_sides_is_refused_whole():
    with pytest.raises(UnknownFrameError, match="position side 'Both' of BTCUSDT"):
        parse("bybit-linear/liquidations", push(item(S="Both"), item(S="None")))


@pytest.mark.parametrize("payload", [push(item(), kind="delta"), {"op": "auth", "success": True}, {}])
def test_what_nobody_has_shown_us_is_unknown(payload):
    with pytest.raises(UnknownFrameError):
        parse("bybit-linear/liquidations", payload)


def test_a_push_that_is_no_list_is_malformed():
    with pytest.raises(MalformedFrameError):
        parse("bybit-linear/liquidations", push() | {"data": {}})


def test_a_symbol_without_ratios_says_nothing():
    assert parse("bybit-linear/long-short-ratio/BTCUSDT", answer()) == []


def test_the_newest_of_several_ratios_counts():
    rows = [ratio("0.5", "0.5", "1000"), ratio("0.75", "0.25", "3000"), ratio("0.2", "0.8", "2000")]

    assert parse("bybit-linear/long-short-ratio/BTCUSDT", answer(*rows)) == [
        RawDerivatives(CAUSE, "bybit-linear", "BTCUSDT", 3000000, long_short_ratio="3"),
    ]


@pytest.mark.parametrize(("buy", "sell"), [("1", "0"), ("1", "0.0000"), ("-1", "2"), ("NaN", "1"), ("1", "1e3"), ("", "1")])
def test_a_ratio_that_has_no_number_is_refused(buy, sell):
    with pytest.raises(MalformedFrameError):
        parse("bybit-linear/long-short-ratio/BTCUSDT", answer(ratio(buy, sell)))


@pytest.mark.parametrize(("both_sides", "one_side"), [("1", "0.5"), ("105548.0560", "52774.028"), ("10", "5"), ("0", "0")])
def test_open_interest_of_both_sides_is_halved_exactly(both_sides, one_side):
    (event,) = parse("bybit-linear/tickers/BTCUSDT", answer({"symbol": "BTCUSDT", "openInterest": both_sides}))

    assert event == RawDerivatives(CAUSE, "bybit-linear", "BTCUSDT", 1791565603000000, open_interest_contracts=one_side)


@pytest.mark.parametrize(("minutes", "hours"), [(60, "1"), (30, "0.5"), (20, "0.333333")])
def test_funding_intervals_come_in_minutes(minutes, hours):
    row = json.loads(fixture("bybit/instruments_linear.json"))["result"]["list"][0] | {"fundingInterval": minutes}

    assert parse("bybit-linear/instruments", answer(row)) == [linear("BTCUSDT", hours=hours)]


@pytest.mark.parametrize("channel", sorted(BYBIT_LINEAR.parsers))
@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS, ids=range(len(HOSTILE_PAYLOADS)))
def test_hostile_payloads_are_read_or_refused(channel, payload):
    read_or_refuse(BYBIT_LINEAR.parsers[channel], f"bybit-linear/{channel}/BTCUSDT", payload)


@given(channel=st.sampled_from(sorted(BYBIT_LINEAR.parsers)), payload=st.binary() | mutated(fixtures_of("bybit")))
def test_any_bytes_are_read_or_refused(channel, payload):
    read_or_refuse(BYBIT_LINEAR.parsers[channel], f"bybit-linear/{channel}/BTCUSDT", payload)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", fixture("bybit/request_refused.json"), fixture("bybit/instruments_inverse.json")]
)
def test_a_page_without_a_next_one_is_the_last(payload):
    assert BYBIT_LINEAR.next_instrument_page(PAGE, payload) is None


@given(st.binary() | mutated({"bybit/instruments_linear.json"}))
def test_any_bytes_name_a_next_page_or_none(payload):
    following = BYBIT_LINEAR.next_instrument_page(PAGE, payload)

    assert following is None or following.url.startswith(f"{PAGE.url}&cursor=")


def test_the_list_of_contracts_is_read_page_after_page():
    (first,) = BYBIT_LINEAR.instrument_polls(SIMULATED)
    second = BYBIT_LINEAR.next_instrument_page(first, fixture("bybit/instruments_linear.json"))

    assert first == PAGE
    assert second == PollFeed(PAGE.name, f"{PAGE.url}&cursor=first%3DBTCUSDT%26last%3DODDUSDT", 3600.0)
    assert BYBIT_LINEAR.next_instrument_page(second, fixture("bybit/instruments_inverse.json")) is None


def test_a_page_that_names_itself_as_the_next_is_the_last():
    second = BYBIT_LINEAR.next_instrument_page(PAGE, fixture("bybit/instruments_linear.json"))

    assert BYBIT_LINEAR.next_instrument_page(second, fixture("bybit/instruments_linear.json")) is None


def test_a_cursor_that_is_not_escaped_is_escaped():
    page = answer()
    page["result"]["nextPageCursor"] = "first=A&last=B"

    following = BYBIT_LINEAR.next_instrument_page(PAGE, json.dumps(page).encode())

    assert following.url == f"{PAGE.url}&cursor=first%3DA%26last%3DB"


def test_every_symbol_is_subscribed_once_and_in_order():
    watched = [inverse("ETHUSD"), inverse("BTCUSD"), inverse("BTCUSD")]

    assert BYBIT_INVERSE.websockets(BYBIT_INVERSE.endpoints, watched) == [
        WebSocketFeed(
            "bybit-inverse/liquidations",
            "1",
            "wss://stream.bybit.com/v5/public/inverse",
            ('{"op":"subscribe","args":["allLiquidation.BTCUSD","allLiquidation.ETHUSD"]}',),
            KeepAlive('{"op":"ping"}', 20.0),
        ),
    ]


def test_without_symbols_there_is_nothing_to_connect_for():
    assert BYBIT_LINEAR.websockets(BYBIT_LINEAR.endpoints, []) == []


def test_a_message_has_at_most_two_hundred_topics():
    (websocket,) = BYBIT_LINEAR.websockets(SIMULATED, [linear(f"C{n:03}USDT") for n in range(401)])

    assert [len(message["args"]) for message in subscribed(websocket)] == [200, 200, 1]


@given(st.integers(0, 2500), st.integers(1, 40))
def test_connections_stay_below_the_limit_and_lose_no_symbol(count, length):
    symbols = [f"{n:0{length}}USDT" for n in range(count)]

    websockets = BYBIT_LINEAR.websockets(SIMULATED, [linear(symbol) for symbol in symbols])

    topics = [[topic for message in subscribed(websocket) for topic in message["args"]] for websocket in websockets]
    assert all(len(json.dumps(args, separators=(",", ":"))) < 21_000 for args in topics)
    assert sorted(topic for args in topics for topic in args) == sorted(f"allLiquidation.{symbol}" for symbol in symbols)
    assert [websocket.connection for websocket in websockets] == [str(n) for n in range(1, len(websockets) + 1)]


def test_a_watched_contract_is_polled_for_everything_that_is_scored():
    market = "http://127.0.0.1:1234/bybit/v5/market"

    assert BYBIT_INVERSE.polls(SIMULATED, [inverse("BTCUSD")]) == [
        PollFeed("bybit-inverse/tickers/BTCUSD", f"{market}/tickers?category=inverse&symbol=BTCUSD", 10.0),
        PollFeed("bybit-inverse/depth/BTCUSD", f"{market}/orderbook?category=inverse&symbol=BTCUSD&limit=500", 10.0),
        PollFeed(
            "bybit-inverse/long-short-ratio/BTCUSD",
            f"{market}/account-ratio?category=inverse&symbol=BTCUSD&period=5min&limit=1",
            300.0,
        ),
    ]


def test_no_ratio_is_asked_for_contracts_in_usdc():
    polls = BYBIT_LINEAR.polls(SIMULATED, [linear("BTCPERP", quote="USDC")])

    assert [poll.name for poll in polls] == ["bybit-linear/tickers/BTCPERP", "bybit-linear/depth/BTCPERP"]


def test_the_rate_limit_is_the_vendors():
    assert BYBIT_LINEAR.rate_limit == RateLimit(600, 5.0)
