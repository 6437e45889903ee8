"""The Delta tables: making them, refusing foreign ones, and commits that can be repeated without harm.

A commit carries one transaction id per feed partition, whose version is the highest sequence number in it. delta-rs refuses
neither an equal nor a lower version, so what a table has is compared before every commit. Two processes that write the same
feed partition are caught: one of them finds a version that it never wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import PostCommitHookProperties

from connectors.sinks.sequences import NOTHING, Highs, rows_after
from connectors.sinks.table_columns import Table
from connectors.sinks.tables import TABLES

STORE_ERRORS = (DeltaError, OSError)
"""What delta-rs raises when the store is away, slow, full or refuses."""

PARTITION_BY = "date"

DEFAULT_OLD_VERSIONS_HOURS = 24
"""How long what only old versions need is kept. Delta's own 7 and 30 days would be 500,000 log entries at a commit every 5 s,
and whoever opens a table, or commits to it, goes through what is kept: 1,000 entries cost about 3 ms each time."""

_CHECKPOINT_EVERY = 100  # commits: opening 1,000 without a checkpoint takes 332 ms, with one every 100 9 ms
_REOPEN_EVERY = 100  # commits: a held handle gets slower with each of them
_MAX_COMMIT_RETRIES = 100  # other shards append to the same tables; each lost race costs a retry
_TRIES = 3  # of a commit: maintenance may change properties and then delete expired rows, each of which breaks a held handle

# Expired log files are the maintenance command's business: looking for them would list the log on every checkpoint.
_AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


class DeltaTablesError(Exception):
    """The tables cannot be used as they are; trying again would not help."""


class SchemaDiffersError(DeltaTablesError):
    """Rows or a table have other columns than this version of the program writes."""


class OtherWriterError(DeltaTablesError):
    """Another process writes the rows of the same feed partition."""


class TableBehindError(DeltaTablesError):
    """A table lacks rows that the data directory knows to be written: somebody put an older one back."""


def app_id(feed_partition: str) -> str:
    """Return the transaction id under which a feed partition's rows are committed."""
    return f"cascadewatch:{feed_partition}"


def table_properties(old_versions_hours: int = DEFAULT_OLD_VERSIONS_HOURS) -> dict[str, str]:
    """Return the Delta properties of every table; nothing else is set, and transaction ids above all never expire.

    Statistics of all columns would be twice the work of a commit with 114 columns, and of opening the table. Only those by
    which files can be skipped are kept: the rows of a file belong together in time, but not in asset or venue.

    Args:
        old_versions_hours: How long what only old versions need is kept, at least.
    """
    kept = f"interval {old_versions_hours} hours"
    return {
        "delta.checkpointInterval": str(_CHECKPOINT_EVERY),
        "delta.dataSkippingStatsColumns": "sequence,receive_time",
        "delta.deletedFileRetentionDuration": kept,
        "delta.logRetentionDuration": kept,
    }


class DeltaTables:
    """All tables under one folder or object-store prefix."""

    def __init__(
        self, root_uri: str, storage_options: Mapping[str, str] | None = None, tables: Sequence[Table] = TABLES
    ) -> None:
        """Describe the tables; nothing is touched before :meth:`open`.

        Args:
            root_uri: A path, or a URI such as ``s3://bucket/prefix``.
            storage_options: For the object store, as delta-rs names them.
            tables: All that there are.
        """
        self.root_uri = root_uri.rstrip("/")
        self._storage_options = dict(storage_options or {})
        self._tables = {table.name: table for table in tables}
        self._opened: dict[str, DeltaTable] = {}  # as they were at first; only read
        self._committed_at_first: dict[tuple[str, str], int] = {}
        self._handles: dict[str, DeltaTable] = {}  # belong to the committing thread
        self._commits_of_handle: dict[str, int] = {}
        self._expected: dict[tuple[str, str], set[int]] = {}  # what a table may have: what it had, and what was tried since

    @property
    def names(self) -> list[str]:
        """Of all tables."""
        return list(self._tables)

    def uri(self, name: str) -> str:
        """Return where a table is."""
        return f"{self.root_uri}/{name}"

    def open(self) -> None:
        """Make the tables that are missing and check the others. Does nothing the second time.

        Raises:
            SchemaDiffersError: A table is there with other columns.
            DeltaTablesError: The store cannot be reached.
        """
        for name, table in self._tables.items():
            if name not in self._opened:
                try:
                    self._opened[name] = self._open_or_create(table)
                except STORE_ERRORS as error:
                    raise DeltaTablesError(
                        f"cannot open the table {self.uri(name)}: {str(error).strip()}\nCheck sink.tables_uri and "
                        "sink.storage_options, and that the store answers from here"
                    ) from error

    def committed(self, name: str, feed_partition: str) -> int:
        """Return the highest sequence number that a table held of a feed partition when it was opened; 0 when none."""
        key = (name, feed_partition)
        if key not in self._committed_at_first:
            version = self._version_at_first(name, app_id(feed_partition))
            self._committed_at_first[key] = NOTHING if version is None else version
        return self._committed_at_first[key]

    def newest_receive_time_us(self) -> int:
        """Return the receive time of the newest row of any table when it was opened; 0 when there is none."""
        files = (pa.table(self._handle(name).get_add_actions(flatten=True)) for name in self._opened)
        newest = [pc.max(each["max.receive_time"]) for each in files if "max.receive_time" in each.column_names]
        return max((time.value for time in newest if time.is_valid), default=0)

    def _version_at_first(self, name: str, transaction_id: str) -> int | None:
        """Look a transaction id up before this process commits anything under it."""
        try:
            return self._opened[name].transaction_version(transaction_id)
        except STORE_ERRORS:  # read from the log only now, and the log entries of that version may have expired since
            self._opened[name] = self._handle(name)
            return self._opened[name].transaction_version(transaction_id)

    def check_rows(self, name: str, rows: pa.Table) -> None:
        """Compare columns, because delta-rs would cast silently.

        Raises:
            SchemaDiffersError: They are not exactly the table's.
            DeltaTablesError: There is no such table.
        """
        if name not in self._tables:
            raise DeltaTablesError(f"there is no table {name} in this version of the program, but there are rows for it")
        _compare(f"rows for {self.uri(name)}", rows.schema, self._tables[name].row_schema)

    def commit(self, name: str, rows: pa.Table, highs: Highs) -> int:
        """Append what the table does not have yet, in one commit. Returns the number of rows appended.

        Args:
            name: Of the table.
            rows: Whole frames: no row of theirs may come later.
            highs: Highest sequence number per feed partition in ``rows``.

        Raises:
            DeltaError: The store failed; try again later. So does ``OSError``.
            DeltaTablesError: Trying again would not help.
        """
        self.check_rows(name, rows)
        for _ in range(_TRIES - 1):
            is_held = name in self._handles
            try:
                return self._commit_once(name, rows, highs)
            except DeltaError as error:
                # Other properties, rows deleted and log entries gone each break a held handle for good; the next one is fresh.
                if not (is_held or isinstance(error, CommitFailedError)):
                    raise
        return self._commit_once(name, rows, highs)

    def _commit_once(self, name: str, rows: pa.Table, highs: Highs) -> int:
        try:
            return self._append(name, self._handles.get(name) or self._reopened(name), rows, highs)
        except BaseException:
            self._handles.pop(name, None)
            raise

    def _append(self, name: str, handle: DeltaTable, rows: pa.Table, highs: Highs) -> int:
        committed = {partition: self._committed_now(name, handle, partition) for partition in highs}
        new_rows = rows_after(rows, committed.__getitem__)
        if new_rows.num_rows == 0:
            return 0
        new_highs = {partition: high for partition, high in highs.items() if high > committed[partition]}
        for partition, high in new_highs.items():
            self._expected[name, partition].add(high)  # before: a commit that fails may be in the table all the same
        write_deltalake(
            handle,
            new_rows,
            mode="append",
            commit_properties=CommitProperties(
                app_transactions=[Transaction(app_id(partition), high) for partition, high in new_highs.items()],
                max_commit_retries=_MAX_COMMIT_RETRIES,
            ),
            post_commithook_properties=_AFTER_COMMIT,
        )
        self._count(name, handle)
        return int(new_rows.num_rows)

    def _committed_now(self, name: str, handle: DeltaTable, feed_partition: str) -> int:
        """Return what a table has of a feed partition, which must be what it had when last looked at, or what was tried."""
        version = handle.transaction_version(app_id(feed_partition))
        committed = NOTHING if version is None else version
        expected = self._expected.get((name, feed_partition)) or {self.committed(name, feed_partition)}
        if committed not in expected:
            raise OtherWriterError(
                f"the table {self.uri(name)} has rows of feed partition {feed_partition!r} up to frame {committed}, but this "
                f"process has written up to {max(expected)}: another process writes the same feed partition. Stop one of "
                "them, or give each its own shard"
            )
        self._expected[name, feed_partition] = {committed}
        return committed

    def _reopened(self, name: str) -> DeltaTable:
        handle = self._handle(name)
        self._check_table(name, handle)
        self._handles[name] = handle
        self._commits_of_handle[name] = 0
        return handle

    def _count(self, name: str, handle: DeltaTable) -> None:
        """Drop the handle when it has grown slow or a checkpoint makes opening anew quick."""
        self._commits_of_handle[name] += 1
        has_checkpoint = (handle.version() + 1) % _CHECKPOINT_EVERY == 0
        if has_checkpoint or self._commits_of_handle[name] >= _REOPEN_EVERY:
            del self._handles[name]

    def _open_or_create(self, table: Table) -> DeltaTable:
        try:
            handle = self._handle(table.name)
        except TableNotFoundError:
            DeltaTable.create(
                self.uri(table.name),
                schema=table.schema,
                mode="ignore",  # another shard may have been quicker
                partition_by=PARTITION_BY,
                name=table.name,
                description=table.comment,
                configuration=table_properties(),
                storage_options=self._storage_options,
            )
            handle = self._handle(table.name)
        self._check_table(table.name, handle)
        return handle

    def _handle(self, name: str) -> DeltaTable:
        return DeltaTable(self.uri(name), storage_options=self._storage_options)

    def _check_table(self, name: str, handle: DeltaTable) -> None:
        found = pa.schema(handle.schema().to_arrow())
        _compare(f"the table {self.uri(name)}", found, self._tables[name].row_schema)
        partitioned_by = handle.metadata().partition_columns
        if partitioned_by != [PARTITION_BY]:
            raise SchemaDiffersError(f"the table {self.uri(name)} is partitioned by {partitioned_by}, not by {PARTITION_BY}")


def _compare(what: str, found: pa.Schema, wanted: pa.Schema) -> None:
    """Raise unless columns, their order, types and nullability are the same; comments may differ."""
    if found.equals(wanted):
        return
    there, here = ([str(field.remove_metadata()) for field in schema] for schema in (found, wanted))
    differing = ((a, b) for a, b in zip_longest(there, here, fillvalue="no column") if a != b)
    other, ours = next(differing)
    raise SchemaDiffersError(
        f"{what}: it has «{other.removeprefix('pyarrow.Field')}» where this version of the program writes "
        f"«{ours.removeprefix('pyarrow.Field')}». Run the version that made it, or move it away"
    )
