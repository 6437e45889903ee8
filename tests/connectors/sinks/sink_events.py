"""Builders of events for the tests of the sinks: each defaults everything but what a test is about."""

from __future__ import annotations

from typing import Any

from market.events import (
    DifficultyFit,
    ExchangeKind,
    Liquidation,
    MinerDay,
    MinerStatus,
    Pressure,
    StablecoinTransfer,
    TransferKind,
)
from market.raw import Cause, Completeness, PositionSide
from market.readings import (
    WINDOWS_S,
    AbsoluteRisk,
    AlertChange,
    AlertState,
    CascadePhase,
    CascadeScore,
    CascadeTransition,
    DerivativesReading,
    LiquidationWindows,
    Score,
    Severity,
    SideWindows,
)

NOON_US = 1_700_049_600_000_000  # 2023-11-15 12:00:00 UTC
PARTITION = "local"


def cause(sequence: int = 1, *, partition: str = PARTITION, at_us: int = NOON_US) -> Cause:
    return Cause(partition, sequence, at_us)


def liquidation(sequence: int = 1, *, partition: str = PARTITION, at_us: int = NOON_US, **changes: Any) -> Liquidation:
    values: dict[str, Any] = {
        "cause": cause(sequence, partition=partition, at_us=at_us),
        "venue": "binance-usdm",
        "symbol": "BTCUSDT",
        "asset": "BTC",
        "position_side": PositionSide.LONG,
        "price": 37_000.5,
        "base_quantity": 0.25,
        "notional_micros": 9_250_125_000,
        "completeness": Completeness.SAMPLED,
        "event_time_us": at_us - 250_000,
    }
    return Liquidation(**(values | changes))


def side_windows(micros: int = 0, count: int = 0, venues: dict[str, int] | None = None, **changes: Any) -> SideWindows:
    """Every window holds the same; of one venue unless told otherwise."""
    values: dict[str, Any] = {
        "usd_micros": (micros,) * len(WINDOWS_S),
        "counts": (count,) * len(WINDOWS_S),
        "largest_micros": (micros,) * len(WINDOWS_S),
        "venue_micros": ({"okx": micros} if micros else {}) if venues is None else venues,
        "full_micros": 0,
        "peak_micros": micros,
        "late_count": 0,
    }
    return SideWindows(**(values | changes))


def cascade_score(score: float | None = None, **changes: Any) -> CascadeScore:
    values: dict[str, Any] = {"score": score, "dominance": 0.0, "components": {}, "missing": ()}
    return CascadeScore(**(values | changes))


def score(sequence: int = 1, *, asset: str = "BTC", at_us: int = NOON_US, **changes: Any) -> Score:
    """Nothing is known of the asset."""
    values: dict[str, Any] = {
        "cause": cause(sequence, at_us=at_us),
        "asset": asset,
        "windows": None,
        "derivatives": None,
        "pressure": None,
        "miners": None,
        "risk": AbsoluteRisk(0, None, None, None, None),
        "cascade_long": cascade_score(),
        "cascade_short": cascade_score(),
        "severity": Severity.NONE,
        "pressure_waived": True,
        "missing_inputs": ("windows", "derivatives", "pressure", "miners"),
        "parameter_version": "0123456789ab",
    }
    return Score(**(values | changes))


def windows(long: SideWindows | None = None, short: SideWindows | None = None, asset: str = "BTC") -> LiquidationWindows:
    return LiquidationWindows(cause(), asset, long or side_windows(), short or side_windows())


def derivatives_reading(**changes: Any) -> DerivativesReading:
    """One venue, which knows everything but 24 hours ago."""
    values: dict[str, Any] = {
        "cause": cause(),
        "asset": "BTC",
        "mark_price": 37_000.0,
        "price_changes_percent": (-1.5, -2.5, None),
        "open_interest_base": 100_000.0,
        "open_interest_usd": 3.7e9,
        "open_interest_changes_percent": (6.0, 7.0, None),
        "venue_open_interest_changes_percent": {"okx": (6.0, 7.0, None)},
        "funding_rate_8h": 0.0001,
        "funding_changes": (0.00001, -0.00002, None),
        "venue_funding_changes": {"okx": (0.00001, -0.00002, None)},
        "long_short_ratio": 1.25,
        "missing": {"open_interest_24h": ("okx",), "long_short_ratio": ("bybit-linear", "okx")},
        "oldest_input_time_us": NOON_US - 60_000_000,
    }
    return DerivativesReading(**(values | changes))


def pressure(points: int | None = -42, *, sequence: int = 1, at_us: int = NOON_US, **changes: Any) -> Pressure:
    million = 1_000_000_000_000
    values: dict[str, Any] = {
        "cause": cause(sequence, at_us=at_us),
        "pressure": points,
        "inflow_micros": 100 * million,
        "outflow_micros": 16 * million,
        "mint_micros": 5 * million,
        "burn_micros": 1 * million,
        "inflow_spot_micros": 60 * million,
        "outflow_spot_micros": 10 * million,
        "inflow_derivatives_micros": 40 * million,
        "outflow_derivatives_micros": 6 * million,
        "covered_from_us": NOON_US - 14_400_000_000,
        "covered_to_us": NOON_US - 12_000_000,
    }
    return Pressure(**(values | changes))


def fit(name: str = "expanding", multiple: float = 1.2, **changes: Any) -> DifficultyFit:
    values: dict[str, Any] = {
        "name": name,
        "intercept": 10.25,
        "slope": 0.525,
        "r_squared": 0.944,
        "first_day": "2010-07-18",
        "last_day": "2023-11-14",
        "days": 4867,
        "modelled_price": 30_000.0,
        "multiple": multiple,
        "status": MinerStatus.WATCH,
        "percentile": 0.5,
    }
    return DifficultyFit(**(values | changes))


def miner_day(sequence: int = 1, *, at_us: int = NOON_US, **changes: Any) -> MinerDay:
    values: dict[str, Any] = {
        "cause": cause(sequence, at_us=at_us),
        "day": "2023-11-15",
        "price_usd": 36_000.0,
        "difficulty": 62.46e12,
        "mean_fees_btc_per_block": None,
        "hashprice_usd_per_ph_day": 75.5,
        "break_even_usd": {"30": 24_000.0, "15": 12_000.0},
        "fits": {"expanding": fit()},
        "is_final": False,
    }
    return MinerDay(**(values | changes))


def stablecoin_transfer(sequence: int = 1, *, at_us: int = NOON_US, **changes: Any) -> StablecoinTransfer:
    values: dict[str, Any] = {
        "cause": cause(sequence, at_us=at_us),
        "chain": "ethereum",
        "token": "USDT",
        "kind": TransferKind.INFLOW,
        "amount_micros": 2_500_000_000_000,
        "exchange": "binance",
        "exchange_kind": ExchangeKind.SPOT,
        "is_counted": True,
        "block_number": 18_570_000,
        "block_time_us": at_us - 12_000_000,
        "transaction_hash": "0xabc",
        "log_index": 12,
        "is_removed": False,
    }
    return StablecoinTransfer(**(values | changes))


def alert_change(
    severity: Severity = Severity.WARNING, previous: Severity = Severity.NONE, sequence: int = 1, **changes: Any
) -> AlertChange:
    """Of BTC at noon and the sequence's second."""
    values: dict[str, Any] = {
        "cause": cause(sequence, at_us=NOON_US + sequence * 1_000_000),
        "asset": "BTC",
        "severity": severity,
        "previous_severity": previous,
        "state": AlertState.RESOLVED if severity is Severity.NONE else AlertState.FIRING,
        "reason": f"BTC risk 80 (funding 30, liquidations 20), pressure −42: {severity.value}",
        "score_sequence": sequence,
        "risk": 80,
        "pressure": -42,
    }
    return AlertChange(**(values | changes))


def cascade_step(phase: CascadePhase = CascadePhase.BEGAN, sequence: int = 1, **changes: Any) -> CascadeTransition:
    """Of BTC longs at noon and the sequence's second."""
    million = 1_000_000_000_000
    values: dict[str, Any] = {
        "cause": cause(sequence, at_us=NOON_US + sequence * 1_000_000),
        "cascade_id": "BTC-LONG-local-1",
        "asset": "BTC",
        "position_side": PositionSide.LONG,
        "phase": phase,
        "began_time_us": NOON_US,
        "window_micros": 6 * million,
        "peak_micros": 30 * million,
        "total_micros": 84 * million,
        "total_count": 1_204,
        "venues": ("binance-usdm", "okx"),
    }
    return CascadeTransition(**(values | changes))
