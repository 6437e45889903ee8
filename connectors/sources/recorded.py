"""Rows of recorded tables as frames: what a backtest feeds to the flow instead of a venue's own words.

A frame is one row of ``liquidations`` or ``derivatives`` as JSON, and already in coins and USD: its event passes by the steps
that read venues and contracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

import msgspec

from connectors.sources.feed import Parser
from connectors.sources.frame import Frame, MalformedFrameError
from connectors.sources.venues.wire import decode
from market.events import Derivatives, Liquidation
from market.raw import Completeness, PositionSide

LIQUIDATIONS_FEED = "recorded/liquidations"
DERIVATIVES_FEED = "recorded/derivatives"

_MICROS_PER_USD = 1_000_000

Micros = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]
"""Microseconds since the epoch, up to the year 9999: what a table can hold and a date can say."""


class RecordedLiquidation(msgspec.Struct, frozen=True, gc=False):
    """A row of ``liquidations``, with its columns' names and units; the time is in microseconds."""

    venue: str
    symbol: str
    asset: str
    position_side: PositionSide
    price: float
    base_quantity: float
    notional_usd: float
    completeness: Completeness
    event_time_us: Micros


class RecordedDerivatives(msgspec.Struct, frozen=True, gc=False):
    """A row of ``derivatives``, with its columns' names and units; the time is in microseconds."""

    venue: str
    symbol: str
    asset: str
    event_time_us: Micros
    mark_price: float | None
    index_price: float | None
    open_interest_base: float | None
    open_interest_usd: float | None
    funding_rate: float | None
    funding_interval_hours: float | None
    funding_rate_8h: float | None
    long_short_ratio: float | None


_LIQUIDATION = msgspec.json.Decoder(RecordedLiquidation)
_DERIVATIVES = msgspec.json.Decoder(RecordedDerivatives)


def micros_of(notional_usd: float) -> int:
    """Return the micro-USD that a table's double was made from.

    Exact below 2**32 USD (4.29 billion): there a double lies within a quarter of a micro-USD of the amount. Above, it may be
    one micro-USD off. The largest single liquidation reported to date is about 0.2 billion USD.
    """
    return round(notional_usd * _MICROS_PER_USD)


def parse_liquidation(frame: Frame) -> list[Liquidation]:
    """Read one row.

    Raises:
        MalformedFrameError: Not such a row, or one without a number that every liquidation has.
    """
    row = decode(_LIQUIDATION, frame.payload)
    try:
        notional_micros = micros_of(row.notional_usd)
    except OverflowError as error:  # 1e303 USD: a double, but not when it counts millionths
        raise MalformedFrameError(f"notional_usd {row.notional_usd}") from error
    return [
        Liquidation(
            cause=frame.cause,
            venue=row.venue,
            symbol=row.symbol,
            asset=row.asset,
            position_side=row.position_side,
            price=row.price,
            base_quantity=row.base_quantity,
            notional_micros=notional_micros,
            completeness=row.completeness,
            event_time_us=row.event_time_us,
        )
    ]


def parse_derivatives(frame: Frame) -> list[Derivatives]:
    """Read one row.

    Raises:
        MalformedFrameError: Not such a row.
    """
    row = decode(_DERIVATIVES, frame.payload)
    return [
        Derivatives(
            cause=frame.cause,
            venue=row.venue,
            symbol=row.symbol,
            asset=row.asset,
            event_time_us=row.event_time_us,
            mark_price=row.mark_price,
            index_price=row.index_price,
            open_interest_base=row.open_interest_base,
            open_interest_usd=row.open_interest_usd,
            funding_rate=row.funding_rate,
            funding_interval_hours=row.funding_interval_hours,
            funding_rate_8h=row.funding_rate_8h,
            long_short_ratio=row.long_short_ratio,
        )
    ]


@dataclass(frozen=True)
class Recorded:
    """Both feeds' parsers."""

    id: str = "recorded"

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel, which is the table's name."""
        # A Parser gives raw events. These rows have been normalised before; every step lets such events pass.
        return {
            "liquidations": cast("Parser", parse_liquidation),
            "derivatives": cast("Parser", parse_derivatives),
        }


RECORDED = Recorded()
