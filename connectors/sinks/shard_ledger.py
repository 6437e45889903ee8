"""Who has which share of the assets, and how far: a small Delta table beside the others, ``_shards``.

One row per generation and shard. A generation is a division of the assets that was begun together and can be told from every
other one: it has feed partitions, and so transaction ids, of its own. A shard that has finished leaves its keyed states in its
row, for whoever begins the next generation; so they travel wherever the tables are, object stores included.

Every change carries one transaction id, counted up. Of two processes that change the table at once one is refused: it has to
read again and to decide anew.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import cast

import msgspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from connectors.sinks.delta_tables import STORE_ERRORS, DeltaTablesError
from market.shards import Shard

LEDGER_NAME = "_shards"
"""Beside the tables; the underscore keeps tools that list a folder's tables away from it."""

_APP_ID = "cascadewatch:shards"
_SCHEMA = pa.schema(
    [
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("partition", pa.string(), nullable=False),
        pa.field("next_sequence", pa.int64(), nullable=False),
        pa.field("begun_us", pa.int64(), nullable=False),
        pa.field("states", pa.binary(), nullable=False),
    ]
)
_PARTITION_BY = ["generation", "index"]  # so that a row is replaced by replacing its file
_KEPT_COMMITS = "30"  # a checkpoint so often: the table is changed at starts and stops only


class LedgerConflictError(Exception):
    """Somebody else has changed the ledger since it was read: read it again."""


class ShardStatus(str, enum.Enum):
    """How a shard's share fares."""

    RUNNING = "running"  # begun and not finished: its process runs, or was killed
    DRAINED = "drained"  # all that it received is in the tables, and its states are here
    GIVEN_UP = "given_up"  # somebody has declared its volume lost


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """One shard in one generation.

    Attributes:
        partition: Its feed partition.
        next_sequence: The first number that it has not given to any frame; while it runs, the first one that it could give.
        begun_us: When it began; tells one volume from another.
    """

    generation: int
    shard: Shard
    status: ShardStatus
    partition: str
    next_sequence: int
    begun_us: int

    @property
    def is_finished(self) -> bool:
        """Whether nobody will write its rows any more."""
        return self.status is not ShardStatus.RUNNING


class Ledger(msgspec.Struct, frozen=True):
    """The table at one moment. ``tenures`` are in the order of generations and shards."""

    tenures: tuple[Tenure, ...]
    changes: int = 0

    @property
    def newest(self) -> tuple[Tenure, ...]:
        """Of the newest generation; none when there is none."""
        return self.of(max((each.generation for each in self.tenures), default=0))

    def of(self, generation: int) -> tuple[Tenure, ...]:
        """Of one generation."""
        return tuple(each for each in self.tenures if each.generation == generation)

    def before(self, generation: int) -> tuple[Tenure, ...]:
        """Of the one that this generation carries on; none when it was the first."""
        return self.of(max((each.generation for each in self.tenures if each.generation < generation), default=0))


class ShardLedger:
    """The table."""

    def __init__(self, root_uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Describe it; nothing is touched yet.

        Args:
            root_uri: Folder or object-store prefix of all tables.
            storage_options: For the object store, as delta-rs names them.
        """
        self.uri = f"{root_uri.rstrip('/')}/{LEDGER_NAME}"
        self._storage_options = dict(storage_options or {})

    def read(self) -> Ledger:
        """Return what is there; nothing when no process was ever a shard.

        Raises:
            DeltaTablesError: It cannot be read, or is not this program's.
        """
        try:
            handle = self._handle()
            if handle is None:
                return Ledger(())
            rows = handle.to_pyarrow_table(columns=[name for name in _SCHEMA.names if name != "states"]).to_pylist()
        except STORE_ERRORS as error:
            raise self._unreadable(error) from error
        tenures = sorted(map(_tenure, rows), key=lambda each: (each.generation, each.shard))
        return Ledger(tuple(tenures), _changes(handle))

    def write(self, ledger: Ledger, tenure: Tenure, states: bytes = b"") -> None:
        """Put a row in the place of the one for the same shard and generation, if nobody has changed anything meanwhile.

        Args:
            ledger: As it was when this was decided.
            tenure: The row.
            states: What the shard leaves to the next generation.

        Raises:
            LedgerConflictError: Somebody has.
            DeltaTablesError: The store does not take it.
        """
        try:
            handle = self._handle() or self._made()
            if _changes(handle) != ledger.changes:
                raise LedgerConflictError
            write_deltalake(
                handle,
                _row(tenure, states),
                mode="overwrite",
                predicate=f"generation = {tenure.generation} AND index = {tenure.shard.index}",
                commit_properties=_counted(ledger.changes + 1),
            )
        except CommitFailedError as error:
            raise LedgerConflictError from error
        except STORE_ERRORS as error:
            raise DeltaTablesError(f"cannot write {self.uri}: {error}") from error

    def states(self, generation: int) -> dict[int, bytes]:
        """Return what the shards of a generation have left, by index; nothing of one that was given up.

        Raises:
            DeltaTablesError: It cannot be read.
        """
        try:
            handle = self._handle()
            if handle is None:
                return {}
            rows = handle.to_pyarrow_table(filters=[("generation", "=", generation)]).to_pylist()
        except STORE_ERRORS as error:
            raise self._unreadable(error) from error
        return {row["index"]: row["states"] for row in rows if row["states"]}

    def forget_before(self, generation: int) -> None:
        """Drop older generations, and files that no row has needed for a week. What cannot be dropped now stays.

        Raises:
            DeltaTablesError: The store cannot be reached.
        """
        try:
            handle = self._handle()
            if handle is not None:
                handle.delete(f"generation < {generation}", commit_properties=_counted(_changes(handle) + 1))
                handle.vacuum(dry_run=False)
        except CommitFailedError:
            return
        except STORE_ERRORS as error:
            raise DeltaTablesError(f"cannot write {self.uri}: {error}") from error

    def _handle(self) -> DeltaTable | None:
        try:
            handle = DeltaTable(self.uri, storage_options=self._storage_options)
        except TableNotFoundError:
            return None
        if not pa.schema(handle.schema().to_arrow()).equals(_SCHEMA):
            raise DeltaTablesError(f"the table {self.uri} has other columns than this version of the program writes")
        return handle

    def _made(self) -> DeltaTable:
        DeltaTable.create(
            self.uri,
            schema=_SCHEMA,
            mode="ignore",  # another shard may have been quicker
            partition_by=_PARTITION_BY,
            name=LEDGER_NAME,
            description="Which process has which share of the assets; written by cascadewatch, for itself",
            configuration={"delta.checkpointInterval": _KEPT_COMMITS},
            storage_options=self._storage_options,
        )
        return cast("DeltaTable", self._handle())

    def _unreadable(self, error: Exception) -> DeltaTablesError:
        return DeltaTablesError(f"cannot read {self.uri}: {error}")


def _changes(handle: DeltaTable) -> int:
    return handle.transaction_version(_APP_ID) or 0


def _counted(change: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_APP_ID, change)])


def _tenure(row: Mapping[str, object]) -> Tenure:
    return Tenure(
        generation=cast("int", row["generation"]),
        shard=Shard(cast("int", row["index"]), cast("int", row["count"])),
        status=ShardStatus(row["status"]),
        partition=cast("str", row["partition"]),
        next_sequence=cast("int", row["next_sequence"]),
        begun_us=cast("int", row["begun_us"]),
    )


def _row(tenure: Tenure, states: bytes) -> pa.Table:
    row = {
        "generation": tenure.generation,
        "index": tenure.shard.index,
        "count": tenure.shard.count,
        "status": tenure.status.value,
        "partition": tenure.partition,
        "next_sequence": tenure.next_sequence,
        "begun_us": tenure.begun_us,
        "states": states,
    }
    return pa.Table.from_pylist([row], schema=_SCHEMA)
