"""One application on one port: the venues below their prefixes, the chain and the mining sites, the truth and the controls.

===================  ===========================================================================================
``/binance-usdm``    base URL of Binance USD-M, REST and WebSocket
``/bybit-linear``    base URL of Bybit (all of it; so is ``/bybit-inverse``)
``/okx``             base URL of OKX
``/ethereum``, ``/mempool``, ``/blockchain-com``   see ``ethereum.py`` and ``mining.py``
``GET /truth``       every liquidation; ``?venue=okx``, ``?published=true`` narrow it down
``GET /truth/summary``   sums by venue and side: all, published, delivered to a subscriber
``GET /control/state``   where the simulation is
``POST /control/stop-liquidations``   nobody is liquidated any more; answers when all that happened has been published
``POST /control/start``   ends ``--wait``
``POST /control/retire?venue=okx``   the venue acknowledges everything and publishes nothing; ``/control/revive`` ends that
``POST /control/faults/okx?kind=drop``   something goes wrong; see ``faults.py``
===================  ===========================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Protocol

from aiohttp import web

from simulator.binance import Binance
from simulator.bybit import Bybit
from simulator.exchange import Exchange, wall_ms
from simulator.faults import Faults
from simulator.instruments import BINANCE, BYBIT_INVERSE, BYBIT_LINEAR, OKX, VENUES, universe
from simulator.market import STEP_MS, Market
from simulator.okx import Okx
from simulator.quotes import Quotes
from simulator.scenarios import Scenario
from simulator.sockets import Hub, to_text

_SHUTDOWN_S = 1.0


class Part(Protocol):
    """Something that answers below paths of its own."""

    def routes(self) -> list[web.RouteDef]:
        """Return its routes."""


class Simulation:
    """A market, its venues and their server."""

    def __init__(
        self, scenario: Scenario, seed: int, *, speed: float = 1.0, waits: bool = False, retired: Collection[str] = ()
    ) -> None:
        """Build everything; nothing moves yet.

        Args:
            scenario: What happens.
            seed: Decides everything that happens.
            speed: Simulated seconds per second.
            waits: The market stands still until every venue has a subscriber.
            retired: Venues that acknowledge everything and publish nothing.
        """
        self.scenario, self.seed = scenario, seed
        market = Market(universe(wall_ms()), scenario, seed)
        self.exchange = Exchange(market, speed=speed)
        self.hub = Hub(self.exchange.was_subscribed, retired)
        self.faults = Faults(self.hub, self.exchange)
        quotes = Quotes(market, seed)
        binance, bybit, okx = Binance(self.hub, quotes), Bybit(self.hub, quotes), Okx(self.hub, quotes)
        self.exchange.connect(
            {BINANCE: binance.publish, BYBIT_LINEAR: bybit.publish, BYBIT_INVERSE: bybit.publish, OKX: okx.publish}
        )
        if waits:
            self.exchange.hold()
        self._mounted: tuple[tuple[str, Part], ...] = (
            (BINANCE, binance),
            (BYBIT_LINEAR, bybit),
            (BYBIT_INVERSE, bybit),
            (OKX, okx),
        )
        self._others: list[Part] = []
        self._bitcoin = next(n for n, each in enumerate(market.instruments) if each.asset == "BTC")

    def mount(self, *parts: Part) -> None:
        """Serve further parts at the root."""
        self._others.extend(parts)

    def bitcoin_price(self) -> float:
        """Return the price of bitcoin in USD now."""
        return self.exchange.market.index_price(self._bitcoin)

    def application(self) -> web.Application:
        """Return the server's application; the market begins to move when it starts."""
        application = web.Application(middlewares=[self.faults.middleware])
        for prefix, part in self._mounted:
            application.add_routes(
                [web.route(route.method, f"/{prefix}{route.path}", route.handler, **route.kwargs) for route in part.routes()]
            )
        for part in self._others:
            application.add_routes(part.routes())
        application.add_routes(
            [
                *self.faults.routes(),
                web.get("/truth", self._truth),
                web.get("/truth/summary", self._summary),
                web.get("/control/state", self._state),
                web.post("/control/stop-liquidations", self._stop_liquidations),
                web.post("/control/start", self._start),
                web.post("/control/retire", self._retire),
                web.post("/control/revive", self._revive),
            ]
        )
        application.cleanup_ctx.append(self._move)
        application.on_shutdown.append(self._say_goodbye)
        return application

    @contextlib.asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve while the context lasts; gives the base URL."""
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            yield f"http://{host}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _move(self, _: web.Application) -> AsyncIterator[None]:
        moving = asyncio.ensure_future(self.exchange.run())
        moving.add_done_callback(_raise_failure)
        yield
        moving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await moving

    async def _say_goodbye(self, _: web.Application) -> None:
        await self.hub.close()

    async def _truth(self, request: web.Request) -> web.Response:
        only_published = request.query.get("published") == "true"
        wanted = _venue(request) if "venue" in request.query else None
        venues: dict[str, list[object]] = {venue: [] for venue in VENUES if wanted in {None, venue}}
        for record in self.exchange.truth.records(venue=wanted, only_published=only_published):
            venues[record.liquidation.instrument.venue].append(record.to_json())
        body = {**self._where(), "forgotten": self.exchange.truth.forgotten, "venues": venues}
        return web.json_response(body, dumps=to_text)

    async def _summary(self, _: web.Request) -> web.Response:
        venues = {venue: truth.to_json() for venue, truth in self.exchange.truth.venues.items()}
        return web.json_response({**self._where(), "venues": venues}, dumps=to_text)

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(self._where(), dumps=to_text)

    async def _stop_liquidations(self, _: web.Request) -> web.Response:
        await self.exchange.stop_liquidations()
        await self.hub.drain()
        return web.json_response(self._where(), dumps=to_text)

    async def _start(self, _: web.Request) -> web.Response:
        self.exchange.start()
        return web.json_response(self._where(), dumps=to_text)

    async def _retire(self, request: web.Request) -> web.Response:
        self.hub.retired.add(_venue(request))
        return web.json_response(self._where(), dumps=to_text)

    async def _revive(self, request: web.Request) -> web.Response:
        self.hub.retired.discard(_venue(request))
        return web.json_response(self._where(), dumps=to_text)

    def _where(self) -> dict[str, object]:
        market = self.exchange.market
        return {
            "scenario": self.scenario.name,
            "seed": self.seed,
            "speed": self.exchange.speed,
            "start_ms": self.exchange.start_ms,
            "now_ms": wall_ms(),
            "steps": market.steps,
            "scenario_seconds": round(market.steps * STEP_MS / 1000, 3),
            "is_waiting": self.exchange.is_held,
            "is_frozen": market.is_frozen,
            "is_idle": self.exchange.is_idle,
            "connections": len(self.hub),
            "listeners": {venue: self.hub.count_listeners(venue) for venue in VENUES},
            "retired": sorted(self.hub.retired),
        }


def _venue(request: web.Request) -> str:
    """Return the venue that a request names; refuse one that there is not."""
    wanted = request.query.get("venue", "")
    if wanted not in VENUES:
        raise web.HTTPBadRequest(text=f"unknown venue {wanted}; one of {', '.join(VENUES)}")
    return wanted


def _raise_failure(task: asyncio.Future[None]) -> None:
    """Let a defect in the market stop the program instead of leaving it silent."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        raise SystemExit(1) from failure
