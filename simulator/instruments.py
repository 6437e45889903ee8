"""What can be traded in the simulated market: twelve assets on four venues, with the venues' own spellings and steps.

Contract sizes, ticks and lots are those of the vendors' instrument lists; prices are of autumn 2026; depths are scaled down
so that some tens of millions of USD move the market by a few percent.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

BINANCE = "binance-usdm"
BYBIT_LINEAR = "bybit-linear"
BYBIT_INVERSE = "bybit-inverse"
OKX = "okx"
VENUES = (BINANCE, BYBIT_LINEAR, BYBIT_INVERSE, OKX)

_MIN_DAYS_TO_DELIVERY = 21
_FRIDAY = 4
_DELIVERY_HOUR = 8  # UTC, on Binance and OKX alike


@dataclass(frozen=True)
class Asset:
    """A coin.

    Attributes:
        price: USD per coin at the start.
        depth_usd: Resting orders within 1 % of the price, one side, all venues together.
        volatility: Standard deviation of the log price over one second in a calm market.
        beta: How strongly it follows the whole market's shocks.
        position_usd: Median size of a leveraged position.
    """

    name: str
    price: float
    depth_usd: float
    volatility: float
    beta: float
    position_usd: float


@dataclass(frozen=True)
class Instrument:
    """One contract of one venue.

    Attributes:
        asset: The coin's name, without a multiplier.
        base: The coin as the venue spells it (``1000PEPE``).
        coins_per_base: 1000 where ``base`` counts thousands.
        contract_size: One contract in ``base`` (linear) or in USD (inverse).
        tick: Smallest step of the price.
        lot: Smallest step of a quantity, in contracts.
        price_decimals: Digits after the point that the venue prints.
        quantity_decimals: The same for quantities.
        weight: Share of the asset's depth and positions.
        delivery_ms: When a dated future ends; ``None`` for a perpetual.
        premium: Log distance of the price from the index at rest.
    """

    venue: str
    symbol: str
    asset: str
    base: str
    coins_per_base: int
    quote: str
    settle: str
    is_inverse: bool
    contract_size: Decimal
    tick: Decimal
    lot: Decimal
    price_decimals: int
    quantity_decimals: int
    weight: float
    funding_hours: int = 8
    delivery_ms: int | None = None
    premium: float = 0.0

    @property
    def is_perpetual(self) -> bool:
        """Whether it never ends."""
        return self.delivery_ms is None


ASSETS = (
    Asset("BTC", 82_400.0, 7e6, 0.00008, 1.2, 7_000.0),
    Asset("ETH", 2_480.0, 4.5e6, 0.00010, 1.2, 6_000.0),
    Asset("SOL", 118.0, 2e6, 0.00012, 1.2, 4_000.0),
    Asset("XRP", 1.92, 1.25e6, 0.00012, 1.2, 3_000.0),
    Asset("DOGE", 0.135, 0.75e6, 0.00013, 1.15, 2_500.0),
    Asset("BNB", 780.0, 0.9e6, 0.00009, 0.9, 3_500.0),
    Asset("PEPE", 0.0000068, 0.4e6, 0.00015, 1.2, 2_000.0),
    Asset("ADA", 0.42, 0.45e6, 0.00013, 1.1, 2_000.0),
    Asset("LINK", 11.8, 0.45e6, 0.00012, 1.1, 2_000.0),
    Asset("AVAX", 13.6, 0.35e6, 0.00013, 1.1, 2_000.0),
    Asset("SUI", 1.62, 0.45e6, 0.00014, 1.15, 2_000.0),
    Asset("LTC", 81.0, 0.3e6, 0.00010, 1.0, 2_000.0),
)


class _Steps(NamedTuple):
    """What a venue's list says of a perpetual: tick, digits printed, lot, hours between fundings, contract size in coins."""

    tick: str
    digits: int
    lot: str
    funding_hours: int = 8
    size: str = "1"


_BINANCE_PERPETUALS = {
    "BTC": _Steps("0.10", 2, "0.001"),
    "ETH": _Steps("0.01", 2, "0.001"),
    "SOL": _Steps("0.0100", 4, "0.01"),
    "XRP": _Steps("0.0001", 4, "0.1"),
    "DOGE": _Steps("0.000010", 6, "1"),
    "BNB": _Steps("0.010", 3, "0.01"),
    "PEPE": _Steps("0.0000001", 7, "1", 4),
    "ADA": _Steps("0.00010", 5, "1"),
    "LINK": _Steps("0.001", 3, "0.01"),
    "AVAX": _Steps("0.0010", 4, "1"),
    "SUI": _Steps("0.000100", 6, "0.1", 4),
    "LTC": _Steps("0.01", 2, "0.001"),
}
_BYBIT_PERPETUALS = {
    "BTC": _Steps("0.10", 2, "0.001"),
    "ETH": _Steps("0.01", 2, "0.01"),
    "SOL": _Steps("0.010", 3, "0.1"),
    "XRP": _Steps("0.0001", 4, "0.1"),
    "DOGE": _Steps("0.00001", 5, "1"),
    "BNB": _Steps("0.10", 2, "0.01"),
    "PEPE": _Steps("0.0000001", 7, "100", 4),
    "ADA": _Steps("0.0001", 4, "1"),
    "LINK": _Steps("0.001", 3, "0.1"),
    "AVAX": _Steps("0.001", 3, "0.1"),
    "SUI": _Steps("0.00010", 5, "10", 4),
    "LTC": _Steps("0.01", 2, "0.1"),
}
_OKX_SWAPS = {
    "BTC": _Steps("0.1", 1, "0.01", size="0.01"),
    "ETH": _Steps("0.01", 2, "0.01", size="0.1"),
    "SOL": _Steps("0.01", 2, "0.01"),
    "XRP": _Steps("0.0001", 4, "0.01", size="100"),
    "DOGE": _Steps("0.00001", 5, "0.01", size="1000"),
    "BNB": _Steps("0.1", 1, "1", size="0.01"),
    "PEPE": _Steps("0.000000001", 9, "0.1", 4, size="10000000"),
    "ADA": _Steps("0.0001", 4, "0.1", size="100"),
    "LINK": _Steps("0.001", 3, "0.1"),
    "AVAX": _Steps("0.001", 3, "0.1"),
    "SUI": _Steps("0.0001", 4, "1", 4),
    "LTC": _Steps("0.01", 2, "0.1"),
}


def universe(now_ms: int) -> tuple[Instrument, ...]:
    """List every instrument; the dated futures end on the last Friday of a quarter after ``now_ms``."""
    delivery_ms = quarter_end_ms(now_ms)
    return (*_binance(delivery_ms), *_bybit_linear(), *_bybit_inverse(), *_okx(delivery_ms))


def quarter_end_ms(now_ms: int) -> int:
    """Return when the current quarterly future ends: a quarter's last Friday, 08:00 UTC, at least three weeks away."""
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.timezone.utc)
    earliest = now + dt.timedelta(days=_MIN_DAYS_TO_DELIVERY)
    year, month = earliest.year, (earliest.month + 2) // 3 * 3
    while True:
        following = dt.datetime(year + month // 12, month % 12 + 1, 1, _DELIVERY_HOUR, tzinfo=dt.timezone.utc)
        last_day = following - dt.timedelta(days=1)
        friday = last_day - dt.timedelta(days=(last_day.weekday() - _FRIDAY) % 7)
        if friday >= earliest:
            return int(friday.timestamp() * 1000)
        year, month = (year, month + 3) if month < 12 else (year + 1, 3)  # noqa: PLR2004 - months


def _decimals(step: str) -> int:
    return len(step.partition(".")[2])


def _yymmdd(delivery_ms: int) -> str:
    return dt.datetime.fromtimestamp(delivery_ms / 1000, dt.timezone.utc).strftime("%y%m%d")


def _spelt(asset: str) -> str:
    """Return how Binance and Bybit spell the coin."""
    return f"1000{asset}" if asset == "PEPE" else asset


def _binance(delivery_ms: int) -> list[Instrument]:
    perpetuals = [
        _linear(BINANCE, f"{_spelt(asset)}USDT", asset, steps, weight=0.45) for asset, steps in _BINANCE_PERPETUALS.items()
    ]
    return [*perpetuals, _dated(BINANCE, f"BTCUSDT_{_yymmdd(delivery_ms)}", _Steps("0.1", 1, "0.001"), delivery_ms)]


def _bybit_linear() -> list[Instrument]:
    return [
        _linear(BYBIT_LINEAR, f"{_spelt(asset)}USDT", asset, steps, weight=0.27) for asset, steps in _BYBIT_PERPETUALS.items()
    ]


def _bybit_inverse() -> list[Instrument]:
    return [
        _inverse(BYBIT_INVERSE, f"{asset}USD", asset, usd="1", tick=tick, weight=0.06)
        for asset, tick in (("BTC", "0.10"), ("ETH", "0.01"))
    ]


def _okx(delivery_ms: int) -> list[Instrument]:
    perpetuals = [_linear(OKX, f"{asset}-USDT-SWAP", asset, steps, weight=0.22) for asset, steps in _OKX_SWAPS.items()]
    coin_margined = [
        _inverse(OKX, f"{asset}-USD-SWAP", asset, usd=usd, tick=tick, weight=0.05)
        for asset, usd, tick in (("BTC", "100", "0.1"), ("ETH", "10", "0.01"))
    ]
    return [
        *perpetuals,
        _dated(OKX, f"BTC-USDT-{_yymmdd(delivery_ms)}", _Steps("0.1", 1, "0.01", size="0.01"), delivery_ms),
        *coin_margined,
    ]


def _linear(venue: str, symbol: str, asset: str, steps: _Steps, *, weight: float) -> Instrument:
    """Make a USDT perpetual."""
    base = asset if venue == OKX else _spelt(asset)
    return Instrument(
        venue=venue,
        symbol=symbol,
        asset=asset,
        base=base,
        coins_per_base=1 if base == asset else 1000,
        quote="USDT",
        settle="USDT",
        is_inverse=False,
        contract_size=Decimal(steps.size),
        tick=Decimal(steps.tick),
        lot=Decimal(steps.lot),
        price_decimals=steps.digits,
        quantity_decimals=_decimals(steps.lot),
        weight=weight,
        funding_hours=steps.funding_hours,
    )


def _dated(venue: str, symbol: str, steps: _Steps, delivery_ms: int) -> Instrument:
    """Make the quarterly BTC future in USDT."""
    return replace(_linear(venue, symbol, "BTC", steps, weight=0.02), delivery_ms=delivery_ms, premium=0.008)


def _inverse(venue: str, symbol: str, asset: str, *, usd: str, tick: str, weight: float) -> Instrument:
    """Make a coin-margined perpetual whose contract is worth ``usd`` dollars."""
    return Instrument(
        venue=venue,
        symbol=symbol,
        asset=asset,
        base=asset,
        coins_per_base=1,
        quote="USD",
        settle=asset,
        is_inverse=True,
        contract_size=Decimal(usd),
        tick=Decimal(tick),
        lot=Decimal(1),
        price_decimals=_decimals(tick),
        quantity_decimals=0,
        weight=weight,
        premium=-0.0001,
    )
