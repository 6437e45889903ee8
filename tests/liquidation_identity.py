"""How a row of the liquidations is found in the simulator's truth, which never has two of one moment that look the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

Identity = tuple[object, ...]
"""Venue, symbol, asset, position side, micro-USD, event time in milliseconds."""


def row_identity(row: dict[str, Any]) -> Identity:
    """Return that of a row of the table."""
    time_ms, micros = round(row["event_time"].timestamp() * 1_000), round(row["notional_usd"] * 1_000_000)
    return row["venue"], row["symbol"], row["asset"], row["position_side"], micros, time_ms


def record_identity(record: dict[str, Any]) -> Identity:
    """Return that of a record of the simulator's truth."""
    micros = int(Decimal(record["notional_usd"]).scaleb(6))
    return (*(record[name] for name in ("venue", "symbol", "asset", "position_side")), micros, record["event_time_ms"])
