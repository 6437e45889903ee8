from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from ethereum_node import QUICK, TO, FakeNode, Fault, Receiver, fault, read_one_range, rpc_error, run
from loopback import http_client

from connectors.sources import jsonrpc_node
from connectors.sources.jsonrpc import ChainFeed, follow_chain
from connectors.sources.jsonrpc_node import NodeError, header_of, quantity
from market.raw import FeedState

WIDE = [
    (-32005, "query returned more than 10000 results"),
    (-32602, "range 1000000 exceeds limit of 10000"),
    (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"),
    (-32600, "block range is too wide"),
    (-32614, "eth_getLogs is limited to a 10,000 range"),
    (-32000, "exceed maximum block range: 50000"),
    (-32000, "too many blocks, maximum is set to 2048"),
    (-32000, "query timeout exceeded"),
    (-32701, "Please specify less number of addresses, query exceeds max results 20000"),
    (-32020, "backend response too large"),
    (-32005, "limit exceeded"),
]


@pytest.mark.parametrize(("code", "message"), WIDE)
def test_every_known_way_of_saying_too_much_narrows_the_range_without_an_incident(code: int, message: str) -> None:
    receiver = run(FakeNode(head=100, faults=[rpc_error(code, message)]), read_one_range)

    assert receiver.blocks()[0] == (88, 92)
    assert receiver.statuses == []


TOO_MUCH = {
    "HTTP 413": fault("", status=413),
    "words in the data": rpc_error(-32602, "invalid params", data={"payload": "range 9 is bigger than range limit 2"}),
    "an error wrapped in HTTP 400": rpc_error(-32600, "up to a 10 block range", status=400),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_is_understood_in_other_clothes(name: str) -> None:
    receiver = run(FakeNode(head=100, faults=[TOO_MUCH[name]]), read_one_range)

    assert receiver.blocks()[0] == (88, 92)
    assert receiver.statuses == []


FAILURES = {
    "a rate limit in words": (rpc_error(-32005, "daily request count exceeded, request rate limited"), "-32005"),
    "a rate limit by code": (rpc_error(429, "exceeded its compute units per second capacity"), "429"),
    "a node that is behind": (rpc_error(-32602, "block range extends beyond current head block"), "beyond"),
    "a head beyond any chain": (
        fault(json.dumps({"id": 0, "result": hex(2**60)}), method="eth_blockNumber"),
        "not the number of a block",
    ),
    "a block beyond the year 9999": (
        fault(
            json.dumps(
                [
                    {"id": 0, "result": {"number": "0x61", "hash": "a", "timestamp": hex(2**40)}},
                    *({"id": at, "result": []} for at in (1, 2)),
                ]
            )
        ),
        "not the time of a block",
    ),
    "an unknown error": (rpc_error(-32603, "internal error"), "-32603"),
    "HTTP 429": (fault("", status=429, Retry_After="0"), "HTTP 429"),
    "HTTP 500": (fault("oops", status=500), "HTTP 500"),
    "HTTP 401": (fault("", status=401), "HTTP 401"),
    "no JSON": (fault("<html>"), "not a JSON-RPC answer"),
    "an answer too few": (fault("[]"), "unanswered"),
    "something else than logs": (
        fault(json.dumps([{"id": 0, "result": None}, {"id": 1, "result": {}}, {"id": 2, "result": []}])),
        "does not have block",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_once_and_its_end_too_and_the_same_range_is_asked_again(name: str) -> None:
    failure, words = FAILURES[name]

    receiver = run(FakeNode(head=100, faults=[failure, failure]), read_one_range)

    assert receiver.blocks() == [(88, 97)]
    assert receiver.states() == [FeedState.POLL_FAILED, FeedState.POLL_ANSWERED]
    assert words in receiver.statuses[0][3]


def test_logs_of_the_wrong_shape_are_a_failure_of_the_node() -> None:
    header = {"number": "0x61", "hash": "0xa97", "timestamp": "0x1"}
    answers = [{"id": 0, "result": header}, {"id": 1, "result": [1]}, {"id": 2, "result": []}]

    receiver = run(FakeNode(head=100, faults=[fault(json.dumps(answers))]), read_one_range)

    assert receiver.statuses[0][3] == "not a list of logs"
    assert receiver.blocks() == [(88, 97)]


def test_silence_ends_in_a_time_out_and_a_narrower_question() -> None:
    async def sleep_on() -> web.StreamResponse:
        await asyncio.sleep(1.0)
        return web.Response()

    receiver = run(FakeNode(head=100, faults=[Fault("eth_getLogs", sleep_on)]), read_one_range, timeout_seconds=0.4)

    assert receiver.blocks()[0] == (88, 92)
    assert receiver.statuses[0][3] == "no answer in 0.4 s"


def test_an_answer_that_trickles_in_is_cut_off_in_time() -> None:
    async def trickle() -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(node.requests[-1])
        for _ in range(50):
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    node = FakeNode(head=100, faults=[Fault("eth_getLogs", trickle)])

    receiver = run(node, read_one_range, timeout_seconds=0.4)

    assert receiver.statuses[0][3] == "no answer in 0.4 s"


def test_a_dropped_connection_is_a_failure_and_heals() -> None:
    async def hang_up() -> web.StreamResponse:
        raise ConnectionResetError

    node = FakeNode(head=100, faults=[Fault("eth_getLogs", hang_up)])

    receiver = run(node, read_one_range)

    assert receiver.blocks() == [(88, 97)]
    assert receiver.states() == [FeedState.POLL_FAILED, FeedState.POLL_ANSWERED]


def test_the_node_says_how_long_to_wait() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: bool(receiver.statuses))
        asked = len(node.batches)
        await asyncio.sleep(0.1)  # many times the longest wait of the policy
        assert len(node.batches) == asked

    receiver = run(FakeNode(head=100, faults=[fault("", status=429, Retry_After="60")]), story)

    assert receiver.frames == []


def test_an_endless_answer_is_cut_off_and_the_range_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc_node, "MAX_ANSWER_BYTES", 50_000)

    receiver = run(FakeNode(head=100, faults=[fault(" " * 50_001)]), read_one_range)

    assert receiver.blocks()[0] == (88, 92)


def test_the_url_with_its_key_is_told_to_nobody() -> None:
    async def story(_node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: bool(receiver.statuses))

    async def play() -> Receiver:
        receiver = Receiver()
        feed = ChainFeed("ethereum/logs", "http://127.0.0.1:9/secret", (TO,))
        async with http_client() as client:
            task = asyncio.create_task(follow_chain(feed, client, receiver, policy=QUICK))
            await asyncio.wait_for(story(FakeNode(0), receiver), 10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert "secret" not in repr(feed)
        return receiver

    receiver = asyncio.run(play())

    assert receiver.states() == [FeedState.POLL_FAILED]
    assert "secret" not in repr(receiver.statuses)


def test_a_node_that_lags_behind_what_was_read_is_asked_again_later() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.head = 102
        block = json.dumps([{"id": 0, "result": hex(102)}, {"id": 1, "result": None}])
        node.faults = [fault(block, method="eth_blockNumber")]
        await receiver.until_read(99)

    receiver = run(FakeNode(head=100), story)

    assert receiver.blocks() == [(88, 97), (98, 99)]
    assert receiver.statuses == []


def test_blocks_missing_from_a_lagging_node_are_a_failure_not_a_frame() -> None:
    absent = json.dumps([{"id": number, "result": None} for number in range(9)])
    node = FakeNode(head=100, faults=[fault(absent, method="eth_getBlockByNumber", is_alone=True)])

    receiver = run(node, read_one_range)

    assert receiver.blocks() == [(88, 97)]
    assert receiver.statuses[0][3] == "the node lacks 9 of the blocks asked for"


def test_quantities_and_blocks_are_read_strictly() -> None:
    assert quantity("0x1f") == 31
    for wrong in (None, 31, "31", "0x", "0xg", "0x" + "f" * 65):
        with pytest.raises(NodeError):
            quantity(wrong)
    with pytest.raises(NodeError):
        header_of({"number": "0x1"})


def test_a_wrong_head_before_anything_was_read_does_not_settle_where_the_reading_begins() -> None:
    ahead = fault(json.dumps({"id": 0, "result": hex(2**40)}), method="eth_blockNumber")

    receiver = run(FakeNode(head=100, faults=[ahead]), read_one_range)

    assert receiver.blocks() == [(88, 97)]
