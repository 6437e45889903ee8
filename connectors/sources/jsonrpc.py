"""Follow a chain's logs by polling a node: every block read once, in order, without a hole, and taken back when orphaned.

The law: a range of blocks becomes one frame only when all its logs and times were read, from one and the same chain as far as
hashes can tell; whatever goes wrong in between is asked again, never skipped.

Re-organisations: the hash of the last block read is compared at every poll. When it differs, the follower walks back to the
newest remembered block that still stands, and the next frame begins with the orphaned logs, ``removed: true``, before the new
ones. The memory is as short as ``memory_blocks``, two epochs, which is where the chain is final. A process that starts
remembers what the newest frames of the last one hold: what was orphaned while nobody ran is taken back first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import msgspec

from connectors import clock
from connectors.backoff import Backoff
from connectors.sources.feed import FrameReceiver
from connectors.sources.jsonrpc_node import (
    Call,
    Header,
    Node,
    NodeError,
    NodeTimeoutError,
    RangeTooLargeError,
    block_number,
    header_of,
    quantity,
)
from connectors.sources.reconnecting import ReconnectPolicy
from market.raw import FeedState

CONNECTION = "jsonrpc"
"""Names the connection in status frames; the URL does not, since it may hold a key."""


@dataclass(frozen=True)
class LogFilter:
    """What ``eth_getLogs`` selects: logs of any of these contracts whose topics match position by position.

    Attributes:
        topics: Alternatives per position; None lets everything pass. As hexadecimal words of 32 bytes.
    """

    addresses: tuple[str, ...]
    topics: tuple[tuple[str, ...] | None, ...]

    def call(self, first: int, last: int) -> Call:
        """Describe the request for the blocks ``first`` to ``last``, both included."""
        topics = [None if words is None else list(words) for words in self.topics]
        blocks = {"fromBlock": hex(first), "toBlock": hex(last)}
        return Call("eth_getLogs", [{**blocks, "address": list(self.addresses), "topics": topics}])


@dataclass(frozen=True)
class ChainFeed:
    """A chain's logs.

    Attributes:
        name: Feed name of every frame: ``ethereum/logs``. Its first part is the chain's name within the frame.
        url: May hold an API key: never logged, never part of a frame.
        confirmations: Blocks behind the head that are read, or ``finalized``, which is 13 to 19 minutes behind.
        lookback_blocks: Read at start when no block is given: 4 hours of 12 s, and some slack.
        max_range_blocks: Asked for at once at most; halved when the node refuses, grown again slowly.
        memory_blocks: So far back a re-organisation is recognised and taken back.
        max_batch_requests: Calls per HTTP request; 1 for nodes that know no batches.
    """

    name: str
    url: str = field(repr=False)
    filters: tuple[LogFilter, ...]
    poll_seconds: float = 12.0
    confirmations: int | Literal["finalized"] = 3
    lookback_blocks: int = 1_250
    max_range_blocks: int = 500
    memory_blocks: int = 64
    max_batch_requests: int = 20
    timeout_seconds: float = 30.0

    @property
    def chain(self) -> str:
        """The chain's name."""
        return self.name.partition("/")[0]


async def follow_chain(
    feed: ChainFeed,
    client: httpx.AsyncClient,
    inbox: FrameReceiver,
    *,
    start_block: int | None = None,
    newest: Iterable[bytes] = (),
    policy: ReconnectPolicy | None = None,
) -> None:
    """Follow a chain until cancelled.

    Args:
        feed: What to read, from where.
        client: Pools the connections; closed by whoever opened it.
        inbox: Takes one frame per range read; POLL_FAILED once when trouble begins, POLL_ANSWERED when it is over.
        start_block: First block to read; None reads the last ``lookback_blocks``.
        newest: Payloads of frames that were put before, the last one first; no more are taken than ``memory_blocks`` need.
        policy: Its first, longest and blocked delay between attempts.
    """
    policy = policy or ReconnectPolicy()
    backoff = Backoff(policy.first_delay_seconds, policy.max_delay_seconds)
    node = Node(client, feed.url, feed.timeout_seconds, feed.max_batch_requests)
    memory = await asyncio.to_thread(recalled, newest, feed.memory_blocks)
    follower = _Follower(feed, node, inbox, start_block, feed.max_range_blocks, memory, is_doubtful=bool(memory))
    while True:
        try:
            is_caught_up = await follower.step()
        except NodeError as error:
            if backoff.failures == 0:
                inbox.status(feed.name, CONNECTION, FeedState.POLL_FAILED, error.reason)
            await asyncio.sleep(_delay_seconds(error, backoff, policy))
            continue
        if backoff.failures:
            inbox.status(feed.name, CONNECTION, FeedState.POLL_ANSWERED, "")
            backoff.reset()
        if is_caught_up:
            await asyncio.sleep(feed.poll_seconds)


def _delay_seconds(error: NodeError, backoff: Backoff, policy: ReconnectPolicy) -> float:
    delay_seconds = backoff.next_delay_seconds(clock.jitter())
    if error.is_blocked:
        return max(delay_seconds, policy.blocked_delay_seconds)
    return max(delay_seconds, error.wait_seconds or 0.0)


class _Block(msgspec.Struct):
    """One block as it was read."""

    hash: str
    time_s: int
    logs: list[dict[str, Any]]


class _Payload(msgspec.Struct):
    """A frame's payload. ``timestamps``: unix seconds of the ends and of every block whose logs do not carry theirs."""

    chain: str
    from_block: int
    to_block: int
    timestamps: dict[int, int]
    logs: list[dict[str, Any]]


_PAYLOAD = msgspec.json.Decoder(_Payload)


def recalled(newest: Iterable[bytes], memory_blocks: int) -> dict[int, _Block]:
    """Return the newest blocks that had logs, by number, as the frames of a former process tell of them.

    Args:
        newest: Their payloads, the last one first.
        memory_blocks: So many blocks, at most, are of interest.
    """
    memory: dict[int, _Block] = {}
    known: set[bytes] = set()
    last_block = None
    for payload in newest:
        try:
            read = _PAYLOAD.decode(payload)
        except msgspec.MsgspecError:
            break  # of another version: nothing older will be better
        last_block = read.to_block if last_block is None else last_block
        oldest = last_block - memory_blocks + 1
        _recall(memory, known, read, oldest)
        if read.from_block <= oldest:
            break
    return memory


def _recall(memory: dict[int, _Block], known: set[bytes], read: _Payload, oldest: int) -> None:
    """Add what stood after a frame, but for what later frames told of, be it only to take it back."""
    for is_removed in (False, True):  # what the same frame takes back and brings stands
        for log in (each for each in read.logs if bool(each.get("removed")) is is_removed):
            number, block_hash, identity = _number_of(log), log.get("blockHash"), _identity(log)
            if identity in known or number is None or number < oldest or not isinstance(block_hash, str):
                continue
            known.add(identity)
            if not is_removed:
                time_s = _time_of(log) or read.timestamps.get(number, 0)
                block = memory.setdefault(number, _Block(block_hash, time_s, []))
                if block.hash == block_hash:
                    block.logs.append(log)


@dataclass
class _Follower:
    """Where the reading stands.

    Attributes:
        memory: The newest blocks that had logs or ended a range, by number.
        is_doubtful: They may no longer stand: looked up before anything more is read.
    """

    feed: ChainFeed
    node: Node
    inbox: FrameReceiver
    next_block: int | None
    range_blocks: int
    memory: dict[int, _Block] = field(default_factory=dict)
    orphans: list[dict[str, Any]] = field(default_factory=list)
    is_doubtful: bool = False

    async def step(self) -> bool:
        """Look at the head, and read at most one range.

        Returns:
            Whether everything that may be read has been read.
        """
        if self.is_doubtful:
            await self._look_back()
        head, last = await self._look()
        # Until something was read, the beginning is not settled: a wrong head must not leave us waiting for ever.
        first = max(0, head - self.feed.lookback_blocks + 1) if self.next_block is None else self.next_block
        if first > head:
            return True
        known = None if self.next_block is None else self.memory.get(first - 1)
        if known is not None:
            if last is None:  # the request reached a node that lags behind the one before
                return True
            if last.hash != known.hash:
                first = self.next_block = await self._rewind()
        last_block = min(head, first + self.range_blocks - 1)
        await self._read_or_narrow(first, last_block)
        return self.next_block is not None and self.next_block > head

    async def _look(self) -> tuple[int, Header | None]:
        """Return the highest block that may be read, and the last block read as the chain has it now."""
        confirmations = self.feed.confirmations
        calls = [Call("eth_blockNumber", []) if isinstance(confirmations, int) else _block_call(confirmations)]
        if self.next_block is not None and self.next_block - 1 in self.memory:
            calls.append(_block_call(hex(self.next_block - 1)))
        head, *last = await self.node.ask(calls)
        newest = header_of(last[0]) if last else None
        if isinstance(confirmations, int):
            return block_number(head) - confirmations, newest
        finalized = header_of(head)
        if finalized is None:
            raise NodeError("the node knows no finalized block")
        return finalized.number, newest

    async def _look_back(self) -> None:
        first_to_read = await self._rewind()
        if self.next_block is not None:
            self.next_block = min(self.next_block, first_to_read)
        self.is_doubtful = False

    async def _rewind(self) -> int:
        """Forget every block that no longer stands and keep its logs as orphans; return the first block to read again."""
        numbers = sorted(self.memory, reverse=True)
        headers = await self._headers(numbers)
        standing = [number for number in numbers if headers[number].hash == self.memory[number].hash]
        if not standing:
            reason = f"re-organisation deeper than the blocks remembered, which begin at {numbers[-1]}"
            self.inbox.status(self.feed.name, CONNECTION, FeedState.POLL_FAILED, reason)
            self.inbox.status(self.feed.name, CONNECTION, FeedState.POLL_ANSWERED, "")
        ancestor = standing[0] if standing else numbers[-1] - 1
        for number in sorted(n for n in numbers if n > ancestor):
            block = self.memory.pop(number)
            taken_back = {"removed": True, "blockTimestamp": hex(block.time_s)}  # its number has another time by now
            self.orphans += [{**log, **taken_back} for log in block.logs]
        return ancestor + 1

    async def _read_or_narrow(self, first: int, last: int) -> None:
        blocks = last - first + 1
        try:
            await self._read(first, last)
        except RangeTooLargeError:
            if blocks == 1:
                raise
            self.range_blocks = blocks // 2
        except NodeTimeoutError:
            self.range_blocks = max(1, blocks // 2)
            raise
        else:
            if blocks == self.range_blocks:
                self.range_blocks = min(self.feed.max_range_blocks, blocks + blocks // 4 + 1)

    async def _read(self, first: int, last: int) -> None:
        """Read a range, hand it over as one frame, remember it."""
        # The last block is asked for along with the logs, so that a node which has not got that far gives itself away
        # instead of answering with fewer logs.
        answers = await self.node.ask([_block_call(hex(last)), *(part.call(first, last) for part in self.feed.filters)])
        tip = header_of(answers[0])
        if tip is None:
            raise NodeError(f"the node does not have block {last} yet")
        logs = _merged(answers[1:])
        wanted = {first, *(number for log in logs if (number := _number_of(log)) is not None and _time_of(log) is None)}
        headers = await self._headers(wanted - {last})
        headers[last] = tip
        self._check_joined(first, headers, logs)
        times = {number: header.time_s for number, header in sorted(headers.items())}
        payload = _Payload(self.feed.chain, first, last, times, self.orphans + logs)
        self.inbox.put(self.feed.name, msgspec.json.encode(payload))
        self.orphans = []
        self._remember(headers, logs)
        self.next_block = last + 1

    async def _headers(self, numbers: Iterable[int]) -> dict[int, Header]:
        """Return these blocks' headers. Every one is below a head that was seen: a node without it lags."""
        asked = sorted(numbers)
        answers = await self.node.ask([_block_call(hex(number)) for number in asked])
        headers = {number: header for number, answer in zip(asked, answers, strict=True) if (header := header_of(answer))}
        if len(headers) < len(asked):
            raise NodeError(f"the node lacks {len(asked) - len(headers)} of the blocks asked for")
        return headers

    def _check_joined(self, first: int, headers: Mapping[int, Header], logs: Iterable[Mapping[str, Any]]) -> None:
        claims: list[tuple[int | None, Any]] = [(first - 1, headers[first].parent_hash)]
        claims += [(_number_of(log), log.get("blockHash")) for log in logs]
        hashes = {number: block.hash for number, block in self.memory.items()}
        hashes |= {number: header.hash for number, header in headers.items()}
        if any(claimed and hashes.get(number or 0, claimed) != claimed for number, claimed in claims):
            self.is_doubtful = bool(self.memory)
            raise NodeError("the chain was re-organised while it was read")

    def _remember(self, headers: Mapping[int, Header], logs: Iterable[dict[str, Any]]) -> None:
        for number in [n for n in self.memory if min(headers) <= n <= max(headers)]:
            del self.memory[number]  # recalled, and now read anew
        for number, header in headers.items():
            self.memory[number] = _Block(header.hash, header.time_s, [])
        for log in logs:
            log_number, block_hash = _number_of(log), log.get("blockHash")
            if log_number is not None and isinstance(block_hash, str):
                self.memory.setdefault(log_number, _Block(block_hash, _time_of(log) or 0, [])).logs.append(log)
        for number in [n for n in self.memory if n <= max(headers) - self.feed.memory_blocks]:
            del self.memory[number]


def _block_call(block: str) -> Call:
    return Call("eth_getBlockByNumber", [block, False])


def _merged(answers: Iterable[object]) -> list[dict[str, Any]]:
    """Return every log once, in the chain's order: a move between two of our addresses matches two filters."""
    logs: dict[object, dict[str, Any]] = {}
    for answer in answers:
        if not isinstance(answer, list) or not all(isinstance(log, dict) for log in answer):
            raise NodeError("not a list of logs")
        for log in answer:
            logs[_identity(log)] = log
    return sorted(logs.values(), key=_place_of)


def _identity(log: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode([log.get("blockHash"), log.get("transactionHash"), log.get("logIndex")])


def _place_of(log: Mapping[str, Any]) -> tuple[int, int]:
    return _number_of(log) or 0, _quantity_or_none(log.get("logIndex")) or 0


def _number_of(log: Mapping[str, Any]) -> int | None:
    return _quantity_or_none(log.get("blockNumber"))


def _time_of(log: Mapping[str, Any]) -> int | None:
    """Return the block's time where the log carries it; some nodes carry 0x0, which is none."""
    return _quantity_or_none(log.get("blockTimestamp")) or None


def _quantity_or_none(value: object) -> int | None:
    try:
        return quantity(value)
    except NodeError:
        return None
