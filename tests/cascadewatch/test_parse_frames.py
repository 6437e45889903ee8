import json
from pathlib import Path

import pytest

from cascadewatch.parse_frames import FrameReader

FIXTURES = Path(__file__).parents[1] / "connectors" / "venues" / "fixtures"

RECEIVED_US = 1_791_565_700_000_000  # a minute and a half after the newest fixture

OKX_LISTS = ("okx/instruments_swap.json", "okx/instruments_futures.json")


def fixture(name):
    return (FIXTURES / name).read_bytes()


def reader(venue, *lists):
    return FrameReader(venue, [fixture(name) for name in lists], received_us=RECEIVED_US)


def event(venue, symbol, **values):
    return {"venue": venue, "symbol": symbol, "asset": symbol[:3], **values}


BINANCE_LONG = event(
    "binance-usdm",
    "BTCUSDT",
    position_side="LONG",
    price=82651.9,
    base_quantity=0.19,
    notional_usd=15703.861,
    event_time="2026-10-09T17:06:42.120000+00:00",
)
BYBIT_LONGS = [
    event(
        "bybit-linear",
        "BTCUSDT",
        position_side="LONG",
        price=82396.9,
        base_quantity=0.006,
        notional_usd=494.3814,
        event_time="2026-10-09T17:06:40.992000+00:00",
    ),
    event(
        "bybit-linear",
        "BTCUSDT",
        position_side="LONG",
        price=82394.3,
        base_quantity=0.038,
        notional_usd=3130.9834,
        event_time="2026-10-09T17:06:41.058000+00:00",
    ),
]
BYBIT_INVERSE_SHORT = event(
    "bybit-inverse",
    "BTCUSD",
    position_side="SHORT",
    price=80000.0,
    base_quantity=0.015,
    notional_usd=1200.0,
    event_time="2026-10-09T17:06:40.992000+00:00",
)
OKX_LONG = event(
    "okx",
    "BTC-USDT-SWAP",
    position_side="LONG",
    price=82655.7,
    base_quantity=0.0855,
    notional_usd=7067.06235,
    event_time="2026-10-09T17:06:40.771000+00:00",
)


def bybit_inverse_frame(symbol="BTCUSD"):
    row = {"T": 1791565600992, "s": symbol, "S": "Sell", "v": "1200", "p": "80000"}
    return json.dumps({"topic": f"allLiquidation.{symbol}", "type": "snapshot", "ts": 1791565601482, "data": [row]}).encode()


def unknown(venue, symbol):
    return {"refused": f"no list of instruments of {venue} has named {symbol!r}", "error": "UnknownSymbolError"}


@pytest.mark.parametrize(
    ("venue", "lists", "frame", "events"),
    [
        ("binance-usdm", ["binance/exchange_info.json"], fixture("binance/liquidation_wrapped.json"), [BINANCE_LONG]),
        ("bybit-linear", ["bybit/instruments_linear.json"], fixture("bybit/liquidations.json"), BYBIT_LONGS),
        ("bybit-inverse", ["bybit/instruments_inverse.json"], bybit_inverse_frame(), [BYBIT_INVERSE_SHORT]),
        ("okx", OKX_LISTS, fixture("okx/liquidation.json"), [OKX_LONG]),
    ],
)
def test_a_frame_is_measured_by_the_venues_own_list(venue, lists, frame, events):
    measured = reader(venue, *lists)

    assert measured.read(frame) == {"events": events}
    assert not measured.is_spelling_contracts


@pytest.mark.parametrize(
    ("venue", "frame", "events"),
    [
        ("binance-usdm", fixture("binance/liquidation_wrapped.json"), [BINANCE_LONG]),
        ("bybit-linear", fixture("bybit/liquidations.json"), BYBIT_LONGS),
        ("bybit-inverse", bybit_inverse_frame(), [BYBIT_INVERSE_SHORT]),
    ],
)
def test_without_a_list_contracts_of_one_coin_or_dollar_are_read_off_their_symbols(venue, frame, events):
    spelled = reader(venue)

    assert spelled.read(frame) == {"events": events}
    assert spelled.is_spelling_contracts
    assert spelled.problems == []


def test_a_symbols_multiplier_is_read_off_it_too():
    frame = fixture("binance/liquidation_wrapped.json").replace(b"BTCUSDT", b"1000PEPEUSDT").replace(b"82651.90", b"0.012")

    (pepe,) = reader("binance-usdm").read(frame)["events"]

    assert (pepe["asset"], pepe["base_quantity"]) == ("PEPE", 190.0)
    assert pepe["price"] == pytest.approx(0.000012)


def test_a_dated_contract_is_spelled_out_as_well():
    dated = fixture("binance/liquidation_wrapped.json").replace(b"BTCUSDT", b"BTCUSDT_261225")

    assert reader("binance-usdm").read(dated) == {"events": [{**BINANCE_LONG, "symbol": "BTCUSDT_261225"}]}
    assert reader("bybit-inverse").read(bybit_inverse_frame("BTCUSDZ26")) == {
        "events": [{**BYBIT_INVERSE_SHORT, "symbol": "BTCUSDZ26"}]
    }


def test_a_symbol_that_the_venues_rules_do_not_spell_is_refused_never_guessed():
    coin_margined = fixture("binance/liquidation_of_a_coin_margined_contract.json")

    assert reader("binance-usdm").read(coin_margined) == unknown("binance-usdm", "BTCUSD_200925")
    assert reader("bybit-inverse").read(fixture("bybit/liquidations.json")) == unknown("bybit-inverse", "BTCUSDT")


def test_okx_counts_in_contracts_so_without_a_list_every_symbol_is_unknown():
    bare = reader("okx")

    assert bare.read(fixture("okx/liquidation.json")) == unknown("okx", "BTC-USDT-SWAP")
    assert not bare.is_spelling_contracts


def test_a_list_that_does_not_name_the_symbol_is_not_helped_out_by_its_spelling():
    listed = reader("binance-usdm", "binance/exchange_info.json")

    assert listed.read(fixture("binance/liquidation.json")) == unknown("binance-usdm", "MANTAUSDT")


def test_several_lists_make_one_table():
    frame = fixture("okx/liquidations_of_net_positions.json")

    both = reader("okx", *OKX_LISTS).read(frame)
    swaps_alone = reader("okx", OKX_LISTS[0]).read(frame)

    assert [(found["symbol"], found["position_side"], found["notional_usd"]) for found in both["events"]] == [
        ("BTC-USD-261225", "LONG", 1200.0),
        ("BTC-USD-261225", "SHORT", 300.0),
    ]
    assert swaps_alone == unknown("okx", "BTC-USD-261225")


def test_a_frame_of_which_a_part_is_refused_says_both():
    answer = reader("okx", *OKX_LISTS).read(fixture("okx/liquidations_of_net_positions.json"))

    assert {key: value for key, value in answer.items() if key != "events"} == unknown("okx", "ETH-USD-261225")
    assert len(answer["events"]) == 2


@pytest.mark.parametrize(
    ("venue", "name"),
    [
        ("binance-usdm", "binance/subscribed.json"),
        ("bybit-linear", "bybit/subscribed.json"),
        ("bybit-inverse", "bybit/pong.json"),
        ("okx", "okx/subscribed.json"),
        ("okx", "okx/pong.txt"),
    ],
)
def test_what_says_nothing_gives_no_events(venue, name):
    assert reader(venue).read(fixture(name)) == {"events": []}


@pytest.mark.parametrize(
    ("venue", "frame", "refused", "error"),
    [
        ("binance-usdm", b"{nonsense", None, "MalformedFrameError"),
        ("binance-usdm", b"\xff\xfe", None, "MalformedFrameError"),
        ("binance-usdm", b'{"e":"bookTicker"}', "event 'bookTicker'", "UnknownFrameError"),
        ("okx", fixture("okx/error.json"), "60012: Invalid request", "RefusedFrameError"),
        (
            "bybit-linear",
            fixture("bybit/former_topic.json"),
            "topic 'liquidation.ETHUSD' of type ''",
            "UnknownFrameError",
        ),
    ],
)
def test_a_refusal_has_its_reason_and_its_class(venue, frame, refused, error):
    answer = reader(venue).read(frame)

    assert answer["error"] == error
    assert answer["refused"] == (refused or answer["refused"])
    assert answer["refused"]
    assert set(answer) == {"refused", "error"}


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b'"z":"0.190"', b'"z":"-0.190"', "AbsurdValueError"),
        (b'"z":"0.190"', b'"z":"1e12"', "AbsurdValueError"),
        (b'"T":1791565602120', b'"T":1791565760001', "FutureTimeError"),
    ],
)
def test_what_the_flow_would_not_measure_is_refused_here_too(old, new, error):
    frame = fixture("binance/liquidation_wrapped.json")
    assert old in frame

    answer = reader("binance-usdm").read(frame.replace(old, new))

    assert set(answer) == {"refused", "error"}
    assert answer["error"] == error


def test_what_is_wrong_with_a_list_is_told():
    assert reader("okx", "okx/error.json").problems == ["60012: Invalid request"]
    assert reader("bybit-linear", "bybit/pong.json", "bybit/instruments_linear.json").problems == [
        "Object missing required field `retCode`",
        "contract type 'LinearOddity' of ODDUSDT",
    ]


def test_without_a_receive_time_frames_are_taken_as_received_now():
    assert FrameReader("binance-usdm").read(fixture("binance/liquidation_of_a_short.json"))["events"][0]["price"] == 4706.04
