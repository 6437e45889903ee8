"""Stablecoins on Ethereum: which logs are asked for, and what they say.

USDT and USDC emit the standard Transfer. Tether's own Issue and Redeem come without a Transfer, so that whoever watches
transfers alone never sees its mints and burns. Circle's Mint and Burn come with one, from or to the zero address.
Contracts: 0xdAC17F95… (TetherToken) and 0xA0b86991… (FiatTokenV2), verified source at any block explorer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

import msgspec

from connectors.sources.feed import Parser
from connectors.sources.frame import Frame, FrameError, MalformedFrameError, UnknownFrameError
from connectors.sources.jsonrpc import ChainFeed, LogFilter
from connectors.sources.venues.wire import decode
from market.exchanges import AddressBook
from market.raw import ChainProgress, RawEvent, RawRefusal, RawTokenEvent, TokenEventKind

CHAIN = "ethereum"
FEED = "ethereum/logs"

USDT = "0xdac17f958d2ee523a2206206994597c13d831ec7"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"

# Keccak-256 of the events' signatures: Transfer(address,address,uint256), Issue(uint256), Redeem(uint256),
# Mint(address,address,uint256), Burn(address,uint256).
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
ISSUE = "0xcb8241adb0c3fdb35b70c24ce35c5eb0c17af7431c99f827d44a445ca624176a"
REDEEM = "0x702d5967f45f6513a38ffc42d6ba9bf230bd40e8f53b16363c7eb4fd2deb9a44"
MINT = "0xab8530f87dc9b59234c4623bf917212bb2536d647574c8e7e5da92c2ede0c9f8"
BURN = "0xcc16f5dbb4873280815c1ee09dbd06736cffcc184412cf7a71a0fdb75d397ca5"

ADDRESSES_PER_CALL = 100
"""Infura takes 5,000 parameters in a request; smaller nodes are slower the more alternatives a topic has."""

MAX_AMOUNT_MICROS = 10**18
"""A trillion USD, several times all stablecoins there are. It still fits the tables' 64 bits."""

MAX_REFUSALS = 16
"""Each refused log keeps its whole frame as a dead letter; with more of them the frame is refused once, as a whole."""

_MAX_UNIX_SECONDS = 253_402_300_799  # the year 9999: in microseconds it still fits 64 bits
_WORD_OF_ADDRESS = re.compile(r"0x0{24}([0-9a-fA-F]{40})")
_WORD = re.compile(r"0x[0-9a-fA-F]{64}")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,13}")  # 52 bits: blocks, indices and seconds are far below

_Block = Annotated[int, msgspec.Meta(ge=0, le=2**52)]
_UnixSeconds = Annotated[int, msgspec.Meta(ge=0, le=_MAX_UNIX_SECONDS)]


@dataclass(frozen=True)
class _Shape:
    """How one event of one token is laid out: how many topics, its own hash included; the amount is always the data."""

    token: str
    kind: TokenEventKind
    topics: int


_SHAPES: Mapping[tuple[str, str], _Shape] = {
    (USDT, TRANSFER): _Shape("USDT", TokenEventKind.TRANSFER, 3),
    (USDT, ISSUE): _Shape("USDT", TokenEventKind.MINT, 1),
    (USDT, REDEEM): _Shape("USDT", TokenEventKind.BURN, 1),
    (USDC, TRANSFER): _Shape("USDC", TokenEventKind.TRANSFER, 3),
    (USDC, MINT): _Shape("USDC", TokenEventKind.MINT, 3),
    (USDC, BURN): _Shape("USDC", TokenEventKind.BURN, 2),
}


class _Log(msgspec.Struct, frozen=True, rename="camel"):
    address: str
    topics: list[str]
    data: str
    block_number: str
    transaction_hash: str
    log_index: str
    removed: bool = False
    block_timestamp: str | None = None


class _Range(msgspec.Struct, frozen=True):
    chain: str
    from_block: _Block
    to_block: _Block
    timestamps: dict[_Block, _UnixSeconds]
    logs: list[msgspec.Raw]


_RANGE = msgspec.json.Decoder(_Range)
_LOG = msgspec.json.Decoder(_Log)


def parse_logs(frame: Frame) -> list[RawEvent]:
    """Read one range of blocks: its stablecoin events in the order of the frame, then how far the chain has been read.

    A log that cannot be read is refused by itself; the others and the progress stand.

    Raises:
        MalformedFrameError: Not a range of blocks with the times of its ends, or too many logs that cannot be read.
        UnknownFrameError: Another chain.
    """
    blocks = decode(_RANGE, frame.payload)
    if blocks.chain != CHAIN:
        raise UnknownFrameError(f"chain {blocks.chain!r}")
    if blocks.from_block > blocks.to_block:
        raise MalformedFrameError(f"blocks {blocks.from_block} to {blocks.to_block}")
    from_time_us, to_time_us = (_time_us(blocks.timestamps, number) for number in (blocks.from_block, blocks.to_block))
    events: list[RawEvent] = [_token_event_or_refusal(frame, raw, blocks.timestamps) for raw in blocks.logs]
    refusals = [event.reason for event in events if isinstance(event, RawRefusal)]
    if len(refusals) > MAX_REFUSALS:
        raise MalformedFrameError(f"{len(refusals)} of {len(events)} logs cannot be read; the first: {refusals[0]}")
    events.append(ChainProgress(frame.cause, CHAIN, blocks.from_block, blocks.to_block, from_time_us, to_time_us))
    return events


def _token_event_or_refusal(frame: Frame, raw: msgspec.Raw, timestamps: Mapping[int, int]) -> RawTokenEvent | RawRefusal:
    try:
        return _token_event(frame, raw, timestamps)
    except FrameError as error:
        return RawRefusal(frame.cause, type(error).__name__, str(error))


def _token_event(frame: Frame, raw: msgspec.Raw, timestamps: Mapping[int, int]) -> RawTokenEvent:
    log = decode(_LOG, raw)
    if not log.topics:
        raise UnknownFrameError(f"log of {log.address} without a topic")
    shape = _SHAPES.get((log.address.lower(), log.topics[0].lower()))
    if shape is None:
        raise UnknownFrameError(f"log of {log.address} with topic {log.topics[0]}")
    if len(log.topics) != shape.topics:
        raise MalformedFrameError(f"{len(log.topics)} topics in a {shape.kind.value} of {shape.token}")
    from_address, to_address = "", ""
    if shape.kind is TokenEventKind.TRANSFER:
        from_address, to_address = _address(log.topics[1]), _address(log.topics[2])
    amount_micros = int(_word(log.data), 16)  # 6 decimals: the contract counts in micro-USD
    if amount_micros > MAX_AMOUNT_MICROS:
        raise MalformedFrameError(f"{amount_micros // 10**6} {shape.token} are more than there can be")
    block_number = _quantity(log.block_number)
    return RawTokenEvent(
        cause=frame.cause,
        chain=CHAIN,
        token=shape.token,
        kind=shape.kind,
        from_address=from_address,
        to_address=to_address,
        amount_micros=amount_micros,
        block_number=block_number,
        block_time_us=_log_time_us(log, block_number, timestamps),
        transaction_hash=_word(log.transaction_hash),
        log_index=_quantity(log.log_index),
        is_removed=log.removed,
    )


def _log_time_us(log: _Log, block_number: int, timestamps: Mapping[int, int]) -> int:
    """Return the time of a log's block. A log's own counts first: an orphaned block shares its number with another."""
    time_s = _quantity(log.block_timestamp) if log.block_timestamp is not None else 0
    if time_s > _MAX_UNIX_SECONDS:
        raise MalformedFrameError(f"time {time_s}")
    return time_s * 1_000_000 or _time_us(timestamps, block_number)  # some nodes give 0x0 for "not known"


def _time_us(timestamps: Mapping[int, int], block_number: int) -> int:
    if block_number not in timestamps:
        raise MalformedFrameError(f"no time for block {block_number}")
    return timestamps[block_number] * 1_000_000


def _address(word: str) -> str:
    match = _WORD_OF_ADDRESS.fullmatch(word)
    if match is None:
        raise MalformedFrameError(f"no address: {word[:80]!r}")
    return f"0x{match.group(1).lower()}"


def _word(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise MalformedFrameError(f"not 32 bytes: {text[:80]!r}")
    return text.lower()


def _quantity(text: str) -> int:
    if _QUANTITY.fullmatch(text) is None:
        raise MalformedFrameError(f"no quantity: {text[:80]!r}")
    return int(text, 16)


def ethereum_feed(
    url: str,
    addresses: AddressBook,
    *,
    confirmations: int | Literal["finalized"] = 3,
    poll_seconds: float = 12.0,
    lookback_blocks: int = 1_250,
) -> ChainFeed:
    """Describe what to follow: transfers to and from the exchanges' addresses, and every mint and burn.

    Args:
        url: A node's JSON-RPC endpoint.
        addresses: Those that ever counted are asked for; which of them count, and when, is not decided here.
        confirmations: Blocks behind the head that are read, or ``finalized``.
        poll_seconds: How often the head is looked at; a block comes every 12 s.
        lookback_blocks: Read at start.
    """
    tokens = (USDT, USDC)
    filters = [LogFilter(tokens, ((ISSUE, REDEEM, MINT, BURN),))]
    words = iter([f"0x{address[2:]:0>64}" for address in addresses.addresses])
    while chunk := tuple(islice(words, ADDRESSES_PER_CALL)):
        filters += [LogFilter(tokens, ((TRANSFER,), None, chunk)), LogFilter(tokens, ((TRANSFER,), chunk))]
    return ChainFeed(
        FEED,
        url,
        tuple(filters),
        poll_seconds=poll_seconds,
        confirmations=confirmations,
        lookback_blocks=lookback_blocks,
    )


@dataclass(frozen=True)
class Ethereum:
    """The chain as the registry knows it."""

    id: str
    parsers: Mapping[str, Parser]


ETHEREUM = Ethereum(CHAIN, {"logs": parse_logs})
