"""The rows of recorded tables, in the order in which they were received, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from connectors.sinks.delta_tables import DeltaTablesError, SchemaDiffersError
from connectors.sinks.tables import schema_of
from connectors.sources.recorded import DERIVATIVES_FEED, LIQUIDATIONS_FEED, RecordedDerivatives, RecordedLiquidation

if TYPE_CHECKING:
    import pyarrow.dataset as ds  # at run time it loads pandas, where there is one: half a second of every start

MOST_ROWS = 200_000
"""Of one table in memory at once, unless a single second holds more: some 50 MB."""

_TIME = pa.timestamp("us", tz="UTC")
_ORDER = ("receive_time", "feed_partition", "sequence")
_BATCH_ROWS = 5_000  # turned into Python at once
_SHORTEST = timedelta(seconds=1)

Row = tuple[int, str, int, str, bytes]
"""Receive time in microseconds, feed partition, sequence, feed, payload: what sorts first is what came first."""


@dataclass(frozen=True)
class _Recording:
    """One table.

    Attributes:
        row_type: What the payload is the JSON of; its fields are columns, where a name in ``…_us`` is a time.
    """

    name: str
    feed: str
    row_type: Callable[..., msgspec.Struct]
    fields: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The columns that are read: the fields', then the cause's."""
        return [*(field.removesuffix("_us") for field in self.fields), *_ORDER]


_RECORDINGS = (
    _Recording("liquidations", LIQUIDATIONS_FEED, RecordedLiquidation, RecordedLiquidation.__struct_fields__),
    _Recording("derivatives", DERIVATIVES_FEED, RecordedDerivatives, RecordedDerivatives.__struct_fields__),
)


def recorded_rows(uri: str, storage_options: Mapping[str, str] | None = None) -> Callable[[], Iterator[Row]]:
    """Open the tables; return what reads their rows from the beginning, in order, as of now.

    Rows of one frame stay as they were written.

    Raises:
        FileNotFoundError: Neither table is there.
        SchemaDiffersError: A column is missing or of another type.
        DeltaTablesError: The store cannot be reached.
    """
    opened = [(recording, _open(recording, uri.rstrip("/"), dict(storage_options or {}))) for recording in _RECORDINGS]
    found = [(recording, table) for recording, table in opened if table is not None]
    if not found:
        names = " or ".join(recording.name for recording in _RECORDINGS)
        raise FileNotFoundError(f"there is no table {names} at {uri}")
    return lambda: heapq.merge(*(_rows(recording, table) for recording, table in found))


def _open(recording: _Recording, uri: str, storage_options: dict[str, str]) -> DeltaTable | None:
    try:
        table = DeltaTable(f"{uri}/{recording.name}", storage_options=storage_options)
        found = pa.schema(table.schema().to_arrow())
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise DeltaTablesError(f"cannot open the table {uri}/{recording.name}: {error}") from error
    wanted = schema_of(recording.name)
    for column in recording.columns:
        if column not in found.names or found.field(column).type != wanted.field(column).type:
            raise SchemaDiffersError(
                f"the table {uri}/{recording.name} has no column {column} of type {wanted.field(column).type}: "
                "replay it with the version that made it"
            )
    return table


def _rows(recording: _Recording, table: DeltaTable) -> Iterator[Row]:
    whole: ds.FileSystemDataset = table.to_pyarrow_dataset()
    for day in sorted({date.fromisoformat(partition["date"]) for partition in table.partitions()}):
        files = list(whole.get_fragments(filter=pc.field("date") == pa.scalar(day)))
        dataset = type(whole)(files, whole.schema, whole.format, whole.filesystem)
        begin = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
        for rows in _slices(dataset, recording.columns, begin, begin + timedelta(days=1)):
            yield from _in_order(recording, rows)


def _slices(dataset: ds.Dataset, columns: list[str], begin: datetime, end: datetime) -> Iterator[pa.Table]:
    """Read what was received from ``begin`` until before ``end``, halved in time until each part is small enough."""
    # Whole seconds: file statistics, by which files are left out, may be cut to milliseconds.
    wanted = (pc.field("receive_time") >= pa.scalar(begin, _TIME)) & (pc.field("receive_time") < pa.scalar(end, _TIME))
    if dataset.count_rows(filter=wanted) > MOST_ROWS and end - begin > _SHORTEST:
        middle = begin + timedelta(seconds=(end - begin) // _SHORTEST // 2)
        yield from _slices(dataset, columns, begin, middle)
        yield from _slices(dataset, columns, middle, end)
    else:
        yield dataset.to_table(columns=columns, filter=wanted)


def _in_order(recording: _Recording, rows: pa.Table) -> Iterator[Row]:
    order = pc.sort_indices(rows, sort_keys=[(column, "ascending") for column in _ORDER])  # stable
    for batch in rows.take(order).to_batches(max_chunksize=_BATCH_ROWS):
        receive_times_us, partitions, sequences = (_plain(batch.column(column)) for column in _ORDER)
        values = zip(*(_plain(batch.column(column)) for column in recording.columns[: -len(_ORDER)]), strict=True)
        encode, row_type, feed = msgspec.json.encode, recording.row_type, recording.feed
        for receive_time_us, partition, sequence, row in zip(receive_times_us, partitions, sequences, values, strict=True):
            yield receive_time_us, partition, sequence, feed, encode(row_type(*row))


def _plain(column: pa.Array) -> list[Any]:
    """Return a column's values; times in microseconds. By way of numpy, which takes a tenth of the time of ``to_pylist``."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any]
    if column.null_count:
        values = column.to_pylist()
    elif pa.types.is_string(column.type):  # a few names, again and again
        words = column.dictionary_encode()
        values = list(map(words.dictionary.to_pylist().__getitem__, words.indices.to_numpy().tolist()))
    else:
        values = column.to_numpy().tolist()
    return values
