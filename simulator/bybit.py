"""Bybit v5 as its documents have it: the allLiquidation topic and the public market endpoints, linear and inverse.

Docs: the vendor's pages "All Liquidation", "Connect", "Get Instruments Info", "Get Tickers", "Get Orderbook",
"Get Long Short Ratio", "Get Open Interest".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote as percent_encode
from urllib.parse import unquote

from aiohttp import web

from simulator.exchange import wall_ms
from simulator.instruments import BYBIT_INVERSE, BYBIT_LINEAR, Instrument
from simulator.positions import LONG
from simulator.quotes import Quote, Quotes, five_minutes
from simulator.sockets import Connection, Hub, KeepAlive, to_text
from simulator.truth import Record

_VENUE_OF = {"linear": BYBIT_LINEAR, "inverse": BYBIT_INVERSE}
_TOPIC = "allLiquidation."
_ARGS_CHARACTERS = 21_000  # of one connection's topics, and so of one request's
_INSTRUMENTS_DEFAULT, _INSTRUMENTS_LIMIT = 500, 1000
_BOOK_DEFAULT, _BOOK_LIMIT = 25, 500
_RATIO_DEFAULT, _RATIO_LIMIT = 50, 500
_INTEREST_DEFAULT, _INTEREST_LIMIT = 50, 200
_PERIODS = frozenset({"5min", "15min", "30min", "1h", "4h", "1d"})
_LAUNCH_MS = "1585526400000"
_KEEP_ALIVE = KeepAlive(idle_after=600.0)  # the vendor cuts off a client that sends no ping for ten minutes
_INVALID_PARAMETERS = 10001


class Bybit:
    """The venue, both categories."""

    def __init__(self, hub: Hub, quotes: Quotes) -> None:
        """Serve these quotes and publish through this hub."""
        self._hub = hub
        self._quotes = quotes

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, below this venue's prefixes."""
        return [
            web.get("/v5/public/{category:linear|inverse}", self._stream),
            web.get("/v5/market/time", self._time),
            web.get("/v5/market/instruments-info", self._instruments_info),
            web.get("/v5/market/tickers", self._tickers),
            web.get("/v5/market/orderbook", self._orderbook),
            web.get("/v5/market/account-ratio", self._account_ratio),
            web.get("/v5/market/open-interest", self._open_interest),
        ]

    def publish(self, records: Sequence[Record], now_ms: int) -> list[int]:
        """Send one symbol's records in one message to whoever has its topic; return to how many connections."""
        instrument = records[0].liquidation.instrument
        topic = f"{_TOPIC}{instrument.symbol}"
        subscribers = tuple(self._hub.subscribers(instrument.venue, topic))
        if not subscribers:
            return [0] * len(records)
        text = to_text({"topic": topic, "type": "snapshot", "ts": now_ms, "data": [liquidated(record) for record in records]})
        receivers = sum(self._hub.deliver(connection, instrument.venue, text) for connection in subscribers)
        return [receivers] * len(records)

    # WebSocket.

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        venue = _VENUE_OF[request.match_info["category"]]

        def on_text(connection: Connection, text: str) -> None:
            connection.send(to_text(self._answer(connection, venue, text)))

        return await self._hub.serve(request, on_open=lambda _: None, on_text=on_text, keep_alive=_KEEP_ALIVE)

    def _answer(self, connection: Connection, venue: str, text: str) -> dict[str, object]:
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return _said(connection, {}, "", error="error:invalid request")
        operation = str(request.get("op", ""))
        if operation == "ping":
            return {
                "success": True,
                "ret_msg": "pong",
                "conn_id": connection.id,
                "req_id": request.get("req_id", ""),
                "op": "ping",
            }
        if operation not in {"subscribe", "unsubscribe"}:
            return _said(connection, request, operation, error="error:unknown op")
        arguments = request.get("args", [])
        topics = [str(each) for each in arguments] if isinstance(arguments, list) else []
        error = self._objection(connection, venue, operation, topics)
        if not error:
            act = self._hub.subscribe if operation == "subscribe" else self._hub.unsubscribe
            for topic in topics:
                act(connection, venue, topic)
        return _said(connection, request, operation, error=error)

    def _objection(self, connection: Connection, venue: str, operation: str, topics: list[str]) -> str:
        """Say what is wrong with a request; one wrong topic refuses them all. Empty when all is well."""
        for topic in topics:
            is_known = topic.startswith(_TOPIC) and self._quotes.find(venue, topic.removeprefix(_TOPIC)) is not None
            if not is_known:
                return f"error:handler not found,topic:{topic}"
            if operation == "subscribe" and (venue, topic) in connection.topics:
                return f"error:already subscribed,topic:{topic}"
        subscribed = sum(len(topic) for _, topic in connection.topics) if operation == "subscribe" else 0
        if not topics or subscribed + len(to_text(topics)) > _ARGS_CHARACTERS:
            return "error:args size out of range"
        return ""

    # REST.

    async def _time(self, _: web.Request) -> web.Response:
        now_ms = wall_ms()
        return _answered({"timeSecond": str(now_ms // 1000), "timeNano": f"{now_ms}000000"})

    async def _instruments_info(self, request: web.Request) -> web.Response:
        category = _category(request)
        instruments = self._quotes.instruments(_VENUE_OF[category])
        if "symbol" in request.query:
            instruments = [self._wanted(request)]
        limit = _number(request, "limit", _INSTRUMENTS_DEFAULT, _INSTRUMENTS_LIMIT)
        # The cursor names the last symbol already given.
        names = [instrument.symbol for instrument in instruments]
        last = unquote(request.query.get("cursor", "")).rpartition("last=")[2]
        begin = names.index(last) + 1 if last in names else 0
        page = instruments[begin : begin + limit]
        is_more = begin + limit < len(instruments)
        cursor = percent_encode(f"first={page[0].symbol}&last={page[-1].symbol}", safe="") if is_more else ""
        return _answered({"category": category, "list": [_listed(each) for each in page], "nextPageCursor": cursor})

    async def _tickers(self, request: web.Request) -> web.Response:
        category = _category(request)
        instruments = self._quotes.instruments(_VENUE_OF[category])
        if "symbol" in request.query:
            instruments = [self._wanted(request)]
        now_ms = wall_ms()
        rows = [_ticker(self._quotes.quote(instrument, now_ms)) for instrument in instruments]
        return _answered({"category": category, "list": rows})

    async def _orderbook(self, request: web.Request) -> web.Response:
        instrument = self._wanted(request)
        book = self._quotes.book(instrument, _number(request, "limit", _BOOK_DEFAULT, _BOOK_LIMIT))
        now_ms = wall_ms()
        return _answered(
            {
                "s": instrument.symbol,
                "b": [_level(instrument, *level) for level in book.bids],
                "a": [_level(instrument, *level) for level in book.asks],
                "ts": now_ms,
                "u": now_ms // 10,
                "seq": now_ms,
                "cts": now_ms - 12,
            }
        )

    async def _account_ratio(self, request: web.Request) -> web.Response:
        instrument = self._wanted(request)
        _choose(request, "period", _PERIODS)
        now_ms = wall_ms()
        ratio = self._quotes.quote(instrument, now_ms).long_short_ratio
        buy = ratio / (1 + ratio)
        row = {"symbol": instrument.symbol, "buyRatio": f"{buy:.4f}", "sellRatio": f"{1 - buy:.4f}"}
        times = five_minutes(now_ms, _number(request, "limit", _RATIO_DEFAULT, _RATIO_LIMIT))
        return _answered({"list": [{**row, "timestamp": str(time_ms)} for time_ms in times], "nextPageCursor": ""})

    async def _open_interest(self, request: web.Request) -> web.Response:
        instrument = self._wanted(request)
        _choose(request, "intervalTime", _PERIODS)
        now_ms = wall_ms()
        contracts = self._quotes.quote(instrument, now_ms).open_interest
        row = {"openInterest": f"{2 * contracts:f}", "singleOpenInterest": f"{contracts:f}"}
        times = five_minutes(now_ms, _number(request, "limit", _INTEREST_DEFAULT, _INTEREST_LIMIT))
        return _answered(
            {
                "symbol": instrument.symbol,
                "category": _category(request),
                "list": [{**row, "timestamp": str(time_ms)} for time_ms in times],
                "nextPageCursor": "",
            }
        )

    def _wanted(self, request: web.Request) -> Instrument:
        instrument = self._quotes.find(_VENUE_OF[_category(request)], request.query.get("symbol", ""))
        if instrument is None:
            raise _refused("params error: symbol invalid")
        return instrument


def liquidated(record: Record) -> dict[str, object]:
    """Return one item of a push. The side is the position's: Buy means that a long was liquidated."""
    return {
        "T": record.event_time_ms,
        "s": record.liquidation.instrument.symbol,
        "S": "Buy" if record.liquidation.position_side == LONG else "Sell",
        "v": f"{record.contract_quantity:f}",
        "p": f"{record.price:f}",
    }


def _listed(instrument: Instrument) -> dict[str, object]:
    """Return the instrument's line in instruments-info."""
    kind = "Inverse" if instrument.is_inverse else "Linear"
    return {
        "symbol": instrument.symbol,
        "contractType": f"{kind}Perpetual",
        "status": "Trading",
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "launchTime": _LAUNCH_MS,
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(instrument.price_decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": f"{instrument.tick:f}", "maxPrice": "1999999.80", "tickSize": f"{instrument.tick:f}"},
        "lotSizeFilter": {
            "maxOrderQty": "100000000",
            "minOrderQty": f"{instrument.lot:f}",
            "qtyStep": f"{instrument.lot:f}",
            "postOnlyMaxOrderQty": "100000000",
            "maxMktOrderQty": "50000000",
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": instrument.funding_hours * 60,
        "settleCoin": instrument.settle,
        "copyTrading": "none" if instrument.is_inverse else "both",
        "upperFundingRate": "0.005",
        "lowerFundingRate": "-0.005",
        "displayName": "",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "",
    }


def _ticker(quote: Quote) -> dict[str, str]:
    """Return the instrument's line in tickers. ``openInterest`` counts both sides, ``singleOpenInterest`` one."""
    instrument = quote.instrument
    digits = instrument.price_decimals
    # The value is in the settlement currency: USDT, or coins where the quantity is USD.
    single_value = quote.open_interest_coins if instrument.is_inverse else quote.open_interest_usd
    mark = f"{quote.mark_price:.{digits}f}"
    bid, bid_size = _level(instrument, quote.bid_ticks, 1000)
    ask, ask_size = _level(instrument, quote.ask_ticks, 1000)
    return {
        "symbol": instrument.symbol,
        "lastPrice": bid,
        "indexPrice": f"{quote.index_price:.{digits}f}",
        "markPrice": mark,
        "prevPrice24h": mark,
        "price24hPcnt": "0",
        "highPrice24h": mark,
        "lowPrice24h": mark,
        "prevPrice1h": mark,
        "openInterest": f"{2 * quote.open_interest:f}",
        "openInterestValue": f"{2 * single_value:.2f}",
        "singleOpenInterest": f"{quote.open_interest:f}",
        "singleOpenInterestValue": f"{single_value:.2f}",
        "turnover24h": f"{single_value:.4f}",
        "volume24h": f"{quote.open_interest:f}",
        "fundingRate": f"{quote.funding_rate:.8f}".rstrip("0").rstrip(".") or "0",
        "nextFundingTime": str(quote.next_funding_ms),
        "predictedDeliveryPrice": "",
        "basisRate": "",
        "deliveryFeeRate": "",
        "deliveryTime": "0",
        "ask1Size": ask_size,
        "bid1Price": bid,
        "ask1Price": ask,
        "bid1Size": bid_size,
        "basis": "",
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
        "fundingIntervalHour": str(quote.funding_hours),
        "basisRateYear": "",
        "fundingCap": "0.005",
    }


def _level(instrument: Instrument, ticks: int, lots: int) -> list[str]:
    price = ticks * float(instrument.tick)
    return [f"{price:.{instrument.price_decimals}f}", f"{lots * instrument.lot:f}"]


def _category(request: web.Request) -> str:
    return _choose(request, "category", frozenset(_VENUE_OF))


def _choose(request: web.Request, name: str, allowed: frozenset[str]) -> str:
    value = request.query.get(name, "")
    if value not in allowed:
        raise _refused(f"params error: {name} invalid")
    return value


def _number(request: web.Request, name: str, default: int, limit: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not 1 <= int(text) <= limit:
        raise _refused(f"params error: {name} invalid")
    return int(text)


def _said(connection: Connection, request: dict[str, object], operation: str, *, error: str) -> dict[str, object]:
    """Return the answer to a subscription; the request's id comes back where it had one, and always with a refusal."""
    answer: dict[str, object] = {"success": not error, "ret_msg": error or operation, "conn_id": connection.id}
    if error or "req_id" in request:
        answer["req_id"] = request.get("req_id", "")
    return {**answer, "op": operation}


def _body(code: int, message: str, result: object) -> str:
    return to_text({"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": wall_ms()})


def _answered(result: object) -> web.Response:
    return web.Response(text=_body(0, "OK", result), content_type="application/json")


def _refused(message: str) -> web.HTTPOk:
    """Return the refusal to raise: the venue sends it with status 200."""
    return web.HTTPOk(text=_body(_INVALID_PARAMETERS, message, {}), content_type="application/json")
