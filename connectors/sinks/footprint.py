"""How much a Delta table takes: live files, all that is stored, log entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileInfo, FileSelector

from connectors.sinks.delta_tables import PARTITION_BY

_ENTRY = re.compile(r"(?:^|/)_delta_log/(\d{20})\.json$")
_CHECKPOINT = re.compile(r"(?:^|/)_delta_log/(\d{20})\.checkpoint\.")


@dataclass(frozen=True)
class DataFile:
    """A file that the newest version needs."""

    day: date
    size_bytes: int
    rows: int


@dataclass(frozen=True)
class Log:
    """The log of a table.

    Attributes:
        written_us: By version, when its entry was written; microseconds since the epoch.
        checkpoints: Versions that have one.
    """

    written_us: dict[int, int]
    checkpoints: frozenset[int]

    @property
    def entries(self) -> int:
        """Number of versions that have an entry."""
        return len(self.written_us)

    @property
    def last_checkpoint(self) -> int | None:
        """Newest version that has a checkpoint."""
        return max(self.checkpoints, default=None)

    def expired(self, before_us: int) -> int:
        """Return how many entries can go: written before that moment, and below a checkpoint that all younger ones follow."""
        young = [version for version, written_us in self.written_us.items() if written_us >= before_us]
        first_needed = min(young, default=max(self.written_us, default=0))
        # When all are old, a checkpoint of the newest version is written first.
        checkpoints = self.checkpoints if young else {*self.checkpoints, first_needed}
        below = max((version for version in checkpoints if version <= first_needed), default=0)
        return sum(version < below for version in self.written_us)


@dataclass(frozen=True)
class Footprint:
    """What a table takes at one version.

    Attributes:
        version: The newest.
        rows: Of that version.
        files: That it needs.
        file_bytes: Theirs.
        stored_bytes: All that is stored below the table's folder, with files of older versions and the log.
        log: Of the table.
    """

    version: int
    rows: int
    files: int
    file_bytes: int
    stored_bytes: int
    log: Log


def data_files(table: DeltaTable) -> list[DataFile]:
    """Return the files that a table's version needs."""
    actions = pa.table(table.get_add_actions(flatten=True))
    if not actions.num_rows:
        return []
    columns = (actions[name].to_pylist() for name in (f"partition.{PARTITION_BY}", "size_bytes", "num_records"))
    return [DataFile(*values) for values in zip(*columns, strict=True)]


def footprint(table: DeltaTable, storage_options: Mapping[str, str]) -> Footprint:
    """Look at what a table has, and at everything stored below its folder: a listing costs one request per 1,000 objects."""
    files = data_files(table)
    stored = _listed(table.table_uri, storage_options)
    return Footprint(
        version=table.version(),
        rows=sum(each.rows for each in files),
        files=len(files),
        file_bytes=sum(each.size_bytes for each in files),
        stored_bytes=sum(each.size or 0 for each in stored),
        log=_log(stored),
    )


def _listed(uri: str, storage_options: Mapping[str, str]) -> list[FileInfo]:
    store = DeltaStorageHandler(uri, dict(storage_options))
    below: list[FileInfo] = store.get_file_info_selector(FileSelector("", recursive=True))
    return below


def _log(stored: list[FileInfo]) -> Log:
    entries = ((int(found[1]), each.mtime_ns // 1000) for each in stored if (found := _ENTRY.search(each.path)))
    checkpoints = (int(found[1]) for each in stored if (found := _CHECKPOINT.search(each.path)))
    return Log(dict(entries), frozenset(checkpoints))
