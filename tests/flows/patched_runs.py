"""Runs of the real program with one thing changed in it: what no outside can bring about at the right moment.

The change is made before the program begins, in its own process. Everything else is as it is.
"""

from __future__ import annotations

from pathlib import Path

_RUN = """
import os, runpy, sys, threading
sys.argv[1:] = sys.argv[2:]  # without the program's own name
{changes}
runpy.run_module("cascadewatch", run_name="__main__")
"""

COMMITS_HANG = """
from connectors.sinks.delta_tables import DeltaTables
DeltaTables.commit = lambda *_arguments: threading.Event().wait(3600)
"""
"""As if the store took every request and answered none."""

COMMITS_FAIL = """
from connectors.sinks.delta_tables import DeltaTables
def refuse(*_arguments):
    raise OSError("the store refuses")
DeltaTables.commit = refuse
"""
"""As if the store answered every commit with an error."""

_DEAD_AFTER = """
from connectors.sources.feed import WebSocketFeed
describe = WebSocketFeed.__init__
WebSocketFeed.__init__ = lambda *given, **named: describe(*given, **{{"stale_after_seconds": {seconds!r}, **named}})
"""

_COMMITS_WAIT = """
from connectors.sinks.uploader import Uploader
commit_all = Uploader._round
Uploader._round = lambda self: commit_all(self) if os.path.exists({path!r}) else True
"""

_NOTE_LAGS = """
import time
from connectors.sinks.delta import RowsPartition
write_batch, lags = RowsPartition.write_batch, open({path!r}, "a", buffering=1)
def write_batch_and_note(self, values):
    values = list(values)
    write_batch(self, values)
    for events in values:
        received_us = min((event.cause.receive_time_us for event in events), default=None)
        if received_us is not None:
            now = time.time()
            lags.write(f"{{now}} {{now - received_us / 1e6}}\\n")
RowsPartition.write_batch = write_batch_and_note
"""


def patched(changes: str, arguments: list[str]) -> list[str]:
    """Return the arguments of a program with these changes.

    Args:
        changes: Python, which may use ``os``, ``sys`` and ``threading``.
        arguments: Of the program without changes.
    """
    _dash_m, *rest = arguments
    return ["-c", _RUN.format(changes=changes), *rest]


def commits_wait_for(path: Path) -> str:
    """Return a change: nothing is committed before there is such a file."""
    return _COMMITS_WAIT.format(path=str(path))


def connections_dead_after(seconds: float) -> str:
    """Return a change: a connection over which nothing comes counts as dead after so long, not after a minute."""
    return _DEAD_AFTER.format(seconds=seconds)


def noting_lags(path: Path) -> str:
    """Return a change: for each list of rows that reaches the sink, when that was and how long its oldest frame took there.

    Both in seconds, one pair in a line of ``path``; the first is the time of day.
    """
    return _NOTE_LAGS.format(path=str(path))


def lags_between(path: Path, begin: float, end: float) -> list[float]:
    """Return, in rising order, how long rows took that reached the sink between two times of day; seconds."""
    pairs = [tuple(map(float, line.split())) for line in path.read_text().splitlines() if line.count(" ") == 1]
    return sorted(lag for at, lag in pairs if begin <= at < end)
