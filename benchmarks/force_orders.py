"""Serves recorded Binance liquidations as real frames over a real WebSocket to the real connector, and compares the tables.

    python -m benchmarks.force_orders FILE.csv

The file has the columns symbol, side, average_price, filled_accumulated_quantity, trade_time_ms and the rest of an order, as
recorders of ``!forceOrder@arr`` keep them. Every row becomes one frame; the sum compared is filled quantity × average price.
"""

from __future__ import annotations

import asyncio
import csv
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from aiohttp import web

from flows.runtime import Runtime
from flows.settings import load_settings
from views.queries import open_tables, query

_SYMBOL = re.compile(r"(.+?)(USDT|USDC|USD1|BUSD|FDUSD)(?:_\d{6})?")
_QUIET_SECONDS = 3.0


def main(path: Path) -> int:
    """Run the comparison; return 0 when every row arrived with its exact value."""
    with path.open(encoding="utf-8", newline="") as lines:
        orders = list(csv.DictReader(lines))
    unique = {tuple(order.values()) for order in orders}
    expected = sum(_usd(dict(zip(orders[0], values, strict=True))) for values in unique)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        _run(orders, Path(folder))
        seconds = time.perf_counter() - started
        tables = open_tables(f"{folder}/tables")
        got = query("SELECT count(*) AS n, sum(notional_usd) AS usd FROM liquidations", tables).to_pylist()[0]
        dead = query("SELECT error, reason FROM dead_letters", tables).to_pylist()
        rows = query("SELECT symbol, position_side, notional_usd FROM liquidations", tables).to_pylist()
    print(f"frames sent            {len(orders)} ({len(orders) - len(unique)} of them to the letter twice)")
    print(f"rows in liquidations   {got['n']}")
    print(f"dead letters           {len(dead)} {dead[:3]}")
    print(f"filled × average, file {expected:.6f} USD")
    print(f"sum in the table       {got['usd']:.6f} USD")
    print(
        f"longs / shorts         {sum(row['position_side'] == 'LONG' for row in rows)} / "
        f"{sum(row['position_side'] == 'SHORT' for row in rows)}; file: "
        f"{sum(values[list(orders[0]).index('side')] == 'SELL' for values in unique)} SELL, "
        f"{sum(values[list(orders[0]).index('side')] == 'BUY' for values in unique)} BUY"
    )
    print(f"seconds                {seconds:.1f}")
    return 0 if got["n"] == len(unique) and abs(Decimal(str(got["usd"])) - expected) < Decimal("0.01") else 1


def _usd(order: dict[str, str]) -> Decimal:
    return Decimal(order["filled_accumulated_quantity"]) * Decimal(order["average_price"])


def _run(orders: list[dict[str, str]], folder: Path) -> None:
    port, sent = _serve(orders)
    settings = load_settings(
        {
            "data_dir": folder,
            "venues": ("binance-usdm",),
            "endpoints": {"binance-usdm": {"rest_url": f"http://127.0.0.1:{port}", "websocket_url": f"ws://127.0.0.1:{port}"}},
            "mining": {"source": None},
            "metrics": {"port": 0},
            "parameters": {"watch": {"watched_assets": ()}},
        }
    )
    with Runtime(settings) as runtime:
        tables = runtime.tables_sink()

        def stop_when_quiet() -> None:
            sent.wait(120)
            threading.Event().wait(_QUIET_SECONDS)
            runtime.stop.ask()

        threading.Thread(target=stop_when_quiet, daemon=True).start()
        runtime.run(runtime.live_source(tables), tables)


def _serve(orders: list[dict[str, str]]) -> tuple[int, threading.Event]:
    """Serve the contracts over REST and the orders over a WebSocket, in a thread; return the port and "all are sent"."""
    ready, sent, port = threading.Event(), threading.Event(), [0]

    async def exchange_info(_request: web.Request) -> web.Response:
        return web.json_response({"symbols": [_contract(symbol) for symbol in sorted({order["symbol"] for order in orders})]})

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for text in _frames(orders):
            await socket.send_str(text)
        sent.set()
        async for _message in socket:
            pass
        return socket

    async def run() -> None:
        app = web.Application()
        app.add_routes([web.get("/fapi/v1/exchangeInfo", exchange_info), web.get("/market/ws/{stream}", stream)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port[0] = runner.addresses[0][1]
        ready.set()
        await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    ready.wait(10)
    return port[0], sent


def _contract(symbol: str) -> dict[str, str]:
    spelled = _SYMBOL.fullmatch(symbol)
    base, quote = spelled.groups() if spelled else (symbol, "USDT")
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": quote,
        "marginAsset": quote,
    }


def _frames(orders: Iterable[dict[str, str]]) -> Iterable[str]:
    for order in orders:
        time_ms = int(order["trade_time_ms"])
        yield json.dumps(
            {
                "e": "forceOrder",
                "E": time_ms + 1,
                "o": {
                    "s": order["symbol"],
                    "S": order["side"],
                    "o": order["order_type"],
                    "f": order["time_in_force"],
                    "q": order["original_quantity"],
                    "p": order["price"],
                    "ap": order["average_price"],
                    "X": order["order_status"],
                    "l": order["last_filled_quantity"],
                    "z": order["filled_accumulated_quantity"],
                    "T": time_ms,
                },
            }
        )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
