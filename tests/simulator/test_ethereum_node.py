"""The simulated node, asked over HTTP as any client would."""

import asyncio

import pytest
from simulated_client import serving_part

from simulator.ethereum import SimulatedEthereum
from simulator.ethereum_chain import BURN, EXCHANGE_WALLETS, ISSUE, MINT, REDEEM, TRANSFER, USDC, USDT, word

START = 1_790_000_000.0
WITHOUT_BODIES = False
WORDS = [word(address) for address in EXCHANGE_WALLETS]


class Clock:
    """Stands still until told otherwise."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def node(seed=7, **options):
    return SimulatedEthereum(seed, START, clock=options.pop("clock", Clock()), **options)


NODE = node()  # for those who only ask: its blocks are made once


def ask_all(part, *bodies):
    """Return the answers to several HTTP requests, one after another."""

    async def scenario():
        answers = []
        async with serving_part(part) as session:
            for body in bodies:
                async with session.post("/ethereum", json=body) as response:
                    assert response.status == 200
                    assert response.headers["Content-Type"] == "application/json"
                    answers.append(await response.json())
        return answers

    return asyncio.run(scenario())


def request(method, *params, request_id=1):
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}


def ask(part, method, *params):
    """Return one call's result."""
    (answer,) = ask_all(part, request(method, *params))
    assert "error" not in answer, answer
    return answer["result"]


def block_at(part, number_or_tag):
    return ask(
        part, "eth_getBlockByNumber", number_or_tag if isinstance(number_or_tag, str) else hex(number_or_tag), WITHOUT_BODIES
    )


def error_of(part, method, *params):
    (answer,) = ask_all(part, request(method, *params))
    return answer["error"]["code"], answer["error"]["message"]


def logs_of(part, first, last, **wanted):
    return ask(part, "eth_getLogs", {"fromBlock": hex(first), "toBlock": hex(last), **wanted})


def micros(logs):
    return sum(int(log["data"], 16) for log in logs)


def test_it_is_the_main_chain():
    assert ask(NODE, "eth_chainId") == "0x1"


def test_the_newest_block_is_as_old_as_the_last_slot_and_six_hours_lie_before_it():
    part = NODE

    newest = block_at(part, "latest")
    oldest = block_at(part, part.chain.head - 1800)

    assert 0 <= START - int(newest["timestamp"], 16) < 12
    assert int(newest["timestamp"], 16) - int(oldest["timestamp"], 16) == 6 * 3600
    assert block_at(part, part.chain.head - 1801) is None
    assert block_at(part, part.chain.head + 1) is None


def test_block_numbers_are_those_of_the_main_chain_up_to_missed_slots():
    # The Dencun upgrade's first block, 19,426,587, came on 2024-03-13 at 13:55:35; about one slot in a hundred stays empty.
    dencun = 1_710_338_135.0
    part = SimulatedEthereum(7, dencun, clock=Clock(dencun))

    assert 0 < part.chain.head - 19_426_587 < 50_000


def test_a_block_comes_every_12_seconds_or_as_often_as_asked():
    slow_clock, fast_clock = Clock(), Clock()
    slow, fast = node(clock=slow_clock), node(clock=fast_clock, block_seconds=0.5)
    first = slow.chain.head

    slow_clock.now = fast_clock.now = START + 60

    assert slow.chain.head - first == 5
    assert 120 <= fast.chain.head - first <= 144


def test_blocks_are_chained_by_their_hashes():
    part = NODE
    numbers = range(part.chain.head - 5, part.chain.head + 1)

    blocks = [block_at(part, number) for number in numbers]

    assert [int(block["number"], 16) for block in blocks] == list(numbers)
    assert [block["parentHash"] for block in blocks[1:]] == [block["hash"] for block in blocks[:-1]]


def test_finalized_is_two_epochs_behind_and_safe_one():
    part = NODE

    finalized, safe, latest, pending, earliest = (
        int(block_at(part, tag)["number"], 16) for tag in ("finalized", "safe", "latest", "pending", "earliest")
    )

    assert 64 <= latest - finalized < 96
    assert safe - finalized == 32
    assert (pending, earliest) == (latest, latest - 1800)


def test_the_same_seed_gives_the_same_chain_and_another_seed_another():
    first, last = NODE.chain.head - 50, NODE.chain.head

    assert logs_of(NODE, first, last) == logs_of(node(), first, last)
    assert logs_of(NODE, first, last) != logs_of(node(seed=8), first, last)


def test_a_block_asked_for_later_or_alone_is_the_same():
    clock = Clock()
    part, other = node(clock=clock), node(clock=clock)
    number = part.chain.head - 3
    early = logs_of(part, number, number)

    clock.now += 600

    assert logs_of(part, number - 20, number + 20, address=[USDT, USDC]) == logs_of(
        other, number - 20, number + 20, address=[USDT, USDC]
    )
    assert logs_of(other, number, number) == early


def test_a_log_is_printed_as_a_node_prints_it():
    part = NODE
    number = part.chain.head

    log = logs_of(part, number, number)[0]

    block = block_at(part, number)
    assert log == {
        "address": log["address"],
        "topics": log["topics"],
        "data": log["data"],
        "blockNumber": hex(number),
        "transactionHash": log["transactionHash"],
        "transactionIndex": log["transactionIndex"],
        "blockHash": block["hash"],
        "blockTimestamp": block["timestamp"],
        "logIndex": log["logIndex"],
        "removed": False,
    }
    assert log["transactionHash"] in block["transactions"]


def test_logs_come_in_the_chains_order_and_an_index_appears_once_in_a_block():
    part = NODE

    places = [
        (int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in logs_of(part, part.chain.head - 99, part.chain.head)
    ]

    assert places == sorted(set(places))


def test_topics_and_addresses_select():
    part = NODE
    first, last = part.chain.head - 99, part.chain.head
    everything = logs_of(part, first, last)

    def selected(**wanted):
        return logs_of(part, first, last, **wanted)

    assert selected(address=USDT) == [log for log in everything if log["address"] == USDT]
    assert selected(address=[USDT.upper().replace("0X", "0x"), USDC]) == [
        log for log in everything if log["address"] in {USDT, USDC}
    ]
    assert selected(topics=[TRANSFER, None, WORDS]) == [
        log for log in everything if log["topics"][0] == TRANSFER and log["topics"][2] in WORDS
    ]
    assert selected(topics=[[TRANSFER], WORDS[0]]) == [log for log in everything if log["topics"][1:2] == [WORDS[0]]]
    assert selected(topics=[]) == selected(topics=[None]) == selected(topics=[[]]) == selected(address=[]) == everything
    assert selected(topics=[[ISSUE, REDEEM, MINT, BURN], None, None, None]) == []


def test_other_tokens_and_strangers_are_there_to_be_filtered():
    part = NODE
    everything = logs_of(part, part.chain.head - 99, part.chain.head)

    touching = [log for log in everything if set(log["topics"][1:]) & set(WORDS)]

    assert {log["address"] for log in everything} > {USDT, USDC}
    assert 0 < len(touching) < len(everything) / 2


@pytest.mark.slow
def test_the_truth_is_what_a_filter_by_topics_finds():
    part = NODE
    first, last = part.chain.first_block, part.chain.head
    tokens = {"address": [USDT, USDC]}

    incoming = logs_of(part, first, last, topics=[TRANSFER, None, WORDS], **tokens)
    outgoing = logs_of(part, first, last, topics=[TRANSFER, WORDS], **tokens)
    internal = logs_of(part, first, last, topics=[TRANSFER, WORDS, WORDS], **tokens)
    mints = logs_of(part, first, last, topics=[[ISSUE, MINT]], **tokens)
    burns = logs_of(part, first, last, topics=[[REDEEM, BURN]], **tokens)

    truth = part.truth()
    assert truth["inflow_micros"] == micros(incoming) - micros(internal)
    assert truth["outflow_micros"] == micros(outgoing) - micros(internal)
    assert truth["internal_micros"] == micros(internal)
    assert (truth["mint_micros"], truth["burn_micros"]) == (micros(mints), micros(burns))
    assert truth["events"] == len(incoming) + len(outgoing) - len(internal) + len(mints) + len(burns)
    assert min(truth[name] for name in truth if name.endswith("_micros")) > 0
    assert sum(flows["inflow_micros"] for flows in truth["by_exchange"].values()) == truth["inflow_micros"]
    assert {log["topics"][0] for log in mints + burns} == {ISSUE, MINT, REDEEM, BURN}


def test_the_truth_can_leave_small_transfers_out():
    part = NODE
    first = part.chain.head - 299

    million = part.truth(first, minimum_micros=10**12)

    assert 0 < million["inflow_micros"] < part.truth(first)["inflow_micros"]
    assert million["mint_micros"] == part.truth(first)["mint_micros"]


def test_the_share_of_inflows_can_be_chosen():
    part = node(inflow_share=1.0)

    truth = part.truth(part.chain.head - 99)

    assert truth["inflow_micros"] > truth["outflow_micros"] == 0


def test_there_are_transfers_of_nothing_and_of_much():
    part = NODE

    amounts = [int(log["data"], 16) for log in logs_of(part, part.chain.head - 499, part.chain.head, address=[USDT, USDC])]

    assert min(amounts) == 0
    assert max(amounts) > 5_000_000 * 10**6


def test_a_reorganisation_replaces_the_newest_blocks_and_keeps_some_transactions():
    part = node()
    head = part.chain.head
    before = [block_at(part, number) for number in range(head - 2, head + 1)]

    first = part.reorganise(2)

    after = [block_at(part, number) for number in range(head - 2, head + 1)]
    assert first == head - 1
    assert after[0] == before[0]
    assert after[1]["parentHash"] == before[0]["hash"]
    assert after[2]["parentHash"] == after[1]["hash"] != before[1]["hash"]
    kept = set(after[1]["transactions"]) & set(before[1]["transactions"])
    assert 0 < len(kept) < len(before[1]["transactions"])


def test_reorganisations_can_follow_each_other_deeper_and_later():
    clock = Clock()
    part = node(clock=clock)
    head = part.chain.head
    seen = {part.chain.block(head).hash}

    for seconds, depth in [(0, 1), (0, 2), (24, 2), (0, 4)]:
        clock.now += seconds
        part.reorganise(depth)
        blocks = list(part.chain.blocks(head - 10, part.chain.head))
        assert [block.parent_hash for block in blocks[1:]] == [block.hash for block in blocks[:-1]]
        seen.add(part.chain.block(head).hash)

    assert len(seen) == 4  # the third one did not reach this block


@pytest.mark.parametrize("depth", [0, -1, 10**6])
def test_a_reorganisation_of_nothing_or_of_everything_is_refused(depth):
    with pytest.raises(ValueError, match="depth"):
        node().reorganise(depth)


def test_old_blocks_are_made_anew_when_the_memory_for_them_is_full(monkeypatch):
    monkeypatch.setattr("simulator.ethereum_chain._MAX_CACHED_BLOCKS", 10)
    part = node()
    first = list(part.chain.blocks(part.chain.head - 30, part.chain.head))

    assert list(part.chain.blocks(part.chain.head - 30, part.chain.head)) == first
    assert len(part.chain._cache) == 10


def test_a_batch_is_answered_item_by_item_with_errors_in_their_place():
    part = NODE

    (answers,) = ask_all(
        part,
        [
            request("eth_blockNumber", request_id="a"),
            request("eth_nothing", request_id=2),
            {"jsonrpc": "2.0", "method": "eth_chainId"},
            request("eth_chainId", request_id=None),
            7,
        ],
    )

    invalid = {"code": -32600, "message": "invalid request"}
    unknown = {"code": -32601, "message": "the method eth_nothing does not exist/is not available"}
    assert answers == [
        {"jsonrpc": "2.0", "id": "a", "result": hex(part.chain.head)},
        {"jsonrpc": "2.0", "id": 2, "error": unknown},
        {"jsonrpc": "2.0", "id": None, "result": "0x1"},
        {"jsonrpc": "2.0", "id": None, "error": invalid},
    ]


def test_an_empty_or_a_huge_batch_is_refused():
    (empty, huge) = ask_all(NODE, [], [request("eth_chainId")] * 1001)

    assert empty["error"] == {"code": -32600, "message": "empty batch"}
    assert huge["error"] == {"code": -32600, "message": "batch too large"}


def test_wrong_parameters_are_refused_with_32602():
    part = NODE
    refused = [
        ("eth_getBlockByNumber",),
        ("eth_getBlockByNumber", "latest"),
        ("eth_getBlockByNumber", "latest", False, 1),
        ("eth_getBlockByNumber", "latest", True),
        ("eth_getBlockByNumber", 5, False),
        ("eth_getBlockByNumber", "0x05", False),
        ("eth_getBlockByNumber", "0x", False),
        ("eth_getBlockByNumber", "newest", False),
        ("eth_getLogs",),
        ("eth_getLogs", "all"),
        ("eth_getLogs", {"blockHash": "0x" + 64 * "0"}),
        ("eth_getLogs", {"address": "0x12"}),
        ("eth_getLogs", {"address": [1]}),
        ("eth_getLogs", {"topics": "Transfer"}),
        ("eth_getLogs", {"topics": [None] * 5}),
        ("eth_getLogs", {"topics": ["0x12"]}),
        ("eth_getLogs", {"topics": [[TRANSFER, 5]]}),
        ("eth_getLogs", {"fromBlock": "latest", "toBlock": "earliest"}),
        ("eth_getLogs", {"toBlock": hex(part.chain.head + 1)}),
    ]

    assert [(call, error_of(part, *call)[0]) for call in refused] == [(call, -32602) for call in refused]


def test_parameters_by_name_are_refused():
    (answer,) = ask_all(NODE, {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": {}})

    assert answer["error"]["code"] == -32602


def test_a_filter_without_a_range_means_the_newest_block():
    part = NODE

    assert ask(part, "eth_getLogs", {}) == logs_of(part, part.chain.head, part.chain.head)


def test_too_wide_a_range_and_too_many_results_are_refused():
    part = node(max_block_range=100, max_results=200)
    head = part.chain.head

    wide = error_of(part, "eth_getLogs", {"fromBlock": hex(head - 100), "toBlock": hex(head)})
    many = error_of(part, "eth_getLogs", {"fromBlock": hex(head - 99), "toBlock": hex(head)})

    assert wide == (-32602, "block range is too large, max 100 blocks")
    assert many == (-32005, "query returned more than 200 results")
    assert len(logs_of(part, head - 5, head)) <= 200


def test_what_is_no_json_or_not_sent_as_json_is_refused():
    async def scenario():
        async with serving_part(NODE) as session:
            json_header = {"Content-Type": "application/json"}
            async with session.post("/ethereum", data=b"{", headers=json_header) as broken:
                answer = await broken.json()
            async with session.post("/ethereum", data=b"{}", headers={"Content-Type": "text/plain"}) as plain:
                status = plain.status
            notification = {"jsonrpc": "2.0", "method": "eth_chainId"}
            async with (
                session.post("/ethereum", json=notification) as silent,
                session.post("/ethereum", json=[notification]) as too,
            ):
                bodies = [await silent.read(), await too.read()]
            return answer, status, bodies

    answer, status, bodies = asyncio.run(scenario())

    assert answer == {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "parse error"}}
    assert (status, bodies) == (415, [b"", b""])


def test_truth_and_reorganisation_can_be_asked_for_over_http():
    part = node()
    head = part.chain.head

    async def scenario():
        async with serving_part(part) as session:
            async with session.get(f"/ethereum/truth?from={head - 9}&to={head - 2}&minimum_micros=5") as response:
                truth = await response.json()
            async with session.post("/ethereum/control/reorganise?depth=2") as response:
                reorganised = await response.json()
            statuses = []
            for method, path in [("get", "/ethereum/truth?from=x"), ("post", "/ethereum/control/reorganise?depth=0")]:
                async with session.request(method, path) as response:
                    statuses.append(response.status)
            return truth, reorganised, statuses

    truth, reorganised, statuses = asyncio.run(scenario())

    assert truth == part.truth(head - 9, head - 2, minimum_micros=5)
    assert reorganised == {"first_replaced": head - 1, "head": head}
    assert statuses == [400, 400]
