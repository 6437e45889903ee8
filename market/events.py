"""Events in our own terms: coins, USD, assets. Output of the steps keyed by feed partition.

USD that is summed is integer micro-USD (``…_micros``), so that sums are exact and independent of order; other numbers are
floats made from exact decimals. Times are integer microseconds since the epoch, UTC.
"""

from __future__ import annotations

import enum

import msgspec

from market.raw import Cause, Completeness, PositionSide


class Liquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation of one position.

    Attributes:
        price: USD per coin.
        base_quantity: Coins.
        notional_micros: Face value in micro-USD.
        event_time_us: The venue's clock, clamped to the receive time.
    """

    cause: Cause
    venue: str
    symbol: str
    asset: str
    position_side: PositionSide
    price: float
    base_quantity: float
    notional_micros: int
    completeness: Completeness
    event_time_us: int


class Derivatives(msgspec.Struct, frozen=True, gc=False):
    """What one poll said of one instrument, in coins and USD; ``None`` where it did not speak of it.

    Attributes:
        funding_rate: Fraction per ``funding_interval_hours``; positive: longs pay.
        funding_rate_8h: The same, scaled linearly to 8 hours.
    """

    cause: Cause
    venue: str
    symbol: str
    asset: str
    event_time_us: int
    mark_price: float | None
    index_price: float | None
    open_interest_base: float | None
    open_interest_usd: float | None
    funding_rate: float | None
    funding_interval_hours: float | None
    funding_rate_8h: float | None
    long_short_ratio: float | None


class BookDepth(msgspec.Struct, frozen=True, gc=False):
    """Resting orders within a distance of the mid price, in USD; ``None`` where the book read did not reach that far."""

    cause: Cause
    venue: str
    symbol: str
    asset: str
    event_time_us: int
    mid_price: float
    spread_bps: float
    bid_usd_0p5: float | None
    bid_usd_1p0: float | None
    bid_usd_2p0: float | None
    ask_usd_0p5: float | None
    ask_usd_1p0: float | None
    ask_usd_2p0: float | None


class TransferKind(str, enum.Enum):
    """What a stablecoin movement means for exchanges."""

    INFLOW = "inflow"
    OUTFLOW = "outflow"
    MINT = "mint"
    BURN = "burn"
    INTERNAL = "internal"  # exchange to exchange: neither in nor out


class ExchangeKind(str, enum.Enum):
    """What an exchange's address serves."""

    SPOT = "spot"
    DERIVATIVES = "derivatives"


class StablecoinTransfer(msgspec.Struct, frozen=True, gc=False):
    """One on-chain event of a stablecoin that concerns exchanges or supply. ``exchange`` is empty for mint and burn."""

    cause: Cause
    chain: str
    token: str
    kind: TransferKind
    amount_micros: int
    exchange: str
    exchange_kind: ExchangeKind | None
    is_counted: bool  # at least the minimum that counts towards pressure
    block_number: int
    block_time_us: int
    transaction_hash: str
    log_index: int
    is_removed: bool


class Pressure(msgspec.Struct, frozen=True, gc=False):
    """Stablecoin Pressure over the look-back, market-wide. Positive: accumulation. Sums in micro-USD, counted events only.

    Attributes:
        pressure: −100…+100; ``None`` until blocks covering the whole look-back have been read, or when the chain is stale.
        covered_from_us: Block time from which every block has been read without a hole.
        covered_to_us: Block time of the newest block read.
    """

    cause: Cause
    pressure: int | None
    inflow_micros: int
    outflow_micros: int
    mint_micros: int
    burn_micros: int
    inflow_spot_micros: int
    outflow_spot_micros: int
    inflow_derivatives_micros: int
    outflow_derivatives_micros: int
    covered_from_us: int
    covered_to_us: int


class MinerStatus(str, enum.Enum):
    """Where spot stands against the modelled production cost."""

    SELLING_AT_A_LOSS = "selling_at_a_loss"  # multiple below 1.0
    WATCH = "watch"  # 1.0 to 1.5
    COMFORTABLE = "comfortable"  # above 1.5


class DifficultyFit(msgspec.Struct, frozen=True, gc=False):
    """One regression of value on difficulty and what it says of a day. Past-only: nothing after ``last_day`` entered it.

    Attributes:
        name: ``expanding``, ``rolling_3y`` or ``glassnode_2022``.
        intercept: A in ln(y) = A + B·ln(difficulty).
        slope: B.
        r_squared: Of the fit; for frozen constants, of those constants on the same days; ``None`` when undefined.
        days: Number of days that entered.
        modelled_price: USD.
        multiple: Spot divided by ``modelled_price``.
    """

    name: str
    intercept: float
    slope: float
    r_squared: float | None
    first_day: str
    last_day: str
    days: int
    modelled_price: float
    multiple: float
    status: MinerStatus
    percentile: float | None = None  # of the multiple within its own past, 0…1


class MinerDay(msgspec.Struct, frozen=True, gc=False):
    """One UTC day of Bitcoin mining.

    Attributes:
        day: YYYY-MM-DD.
        hashprice_usd_per_ph_day: USD per PH/s per day.
        mean_fees_btc_per_block: ``None`` when no fee source answered; hashprice then counts the subsidy alone.
        break_even_usd: Price in USD at which a fleet of that efficiency (J/TH) earns its electricity, by efficiency.
        fits: By name; a fit whose history is too short is absent.
        is_final: False while the day is still running (its values may change with the next poll).
    """

    cause: Cause
    day: str
    price_usd: float
    difficulty: float
    mean_fees_btc_per_block: float | None
    hashprice_usd_per_ph_day: float
    break_even_usd: dict[str, float]
    fits: dict[str, DifficultyFit]
    is_final: bool


class Gap(msgspec.Struct, frozen=True, gc=False):
    """An interval that a feed could not see: missing data is never shown as quiet."""

    cause: Cause
    venue: str
    feed: str
    from_time_us: int
    to_time_us: int
    reason: str


class AssetTick(msgspec.Struct, frozen=True, gc=False):
    """A tick for one asset that has something to forget or to say."""

    cause: Cause
    asset: str


class AssetPressure(msgspec.Struct, frozen=True, gc=False):
    """The market-wide pressure, handed to one asset."""

    cause: Cause
    asset: str
    pressure: Pressure


class AssetMiners(msgspec.Struct, frozen=True, gc=False):
    """The market-wide miner day, handed to one asset."""

    cause: Cause
    asset: str
    miners: MinerDay
