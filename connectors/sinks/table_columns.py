"""What a table and a column are, and how events become Arrow.

A column says where in an event its value is, as a path (see :class:`connectors.sinks.row_reader.Cell`). Whatever is missing
on the way makes the value null, never zero.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from connectors.sinks.row_reader import Cell, RowReader, row_reader

Derive = Callable[[Any], Any]
"""Makes a column's value from what is at its path; never called with None."""

TIMESTAMP = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.field("element", pa.string()))  # as Delta calls it, so that schemas compare equal
NUMBERS_BY_NAME = pa.map_(pa.string(), pa.float64())

_MICROS_PER_USD = 1e6
_DAY_US = 86_400_000_000


def _usd_of_micros(micros: int) -> float:
    return micros / _MICROS_PER_USD


def _date_of_us(time_us: int) -> int:
    return time_us // _DAY_US


def _in_order(numbers: dict[str, float]) -> list[tuple[str, float]]:
    """Sorted by name, so that equal dicts give equal rows."""
    return sorted(numbers.items())


def _shares(amounts: dict[str, int]) -> list[tuple[str, float]]:
    total = sum(amounts.values()) or 1
    return [(name, amounts[name] / total) for name in sorted(amounts)]


def _place(place: int) -> Derive:
    def of_tuples(numbers: dict[str, tuple[float | None, ...]]) -> list[tuple[str, float]]:
        return [(name, number) for name in sorted(numbers) if (number := numbers[name][place]) is not None]

    return of_tuples


def _after(first: Derive | None, then: Derive) -> Derive:
    """Chain two of them; what the first makes None stays None."""
    if first is None:
        return then

    def derive(value: Any) -> Any:
        made = first(value)
        return None if made is None else then(made)

    return derive


@dataclass(frozen=True)
class Column:
    """One column: part of the contract with users.

    Attributes:
        comment: What it holds, with its unit; stored in the Delta schema.
        path: Where the value is, from the event on; empty for the event itself.
        derive: Makes the value, in Arrow's terms, from what is there; None to take it as it is.
        is_required: Never null.
    """

    name: str
    type: pa.DataType
    comment: str
    path: str
    derive: Derive | None = None
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
        row_type: Of one row as a struct.
        read_row: Takes an event and returns the values of its row.
    """

    name: str
    event_type: type
    comment: str
    columns: tuple[Column, ...]
    schema: pa.Schema = field(init=False, compare=False)
    row_schema: pa.Schema = field(init=False, compare=False)
    row_type: pa.StructType = field(init=False, compare=False)
    read_row: RowReader = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Put the Arrow schemas and the reader together once."""
        fields = [column.field for column in self.columns]
        object.__setattr__(self, "schema", pa.schema(fields))
        object.__setattr__(self, "row_schema", pa.schema([each.remove_metadata() for each in fields]))
        object.__setattr__(self, "row_type", pa.struct(list(self.row_schema)))
        cells = [Cell(column.path, column.derive) for column in self.columns]
        object.__setattr__(self, "read_row", row_reader(self.name, cells))


def text(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a text; enumerations are stored as their values."""
    return Column(name, pa.string(), comment, name if path is None else path, derive)


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
    return Column(name, pa.float64(), comment, path, _after(derive, _usd_of_micros))


def time(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a point in time, kept in events as microseconds since the epoch, by default as ``…_us``."""
    return Column(name, TIMESTAMP, comment, f"{name}_us" if path is None else path, derive)


def day(name: str, comment: str, path: str | None = None) -> Column:
    """Describe a UTC day, kept in events as YYYY-MM-DD."""
    return Column(name, pa.date32(), comment, name if path is None else path, dt.date.fromisoformat)


def texts(name: str, comment: str, path: str | None = None, derive: Derive | None = None) -> Column:
    """Describe a list of texts."""
    return Column(name, TEXTS, comment, name if path is None else path, derive)


def numbers_by_name(name: str, comment: str, path: str | None = None) -> Column:
    """Describe doubles by name, kept in events as a dict."""
    return Column(name, NUMBERS_BY_NAME, comment, name if path is None else path, _in_order)


def shares_by_name(name: str, comment: str, path: str) -> Column:
    """Describe fractions of a whole by name, kept in events as a dict of amounts."""
    return Column(name, NUMBERS_BY_NAME, comment, path, _shares)


def place_by_name(name: str, comment: str, path: str, place: int) -> Column:
    """Describe doubles by name, kept in events as one place of the tuples in a dict; unknown ones are left out."""
    return Column(name, NUMBERS_BY_NAME, comment, path, _place(place))


_RECEIVE_TIME = Column(
    "receive_time",
    TIMESTAMP,
    "When the frame that caused this row was received; our clock, UTC",
    "cause.receive_time_us",
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
        derive=_date_of_us,
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
    rows = list(map(described.read_row, events))
    try:
        structs = pa.array(rows, described.row_type)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry: no reason to lose the batch
        structs = pa.array([tuple(map(_encodable, row)) for row in rows], described.row_type)
    return pa.Table.from_batches([pa.RecordBatch.from_struct_array(structs)], described.row_schema)


def _encodable(value: Any) -> Any:
    """Return the value with a question mark for every half of a surrogate pair in its texts."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return [_encodable(each) for each in value] if isinstance(value, list) else value
