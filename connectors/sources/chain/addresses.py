"""The exchange addresses that come with the project: read, checked, dated. What they are worth says the README beside them."""

from __future__ import annotations

import csv
import re
from datetime import datetime, timezone
from pathlib import Path

from market.events import ExchangeKind
from market.exchanges import AddressBook, ExchangeAddress

ADDRESS_FILE = Path(__file__).with_name("exchange_addresses.csv")
COLUMNS = ["address", "exchange", "kind", "source", "valid_from", "valid_to"]
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")


class AddressFileError(Exception):
    """A list of addresses that cannot be used. ``line`` counts from 1, the header being the first."""

    def __init__(self, line: int, reason: str) -> None:
        """Keep the place."""
        super().__init__(f"line {line}: {reason}")
        self.line = line


def exchange_addresses(path: Path = ADDRESS_FILE) -> AddressBook:
    """Return the list in a CSV file of :data:`COLUMNS`: the one that comes with the project, unless told otherwise.

    ``valid_from`` is the first day (UTC) on which an address counts, ``valid_to`` the first on which it no longer does; empty
    means open.

    Raises:
        AddressFileError: A column, an address, a kind or a date that is none.
        AddressBookError: An address with two owners at once.
        OSError: The file cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        if rows.fieldnames != COLUMNS:
            raise AddressFileError(1, f"columns {rows.fieldnames}, wanted {COLUMNS}")
        return AddressBook(tuple(_entry(line, row) for line, row in enumerate(rows, start=2)))


def _entry(line: int, row: dict[str, str]) -> ExchangeAddress:
    address = (row["address"] or "").lower()
    if _ADDRESS.fullmatch(address) is None:
        raise AddressFileError(line, f"{address!r} is no address")
    try:
        kind = ExchangeKind(row["kind"])
        return ExchangeAddress(address, row["exchange"], kind, _midnight_us(row["valid_from"]), _midnight_us(row["valid_to"]))
    except ValueError as error:
        raise AddressFileError(line, str(error)) from error


def _midnight_us(day: str) -> int | None:
    if not day:
        return None
    midnight = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    return int(midnight.timestamp()) * 1_000_000
