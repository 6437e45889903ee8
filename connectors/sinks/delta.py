"""The one sink: rows of every table, each exactly once, through a spool into Delta tables.

Bytewax 0.21.1 calls, within an epoch: the source's ``snapshot``, the remaining ``write_batch``, the sink's ``snapshot``, and
then makes the epoch durable. So when an epoch is durable its rows are in the spool; and when an epoch is replayed, rows that
the spool or the table has are recognised by their sequence numbers and dropped. The partition's state is how far each table
came, and each spool file says the same of the time before it: a start that finds less than that in table and spool refuses,
for the rows in between would be missing unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.sinks.delta_tables import (
    DeltaTables,
    DeltaTablesError,
    OtherWriterError,
    SchemaDiffersError,
    TableBehindError,
)
from connectors.sinks.observer import SinkObserver, SinkObservers
from connectors.sinks.sequences import NOTHING, Highs, merged, rows_after
from connectors.sinks.spool import EncodedRows, Spool
from connectors.sinks.table_columns import Table, to_arrow
from connectors.sinks.tables import TABLE_OF
from connectors.sinks.uploader import Uploader

__all__ = [
    "DeltaSink",
    "DeltaTables",
    "DeltaTablesError",
    "OtherWriterError",
    "RowOrderError",
    "RowsPartition",
    "SchemaDiffersError",
    "TableBehindError",
]

DEFAULT_COMMIT_INTERVAL_SECONDS = 5.0

_PARTITION = "rows"
_CHUNK_CELLS = 2_000  # turned into Arrow at once: a millisecond or two, so that no event behind waits for long


Reached = Mapping[str, Highs]
"""The highest sequence number per table and feed partition that ever was in the table or the spool."""


class RowOrderError(Exception):
    """An event came with a cause older than rows that are durable already: an operator's error."""


class DeltaSink(FixedPartitionedSink[list[Any], Reached]):
    """Lists of events, keyed by any text, become rows of their tables. Events of no table are passed over."""

    def __init__(
        self,
        tables: DeltaTables,
        spool: Spool,
        *,
        commit_interval_seconds: float = DEFAULT_COMMIT_INTERVAL_SECONDS,
        observers: Sequence[SinkObserver] = (),
    ) -> None:
        """Describe the sink; nothing is opened before Bytewax builds the partition, or somebody asks what is there."""
        self._tables = tables
        self._spool = spool
        self._commit_interval_seconds = commit_interval_seconds
        self._observer = SinkObservers(observers)
        self._uploader: Uploader | None = None

    def list_parts(self) -> list[str]:
        """Return the one partition."""
        return [_PARTITION]

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002 - Bytewax's
        """Return the one partition's place."""
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: Reached | None) -> RowsPartition:  # noqa: ARG002 - Bytewax's
        """Open the tables and the spool, and start to commit what is pending.

        Raises:
            DeltaTablesError: The tables cannot be reached, or are not this program's, or are older than this state, or the
                spool holds other rows.
            SpoolError: A file in the spool cannot be read.
        """
        self.open()
        reached = resume_state or {}
        self._check_that_nothing_is_missing(reached)
        for table, files in self._spool.pending().items():
            for file in files:
                self._tables.check_rows(table, self._spool.read(file))
        self._uploader = self._new_uploader()
        self._uploader.start()
        return RowsPartition(self._tables, self._spool, self._uploader, self._observer, reached)

    def _new_uploader(self) -> Uploader:
        return Uploader(self._spool, self._tables, interval_seconds=self._commit_interval_seconds, observer=self._observer)

    def _check_that_nothing_is_missing(self, reached: Reached) -> None:
        pending = self._spool.pending()
        for name in self._tables.names:
            found: Highs = {}
            for file in pending.get(name, ()):
                self._check_reached(name, found, file.follows, f"the spool file {file.path}")
                found = merged((found, file.highs))
            self._check_reached(name, found, reached.get(name, {}), "the saved state")

    def _check_reached(self, name: str, pending: Highs, wanted: Highs, who: str) -> None:
        for feed_partition, sequence in wanted.items():
            found = max(self._tables.committed(name, feed_partition), pending.get(feed_partition, NOTHING))
            if found < sequence:
                raise TableBehindError(
                    f"the table {self._tables.uri(name)} ends at frame {found} of feed partition {feed_partition}, but by "
                    f"{who} it had rows up to frame {sequence}: an older table was put back, or files of the spool taken "
                    "away. Put the newer ones back; or, while the journal has every frame, move recovery and spool aside, "
                    "and all rows are made anew; or run `cascadewatch begin-anew`, which goes on without them"
                )

    def highest_sequence(self, feed_partition: str) -> int:
        """Return the highest sequence number of a feed partition that any table or spool file had at first; 0 when none.

        Raises:
            DeltaTablesError: The tables cannot be reached, or are not this program's.
            SpoolError: A file in the spool cannot be read.
        """
        self.open()
        return max(_reached(self._tables, self._spool, name, feed_partition) for name in self._tables.names)

    def drain(self, timeout_seconds: float) -> bool:
        """Commit what is in the spool, after the flow has ended; says whether all of it was committed in time.

        Raises:
            DeltaTablesError: It never can be.
            SpoolError: A file cannot be read any more.
        """
        return self._uploader is None or self._uploader.drain(timeout_seconds)

    def commit_pending(self, timeout_seconds: float) -> bool:
        """Commit what is in the spool without a flow, whatever is missing before it; says whether it was all in time.

        Raises:
            DeltaTablesError: The tables cannot be reached, are not this program's, or the spool holds other rows.
            SpoolError: A file in the spool cannot be read.
        """
        self.open()
        self._uploader = self._new_uploader()
        return self._uploader.drain(timeout_seconds)

    def release(self) -> None:
        """Have a flow that waits for room in the spool, now or later, wait no more, so that it can end. Any thread.

        Its last rows are spooled beyond the limit: an epoch's, or two.
        """
        self._spool.release()

    @property
    def last_error(self) -> str | None:
        """What is wrong with the store at present."""
        return None if self._uploader is None else self._uploader.last_error

    def open(self) -> None:
        """Open the tables and the spool; does nothing the second time.

        Raises:
            DeltaTablesError: The tables cannot be reached, or are not this program's.
            SpoolError: A file in the spool cannot be read.
        """
        self._spool.observer = self._observer
        self._spool.open()
        self._tables.open()


class RowsPartition(StatefulSinkPartition[list[Any], Reached]):
    """Collect an epoch's rows, and make them durable at its end."""

    def __init__(
        self, tables: DeltaTables, spool: Spool, uploader: Uploader, observer: SinkObserver, reached: Reached
    ) -> None:
        """Start with nothing collected; what the spool and the tables have is looked up per feed partition."""
        self._reached_before = reached
        self._spool = spool
        self._uploader = uploader
        self._observer = observer
        self._buffers = {
            event_type: _Buffer(table, tables, spool, reached.get(table.name, {}))
            for event_type, table in TABLE_OF.items()
            if table.name in tables.names
        }

    def write_batch(self, values: list[list[Any]]) -> None:
        """Take lists of events in the order they come."""
        buffer_of = self._buffers.get
        for events in values:
            for event in events:
                buffer = buffer_of(type(event))
                if buffer is not None:
                    buffer.events.append(event)
        for buffer in self._buffers.values():
            if len(buffer.events) >= buffer.chunk_events:
                buffer.pack()

    def snapshot(self) -> Reached:
        """Make the epoch's rows durable in the spool, and return how far that is; waits while it is full.

        Raises:
            SpoolError: They could not be made durable; the epoch must not become durable either.
            RowOrderError: An operator gave an event a cause of long ago.
        """
        for buffer in self._buffers.values():
            rows = buffer.take()
            if rows is not None:
                self._spool.write(buffer.table.name, rows)
                self._observer.rows_spooled(buffer.table.name, rows.rows)
        now = {buffer.table.name: reached for buffer in self._buffers.values() if (reached := buffer.reached())}
        return {**self._reached_before, **now}

    def close(self) -> None:
        """Stop committing. Bytewax calls this after a panic too, so nothing is written here."""
        self._uploader.stop()


_sequence = attrgetter("cause.sequence")


class _Buffer:
    """One table's events and rows of the epoch."""

    def __init__(self, table: Table, tables: DeltaTables, spool: Spool, reached_before: Highs) -> None:
        self.table = table
        self.events: list[Any] = []
        self.chunk_events = _CHUNK_CELLS // len(table.columns)
        self._tables = tables
        self._spool = spool
        self._reached_before = reached_before
        self._reached_at_first: dict[str, int] = {}
        self._rows: EncodedRows | None = None

    def reached(self) -> dict[str, int]:
        """Return how far the table came, with its spool, in this run and before."""
        return merged((self._reached_before, self._reached_at_first, self._spool.highs(self.table.name)))

    def pack(self) -> None:
        """Encode events as rows, in order of their frames.

        Replayed ones, which the spool or the table had when this process started, are dropped.

        Raises:
            RowOrderError: One is of an earlier epoch.
        """
        events, self.events = self.events, []
        events.sort(key=_sequence)  # stable: events of one frame stay as they are
        rows = rows_after(to_arrow(self.table, events), self._had_at_first)
        if not rows.num_rows:
            return
        if rows_after(rows, self._reached_now) is not rows:
            raise RowOrderError(
                f"a row for {self.table.name} names a frame of an earlier epoch as its cause: after a restart it would be "
                "taken for a repetition. Whatever derives events must give them the cause of the item in hand"
            )
        if self._rows is None:
            self._rows = EncodedRows(self.table.row_schema, self.reached())
        self._rows.add(rows)

    def take(self) -> EncodedRows | None:
        """Return the epoch's rows and begin anew; None when there are none."""
        if self.events:
            self.pack()
        rows, self._rows = self._rows, None
        return rows

    def _reached_now(self, feed_partition: str) -> int:
        return _reached(self._tables, self._spool, self.table.name, feed_partition)

    def _had_at_first(self, feed_partition: str) -> int:
        """Return what was there before this process wrote its own first row of that feed partition."""
        if feed_partition not in self._reached_at_first:
            self._reached_at_first[feed_partition] = self._reached_now(feed_partition)
        return self._reached_at_first[feed_partition]


def _reached(tables: DeltaTables, spool: Spool, table: str, feed_partition: str) -> int:
    return max(tables.committed(table, feed_partition), spool.reached(table, feed_partition))
