"""One event for each table, by which docs/tables.md shows what a row looks like: BTC in a falling market on 21 November 2025.

Rows are made of them by the very code that makes all rows, so that an example is of its column's type and unit.
"""

from __future__ import annotations

from typing import Any

from connectors.sinks.table_columns import Table
from market.events import (
    BookDepth,
    Derivatives,
    DifficultyFit,
    ExchangeKind,
    Gap,
    Liquidation,
    MinerDay,
    MinerStatus,
    Pressure,
    StablecoinTransfer,
    TransferKind,
)
from market.raw import Cause, Completeness, DeadLetter, PositionSide
from market.readings import (
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

_USD = 1_000_000
_SECOND_US = 1_000_000
_NOON_US = 1_763_726_400 * _SECOND_US
_DAY = "2025-11-21"
_PARTITION = "0"
_ASSET = "BTC"
_BINANCE, _BYBIT = "binance-usdm", "bybit-linear"


def _at(seconds: float) -> int:
    return _NOON_US + round(seconds * _SECOND_US)


def _cause(sequence: int, at_s: float) -> Cause:
    return Cause(_PARTITION, sequence, _at(at_s))


_LIQUIDATION = Liquidation(
    cause=_cause(48_211, 7.204318),
    venue=_BYBIT,
    symbol="BTCUSDT",
    asset=_ASSET,
    position_side=PositionSide.LONG,
    price=84_210.5,
    base_quantity=0.412,
    notional_micros=34_694_726_000,
    completeness=Completeness.FULL,
    event_time_us=_at(7.181),
)

_DERIVATIVES = Derivatives(
    cause=_cause(48_190, 5.611204),
    venue=_BYBIT,
    symbol="BTCUSDT",
    asset=_ASSET,
    event_time_us=_at(5.512),
    mark_price=84_190.12,
    index_price=84_201.4,
    open_interest_base=52_310.25,
    open_interest_usd=4_404_006_224.73,
    funding_rate=0.0001,
    funding_interval_hours=8.0,
    funding_rate_8h=0.0001,
    long_short_ratio=2.4,
)

_BOOK_DEPTH = BookDepth(
    cause=_cause(48_195, 6.020331),
    venue=_BINANCE,
    symbol="BTCUSDT",
    asset=_ASSET,
    event_time_us=_at(5.998),
    mid_price=84_195.05,
    spread_bps=0.0119,
    bid_usd_0p5=21_400_310.5,
    bid_usd_1p0=47_912_204.1,
    bid_usd_2p0=None,
    ask_usd_0p5=33_105_770.9,
    ask_usd_1p0=70_226_018.3,
    ask_usd_2p0=None,
)

_TRANSFER = StablecoinTransfer(
    cause=_cause(48_102, -3.440871),
    chain="ethereum",
    token="USDT",  # noqa: S106 - a coin
    kind=TransferKind.INFLOW,
    amount_micros=12_500_000 * _USD,
    exchange="Binance",
    exchange_kind=ExchangeKind.SPOT,
    is_counted=True,
    block_number=23_845_117,
    block_time_us=_at(-13),
    transaction_hash="0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
    log_index=214,
    is_removed=False,
)


def _fit(name: str, *, intercept: float, slope: float, days: int, price: float, multiple: float) -> DifficultyFit:
    return DifficultyFit(
        name=name,
        intercept=intercept,
        slope=slope,
        r_squared=0.944,
        first_day="2022-11-22" if name == "rolling_3y" else "2010-07-18",
        last_day=_DAY,
        days=days,
        modelled_price=price,
        multiple=multiple,
        status=MinerStatus.WATCH if multiple >= 1 else MinerStatus.SELLING_AT_A_LOSS,
        percentile=0.31,
    )


_MINER_DAY = MinerDay(
    cause=_cause(47_002, -180.250117),
    day=_DAY,
    price_usd=84_190.0,
    difficulty=152_271_745_743_550.0,
    mean_fees_btc_per_block=0.0213,
    hashprice_usd_per_ph_day=35.31,
    break_even_usd={"15": 60_131.2, "20": 80_174.9, "30": 120_262.4},
    fits={
        "expanding": _fit("expanding", intercept=10.19, slope=0.5436, days=5_606, price=67_352.0, multiple=1.25),
        "rolling_3y": _fit("rolling_3y", intercept=-36.89, slope=1.4745, days=1_096, price=91_510.9, multiple=0.92),
        "glassnode_2022": _fit("glassnode_2022", intercept=10.256, slope=0.525, days=5_606, price=40_090.5, multiple=2.1),
    },
    is_final=False,
)

_PRESSURE = Pressure(
    cause=_cause(48_102, -3.440871),
    pressure=-42,
    inflow_micros=262_422_286 * _USD,
    outflow_micros=146_703_640 * _USD,
    mint_micros=80_000_000 * _USD,
    burn_micros=145_000_000 * _USD,
    inflow_spot_micros=232_467_127 * _USD,
    outflow_spot_micros=112_276_898 * _USD,
    inflow_derivatives_micros=29_955_159 * _USD,
    outflow_derivatives_micros=34_426_742 * _USD,
    covered_from_us=_at(-14_413),
    covered_to_us=_at(-13),
)


def _side(usd: tuple[int, ...], counts: tuple[int, ...], largest: tuple[int, ...], venues: dict[str, int]) -> SideWindows:
    return SideWindows(
        usd_micros=tuple(each * _USD for each in usd),
        counts=counts,
        largest_micros=tuple(each * _USD for each in largest),
        venue_micros={name: each * _USD for name, each in venues.items()},
        full_micros=venues[_BYBIT] * _USD,
        peak_micros=max(usd[:3]) * _USD * 5 // 4,
        late_count=3,
    )


_WINDOWS = LiquidationWindows(
    cause=_cause(48_211, 7.204318),
    asset=_ASSET,
    long=_side(
        (1_210_400, 4_802_112, 6_240_880, 7_015_300, 9_770_415, 18_204_661),
        (31, 140, 188, 214, 305, 702),
        (410_250, 902_118, 902_118, 902_118, 1_204_000, 1_204_000),
        {_BINANCE: 2_402_100, _BYBIT: 3_104_220, "okx": 734_560},
    ),
    short=_side(
        (0, 20_114, 41_870, 60_204, 174_310, 1_402_776),
        (0, 3, 5, 8, 21, 96),
        (0, 12_400, 12_400, 15_120, 22_008, 88_310),
        {_BINANCE: 29_470, _BYBIT: 12_400},
    ),
)

_READING = DerivativesReading(
    cause=_cause(48_190, 5.611204),
    asset=_ASSET,
    mark_price=84_188.4,
    price_changes_percent=(-1.42, -3.05, -8.6),
    open_interest_base=181_204.6,
    open_interest_usd=15_255_326_346.6,
    open_interest_changes_percent=(-2.1, -4.8, None),
    venue_open_interest_changes_percent={_BINANCE: (-2.4, -5.2, None), _BYBIT: (-1.6, -4.1, None)},
    funding_rate_8h=0.000125,
    funding_changes=(0.0, -0.00004, None),
    venue_funding_changes={_BINANCE: (0.0, -0.00005, None), _BYBIT: (0.0, -0.00002, None)},
    long_short_ratio=2.4,
    missing={"open_interest_24h": (_BINANCE, _BYBIT, "okx")},
    oldest_input_time_us=_at(-57.5),
)

_SCORE = Score(
    cause=_cause(48_211, 7.204318),
    asset=_ASSET,
    windows=_WINDOWS,
    derivatives=_READING,
    pressure=_PRESSURE,
    miners=_MINER_DAY,
    risk=AbsoluteRisk(total=70, funding=20, open_interest=12, long_short_ratio=18, liquidations=20),
    cascade_long=CascadeScore(7.8, 0.99, {"breadth": 0.83, "speed": 0.71}, ("size", "self_excitation", "fuel", "crowding")),
    cascade_short=CascadeScore(0.0, 0.0, {"breadth": 0.45, "speed": 0.0}, ("size", "self_excitation", "fuel", "crowding")),
    severity=Severity.CRITICAL,
    pressure_waived=False,
    missing_inputs=("liquidations:okx",),
    parameter_version="e338a7b434e1",
    liquidations_are_floors=True,
)

_CASCADE = CascadeTransition(
    cause=_cause(48_014, -21.700412),
    cascade_id="BTC-LONG-0-48014",
    asset=_ASSET,
    position_side=PositionSide.LONG,
    phase=CascadePhase.BEGAN,
    began_time_us=_at(-21.700412),
    window_micros=5_006_338 * _USD,
    peak_micros=5_006_338 * _USD,
    total_micros=5_006_338 * _USD,
    total_count=263,
    venues=(_BINANCE, _BYBIT, "okx"),
)

_ALERT = AlertChange(
    cause=_cause(48_211, 7.204318),
    asset=_ASSET,
    severity=Severity.CRITICAL,
    previous_severity=Severity.WARNING,
    state=AlertState.FIRING,
    reason="BTC risk 70 (funding 20, open interest 12, long/short ratio 18, liquidations 20), pressure −42: critical",
    score_sequence=48_211,
    risk=70,
    pressure=-42,
)

_GAP = Gap(_cause(48_160, 3.000902), "okx", "okx/liquidations", _at(-41.2), _at(3.000902), "connection closed: code 1006")

_DEAD_LETTER = DeadLetter(
    cause=_cause(48_150, 2.110034),
    feed="okx/liquidations",
    venue="okx",
    error="UnknownSymbolError",
    reason="NEW-USDT-SWAP is not in the list of contracts",
    payload=b'{"arg":{"channel":"liquidation-orders"},"data":[...]}',
)

_EXAMPLES: dict[type, Any] = {
    type(event): event
    for event in (
        _LIQUIDATION,
        _DERIVATIVES,
        _BOOK_DEPTH,
        _TRANSFER,
        _MINER_DAY,
        _SCORE,
        _CASCADE,
        _ALERT,
        _GAP,
        _DEAD_LETTER,
    )
}


def example_of(table: Table) -> Any:
    """Return an event whose row shows the table.

    Raises:
        KeyError: There is none for its events.
    """
    return _EXAMPLES[table.event_type]
