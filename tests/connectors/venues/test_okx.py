import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_frames import CAUSE, HOSTILE_PAYLOADS, fixture, fixtures_of, frame, mutated, read_or_refuse, refusal

from connectors.sources.feed import Endpoints, KeepAlive, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import MalformedFrameError, RefusedFrameError, UnknownFrameError
from connectors.sources.venues.okx import OKX
from market.raw import Completeness, ContractKind, PositionSide, RawBookDepth, RawDerivatives, RawInstrument, RawLiquidation

SIMULATED = Endpoints("http://127.0.0.1:1234/okx", "ws://127.0.0.1:1234/okx")


def liquidation(symbol, position_side, price, contract_quantity, time_ms):
    return RawLiquidation(CAUSE, "okx", symbol, position_side, price, contract_quantity, Completeness.SAMPLED, time_ms * 1000)


def linear(symbol, base="BTC", quote="USDT", settle="USDT", *, size, is_perpetual=True):
    return RawInstrument(CAUSE, "okx", symbol, base, quote, settle, ContractKind.LINEAR, size, is_perpetual)


def inverse(symbol, base="BTC", *, size="100", is_perpetual=True):
    return RawInstrument(CAUSE, "okx", symbol, base, "USD", base, ContractKind.INVERSE, size, is_perpetual)


def derivatives(symbol, time_ms, **said):
    return RawDerivatives(CAUSE, "okx", symbol, time_ms * 1000, **said)


EXPECTED = {
    "liquidation.json": (
        "liquidations",
        [liquidation("BTC-USDT-SWAP", PositionSide.LONG, "82655.7", "8.55", 1791565600771)],
    ),
    "liquidation_of_two_contracts.json": (
        "liquidations",
        [liquidation("MUBARAK-USDT-SWAP", PositionSide.LONG, "0.072682", "2", 1791435480289)],
    ),
    "liquidations_of_net_positions.json": (
        "liquidations",
        [
            liquidation("BTC-USD-261225", PositionSide.LONG, "82400.1", "12", 1791565600771),
            liquidation("BTC-USD-261225", PositionSide.SHORT, "82900", "3", 1791565600790),
            liquidation("ETH-USD-261225", PositionSide.SHORT, "2811.4", "40", 1791565600801),
        ],
    ),
    "subscribed.json": ("liquidations", []),
    "notice.json": ("liquidations", []),
    "connection_count.json": ("liquidations", []),
    "pong.txt": ("liquidations", []),
    "instruments_swap.json": (
        "instruments/SWAP",
        [
            linear("BTC-USDT-SWAP", size="0.01"),
            inverse("BTC-USD-SWAP"),
            linear("BTC-USD_UM-SWAP", quote="USD", settle="USDⓈ", size="0.001"),
            linear("PEPE-USDT-SWAP", "PEPE", size="10000000"),
            refusal("UnknownFrameError", "contract type '' of ODD-USDT-SWAP"),
            refusal("UnknownFrameError", "inverse contract counted in 'BTC': ODD-BTC-SWAP"),
            refusal("UnknownFrameError", "linear contract counted in 'USDT': QUO-USDT-SWAP"),
        ],
    ),
    "instruments_futures.json": (
        "instruments/FUTURES",
        [
            inverse("BTC-USD-261225", is_perpetual=False),
            linear("BTC-USDT-261225", size="0.01", is_perpetual=False),
            refusal("UnknownFrameError", "instrument type 'OPTION' of BTC-USD-261225-90000-C"),
        ],
    ),
    "mark_price.json": (
        "mark-price/BTC-USDT-SWAP",
        [derivatives("BTC-USDT-SWAP", 1791565602310, mark_price="82653.9")],
    ),
    "index_tickers.json": (
        "index-price/BTC-USDT-SWAP",
        [derivatives("BTC-USDT-SWAP", 1791565602202, index_price="82690.4")],
    ),
    "funding_rate.json": (
        "funding-rate/BTC-USDT-SWAP",
        [derivatives("BTC-USDT-SWAP", 1791565602114, funding_rate="-0.0000312", funding_interval_hours="8")],
    ),
    "open_interest.json": (
        "open-interest/ETH-USDT-SWAP",
        [
            derivatives("ETH-USDT-SWAP", 1790165111452, open_interest_contracts="6385848.98"),
            derivatives("CETUS-USDT-SWAP", 1701388800898, open_interest_contracts="4065123"),
        ],
    ),
    "account_ratio.json": (
        "long-short-ratio/BTC-USDT-SWAP",
        [derivatives("BTC-USDT-SWAP", 1787372700000, long_short_ratio="1.2740831113213654")],
    ),
    "books.json": (
        "depth/BTC-USDT-SWAP",
        [
            RawBookDepth(
                CAUSE,
                "okx",
                "BTC-USDT-SWAP",
                1791565602450000,
                bids=(("82650.2", "12"), ("82650", "88.4")),
                asks=(("82650.3", "311.2"), ("82650.4", "0.01")),
            ),
        ],
    ),
}

REFUSED = {
    "error.json": ("liquidations", RefusedFrameError, "60012: Invalid request"),
    "too_many_connections.json": ("liquidations", RefusedFrameError, "60030: Too many connections"),
    "request_refused.json": ("mark-price/NO-SUCH-SWAP", RefusedFrameError, "51001: Instrument ID doesn't exist"),
}


def parse(channel_and_subject, payload):
    return OKX.parsers[channel_and_subject.split("/")[0]](frame(f"okx/{channel_and_subject}", payload))


def push(*orders, channel="liquidation-orders"):
    return {"arg": {"channel": channel, "instType": "SWAP"}, "data": list(orders)}


def order(*details, symbol="BTC-USDT-SWAP", instrument_type="SWAP"):
    return {"instId": symbol, "instType": instrument_type, "details": list(details)}


def detail(**changed):
    return {"bkPx": "82655.7", "posSide": "long", "side": "sell", "sz": "8.55", "ts": "1791565600771"} | changed


GOOD = liquidation("BTC-USDT-SWAP", PositionSide.LONG, "82655.7", "8.55", 1791565600771)


def test_every_fixture_has_its_expectation():
    assert fixtures_of("okx") == {f"okx/{name}" for name in EXPECTED | REFUSED}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fixture_gives_exactly_its_events(name):
    channel, events = EXPECTED[name]

    assert parse(channel, fixture(f"okx/{name}")) == events


@pytest.mark.parametrize("name", REFUSED)
def test_each_refused_fixture_is_refused_with_its_words(name):
    channel, error, words = REFUSED[name]

    with pytest.raises(error) as caught:
        parse(channel, fixture(f"okx/{name}"))

    assert (type(caught.value), str(caught.value)) == (error, words)


def test_a_side_that_the_position_has_itself_wins_over_the_orders():
    assert parse("liquidations", push(order(detail(posSide="short", side="")))) == [
        liquidation("BTC-USDT-SWAP", PositionSide.SHORT, "82655.7", "8.55", 1791565600771),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (detail(posSide="both"), "position side 'both' with order side 'sell' of BTC-USDT-SWAP"),
        (detail(posSide="net", side="close"), "position side 'net' with order side 'close' of BTC-USDT-SWAP"),
    ],
)
def test_an_unknown_side_costs_its_item_and_not_the_others(bad, reason):
    assert parse("liquidations", push(order(detail(), bad))) == [GOOD, refusal("UnknownFrameError", reason)]


def test_an_unknown_instrument_type_costs_its_contract_and_not_the_others():
    assert parse("liquidations", push(order(detail(), symbol="BTC-OPTION", instrument_type="OPTION"), order(detail()))) == [
        refusal("UnknownFrameError", "instrument type 'OPTION' of BTC-OPTION"),
        GOOD,
    ]


@pytest.mark.parametrize("sz", [8.55, 8, None])
def test_a_number_where_text_is_expected_is_refused_and_not_rounded(sz):
    with pytest.raises(MalformedFrameError, match="Expected `str`"):
        parse("liquidations", push(order(detail(sz=sz))))


@pytest.mark.parametrize("ts", ["", "-1", "1e3", "1_0", "１２", "1" * 15, " 1", "1\n"])
def test_a_time_that_is_no_number_is_refused(ts):
    with pytest.raises(MalformedFrameError):
        parse("liquidations", push(order(detail(ts=ts))))


def test_a_push_of_nothing_but_unknown_sides_is_refused_whole():
    with pytest.raises(UnknownFrameError):
        parse("liquidations", push(order(detail(posSide="both"))))


@pytest.mark.parametrize("payload", [push(channel="adl-warning"), {"event": "login"}, {}])
def test_what_nobody_has_shown_us_is_unknown(payload):
    with pytest.raises(UnknownFrameError):
        parse("liquidations", payload)


def test_a_push_without_data_is_malformed():
    with pytest.raises(MalformedFrameError, match="a push without data"):
        parse("liquidations", {"arg": {"channel": "liquidation-orders"}})


@pytest.mark.parametrize(
    ("times", "hours"),
    [
        ({"fundingTime": "14400000", "nextFundingTime": "28800000"}, "4"),
        ({"fundingTime": "14400000", "nextFundingTime": "28800000", "prevFundingTime": "10800000"}, "1"),
        ({"fundingTime": "14400000", "nextFundingTime": ""}, None),
        ({"fundingTime": "14400000", "nextFundingTime": "14400000"}, None),
        ({"fundingTime": ""}, None),
        ({}, None),
    ],
)
def test_the_funding_interval_is_the_running_one_or_else_the_next(times, hours):
    row = {"instId": "BTC-USDT-SWAP", "fundingRate": "0.0001", "ts": "1000"} | times

    assert parse("funding-rate/BTC-USDT-SWAP", {"code": "0", "data": [row]}) == [
        derivatives("BTC-USDT-SWAP", 1000, funding_rate="0.0001", funding_interval_hours=hours),
    ]


def test_a_symbol_without_ratios_says_nothing():
    assert parse("long-short-ratio/BTC-USDT-SWAP", {"code": "0", "data": []}) == []


@pytest.mark.parametrize("channel", ["index-price", "long-short-ratio", "depth"])
def test_an_answer_whose_feed_names_no_symbol_is_refused(channel):
    with pytest.raises(MalformedFrameError, match=f"the feed 'okx/{channel}' names no symbol"):
        parse(channel, {"code": "0", "data": []})


def test_a_multiplier_that_is_no_number_is_refused():
    row = json.loads(fixture("okx/instruments_swap.json"))["data"][0] | {"ctMult": "ten"}

    with pytest.raises(MalformedFrameError, match="not a plain decimal: 'ten'"):
        parse("instruments/SWAP", {"code": "0", "data": [row]})


@pytest.mark.parametrize("channel", sorted(OKX.parsers))
@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS, ids=range(len(HOSTILE_PAYLOADS)))
def test_hostile_payloads_are_read_or_refused(channel, payload):
    read_or_refuse(OKX.parsers[channel], f"okx/{channel}/BTC-USDT-SWAP", payload)


@given(channel=st.sampled_from(sorted(OKX.parsers)), payload=st.binary() | mutated(fixtures_of("okx")))
def test_any_bytes_are_read_or_refused(channel, payload):
    read_or_refuse(OKX.parsers[channel], f"okx/{channel}/BTC-USDT-SWAP", payload)


def test_one_connection_brings_swaps_and_futures():
    swaps = '{"channel":"liquidation-orders","instType":"SWAP"}'
    futures = '{"channel":"liquidation-orders","instType":"FUTURES"}'

    assert OKX.websockets(OKX.endpoints, []) == (
        WebSocketFeed(
            "okx/liquidations",
            "all",
            "wss://ws.okx.com:8443/ws/v5/public",
            (f'{{"op":"subscribe","args":[{swaps},{futures}]}}',),
            KeepAlive("ping", 20.0),
        ),
    )


def test_the_lists_of_contracts_have_one_page_each():
    polls = OKX.instrument_polls(SIMULATED)

    assert polls == [
        PollFeed(f"okx/instruments/{kind}", f"http://127.0.0.1:1234/okx/api/v5/public/instruments?instType={kind}", 3600.0)
        for kind in ("SWAP", "FUTURES")
    ]
    assert OKX.next_instrument_page(polls[0], fixture("okx/instruments_swap.json")) is None


def test_a_watched_contract_is_polled_for_everything_that_is_scored():
    api = "http://127.0.0.1:1234/okx/api/v5"
    symbol = "BTC-USD_UM-SWAP"

    assert OKX.polls(SIMULATED, [linear(symbol, quote="USD", settle="USDⓈ", size="0.001")]) == [
        PollFeed(f"okx/mark-price/{symbol}", f"{api}/public/mark-price?instType=SWAP&instId={symbol}", 10.0),
        PollFeed(f"okx/index-price/{symbol}", f"{api}/market/index-tickers?instId=BTC-USD", 10.0),
        PollFeed(f"okx/funding-rate/{symbol}", f"{api}/public/funding-rate?instId={symbol}", 10.0),
        PollFeed(f"okx/open-interest/{symbol}", f"{api}/public/open-interest?instType=SWAP&instId={symbol}", 15.0),
        PollFeed(
            f"okx/long-short-ratio/{symbol}",
            f"{api}/rubik/stat/contracts/long-short-account-ratio-contract?instId={symbol}&period=5m&limit=1",
            300.0,
        ),
        PollFeed(f"okx/depth/{symbol}", f"{api}/market/books?instId={symbol}&sz=400", 10.0),
    ]


def test_a_dated_future_is_asked_for_as_one():
    polls = {poll.name: poll.url for poll in OKX.polls(SIMULATED, [inverse("BTC-USD-261225", is_perpetual=False)])}

    assert "instType=FUTURES&instId=BTC-USD-261225" in polls["okx/mark-price/BTC-USD-261225"]


def test_eighteen_watched_contracts_keep_well_within_the_rate_limit():
    watched = [linear(f"C{n}-USDT-SWAP", f"C{n}", size="1") for n in range(18)]

    weight_per_two_seconds = sum(poll.weight * 2 / poll.every_seconds for poll in OKX.polls(SIMULATED, watched))

    assert RateLimit(20, 2.0) == OKX.rate_limit
    assert weight_per_two_seconds < 18
