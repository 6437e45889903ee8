"""Binance USD-M futures as its documents have it: market streams and the public REST endpoints.

Docs: the vendor's pages "Liquidation Order Streams", "All Market Liquidation Order Streams", "Live Subscribing/Unsubscribing
to streams", "Exchange Information", "Mark Price", "Open Interest", "Long/Short Ratio", "Order Book".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from simulator.exchange import wall_ms
from simulator.instruments import BINANCE, Instrument
from simulator.positions import LONG
from simulator.quotes import Quote, Quotes, five_minutes
from simulator.sockets import Connection, Hub, KeepAlive, to_text
from simulator.truth import Record

_ALL = "!forceOrder@arr"
_FOREVER_MS = 4_133_404_800_000  # what the venue gives as the delivery date of a perpetual
_ONBOARD_MS = 1_569_398_400_000
_DEFAULT_FUNDING_HOURS = 8
_DEPTH_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1000})
_DEPTH_DEFAULT = 500
_RATIO_DEFAULT, _RATIO_LIMIT = 30, 500
_PERIODS = frozenset({"5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d"})
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_KEEP_ALIVE = KeepAlive(ping_every=180.0, pong_within=600.0)


class Binance:
    """The venue."""

    def __init__(self, hub: Hub, quotes: Quotes) -> None:
        """Serve these quotes and publish through this hub."""
        self._hub = hub
        self._quotes = quotes

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, below this venue's prefix."""
        return [
            web.get("/market/ws", self._stream),
            web.get("/market/ws/{streams:.+}", self._stream),
            web.get("/market/stream", self._stream),
            # Retired paths still connect and acknowledge, and then stay silent for ever.
            web.get("/ws", self._retired),
            web.get("/ws/{streams:.+}", self._retired),
            web.get("/stream", self._retired),
            web.get("/fapi/v1/ping", self._ping),
            web.get("/fapi/v1/time", self._time),
            web.get("/fapi/v1/exchangeInfo", self._exchange_info),
            web.get("/fapi/v1/premiumIndex", self._premium_index),
            web.get("/fapi/v1/fundingInfo", self._funding_info),
            web.get("/fapi/v1/openInterest", self._open_interest),
            web.get("/fapi/v1/depth", self._depth),
            web.get("/futures/data/globalLongShortAccountRatio", self._ratio),
            web.get("/futures/data/topLongShortAccountRatio", self._ratio),
            web.get("/futures/data/topLongShortPositionRatio", self._ratio),
        ]

    def publish(self, records: Sequence[Record], now_ms: int) -> list[int]:
        """Send each record to whoever has the all-market stream or the symbol's; return to how many connections."""
        return [self._publish_one(record, now_ms) for record in records]

    def _publish_one(self, record: Record, now_ms: int) -> int:
        event = force_order(record, now_ms)
        receivers: set[str] = set()
        for stream in (_ALL, f"{record.liquidation.instrument.symbol.lower()}@forceOrder"):
            for connection in self._hub.subscribers(BINANCE, stream):
                text = to_text({"stream": stream, "data": event} if connection.names_streams else event)
                if self._hub.deliver(connection, BINANCE, text):
                    receivers.add(connection.id)
        return len(receivers)

    # WebSocket.

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        is_combined = request.path.endswith("/stream")
        named = request.query.get("streams", "") if is_combined else request.match_info.get("streams", "")

        def on_open(connection: Connection) -> None:
            connection.names_streams = is_combined
            for stream in filter(None, named.split("/")):
                self._hub.subscribe(connection, BINANCE, stream)

        return await self._hub.serve(request, on_open=on_open, on_text=self._on_text, keep_alive=_KEEP_ALIVE)

    async def _retired(self, request: web.Request) -> web.WebSocketResponse:
        def on_text(connection: Connection, text: str) -> None:
            self._answer(connection, text, is_live=False)

        return await self._hub.serve(request, on_open=lambda _: None, on_text=on_text, keep_alive=_KEEP_ALIVE)

    def _on_text(self, connection: Connection, text: str) -> None:
        self._answer(connection, text, is_live=True)

    def _answer(self, connection: Connection, text: str, *, is_live: bool) -> None:
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            connection.send(_refusal(3, "Invalid JSON: expected value at line 1 column 1"))
            return
        method, number = request.get("method"), request.get("id")
        if method not in _METHODS:
            expected = ", ".join(f"`{each}`" for each in _METHODS)
            connection.send(_refusal(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}"))
            return
        parameters = request.get("params", [])
        if not isinstance(parameters, list):
            connection.send(_refusal(2, "Invalid request: params must be an array"))
            return
        result = self._do(connection, method, parameters) if is_live else None
        connection.send(to_text({"result": result, "id": number}))

    def _do(self, connection: Connection, method: str, parameters: list[Any]) -> object:
        """Carry a request out and return its result."""
        if method == "SUBSCRIBE":
            for stream in parameters:
                self._hub.subscribe(connection, BINANCE, str(stream))
        elif method == "UNSUBSCRIBE":
            for stream in parameters:
                self._hub.unsubscribe(connection, BINANCE, str(stream))
        elif method == "LIST_SUBSCRIPTIONS":
            return sorted(topic for _, topic in connection.topics)
        elif method == "GET_PROPERTY":
            return connection.names_streams
        else:
            connection.names_streams = parameters[1:] == [True]
        return None

    # REST.

    async def _ping(self, _: web.Request) -> web.Response:
        return _json({})

    async def _time(self, _: web.Request) -> web.Response:
        return _json({"serverTime": wall_ms()})

    async def _exchange_info(self, _: web.Request) -> web.Response:
        return _json(
            {
                "timezone": "UTC",
                "serverTime": wall_ms(),
                "futuresType": "U_MARGINED",
                "rateLimits": [
                    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
                    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
                ],
                "exchangeFilters": [],
                "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
                "symbols": [_listed(instrument) for instrument in self._quotes.instruments(BINANCE)],
            }
        )

    async def _premium_index(self, request: web.Request) -> web.Response:
        now_ms = wall_ms()
        if "symbol" in request.query:
            return _json(_premium(self._quotes.quote(self._wanted(request), now_ms), now_ms))
        instruments = self._quotes.instruments(BINANCE)
        return _json([_premium(self._quotes.quote(instrument, now_ms), now_ms) for instrument in instruments])

    async def _funding_info(self, _: web.Request) -> web.Response:
        """Answer with the symbols whose terms were ever adjusted: the venue leaves out all others, which pay every 8 h."""
        adjusted = [
            instrument
            for instrument in self._quotes.instruments(BINANCE)
            if instrument.is_perpetual and instrument.funding_hours != _DEFAULT_FUNDING_HOURS
        ]
        return _json(
            [
                {
                    "symbol": instrument.symbol,
                    "adjustedFundingRateCap": "0.02000000",
                    "adjustedFundingRateFloor": "-0.02000000",
                    "fundingIntervalHours": instrument.funding_hours,
                    "disclaimer": False,
                }
                for instrument in adjusted
            ]
        )

    async def _open_interest(self, request: web.Request) -> web.Response:
        now_ms = wall_ms()
        quote = self._quotes.quote(self._wanted(request), now_ms)
        return _json({"symbol": quote.instrument.symbol, "openInterest": f"{quote.open_interest:f}", "time": now_ms})

    async def _depth(self, request: web.Request) -> web.Response:
        instrument = self._wanted(request)
        limit = _number(request, "limit", _DEPTH_DEFAULT)
        if limit not in _DEPTH_LIMITS:
            raise _bad_request(-4021, f"{limit} is not valid depth limit.")
        now_ms = wall_ms()
        book = self._quotes.book(instrument, limit)
        return _json(
            {
                "lastUpdateId": now_ms,
                "E": now_ms,
                "T": now_ms - 6,
                "bids": [_level(instrument, *level) for level in book.bids],
                "asks": [_level(instrument, *level) for level in book.asks],
            }
        )

    async def _ratio(self, request: web.Request) -> web.Response:
        instrument = self._wanted(request)
        if request.query.get("period") not in _PERIODS:
            raise _bad_request(-1102, "Mandatory parameter 'period' was not sent, was empty/null, or malformed.")
        count = min(_number(request, "limit", _RATIO_DEFAULT), _RATIO_LIMIT)
        now_ms = wall_ms()
        ratio = self._quotes.quote(instrument, now_ms).long_short_ratio
        long_share = ratio / (1 + ratio)
        row = {
            "symbol": instrument.symbol,
            "longAccount": f"{long_share:.4f}",
            "longShortRatio": f"{ratio:.4f}",
            "shortAccount": f"{1 - long_share:.4f}",
        }
        # The venue keeps no ratio for dated futures.
        times = reversed(five_minutes(now_ms, count)) if instrument.is_perpetual else ()
        return _json([{**row, "timestamp": time_ms} for time_ms in times])

    def _wanted(self, request: web.Request) -> Instrument:
        symbol = request.query.get("symbol")
        if not symbol:
            raise _bad_request(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        instrument = self._quotes.find(BINANCE, symbol)
        if instrument is None:
            raise _bad_request(-1121, "Invalid symbol.")
        return instrument


def force_order(record: Record, now_ms: int) -> dict[str, object]:
    """Return the event as it stands on the wire. The side is the closing order's: SELL closes a long."""
    liquidation = record.liquidation
    instrument = liquidation.instrument
    quantity = f"{record.contract_quantity:f}"
    limit_price = liquidation.bankruptcy_ticks * float(instrument.tick)
    return {
        "e": "forceOrder",
        "E": now_ms,
        "o": {
            "s": instrument.symbol,
            "S": "SELL" if liquidation.position_side == LONG else "BUY",
            "o": "LIMIT",
            "f": "IOC",
            "q": quantity,
            "p": f"{limit_price:.{instrument.price_decimals}f}",
            "ap": f"{record.price:f}",
            "X": "FILLED",
            "l": f"{liquidation.last_fill_lots * instrument.lot:f}",
            "z": quantity,
            "T": record.event_time_ms,
            "ps": _pair(instrument),
            "st": 1,
        },
    }


def _pair(instrument: Instrument) -> str:
    return f"{instrument.base}USDT"


def _listed(instrument: Instrument) -> dict[str, object]:
    """Return the instrument's line in exchangeInfo."""
    return {
        "symbol": instrument.symbol,
        "pair": _pair(instrument),
        "contractType": "PERPETUAL" if instrument.is_perpetual else "CURRENT_QUARTER",
        "deliveryDate": instrument.delivery_ms or _FOREVER_MS,
        "onboardDate": _ONBOARD_MS,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": instrument.price_decimals,
        "quantityPrecision": instrument.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": f"{instrument.tick:f}",
                "maxPrice": "4529764",
                "tickSize": f"{instrument.tick:f}",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": f"{instrument.lot:f}",
                "maxQty": "100000000",
                "stepSize": f"{instrument.lot:f}",
            },
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }


def _premium(quote: Quote, now_ms: int) -> dict[str, object]:
    """Return the instrument's line in premiumIndex; a dated future has no funding."""
    is_perpetual = quote.instrument.is_perpetual
    return {
        "symbol": quote.instrument.symbol,
        "markPrice": f"{quote.mark_price:.8f}",
        "indexPrice": f"{quote.index_price:.8f}",
        "estimatedSettlePrice": f"{quote.index_price:.8f}",
        "lastFundingRate": f"{quote.funding_rate:.8f}" if is_perpetual else "",
        "interestRate": "0.00010000" if is_perpetual else "",
        "nextFundingTime": quote.next_funding_ms,
        "time": now_ms,
    }


def _level(instrument: Instrument, ticks: int, lots: int) -> list[str]:
    price = ticks * float(instrument.tick)
    return [f"{price:.{instrument.price_decimals}f}", f"{lots * instrument.lot:f}"]


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise _bad_request(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return int(text)


def _json(body: object) -> web.Response:
    return web.json_response(body, dumps=to_text)


def _refusal(code: int, message: str) -> str:
    return to_text({"error": {"code": code, "msg": message}})


def _bad_request(code: int, message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=to_text({"code": code, "msg": message}), content_type="application/json")
