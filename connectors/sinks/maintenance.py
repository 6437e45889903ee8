"""Keeping a table small and quick beside a running flow: expired days, small files, old versions and their log entries.

What makes this safe without any lock is the table's own log: every change is a commit that the store gives to one writer only
(a conditional put, or a hard link on a local disk), and conflicts are found there.

- Merging files changes no row and never conflicts with an append.
- Deleting expired days, and setting properties, breaks the handle that a writer holds; the writer opens the table anew.
- Files go only when no version younger than the retention needs them, and log entries only below a checkpoint. Transaction
  ids are in every checkpoint.
- Two of these at once: delta-rs 1.6.6 lets two mergers of the same files both commit, which doubles every row in them. So
  whoever merges first writes its name into the table's metadata, and merges only from versions that bear it: a merger that
  began before then fails (the metadata changed), and one that was overtaken sees another name and leaves the rest to it.
- Killed anywhere: each step is one commit, or deletes what nobody needs. A file that was never committed goes once it is older
  than the retention.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import partial
from typing import TypeVar

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import PostCommitHookProperties

from connectors.sinks.delta_tables import (
    DEFAULT_OLD_VERSIONS_HOURS,
    PARTITION_BY,
    STORE_ERRORS,
    DeltaTablesError,
    table_properties,
)
from connectors.sinks.footprint import DataFile, Footprint, data_files, footprint

FLOOR_HOURS = 1
"""A file of the running flow is written before it is committed: with every retry of an object store that takes minutes."""

DEFAULT_TARGET_FILE_BYTES = 128 * 1024 * 1024

_TRIES = 3  # of a step that another process, the flow or another maintenance, disturbed
_COMMIT = CommitProperties(max_commit_retries=100)  # the flow commits all the while; each lost race costs a retry

_MERGER = "cascadewatch.merger"  # the table property that says who may merge files

# Log entries are removed in a step of their own; by default every single commit would look for expired ones.
_AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)

_Done = TypeVar("_Done")

Progress = Callable[[str, int, int], None]
"""Told what is being done, the how-manieth of how many."""


class MaintenanceError(DeltaTablesError):
    """What is asked for could take files from under a writer or a reader."""


class _OvertakenError(Exception):
    """Another process became the merger."""


@dataclass(frozen=True)
class Rules:
    """What is kept, and how large files should be.

    Attributes:
        retention_days: By table: days, besides today (UTC), whose rows are kept. A table that is not named keeps all.
        old_versions_hours: How long files that only old versions need, and log entries, are kept.
        target_file_bytes: Files are merged up to about this size.
        is_forced: ``old_versions_hours`` may be below the floor, because nothing else uses the tables now.
    """

    retention_days: Mapping[str, int] = field(default_factory=dict)
    old_versions_hours: int = DEFAULT_OLD_VERSIONS_HOURS
    target_file_bytes: int = DEFAULT_TARGET_FILE_BYTES
    is_forced: bool = False

    def __post_init__(self) -> None:
        """Refuse what could do harm.

        Raises:
            MaintenanceError: Old versions would go at once, and nobody said that this is meant.
        """
        if self.old_versions_hours < FLOOR_HOURS and not self.is_forced:
            raise MaintenanceError(
                f"maintenance.vacuum_retention_hours = {self.old_versions_hours} is less than {FLOOR_HOURS}: files could "
                "go that the running flow is about to commit, or that a query reads. Set it higher, or stop all that uses the "
                "tables and say --force"
            )

    def first_day(self, table: str, now_us: int) -> date | None:
        """Return the first day whose rows a table keeps; None when it keeps all."""
        days = self.retention_days.get(table)
        today = datetime.fromtimestamp(now_us / 1e6, timezone.utc).date()
        return None if days is None else today - timedelta(days=days)


@dataclass(frozen=True)
class TableReport:
    """What was done to a table, or would be.

    Attributes:
        name: Of the table.
        before: What it was.
        after: What it is now; None after a dry run.
        expired_files: Files of expired days.
        expired_rows: Rows in them.
        merged_files: Small files that were merged; in a dry run, those that would be looked at.
        removed_files: Files that no version needs any more.
        removed_log_entries: Versions that can no longer be read.
        left_to_others: Steps at which another process was quicker, again and again.
    """

    name: str
    before: Footprint
    after: Footprint | None
    expired_files: int = 0
    expired_rows: int = 0
    merged_files: int = 0
    removed_files: int = 0
    removed_log_entries: int = 0
    left_to_others: tuple[str, ...] = ()


class TableMaintenance:
    """The steps for one table."""

    def __init__(
        self, uri: str, storage_options: Mapping[str, str], rules: Rules, *, now_us: int, progress: Progress | None = None
    ) -> None:
        """Describe the table and the rules; nothing is touched yet.

        Args:
            uri: Of the table; its last part is its name.
            storage_options: For the object store, as delta-rs names them.
            rules: What is kept.
            now_us: Microseconds since the epoch.
            progress: Told of long work.
        """
        self.name = uri.rstrip("/").rpartition("/")[2]
        self._uri = uri
        self._storage_options = dict(storage_options)
        self._rules = rules
        self._now_us = now_us
        self._first_day = rules.first_day(self.name, now_us)
        self._progress = progress
        self._id = uuid.uuid4().hex
        self._left_to_others: list[str] = []

    def plan(self) -> TableReport:
        """Say what :meth:`run` would do; changes nothing.

        Raises:
            TableNotFoundError: There is no such table.
            DeltaError: The store failed. So does ``OSError``.
        """
        self._tell("looking")
        table = self._opened()
        before = self._footprint(table)
        files = data_files(table)
        expired = self._expired(files)
        small = self._small([each for each in files if not self._is_expired(each)])
        return TableReport(
            name=self.name,
            before=before,
            after=None,
            expired_files=len(expired),
            expired_rows=sum(each.rows for each in expired),
            merged_files=sum(map(len, small.values())),
            removed_files=len(self._vacuum(table, is_dry_run=True)),
            removed_log_entries=before.log.expired(self._now_us - self._rules.old_versions_hours * 3_600_000_000),
        )

    def run(self) -> TableReport:
        """Do it all, in the order in which one step makes the next one's work smaller.

        Raises:
            TableNotFoundError: There is no such table.
            DeltaError: The store failed; what was done by then holds. So does ``OSError``.
        """
        self._tell("looking")
        before = self._footprint(self._opened())
        self._undisturbed("setting properties", self._set_properties)
        expired = self._undisturbed("deleting expired days", self._delete_expired) or []
        merged = self._merge()
        self._checkpoint()
        self._tell("deleting unneeded files")
        removed = self._undisturbed("deleting unneeded files", lambda: self._vacuum(self._opened(), is_dry_run=False)) or []
        self._clean_log()
        after = self._footprint(self._opened())
        return TableReport(
            name=self.name,
            before=before,
            after=after,
            expired_files=len(expired),
            expired_rows=sum(each.rows for each in expired),
            merged_files=merged,
            removed_files=len(removed),
            removed_log_entries=max(0, before.log.entries + after.version - before.version - after.log.entries),
            left_to_others=tuple(self._left_to_others),
        )

    def _tell(self, words: str, done: int = 0, of: int = 1) -> None:
        if self._progress is not None:
            self._progress(f"{self.name}: {words}", done, of)

    def _footprint(self, table: DeltaTable) -> Footprint:
        return footprint(table, self._storage_options)

    def _opened(self) -> DeltaTable:
        return DeltaTable(self._uri, storage_options=self._storage_options)

    def _undisturbed(self, what: str, step: Callable[[], _Done]) -> _Done | None:
        """Do a step anew when a commit of another process came between; leave it to that process after a few times."""
        for _ in range(_TRIES):
            try:
                return step()
            except CommitFailedError:
                continue
        self._left_to_others.append(what)
        return None

    def _set_properties(self) -> None:
        """Give a table that is older than these settings what new ones begin with. Changes nothing when it has it."""
        table = self._opened()
        found = table.metadata().configuration
        wanted = table_properties(max(self._rules.old_versions_hours, FLOOR_HOURS))
        differing = {name: value for name, value in wanted.items() if found.get(name) != value}
        if differing:
            table.alter.set_table_properties(differing)

    def _is_expired(self, file: DataFile) -> bool:
        return self._first_day is not None and file.day < self._first_day

    def _expired(self, files: list[DataFile]) -> list[DataFile]:
        return [each for each in files if self._is_expired(each)]

    def _delete_expired(self) -> list[DataFile]:
        table = self._opened()
        expired = self._expired(data_files(table))
        if expired:
            self._tell("deleting expired days")
            table.delete(  # whole partitions: their files are taken out of the table, none is rewritten
                f"{PARTITION_BY} < '{self._first_day}'", commit_properties=_COMMIT, post_commithook_properties=_AFTER_COMMIT
            )
        return expired

    def _small(self, files: list[DataFile]) -> dict[date, list[DataFile]]:
        """Return the files that may be merged, by day; a day with fewer than two has nothing to merge."""
        by_day: dict[date, list[DataFile]] = {}
        for each in sorted(files, key=lambda file: file.day):
            if each.size_bytes < self._rules.target_file_bytes:
                by_day.setdefault(each.day, []).append(each)
        return {day: small for day, small in by_day.items() if len(small) > 1}

    def _merge(self) -> int:
        """Merge small files, a commit per day, so that little is done twice after a kill; returns how many were merged."""
        days = list(self._small(data_files(self._opened())))
        if not days or not self._undisturbed("merging files", self._become_the_merger):
            return 0
        merged = 0
        for done, day in enumerate(days):
            self._tell(f"merging files of {day}", done, len(days))
            try:
                merged += self._undisturbed(f"merging files of {day}", partial(self._merge_day, day)) or 0
            except _OvertakenError:
                self._left_to_others.append("merging files")
                break
        return merged

    def _become_the_merger(self) -> bool:
        self._opened().alter.set_table_properties({_MERGER: self._id}, raise_if_not_exists=False)
        return True

    def _merge_day(self, day: date) -> int:
        table = self._opened()
        if table.metadata().configuration.get(_MERGER) != self._id:
            raise _OvertakenError
        metrics = table.optimize.compact(
            partition_filters=[(PARTITION_BY, "=", str(day))],
            target_size=self._rules.target_file_bytes,
            max_concurrent_tasks=1,  # the flow may be on the same machine: rather longer than in its way
            commit_properties=_COMMIT,
            post_commithook_properties=_AFTER_COMMIT,
        )
        return int(metrics["numFilesRemoved"])

    def _checkpoint(self) -> None:
        table = self._opened()
        if self._footprint(table).log.last_checkpoint != table.version():
            self._tell("writing a checkpoint")
            table.create_checkpoint()

    def _vacuum(self, table: DeltaTable, *, is_dry_run: bool) -> list[str]:
        """Delete files that only old versions need, and those that a killed process wrote and never committed."""
        return table.vacuum(
            retention_hours=self._rules.old_versions_hours,
            dry_run=is_dry_run,
            enforce_retention_duration=False,  # the table's own minimum is what was set before; the floor is this module's
            full=True,
            commit_properties=_COMMIT,
            post_commithook_properties=_AFTER_COMMIT,
        )

    def _clean_log(self) -> None:
        """Remove expired log entries. A second maintenance that removes the same ones at once finds them gone."""
        self._tell("removing old log entries")
        for is_last_try in (False, False, True):
            try:
                self._opened().cleanup_metadata()
            except STORE_ERRORS:
                if is_last_try:
                    raise
            else:
                return
