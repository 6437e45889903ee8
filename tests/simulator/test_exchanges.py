"""The simulated venues as a client sees them. Expected keys are those of recorded messages and of the vendors' documents."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal

import aiohttp
import pytest
from simulated_client import Tape, exchange, get, post, serving, socket, until

from simulator import sockets
from simulator.scenarios import SCENARIOS, Window
from simulator.sockets import KeepAlive

CALM = SCENARIOS["calm"]
BUSY = replace(
    SCENARIOS["burst"], volley=replace(SCENARIOS["burst"].volley, at=0.4, count=500, lasts=0.5), long_fuel=0.2, short_fuel=0.2
)
ACKNOWLEDGED = {"result": None, "id": 1}


def against(scenario, scene, **options):
    """Play a scene: a coroutine function of URL and session, against a fresh simulation."""

    async def play():
        async with serving(scenario, **options) as (_, url, session):
            await scene(url, session)

    asyncio.run(play())


# What the frames look like.


@pytest.mark.slow
def test_frames_have_the_keys_of_recorded_ones():
    async def scene(url, session):
        async with Tape(session, url).rolling() as tape:
            await until(session, url, 2)
        binance, okx = tape.frames["binance-usdm"][0], tape.frames["okx"][0]
        assert list(binance) == ["e", "E", "o"]
        assert list(binance["o"]) == ["s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T", "ps", "st"]
        assert {type(binance["o"][name]) for name in ("q", "p", "ap", "l", "z")} == {str}
        assert {type(binance["E"]), type(binance["o"]["T"])} == {int}
        for venue in ("bybit-linear", "bybit-inverse"):
            bybit = tape.frames[venue][0]
            assert (list(bybit), bybit["type"], type(bybit["ts"])) == (["topic", "type", "ts", "data"], "snapshot", int)
            assert (list(bybit["data"][0]), type(bybit["data"][0]["T"])) == (["T", "s", "S", "v", "p"], int)
        assert okx["arg"] == {"channel": "liquidation-orders", "instType": "SWAP"}
        assert list(okx["data"][0]) == ["details", "instFamily", "instId", "instType", "uly"]
        detail = okx["data"][0]["details"][0]
        assert list(detail) == ["bkLoss", "bkPx", "ccy", "posSide", "side", "sz", "ts"]
        assert {type(value) for value in detail.values()} == {str}
        details = [detail for frame in tape.frames["okx"] for item in frame["data"] for detail in item["details"]]
        assert {(each["posSide"], each["side"]) for each in details} <= {("long", "sell"), ("short", "buy")}
        assert {frame["arg"]["instType"] for frame in tape.frames["okx"]} <= {"SWAP", "FUTURES"}

    against(BUSY, scene, waits=True)


# Binance sockets.


@pytest.mark.parametrize("path", ["/market/ws", "/market/ws/btcusdt@markPrice", "/ws/!forceOrder@arr", "/ws", "/stream"])
def test_binance_acknowledges_on_every_path(path):
    async def scene(url, session):
        async with socket(session, url, "/binance-usdm" + path) as connection:
            request = {"method": "SUBSCRIBE", "params": ["btcusdt@forceOrder"], "id": 1}
            assert await exchange(connection, request) == [ACKNOWLEDGED]

    against(CALM, scene)


@pytest.mark.slow
def test_the_retired_binance_path_stays_silent_while_the_new_one_speaks():
    async def scene(url, session):
        async with (
            socket(session, url, "/binance-usdm/ws/!forceOrder@arr") as retired,
            socket(session, url, "/binance-usdm/stream?streams=!forceOrder@arr") as retired_combined,
            socket(session, url, "/binance-usdm/market/ws/!forceOrder@arr") as raw,
            socket(session, url, "/binance-usdm/market/stream?streams=!forceOrder@arr") as combined,
        ):
            event = json.loads(await raw.receive_str(timeout=5))
            wrapped = json.loads(await combined.receive_str(timeout=5))
            assert wrapped == {"stream": "!forceOrder@arr", "data": event}
            for connection in (retired, retired_combined):
                with pytest.raises(asyncio.TimeoutError):
                    await connection.receive(timeout=0.2)

    against(BUSY, scene)


@pytest.mark.slow
def test_binance_streams_of_single_symbols_bring_these_symbols_only():
    async def scene(url, session):
        async with socket(
            session, url, "/binance-usdm/market/stream?streams=btcusdt@forceOrder/ethusdt@forceOrder"
        ) as connection:
            wrapped = [json.loads(await connection.receive_str(timeout=5)) for _ in range(2)]
            assert {each["stream"] for each in wrapped} == {"btcusdt@forceOrder", "ethusdt@forceOrder"}
            assert {each["data"]["o"]["s"] for each in wrapped} == {"BTCUSDT", "ETHUSDT"}

    against(BUSY, scene)


def test_binance_speaks_of_subscriptions():
    async def scene(url, session):
        async with socket(session, url, "/binance-usdm/market/ws") as connection:
            answers = await exchange(
                connection,
                {"method": "SUBSCRIBE", "params": ["b@forceOrder", "a@forceOrder"], "id": 1},
                {"method": "LIST_SUBSCRIPTIONS", "id": 2},
                {"method": "UNSUBSCRIBE", "params": ["b@forceOrder"], "id": 3},
                {"method": "LIST_SUBSCRIPTIONS", "id": 4},
                {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5},
                {"method": "GET_PROPERTY", "params": ["combined"], "id": 6},
                {"method": "SET_PROPERTY", "params": ["combined", False], "id": 7},
                {"method": "GET_PROPERTY", "params": ["combined"], "id": 8},
            )
            assert [answer["result"] for answer in answers] == [
                None, ["a@forceOrder", "b@forceOrder"], None, ["a@forceOrder"], None, True, None, False
            ]  # fmt: skip
            assert [answer["id"] for answer in answers] == list(range(1, 9))

    against(CALM, scene)


def test_binance_refuses_what_it_does_not_understand():
    async def scene(url, session):
        async with socket(session, url, "/binance-usdm/market/ws") as connection:
            answers = await exchange(
                connection, "hello", {"method": "JOIN", "id": 1}, {"method": "SUBSCRIBE", "params": "x", "id": 2}
            )
            assert [answer["error"]["code"] for answer in answers] == [3, 2, 2]

    against(CALM, scene)


# Bybit sockets.


def test_bybit_acknowledges_and_answers_pings():
    async def scene(url, session):
        async with socket(session, url, "/bybit-linear/v5/public/linear") as connection:
            subscribed, pong, named = await exchange(
                connection,
                {"op": "subscribe", "args": ["allLiquidation.BTCUSDT"]},
                {"op": "ping"},
                {"op": "subscribe", "args": ["allLiquidation.ETHUSDT"], "req_id": "7"},
            )
            identity = subscribed.pop("conn_id")
            assert subscribed == {"success": True, "ret_msg": "subscribe", "op": "subscribe"}
            assert pong == {"success": True, "ret_msg": "pong", "conn_id": identity, "req_id": "", "op": "ping"}
            assert named["req_id"] == "7"

    against(CALM, scene)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"op": "subscribe", "args": ["allLiquidation.BTCUSDT", "x.Y"]}, "error:handler not found,topic:x.Y"),
        ({"op": "subscribe", "args": ["allLiquidation.BTCUSD"]}, "error:handler not found,topic:allLiquidation.BTCUSD"),
        ({"op": "subscribe", "args": ["allLiquidation.ETHUSDT"]}, "error:already subscribed,topic:allLiquidation.ETHUSDT"),
        ({"op": "subscribe", "args": []}, "error:args size out of range"),
        ({"op": "subscribe", "args": ["allLiquidation.BTCUSDT"] * 1000}, "error:args size out of range"),
        ({"op": "subscribe", "args": "allLiquidation.BTCUSDT"}, "error:args size out of range"),
        ({"op": "dance"}, "error:unknown op"),
        ("hello", "error:invalid request"),
    ],
)
def test_bybit_refuses_a_whole_request_for_one_wrong_topic(request_, words):
    async def scene(url, session):
        async with socket(session, url, "/bybit-linear/v5/public/linear") as connection:
            known = {"op": "subscribe", "args": ["allLiquidation.ETHUSDT"]}
            _, refused = await exchange(connection, known, request_)
            assert (refused["success"], refused["ret_msg"]) == (False, words)
            assert refused.keys() == {"success", "ret_msg", "conn_id", "req_id", "op"}
            topics = (await get(session, url, "/control/state"))["connections"]
            assert topics == 1

    against(CALM, scene)


def test_bybit_sends_a_topic_to_its_subscribers_only():
    async def scene(url, session):
        async with socket(session, url, "/bybit-linear/v5/public/linear") as connection:
            both = ["allLiquidation.BTCUSDT", "allLiquidation.ETHUSDT"]
            await exchange(connection, {"op": "subscribe", "args": both}, {"op": "unsubscribe", "args": both[:1]})
            assert json.loads(await connection.receive_str(timeout=5))["topic"] == "allLiquidation.ETHUSDT"

    against(BUSY, scene)


# OKX sockets.


def test_okx_acknowledges_each_argument_and_answers_text_pings():
    async def scene(url, session):
        async with socket(session, url, "/okx/ws/v5/public") as connection:
            swaps, futures = ({"channel": "liquidation-orders", "instType": kind} for kind in ("SWAP", "FUTURES"))
            (pong, first) = await exchange(connection, "ping", {"op": "subscribe", "args": [swaps, futures], "id": "a1"})
            second = json.loads(await connection.receive_str(timeout=5))
            assert pong == "pong"
            assert first == {"id": "a1", "event": "subscribe", "arg": swaps, "connId": first["connId"]}
            assert second["arg"] == futures
            (family,) = await exchange(connection, {"op": "unsubscribe", "args": [{**swaps, "instFamily": "BTC-USDT"}]})
            assert (family["event"], family["arg"]) == ("unsubscribe", swaps)

    against(CALM, scene)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ("hello", "60012", "Invalid request: hello"),
        ({"op": "subscribe", "args": "x"}, "60012", "Invalid request: "),
        ({"op": "dance", "args": []}, "60012", "Invalid request: "),
        (
            {"op": "subscribe", "args": [{"channel": "liquidation-orders", "instId": "BTC-USDT-SWAP"}]},
            "60018",
            "Wrong URL or channel:liquidation-orders,instId:BTC-USDT-SWAP doesn't exist.",
        ),
        ({"op": "subscribe", "args": [{"channel": "gossip", "instType": "SWAP"}]}, "60018", "Wrong URL or channel:gossip,"),
        ({"op": "subscribe", "args": ["liquidation-orders"]}, "60018", "Wrong URL or "),
    ],
)
def test_okx_refuses_what_it_does_not_know(request_, code, words):
    async def scene(url, session):
        async with socket(session, url, "/okx/ws/v5/public") as connection:
            (refused,) = await exchange(connection, request_)
            assert refused.keys() == {"event", "msg", "code", "connId"}
            assert (refused["event"], refused["code"]) == ("error", code)
            assert refused["msg"].startswith(words)

    against(CALM, scene)


# Keep-alive.


def silent_for(keep_alive, seconds, *, answers=True):
    """Connect under a venue's rule, stay silent, and return the close code, or ``None`` while it is open."""

    async def play():
        async with serving(CALM) as (simulation, url, session):
            simulation.hub.serve = _with_rule(simulation.hub.serve, keep_alive)
            async with session.ws_connect(url.replace("http", "ws") + "/okx/ws/v5/public", autoping=answers) as connection:
                try:
                    await asyncio.wait_for(_until_closed(connection), seconds)
                except asyncio.TimeoutError:
                    return None
                return connection.close_code

    return asyncio.run(play())


async def _until_closed(connection):
    while (await connection.receive()).type is aiohttp.WSMsgType.PING:
        pass


def _with_rule(serve, keep_alive):
    def ruled(request, **options):
        return serve(request, **{**options, "keep_alive": keep_alive})

    return ruled


def test_a_connection_on_which_nothing_passes_is_cut_off(monkeypatch):
    monkeypatch.setattr(sockets, "_LOOK_AFTER_S", 0.02)

    assert silent_for(KeepAlive(idle_after=0.1, idle_code=(4004, "No data received in 30s")), 2.0) == 4004


def test_a_client_that_answers_pings_stays_connected(monkeypatch):
    monkeypatch.setattr(sockets, "_LOOK_AFTER_S", 0.02)

    assert silent_for(KeepAlive(ping_every=0.05, pong_within=0.3), 0.8) is None


def test_a_client_that_answers_no_ping_is_cut_off(monkeypatch):
    monkeypatch.setattr(sockets, "_LOOK_AFTER_S", 0.02)

    assert silent_for(KeepAlive(ping_every=0.05, pong_within=0.3), 2.0, answers=False) == 1008


def test_a_client_that_reads_too_slowly_is_cut_off(monkeypatch):
    monkeypatch.setattr(sockets, "_QUEUE_FRAMES", 2)

    async def play():
        async with serving(CALM) as (simulation, url, session), socket(session, url, "/okx/ws/v5/public") as connection:
            await exchange(connection, "ping")
            (slow,) = simulation.hub._connections.values()
            for _ in range(4):
                slow.send("x")
            while (message := await connection.receive(timeout=2)).type is aiohttp.WSMsgType.TEXT:
                pass
            return message.type, connection.close_code

    assert asyncio.run(play()) == (aiohttp.WSMsgType.CLOSE, 1008)


@pytest.mark.parametrize("leaves", [True, False])
def test_stopping_waits_neither_for_who_is_gone_nor_for_who_does_not_read(leaves, monkeypatch):
    monkeypatch.setattr(sockets, "_DRAIN_S", 0.3)

    async def play():
        async with serving(CALM) as (simulation, url, session), socket(session, url, "/okx/ws/v5/public") as connection:
            await exchange(connection, "ping")
            (deaf,) = simulation.hub._connections.values()
            deaf.write, deaf.socket.send_str = None, lambda _: asyncio.sleep(60)
            deaf.send("x")
            stopping = asyncio.ensure_future(post(session, url, "/control/stop-liquidations"))
            if leaves:
                await connection.close()
            return await asyncio.wait_for(stopping, 5)

    assert asyncio.run(play())["is_idle"] is True


def test_everyone_is_told_when_the_server_ends():
    async def play():
        async with aiohttp.ClientSession() as session:
            async with serving(CALM) as (_, url, _):
                connection = await session.ws_connect(url.replace("http", "ws") + "/okx/ws/v5/public")
            return (await connection.receive(timeout=2)).data

    assert asyncio.run(play()) == 1001


# REST.


def test_binance_lists_contracts_with_their_steps():
    async def scene(url, session):
        body = await get(session, url, "/binance-usdm/fapi/v1/exchangeInfo")
        symbols = {row["symbol"]: row for row in body["symbols"]}
        assert {"timezone", "serverTime", "rateLimits", "exchangeFilters", "assets", "symbols"} <= body.keys()
        assert len(symbols) == 13
        assert {"symbol", "pair", "contractType", "deliveryDate", "status", "baseAsset", "quoteAsset", "marginAsset"} <= set(
            symbols["BTCUSDT"]
        )
        assert symbols["1000PEPEUSDT"]["baseAsset"] == "1000PEPE"
        (dated,) = (row for row in body["symbols"] if row["contractType"] == "CURRENT_QUARTER")
        assert (dated["pair"], dated["symbol"][:8]) == ("BTCUSDT", "BTCUSDT_")
        filters = {row["filterType"]: row for row in symbols["BTCUSDT"]["filters"]}
        assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.10", "0.001")

    against(CALM, scene)


def test_binance_quotes_every_symbol_in_one_call_and_no_funding_for_dated_ones():
    async def scene(url, session):
        rows = await get(session, url, "/binance-usdm/fapi/v1/premiumIndex")
        single = await get(session, url, "/binance-usdm/fapi/v1/premiumIndex?symbol=BTCUSDT")
        keys = "symbol markPrice indexPrice estimatedSettlePrice lastFundingRate interestRate nextFundingTime time"
        assert list(single) == keys.split()
        assert len(rows) == 13
        assert [(row["lastFundingRate"], row["nextFundingTime"]) for row in rows if "_" in row["symbol"]] == [("", 0)]
        assert single["nextFundingTime"] % (8 * 3_600_000) == 0
        assert 82_000 < float(single["markPrice"]) < 83_000
        adjusted = await get(session, url, "/binance-usdm/fapi/v1/fundingInfo")
        assert {row["symbol"]: row["fundingIntervalHours"] for row in adjusted} == {"1000PEPEUSDT": 4, "SUIUSDT": 4}

    against(CALM, scene)


def test_binance_answers_for_single_symbols():
    async def scene(url, session):
        prefix = "/binance-usdm"
        interest = await get(session, url, f"{prefix}/fapi/v1/openInterest?symbol=BTCUSDT")
        assert list(interest) == ["symbol", "openInterest", "time"]
        assert Decimal(interest["openInterest"]) > 0
        ratios = await get(session, url, f"{prefix}/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT&period=5m&limit=2")
        assert [sorted(row) for row in ratios] == [
            ["longAccount", "longShortRatio", "shortAccount", "symbol", "timestamp"]
        ] * 2
        assert ratios[1]["timestamp"] - ratios[0]["timestamp"] == 300_000
        depth = await get(session, url, f"{prefix}/fapi/v1/depth?symbol=BTCUSDT&limit=100")
        assert list(depth) == ["lastUpdateId", "E", "T", "bids", "asks"]
        check_book(depth["bids"], depth["asks"], 100)
        assert await get(session, url, f"{prefix}/fapi/v1/ping") == {}
        assert list(await get(session, url, f"{prefix}/fapi/v1/time")) == ["serverTime"]

    against(CALM, scene)


def check_book(bids, asks, levels):
    bid_prices, ask_prices = ([Decimal(level[0]) for level in side] for side in (bids, asks))
    assert len(bids) == len(asks) == levels
    assert bid_prices == sorted(bid_prices, reverse=True)
    assert ask_prices == sorted(ask_prices)
    assert bid_prices[0] < ask_prices[0]
    assert all(Decimal(level[1]) > 0 for level in [*bids, *asks])


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/fapi/v1/openInterest", -1102),
        ("/fapi/v1/openInterest?symbol=NOPE", -1121),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=7", -4021),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=many", -1102),
        ("/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT", -1102),
    ],
)
def test_binance_refuses_with_a_code(path, code):
    async def scene(url, session):
        body = await get(session, url, "/binance-usdm" + path, expected_status=400)
        assert (body["code"], list(body)) == (code, ["code", "msg"])

    against(CALM, scene)


@pytest.mark.parametrize("prefix", ["/bybit-linear", "/bybit-inverse"])
def test_bybit_lists_contracts_page_by_page(prefix):
    async def scene(url, session):
        whole = (await get(session, url, f"{prefix}/v5/market/instruments-info?category=linear"))["result"]
        assert (whole["category"], len(whole["list"]), whole["nextPageCursor"]) == ("linear", 12, "")
        cursor, pages = "", []
        while True:
            page = await get(session, url, f"{prefix}/v5/market/instruments-info?category=linear&limit=5&cursor={cursor}")
            pages.append([row["symbol"] for row in page["result"]["list"]])
            cursor = page["result"]["nextPageCursor"]
            if not cursor:
                break
        assert [len(page) for page in pages] == [5, 5, 2]
        assert [symbol for page in pages for symbol in page] == [row["symbol"] for row in whole["list"]]
        inverse = (await get(session, url, f"{prefix}/v5/market/instruments-info?category=inverse&symbol=BTCUSD"))["result"]
        (row,) = inverse["list"]
        assert (row["contractType"], row["settleCoin"], row["fundingInterval"]) == ("InversePerpetual", "BTC", 480)

    against(CALM, scene)


def test_bybit_counts_open_interest_on_both_sides_and_on_one():
    async def scene(url, session):
        linear = (await get(session, url, "/bybit-linear/v5/market/tickers?category=linear"))["result"]["list"]
        inverse = (await get(session, url, "/bybit-inverse/v5/market/tickers?category=inverse&symbol=BTCUSD"))["result"][
            "list"
        ]
        assert len(linear) == 12
        for row in (*linear, *inverse):
            assert Decimal(row["openInterest"]) == 2 * Decimal(row["singleOpenInterest"]) > 0
        assert float(inverse[0]["singleOpenInterestValue"]) == pytest.approx(
            float(inverse[0]["singleOpenInterest"]) / float(inverse[0]["markPrice"]), rel=1e-3
        )
        assert {row["symbol"]: row["fundingIntervalHour"] for row in linear}["SUIUSDT"] == "4"
        assert all(isinstance(value, str) for row in linear for value in row.values())

    against(CALM, scene)


def test_bybit_answers_for_single_symbols():
    async def scene(url, session):
        market = "/bybit-linear/v5/market"
        book = await get(session, url, f"{market}/orderbook?category=linear&symbol=SOLUSDT&limit=200")
        assert list(book) == ["retCode", "retMsg", "result", "retExtInfo", "time"]
        assert list(book["result"]) == ["s", "b", "a", "ts", "u", "seq", "cts"]
        check_book(book["result"]["b"], book["result"]["a"], 200)
        ratio = await get(session, url, f"{market}/account-ratio?category=linear&symbol=SOLUSDT&period=5min&limit=1")
        (row,) = ratio["result"]["list"]
        assert list(row) == ["symbol", "buyRatio", "sellRatio", "timestamp"]
        assert Decimal(row["buyRatio"]) + Decimal(row["sellRatio"]) == 1
        interest = await get(session, url, f"{market}/open-interest?category=linear&symbol=SOLUSDT&intervalTime=5min&limit=3")
        assert [list(row) for row in interest["result"]["list"]] == [["openInterest", "singleOpenInterest", "timestamp"]] * 3
        assert (await get(session, url, f"{market}/time"))["result"].keys() == {"timeSecond", "timeNano"}

    against(CALM, scene)


@pytest.mark.parametrize(
    "path",
    [
        "/tickers",
        "/tickers?category=spot",
        "/tickers?category=linear&symbol=BTCUSD",
        "/orderbook?category=linear&symbol=BTCUSDT&limit=501",
        "/account-ratio?category=linear&symbol=BTCUSDT&period=7min",
    ],
)
def test_bybit_refuses_with_status_200_and_a_code(path):
    async def scene(url, session):
        body = await get(session, url, "/bybit-linear/v5/market" + path)
        assert (body["retCode"], body["result"]) == (10001, {})

    against(CALM, scene)


def test_okx_lists_contracts_with_their_sizes():
    async def scene(url, session):
        swaps = (await get(session, url, "/okx/api/v5/public/instruments?instType=SWAP"))["data"]
        futures = (await get(session, url, "/okx/api/v5/public/instruments?instType=FUTURES"))["data"]
        sizes = {row["instId"]: (row["ctVal"], row["ctValCcy"], row["ctType"], row["settleCcy"]) for row in swaps}
        assert len(sizes) == 14
        assert sizes["BTC-USDT-SWAP"] == ("0.01", "BTC", "linear", "USDT")
        assert sizes["PEPE-USDT-SWAP"] == ("10000000", "PEPE", "linear", "USDT")
        assert sizes["BTC-USD-SWAP"] == ("100", "USD", "inverse", "BTC")
        assert sizes["ETH-USD-SWAP"] == ("10", "USD", "inverse", "ETH")
        (dated,) = futures
        assert (dated["instType"], dated["alias"], dated["instFamily"]) == ("FUTURES", "quarter", "BTC-USDT")
        assert int(dated["expTime"]) > 0
        family = await get(session, url, "/okx/api/v5/public/instruments?instType=SWAP&instFamily=ETH-USD")
        assert [row["instId"] for row in family["data"]] == ["ETH-USD-SWAP"]

    against(CALM, scene)


def test_okx_answers_as_documented():
    async def scene(url, session):
        public = "/okx/api/v5/public"
        interest = (await get(session, url, f"{public}/open-interest?instType=SWAP"))["data"]
        assert [list(row) for row in interest] == [["instId", "instType", "oi", "oiCcy", "oiUsd", "ts"]] * 14
        by_symbol = {row["instId"]: row for row in interest}
        bitcoin = by_symbol["BTC-USDT-SWAP"]
        assert float(bitcoin["oiCcy"]) == pytest.approx(float(bitcoin["oi"]) * 0.01)
        assert float(by_symbol["BTC-USD-SWAP"]["oiUsd"]) == float(by_symbol["BTC-USD-SWAP"]["oi"]) * 100
        (funding,) = (await get(session, url, f"{public}/funding-rate?instId=PEPE-USDT-SWAP"))["data"]
        assert int(funding["nextFundingTime"]) - int(funding["fundingTime"]) == 4 * 3_600_000
        assert len((await get(session, url, f"{public}/funding-rate?instId=ANY"))["data"]) == 14
        marks = (await get(session, url, f"{public}/mark-price?instType=SWAP&instId=BTC-USDT-SWAP"))["data"]
        assert [list(row) for row in marks] == [["instId", "instType", "markPx", "ts"]]
        (index,) = (await get(session, url, "/okx/api/v5/market/index-tickers?instId=BTC-USDT"))["data"]
        assert (index["instId"], 82_000 < float(index["idxPx"]) < 83_000) == ("BTC-USDT", True)
        assert len((await get(session, url, "/okx/api/v5/market/index-tickers?quoteCcy=USDT"))["data"]) == 12
        (book,) = (await get(session, url, "/okx/api/v5/market/books?instId=BTC-USDT-SWAP&sz=400"))["data"]
        check_book(book["bids"], book["asks"], 400)
        assert {len(level) for level in book["bids"]} == {4}
        path = "/okx/api/v5/rubik/stat/contracts/long-short-account-ratio-contract?instId=BTC-USDT-SWAP&limit=2"
        assert [len(row) for row in (await get(session, url, path))["data"]] == [2, 2]
        assert list((await get(session, url, f"{public}/time"))["data"][0]) == ["ts"]

    against(CALM, scene)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/public/instruments", 400, "50014"),
        ("/public/instruments?instType=SWAP&instId=NO-SWAP", 200, "51001"),
        ("/public/funding-rate?instId=NO-SWAP", 200, "51001"),
        ("/market/books?instId=NO-SWAP", 200, "51001"),
        ("/market/books?instId=BTC-USDT-SWAP&sz=401", 400, "51000"),
        ("/market/index-tickers?instId=NO-USDT", 200, "51001"),
        ("/rubik/stat/contracts/long-short-account-ratio-contract?instId=NO", 200, "51001"),
    ],
)
def test_okx_refuses_with_a_code(path, status, code):
    async def scene(url, session):
        body = await get(session, url, "/okx/api/v5" + path, expected_status=status)
        assert (body["code"], body["data"]) == (code, [])

    against(CALM, scene)


def test_books_reach_two_percent_with_five_hundred_levels():
    async def scene(url, session):
        for symbol in ("BTCUSDT", "1000PEPEUSDT", "DOGEUSDT"):
            depth = await get(session, url, f"/binance-usdm/fapi/v1/depth?symbol={symbol}&limit=500")
            best, last = (Decimal(depth["asks"][number][0]) for number in (0, -1))
            assert last / best > Decimal("1.02")

    against(CALM, scene)


@pytest.mark.slow
def test_open_interest_and_ratio_fall_in_a_cascade():
    async def scene(url, session):
        async def look():
            tickers = await get(session, url, "/bybit-linear/v5/market/tickers?category=linear&symbol=BTCUSDT")
            ratio = await get(
                session, url, "/okx/api/v5/rubik/stat/contracts/long-short-account-ratio-contract?instId=BTC-USDT-SWAP&limit=1"
            )
            (row,) = tickers["result"]["list"]
            return float(row["singleOpenInterest"]), float(row["fundingRate"]), float(ratio["data"][0][1])

        before = await look()
        await until(session, url, 12)
        after = await look()
        assert all(late < early for early, late in zip(before, after, strict=True))

    against(replace(SCENARIOS["long-cascade"], shock=Window(0.0, 5.0)), scene, speed=8.0)


def test_the_market_waits_until_every_venue_has_a_subscriber():
    async def scene(url, session):
        await asyncio.sleep(0.1)
        assert (await get(session, url, "/control/state"))["steps"] == 0
        async with Tape(session, url).rolling():
            await until(session, url, 0.1)
            state = await get(session, url, "/control/state")
        assert (state["is_waiting"], state["connections"]) == (False, 4)

    against(CALM, scene, waits=True)


def test_waiting_can_be_ended_from_outside():
    async def scene(url, session):
        assert (await post(session, url, "/control/stop-liquidations"))["steps"] == 0  # does not wait for what cannot happen
        assert (await post(session, url, "/control/start"))["is_waiting"] is False
        await until(session, url, 0.1)

    against(CALM, scene, waits=True)
