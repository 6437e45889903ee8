"""An Ethereum node for tests: a real HTTP server on loopback, with its limits and its faults, and an inbox that remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from loopback import http_client, serving

from connectors.sources.jsonrpc import ChainFeed, LogFilter, follow_chain
from connectors.sources.reconnecting import ReconnectPolicy
from market.raw import FeedState

TO = LogFilter(("0xtoken",), (("0xtransfer",), None, ("0xto",)))
FROM = LogFilter(("0xtoken",), (("0xtransfer",), ("0xfrom",)))
QUICK = ReconnectPolicy(first_delay_seconds=0.001, max_delay_seconds=0.005, blocked_delay_seconds=0.01)
GENESIS_TIME = 1_700_000_000


@dataclass(frozen=True)
class Fault:
    """What the node does, once, at the next request that holds the method and, when told so, nothing else."""

    method: str
    respond: Callable[[], Awaitable[web.StreamResponse]]
    is_alone: bool = False

    def strikes(self, methods: list[str]) -> bool:
        return self.method in methods and (not self.is_alone or set(methods) == {self.method})


@dataclass
class FakeNode:
    """A chain of ``head`` blocks with one log in each, and a list of answers to give before the honest one."""

    head: int
    has_log_times: bool = False
    max_blocks: int = 10_000
    forks: dict[int, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    refuses_block: int | None = None
    log_changes: dict[str, Any] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_asked(self, times: int) -> None:
        """Wait for so many requests."""
        while len(self.batches) < times:
            self.was_asked.clear()
            await self.was_asked.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = await request.json()
        calls = body if isinstance(body, list) else [body]
        self.batches.append([call["method"] for call in calls])
        self.was_asked.set()
        if self.faults and self.faults[0].strikes(self.batches[-1]):
            return await self.faults.pop(0).respond()
        answers = [{"jsonrpc": "2.0", "id": call["id"], **self.answer(call["method"], call["params"])} for call in calls]
        answers.reverse()  # the order of a batch's answers means nothing
        return web.json_response(answers if isinstance(body, list) else answers[0])

    def answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        if method == "eth_blockNumber":
            return {"result": hex(self.head)}
        if method == "eth_getBlockByNumber":
            return {"result": self.block(self.head - 60 if params[0] == "finalized" else int(params[0], 16))}
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        self.ranges.append((first, last))
        if last - first + 1 > self.max_blocks or (self.refuses_block is not None and first <= self.refuses_block <= last):
            return {"error": {"code": -32005, "message": "query returned more than 10000 results"}}
        return {"result": [self.log(number) for number in range(first, min(last, self.head) + 1)]}

    def hash(self, number: int) -> str:
        return f"0x{self.forks.get(number, 'a')}{number}"

    def block(self, number: int) -> dict[str, Any] | None:
        if not 0 <= number <= self.head:
            return None
        time_s = GENESIS_TIME + 12 * number
        return {
            "number": hex(number),
            "hash": self.hash(number),
            "parentHash": self.hash(number - 1),
            "timestamp": hex(time_s),
        }

    def log(self, number: int) -> dict[str, Any]:
        log = {
            "blockNumber": hex(number),
            "blockHash": self.hash(number),
            "transactionHash": f"0xtx{self.forks.get(number, 'a')}{number}",
            "logIndex": "0x1",
            "removed": False,
        }
        if self.has_log_times:
            log["blockTimestamp"] = hex(GENESIS_TIME + 12 * number)
        return {**log, **self.log_changes}


@dataclass
class Receiver:
    """An inbox that keeps what it is given and can be waited for."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[tuple[str, str, FeedState, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, feed: str, payload: bytes) -> None:
        assert feed == "ethereum/logs"
        self.frames.append(json.loads(payload))
        self.changed.set()

    def status(self, feed: str, connection: str, state: FeedState, reason: str, *, seen_until_us: int | None = None) -> None:
        self.statuses.append((feed, connection, state, reason))
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def until_read(self, block: int) -> None:
        await self.until(lambda: bool(self.frames) and self.frames[-1]["to_block"] >= block)

    def states(self) -> list[FeedState]:
        return [state for _feed, _connection, state, _reason in self.statuses]

    def blocks(self) -> list[tuple[int, int]]:
        return [(frame["from_block"], frame["to_block"]) for frame in self.frames]


Story = Callable[[FakeNode, Receiver], Awaitable[None]]


def run(
    node: FakeNode, story: Story, *, start_block: int | None = None, newest: Iterable[bytes] = (), **settings: Any
) -> Receiver:
    """Serve the node on loopback, follow it, and play the story; nothing takes longer than ten seconds."""

    async def play() -> Receiver:
        receiver = Receiver()
        options = {"poll_seconds": 0.005, "timeout_seconds": 2.0, "lookback_blocks": 10, **settings}
        async with serving(web.post("/key", node.handle)) as url, http_client() as client:
            feed = ChainFeed("ethereum/logs", f"{url}/key", (TO, FROM), **options)
            task = asyncio.create_task(
                follow_chain(feed, client, receiver, start_block=start_block, newest=newest, policy=QUICK)
            )
            try:
                await asyncio.wait_for(story(node, receiver), 10)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return receiver

    return asyncio.run(play())


def times(*blocks: int) -> dict[str, int]:
    return {str(block): GENESIS_TIME + 12 * block for block in blocks}


def fault(text: str, *, status: int = 200, method: str = "eth_getLogs", is_alone: bool = False, **headers: str) -> Fault:
    async def respond() -> web.StreamResponse:
        return web.Response(
            text=text, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return Fault(method, respond, is_alone)


def rpc_error(code: int, message: str, *, status: int = 200, **more: Any) -> Fault:
    return fault(
        json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message, **more}}), status=status
    )


async def read_one_range(_node: FakeNode, receiver: Receiver) -> None:
    await receiver.until_read(97)
