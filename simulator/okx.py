"""OKX v5 as its documents have it: the liquidation-orders channel and the public REST endpoints.

Docs: the vendor's pages "Liquidation orders channel", "Subscribe", "Get instruments", "Get open interest", "Get funding rate",
"Get mark price", "Get index tickers", "Get order book", "Get contract long/short ratio". The refusals' words are those seen on
the wire.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from aiohttp import web

from simulator.exchange import wall_ms
from simulator.instruments import OKX, Instrument
from simulator.positions import LONG
from simulator.quotes import Quote, Quotes, five_minutes
from simulator.sockets import Connection, Hub, KeepAlive, to_text
from simulator.truth import Record

_LIQUIDATIONS = "liquidation-orders"
_CHANNELS = frozenset({_LIQUIDATIONS, "adl-warning"})  # the second is accepted and says nothing
_KINDS = frozenset({"SWAP", "FUTURES", "MARGIN", "OPTION"})
_KEEP_ALIVE = KeepAlive(idle_after=30.0, idle_code=(4004, "No data received in 30s"))
_BOOK_DEFAULT, _BOOK_LIMIT = 1, 400
_RATIO_DEFAULT, _RATIO_LIMIT = 100, 100
_HOUR_MS = 3_600_000
_LIST_MS = "1573557408000"


class Okx:
    """The venue."""

    def __init__(self, hub: Hub, quotes: Quotes) -> None:
        """Serve these quotes and publish through this hub."""
        self._hub = hub
        self._quotes = quotes

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, below this venue's prefix."""
        return [
            web.get("/ws/v5/public", self._stream),
            web.get("/api/v5/public/time", self._time),
            web.get("/api/v5/public/instruments", self._instruments),
            web.get("/api/v5/public/open-interest", self._open_interest),
            web.get("/api/v5/public/funding-rate", self._funding_rate),
            web.get("/api/v5/public/mark-price", self._mark_price),
            web.get("/api/v5/market/index-tickers", self._index_tickers),
            web.get("/api/v5/market/books", self._books),
            web.get("/api/v5/rubik/stat/contracts/long-short-account-ratio-contract", self._ratio),
        ]

    def publish(self, records: Sequence[Record], _: int) -> list[int]:
        """Send the records, all of one instrument type, in one message; return to how many connections."""
        kind = _kind(records[0].liquidation.instrument)
        subscribers = tuple(self._hub.subscribers(OKX, f"{_LIQUIDATIONS}:{kind}"))
        if not subscribers:
            return [0] * len(records)
        argument = {"channel": _LIQUIDATIONS, "instType": kind}
        text = to_text({"arg": argument, "data": [liquidated(record) for record in records]})
        receivers = sum(self._hub.deliver(connection, OKX, text) for connection in subscribers)
        return [receivers] * len(records)

    # WebSocket.

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        return await self._hub.serve(request, on_open=lambda _: None, on_text=self._on_text, keep_alive=_KEEP_ALIVE)

    def _on_text(self, connection: Connection, text: str) -> None:
        if text == "ping":
            connection.send("pong")
            return
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        is_request = isinstance(request, dict) and isinstance(request.get("args"), list)
        if not is_request or request.get("op") not in {"subscribe", "unsubscribe"}:
            connection.send(_error(connection, {}, "60012", f"Invalid request: {text}"))
            return
        for argument in request["args"]:
            self._subscribe(connection, request, argument)

    def _subscribe(self, connection: Connection, request: dict[str, object], argument: object) -> None:
        """Answer one argument of a request; each has its own answer."""
        given = argument if isinstance(argument, dict) else {}
        channel, kind = given.get("channel"), given.get("instType")
        # The channel knows instruments by type only: a single instrument is refused, a family silently dropped.
        if channel not in _CHANNELS or kind not in _KINDS or "instId" in given:
            named = ",".join(f"{name}:{value}" if name != "channel" else f"channel:{value}" for name, value in given.items())
            advice = "Please use the correct URL, channel and parameters referring to API document."
            connection.send(_error(connection, request, "60018", f"Wrong URL or {named} doesn't exist. {advice}"))
            return
        operation = str(request["op"])
        act = self._hub.subscribe if operation == "subscribe" else self._hub.unsubscribe
        act(connection, OKX, f"{channel}:{kind}")
        answer: dict[str, object] = {
            "event": operation,
            "arg": {"channel": channel, "instType": kind},
            "connId": connection.id,
        }
        connection.send(to_text(_with_id(request, answer)))

    # REST.

    async def _time(self, _: web.Request) -> web.Response:
        return _answered([{"ts": str(wall_ms())}])

    async def _instruments(self, request: web.Request) -> web.Response:
        return _answered([_listed(instrument) for instrument in self._wanted(request)])

    async def _open_interest(self, request: web.Request) -> web.Response:
        now_ms = wall_ms()
        return _answered([_interest(self._quotes.quote(each, now_ms), now_ms) for each in self._wanted(request)])

    async def _funding_rate(self, request: web.Request) -> web.Response:
        symbol = request.query.get("instId", "")
        swaps = [each for each in self._quotes.instruments(OKX) if each.is_perpetual and symbol in {"ANY", each.symbol}]
        if not swaps:
            return _no_such_instrument(symbol)
        now_ms = wall_ms()
        return _answered([_funding(self._quotes.quote(each, now_ms), now_ms) for each in swaps])

    async def _mark_price(self, request: web.Request) -> web.Response:
        now_ms = wall_ms()
        rows = []
        for instrument in self._wanted(request):
            mark = self._quotes.quote(instrument, now_ms).mark_price
            rows.append(
                {
                    "instId": instrument.symbol,
                    "instType": _kind(instrument),
                    "markPx": _short(f"{mark:.{instrument.price_decimals}f}"),
                    "ts": str(now_ms),
                }
            )
        return _answered(rows)

    async def _index_tickers(self, request: web.Request) -> web.Response:
        now_ms = wall_ms()
        wanted, currency = request.query.get("instId", ""), request.query.get("quoteCcy", "")
        indices = {_family(instrument): instrument for instrument in self._quotes.instruments(OKX)}
        rows = []
        for name, instrument in indices.items():
            if name == wanted or (not wanted and name.endswith(f"-{currency}")):
                price = f"{self._quotes.quote(instrument, now_ms).index_price:.{instrument.price_decimals}f}"
                day = dict.fromkeys(("high24h", "low24h", "open24h", "sodUtc0", "sodUtc8"), price)
                rows.append({"instId": name, "idxPx": price, **day, "ts": str(now_ms)})
        return _answered(rows) if rows else _no_such_instrument(wanted or currency)

    async def _books(self, request: web.Request) -> web.Response:
        symbol = request.query.get("instId", "")
        instrument = self._quotes.find(OKX, symbol)
        if instrument is None:
            return _no_such_instrument(symbol)
        levels = _number(request, "sz", _BOOK_DEFAULT, _BOOK_LIMIT)
        book = self._quotes.book(instrument, levels)
        now_ms = wall_ms()
        return _answered(
            [
                {
                    "asks": [_level(instrument, *level) for level in book.asks],
                    "bids": [_level(instrument, *level) for level in book.bids],
                    "ts": str(now_ms),
                    "seqId": now_ms,
                }
            ]
        )

    async def _ratio(self, request: web.Request) -> web.Response:
        symbol = request.query.get("instId", "")
        instrument = self._quotes.find(OKX, symbol)
        if instrument is None:
            return _no_such_instrument(symbol)
        now_ms = wall_ms()
        ratio = f"{self._quotes.quote(instrument, now_ms).long_short_ratio:.16f}"
        count = _number(request, "limit", _RATIO_DEFAULT, _RATIO_LIMIT)
        return _answered([[str(time_ms), ratio] for time_ms in five_minutes(now_ms, count)])

    def _wanted(self, request: web.Request) -> list[Instrument]:
        """Return the instruments that the query asks for.

        Raises:
            web.HTTPBadRequest: No or an unknown instrument type.
            web.HTTPOk: The refusal of an instrument that does not exist, which the venue sends with status 200.
        """
        kind = request.query.get("instType", "")
        if kind not in _KINDS:
            raise web.HTTPBadRequest(
                text=_body("50014", "Parameter instType can not be empty.", []), content_type="application/json"
            )
        symbol, family = request.query.get("instId"), request.query.get("instFamily") or request.query.get("uly")
        found = [
            instrument
            for instrument in self._quotes.instruments(OKX)
            if _kind(instrument) == kind and symbol in {None, instrument.symbol} and family in {None, _family(instrument)}
        ]
        if symbol is not None and not found:
            raise web.HTTPOk(text=_no_such_instrument(symbol).text, content_type="application/json")
        return found


def liquidated(record: Record) -> dict[str, object]:
    """Return one contract's entry of a push. ``side`` is the closing order's, ``posSide`` the position's."""
    instrument = record.liquidation.instrument
    is_long = record.liquidation.position_side == LONG
    return {
        "details": [
            {
                "bkLoss": "0",
                "bkPx": _short(f"{record.price:f}"),
                "ccy": "",
                "posSide": "long" if is_long else "short",
                "side": "sell" if is_long else "buy",
                "sz": _short(f"{record.contract_quantity:f}"),
                "ts": str(record.event_time_ms),
            }
        ],
        "instFamily": _family(instrument),
        "instId": instrument.symbol,
        "instType": _kind(instrument),
        "uly": _family(instrument),
    }


def _kind(instrument: Instrument) -> str:
    return "SWAP" if instrument.is_perpetual else "FUTURES"


def _family(instrument: Instrument) -> str:
    return f"{instrument.base}-{instrument.quote}"


def _short(text: str) -> str:
    """Return the number as OKX prints it: without zeros at the end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _listed(instrument: Instrument) -> dict[str, object]:
    """Return the instrument's line in instruments."""
    return {
        "alias": "" if instrument.is_perpetual else "quarter",
        "auctionEndTime": "",
        "baseCcy": "",
        "category": "1",
        "contTdSwTime": "",
        "ctMult": "1",
        "ctType": "inverse" if instrument.is_inverse else "linear",
        "ctVal": f"{instrument.contract_size:f}",
        "ctValCcy": "USD" if instrument.is_inverse else instrument.base,
        "expTime": str(instrument.delivery_ms or ""),
        "futureSettlement": False,
        "instFamily": _family(instrument),
        "instId": instrument.symbol,
        "instType": _kind(instrument),
        "lever": "100",
        "listTime": _LIST_MS,
        "lotSz": f"{instrument.lot:f}",
        "maxIcebergSz": "100000000.0000000000000000",
        "maxLmtAmt": "20000000",
        "maxLmtSz": "100000000",
        "maxMktAmt": "",
        "maxMktSz": "12000",
        "maxStopSz": "12000",
        "maxTriggerSz": "100000000.0000000000000000",
        "maxTwapSz": "100000000.0000000000000000",
        "minSz": f"{instrument.lot:f}",
        "openType": "",
        "optType": "",
        "preMktSwTime": "",
        "quoteCcy": "",
        "ruleType": "normal",
        "settleCcy": instrument.settle,
        "state": "live",
        "stk": "",
        "tickSz": f"{instrument.tick:f}",
        "uly": _family(instrument),
    }


def _interest(quote: Quote, now_ms: int) -> dict[str, str]:
    """Return the instrument's line in open-interest: contracts, coins and USD."""
    return {
        "instId": quote.instrument.symbol,
        "instType": _kind(quote.instrument),
        "oi": _short(f"{quote.open_interest:f}"),
        "oiCcy": _short(f"{quote.open_interest_coins:.8f}"),
        "oiUsd": f"{quote.open_interest_usd:.8f}",
        "ts": str(now_ms),
    }


def _funding(quote: Quote, now_ms: int) -> dict[str, str]:
    """Return the instrument's line in funding-rate. The interval is the distance of the two funding times."""
    following_ms = quote.next_funding_ms + quote.funding_hours * _HOUR_MS
    rate = f"{quote.funding_rate:.16f}"
    return {
        "formulaType": "withRate",
        "fundingRate": rate,
        "fundingTime": str(quote.next_funding_ms),
        "impactValue": "20000",
        "instId": quote.instrument.symbol,
        "instType": "SWAP",
        "interestRate": "0.0001",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "minFundingRate": "-0.00375",
        "nextFundingRate": "",
        "nextFundingTime": str(following_ms),
        "premium": f"{quote.mark_price / quote.index_price - 1:.16f}",
        "settFundingRate": rate,
        "settState": "settled",
        "ts": str(now_ms),
    }


def _level(instrument: Instrument, ticks: int, lots: int) -> list[str]:
    """Return price, contracts, a retired zero, and the number of orders."""
    price = ticks * float(instrument.tick)
    return [_short(f"{price:.{instrument.price_decimals}f}"), _short(f"{lots * instrument.lot:f}"), "0", "3"]


def _number(request: web.Request, name: str, default: int, limit: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not 1 <= int(text) <= limit:
        raise web.HTTPBadRequest(text=_body("51000", f"Parameter {name} error", []), content_type="application/json")
    return int(text)


def _with_id(request: dict[str, object], answer: dict[str, object]) -> dict[str, object]:
    return {"id": request["id"], **answer} if "id" in request else answer


def _error(connection: Connection, request: dict[str, object], code: str, message: str) -> str:
    return to_text(_with_id(request, {"event": "error", "msg": message, "code": code, "connId": connection.id}))


def _body(code: str, message: str, data: object) -> str:
    return to_text({"code": code, "msg": message, "data": data})


def _answered(data: object) -> web.Response:
    return web.Response(text=_body("0", "", data), content_type="application/json")


def _no_such_instrument(symbol: str) -> web.Response:
    return web.Response(text=_body("51001", f"Instrument ID {symbol} doesn't exist.", []), content_type="application/json")
