"""Replay of a journal through the whole flow, tables written: events per second, beside the loops that people write first.

The processor time of the whole process is what counts ("on one core"): threads that encode and commit included.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from flows.replay import journal_source
from flows.runtime import Runtime
from flows.settings import Settings


@dataclass(frozen=True)
class Replayed:
    """One replay.

    Attributes:
        seconds: Wall-clock time until every row is committed.
        cpu_seconds: Processor time of all threads.
        peak_rss_bytes: Largest resident size of the process so far.
    """

    rows: dict[str, int]
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


class _Rows:
    """Counts committed rows."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def rows_spooled(self, table: str, rows: int) -> None: ...

    def spool_bytes(self, size_bytes: int) -> None: ...

    def spool_blocked(self, *, is_blocked: bool) -> None: ...

    def committed(self, table: str, rows: int, seconds: float) -> None:  # noqa: ARG002 - the observer's
        self.rows[table] = self.rows.get(table, 0) + rows

    def commit_failed(self, table: str, error: str, reason: str) -> None: ...


def replay(journal: Path, data_dir: Path) -> Replayed:
    """Replay a journal into new tables."""
    counted = _Rows()
    started, cpu_started = time.perf_counter(), time.process_time()
    with Runtime(Settings(data_dir=data_dir, metrics={"port": 0}), sink_observers=[counted]) as runtime:
        tables = runtime.tables_sink()
        runtime.run(journal_source(journal), tables)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Replayed(counted.rows, time.perf_counter() - started, time.process_time() - cpu_started, peak)
