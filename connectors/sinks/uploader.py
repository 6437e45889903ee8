"""From the spool to the Delta tables, in a thread of its own: the flow never waits for a store."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pyarrow as pa
import structlog

from connectors import clock
from connectors.backoff import Backoff
from connectors.secrets import SECRETS
from connectors.sinks.delta_tables import STORE_ERRORS, DeltaTables
from connectors.sinks.observer import SinkObserver
from connectors.sinks.sequences import merged
from connectors.sinks.spool import Spool, SpoolFile

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 30.0  # an object store restarted after 4 s accepted appends again within 13 s
_JOIN_SECONDS = 2.0  # of the ten that a stop may take; a commit that takes longer goes on while the rest ends
_MAX_COMMIT_BYTES = 128 * 1024 * 1024  # of spool files in one commit: bounds memory after a long outage

_log = structlog.get_logger(__name__)


class Uploader:
    """Commit pending files in order, several of a table at once; on a store's error, try again, less and less often."""

    def __init__(self, spool: Spool, tables: DeltaTables, *, interval_seconds: float, observer: SinkObserver) -> None:
        """Describe the uploader; :meth:`start` begins.

        Args:
            spool: Open.
            tables: Open.
            interval_seconds: Between two rounds: rows of so long make one commit.
            observer: Told of each commit and failure.
        """
        self._spool = spool
        self._tables = tables
        self._interval_seconds = interval_seconds
        self._observer = observer
        self._first_pause = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)
        self._failing_since: float | None = None
        self.last_error: str | None = None

    def start(self) -> None:
        """Begin: at once when something is pending already, else after the interval."""
        self._first_pause = 0.0 if self._spool.pending() else self._interval_seconds
        self._thread.start()

    def stop(self, timeout_seconds: float = _JOIN_SECONDS) -> bool:
        """End after the commit under way; says whether it ended in time. What is pending stays pending."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def drain(self, timeout_seconds: float) -> bool:
        """Stop the thread and commit what is pending; says whether all of it was committed in time.

        Returns in time even if the store keeps the library waiting: what commits then is a thread that is left behind.

        Raises:
            DeltaTablesError: It never can be.
            SpoolError: A file cannot be read any more.
        """
        deadline = clock.monotonic_seconds() + timeout_seconds
        if not self.stop(timeout_seconds):
            return False
        draining = _Draining(self._round, deadline)
        draining.start()
        return draining.outcome(max(0.0, deadline - clock.monotonic_seconds()))

    def _run(self) -> None:
        backoff = _backoff()
        pause = self._first_pause
        while not self._stopping.wait(pause):
            try:
                is_done = self._round()
            except BaseException as error:  # noqa: BLE001 - also a panic of the library's: the flow must hear of it
                self.last_error = f"{type(error).__name__}: {error}"
                self._spool.fail(error)  # the flow's next write raises it
                return
            if is_done:
                backoff.reset()
            pause = self._interval_seconds if is_done else backoff.next_delay_seconds(clock.jitter())

    def _round(self) -> bool:
        """Commit everything pending at this moment; a table that fails does not hold up the others."""
        pending = self._spool.pending()
        failures = [failure for table, files in pending.items() if (failure := self._commit_table(table, files))]
        self._note("; ".join(failures) or None)
        return not failures

    def _commit_table(self, table: str, files: list[SpoolFile]) -> str | None:
        """Commit one table's files; returns what went wrong with the store, if anything."""
        for group in _groups(files):
            began = clock.monotonic_seconds()
            try:
                rows = pa.concat_tables([self._spool.read(file) for file in group]).replace_schema_metadata(None)
                written = self._tables.commit(table, rows, merged([file.highs for file in group]))
            except STORE_ERRORS as error:
                self._observer.commit_failed(table, type(error).__name__, str(error))
                return SECRETS.clean(f"{table}: {type(error).__name__}: {error}")
            self._spool.remove(group)
            self._observer.committed(table, written, clock.monotonic_seconds() - began)
        return None

    def _note(self, error: str | None) -> None:
        """Log an outage once when it begins and once when it is over."""
        now = clock.monotonic_seconds()
        if error is not None and self._failing_since is None:
            self._failing_since = now
            _log.warning("commit_failed", error=error)
        elif error is None and self._failing_since is not None:
            _log.info("commit_recovered", after_seconds=round(now - self._failing_since, 1))
            self._failing_since = None
        self.last_error = error


class _Draining(threading.Thread):
    """Commits until nothing is pending or the time is up."""

    def __init__(self, commit_all: Callable[[], bool], deadline_seconds: float) -> None:
        super().__init__(name="uploader", daemon=True)
        self._commit_all = commit_all
        self._deadline_seconds = deadline_seconds
        self._is_done = False
        self._failure: BaseException | None = None

    def run(self) -> None:
        backoff = _backoff()
        try:
            while not (is_done := self._commit_all()) and (remaining := self._remaining()) > 0:
                threading.Event().wait(min(backoff.next_delay_seconds(clock.jitter()), remaining))
            self._is_done = is_done
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the outcome
            self._failure = error

    def outcome(self, timeout_seconds: float) -> bool:
        self.join(timeout_seconds)
        if self._failure is not None:
            raise self._failure
        return self._is_done

    def _remaining(self) -> float:
        return self._deadline_seconds - clock.monotonic_seconds()


def _backoff() -> Backoff:
    return Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)


def _groups(files: list[SpoolFile]) -> list[list[SpoolFile]]:
    """Split files, in order, into what goes into one commit: bounded by size, at least one file."""
    groups: list[list[SpoolFile]] = []
    size_bytes = 0
    for file in files:
        if not groups or size_bytes + file.size_bytes > _MAX_COMMIT_BYTES:
            groups.append([])
            size_bytes = 0
        groups[-1].append(file)
        size_bytes += file.size_bytes
    return groups
