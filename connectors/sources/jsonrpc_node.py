"""One Ethereum node, asked: JSON-RPC 2.0 over HTTP, in batches, every answer checked, every failure named.

A node's URL may hold an API key, so it appears in no message here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from connectors import clock
from connectors.secrets import SECRETS
from connectors.sources.reconnecting import BLOCKED_CODES, BUSY_CODES, retry_after_seconds

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Ten thousand logs, the usual cap of a node, are about 7 MB; a longer answer is refused, and the range with it."""

_MAX_REASON_CHARS = 200
_HTTP_OK = 200
_HTTP_TOO_LARGE = 413
_MAX_BLOCK = 2**52  # what a frame may say, so that nothing is asked for in vain
_MAX_UNIX_SECONDS = 253_402_300_799  # the year 9999: the same
_CODE_LIMIT_EXCEEDED = -32005  # EIP-1474; nodes send it for a wide range and for a fast caller alike

# What nodes and their resellers were seen to say. Looked for in this order: "requests per second" names a limit as well.
_SAYS_RATE = re.compile(r"rate.?limit|too many requests|request count|per second|compute units|credits limited", re.IGNORECASE)
_SAYS_BEHIND = re.compile(
    r"beyond|current head|latest block|future|invalid block range|(header|block) not found|unknown block", re.IGNORECASE
)
_SAYS_RANGE = re.compile(
    r"range|too (many|large|wide|big)|more than [\d,]+|max(imum)?\b.*(results|blocks|logs)|exceeds? (the )?(max|limit)"
    r"|(response|result|log|query).*(size|limit)|limited to|at most [\d,]+|smaller than|time.?out|timed out",
    re.IGNORECASE,
)


class NodeError(Exception):
    """The node did not say what was asked.

    Attributes:
        reason: In words, without the URL.
        wait_seconds: How long the node wants to be left alone; None when it does not say.
        is_blocked: It does not serve us at all (a wrong key, a wrong country): a quick retry heals nothing.
    """

    def __init__(self, reason: str, *, wait_seconds: float | None = None, is_blocked: bool = False) -> None:
        """Leave out what may be a key, and cut the reason to a bearable length."""
        self.reason = SECRETS.clean(reason)[:_MAX_REASON_CHARS]
        super().__init__(self.reason)
        self.wait_seconds = wait_seconds
        self.is_blocked = is_blocked


class RangeTooLargeError(NodeError):
    """The node refuses so many blocks, or so many results, in one answer: ask for fewer."""


class NodeTimeoutError(NodeError):
    """No answer in time. The node may be busy, or the question too large."""


class Call(msgspec.Struct, frozen=True):
    """One method and its parameters."""

    method: str
    params: list[Any]


class Header(msgspec.Struct, frozen=True):
    """What we need of a block. ``parent_hash`` is empty where the node leaves it out; ``time_s`` is unix seconds."""

    number: int
    hash: str
    parent_hash: str
    time_s: int


class _WireHeader(msgspec.Struct, frozen=True):
    number: str
    hash: str
    timestamp: str
    parent_hash: str = msgspec.field(default="", name="parentHash")


class _WireError(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    data: Any = None


class _WireAnswer(msgspec.Struct, frozen=True):
    id: int | str | None = None
    result: Any = None
    error: _WireError | None = None


_ANSWERS = msgspec.json.Decoder(list[_WireAnswer])
_ANSWER = msgspec.json.Decoder(_WireAnswer)


@dataclass(frozen=True)
class Node:
    """An endpoint.

    Attributes:
        timeout_seconds: For one HTTP request, from address look-up to the last byte.
        max_batch_requests: Calls per HTTP request; 1 for nodes that know no batches.
    """

    client: httpx.AsyncClient
    url: str = field(repr=False)
    timeout_seconds: float
    max_batch_requests: int

    async def ask(self, calls: Sequence[Call]) -> list[Any]:
        """Return every call's result, in the order asked.

        Raises:
            NodeError: Any call failed; nothing of the others is returned.
        """
        results: list[Any] = []
        for first in range(0, len(calls), self.max_batch_requests):
            results += await self._ask_batch(calls[first : first + self.max_batch_requests])
        return results

    async def _ask_batch(self, calls: Sequence[Call]) -> list[Any]:
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params} for number, call in enumerate(calls)
        ]
        payload = await self._post(msgspec.json.encode(requests if len(requests) > 1 else requests[0]))
        by_id = {answer.id: answer for answer in _answers_of(payload)}
        # A node that refuses the batch as a whole sends one answer, with no id.
        for answer in by_id.values():
            if answer.error is not None:
                raise _named_error(answer.error)
        try:
            return [by_id[number].result for number in range(len(calls))]
        except KeyError as error:
            raise NodeError(f"the node left request {error} of a batch unanswered") from error

    async def _post(self, body: bytes) -> bytes:
        try:
            response, payload = await asyncio.wait_for(self._exchange(body), self.timeout_seconds)
        except (asyncio.TimeoutError, httpx.TimeoutException) as error:
            raise NodeTimeoutError(f"no answer in {self.timeout_seconds} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NodeError(f"{type(error).__name__}: {error}") from error
        if response.status_code != _HTTP_OK:
            raise _http_error(response, payload)
        return payload

    async def _exchange(self, body: bytes) -> tuple[httpx.Response, bytes]:
        headers = {"content-type": "application/json"}
        payload = bytearray()
        # httpx's own limit is per read; whoever trickles is stopped by the caller's.
        async with self.client.stream(
            "POST", self.url, content=body, headers=headers, timeout=self.timeout_seconds
        ) as response:
            async for chunk in response.aiter_bytes():
                payload += chunk
                if len(payload) > MAX_ANSWER_BYTES:
                    raise RangeTooLargeError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return response, bytes(payload)


def _answers_of(payload: bytes) -> list[_WireAnswer]:
    try:
        return _ANSWERS.decode(payload) if payload.lstrip()[:1] == b"[" else [_ANSWER.decode(payload)]
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NodeError(f"not a JSON-RPC answer: {error}") from error


def _http_error(response: httpx.Response, payload: bytes) -> NodeError:
    code = response.status_code
    wait_seconds = retry_after_seconds(response.headers.get("retry-after"), now_us=clock.now_us())
    if code in BUSY_CODES:
        return NodeError(f"HTTP {code}", wait_seconds=wait_seconds)
    if code in BLOCKED_CODES:
        return NodeError(f"HTTP {code}", is_blocked=True)
    if code == _HTTP_TOO_LARGE:
        return RangeTooLargeError(f"HTTP {code}")
    try:  # some resellers wrap a JSON-RPC error, a range too wide for instance, in HTTP 400 or 500
        errors = [answer.error for answer in _answers_of(payload) if answer.error is not None]
    except NodeError:
        errors = []
    return _named_error(errors[0]) if errors else NodeError(f"HTTP {code}", wait_seconds=wait_seconds)


def _named_error(error: _WireError) -> NodeError:
    # Some put the words that matter into "data" and a mere "invalid params" into "message".
    text = f"{error.message} {error.data}" if error.data is not None else error.message
    reason = f"the node says {error.code}: {text}"
    if _SAYS_RATE.search(text) or _SAYS_BEHIND.search(text):
        return NodeError(reason)
    if _SAYS_RANGE.search(text) or error.code == _CODE_LIMIT_EXCEEDED:
        return RangeTooLargeError(reason)
    return NodeError(reason)


def quantity(value: object) -> int:
    """Read a JSON-RPC quantity (hexadecimal with 0x).

    Raises:
        NodeError: It is none.
    """
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value):
        return int(value, 16)
    raise NodeError(f"not a quantity: {value!r}")


def header_of(result: object) -> Header | None:
    """Read what ``eth_getBlockByNumber`` returned; None for a block that the node does not have.

    Raises:
        NodeError: It is no block.
    """
    if result is None:
        return None
    try:
        wire = msgspec.convert(result, _WireHeader)
    except msgspec.ValidationError as error:
        raise NodeError(f"not a block: {error}") from error
    time_s = quantity(wire.timestamp)
    if time_s > _MAX_UNIX_SECONDS:
        raise NodeError(f"not the time of a block: {wire.timestamp}")
    return Header(block_number(wire.number), wire.hash, wire.parent_hash, time_s)


def block_number(value: object) -> int:
    """Read the number of a block.

    Raises:
        NodeError: It is none, or beyond what any chain will reach.
    """
    number = quantity(value)
    if number > _MAX_BLOCK:
        raise NodeError(f"not the number of a block: {value}")
    return number
