"""mempool.space, or one's own instance of it. Docs: its REST reference, sections General and Mining.

Difficulty comes as adjustments, one every 2,016 blocks: the value holds from its day until the next. Prices are weekly in the
first years, daily later, hourly in the last ones.
"""

from __future__ import annotations

import msgspec

from connectors.sources.frame import Frame, MalformedFrameError
from connectors.sources.mining.daily import Channel, MiningSource, UnixSeconds, days_of, history, mean_fees, number_text
from connectors.sources.venues.digits import product
from connectors.sources.venues.wire import decode
from market.raw import RawEvent

_BTC_PER_SATOSHI = "0.00000001"

# Limits are not published, so everything is asked for as rarely as it is of use.
_DIFFICULTY_SECONDS = 3_600.0  # changes every two weeks; an hour late is of no consequence
_PRICE_HISTORY_SECONDS = 86_400.0  # some MB, and days gone by do not change; the days since come from the current price
_PRICE_SECONDS = 60.0  # the source itself renews it once a minute
_FEES_SECONDS = 600.0  # a block comes every ten minutes
_LONG_TIMEOUT_SECONDS = 60.0  # for the histories


class _Adjustment(msgspec.Struct, frozen=True, gc=False):
    time: UnixSeconds
    difficulty: msgspec.Raw


class _Hashrate(msgspec.Struct, frozen=True):
    difficulty: list[_Adjustment]


class _Price(msgspec.Struct, frozen=True, gc=False):
    time: UnixSeconds
    usd: msgspec.Raw = msgspec.field(name="USD")


class _Prices(msgspec.Struct, frozen=True):
    prices: list[_Price]


class _RewardStats(msgspec.Struct, frozen=True, rename="camel"):
    start_block: int
    end_block: int
    total_fee: msgspec.Raw  # a number or, where the database sums in decimals, a string


_HASHRATE = msgspec.json.Decoder(_Hashrate)
_PRICES = msgspec.json.Decoder(_Prices)
_PRICE = msgspec.json.Decoder(_Price)
_REWARD_STATS = msgspec.json.Decoder(_RewardStats)


def parse_difficulty(frame: Frame) -> list[RawEvent]:
    """Read every difficulty adjustment.

    Raises:
        MalformedFrameError: Not what this endpoint speaks.
    """
    adjustments = decode(_HASHRATE, frame.payload).difficulty
    return history(frame, difficulty=days_of((item.time, item.difficulty) for item in adjustments))


def parse_price_history(frame: Frame) -> list[RawEvent]:
    """Read the price of every day; of a day's several the last.

    Raises:
        MalformedFrameError: Not what this endpoint speaks.
    """
    prices = decode(_PRICES, frame.payload).prices
    return history(frame, price_usd=days_of((item.time, item.usd) for item in prices))


def parse_price(frame: Frame) -> list[RawEvent]:
    """Read the current price as its day's.

    Raises:
        MalformedFrameError: Not what this endpoint speaks.
    """
    price = decode(_PRICE, frame.payload)
    return history(frame, price_usd=days_of([(price.time, price.usd)]))


def parse_fees(frame: Frame) -> list[RawEvent]:
    """Read the mean fees per block over the blocks asked for.

    Raises:
        MalformedFrameError: Not what this endpoint speaks.
    """
    stats = decode(_REWARD_STATS, frame.payload)
    blocks = stats.end_block - stats.start_block + 1
    if not 0 < blocks <= stats.end_block + 1:
        raise MalformedFrameError(f"blocks {stats.start_block} to {stats.end_block}")
    return mean_fees(frame, product(number_text(stats.total_fee), _BTC_PER_SATOSHI), blocks)


MEMPOOL = MiningSource(
    id="mempool",
    base_url="https://mempool.space",
    channels=(
        Channel("difficulty", "/api/v1/mining/hashrate/all", _DIFFICULTY_SECONDS, parse_difficulty, _LONG_TIMEOUT_SECONDS),
        Channel(
            "price-history",
            "/api/v1/historical-price?currency=USD",
            _PRICE_HISTORY_SECONDS,
            parse_price_history,
            _LONG_TIMEOUT_SECONDS,
        ),
        Channel("price", "/api/v1/prices", _PRICE_SECONDS, parse_price),
        Channel("fees", "/api/v1/mining/reward-stats/144", _FEES_SECONDS, parse_fees),
    ),
)
