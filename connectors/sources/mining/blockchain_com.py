"""blockchain.com's charts, as a fallback. Docs: its Blockchain Charts & Statistics API, ``charts/$chartName``.

One value a day and chart. Difficulty is the day's mean, so that the day of an adjustment is a blend.
"""

from __future__ import annotations

import msgspec

from connectors.sources.frame import Frame, MalformedFrameError, RefusedFrameError
from connectors.sources.mining.daily import Channel, MiningSource, UnixSeconds, days_of, history, mean_fees
from connectors.sources.venues.wire import decode
from market.raw import RawEvent

BLOCKS_PER_DAY = 144
"""What a day should have: the chart of fees does not say how many it had, so their mean is off by as much, up to a tenth."""

# The operator asks for no more than one request in ten seconds; the charts change once a day.
_HISTORY_SECONDS = 10_800.0
_FEES_SECONDS = 3_600.0
_LONG_TIMEOUT_SECONDS = 60.0


class _Point(msgspec.Struct, frozen=True, gc=False):
    x: UnixSeconds
    y: msgspec.Raw


class _Chart(msgspec.Struct, frozen=True):
    values: list[_Point] | None = None
    status: str = "ok"


_CHART = msgspec.json.Decoder(_Chart)


def parse_difficulty(frame: Frame) -> list[RawEvent]:
    """Read the mean difficulty of every day.

    Raises:
        MalformedFrameError: Not a chart.
        RefusedFrameError: The source says so.
    """
    return history(frame, difficulty=days_of(_points(frame)))


def parse_price_history(frame: Frame) -> list[RawEvent]:
    """Read the price of every day.

    Raises:
        MalformedFrameError: Not a chart.
        RefusedFrameError: The source says so.
    """
    return history(frame, price_usd=days_of(_points(frame)))


def parse_fees(frame: Frame) -> list[RawEvent]:
    """Read the fees of the newest day that had any, spread over the blocks that a day should have.

    Raises:
        MalformedFrameError: Not a chart.
        RefusedFrameError: The source says so.
    """
    days = days_of(_points(frame))
    return mean_fees(frame, days[-1][1], BLOCKS_PER_DAY) if days else []


def _points(frame: Frame) -> list[tuple[int, msgspec.Raw]]:
    chart = decode(_CHART, frame.payload)
    if chart.status != "ok":
        raise RefusedFrameError(f"status {chart.status[:80]!r}")
    if chart.values is None:
        raise MalformedFrameError("a chart without values")
    return [(point.x, point.y) for point in chart.values]


_ALL = "timespan=all&format=json&sampled=false"

BLOCKCHAIN_COM = MiningSource(
    id="blockchain-com",
    base_url="https://api.blockchain.info",
    channels=(
        Channel("difficulty", f"/charts/difficulty?{_ALL}", _HISTORY_SECONDS, parse_difficulty, _LONG_TIMEOUT_SECONDS),
        Channel("price-history", f"/charts/market-price?{_ALL}", _HISTORY_SECONDS, parse_price_history, _LONG_TIMEOUT_SECONDS),
        Channel("fees", "/charts/transaction-fees?timespan=5days&format=json&sampled=false", _FEES_SECONDS, parse_fees),
    ),
)
