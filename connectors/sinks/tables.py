"""Every table: its rows, its columns, their units. This is the contract with users: names and units do not change.

Each table holds the events of one type. Amounts are in USD, times in UTC with microseconds, rates and shares are fractions
unless the name says percent. Nothing known is null, never zero.
"""

from __future__ import annotations

import pyarrow as pa

from connectors.sinks.score_columns import SCORE_COLUMNS
from connectors.sinks.table_columns import (
    Column,
    Table,
    blob,
    count,
    day,
    flag,
    number,
    numbers_by_name,
    table,
    text,
    texts,
    time,
    usd,
)
from market.events import BookDepth, Derivatives, Gap, Liquidation, MinerDay, StablecoinTransfer
from market.raw import DeadLetter
from market.readings import AlertChange, CascadeTransition, Score


def _not_empty(name: str) -> str | None:
    return name or None


_VENUE = text("venue", "Exchange and product, such as binance-usdm")
_SYMBOL = text("symbol", "The venue's own spelling of the contract")
_ASSET = text("asset", "The coin, such as BTC")
_POSITION_SIDE = text("position_side", "LONG or SHORT: the side that was open; a LONG is closed by a sell")
_EVENT_TIME = time("event_time", "The venue's clock, never later than receive_time; UTC")

LIQUIDATIONS = table(
    "liquidations",
    Liquidation,
    "Liquidations as the venues publish them, one row each",
    _VENUE,
    _SYMBOL,
    _ASSET,
    _POSITION_SIDE,
    number("price", "USD per coin"),
    number("base_quantity", "Coins, never negative: position_side says which way"),
    usd("notional_usd", "Face value in USD", "notional_micros"),
    text("completeness", "full: the venue publishes every liquidation; sampled: at most one per symbol and second"),
    _EVENT_TIME,
)

DERIVATIVES = table(
    "derivatives",
    Derivatives,
    "What one poll said of one instrument; null where it did not speak of it",
    _VENUE,
    _SYMBOL,
    _ASSET,
    number("mark_price", "USD per coin"),
    number("index_price", "USD per coin"),
    number("open_interest_base", "Coins, one side"),
    number("open_interest_usd", "USD, one side"),
    number("funding_rate", "Fraction per funding interval; positive: longs pay"),
    number("funding_interval_hours", "Hours"),
    number("funding_rate_8h", "Funding rate scaled linearly to 8 hours; fraction, positive: longs pay"),
    number("long_short_ratio", "Accounts long per account short, as the venue counts them"),
    _EVENT_TIME,
)

BOOK_DEPTH = table(
    "book_depth",
    BookDepth,
    "Resting orders near the mid price, one row per poll and instrument",
    _VENUE,
    _SYMBOL,
    _ASSET,
    number("mid_price", "USD per coin"),
    number("spread_bps", "Best ask less best bid, in hundredths of a percent of the mid price"),
    number("bid_usd_0p5", "USD bid within 0.5 % of the mid price; null where the book read did not reach that far"),
    number("bid_usd_1p0", "USD bid within 1 % of it"),
    number("bid_usd_2p0", "USD bid within 2 % of it"),
    number("ask_usd_0p5", "USD asked within 0.5 % of it"),
    number("ask_usd_1p0", "USD asked within 1 % of it"),
    number("ask_usd_2p0", "USD asked within 2 % of it"),
    _EVENT_TIME,
)

STABLECOIN_TRANSFERS = table(
    "stablecoin_transfers",
    StablecoinTransfer,
    "On-chain events of stablecoins that concern exchanges or the supply, one row each",
    text("chain", "Such as ethereum"),
    text("token", "USDT or USDC"),
    text("kind", "inflow or outflow of an exchange, internal from one exchange to another, mint or burn"),
    usd("amount_usd", "Face value in USD, never negative: kind says which way", "amount_micros"),
    text("exchange", "Whose address it is; null for mint and burn", derive=_not_empty),
    text("exchange_kind", "spot or derivatives: what the address serves; null for mint and burn"),
    flag("counted", "Large enough to count towards Stablecoin Pressure", "is_counted"),
    count("block_number", "Number of the block that holds the event"),
    time("block_time", "The block's own time; UTC"),
    text("transaction_hash", "With log_index the identity of the event"),
    count("log_index", "Number of the log within its block, from 0"),
    flag("removed", "A re-organisation of the chain took the event back", "is_removed"),
)


def _fit_columns(name: str) -> tuple[Column, ...]:
    fit = f"fits[{name}]"
    return (
        number(f"{name}_intercept", "A in ln(y) = A + B·ln(difficulty); no unit", f"{fit}.intercept"),
        number(f"{name}_slope", "B in it; no unit", f"{fit}.slope"),
        number(
            f"{name}_r_squared", "R² of the fit, at most 1; for frozen constants, theirs on the same days", f"{fit}.r_squared"
        ),
        day(f"{name}_first_day", "First day that entered", f"{fit}.first_day"),
        day(f"{name}_last_day", "Last day that entered", f"{fit}.last_day"),
        count(f"{name}_days", "Number of days that entered", f"{fit}.days"),
        number(f"{name}_modelled_price", "Modelled production cost in USD per BTC", f"{fit}.modelled_price"),
        number(f"{name}_multiple", "Price divided by modelled production cost: a ratio", f"{fit}.multiple"),
        text(f"{name}_status", "selling_at_a_loss below 1.0, watch to 1.5, comfortable above", f"{fit}.status"),
        number(f"{name}_percentile", "Of the multiple within its own past, 0 to 1", f"{fit}.percentile"),
    )


MINER_DAYS = table(
    "miner_days",
    MinerDay,
    "One row per UTC day of Bitcoin mining and per change of it while it is running; the newest row of a day holds",
    day("day", "UTC day that the values belong to"),
    number("price_usd", "USD per BTC"),
    number("difficulty", "Difficulty of the Bitcoin network; no unit"),
    number("mean_fees_btc_per_block", "Mean fees of a block in BTC; null when no fee source answered"),
    number("hashprice_usd_per_ph_day", "USD that a PH/s earns in a day; without fees where those are null"),
    numbers_by_name("break_even_usd", "BTC price in USD at which a fleet earns its electricity, by efficiency in J/TH"),
    *_fit_columns("expanding"),
    *_fit_columns("rolling_3y"),
    *_fit_columns("glassnode_2022"),
    flag("final", "False while the day is still running", "is_final"),
)

SCORES = table(
    "scores",
    Score,
    "All that was known of an asset at a moment in which something changed; no later event changes a row",
    *SCORE_COLUMNS,
)

CASCADES = table(
    "cascades",
    CascadeTransition,
    "Steps in the life of a cascade, one row each, written at once",
    text("cascade_id", "The same for all steps of one cascade, in every replay"),
    _ASSET,
    _POSITION_SIDE,
    text("phase", "began or ended"),
    time("began_time", "When the frame that began the cascade was received; UTC"),
    usd("window_usd", "USD liquidated on that side in the 90 s before this step", "window_micros"),
    usd("peak_usd", "Largest 90-second sum so far, in USD", "peak_micros"),
    usd("total_usd", "USD liquidated on that side from the window that began it until now", "total_micros"),
    count("total_count", "Number of liquidations in total_usd"),
    texts("venues", "Venues seen on that side during the cascade"),
)

ALERTS = table(
    "alerts",
    AlertChange,
    "Changes of alerts, one row each: an alert that stays as it is writes nothing",
    _ASSET,
    text("severity", "none, info, warning or critical: the alert's from now on"),
    text("previous_severity", "The alert's until now"),
    text("state", "firing or resolved"),
    text("reason", "What decided, in words"),
    count("score_sequence", "Sequence of the row in scores that decided"),
    count("risk", "Liquidation Risk that decided, 0 to 100"),
    count("pressure", "Stablecoin Pressure then, −100 to 100; null when it was not known"),
)

GAPS = table(
    "gaps",
    Gap,
    "Intervals that a feed could not see: missing data is never shown as quiet",
    _VENUE,
    text("feed", "Feed that saw nothing"),
    time("from_time", "Last moment seen before the gap; UTC"),
    time("to_time", "First moment seen after it; UTC"),
    text("reason", "Why it could not see, in words"),
)

DEAD_LETTERS = table(
    "dead_letters",
    DeadLetter,
    "Frames that could not be used, or items of them, whole, with the reason",
    text("feed", "Feed that brought the frame"),
    _VENUE,
    text("error", "Class of the refusal"),
    text("reason", "The refusal in words"),
    blob("payload", "The frame as it came"),
)

TABLES: tuple[Table, ...] = (
    LIQUIDATIONS,
    DERIVATIVES,
    BOOK_DEPTH,
    STABLECOIN_TRANSFERS,
    MINER_DAYS,
    SCORES,
    CASCADES,
    ALERTS,
    GAPS,
    DEAD_LETTERS,
)

TABLE_OF: dict[type, Table] = {each.event_type: each for each in TABLES}
"""By event type. An event of no type here has no row."""

_BY_NAME = {each.name: each for each in TABLES}


def schema_of(name: str) -> pa.Schema:
    """Return a table's Arrow schema, with comments.

    Raises:
        KeyError: There is no such table.
    """
    return _BY_NAME[name].schema
