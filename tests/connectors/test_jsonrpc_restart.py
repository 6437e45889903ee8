"""A process that starts takes back what was orphaned while nobody ran: it knows that from the frames of the last one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from ethereum_node import GENESIS_TIME, FakeNode, Receiver, run

from connectors.sources.jsonrpc import recalled
from market.raw import FeedState


async def read_to_97(_node: FakeNode, receiver: Receiver) -> None:
    await receiver.until_read(97)


def frames_of(receiver: Receiver) -> list[bytes]:
    """Return what was put, the last one first."""
    return [json.dumps(frame).encode() for frame in reversed(receiver.frames)]


def before(node: FakeNode) -> list[bytes]:
    """Return the frames of a process that read up to block 97 and ended."""
    return frames_of(run(node, read_to_97))


def taken_back(log: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {**log, "removed": True, "blockTimestamp": hex(GENESIS_TIME + 12 * number)}


def hashes(newest: Iterable[bytes], memory_blocks: int = 64) -> dict[int, tuple[str, int]]:
    return {number: (block.hash, len(block.logs)) for number, block in recalled(newest, memory_blocks).items()}


def test_what_was_orphaned_between_two_processes_is_taken_back_before_anything_is_read() -> None:
    node = FakeNode(head=100)
    newest, old_logs = before(node), [node.log(number) for number in (96, 97)]
    node.forks, node.head = dict.fromkeys(range(96, 200), "b"), 102

    receiver = run(node, lambda _node, receiver: receiver.until_read(99), newest=newest)

    assert receiver.blocks() == [(90, 99)]
    assert receiver.frames[0]["logs"] == [
        *(taken_back(log, number) for log, number in zip(old_logs, (96, 97), strict=True)),
        *(node.log(number) for number in range(90, 100)),
    ]
    assert receiver.statuses == []


def test_where_the_chain_still_stands_nothing_is_taken_back_and_every_block_is_remembered_once() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.forks, node.head = dict.fromkeys(range(96, 200), "b"), 101
        await receiver.until_read(98)

    newest = before(FakeNode(head=100, has_log_times=True))
    receiver = run(FakeNode(head=100, has_log_times=True), story, newest=newest)

    removed = [[log["removed"] for log in frame["logs"]] for frame in receiver.frames]
    assert removed == [[False] * 10, [True, True, False, False, False]]


def test_a_chain_that_changes_after_it_was_looked_up_and_before_it_is_read_is_looked_up_again() -> None:
    class Turning(FakeNode):
        def answer(self, method: str, params: list[Any]) -> dict[str, Any]:
            if method == "eth_getLogs" and params[0]["toBlock"] == hex(97):
                self.forks = dict.fromkeys(range(96, 200), "b")
            return super().answer(method, params)

    receiver = run(Turning(head=100), read_to_97, newest=before(FakeNode(head=100)), max_range_blocks=4)

    logs = [log for frame in receiver.frames for log in frame["logs"]]
    assert [log["blockNumber"] for log in logs if log["removed"]] == [hex(96), hex(97)]
    assert [log["blockHash"] for log in logs if not log["removed"]][-2:] == ["0xb96", "0xb97"]


def test_a_node_that_is_behind_what_the_last_process_read_is_waited_for() -> None:
    node = FakeNode(head=100)
    newest = before(node)
    node.head = 95

    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: bool(receiver.statuses))
        node.head = 100
        await receiver.until_read(97)

    receiver = run(node, story, newest=newest)

    assert receiver.states() == [FeedState.POLL_FAILED, FeedState.POLL_ANSWERED]
    assert {log["removed"] for frame in receiver.frames for log in frame["logs"]} == {False}


def test_what_all_forgot_is_told_as_too_deep() -> None:
    node = FakeNode(head=100)
    newest = before(node)
    node.forks, node.head = dict.fromkeys(range(200), "b"), 101

    receiver = run(node, lambda _node, receiver: receiver.until_read(98), newest=newest, memory_blocks=4)

    assert [log["removed"] for log in receiver.frames[0]["logs"]] == [True] * 4 + [False] * 10
    assert "deeper" in receiver.statuses[0][3]


def frame(first: int, last: int, logs: Iterable[tuple[int, str, bool]]) -> bytes:
    told = [
        {"blockNumber": hex(number), "blockHash": block_hash, "transactionHash": "0x1", "logIndex": "0x0", "removed": removed}
        for number, block_hash, removed in logs
    ]
    times = {number: number * 12 for number, _hash, _removed in logs} | {first: 0, last: 0}
    body = {"chain": "ethereum", "from_block": first, "to_block": last, "timestamps": times, "logs": told}
    return json.dumps(body).encode()


def test_what_a_later_frame_took_back_is_not_recalled_and_what_it_brought_is() -> None:
    newest = [
        frame(5, 6, [(5, "a", True), (5, "b", False), (6, "b6", False)]),
        frame(4, 5, [(4, "a4", False), (5, "a", False)]),
    ]

    assert hashes(newest) == {4: ("a4", 1), 5: ("b", 1), 6: ("b6", 1)}


def test_what_was_taken_back_and_came_again_is_recalled() -> None:
    newest = [
        frame(5, 5, [(5, "b", True), (5, "a", False)]),
        frame(5, 5, [(5, "a", True), (5, "b", False)]),
        frame(5, 5, [(5, "a", False)]),
    ]

    assert hashes(newest) == {5: ("a", 1)}


def test_what_was_read_twice_is_recalled_once() -> None:
    assert hashes([frame(4, 5, [(5, "a", False)]), frame(5, 5, [(5, "a", False)])]) == {5: ("a", 1)}


def test_no_more_is_recalled_than_can_be_of_interest() -> None:
    def newest() -> Iterable[bytes]:
        yield frame(9, 10, [(9, "i", False), (10, "j", False)])
        yield frame(1, 8, [(1, "a", False), (7, "g", False), (8, "h", False)])
        raise AssertionError("nobody needs older ones")

    assert hashes(newest(), memory_blocks=3) == {8: ("h", 1), 9: ("i", 1), 10: ("j", 1)}


@pytest.mark.parametrize("unreadable", [b"", b"{}", b'{"chain": 1}'])
def test_frames_of_another_version_are_not_recalled(unreadable: bytes) -> None:
    assert hashes([frame(5, 5, [(5, "a", False)]), unreadable, frame(4, 4, [(4, "a", False)])]) == {5: ("a", 1)}


def test_a_log_without_a_place_is_not_recalled() -> None:
    nowhere = json.loads(frame(5, 5, [(5, "a", False)]))
    nowhere["logs"].append({"blockNumber": None, "blockHash": None})
    nowhere["logs"].append({"blockNumber": "0x5", "blockHash": None})

    assert hashes([json.dumps(nowhere).encode()]) == {5: ("a", 1)}
