from __future__ import annotations

import json

from ethereum_node import GENESIS_TIME, FakeNode, Receiver, fault, read_one_range, run, times

from connectors.sources.chain.ethereum import FEED, ISSUE, USDT, parse_logs
from connectors.sources.frame import Frame
from connectors.sources.jsonrpc import CONNECTION
from market.raw import Cause, ChainProgress, FeedState, RawTokenEvent


def test_the_look_back_behind_the_confirmations_becomes_one_frame_with_every_log_once() -> None:
    node = FakeNode(head=100)

    receiver = run(node, read_one_range)

    logs = [node.log(number) for number in range(88, 98)]
    assert receiver.frames == [
        {"chain": "ethereum", "from_block": 88, "to_block": 97, "timestamps": times(*range(88, 98)), "logs": logs}
    ]
    assert receiver.statuses == []


def test_blocks_whose_logs_carry_their_time_are_not_asked_for() -> None:
    node = FakeNode(head=100, has_log_times=True)

    receiver = run(node, read_one_range)

    assert receiver.frames[0]["timestamps"] == times(88, 97)


def test_a_log_time_of_zero_is_none() -> None:
    node = FakeNode(head=100, log_changes={"blockTimestamp": "0x0"})

    receiver = run(node, read_one_range)

    assert receiver.frames[0]["timestamps"] == times(*range(88, 98))


def test_reading_starts_at_the_block_given_and_goes_on_with_each_new_block() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.head = 102
        await receiver.until_read(99)

    receiver = run(FakeNode(head=100), story, start_block=95)

    assert receiver.blocks() == [(95, 97), (98, 99)]


def test_nothing_is_read_before_the_start_block_is_confirmed() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await node.until_asked(3)
        assert receiver.frames == []
        node.head = 103
        await receiver.until_read(100)

    receiver = run(FakeNode(head=100), story, start_block=100)

    assert receiver.blocks() == [(100, 100)]


def test_only_finalized_blocks_are_read_when_asked_so() -> None:
    async def story(_node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(40)

    receiver = run(FakeNode(head=100), story, confirmations="finalized")

    assert receiver.blocks() == [(31, 40)]


def test_a_chain_without_finalized_blocks_is_an_incident() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: bool(receiver.statuses))
        node.head = 100
        await receiver.until_read(40)

    receiver = run(FakeNode(head=50), story, confirmations="finalized")

    assert receiver.statuses == [
        ("ethereum/logs", CONNECTION, FeedState.POLL_FAILED, "the node knows no finalized block"),
        ("ethereum/logs", CONNECTION, FeedState.POLL_ANSWERED, ""),
    ]


def test_a_node_without_batches_is_asked_one_by_one() -> None:
    node = FakeNode(head=100)

    receiver = run(node, read_one_range, max_batch_requests=1)

    assert receiver.blocks() == [(88, 97)]
    assert {len(batch) for batch in node.batches} == {1}


def test_a_refused_range_is_halved_until_it_passes_and_no_block_is_left_out() -> None:
    node = FakeNode(head=100, max_blocks=4)

    receiver = run(node, read_one_range, lookback_blocks=40)

    covered = [number for first, last in receiver.blocks() for number in range(first, last + 1)]
    assert covered == list(range(58, 98))
    assert max(last - first + 1 for first, last in receiver.blocks()) <= 4
    assert receiver.statuses == []


def test_a_range_grows_again_after_it_was_halved() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: len(receiver.frames) > 1)
        node.max_blocks = 10_000
        await receiver.until_read(297)

    receiver = run(FakeNode(head=300, max_blocks=4), story, lookback_blocks=250, max_range_blocks=20)

    lengths = [last - first + 1 for first, last in receiver.blocks()]
    assert max(lengths[:2]) <= 4
    assert max(lengths) == 20


def test_a_single_block_that_is_refused_is_asked_again_and_never_skipped() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: bool(receiver.statuses))
        await node.until_asked(30)
        node.refuses_block = None
        await receiver.until_read(97)

    receiver = run(FakeNode(head=100, refuses_block=92), story)

    covered = [number for first, last in receiver.blocks() for number in range(first, last + 1)]
    assert covered == list(range(88, 98))
    assert receiver.states() == [FeedState.POLL_FAILED, FeedState.POLL_ANSWERED]


def test_a_log_without_a_place_is_handed_on_for_the_parser_to_refuse() -> None:
    node = FakeNode(head=100, log_changes={"blockNumber": None, "blockHash": None})

    receiver = run(node, read_one_range)

    assert len(receiver.frames[0]["logs"]) == 10
    assert receiver.frames[0]["timestamps"] == times(88, 97)


def test_orphaned_logs_are_taken_back_before_the_new_ones_and_a_log_mined_again_comes_again() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.forks = dict.fromkeys(range(96, 200), "b")
        node.head = 101
        await receiver.until_read(98)

    node = FakeNode(head=100)
    taken_back = [
        {**node.log(number), "removed": True, "blockTimestamp": hex(GENESIS_TIME + 12 * number)} for number in (96, 97)
    ]
    receiver = run(node, story)

    assert receiver.frames[1] == {
        "chain": "ethereum",
        "from_block": 96,
        "to_block": 98,
        "timestamps": times(96, 97, 98),
        "logs": taken_back + [node.log(number) for number in (96, 97, 98)],
    }
    assert receiver.statuses == []


def test_what_is_read_is_what_the_parser_of_the_chain_expects() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.forks = dict.fromkeys(range(97, 200), "b")
        node.head = 101
        await receiver.until_read(98)

    usdt = {"address": USDT, "topics": [ISSUE], "data": f"0x{5_000_000:064x}", "transactionHash": f"0x{7:064x}"}
    receiver = run(FakeNode(head=100, log_changes=usdt), story, start_block=97)

    parsed = [parse_logs(Frame(FEED, json.dumps(frame).encode(), Cause("main", 1, 1))) for frame in receiver.frames]
    said = [
        [(event.block_number, event.is_removed) for event in events if isinstance(event, RawTokenEvent)] for events in parsed
    ]
    assert said == [[(97, False)], [(97, True), (97, False), (98, False)]]
    assert [type(events[-1]) for events in parsed] == [ChainProgress, ChainProgress]


def test_logs_stay_orphaned_until_the_range_that_replaces_them_could_be_read() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.forks = dict.fromkeys(range(97, 200), "b")
        node.faults = [fault("", status=500)]
        node.head = 101
        await receiver.until_read(98)

    receiver = run(FakeNode(head=100), story)

    assert [log["removed"] for log in receiver.frames[1]["logs"]] == [True, False, False]


def test_a_reorganisation_deeper_than_the_memory_is_told_and_read_again_from_where_it_begins() -> None:
    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until_read(97)
        node.forks = dict.fromkeys(range(200), "b")
        node.head = 101
        await receiver.until_read(98)

    receiver = run(FakeNode(head=100), story, memory_blocks=4)

    assert receiver.blocks() == [(88, 97), (94, 98)]
    assert [log["removed"] for log in receiver.frames[1]["logs"]] == [True] * 4 + [False] * 5
    assert receiver.states() == [FeedState.POLL_FAILED, FeedState.POLL_ANSWERED]
    assert "deeper" in receiver.statuses[0][3]


def test_a_chain_that_changes_while_it_is_read_is_read_again() -> None:
    node = FakeNode(head=100, log_changes={"blockHash": "0xelsewhere"})

    async def story(node: FakeNode, receiver: Receiver) -> None:
        await receiver.until(lambda: bool(receiver.statuses))
        node.log_changes = {}
        await receiver.until_read(97)

    receiver = run(node, story)

    assert receiver.blocks() == [(88, 97)]
    assert receiver.statuses[0][3] == "the chain was re-organised while it was read"
