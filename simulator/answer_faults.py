"""What a server may answer instead of what was asked: one function each. Who asks for them is :mod:`simulator.faults`.

They serve REST, JSON-RPC and the opening handshakes of WebSockets alike. Written from RFC 9110 (HTTP) and the vendors' pages
on limits; how nodes say that a range is too wide is in their documents and their users' reports.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import cycle

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOOK_S = 0.05
_FLOOD_BYTES = 64 * 1024
_PAGE = "<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>\n"

_BODIES = {
    418: '{"code":-1003,"msg":"Way too many requests; IP banned until later. Please use the websocket for live updates."}',
    429: '{"code":-1003,"msg":"Too many requests; current limit of IP is 2400 requests per minute."}',
    451: '{"code":0,"msg":"Service unavailable from a restricted location according to \'b. Eligibility\'."}',
}
"""By code, as venues say it; any other code comes with a proxy's page."""

TOO_WIDE: tuple[tuple[int, int, str], ...] = (
    (200, -32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"),
    (400, -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range."),
    (200, -32005, "query returned more than 10000 results. Try with this block range [0x1, 0x2]."),
    (200, -32614, "eth_getLogs is limited to a 10,000 range"),
    (413, -32701, "exceed maximum block range: 50000"),
    (200, -32600, "block range is too wide"),
    (200, -32000, "Requested range exceeds maximum RPC range limit"),
    (200, 35, "ranges over 10000 blocks are not supported on freetier"),
)
"""HTTP code, JSON-RPC code and words with which nodes and their resellers refuse a range."""


@dataclass
class AnswerFault:
    """A wrong answer that is given for a while.

    Attributes:
        path: Part of the path and query of the requests that get it.
        until: Monotonic seconds.
        times: How many requests still get it; ``None``: all.
        code: Of a refusal.
        retry_after: Seconds that a refusal asks for; ``None``: it does not say.
        is_date: It says them as an HTTP date.
        delay: Seconds before the right answer.
        blocks: Of a range, that a node grants.
    """

    kind: str
    path: str = ""
    until: float = math.inf
    times: int | None = None
    code: int = 500
    retry_after: float | None = None
    is_date: bool = False
    delay: float = 3.0
    blocks: int = 60
    refusals: cycle[tuple[int, int, str]] = field(default_factory=lambda: cycle(TOO_WIDE))

    def strikes(self, path: str) -> bool:
        """Whether a request gets it, which uses one of its times."""
        if self.path not in path or self.is_over():
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def is_over(self) -> bool:
        """Whether no request gets it any more."""
        return self.times == 0 or time.monotonic() > self.until


async def refuse(fault: AnswerFault, _: web.Request, __: Handler) -> web.StreamResponse:
    """Answer with a code, and Retry-After where asked to."""
    headers = {}
    if fault.retry_after is not None:
        when = formatdate(math.ceil(time.time() + fault.retry_after), usegmt=True)
        headers["Retry-After"] = when if fault.is_date else str(math.ceil(fault.retry_after))
    if fault.code in _BODIES:
        return web.Response(status=fault.code, text=_BODIES[fault.code], content_type="application/json", headers=headers)
    return web.Response(status=fault.code, text=_PAGE, content_type="text/html", headers=headers)


async def wait(fault: AnswerFault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer rightly, but late."""
    await asyncio.sleep(fault.delay)
    return await handler(request)


async def say_nothing(_: AnswerFault, request: web.Request, __: Handler) -> web.StreamResponse:
    """Accept the request and never answer."""
    while not _is_gone(request):  # noqa: ASYNC110 - a transport has no event
        await asyncio.sleep(_LOOK_S)
    return web.Response()


async def show_page(_: AnswerFault, __: web.Request, ___: Handler) -> web.StreamResponse:
    """Answer with code 200 and a page for people."""
    return web.Response(text=_PAGE, content_type="text/html")


async def truncate(_: AnswerFault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the first half of the right body, as if it were whole."""
    body = await _right_body(request, handler)
    return web.Response(body=body[: len(body) // 2], content_type="application/json")


async def cut_off(_: AnswerFault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Announce the whole body, send half of it, and close."""
    body = await _right_body(request, handler)
    response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def never_end(_: AnswerFault, request: web.Request, __: Handler) -> web.StreamResponse:
    """Begin an answer and go on for ever, as fast as it is read."""
    return await _pour(request, _FLOOD_BYTES * b" ", pause_s=0.0)


async def trickle_on(_: AnswerFault, request: web.Request, __: Handler) -> web.StreamResponse:
    """Begin an answer and go on for ever, a byte at a time."""
    return await _pour(request, b" ", pause_s=_LOOK_S)


async def claim_gzip(_: AnswerFault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the right body under the name of a compression that it does not have."""
    body = await _right_body(request, handler)
    return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": "gzip"})


async def cap_range(fault: AnswerFault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse logs of more blocks than a few, each time in the words of another node."""
    calls = json.loads(await request.read())
    is_batch = isinstance(calls, list)
    if not any(_blocks_of(call) > fault.blocks for call in (calls if is_batch else [calls])):
        return await handler(request)
    status, code, words = next(fault.refusals)
    error = {"code": code, "message": words}
    answers = [{"jsonrpc": "2.0", "id": call.get("id"), "error": error} for call in (calls if is_batch else [calls])]
    return web.json_response(answers if is_batch else answers[0], status=status)


AnswerKind = Callable[[AnswerFault, web.Request, Handler], Awaitable[web.StreamResponse]]

ANSWER_FAULTS: Mapping[str, AnswerKind] = {
    "refuse": refuse,
    "slow": wait,
    "silence": say_nothing,
    "html": show_page,
    "truncated": truncate,
    "cut": cut_off,
    "endless": never_end,
    "endless-slow": trickle_on,
    "not-gzip": claim_gzip,
    "range-cap": cap_range,
}


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _pour(request: web.Request, octets: bytes, *, pause_s: float) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while not _is_gone(request):
        try:
            await response.write(octets)
        except ConnectionError:
            break
        await asyncio.sleep(pause_s)
    return response


async def _right_body(request: web.Request, handler: Handler) -> bytes:
    response = await handler(request)
    assert isinstance(response, web.Response)  # noqa: S101 - every REST handler here returns one
    return bytes(response.body) if isinstance(response.body, (bytes, bytearray)) else b""


def _blocks_of(call: object) -> int:
    """Return how many blocks' logs a JSON-RPC call asks for; 0 for any other call."""
    if not isinstance(call, dict) or call.get("method") != "eth_getLogs":
        return 0
    wanted = call["params"][0]
    return int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1
