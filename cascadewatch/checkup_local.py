"""What a live run needs of this machine: interpreter, disk, journal, port."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry

from cascadewatch.checkup import Check, Level
from connectors.sinks.health import HealthServer, HealthServerError, HealthState
from connectors.sources.journal import Journal, JournalError
from flows.runtime import LOCK_NAME
from flows.settings import Settings
from flows.shards import home_of, last_place
from operators.silence import OTHER_VENUES

BYTEWAX_VERSION = "0.21.1"
"""The release whose behaviour was measured, and the last one there is."""

_OLDEST_PYTHON, _TOO_NEW_PYTHON = (3, 10), (3, 13)
_LEAST_FREE_BYTES = 5 * 1024**3
_GIB = 1024**3


def local_checks(settings: Settings) -> Iterator[Check]:
    """Look at this machine, one thing after the other. Changes nothing."""
    yield check_versions(sys.version_info[:3], version("bytewax"))
    yield check_data_directory(settings.data_dir)
    yield check_disk(settings.data_dir)
    yield check_lock(home_of(settings.data_dir, settings.own_shard))
    yield check_journal(journal_path(settings))
    yield check_port(settings)
    yield check_silence(settings.venues)


def check_versions(python: tuple[int, ...], bytewax: str) -> Check:
    """Say whether these are the versions that the program was made for."""
    seen = f"Python {'.'.join(map(str, python))}, Bytewax {bytewax}"
    if not _OLDEST_PYTHON <= python[:2] < _TOO_NEW_PYTHON:
        return Check("versions", Level.FAILED, seen, "run it with Python 3.10, 3.11 or 3.12")
    if bytewax != BYTEWAX_VERSION:
        return Check("versions", Level.WARNING, seen, f"install Bytewax {BYTEWAX_VERSION}, which this was measured with")
    return Check("versions", Level.OK, seen)


def check_data_directory(data_dir: Path) -> Check:
    """Say whether the data directory can be written, or be made."""
    name = "data directory"
    there = _nearest(data_dir)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        advice = f"make {data_dir} a folder that user {os.getuid()} may write, or choose another with --data"
        return Check(name, Level.FAILED, f"{there} cannot be written: {error.strerror}", advice)
    made = "" if there == data_dir else ", will be made at the first start"
    return Check(name, Level.OK, f"{data_dir.absolute()} is writable{made}")


def check_disk(data_dir: Path) -> Check:
    """Say how much room there is for journal, spool and tables."""
    try:
        free = shutil.disk_usage(_nearest(data_dir)).free
    except OSError as error:
        return Check("disk", Level.FAILED, f"cannot be asked: {error.strerror}", "choose another directory with --data")
    seen = f"{free / _GIB:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Check("disk", Level.WARNING, seen, "free some, or lower journal.limit_bytes and sink.spool_limit_bytes")
    return Check("disk", Level.OK, seen)


def check_lock(data_dir: Path) -> Check:
    """Say whether another process holds the data directory."""
    name = "other processes"
    try:
        with (data_dir / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return Check(name, Level.OK, "none has used the data directory yet")
    except BlockingIOError:
        return Check(name, Level.FAILED, f"one uses {data_dir}", "stop it first, or choose another directory with --data")
    except OSError as error:
        return Check(
            name, Level.FAILED, f"{data_dir / LOCK_NAME}: {error.strerror}", "give the file to the user who runs this"
        )
    return Check(name, Level.OK, "none uses the data directory")


def check_journal(path: Path) -> Check:
    """Say what the journal holds."""
    if not path.exists():
        return Check("journal", Level.OK, "none yet")
    try:
        journal = Journal(path)
    except (JournalError, OSError) as error:
        return Check("journal", Level.FAILED, str(error), "restore it together with tables and recovery, or start anew")
    first, after_last = journal.first_sequence, journal.next_sequence
    size = journal.bytes_on_disk()
    journal.close()
    frames = f"frames {first} to {after_last - 1}" if first < after_last else f"no frames, {after_last} comes next"
    return Check("journal", Level.OK, f"{frames}, {size / 1024**2:.1f} MiB")


def check_port(settings: Settings) -> Check:
    """Say whether metrics can be served, by serving them for a moment."""
    where = settings.metrics
    server = HealthServer(CollectorRegistry(), HealthState(), host=where.host, port=where.port)
    try:
        server.start()
    except HealthServerError as error:
        return Check("metrics port", Level.FAILED, str(error), "unless a run is going on there already, set metrics.port")
    server.close()
    free = "any free one" if where.port == 0 else f"{where.port} is free"
    return Check("metrics port", Level.OK, f"{free} on {where.host}")


def check_silence(venues: Sequence[str]) -> Check:
    """Say whether there are enough venues to tell that one of them is connected and deaf."""
    if len(venues) > OTHER_VENUES:
        return Check("silent feeds", Level.OK, f"can be told from quiet ones: {len(venues)} venues are watched")
    seen = f"cannot be told from quiet ones with {', '.join(venues)} alone: an endpoint that sends nothing would look calm"
    return Check("silent feeds", Level.WARNING, seen, f"add to venues, so that there are more than {OTHER_VENUES}")


def journal_path(settings: Settings) -> Path:
    """Return where a run keeps its journal."""
    return last_place(settings.data_dir, settings.own_shard).journal


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
