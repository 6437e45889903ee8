"""What goes wrong between a venue and its client, on demand.

===================================  ================================================================================
``POST /control/faults/okx?kind=…``  begins a fault at a place: a venue's id, ``ethereum``, ``mempool``, ``blockchain-com``
``DELETE /control/faults/okx``       ends the wrong answers and the wrong clock of a place
``GET /control/faults``              what was done so far, with size and hash of every frame that is no venue's
``GET /control/requests/okx``        every request below ``/okx``: when, path and query, the fault that it met
===================================  ================================================================================

Kinds, and the parameters that they know beside ``kind``:

- of the connections that there are: ``drop``, ``mute``, ``half``, ``half-close``, ``garbage`` (``times``), ``gzip``
  (``times``), ``deflate``, ``big`` (``bytes``, ``last``), ``trickle`` and ``shuffle`` (``seconds``); see ``socket_faults.py``;
- of answers to requests and handshakes whose path holds ``path``, so many ``times`` or ``seconds``: ``refuse`` (``code``,
  ``retry_after``, ``date``), ``slow`` (``delay``), ``silence``, ``html``, ``truncated``, ``cut``, ``endless``,
  ``endless-slow``, ``not-gzip``, ``range-cap`` (``blocks``); see ``answer_faults.py``;
- of a venue: ``repeat`` (``seconds``): who subscribes is told once more; ``flood`` (``count``): liquidations in one
  millisecond; ``clock`` (``ahead`` seconds, negative: behind): the time of its events.

A fault changes nothing of the story that the seed tells. ``/truth`` counts as delivered what a client could get to read.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Middleware

from simulator.answer_faults import ANSWER_FAULTS, AnswerFault, Handler
from simulator.exchange import Exchange, wall_ms
from simulator.instruments import VENUES
from simulator.socket_faults import SOCKET_FAULTS, Asked, repeat_itself
from simulator.sockets import Hub, to_text

PLACES = (*VENUES, "ethereum", "mempool", "blockchain-com")
_VENUE_FAULTS = ("repeat", "flood", "clock")
_REMEMBERED_REQUESTS = 20_000
_REMEMBERED_DEEDS = 1_000


@dataclass
class Deed:
    """A fault that was begun. ``payloads``: whole frames sent that no venue would send."""

    place: str
    kind: str
    at_ms: int
    connections: int = 0
    payloads: list[bytes] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return it with each payload's size and SHA-256."""
        payloads = [{"bytes": len(each), "sha256": hashlib.sha256(each).hexdigest()} for each in self.payloads]
        named = {"place": self.place, "kind": self.kind, "at_ms": self.at_ms, "connections": self.connections}
        return {**named, "payloads": payloads}


class Faults:
    """All faults of a simulation."""

    def __init__(self, hub: Hub, exchange: Exchange) -> None:
        """Begin without any."""
        self._hub = hub
        self._exchange = exchange
        self._answers: defaultdict[str, list[AnswerFault]] = defaultdict(list)
        self._deeds: deque[Deed] = deque(maxlen=_REMEMBERED_DEEDS)
        self._requests: defaultdict[str, deque[dict[str, object]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED_REQUESTS))

    def routes(self) -> list[web.RouteDef]:
        """Return the controls."""
        return [
            web.post("/control/faults/{place}", self._begin),
            web.delete("/control/faults/{place}", self._end),
            web.get("/control/faults", self._tell),
            web.get("/control/requests/{place}", self._tell_requests),
        ]

    @property
    def middleware(self) -> Middleware:
        """What every request passes before its handler."""

        @web.middleware
        async def meet(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answer(request, handler)

        return meet

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        place = request.path.split("/")[1]
        if place not in PLACES or request.path.startswith("/ethereum/"):  # the chain's own truth and controls
            return await handler(request)
        fault = next((each for each in self._answers[place] if each.strikes(request.path_qs)), None)
        noted = {"at_ms": wall_ms(), "path": request.path_qs, "fault": "" if fault is None else fault.kind}
        self._requests[place].append(noted)
        return await (handler(request) if fault is None else ANSWER_FAULTS[fault.kind](fault, request, handler))

    async def _begin(self, request: web.Request) -> web.Response:
        place, kind = _place(request), request.query.get("kind", "")
        deed = Deed(place, kind, wall_ms())
        if kind in ANSWER_FAULTS:
            self._answers[place] = [each for each in self._answers[place] if not each.is_over()]
            self._answers[place].append(_answer_fault(request))
        elif kind in SOCKET_FAULTS:
            asked, connections = _asked(request), self._hub.connections(place)
            deed.connections = len(connections)
            await asyncio.gather(*(SOCKET_FAULTS[kind](each, asked, deed.payloads) for each in connections))
        elif kind in _VENUE_FAULTS and place in VENUES:
            await self._begin_of_venue(place, kind, request)
        else:
            known = ", ".join((*SOCKET_FAULTS, *ANSWER_FAULTS, *_VENUE_FAULTS))
            raise web.HTTPBadRequest(text=f"unknown kind {kind!r}, or not of this place; one of {known}")
        self._deeds.append(deed)
        return web.json_response(deed.to_json(), dumps=to_text)

    async def _begin_of_venue(self, venue: str, kind: str, request: web.Request) -> None:
        if kind == "repeat":
            repeat_itself(self._hub, venue, _asked(request))
        elif kind == "flood":
            await self._exchange.flood(venue, int(_number(request, "count", 1_000)))
        else:
            self._exchange.clock_ahead_ms[venue] = round(_number(request, "ahead", 0) * 1_000)

    async def _end(self, request: web.Request) -> web.Response:
        place = _place(request)
        self._answers.pop(place, None)
        if place in VENUES:
            self._exchange.clock_ahead_ms[place] = 0
        return web.json_response({}, dumps=to_text)

    async def _tell(self, _: web.Request) -> web.Response:
        return web.json_response([deed.to_json() for deed in self._deeds], dumps=to_text)

    async def _tell_requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._requests[_place(request)]), dumps=to_text)


def _place(request: web.Request) -> str:
    place = request.match_info["place"]
    if place not in PLACES:
        raise web.HTTPBadRequest(text=f"unknown place {place}; one of {', '.join(PLACES)}")
    return place


def _answer_fault(request: web.Request) -> AnswerFault:
    seconds, times = _number(request, "seconds", math.inf), _number(request, "times", math.inf)
    return AnswerFault(
        kind=request.query["kind"],
        path=request.query.get("path", ""),
        until=time.monotonic() + seconds,
        times=None if times == math.inf else int(times),
        code=int(_number(request, "code", AnswerFault.code)),
        retry_after=_number(request, "retry_after", 0) if "retry_after" in request.query else None,
        is_date=request.query.get("date") == "true",
        delay=_number(request, "delay", AnswerFault.delay),
        blocks=int(_number(request, "blocks", AnswerFault.blocks)),
    )


def _asked(request: web.Request) -> Asked:
    return Asked(
        seconds=_number(request, "seconds", Asked.seconds),
        times=int(_number(request, "times", Asked.times)),
        size_bytes=int(_number(request, "bytes", Asked.size_bytes)),
        is_last=request.query.get("last") == "true",
    )


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise web.HTTPBadRequest(text=f"{name}: {text!r} is not a number") from None
