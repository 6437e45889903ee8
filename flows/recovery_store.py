"""Where Bytewax saves the state of the dataflow: made at first use, looked at before each start, and named when it fails.

Bytewax itself says of a store that it cannot use only what SQLite said, in a panic.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import structlog
from bytewax.recovery import RecoveryConfig, init_db_dir

from connectors.sinks.delta_tables import DeltaTablesError
from connectors.sinks.spool import SpoolError
from connectors.sources.journal import GIVE_UP, JournalError

_OWN_ERRORS = (DeltaTablesError, JournalError, SpoolError)
_SQLITE_FAILED = "SqliteFailure"  # of a panic's words; nothing else in Rust uses SQLite here

_log = structlog.get_logger(__name__)


class RecoveryStoreError(Exception):
    """Where state is saved cannot be used; the message says what to do."""


class RecoveryStoreWriteError(RecoveryStoreError):
    """The disk is full or gone. What was saved before is safe."""


def recovery_store(home: Path) -> RecoveryConfig:
    """Return where state is saved, made at first use.

    Whether a missing store may be begun anew is the source's to say, which knows the journal and the tables.

    Raises:
        RecoveryStoreError: It is damaged.
        RecoveryStoreWriteError: It cannot be made.
    """
    folder = home / "recovery"
    parts = sorted(folder.glob("part-*.sqlite3"))
    for part in parts:
        _look_at(part)
    try:
        if all(_is_blank(part) for part in parts):  # also where a full disk stopped the making of it
            for part in parts:
                _log.warning("recovery_store_empty", path=str(part), does="makes it anew")
                part.unlink()
            folder.mkdir(exist_ok=True)
            init_db_dir(folder, 1)
    except Exception as error:
        raise RecoveryStoreWriteError(
            f"cannot make the recovery store in {folder}: {error}; free disk space, or mend the disk, and start again"
        ) from error
    return RecoveryConfig(folder)


@contextmanager
def plainly_failing(home: Path) -> Iterator[None]:
    """Let a dataflow fail with the error of ours that Bytewax has wrapped, or with what its recovery store met.

    Raises:
        RecoveryStoreWriteError: The store could not be written.
    """
    try:
        yield
    except Exception as error:
        own = _own_error(error)
        if own is not None:
            raise own  # noqa: B904 - it is the cause
        if _SQLITE_FAILED in str(error):
            raise RecoveryStoreWriteError(
                f"cannot use the recovery store {home / 'recovery'}: {str(error).partition('Some(')[2].rstrip(')') or error}; "
                "free disk space, or mend the disk, and start again: nothing is lost"
            ) from error
        raise


def _own_error(error: BaseException | None) -> Exception | None:
    while error is not None and not isinstance(error, _OWN_ERRORS):
        error = error.__cause__
    return error


def _look_at(part: Path) -> None:
    try:
        with closing(sqlite3.connect(part)) as opened:
            [(verdict,), *_more] = opened.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        verdict = " ".join(str(verdict).split())
        raise RecoveryStoreError(
            f"the recovery store {part} is damaged: {verdict}. Restore it, or remove the directory {part.parent}: where the "
            f"journal still has every frame, the state is made from them anew; where not, the start says so. Or {GIVE_UP}"
        )


def _is_blank(part: Path) -> bool:
    with closing(sqlite3.connect(part)) as opened:
        tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return "snaps" not in tables or not opened.execute("SELECT count(*) FROM parts").fetchone()[0]
