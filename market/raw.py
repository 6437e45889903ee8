"""What the outside said, in its own words: the output of every parser.

Prices and quantities are still the venue's text: only :mod:`market.contracts` turns text into numbers, so that no float is
ever parsed from a venue. Times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

import enum
from typing import Union

import msgspec


class PositionSide(str, enum.Enum):
    """The side that was open when it was liquidated: a LONG is closed by a sell."""

    LONG = "LONG"
    SHORT = "SHORT"


class Completeness(str, enum.Enum):
    """How much of what happened a venue publishes."""

    FULL = "full"  # every liquidation
    SAMPLED = "sampled"  # at most one per symbol and second: sums are floors


class ContractKind(str, enum.Enum):
    """What a contract's quantity counts."""

    LINEAR = "linear"  # coins; margined and settled in the quote currency
    INVERSE = "inverse"  # US dollars; settled in the coin
    QUANTO = "quanto"  # a fixed amount of a third currency per unit of price


class Cause(msgspec.Struct, frozen=True, gc=False):
    """The frame that caused an event or a row: its place in the journal and when we received it."""

    feed_partition: str
    sequence: int
    receive_time_us: int


class RawInstrument(msgspec.Struct, frozen=True, gc=False):
    """One line of a venue's list of contracts.

    Attributes:
        base: The coin as the venue spells it, multiplier included (``1000PEPE``).
        quote: The currency of the price (``USDT``, ``USD``).
        contract_size: One contract's size as text: in ``base`` for linear, in USD for inverse, in the settlement currency
            per unit of price for quanto.
        is_perpetual: False for a dated future.
        funding_interval_hours: As text, where the list carries it.
    """

    cause: Cause
    venue: str
    symbol: str
    base: str
    quote: str
    settle: str
    kind: ContractKind
    contract_size: str
    is_perpetual: bool
    funding_interval_hours: str | None = None


class RawLiquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation. ``contract_quantity`` is in contracts; ``price`` is the one that makes the notional exact."""

    cause: Cause
    venue: str
    symbol: str
    position_side: PositionSide
    price: str
    contract_quantity: str
    completeness: Completeness
    event_time_us: int


class RawDerivatives(msgspec.Struct, frozen=True, gc=False):
    """What one poll said of one instrument; ``None`` where it did not speak of it.

    Attributes:
        open_interest_contracts: One side, in contracts. At most one of the three open interests is needed.
        open_interest_base: One side, in ``base`` units as the venue spells them (``1000PEPE`` counts thousands).
        open_interest_usd: One side, in USD.
        funding_rate: Fraction per ``funding_interval_hours``; positive: longs pay.
        long_short_ratio: Accounts (or positions) long per short.
    """

    cause: Cause
    venue: str
    symbol: str
    event_time_us: int
    mark_price: str | None = None
    index_price: str | None = None
    open_interest_contracts: str | None = None
    open_interest_base: str | None = None
    open_interest_usd: str | None = None
    funding_rate: str | None = None
    funding_interval_hours: str | None = None
    long_short_ratio: str | None = None


class RawBookDepth(msgspec.Struct, frozen=True, gc=False):
    """An order book's levels, best first: ``(price, contract_quantity)`` as text."""

    cause: Cause
    venue: str
    symbol: str
    event_time_us: int
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]


class TokenEventKind(str, enum.Enum):
    """What a stablecoin contract's log says."""

    TRANSFER = "transfer"
    MINT = "mint"  # USDT Issue, USDC Mint
    BURN = "burn"  # USDT Redeem, USDC Burn


class RawTokenEvent(msgspec.Struct, frozen=True, gc=False):
    """One log of a stablecoin contract. Identity is ``(transaction_hash, log_index)``.

    Attributes:
        token: ``USDT`` or ``USDC``; both count in 6 decimals, so the amount is already micro-USD.
        from_address: Lower-case hex with 0x; empty for mint and burn.
        is_removed: True when a re-organisation took the log back.
    """

    cause: Cause
    chain: str
    token: str
    kind: TokenEventKind
    from_address: str
    to_address: str
    amount_micros: int
    block_number: int
    block_time_us: int
    transaction_hash: str
    log_index: int
    is_removed: bool


class ChainProgress(msgspec.Struct, frozen=True, gc=False):
    """Every log of the blocks ``from_block`` to ``to_block``, both included, has been read."""

    cause: Cause
    chain: str
    from_block: int
    to_block: int
    from_block_time_us: int
    to_block_time_us: int


class RawMiningHistory(msgspec.Struct, frozen=True, gc=False):
    """Daily values of Bitcoin's chain or price as ``(date as YYYY-MM-DD, value text)``, oldest first; a poll may carry one."""

    cause: Cause
    source: str
    difficulty: tuple[tuple[str, str], ...] = ()
    price_usd: tuple[tuple[str, str], ...] = ()


class RawMiningFees(msgspec.Struct, frozen=True, gc=False):
    """Mean transaction fees per block, in BTC as text, over the last ``blocks`` blocks."""

    cause: Cause
    source: str
    mean_fees_btc_per_block: str
    blocks: int


class FeedState(str, enum.Enum):
    """What became of a connection or a poll; that the process itself has just started, so that none is left; what it wants."""

    STARTED = "started"
    EXPECTED = "expected"  # the feed is received from this start on, as soon as it can be had
    CONNECTED = "connected"
    LOST = "lost"
    REFUSED = "refused"
    POLL_FAILED = "poll_failed"
    POLL_ANSWERED = "poll_answered"


class FeedStatus(msgspec.Struct, frozen=True, gc=False):
    """A connection opened, lost or refused; a poll that failed, or answered again after failing; a feed that is expected.

    Attributes:
        seen_until_us: Of a connection that fell silent before it was lost: when anything last came over it.
    """

    cause: Cause
    feed: str
    connection: str
    state: FeedState
    reason: str
    seen_until_us: int | None = None


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The clock said so: twenty times a second. The only time a machine ever learns."""

    cause: Cause


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A frame, or one item of it, that could not be used, kept whole with the reason.

    Attributes:
        venue: First part of the feed's name.
        error: Class of the refusal, one of a closed set; ``reason`` says it in words.
        payload: The frame as it came.
    """

    cause: Cause
    feed: str
    venue: str
    error: str
    reason: str
    payload: bytes


class RawRefusal(msgspec.Struct, frozen=True, gc=False):
    """One item of a frame that could not be read, while its neighbours could. ``error`` is the refusal's class name."""

    cause: Cause
    error: str
    reason: str


RawEvent = Union[
    RawRefusal,
    RawInstrument,
    RawLiquidation,
    RawDerivatives,
    RawBookDepth,
    RawTokenEvent,
    ChainProgress,
    RawMiningHistory,
    RawMiningFees,
    FeedStatus,
    Tick,
]
