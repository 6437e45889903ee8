"""A chain of blocks with stablecoin logs: block n is a pure function of seed, n and fork, made when somebody asks for it.

It holds what a reader of stablecoin flows can stumble over: mints without a transfer (Tether), mints with one (Circle), moves
between exchanges, transfers of nothing, other tokens, transactions that a re-organisation takes away, and those that it puts
into another place.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Log = Mapping[str, Any]
"""As ``eth_getLogs`` prints it."""

USDT = "0xdac17f958d2ee523a2206206994597c13d831ec7"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
_DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"  # a token that nobody should count

# Keccak-256 of each event's signature, from the contracts' verified source.
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
ISSUE = "0xcb8241adb0c3fdb35b70c24ce35c5eb0c17af7431c99f827d44a445ca624176a"
REDEEM = "0x702d5967f45f6513a38ffc42d6ba9bf230bd40e8f53b16363c7eb4fd2deb9a44"
MINT = "0xab8530f87dc9b59234c4623bf917212bb2536d647574c8e7e5da92c2ede0c9f8"
BURN = "0xcc16f5dbb4873280815c1ee09dbd06736cffcc184412cf7a71a0fdb75d397ca5"

EXCHANGE_WALLETS: Mapping[str, str] = {
    "0x28c6c06298d514db089934071355e5743bf21d60": "binance",
    "0x21a31ee1afc51d94c2efccaa2092ad1028285549": "binance",
    "0x6cc5f688a315f3dc28a7781717a9a798a59fda7b": "okx",
    "0xf89d7b9c864f589bbf53a82105107622b35eaa40": "bybit",
    "0x71660c4005ba85c37ccec55d0c4493e66fe775d3": "coinbase",
}
"""Hot wallets as public block explorers label them."""

SLOT_SECONDS = 12
_MERGE_BLOCK, _MERGE_TIME = 15_537_394, 1_663_224_179  # the first block of the proof of stake; block numbers count on from it
_HISTORY_SECONDS = 6 * 3600
_MAX_CACHED_BLOCKS = 8_192
_NOBODY = "0x" + 40 * "0"
_MICROS = 1_000_000

# How many of each kind a block has on average.
_OUTSIDE, _SMALL, _LARGE, _INTERNAL, _NOTHING, _OTHER_TOKEN, _MINTS, _BURNS = 8.0, 3.0, 0.2, 0.1, 0.05, 1.0, 0.004, 0.004
_SURVIVORS = 0.5  # share of an orphaned block's transactions that its successor contains too
_LARGE_FROM_USD, _LARGE_TO_USD = 1_000_000, 250_000_000
_SUPPLY_CHANGES_USD = (5_000_000, 20_000_000, 60_000_000)


@dataclass(frozen=True)
class Move:
    """One transaction and the events it leaves: contract, topics and amount of each."""

    transaction_hash: str
    events: tuple[tuple[str, tuple[str, ...], int], ...]


@dataclass(frozen=True)
class Block:
    """One block. ``time_s`` is unix seconds."""

    number: int
    hash: str
    parent_hash: str
    time_s: int
    logs: tuple[Log, ...]


class Chain:
    """The canonical chain as a node sees it now."""

    def __init__(
        self,
        seed: int,
        start_time: float,
        *,
        block_seconds: float = SLOT_SECONDS,
        wallets: Mapping[str, str] = EXCHANGE_WALLETS,
        inflow_share: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin six hours before ``start_time`` (unix seconds).

        Args:
            seed: Decides every block's content.
            start_time: Where the history of 12-second blocks ends.
            block_seconds: Time between the blocks that come after it.
            wallets: Exchange by address, in lower case.
            inflow_share: Share of the exchange flows, by number, that flows in.
            clock: Unix seconds.
        """
        self.seed = seed
        self.wallets = dict(wallets)
        self._addresses = sorted(self.wallets)
        self._block_seconds = block_seconds
        self._inflow_share = inflow_share
        self._clock = clock
        slots = math.floor((start_time - _MERGE_TIME) / SLOT_SECONDS)
        self._start_time = _MERGE_TIME + slots * SLOT_SECONDS
        self._start_block = _MERGE_BLOCK + slots
        self.first_block = self._start_block - _HISTORY_SECONDS // SLOT_SECONDS
        self._forks: list[int] = []  # first block of each re-organisation, later ones replacing earlier ones
        self._cache: dict[tuple[int, int], Block] = {}

    @property
    def head(self) -> int:
        """Number of the newest block."""
        return self._start_block + max(0, math.floor((self._clock() - self._start_time) / self._block_seconds))

    def block(self, number: int) -> Block | None:
        """Return a block of the canonical chain; None before its first and after its newest."""
        if not self.first_block <= number <= self.head:
            return None
        key = (number, self._fork_of(number))
        if key not in self._cache:
            if len(self._cache) >= _MAX_CACHED_BLOCKS:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = self._make(*key)
        return self._cache[key]

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """Go through the canonical blocks from ``first`` to ``last``, both included."""
        numbers = range(max(first, self.first_block), min(last, self.head) + 1)
        yield from filter(None, map(self.block, numbers))

    def reorganise(self, depth: int) -> int:
        """Replace the newest ``depth`` blocks by others; return the first one replaced.

        Raises:
            ValueError: No block is replaced, or more than there are.
        """
        if not 0 < depth <= self.head - self.first_block:
            raise ValueError(f"depth {depth}")
        first = self.head - depth + 1
        # A block's fork is how many re-organisations reached it: never one that it had before.
        self._forks = [min(begin, first) for begin in self._forks] + [first]
        return first

    def _fork_of(self, number: int) -> int:
        return bisect_right(self._forks, number)

    def _hash(self, number: int, fork: int) -> str:
        return "0x" + hashlib.blake2b(f"{self.seed}:{number}:{fork}".encode(), digest_size=32).hexdigest()

    def _make(self, number: int, fork: int) -> Block:
        moves = moves_of(self.seed, number, fork, self._addresses, self._inflow_share)
        block_hash = self._hash(number, fork)
        time_s = self._time_of(number)
        logs = tuple(_logs(moves, number, block_hash, time_s, random.Random(f"{self.seed}:{number}:{fork}:places")))
        return Block(number, block_hash, self._hash(number - 1, self._fork_of(number - 1)), time_s, logs)

    def _time_of(self, number: int) -> int:
        since = number - self._start_block
        return math.floor(self._start_time + since * (SLOT_SECONDS if since <= 0 else self._block_seconds))


def moves_of(seed: int, number: int, fork: int, wallets: list[str], inflow_share: float) -> list[Move]:
    """Return a block's transactions, in no particular order of kind."""
    rng = random.Random(f"{seed}:{number}:{fork}")
    moves: list[Move] = []
    if fork:
        moves = [move for move in moves_of(seed, number, 0, wallets, inflow_share) if rng.random() < _SURVIVORS]
    share = 1.0 - _SURVIVORS if fork else 1.0
    makers: list[tuple[float, Callable[[], Move]]] = [
        (_OUTSIDE, lambda: _transfer(rng, _stranger(rng), _stranger(rng), _small_micros(rng) * rng.choice((1, 1, 1, 100)))),
        (_SMALL, lambda: _flow(rng, wallets, inflow_share, _small_micros(rng))),
        (_LARGE, lambda: _flow(rng, wallets, inflow_share, _large_micros(rng))),
        (_INTERNAL, lambda: _internal(rng, wallets)),
        (_NOTHING, lambda: _flow(rng, wallets, inflow_share, 0)),
        (_OTHER_TOKEN, lambda: _of_another_token(rng, wallets)),
        (_MINTS, lambda: _mint(rng)),
        (_BURNS, lambda: _burn(rng)),
    ]
    for rate, make in makers:
        moves += [make() for _ in range(math.floor(rate * share + rng.random()))]
    rng.shuffle(moves)
    return moves


def _transfer(rng: random.Random, sender: str, recipient: str, micros: int) -> Move:
    token = rng.choice((USDT, USDC))
    return Move(_transaction(rng), ((token, (TRANSFER, word(sender), word(recipient)), micros),))


def _flow(rng: random.Random, wallets: list[str], inflow_share: float, micros: int) -> Move:
    wallet, stranger = rng.choice(wallets), _stranger(rng)
    is_inflow = rng.random() < inflow_share
    sender, recipient = (stranger, wallet) if is_inflow else (wallet, stranger)
    return _transfer(rng, sender, recipient, micros)


def _internal(rng: random.Random, wallets: list[str]) -> Move:
    sender, recipient = rng.sample(wallets, 2)
    return _transfer(rng, sender, recipient, _large_micros(rng))


def _of_another_token(rng: random.Random, wallets: list[str]) -> Move:
    topics = (TRANSFER, word(_stranger(rng)), word(rng.choice(wallets)))
    return Move(_transaction(rng), ((_DAI, topics, _large_micros(rng) * 10**12),))  # 18 decimals


def _mint(rng: random.Random) -> Move:
    micros = rng.choice(_SUPPLY_CHANGES_USD) * _MICROS
    if rng.random() < 0.5:  # noqa: PLR2004 - either token
        return Move(_transaction(rng), ((USDT, (ISSUE,), micros),))
    minter, receiver = _stranger(rng), _stranger(rng)
    mint = (USDC, (MINT, word(minter), word(receiver)), micros)
    return Move(_transaction(rng), (mint, (USDC, (TRANSFER, word(_NOBODY), word(receiver)), micros)))


def _burn(rng: random.Random) -> Move:
    micros = rng.choice(_SUPPLY_CHANGES_USD) * _MICROS
    if rng.random() < 0.5:  # noqa: PLR2004 - either token
        return Move(_transaction(rng), ((USDT, (REDEEM,), micros),))
    burner = _stranger(rng)
    burn = (USDC, (BURN, word(burner)), micros)
    return Move(_transaction(rng), (burn, (USDC, (TRANSFER, word(burner), word(_NOBODY)), micros)))


def _stranger(rng: random.Random) -> str:
    return f"0x{rng.getrandbits(160):040x}"


def _transaction(rng: random.Random) -> str:
    return f"0x{rng.getrandbits(256):064x}"


def _small_micros(rng: random.Random) -> int:
    return min(round(20_000 * math.exp(rng.gauss(0.0, 1.5)) * _MICROS), _LARGE_FROM_USD * _MICROS - 1)


def _large_micros(rng: random.Random) -> int:
    usd = _LARGE_FROM_USD * math.exp(abs(rng.gauss(0.0, 0.8)))
    return round(min(usd, _LARGE_TO_USD) * _MICROS)


def word(address: str) -> str:
    """Return an address as a topic: 32 bytes, padded on the left."""
    return f"0x{address[2:]:0>64}"


def _logs(moves: list[Move], number: int, block_hash: str, time_s: int, rng: random.Random) -> Iterator[Log]:
    log_index, transaction_index = -1, -1
    for move in moves:
        transaction_index += rng.randint(1, 4)  # in between are transactions that leave no log of a token
        log_index += rng.randint(0, 3)
        for contract, topics, amount in move.events:
            log_index += 1
            yield {
                "address": contract,
                "topics": list(topics),
                "data": f"0x{amount:064x}",
                "blockNumber": hex(number),
                "transactionHash": move.transaction_hash,
                "transactionIndex": hex(transaction_index),
                "blockHash": block_hash,
                "blockTimestamp": hex(time_s),
                "logIndex": hex(log_index),
                "removed": False,
            }


def sums(chain: Chain, first: int, last: int, *, minimum_micros: int = 0) -> dict[str, Any]:
    """Return what a reader of the blocks ``first`` to ``last``, both included, should find; in micro-USD.

    Transfers below ``minimum_micros`` count nowhere; mints and burns always do.
    """
    totals = dict.fromkeys(("inflow_micros", "outflow_micros", "internal_micros", "mint_micros", "burn_micros"), 0)
    by_exchange: dict[str, dict[str, int]] = {
        name: {"inflow_micros": 0, "outflow_micros": 0} for name in sorted(set(chain.wallets.values()))
    }
    events = 0
    for block in chain.blocks(first, last):
        for log in block.logs:
            kind, exchange = _kind_of(chain.wallets, log)
            micros = int(log["data"], 16)
            if kind in totals and (micros >= minimum_micros or kind in {"mint_micros", "burn_micros"}):
                events += 1
                totals[kind] += micros
                if exchange:
                    by_exchange[exchange][kind] += micros
    return {"from_block": first, "to_block": last, "events": events, **totals, "by_exchange": by_exchange}


def _kind_of(wallets: Mapping[str, str], log: Log) -> tuple[str, str]:
    """Return which sum a log belongs to, and for inflow and outflow the exchange; empty where it belongs to none."""
    if log["address"] not in {USDT, USDC}:
        return "", ""
    topic = log["topics"][0]
    if topic != TRANSFER:
        return "mint_micros" if topic in {ISSUE, MINT} else "burn_micros", ""
    sender, recipient = (wallets.get("0x" + topic[-40:], "") for topic in log["topics"][1:])
    if sender and recipient:
        return "internal_micros", ""
    return ("inflow_micros", recipient) if recipient else ("outflow_micros", sender) if sender else ("", "")
