"""``cascadewatch miners``: the Difficulty Multiple of one day from a file of daily prices and difficulties."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from market.difficulty import fit_history
from market.hashprice import block_height, day_number, hashprice_usd_per_ph_day, subsidy_btc

_NEEDED = ("date", "price_usd", "difficulty")


class HistoryError(Exception):
    """The file or the day cannot be used; the message says why."""


def read_miner_day(path: Path, day: str) -> dict[str, Any]:
    """Return the fits and the hashprice (subsidy alone, no fees) of a day, from what the file says up to and with that day.

    Raises:
        HistoryError: The file or a row of it cannot be read, it lacks a column, it has no price and difficulty for the day, or
            the day is none.
    """
    try:
        day_number(day)
    except ValueError as error:
        raise HistoryError(f"--date {day!r} is not a day written as YYYY-MM-DD") from error
    try:
        reading = fit_history(_rows(path), day)
    except (OSError, ValueError, csv.Error) as error:  # not text, not there, a day twice, a day before the first block
        raise HistoryError(f"{path} cannot be used: {getattr(error, 'strerror', None) or error}") from error
    if reading is None or reading.day != day:
        raise HistoryError(f"{path} has no price and difficulty above zero for {day}")
    hashprice = hashprice_usd_per_ph_day(
        difficulty=reading.difficulty,
        price_usd=reading.price_usd,
        btc_per_block=subsidy_btc(block_height(day_number(day))),
    )
    return {
        "day": reading.day,
        "price_usd": reading.price_usd,
        "difficulty": reading.difficulty,
        "hashprice_usd_per_ph_day": hashprice,
        "fits": {
            name: {
                "intercept": fit.intercept,
                "slope": fit.slope,
                "r_squared": fit.r_squared,
                "first_day": fit.first_day,
                "last_day": fit.last_day,
                "days": fit.days,
                "modelled_price": fit.modelled_price,
                "multiple": fit.multiple,
                "status": fit.status.value,
                "percentile": fit.percentile,
            }
            for name, fit in reading.fits.items()
        },
    }


def _rows(path: Path) -> Iterator[tuple[str, float | None, float | None]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:  # spreadsheets put a mark before the first column
        table = csv.DictReader(lines)
        missing = [name for name in _NEEDED if name not in (table.fieldnames or ())]
        if missing:
            raise HistoryError(f"{path} lacks the column {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
        for row in table:
            try:
                _refuse_odd_row(row)
                yield row["date"], _value(row["price_usd"]), _value(row["difficulty"])
            except ValueError as error:
                raise HistoryError(f"{path}, line {table.line_num}: {error}") from error


def _refuse_odd_row(row: Mapping[Any, Any]) -> None:
    if None in row:  # where DictReader puts what is too much; 40,000 without quotes would be read as 40
        raise ValueError("more values than columns")
    day_number(row["date"] or "")


def _value(text: str | None) -> float | None:
    return float(text) if text else None
