"""What a table and a column are, and how events become Arrow.

A column says where in an event its value is, as a path (see :class:`connectors.sinks.table_parts.Parts`). Whatever is missing
on the way makes the value null, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.sinks.table_parts import Parts

Derive = Callable[[Any], Any]
"""Makes a column's value from what is at its path; never called with None."""

Encode = Callable[[Parts, "Column"], pa.Array]
"""Makes a column's Arrow array from a batch of events."""

TIMESTAMP = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.field("element", pa.string()))  # as Delta calls it, so that schemas compare equal
NUMBERS_BY_NAME = pa.map_(pa.string(), pa.float64())

_MICROS_PER_USD = 1e6
# As an Arrow scalar: made from a Python number on each call, it costs a search for pandas (0.2 ms where that is absent).
_DAY_US = pa.scalar(86_400_000_000, pa.int64())


def _plain(parts: Parts, column: Column) -> pa.Array:
    return pa.array(_values(parts, column), column.type)


def _text(parts: Parts, column: Column) -> pa.Array:
    values = _values(parts, column)
    try:
        return pa.array(values, column.type)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry: no reason to lose the batch
        clean = [None if value is None else value.encode("utf-8", "replace").decode() for value in values]
        return pa.array(clean, column.type)


def _usd_of_micros(parts: Parts, column: Column) -> pa.Array:
    micros = _values(parts, column)
    try:
        return pa.array(np.array(micros, np.int64) / _MICROS_PER_USD, column.type)
    except (TypeError, OverflowError):  # None among them, or more than 64 bits hold
        dollars = [None if each is None else each / _MICROS_PER_USD for each in micros]
        return pa.array(dollars, column.type)


def _time_of_us(parts: Parts, column: Column) -> pa.Array:
    if column.derive is None:
        return parts.integers_at(column.path).view(column.type)
    return pa.array(_values(parts, column), pa.int64()).view(column.type)


def _date_of_us(parts: Parts, column: Column) -> pa.Array:
    return pc.divide(parts.integers_at(column.path), _DAY_US).cast(pa.int32()).view(column.type)


def _date_of_text(parts: Parts, column: Column) -> pa.Array:
    return pa.array(_values(parts, column), pa.string()).cast(column.type)


def _map(parts: Parts, column: Column) -> pa.Array:
    dicts = parts.dicts_at(column.path)
    return dicts.encode(np.fromiter(dicts.values(), np.float64, len(dicts.rows)), column.type)


def _map_of_shares(parts: Parts, column: Column) -> pa.Array:
    dicts = parts.dicts_at(column.path)
    amounts = np.fromiter(dicts.values(), np.float64, len(dicts.rows))
    sums = np.bincount(dicts.rows, weights=amounts, minlength=1)
    return dicts.encode(amounts / np.maximum(sums[dicts.rows], 1.0), column.type)


def _map_of_place(place: int) -> Encode:
    def encode(parts: Parts, column: Column) -> pa.Array:
        dicts = parts.dicts_at(column.path)
        numbers = np.array([numbers[place] for numbers in dicts.values()], np.float64)  # None becomes NaN
        return dicts.encode(numbers, column.type)

    return encode


def _values(parts: Parts, column: Column) -> Sequence[Any]:
    values = parts.at(column.path)
    derive = column.derive
    if derive is None:
        return values
    return [None if value is None else derive(value) for value in values]


@dataclass(frozen=True)
class Column:
    """One column: part of the contract with users.

    Attributes:
        comment: What it holds, with its unit; stored in the Delta schema.
        path: Where the value is, from the event on; empty for the event itself.
        derive: Makes the value from what is there; None to take it as it is.
        encode: Makes the Arrow array from a column of values.
        is_required: Never null.
    """

    name: str
    type: pa.DataType
    comment: str
    path: str
    derive: Derive | None = None
    encode: Encode = _plain
    is_required: bool = False

    @property
    def field(self) -> pa.Field:
        """The Arrow field with its comment."""
        return pa.field(self.name, self.type, nullable=not self.is_required, metadata={"comment": self.comment})


@dataclass(frozen=True)
class Table:
    """One Delta table: its rows are the events of one type.

    Attributes:
        columns: All of them, in order.
        schema: The Arrow schema with comments, as Delta keeps it.
        row_schema: The same without comments, as rows carry it.
    """

    name: str
    event_type: type
    comment: str
    columns: tuple[Column, ...]
    schema: pa.Schema = field(init=False, compare=False)
    row_schema: pa.Schema = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Put the Arrow schemas together once."""
        fields = [column.field for column in self.columns]
        object.__setattr__(self, "schema", pa.schema(fields))
        object.__setattr__(self, "row_schema", pa.schema([each.remove_metadata() for each in fields]))


def text(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a text; enumerations are stored as their values."""
    return Column(name, pa.string(), comment, name if path is None else path, derive, _text)


def number(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a double."""
    return Column(name, pa.float64(), comment, name if path is None else path, derive)


def count(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a 64-bit whole number."""
    return Column(name, pa.int64(), comment, name if path is None else path, derive)


def flag(name: str, comment: str, path: str | None = None) -> Column:
    """Describe a truth value."""
    return Column(name, pa.bool_(), comment, name if path is None else path)


def blob(name: str, comment: str, path: str | None = None) -> Column:
    """Describe bytes."""
    return Column(name, pa.binary(), comment, name if path is None else path)


def usd(name: str, comment: str, path: str, derive: Derive | None = None) -> Column:
    """Describe an amount of USD, kept in events as integer micro-USD."""
    return Column(name, pa.float64(), comment, path, derive, _usd_of_micros)


def time(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a point in time, kept in events as microseconds since the epoch, by default as ``…_us``."""
    return Column(name, TIMESTAMP, comment, f"{name}_us" if path is None else path, derive, _time_of_us)


def day(name: str, comment: str, path: str | None = None) -> Column:
    """Describe a UTC day, kept in events as YYYY-MM-DD."""
    return Column(name, pa.date32(), comment, name if path is None else path, None, _date_of_text)


def texts(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a list of texts."""
    return Column(name, TEXTS, comment, name if path is None else path, derive)


def numbers_by_name(name: str, comment: str, path: str | None = None) -> Column:
    """Describe doubles by name, kept in events as a dict."""
    return Column(name, NUMBERS_BY_NAME, comment, name if path is None else path, None, _map)


def shares_by_name(name: str, comment: str, path: str) -> Column:
    """Describe fractions of a whole by name, kept in events as a dict of amounts."""
    return Column(name, NUMBERS_BY_NAME, comment, path, None, _map_of_shares)


def place_by_name(name: str, comment: str, path: str, place: int) -> Column:
    """Describe doubles by name, kept in events as one place of the tuples in a dict; unknown ones are left out."""
    return Column(name, NUMBERS_BY_NAME, comment, path, None, _map_of_place(place))


_RECEIVE_TIME = Column(
    "receive_time",
    TIMESTAMP,
    "When the frame that caused this row was received; our clock, UTC",
    "cause.receive_time_us",
    encode=_time_of_us,
    is_required=True,
)
_PLACE = (
    Column(
        "feed_partition",
        pa.string(),
        "Journal that numbered the frame that caused this row",
        "cause.feed_partition",
        is_required=True,
    ),
    Column(
        "sequence",
        pa.int64(),
        "Number of that frame in the journal; rises by one with every frame",
        "cause.sequence",
        is_required=True,
    ),
    Column(
        "date",
        pa.date32(),
        "UTC day of receive_time; the table is partitioned by it",
        "cause.receive_time_us",
        encode=_date_of_us,
        is_required=True,
    ),
)


def table(name: str, event_type: type, comment: str, *columns: Column) -> Table:
    """Put a table together from its own columns and those that all tables have."""
    return Table(name, event_type, comment, (_RECEIVE_TIME, *columns, *_PLACE))


def to_arrow(described: Table, events: Sequence[Any]) -> pa.Table:
    """Return the events as rows of their table, in the order given, with exactly the table's schema.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit its column.
    """
    parts = Parts(events)
    arrays = [column.encode(parts, column) for column in described.columns]
    return pa.Table.from_arrays(arrays, schema=described.row_schema)
