"""What answers over HTTP: a poll's answer and a node's, their codes, headers, compression and bodies.

Nothing but ``PollError`` and ``NodeError`` may come of it, and every frame that the chain's follower makes is one that its
parser takes.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from typing import Any

import httpx

from connectors.sources.chain.addresses import exchange_addresses
from connectors.sources.chain.ethereum import ethereum_feed
from connectors.sources.feed import PollFeed, RateLimit
from connectors.sources.frame import Frame, FrameError
from connectors.sources.jsonrpc import follow_chain
from connectors.sources.polling import PollError, poll_once
from connectors.sources.rate_limit import RateLimiter
from connectors.sources.reconnecting import ReconnectPolicy
from connectors.sources.registry import parser_of
from fuzzing.corpus import all_seeds
from fuzzing.frames import CAUSE, check_event
from fuzzing.mutator import Mutator
from fuzzing.target import Answer, NonsenseError, Target
from market.raw import FeedState

_AT_ONCE = ReconnectPolicy(first_delay_seconds=0.0, max_delay_seconds=0.0, blocked_delay_seconds=0.0)
_LOOP = asyncio.new_event_loop()

_CODES = (200, 200, 200, 200, 204, 206, 301, 304, 400, 401, 403, 413, 418, 429, 451, 500, 503, 599)
_ENCODINGS = (None, None, "gzip", "deflate", "gzip, deflate", "br", "zstd", "identity", "x", "gzip,gzip", "é")
_RETRY_AFTER = (None, "0", "-1", "1e3", "x", "9" * 400, "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Foo 0000 99:99:99", "٣")


class _AnswerSource:
    """Answers of a venue."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._mutator = Mutator(all_seeds(), [], chance)

    def make(self) -> bytes:
        pick = self._chance.choice
        headers = {
            "content-encoding": pick(_ENCODINGS),
            "retry-after": pick(_RETRY_AFTER),
            "content-type": pick((None, "x;=", "é")),
        }
        said = [pick(_CODES), {name: value for name, value in headers.items() if value is not None}]
        return json.dumps(said).encode() + b"\n" + self._mutator.frame()

    def keep(self, data: bytes, answer: Answer) -> None:
        self._mutator.keep(data.partition(b"\n")[2], is_understood=not answer.refused)


def take_answer(data: bytes) -> Answer:
    """Poll once and get this answer. Raises what the poll raises besides ``PollError``."""
    said, _, body = data.partition(b"\n")
    try:
        code, headers = json.loads(said)
        raw = [(name.encode("latin-1"), value.encode()) for name, value in headers.items()]
    except (ValueError, AttributeError, TypeError):  # a shortened crash file
        code, raw = 200, []

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(code, headers=raw, stream=httpx.ByteStream(body))

    async def ask() -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            limiter = RateLimiter(RateLimit(1e9, 1.0))
            return await poll_once(PollFeed("venue/channel", "https://venue.example/", 10.0), client, limiter, policy=_AT_ONCE)

    try:
        received = _LOOP.run_until_complete(ask())
    except PollError as refusal:
        return Answer(1, 1, f"{refusal.code} {type(refusal.__cause__).__name__}")
    return Answer(1, 0, f"{code} {len(received) == len(body)}")


_HEAD = 18_571_010


class _HonestNode:
    """Answers what a node would, of a chain that has one transfer in every block."""

    def __init__(self, shift: int) -> None:
        self._shift = shift  # another one is another chain

    def answer(self, request: Any) -> Any:
        if isinstance(request, list):
            return [self.answer(each) for each in request]
        return {"jsonrpc": "2.0", "id": request["id"], "result": self._result(request["method"], request["params"])}

    def _result(self, method: str, params: Any) -> Any:
        if method == "eth_blockNumber":
            return hex(_HEAD)
        if method == "eth_getBlockByNumber":
            return self._header(_HEAD if params[0] == "finalized" else int(params[0], 16))
        first, last = (int(params[0][end], 16) for end in ("fromBlock", "toBlock"))
        return [self._log(number, params[0]) for number in range(first, min(last, first + 3) + 1)]

    def _hash(self, number: int) -> str:
        return f"0x{number * 1_000 + self._shift:064x}"

    def _header(self, number: int) -> dict[str, str]:
        time_s = 1_700_000_000 + 12 * number
        parts = {"number": hex(number), "hash": self._hash(number), "timestamp": hex(time_s)}
        return {**parts, "parentHash": self._hash(number - 1)}

    def _log(self, number: int, wanted: Any) -> dict[str, Any]:
        topics = [words[0] if words else f"0x{1:064x}" for words in wanted["topics"]]
        log = {"address": wanted["address"][0], "topics": topics, "data": f"0x{10**12:064x}", "blockNumber": hex(number)}
        return {**log, "blockHash": self._hash(number), "transactionHash": f"0x{number:064x}", "logIndex": "0x1"}


class _NodeSource:
    """Conversations with a node that tells the truth for a while."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._mutator = Mutator([b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'], [], chance)

    def make(self) -> bytes:
        """Return the node's answers in order, one a line, wrong ones among them."""
        lines: list[bytes] = []
        share = self._chance.choice((0.1, 0.3, 0.8))

        def answer(request: bytes) -> bytes:
            node = _HonestNode(self._chance.choice((0, 0, 0, 1)))
            said = json.dumps(node.answer(json.loads(request))).encode()
            code = 200 if self._chance.random() < 0.9 else self._chance.choice(_CODES)  # noqa: PLR2004 - most answer
            body = self._mutator.mutated(said) if self._chance.random() < share else said
            lines.append(json.dumps([code, body.decode("latin-1")]).encode())
            return lines[-1]

        with suppress(Exception):  # it is raised again where the same lines are taken
            _converse(answer, 1 + self._chance.randrange(8))
        return b"\n".join(lines)

    def keep(self, data: bytes, answer: Answer) -> None:
        """Nothing: conversations are made anew each time."""


class _Recorder:
    """Takes what the follower makes."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.failed = 0

    def put(self, feed: str, payload: bytes) -> None:
        del feed
        self.frames.append(payload)

    def status(self, feed: str, connection: str, state: FeedState, reason: str, *, seen_until_us: int | None = None) -> None:
        del feed, connection, reason, seen_until_us
        self.failed += state is FeedState.POLL_FAILED


def _converse(answer: Any, most: int) -> _Recorder:
    """Follow a chain for so many answers."""
    recorder, asked = _Recorder(), 0

    def respond(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked > most:
            raise asyncio.CancelledError
        code, body = json.loads(answer(request.content))
        return httpx.Response(code, content=body.encode("latin-1"))

    async def follow() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
            feed = ethereum_feed("https://node.example/", exchange_addresses(), poll_seconds=0.0, lookback_blocks=5)
            with suppress(asyncio.CancelledError):
                await follow_chain(feed, client, recorder, policy=_AT_ONCE)

    _LOOP.run_until_complete(follow())
    return recorder


def take_conversation(data: bytes) -> Answer:
    """Follow a chain as a node tells it.

    Raises:
        NonsenseError: A frame is none that its parser takes.
        Exception: Whatever the follower raises: it may not.
    """
    lines = data.splitlines()
    said = iter(lines)
    recorder = _converse(lambda _request: next(said), len(lines))
    refused = 0
    for payload in recorder.frames:
        try:
            for event in parser_of("ethereum/logs")(Frame("ethereum/logs", payload, CAUSE)):
                check_event(event)
        except FrameError as error:
            refused += 1
            if "logs cannot be read" not in str(error):
                raise NonsenseError(f"the follower made a frame that is refused: {error}") from error
    return Answer(
        len(lines), min(len(lines), recorder.failed + refused), f"{len(recorder.frames)} {recorder.failed} {refused}"
    )


ANSWERS = Target("answers", _AnswerSource, take_answer)
NODE = Target("node", _NodeSource, take_conversation, are_lines=True)
