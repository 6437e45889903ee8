"""The journal: every frame, in order, on disk before anything sees it.

SQLite in WAL mode, one file per feed partition, readable with the ``sqlite3`` shell::

    SELECT sequence, feed, datetime(receive_time_us / 1e6, 'unixepoch'), CAST(payload AS TEXT) FROM frames LIMIT 10;

One thread writes (appends and trims), another reads and syncs, any checkpoints. A committed append survives the death of the
process; it survives power loss once :meth:`Journal.sync` has returned. Each frame carries a checksum: SQLite has none for what
is in its file, and a flipped bit would be another price.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

FrameRow = tuple[str, bytes, int]
"""Feed, payload, receive time in microseconds: a frame before it has its sequence number."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    sequence INTEGER PRIMARY KEY, feed TEXT NOT NULL, receive_time_us INTEGER NOT NULL, payload BLOB NOT NULL, checksum INTEGER
);
CREATE TABLE IF NOT EXISTS trimmed (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), sequence INTEGER NOT NULL, begun_after INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO trimmed VALUES (1, 0, 0);
"""
_OF_EARLIER_DAYS = """
BEGIN;
ALTER TABLE frames ADD COLUMN checksum INTEGER;
ALTER TABLE trimmed ADD COLUMN begun_after INTEGER NOT NULL DEFAULT 0;
UPDATE frames SET checksum = checksum(sequence, feed, payload, receive_time_us);
COMMIT;
"""
_INSERT = "INSERT INTO frames VALUES (?, ?, ?, ?, ?)"
_READ_ROWS = 1_000  # rows per read transaction: a long one would keep the WAL from being reused
_READ_ROWS_OF_FEED = 16  # the same, of one feed: some are of megabytes
_READ_BYTES = 16 * 1024**2  # of payload, and a row more: a frame may be as large as a message over a socket
_TRIM_ROWS = 500  # rows per delete: well under a millisecond, so that appends never wait long
_LONGEST_LOG_PAGES = 16_000  # of 4 KiB: beyond it the next append does what checkpoint() could not
_LITTLE_ROOM_BYTES = 1024**2  # with less than this on the disk, whatever SQLite complains of is taken for a full disk

GIVE_UP = "run `cascadewatch begin-anew`: it goes on with the same tables and gives up what is in the data directory"
"""What remains when a journal or a saved state is lost."""


class JournalError(Exception):
    """The journal cannot be used; the message says why and what to do."""


class JournalWriteError(JournalError):
    """The disk is full or gone. What was appended before is safe."""


class Journal:
    """Frames of one feed partition under gapless, ever-rising sequence numbers from 1."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal at ``path``; its folder must exist."""
        self.path = path
        try:
            self._writer = _connect(path)
            if _is_of_earlier_days(self._writer):
                self._writer.create_function("checksum", 4, _checksum)
                self._writer.executescript(_OF_EARLIER_DAYS)
            self._writer.executescript(_SCHEMA)
            # By default every thousand pages an append would wait for two syncs of the disk.
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG_PAGES}")
            self._reader = _connect(path)
            self._checkpointer: sqlite3.Connection | None = _connect(path)
            limits = self._writer.execute("SELECT sequence, begun_after FROM trimmed").fetchone()
            self._trimmed, self._begun_after = map(int, limits)
            oldest, newest = self._writer.execute(
                "SELECT (SELECT min(sequence) FROM frames), max(sequence) FROM frames"
            ).fetchone()
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:  # the latter two: no row, or no numbers in it
            raise JournalError(f"cannot open the journal {path}: {_words(error, path)}") from error
        if oldest not in {None, self._trimmed + 1}:
            raise self.damaged(f"it was trimmed up to frame {self._trimmed} and begins with frame {oldest}")
        self._newest = max(int(newest or 0), self._trimmed)
        self._wal = os.open(f"{path}-wal", os.O_RDWR | os.O_CREAT)
        self._checkpointing = threading.Lock()

    @property
    def first_sequence(self) -> int:
        """The lowest sequence number that can still be read; one past the newest when empty."""
        return self._trimmed + 1

    @property
    def next_sequence(self) -> int:
        """The number that the next appended frame gets."""
        return self._newest + 1

    @property
    def is_whole(self) -> bool:
        """Whether every frame that was ever in it still is."""
        return self._trimmed == self._begun_after

    def begin_at(self, sequence: int) -> None:
        """Make the first frame of a journal that has none bear this number. Writer's thread only."""
        self._writer.execute("UPDATE trimmed SET sequence = ?, begun_after = ?", (sequence - 1, sequence - 1))
        self._trimmed = self._begun_after = self._newest = sequence - 1

    @property
    def frame_count(self) -> int:
        """How many frames can be read."""
        return self._newest - self._trimmed

    def append(self, rows: Sequence[FrameRow]) -> int:
        """Write a group of frames in one transaction; return the first one's sequence number. Writer's thread only.

        Raises:
            JournalWriteError: The disk is full or gone: nothing of the group was written.
        """
        first = self._newest + 1
        numbered = [
            (sequence, feed, receive_time_us, payload, _checksum(sequence, feed, payload, receive_time_us))
            for sequence, (feed, payload, receive_time_us) in enumerate(rows, start=first)
        ]
        try:
            if len(numbered) == 1:  # a transaction by itself: two calls fewer that let another thread run in between
                self._writer.execute(_INSERT, numbered[0])
            else:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany(_INSERT, numbered)
                self._writer.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._roll_back()
            raise JournalWriteError(
                f"cannot write the journal {self.path}: {error}; free disk space, or mend the disk, and start again"
            ) from error
        self._newest = numbered[-1][0]
        return first

    def read(self, first: int, last: int | None = None) -> Iterator[tuple[int, FrameRow]]:
        """Yield frames ``first`` to ``last``, both included, in order. Reader's thread only.

        Raises:
            JournalError: One is not as it was written.
        """
        sequence = first - 1
        rows = self._rows_after(sequence, last)
        while rows:
            for sequence, feed, payload, receive_time_us in rows:
                yield sequence, (feed, payload, receive_time_us)
            rows = self._rows_after(sequence, last)

    def _rows_after(self, sequence: int, last: int | None) -> list[tuple[int, str, bytes, int]]:
        """Return the next rows: not too many, and not too much at once."""
        rows, size_bytes = [], 0
        try:
            cursor = self._reader.execute(
                "SELECT sequence, feed, payload, receive_time_us, checksum FROM frames"
                " WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
                (sequence, last if last is not None else self._newest, _READ_ROWS),
            )
            for found, feed, payload, receive_time_us, checksum in cursor:
                if not _is_whole(found, feed, payload, receive_time_us, checksum):
                    raise self.damaged(f"frame {found} is not as it was written")
                rows.append((found, feed, payload, receive_time_us))
                size_bytes += len(payload)
                if size_bytes >= _READ_BYTES:
                    break
            cursor.close()  # ends the read transaction
        except sqlite3.DatabaseError as error:
            raise self.damaged(str(error)) from error
        return rows

    def damaged(self, what: str) -> JournalError:
        """Return the error that says so."""
        return JournalError(f"the journal {self.path} is damaged: {what}. Restore it, or {GIVE_UP}")

    def newest_of(self, feed: str) -> Iterator[bytes]:
        """Yield the payloads of a feed, newest first. Any thread."""
        sequence = self._newest + 1
        while rows := self._rows_before(sequence, feed):
            yield from (payload for _sequence, payload in rows)
            sequence = rows[-1][0]

    def _rows_before(self, sequence: int, feed: str) -> list[tuple[int, bytes]]:
        with closing(_connect(self.path)) as connection:
            return connection.execute(
                "SELECT sequence, payload FROM frames WHERE feed = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?",
                (feed, sequence, _READ_ROWS_OF_FEED),
            ).fetchall()

    def first_received_at_or_after(self, receive_time_us: int) -> int:
        """Return the lowest sequence number received then or later; receive times never fall with the sequence."""
        low, high = self.first_sequence, self.next_sequence
        while low < high:
            middle = (low + high) // 2
            found = self._writer.execute("SELECT receive_time_us FROM frames WHERE sequence = ?", (middle,)).fetchone()
            if found is None:
                raise self.damaged(f"frame {middle} is missing")
            low, high = (middle + 1, high) if found[0] < receive_time_us else (low, middle)
        return low

    def trim(self, below: int) -> bool:
        """Forget some frames numbered under ``below``; return whether more remain to be forgotten. Writer's thread only.

        Raises:
            JournalWriteError: The disk is full or gone: nothing was forgotten.
        """
        upto = min(below - 1, self._trimmed + _TRIM_ROWS, self._newest)
        if upto <= self._trimmed:
            return False
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute("DELETE FROM frames WHERE sequence <= ?", (upto,))
            self._writer.execute("UPDATE trimmed SET sequence = ?", (upto,))
            self._writer.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._roll_back()
            raise JournalWriteError(f"cannot trim the journal {self.path}: {_words(error, self.path)}") from error
        self._trimmed = upto
        return upto < min(below - 1, self._newest)

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def sync(self) -> None:
        """Return when all that was appended so far is on the disk itself. Any thread."""
        os.fdatasync(self._wal)

    def checkpoint(self) -> None:
        """Sync, and bring the write-ahead log into the file, beside the writer and without holding it up. Any thread.

        A full disk or the like is left to the next append, which says so. Does nothing once the journal is closed.
        """
        with self._checkpointing, suppress(sqlite3.DatabaseError):
            if self._checkpointer is not None:
                self.sync()
                self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def bytes_on_disk(self) -> int:
        """Return the size of the database and its write-ahead log."""
        return sum(file.stat().st_size for file in (self.path, Path(f"{self.path}-wal")) if file.exists())

    def bytes_in_use(self) -> int:
        """Return the bytes that frames occupy; pages freed by trimming are used again and do not count."""
        (used,) = self._writer.execute(
            "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).fetchone()
        return int(used)

    def close(self) -> None:
        """Release the files. What was appended stays."""
        with self._checkpointing:
            if self._checkpointer is not None:
                self._checkpointer.close()
            self._checkpointer = None
        self._reader.close()
        self._writer.close()
        os.close(self._wal)


def _checksum(sequence: int, feed: str, payload: bytes, receive_time_us: int) -> int:
    return zlib.crc32(payload, zlib.crc32(feed.encode(), (sequence ^ receive_time_us) & 0xFFFFFFFF))


def _is_whole(sequence: int, feed: object, payload: object, receive_time_us: object, checksum: object) -> bool:
    """Say whether a frame is as it was written; a damaged row may hold anything at all."""
    if not (isinstance(feed, str) and isinstance(payload, bytes) and isinstance(receive_time_us, int)):
        return False
    return checksum == _checksum(sequence, feed, payload, receive_time_us)


def _is_of_earlier_days(connection: sqlite3.Connection) -> bool:
    """Say whether it is a journal from before there were checksums."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(frames)")]
    return bool(columns) and "checksum" not in columns


def _words(error: Exception, path: Path) -> str:
    is_full = "full" in str(error) or shutil.disk_usage(path.parent).free < _LITTLE_ROOM_BYTES
    return f"{error}; " + ("free disk space and start again" if is_full else f"restore the file, or {GIVE_UP}")


def _connect(path: Path) -> sqlite3.Connection:
    """Open one connection; each is used by one thread at a time, which need not be this one."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL: the log is synced before each checkpoint, so the file is never torn, and otherwise when sync() is called.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
