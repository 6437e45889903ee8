from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE
from sink_events import (
    NOON_US,
    cascade_score,
    cause,
    derivatives_reading,
    fit,
    liquidation,
    miner_day,
    pressure,
    score,
    side_windows,
    stablecoin_transfer,
    windows,
)

from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import TABLE_OF, TABLES, schema_of
from market.events import (
    BookDepth,
    Derivatives,
    Gap,
    TransferKind,
)
from market.raw import Completeness, DeadLetter, PositionSide
from market.readings import (
    AbsoluteRisk,
    AlertChange,
    AlertState,
    CascadePhase,
    CascadeTransition,
    Severity,
)

NOON = datetime(2023, 11, 15, 12, tzinfo=timezone.utc)
PLACE = {"receive_time": NOON, "feed_partition": "local", "sequence": 7, "date": date(2023, 11, 15)}
USD = 1_000_000


def rows_of(*events: Any) -> list[dict[str, Any]]:
    table = to_arrow(TABLE_OF[type(events[0])], events)
    table.validate(full=True)
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    return rows


def row_of(event: Any) -> dict[str, Any]:
    [row] = rows_of(event)
    return row


def test_there_are_the_tables_of_the_design() -> None:
    assert [table.name for table in TABLES] == [
        "liquidations",
        "derivatives",
        "book_depth",
        "stablecoin_transfers",
        "miner_days",
        "scores",
        "cascades",
        "alerts",
        "gaps",
        "dead_letters",
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_says_where_its_rows_come_from_and_what_its_columns_hold(table: Any) -> None:
    schema = schema_of(table.name)

    assert schema.names[0] == "receive_time"
    assert schema.names[-3:] == ["feed_partition", "sequence", "date"]
    assert [field.name for field in schema if not field.nullable] == ["receive_time", "feed_partition", "sequence", "date"]
    assert len(set(schema.names)) == len(schema.names)
    assert all(field.metadata[b"comment"] for field in schema)
    assert table.comment
    assert table.row_schema.equals(schema, check_metadata=False)


def test_an_unknown_table_has_no_schema() -> None:
    with pytest.raises(KeyError):
        schema_of("trades")


def test_a_liquidation_is_a_row() -> None:
    event = liquidation(7)

    assert row_of(event) == PLACE | {
        "venue": "binance-usdm",
        "symbol": "BTCUSDT",
        "asset": "BTC",
        "position_side": "LONG",
        "price": 37_000.5,
        "base_quantity": 0.25,
        "notional_usd": 9_250.125,
        "completeness": "sampled",
        "event_time": NOON - timedelta(milliseconds=250),
    }


def test_rows_keep_the_order_of_the_events() -> None:
    events = [liquidation(sequence) for sequence in (3, 1, 2)]

    assert [row["sequence"] for row in rows_of(*events)] == [3, 1, 2]


def test_the_date_is_that_of_the_receive_time_in_utc() -> None:
    just_before_midnight_us = NOON_US + 12 * 3_600 * USD - 1

    rows = rows_of(liquidation(at_us=just_before_midnight_us), liquidation(at_us=just_before_midnight_us + 1))

    assert [row["date"] for row in rows] == [date(2023, 11, 15), date(2023, 11, 16)]


@given(st.lists(st.integers(min_value=0, max_value=2**53), max_size=5))
def test_amounts_are_the_micros_divided_by_a_million(micros: list[int]) -> None:
    table = to_arrow(TABLE_OF[type(liquidation())], [liquidation(notional_micros=each) for each in micros])

    assert table["notional_usd"].to_pylist() == [each / USD for each in micros]


def test_an_amount_beyond_64_bits_is_still_a_row() -> None:
    rows = rows_of(liquidation(notional_micros=2**70), liquidation())

    assert [row["notional_usd"] for row in rows] == [2**70 / USD, 9_250.125]


def test_text_that_is_not_unicode_is_still_a_row() -> None:
    assert row_of(liquidation(symbol="BTC\ud800"))["symbol"] == "BTC?"


def test_an_empty_batch_is_an_empty_table_with_the_same_schema() -> None:
    for table in TABLES:
        assert to_arrow(table, []).schema.equals(table.row_schema)


def test_derivatives_are_a_row_with_null_for_what_the_poll_did_not_say() -> None:
    event = Derivatives(
        cause=cause(7),
        venue="okx",
        symbol="BTC-USDT-SWAP",
        asset="BTC",
        event_time_us=NOON_US,
        mark_price=37_000.0,
        index_price=None,
        open_interest_base=30_000.0,
        open_interest_usd=1.11e9,
        funding_rate=None,
        funding_interval_hours=None,
        funding_rate_8h=None,
        long_short_ratio=1.5,
    )

    assert row_of(event) == PLACE | {
        "venue": "okx",
        "symbol": "BTC-USDT-SWAP",
        "asset": "BTC",
        "mark_price": 37_000.0,
        "index_price": None,
        "open_interest_base": 30_000.0,
        "open_interest_usd": 1.11e9,
        "funding_rate": None,
        "funding_interval_hours": None,
        "funding_rate_8h": None,
        "long_short_ratio": 1.5,
        "event_time": NOON,
    }


def test_book_depth_is_a_row() -> None:
    event = BookDepth(cause(7), "okx", "BTC-USDT-SWAP", "BTC", NOON_US, 37_000.0, 0.27, 1e6, 2e6, None, 1.5e6, 2.5e6, None)

    assert row_of(event) == PLACE | {
        "venue": "okx",
        "symbol": "BTC-USDT-SWAP",
        "asset": "BTC",
        "mid_price": 37_000.0,
        "spread_bps": 0.27,
        "bid_usd_0p5": 1e6,
        "bid_usd_1p0": 2e6,
        "bid_usd_2p0": None,
        "ask_usd_0p5": 1.5e6,
        "ask_usd_1p0": 2.5e6,
        "ask_usd_2p0": None,
        "event_time": NOON,
    }


def test_a_stablecoin_transfer_is_a_row() -> None:
    event = stablecoin_transfer(7)

    assert row_of(event) == PLACE | {
        "chain": "ethereum",
        "token": "USDT",
        "kind": "inflow",
        "amount_usd": 2_500_000.0,
        "exchange": "binance",
        "exchange_kind": "spot",
        "counted": True,
        "block_number": 18_570_000,
        "block_time": NOON - timedelta(seconds=12),
        "transaction_hash": "0xabc",
        "log_index": 12,
        "removed": False,
    }


def test_a_mint_has_no_exchange() -> None:
    mint = stablecoin_transfer(kind=TransferKind.MINT, exchange="", exchange_kind=None)

    row = row_of(mint)

    assert (row["exchange"], row["exchange_kind"]) == (None, None)


def test_a_miner_day_is_a_row_with_a_set_of_columns_per_fit() -> None:
    row = row_of(miner_day(7))

    expanding = {
        "expanding_intercept": 10.25,
        "expanding_slope": 0.525,
        "expanding_r_squared": 0.944,
        "expanding_first_day": date(2010, 7, 18),
        "expanding_last_day": date(2023, 11, 14),
        "expanding_days": 4867,
        "expanding_modelled_price": 30_000.0,
        "expanding_multiple": 1.2,
        "expanding_status": "watch",
        "expanding_percentile": 0.5,
    }
    absent = {name.replace("expanding", other): None for name in expanding for other in ("rolling_3y", "glassnode_2022")}
    assert row == PLACE | expanding | absent | {
        "day": date(2023, 11, 15),
        "price_usd": 36_000.0,
        "difficulty": 62.46e12,
        "mean_fees_btc_per_block": None,
        "hashprice_usd_per_ph_day": 75.5,
        "break_even_usd": {"15": 12_000.0, "30": 24_000.0},
        "final": False,
    }


def test_a_fit_that_only_some_days_have_is_null_on_the_others() -> None:
    rows = rows_of(miner_day(), miner_day(fits={"rolling_3y": fit("rolling_3y", 0.9)}), miner_day(fits={}))

    assert [(row["expanding_multiple"], row["rolling_3y_multiple"]) for row in rows] == [
        (1.2, None),
        (None, 0.9),
        (None, None),
    ]


def test_a_step_of_a_cascade_is_a_row() -> None:
    event = CascadeTransition(
        cause=cause(7),
        cascade_id="local-5-BTC-LONG",
        asset="BTC",
        position_side=PositionSide.LONG,
        phase=CascadePhase.ENDED,
        began_time_us=NOON_US - 60 * USD,
        window_micros=0,
        peak_micros=7_000_000 * USD,
        total_micros=9_000_000 * USD,
        total_count=120,
        venues=("binance-usdm", "okx"),
    )

    assert row_of(event) == PLACE | {
        "cascade_id": "local-5-BTC-LONG",
        "asset": "BTC",
        "position_side": "LONG",
        "phase": "ended",
        "began_time": NOON - timedelta(minutes=1),
        "window_usd": 0.0,
        "peak_usd": 7_000_000.0,
        "total_usd": 9_000_000.0,
        "total_count": 120,
        "venues": ["binance-usdm", "okx"],
    }


def test_a_change_of_an_alert_is_a_row() -> None:
    event = AlertChange(cause(7), "BTC", Severity.WARNING, Severity.NONE, AlertState.FIRING, "risk 55", 6, 55, None)

    assert row_of(event) == PLACE | {
        "asset": "BTC",
        "severity": "warning",
        "previous_severity": "none",
        "state": "firing",
        "reason": "risk 55",
        "score_sequence": 6,
        "risk": 55,
        "pressure": None,
    }


def test_a_gap_is_a_row() -> None:
    event = Gap(cause(7), "okx", "okx/liquidations", NOON_US - 30 * USD, NOON_US, "connection lost")

    assert row_of(event) == PLACE | {
        "venue": "okx",
        "feed": "okx/liquidations",
        "from_time": NOON - timedelta(seconds=30),
        "to_time": NOON,
        "reason": "connection lost",
    }


def test_a_dead_letter_is_a_row_with_the_frame_byte_for_byte() -> None:
    event = DeadLetter(cause(7), "okx/liquidations", "okx", "MalformedFrameError", "no JSON", b"\x00\xff{")

    assert row_of(event) == PLACE | {
        "feed": "okx/liquidations",
        "venue": "okx",
        "error": "MalformedFrameError",
        "reason": "no JSON",
        "payload": b"\x00\xff{",
    }


def test_a_score_of_which_nothing_is_known_is_null_and_never_zero() -> None:
    row = row_of(score(7))

    known = {name: value for name, value in row.items() if value is not None}
    assert known == PLACE | {
        "as_of": NOON,
        "asset": "BTC",
        "severity": "none",
        "pressure_waived": True,
        "risk_absolute": 0,
        "cascade_dominance_long": 0.0,
        "cascade_components_long": {},
        "cascade_missing_long": [],
        "cascade_dominance_short": 0.0,
        "cascade_components_short": {},
        "cascade_missing_short": [],
        "liquidations_are_floors": False,
        "missing_inputs": ["windows", "derivatives", "pressure", "miners"],
        "parameter_version": "0123456789ab",
    }


def test_a_score_carries_every_window_of_both_sides() -> None:
    long = side_windows(
        usd_micros=(1 * USD, 2 * USD, 90 * USD, 120 * USD, 300 * USD, 3600 * USD),
        counts=(1, 2, 3, 4, 5, 6),
        largest_micros=(1 * USD, 2 * USD, 30 * USD, 40 * USD, 50 * USD, 60 * USD),
        venue_micros={"okx": 30 * USD, "binance-usdm": 60 * USD},
        full_micros=30 * USD,
        peak_micros=120 * USD,
        late_count=2,
    )

    row = row_of(score(windows=windows(long, side_windows())))

    assert {name: value for name, value in row.items() if name.startswith("long_") and name != "long_short_ratio"} == {
        "long_usd_10s": 1.0,
        "long_usd_60s": 2.0,
        "long_usd_90s": 90.0,
        "long_usd_120s": 120.0,
        "long_usd_300s": 300.0,
        "long_usd_3600s": 3600.0,
        "long_count_10s": 1,
        "long_count_60s": 2,
        "long_count_90s": 3,
        "long_count_120s": 4,
        "long_count_300s": 5,
        "long_count_3600s": 6,
        "long_largest_usd_10s": 1.0,
        "long_largest_usd_60s": 2.0,
        "long_largest_usd_90s": 30.0,
        "long_largest_usd_120s": 40.0,
        "long_largest_usd_300s": 50.0,
        "long_largest_usd_3600s": 60.0,
        "long_venues_90s": 2,
        "long_venue_shares_90s": {"binance-usdm": 60 / 90, "okx": 30 / 90},
        "long_full_share_90s": 30 / 90,
        "long_usd_per_second_10s": 0.1,
        "long_usd_per_second_90s": 1.0,
        "long_peak_usd_90s": 120.0,
        "long_fall_from_peak": 0.25,
        "long_late_count": 2,
    }


def test_shares_of_an_empty_window_are_unknown_but_its_sums_are_zero() -> None:
    row = row_of(score(windows=windows()))

    assert (row["short_usd_90s"], row["short_count_90s"], row["short_venues_90s"]) == (0.0, 0, 0)
    assert (row["short_full_share_90s"], row["short_fall_from_peak"]) == (None, None)
    assert row["short_venue_shares_90s"] == {}


def test_a_score_carries_where_leverage_stands() -> None:
    row = row_of(score(derivatives=derivatives_reading()))

    columns = ("price_change", "open_interest", "venue_", "funding", "derivatives", "mark", "long_short")
    assert {name: value for name, value in row.items() if name.startswith(columns)} == {
        "mark_price": 37_000.0,
        "price_change_5m_percent": -1.5,
        "price_change_1h_percent": -2.5,
        "price_change_24h_percent": None,
        "open_interest_base": 100_000.0,
        "open_interest_usd": 3.7e9,
        "open_interest_change_5m_percent": 6.0,
        "open_interest_change_1h_percent": 7.0,
        "open_interest_change_24h_percent": None,
        "venue_open_interest_change_5m_percent": {"okx": 6.0},
        "venue_open_interest_change_1h_percent": {"okx": 7.0},
        "venue_open_interest_change_24h_percent": {},
        "funding_rate_8h": 0.0001,
        "funding_change_5m": 0.00001,
        "funding_change_1h": -0.00002,
        "funding_change_24h": None,
        "venue_funding_change_5m": {"okx": 0.00001},
        "venue_funding_change_1h": {"okx": -0.00002},
        "venue_funding_change_24h": {},
        "long_short_ratio": 1.25,
        "derivatives_missing": ["long_short_ratio:bybit-linear", "long_short_ratio:okx", "open_interest_24h:okx"],
        "derivatives_oldest_time": NOON - timedelta(minutes=1),
    }


def test_a_score_carries_risk_cascade_scores_and_severity_with_their_components() -> None:
    row = row_of(
        score(
            risk=AbsoluteRisk(50, 30, 0, None, 20),
            cascade_long=cascade_score(6.5, dominance=1.0, components={"speed": 0.5, "size": 0.8}, missing=("fuel",)),
            severity=Severity.INFO,
            pressure_waived=False,
            missing_inputs=("long_short_ratio", "fuel", "liquidations:okx"),
            liquidations_are_floors=True,
        )
    )

    names = ("risk", "cascade", "severity", "pressure_waived", "liquidations", "missing")
    assert {name: value for name, value in row.items() if name.startswith(names)} == {
        "risk_absolute": 50,
        "risk_absolute_funding": 30,
        "risk_absolute_open_interest": 0,
        "risk_absolute_long_short_ratio": None,
        "risk_absolute_liquidations": 20,
        "cascade_score_long": 6.5,
        "cascade_dominance_long": 1.0,
        "cascade_components_long": {"size": 0.8, "speed": 0.5},
        "cascade_missing_long": ["fuel"],
        "cascade_score_short": None,
        "cascade_dominance_short": 0.0,
        "cascade_components_short": {},
        "cascade_missing_short": [],
        "severity": "info",
        "pressure_waived": False,
        "liquidations_are_floors": True,
        "missing_inputs": ["long_short_ratio", "fuel", "liquidations:okx"],
    }


def test_a_score_carries_the_market_wide_pressure_and_miners() -> None:
    miners = miner_day(fits={"expanding": fit(), "glassnode_2022": fit("glassnode_2022", 1.9)})

    row = row_of(score(pressure=pressure(-42), miners=miners))

    names = ("stablecoin", "miner", "difficulty", "hashprice")
    assert {name: value for name, value in row.items() if name.startswith(names)} == {
        "stablecoin_pressure": -42,
        "stablecoin_inflow_usd": 100e6,
        "stablecoin_outflow_usd": 16e6,
        "stablecoin_mint_usd": 5e6,
        "stablecoin_burn_usd": 1e6,
        "stablecoin_inflow_spot_usd": 60e6,
        "stablecoin_outflow_spot_usd": 10e6,
        "stablecoin_inflow_derivatives_usd": 40e6,
        "stablecoin_outflow_derivatives_usd": 6e6,
        "stablecoin_covered_from": NOON - timedelta(hours=4),
        "stablecoin_covered_to": NOON - timedelta(seconds=12),
        "miner_day": date(2023, 11, 15),
        "difficulty_multiple_expanding": 1.2,
        "difficulty_multiple_rolling_3y": None,
        "difficulty_multiple_glassnode_2022": 1.9,
        "miner_status": "watch",
        "hashprice_usd_per_ph_day": 75.5,
    }


def test_sums_of_a_chain_that_was_not_read_are_unknown() -> None:
    row = row_of(score(pressure=pressure(None, inflow_micros=0, covered_from_us=0, covered_to_us=0)))

    assert {row[name] for name in row if name.startswith("stablecoin")} == {None}


def test_scores_that_know_and_scores_that_do_not_stand_in_one_batch() -> None:
    knowing = score(windows=windows(side_windows(90 * USD, 3)), derivatives=derivatives_reading(), miners=miner_day())

    rows = rows_of(score(), knowing, score())

    assert [row["long_usd_90s"] for row in rows] == [None, 90.0, None]
    assert [row["long_venue_shares_90s"] for row in rows] == [None, {"okx": 1.0}, None]
    assert [row["venue_funding_change_5m"] for row in rows] == [None, {"okx": 0.00001}, None]
    assert [row["difficulty_multiple_expanding"] for row in rows] == [None, 1.2, None]


def test_maps_are_sorted_so_that_equal_events_are_equal_rows() -> None:
    one = miner_day(break_even_usd={"15": 1.0, "20": 2.0})
    other = miner_day(break_even_usd={"20": 2.0, "15": 1.0})

    first, second = to_arrow(TABLE_OF[type(one)], [one, other])["break_even_usd"].to_pylist()

    assert first == second == [("15", 1.0), ("20", 2.0)]


@given(st.lists(st.dictionaries(st.text(UNICODE, max_size=2), st.floats(allow_nan=False), max_size=4), max_size=6))
def test_any_maps_come_back_as_they_went_in(maps: list[dict[str, float]]) -> None:
    scores = [score(cascade_long=cascade_score(components=each)) for each in maps]

    column = to_arrow(TABLE_OF[type(score())], scores)["cascade_components_long"]

    assert column.to_pylist(maps_as_pydicts="strict") == maps


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, ValueError)):
        to_arrow(TABLE_OF[type(liquidation())], [liquidation(price="37000.5")])


def test_completeness_is_stored_as_its_value() -> None:
    assert row_of(liquidation(completeness=Completeness.FULL))["completeness"] == "full"
