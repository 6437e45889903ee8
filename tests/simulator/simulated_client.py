"""A client that knows the venues' protocols from their documents only, and a simulation to point it at."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

import aiohttp
from loopback import serving as serving_routes

from simulator.server import Simulation

MICRO = Decimal("0.000001")


@contextlib.asynccontextmanager
async def serving(scenario, seed=1, **options):
    """Serve a simulation; gives it, its URL and a client session."""
    simulation = Simulation(scenario, seed, **options)
    async with simulation.serve() as url, aiohttp.ClientSession() as session:
        yield simulation, url, session


@contextlib.asynccontextmanager
async def serving_part(part):
    """Serve one part of a simulation alone; gives a client session at its URL."""
    async with serving_routes(*part.routes()) as url, aiohttp.ClientSession(url) as session:
        yield session


async def get(session, url, path, expected_status=200):
    async with session.get(url + path) as answer:
        assert answer.status == expected_status, await answer.text()
        return await answer.json()


async def post(session, url, path):
    async with session.post(url + path) as answer:
        assert answer.status == 200
        return await answer.json()


async def until(session, url, seconds):
    """Wait until so many seconds of the scenario have passed: a slow machine takes longer."""
    while (await get(session, url, "/control/state"))["scenario_seconds"] < seconds:  # noqa: ASYNC110 - no event across HTTP
        await asyncio.sleep(0.05)


def socket(session, url, path):
    return session.ws_connect(url.replace("http", "ws") + path, max_msg_size=0, autoping=True)


async def exchange(connection, *messages):
    """Send messages, one after the other, and return the answer to each."""
    answers = []
    for message in messages:
        await connection.send_str(message if isinstance(message, str) else json.dumps(message))
        text = await connection.receive_str(timeout=5)
        answers.append(text if text == "pong" else json.loads(text))
    return answers


@dataclass
class Tape:
    """Every frame of every venue, read by sockets that subscribe to everything."""

    session: aiohttp.ClientSession
    url: str
    frames: dict[str, list[dict]] = field(default_factory=lambda: {venue: [] for venue in VENUES})

    @contextlib.asynccontextmanager
    async def rolling(self):
        linear = await get(self.session, self.url, "/bybit-linear/v5/market/instruments-info?category=linear")
        swaps = await get(self.session, self.url, "/okx/api/v5/public/instruments?instType=SWAP")
        futures = await get(self.session, self.url, "/okx/api/v5/public/instruments?instType=FUTURES")
        self.contracts = {row["instId"]: row for row in swaps["data"] + futures["data"]}
        topics = [f"allLiquidation.{row['symbol']}" for row in linear["result"]["list"]]
        kinds = [{"channel": "liquidation-orders", "instType": kind} for kind in ("SWAP", "FUTURES")]
        wanted = {
            "binance-usdm": ("/binance-usdm/market/ws/!forceOrder@arr", None),
            "bybit-linear": ("/bybit-linear/v5/public/linear", {"op": "subscribe", "args": topics}),
            "bybit-inverse": (
                "/bybit-inverse/v5/public/inverse",
                {"op": "subscribe", "args": ["allLiquidation.BTCUSD", "allLiquidation.ETHUSD"]},
            ),
            "okx": ("/okx/ws/v5/public", {"op": "subscribe", "args": kinds}),
        }
        async with contextlib.AsyncExitStack() as stack:
            readers = []
            for venue, (path, subscription) in wanted.items():
                connection = await stack.enter_async_context(socket(self.session, self.url, path))
                if subscription:
                    await connection.send_json(subscription)
                readers.append(asyncio.ensure_future(self._read(venue, connection)))
            yield self
            await asyncio.sleep(0.2)
            for reader in readers:
                reader.cancel()

    async def _read(self, venue, connection):
        async for message in connection:
            frame = json.loads(message.data)
            if not {"op", "event"} & frame.keys():
                self.frames[venue].append(frame)

    def events(self):
        """Return (venue, symbol, side of the position, notional rounded to micro-USD, event time) of everything read."""
        yield from map(_binance, self.frames["binance-usdm"])
        for venue in ("bybit-linear", "bybit-inverse"):
            for frame in self.frames[venue]:
                for item in frame["data"]:
                    side = {"Buy": "LONG", "Sell": "SHORT"}[item["S"]]
                    usd = Decimal(item["v"]) * (Decimal(item["p"]) if venue == "bybit-linear" else 1)
                    yield venue, item["s"], side, _micro(usd), item["T"]
        for frame in self.frames["okx"]:
            for item in frame["data"]:
                for detail in item["details"]:
                    yield self._okx(item["instId"], detail)

    def _okx(self, symbol, detail):
        contract = self.contracts[symbol]
        usd = Decimal(detail["sz"]) * Decimal(contract["ctVal"])
        if contract["ctType"] == "linear":
            usd *= Decimal(detail["bkPx"])
        return "okx", symbol, detail["posSide"].upper(), _micro(usd), int(detail["ts"])

    def sums(self):
        """Return count and USD by venue and side."""
        totals = {venue: {side: [0, Decimal(0)] for side in ("LONG", "SHORT")} for venue in VENUES}
        for venue, _, side, usd, _ in self.events():
            totals[venue][side][0] += 1
            totals[venue][side][1] += usd
        return totals


def _binance(frame):
    order = frame["o"]
    usd = Decimal(order["ap"]) * Decimal(order["z"])
    return "binance-usdm", order["s"], {"SELL": "LONG", "BUY": "SHORT"}[order["S"]], _micro(usd), order["T"]


def _micro(usd):
    return usd.quantize(MICRO, ROUND_HALF_EVEN)


VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
