"""The spool: rows on the local disk, durable, until their Delta table has them.

One Arrow file per table and epoch, ``<directory>/<table>/<ordinal>-<checksum>.arrow``, whole from the moment it has its name:
written aside, synced, renamed. A killed process leaves at most a ``.tmp`` that nobody needs, because its epoch will be
replayed. The checksum (CRC-32 of the content, in hexadecimal) tells of damage before anything is read: Arrow's own format
would not, and gives other numbers for a flipped bit. Each file says how far its table had come before it, so that a missing
one is noticed by the next. When the spool is full, writing waits until files have been committed: back-pressure, never loss.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from connectors.sinks.observer import SinkObserver, SinkObservers
from connectors.sinks.sequences import NOTHING, Highs, highs_of, merged

DEFAULT_LIMIT_BYTES = 2 * 1024**3
"""Hours of a lively market: a liquidation takes some 150 bytes, a score some 2,000."""

_FILE_SUFFIX = ".arrow"
_UNFINISHED_SUFFIX = ".tmp"
_FOLLOWS = b"follows"


class SpoolError(Exception):
    """The spool cannot keep its promise."""


class SpoolWriteError(SpoolError):
    """The disk is full or gone. What was written before is safe."""


@dataclass(frozen=True)
class SpoolFile:
    """One file: rows of one table.

    Attributes:
        ordinal: Files of a table are committed in this order.
        highs: Highest sequence number per feed partition in the file.
        follows: What table and spool together had reached before it, as far as its writer knew.
    """

    table: str
    path: Path
    ordinal: int
    rows: int
    size_bytes: int
    highs: Highs
    follows: Highs


class EncodedRows:
    """An epoch's rows of one table as the content of a file, encoded while they come: so the end of an epoch finds it done."""

    def __init__(self, schema: pa.Schema, follows: Highs | None = None) -> None:
        """Begin with no rows of that schema.

        Args:
            schema: Of the rows.
            follows: What table and spool have reached already, per feed partition; None where nobody knows.
        """
        self.highs: dict[str, int] = {}
        self.follows = dict(follows or {})
        self.rows = 0
        self._stream = pa.BufferOutputStream()  # in memory, because a Python file would be called for every column
        self._writer = pa.ipc.new_file(self._stream, schema.with_metadata({_FOLLOWS: json.dumps(self.follows)}))

    @classmethod
    def of(cls, rows: pa.Table) -> EncodedRows:
        """Return rows that are there all at once."""
        encoded = cls(rows.schema)
        encoded.add(rows)
        return encoded

    def add(self, rows: pa.Table) -> None:
        """Append rows."""
        self._writer.write_table(rows)
        self.highs = merged((self.highs, highs_of(rows)))
        self.rows += rows.num_rows

    def finish(self) -> pa.Buffer:
        """Return the content; no more rows can be added. May be called again."""
        self._writer.close()
        return self._stream.getvalue()


class Spool:
    """Files waiting for their tables. Written by the flow's thread, emptied by the uploading one."""

    def __init__(self, directory: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Describe the spool; nothing is touched before :meth:`open`.

        Args:
            directory: Made when missing. One process only.
            limit_bytes: Beyond it :meth:`write` waits. One write larger than all of it passes when the spool is empty.
        """
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.observer: SinkObserver = SinkObservers()
        self._pending: dict[str, list[SpoolFile]] = {}
        self._reached: dict[str, dict[str, int]] = {}
        self._size_bytes = 0
        self._is_open = False
        self._failure: BaseException | None = None
        self._is_released = False
        self._changed = threading.Condition()

    def open(self) -> None:
        """Remove what was left unfinished and find what is pending. Does nothing the second time.

        Raises:
            SpoolError: A file cannot be read.
        """
        if self._is_open:
            return
        try:
            _make_directory(self.directory)
        except OSError as error:
            raise SpoolError(f"cannot make {self.directory}: {_words(error)}") from error
        for folder in sorted(path for path in self.directory.iterdir() if path.is_dir()):
            for unfinished in folder.glob(f"*{_UNFINISHED_SUFFIX}"):
                unfinished.unlink()
            files = [_described(path) for path in sorted(folder.glob(f"*{_FILE_SUFFIX}"))]
            self._pending[folder.name] = files
            self._reached[folder.name] = merged([file.highs for file in files])
            self._size_bytes += sum(file.size_bytes for file in files)
        self._is_open = True
        self.observer.spool_bytes(self._size_bytes)

    @property
    def size_bytes(self) -> int:
        """Of all pending files."""
        return self._size_bytes

    def pending(self) -> dict[str, list[SpoolFile]]:
        """Return the files of every table that has some, in the order to commit them."""
        with self._changed:
            return {table: list(files) for table, files in self._pending.items() if files}

    def reached(self, table: str, feed_partition: str) -> int:
        """Return the highest sequence number that was pending at first or has been written since, 0 when none."""
        return self.highs(table).get(feed_partition, NOTHING)

    def highs(self, table: str) -> Highs:
        """Return that of every feed partition."""
        return self._reached.get(table, {})

    def write(self, table: str, rows: EncodedRows) -> SpoolFile:
        """Make rows durable; waits while the spool is full.

        Raises:
            SpoolWriteError: The disk refuses.
            SpoolError: Emptying the spool has failed for good.
        """
        content = rows.finish()
        self._wait_for_room(content.size)
        with self._changed:
            files = self._pending.setdefault(table, [])
            ordinal = files[-1].ordinal + 1 if files else 0
        path = self.directory / table / f"{ordinal:020d}-{zlib.crc32(content):08x}{_FILE_SUFFIX}"
        try:
            _write_durably(path, content)
        except OSError as error:
            raise SpoolWriteError(f"cannot write {path}: {_words(error)}") from error
        file = SpoolFile(table, path, ordinal, rows.rows, content.size, rows.highs, rows.follows)
        with self._changed:
            files.append(file)
            self._size_bytes += file.size_bytes
            self._reached[table] = merged((self._reached.get(table, {}), rows.highs))
        self.observer.spool_bytes(self._size_bytes)
        return file

    def read(self, file: SpoolFile) -> pa.Table:
        """Return a file's rows.

        Raises:
            SpoolError: It cannot be read.
        """
        return _read(file.path)

    def remove(self, files: Iterable[SpoolFile]) -> None:
        """Forget files that their table has."""
        for file in files:
            file.path.unlink(missing_ok=True)
            with self._changed:
                self._pending[file.table].remove(file)
                self._size_bytes -= file.size_bytes
                self._changed.notify_all()
        self.observer.spool_bytes(self._size_bytes)

    def fail(self, failure: BaseException) -> None:
        """Files can no longer be committed: writing raises from now on, with the reason."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def release(self) -> None:
        """Wait for room no more, because the flow ends: its last epochs are written whatever the limit. Any thread."""
        with self._changed:
            self._is_released = True
            self._changed.notify_all()

    def _wait_for_room(self, more_bytes: int) -> None:
        with self._changed:
            if self._is_full(more_bytes) and not self._is_released:
                self.observer.spool_blocked(is_blocked=True)
                self._changed.wait_for(lambda: self._failure is not None or self._is_released or not self._is_full(more_bytes))
                self.observer.spool_blocked(is_blocked=False)
            if self._failure is not None:
                raise SpoolError(f"no more rows can be spooled: {self._failure}") from self._failure

    def _is_full(self, more_bytes: int) -> bool:
        return self._size_bytes > 0 and self._size_bytes + more_bytes > self.limit_bytes


def _make_directory(directory: Path) -> None:
    """Make a directory whose name survives a power loss."""
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, content: pa.Buffer) -> None:
    """Write aside, sync, rename, sync the directory: the file is whole or not there."""
    _make_directory(path.parent)
    unfinished = path.with_suffix(_UNFINISHED_SUFFIX)
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)  # of a full disk, it would keep what little there is
        raise
    _sync_directory(path.parent)


def _words(error: OSError) -> str:
    return f"{error.strerror}; free disk space, or mend the disk, and start again: nothing is lost"


def _described(path: Path) -> SpoolFile:
    rows = _read(path)
    try:
        highs = highs_of(rows)
        follows = json.loads((rows.schema.metadata or {}).get(_FOLLOWS, b"{}"))  # a former version wrote none
        ordinal = int(path.stem.partition("-")[0])
    except (KeyError, ValueError) as error:
        raise SpoolError(f"{path} was not written by this program; move it away") from error
    return SpoolFile(path.parent.name, path, ordinal, rows.num_rows, path.stat().st_size, highs, follows)


def _read(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as file:
            _check_sum(path, file.read_buffer())
            file.seek(0)
            with pa.ipc.open_file(file) as reader:
                rows = reader.read_all()
                rows.validate()
                return rows
    except (OSError, pa.ArrowInvalid) as error:
        raise SpoolError(
            f"{path} is damaged ({error}): its rows are in no table yet. Restore it; or move it away and run "
            "`cascadewatch begin-anew` to go on without them: a replay of the journal into a new directory still gives them"
        ) from error


def _check_sum(path: Path, content: pa.Buffer) -> None:
    """Compare with the checksum in the name; the first version of this program wrote none.

    Raises:
        ArrowInvalid: It differs.
    """
    checksum = path.stem.partition("-")[2]
    if checksum and f"{zlib.crc32(content):08x}" != checksum:
        raise pa.ArrowInvalid(f"{content.size:,} bytes that are not those that were written")
