"""Frame on the socket → row in the sink while the store refuses, tables are compacted, or the journal is trimmed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from benchmarks.latency import Milliseconds, through_flow
from connectors.sinks.delta_tables import DeltaTables
from connectors.sources.source import Retention

RATE = 2_000
_TRIMMED = Retention(seconds=1.0)


def strains(data_dir: Path, seconds: float) -> Iterator[tuple[str, Milliseconds]]:
    """Yield what went on and the latencies meanwhile, in milliseconds; first those of a usual run."""
    kinds: list[tuple[str, Retention | None, Callable[[Path], AbstractContextManager[None]]]] = [
        ("nothing else", None, lambda _data: nullcontext()),
        ("the store refuses every commit", None, lambda _data: _store_refuses()),
        ("`cascadewatch maintain` in a loop", None, _maintained),
        ("journal trimmed to a second", _TRIMMED, lambda _data: nullcontext()),
    ]
    for number, (words, retention, around) in enumerate(kinds):
        data = data_dir / str(number)
        with around(data):
            yield words, through_flow(data, RATE, seconds, retention=retention)


@contextmanager
def _store_refuses() -> Iterator[None]:
    with patch.object(DeltaTables, "commit", side_effect=OSError("the store is away")):
        yield


@contextmanager
def _maintained(data: Path) -> Iterator[None]:
    """Compact the tables again and again, as another process does, with low priority as always."""
    ended = threading.Event()
    command = [sys.executable, "-m", "cascadewatch", "maintain", "--data", str(data)]

    def again_and_again() -> None:
        while not ended.wait(1.0):
            if (data / "tables" / "liquidations").exists():
                subprocess.run(command, check=True, env=dict(os.environ), capture_output=True)

    beside = threading.Thread(target=again_and_again)
    beside.start()
    try:
        yield
    finally:
        ended.set()
        beside.join()
