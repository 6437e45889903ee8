from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE

from connectors.sources.chain.ethereum import (
    BURN,
    ETHEREUM,
    FEED,
    ISSUE,
    MAX_AMOUNT_MICROS,
    MAX_REFUSALS,
    MINT,
    REDEEM,
    TRANSFER,
    USDC,
    USDT,
    ethereum_feed,
    parse_logs,
)
from connectors.sources.frame import Frame, FrameError, MalformedFrameError, UnknownFrameError
from connectors.sources.jsonrpc import LogFilter
from market.events import ExchangeKind
from market.exchanges import AddressBook, ExchangeAddress
from market.raw import Cause, ChainProgress, RawEvent, RawRefusal, RawTokenEvent, TokenEventKind

CAUSE = Cause("main", 7, 1_700_000_100_000_000)
FIRST, LAST = 18_571_000, 18_571_004
FIRST_TIME, LAST_TIME = 1_700_000_003, 1_700_000_051
SENDER, RECEIVER = "0x" + "a" * 40, "0x" + "b" * 40
HASH = "0x" + "c" * 64
CIRCLES = "USDC"


def word(value: str | int) -> str:
    digits = f"{value:x}" if isinstance(value, int) else value[2:]
    return f"0x{digits:0>64}"


def log(**changes: Any) -> dict[str, Any]:
    transfer = {
        "address": USDT,
        "topics": [TRANSFER, word(SENDER), word(RECEIVER)],
        "data": word(2_500_000_000_000),
        "blockNumber": hex(FIRST),
        "blockHash": word(1),
        "transactionHash": HASH,
        "transactionIndex": "0x2",
        "logIndex": "0x1f",
        "removed": False,
    }
    return {**transfer, **changes}


def frame(*logs: object, **changes: Any) -> Frame:
    times = {str(FIRST): FIRST_TIME, str(LAST): LAST_TIME}
    payload = {"chain": "ethereum", "from_block": FIRST, "to_block": LAST, "timestamps": times, "logs": logs, **changes}
    return Frame(FEED, json.dumps(payload).encode(), CAUSE)


def token_event(**changes: Any) -> RawTokenEvent:
    transfer: dict[str, Any] = {
        "cause": CAUSE,
        "chain": "ethereum",
        "token": "USDT",
        "kind": TokenEventKind.TRANSFER,
        "from_address": SENDER,
        "to_address": RECEIVER,
        "amount_micros": 2_500_000_000_000,
        "block_number": FIRST,
        "block_time_us": FIRST_TIME * 1_000_000,
        "transaction_hash": HASH,
        "log_index": 31,
        "is_removed": False,
    }
    return RawTokenEvent(**{**transfer, **changes})


PROGRESS = ChainProgress(CAUSE, "ethereum", FIRST, LAST, FIRST_TIME * 1_000_000, LAST_TIME * 1_000_000)

SAYINGS: dict[str, tuple[dict[str, Any], RawTokenEvent]] = {
    "a transfer of USDT": (log(), token_event()),
    "a transfer of USDC": (log(address=USDC), token_event(token=CIRCLES)),
    "a contract and a hash in mixed case": (
        log(address="0xdAC17F958D2ee523a2206206994597C13D831ec7", transactionHash=HASH.replace("c", "C")),
        token_event(),
    ),
    "an issue of USDT is a mint": (
        log(topics=[ISSUE]),
        token_event(kind=TokenEventKind.MINT, from_address="", to_address=""),
    ),
    "a redemption of USDT is a burn": (
        log(topics=[REDEEM]),
        token_event(kind=TokenEventKind.BURN, from_address="", to_address=""),
    ),
    "a mint of USDC": (
        log(address=USDC, topics=[MINT, word(SENDER), word(RECEIVER)]),
        token_event(token=CIRCLES, kind=TokenEventKind.MINT, from_address="", to_address=""),
    ),
    "a burn of USDC": (
        log(address=USDC, topics=[BURN, word(SENDER)]),
        token_event(token=CIRCLES, kind=TokenEventKind.BURN, from_address="", to_address=""),
    ),
    "an orphaned log with the time of its own block": (
        log(removed=True, blockTimestamp=hex(FIRST_TIME + 5)),
        token_event(is_removed=True, block_time_us=(FIRST_TIME + 5) * 1_000_000),
    ),
    "a log whose time of zero means not known": (log(blockTimestamp="0x0"), token_event()),
    "a log that does not say whether it was removed": (
        {name: value for name, value in log().items() if name != "removed"},
        token_event(),
    ),
    "an amount of zero": (log(data=word(0)), token_event(amount_micros=0)),
    "the largest amount": (log(data=word(MAX_AMOUNT_MICROS)), token_event(amount_micros=MAX_AMOUNT_MICROS)),
}


@pytest.mark.parametrize("saying", SAYINGS)
def test_each_log_says_exactly_its_event_and_the_progress_comes_last(saying: str) -> None:
    wire, event = SAYINGS[saying]

    assert parse_logs(frame(wire)) == [event, PROGRESS]


def test_a_range_without_logs_says_how_far_it_was_read() -> None:
    assert parse_logs(frame()) == [PROGRESS]


REFUSED: dict[str, tuple[object, str]] = {
    "another contract": (log(address=SENDER), "UnknownFrameError"),
    "another event": (log(topics=[word(1)]), "UnknownFrameError"),
    "an event of the other token": (log(address=USDC, topics=[ISSUE]), "UnknownFrameError"),
    "no topic": (log(topics=[]), "UnknownFrameError"),
    "a topic too few": (log(topics=[TRANSFER, word(SENDER)]), "MalformedFrameError"),
    "a topic too many": (log(topics=[ISSUE, word(1)]), "MalformedFrameError"),
    "an address of more than 20 bytes": (log(topics=[TRANSFER, word(SENDER), "0x" + "b" * 64]), "MalformedFrameError"),
    "no amount": (log(data="0x"), "MalformedFrameError"),
    "an absurd amount": (log(data=word(MAX_AMOUNT_MICROS + 1)), "MalformedFrameError"),
    "a short hash": (log(transactionHash="0x1"), "MalformedFrameError"),
    "no block number": (log(blockNumber=None), "MalformedFrameError"),
    "a block number that is no number": (log(blockNumber="latest"), "MalformedFrameError"),
    "a block without a time": (log(blockNumber=hex(FIRST + 1)), "MalformedFrameError"),
    "a time beyond all tables": (log(blockTimestamp="0xfffffffffffff"), "MalformedFrameError"),
    "no log at all": (17, "MalformedFrameError"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_cannot_be_read_is_refused_alone(name: str) -> None:
    wire, error = REFUSED[name]

    before, refusal, after, progress = parse_logs(frame(log(), wire, log()))

    assert [before, after, progress] == [token_event(), token_event(), PROGRESS]
    assert isinstance(refusal, RawRefusal)
    assert (refusal.cause, refusal.error) == (CAUSE, error)


def test_a_frame_full_of_unreadable_logs_is_refused_once() -> None:
    assert len(parse_logs(frame(*[log(data="0x")] * MAX_REFUSALS))) == MAX_REFUSALS + 1

    with pytest.raises(MalformedFrameError, match="17 of 18 logs"):
        parse_logs(frame(log(), *[log(data="0x")] * (MAX_REFUSALS + 1)))


def test_another_chain_is_unknown() -> None:
    with pytest.raises(UnknownFrameError):
        parse_logs(frame(chain="tron"))


@pytest.mark.parametrize(
    "changes",
    [
        {"from_block": LAST + 1},
        {"to_block": -1},
        {"timestamps": {}},
        {"timestamps": {str(FIRST): FIRST_TIME}},
        {"timestamps": {str(FIRST): -1, str(LAST): LAST_TIME}},
        {"logs": None},
    ],
)
def test_a_range_without_ends_times_or_logs_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedFrameError):
        parse_logs(frame(**changes))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(UNICODE, max_size=70)
    | st.sampled_from([USDT, TRANSFER, word(SENDER), HASH]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(log())), inner, max_size=9),
    max_leaves=12,
)


def read(payload: bytes) -> list[RawEvent]:
    try:
        return parse_logs(Frame(FEED, payload, CAUSE))
    except FrameError:
        return []


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    read(payload)


@given(st.lists(JSON, max_size=MAX_REFUSALS), st.dictionaries(st.sampled_from(sorted(log())), JSON, max_size=3))
def test_any_logs_are_read_or_refused_one_by_one(logs: list[object], changes: dict[str, Any]) -> None:
    events = parse_logs(frame(*logs[1:], log(**changes)))

    assert len(events) == len(logs[1:]) + 2
    assert events[-1] == PROGRESS


def test_text_that_is_not_utf_8_and_nesting_without_end_are_malformed() -> None:
    for payload in (
        b'{"chain": "\xff"}',
        b"[" * 100_000,
        frame(log()).payload.replace(b'"0x2"', b"[" * 50_000 + b"]" * 50_000),
    ):
        assert read(payload) in ([], [PROGRESS]) or isinstance(read(payload)[0], RawRefusal)


def book(addresses: int) -> AddressBook:
    return AddressBook(tuple(ExchangeAddress(f"0x{number:040x}", "x", ExchangeKind.SPOT) for number in range(addresses)))


def test_what_is_asked_for_is_supply_and_the_transfers_to_and_from_every_address() -> None:
    feed = ethereum_feed("http://node", book(2), confirmations="finalized", poll_seconds=3.0, lookback_blocks=9)

    addresses = (word(0), word(1))
    assert feed.filters == (
        LogFilter((USDT, USDC), ((ISSUE, REDEEM, MINT, BURN),)),
        LogFilter((USDT, USDC), ((TRANSFER,), None, addresses)),
        LogFilter((USDT, USDC), ((TRANSFER,), addresses)),
    )
    assert (feed.name, feed.chain, feed.url) == ("ethereum/logs", "ethereum", "http://node")
    assert (feed.confirmations, feed.poll_seconds, feed.lookback_blocks) == ("finalized", 3.0, 9)


def test_long_lists_of_addresses_are_asked_for_in_pieces() -> None:
    feed = ethereum_feed("http://node", book(250))

    asked = [len(words) for part in feed.filters[1:] for words in part.topics[1:] if words is not None]
    assert asked == [100, 100, 100, 100, 50, 50]


def test_the_chain_registers_its_parser_by_channel() -> None:
    assert (ETHEREUM.id, dict(ETHEREUM.parsers)) == ("ethereum", {"logs": parse_logs})
