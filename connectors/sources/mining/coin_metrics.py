"""Coin Metrics' community data, as a fallback. Docs: its API v4 reference, Timeseries, Asset metrics.

The community data is licensed CC BY-NC 4.0: **not for commercial use**. Limit: 10 requests in 6 s for each address.
Values are daily and appear after the day's end: the running day has none. Difficulty is the day's mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec

from connectors.sources.frame import Frame, MalformedFrameError
from connectors.sources.mining.daily import Channel, Days, MiningSource, history, is_positive, mean_fees, number_text
from connectors.sources.venues.wire import decode
from market.raw import RawEvent

_HISTORY_SECONDS = 10_800.0  # one new day a day
_FEES_SECONDS = 3_600.0
_LONG_TIMEOUT_SECONDS = 60.0
_COUNT = re.compile(r"[0-9]{1,6}")


class _Day(msgspec.Struct, frozen=True, gc=False):
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    price_usd: str | None = msgspec.field(default=None, name="PriceUSD")
    difficulty: str | None = msgspec.field(default=None, name="DiffMean")
    fees_btc: str | None = msgspec.field(default=None, name="FeeTotNtv")
    blocks: str | None = msgspec.field(default=None, name="BlkCnt")

    @property
    def day(self) -> str:
        return self.time.date().isoformat()


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Day]


_ANSWER = msgspec.json.Decoder(_Answer)


def parse_history(frame: Frame) -> list[RawEvent]:
    """Read price and mean difficulty of every day.

    Raises:
        MalformedFrameError: Not what this endpoint speaks.
    """
    days = decode(_ANSWER, frame.payload).data
    return history(
        frame,
        difficulty=_days_of((day.day, day.difficulty) for day in days),
        price_usd=_days_of((day.day, day.price_usd) for day in days),
    )


def parse_fees(frame: Frame) -> list[RawEvent]:
    """Read the mean fees per block of the newest day that has them.

    Raises:
        MalformedFrameError: Not what this endpoint speaks.
    """
    totals = [(day.day, day.fees_btc, day.blocks) for day in decode(_ANSWER, frame.payload).data]
    known = [(day, fees, blocks) for day, fees, blocks in totals if fees is not None and blocks is not None]
    if not known:
        return []
    _day, fees, blocks = max(known)
    if _COUNT.fullmatch(blocks) is None:
        raise MalformedFrameError(f"{blocks[:80]!r} blocks")
    return mean_fees(frame, fees, int(blocks))


def _days_of(values: Iterable[tuple[str, str | None]]) -> Days:
    known = [(day, number_text(text)) for day, text in values if text is not None]
    return tuple({day: text for day, text in sorted(known) if is_positive(text)}.items())


_METRICS = "/v4/timeseries/asset-metrics?assets=btc&frequency=1d&paging_from=end"

COIN_METRICS = MiningSource(
    id="coin-metrics",
    base_url="https://community-api.coinmetrics.io",
    channels=(
        Channel(
            "history",
            f"{_METRICS}&metrics=PriceUSD,DiffMean&page_size=10000",  # the largest page: all days until 2036
            _HISTORY_SECONDS,
            parse_history,
            _LONG_TIMEOUT_SECONDS,
        ),
        Channel("fees", f"{_METRICS}&metrics=FeeTotNtv,BlkCnt&page_size=7", _FEES_SECONDS, parse_fees),
    ),
)
