"""An Ethereum node's JSON-RPC over HTTP, as far as a reader of logs needs it, in front of a simulated chain.

Written from the Ethereum execution API specification and go-ethereum's manners: quantities are hexadecimal without leading
zeros, ``latest`` and ``finalized`` are tags, a batch is an array. Hosted nodes cap ranges and results: so does this one.

===========================================  ==================================================================
``POST /ethereum``                           the node
``GET /ethereum/truth``                      what a reader should find; ``?from=&to=&minimum_micros=`` narrow it
``POST /ethereum/control/reorganise``        replaces the newest blocks, ``?depth=1``
===========================================  ==================================================================
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from simulator.ethereum_chain import EXCHANGE_WALLETS, SLOT_SECONDS, Block, Chain, Log, sums

_EPOCH_BLOCKS = 32
_MAX_BATCH = 1000  # go-ethereum's default
_MAX_TOPICS = 4
_BLOCKS_AT_ONCE = 25  # then others get their turn

_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS, _LIMIT = -32700, -32600, -32601, -32602, -32005

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,15})")
_WORD = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")

_ZERO_WORD = "0x" + 64 * "0"
_FULL_BLOOM = "0x" + 512 * "f"  # excludes nothing: a filter that trusts it misses no log


class RpcError(Exception):
    """An answer with an error: JSON-RPC's own codes, and EIP-1474's for limits."""

    def __init__(self, code: int, message: str) -> None:
        """Keep what the answer says."""
        super().__init__(message)
        self.code = code
        self.message = message


class SimulatedEthereum:
    """A node on its chain."""

    def __init__(
        self,
        seed: int,
        start_time: float | None = None,
        *,
        block_seconds: float = SLOT_SECONDS,
        wallets: Mapping[str, str] = EXCHANGE_WALLETS,
        inflow_share: float = 0.5,
        max_block_range: int = 2_000,
        max_results: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Build the chain; six hours of it lie before ``start_time`` (unix seconds, now if not given).

        Args:
            seed: Decides every block's content.
            start_time: Where the history ends.
            block_seconds: Time between later blocks; history has 12 s.
            wallets: Exchange by address, in lower case.
            inflow_share: Share of the exchange flows that flows in.
            max_block_range: More blocks in one ``eth_getLogs`` are refused.
            max_results: More logs in one answer are refused.
            clock: Unix seconds.
        """
        self.chain = Chain(
            seed,
            clock() if start_time is None else start_time,
            block_seconds=block_seconds,
            wallets=wallets,
            inflow_share=inflow_share,
            clock=clock,
        )
        self._max_block_range = max_block_range
        self._max_results = max_results

    def routes(self) -> list[web.RouteDef]:
        """Return the node's routes, and those for tests."""
        return [
            web.post("/ethereum", self._answer),
            web.get("/ethereum/truth", self._truth),
            web.post("/ethereum/control/reorganise", self._reorganise),
        ]

    def reorganise(self, depth: int) -> int:
        """Replace the newest ``depth`` blocks; return the first one replaced."""
        return self.chain.reorganise(depth)

    def truth(self, first: int | None = None, last: int | None = None, *, minimum_micros: int = 0) -> dict[str, Any]:
        """Return the sums of the blocks ``first`` to ``last``, both included; all of the chain if not given."""
        return sums(
            self.chain,
            self.chain.first_block if first is None else first,
            self.chain.head if last is None else last,
            minimum_micros=minimum_micros,
        )

    async def call(self, request: object) -> dict[str, Any] | None:
        """Answer one request; None for a notification."""
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not isinstance(request.get("method"), str):
            return _failure(None, RpcError(_INVALID_REQUEST, "invalid request"))
        try:
            result = await self._result(request["method"], request.get("params", []))
        except RpcError as error:
            answer = _failure(request.get("id"), error)
        else:
            answer = {"jsonrpc": "2.0", "id": request.get("id"), "result": result}
        return answer if "id" in request else None

    async def _answer(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415, text="invalid content type, only application/json is supported\n")
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _json(_failure(None, RpcError(_PARSE_ERROR, "parse error")))
        if not isinstance(body, list):
            answer = await self.call(body)
            return web.Response() if answer is None else _json(answer)
        if not body:
            return _json(_failure(None, RpcError(_INVALID_REQUEST, "empty batch")))
        if len(body) > _MAX_BATCH:
            return _json(_failure(None, RpcError(_INVALID_REQUEST, "batch too large")))
        answers = [answer for item in body if (answer := await self.call(item)) is not None]
        return _json(answers) if answers else web.Response()

    async def _result(self, method: str, params: object) -> object:
        if not isinstance(params, list):
            raise RpcError(_INVALID_PARAMS, "non-array args")
        constants: dict[str, object] = {
            "eth_chainId": "0x1",
            "net_version": "1",
            "eth_syncing": False,
            "web3_clientVersion": "simulator",
        }
        if method in constants:
            return constants[method]
        if method == "eth_blockNumber":
            return hex(self.chain.head)
        if method == "eth_getBlockByNumber":
            return self._block(*_arguments(params, 2))
        if method == "eth_getLogs":
            return await self._logs(*_arguments(params, 1))
        raise RpcError(_NO_METHOD, f"the method {method} does not exist/is not available")

    def _block(self, number: object, is_full: object) -> dict[str, Any] | None:
        if is_full is not False:
            raise RpcError(_INVALID_PARAMS, "this node keeps no transactions: ask with false")
        block = self.chain.block(self._number(number, "invalid argument 0"))
        return None if block is None else _printed(block)

    async def _logs(self, wanted: object) -> list[Log]:
        if not isinstance(wanted, dict):
            raise RpcError(_INVALID_PARAMS, "invalid argument 0: not a filter")
        if "blockHash" in wanted:
            raise RpcError(_INVALID_PARAMS, "this node finds logs by range only")
        first = self._number(wanted.get("fromBlock", "latest"), "invalid argument 0: fromBlock")
        last = self._number(wanted.get("toBlock", "latest"), "invalid argument 0: toBlock")
        addresses, topics = _addresses(wanted.get("address")), _topics(wanted.get("topics"))
        self._check_range(first, last)
        found: list[Log] = []
        for begin in range(first, last + 1, _BLOCKS_AT_ONCE):
            for block in self.chain.blocks(begin, min(begin + _BLOCKS_AT_ONCE - 1, last)):
                found += [log for log in block.logs if _matches(log, addresses, topics)]
            if len(found) > self._max_results:
                raise RpcError(_LIMIT, f"query returned more than {self._max_results} results")
            await asyncio.sleep(0)
        return found

    def _check_range(self, first: int, last: int) -> None:
        if first > last:
            raise RpcError(_INVALID_PARAMS, "invalid block range params")
        if last > self.chain.head:
            raise RpcError(_INVALID_PARAMS, "block range extends beyond current head block")
        if last - first + 1 > self._max_block_range:
            raise RpcError(_INVALID_PARAMS, f"block range is too large, max {self._max_block_range} blocks")

    def _number(self, value: object, what: str) -> int:
        """Return the number that a quantity or a tag stands for."""
        head = self.chain.head
        epoch = head // _EPOCH_BLOCKS
        tags = {
            "earliest": self.chain.first_block,
            "latest": head,
            "pending": head,
            "safe": (epoch - 1) * _EPOCH_BLOCKS,
            "finalized": (epoch - 2) * _EPOCH_BLOCKS,
        }
        if isinstance(value, str) and value in tags:
            return tags[value]
        if isinstance(value, str) and _QUANTITY.fullmatch(value):
            return int(value, 16)
        raise RpcError(_INVALID_PARAMS, f"{what}: not a tag, nor a hex number without leading zeros")

    async def _truth(self, request: web.Request) -> web.Response:
        try:
            first, last, minimum = (
                int(text) if (text := request.query.get(name)) is not None else None
                for name in ("from", "to", "minimum_micros")
            )
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return _json(self.truth(first, last, minimum_micros=minimum or 0))

    async def _reorganise(self, request: web.Request) -> web.Response:
        try:
            first = self.reorganise(int(request.query.get("depth", "1")))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return _json({"first_replaced": first, "head": self.chain.head})


def _json(answer: object) -> web.Response:
    body = json.dumps(answer, separators=(",", ":")) + "\n"
    return web.Response(body=body.encode(), content_type="application/json")


def _failure(request_id: object, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": error.code, "message": error.message}}


def _arguments(params: list[object], count: int) -> list[object]:
    if len(params) < count:
        raise RpcError(_INVALID_PARAMS, f"missing value for required argument {len(params)}")
    if len(params) > count:
        raise RpcError(_INVALID_PARAMS, f"too many arguments, want at most {count}")
    return params


def _addresses(value: object) -> frozenset[str] | None:
    """Read a filter's contracts: one, several, or any."""
    if value is None or value == []:
        return None
    given = value if isinstance(value, list) else [value]
    return _texts(given, _ADDRESS, "address")


def _topics(value: object) -> list[frozenset[str] | None]:
    """Read a filter's topics, by position: one word, several of which one must match, or null for any."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MAX_TOPICS:
        raise RpcError(_INVALID_PARAMS, "invalid argument 0: invalid topics")
    return [_alternatives(item) for item in value]


def _alternatives(item: object) -> frozenset[str] | None:
    given = item if isinstance(item, list) else [item]
    if None in given or not given:
        return None
    return _texts(given, _WORD, "topic")


def _texts(given: list[Any], pattern: re.Pattern[str], what: str) -> frozenset[str]:
    if not all(isinstance(item, str) and pattern.fullmatch(item) for item in given):
        raise RpcError(_INVALID_PARAMS, f"invalid argument 0: invalid {what}")
    return frozenset(item.lower() for item in given)


def _matches(log: Log, addresses: frozenset[str] | None, topics: list[frozenset[str] | None]) -> bool:
    if addresses is not None and log["address"] not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    return all(words is None or topic in words for words, topic in zip(topics, log["topics"], strict=False))


def _printed(block: Block) -> dict[str, Any]:
    """Return a block as ``eth_getBlockByNumber`` prints it; what nobody here computes is zero."""
    return {
        "number": hex(block.number),
        "hash": block.hash,
        "parentHash": block.parent_hash,
        "timestamp": hex(block.time_s),
        "transactions": list(dict.fromkeys(log["transactionHash"] for log in block.logs)),
        "logsBloom": _FULL_BLOOM,
        "sha3Uncles": _ZERO_WORD,
        "uncles": [],
        "miner": "0x" + 40 * "0",
        "stateRoot": _ZERO_WORD,
        "transactionsRoot": _ZERO_WORD,
        "receiptsRoot": _ZERO_WORD,
        "mixHash": _ZERO_WORD,
        "nonce": "0x" + 16 * "0",
        "difficulty": "0x0",
        "extraData": "0x",
        "gasLimit": "0x2aea540",
        "gasUsed": "0x0",
        "baseFeePerGas": "0x3b9aca00",
        "size": "0x0",
    }
