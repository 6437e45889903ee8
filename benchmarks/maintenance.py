"""Commit latency and read time by number of versions, with and without maintenance beside the writer."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from connectors.clock import now_us
from connectors.sinks.delta_tables import DeltaTables, app_id
from connectors.sinks.maintenance import Rules, TableMaintenance
from connectors.sinks.table_columns import Table, to_arrow
from connectors.sinks.tables import LIQUIDATIONS, SCORES
from market.events import Liquidation
from market.raw import Cause, Completeness, PositionSide
from market.readings import AbsoluteRisk, CascadeScore, Score, Severity

_ROWS = 20  # of a commit
_MEASURED = 100  # commits at each place: with a checkpoint and a handle opened anew among them
_PARTITION = "0"
_DAY_US = 86_400_000_000
_LONG_AGO = 1_000_000_000  # s since the epoch: the entry of a version that no reader holds any more


_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Place:
    """What was measured after so many versions.

    Attributes:
        versions: Committed by then.
        commit_ms: Of each of the last commits.
        commit_cpu_ms: Processor time of the process, all its threads, per commit: says more on a busy machine.
        open_ms: Median of opening the table.
        read_ms: Of reading all of it.
        files: That the newest version needs.
        entries: In the log.
    """

    versions: int
    commit_ms: list[float]
    commit_cpu_ms: float
    open_ms: float
    read_ms: float
    files: int
    entries: int

    def percentile(self, percent: float) -> float:
        """Of the commits' latency."""
        return float(np.percentile(self.commit_ms, percent))


def grow(folder: Path, table: Table, places: list[int], *, maintained_every: int | None) -> Iterator[Place]:
    """Commit on and on, and measure at each of some numbers of versions.

    Args:
        folder: Where the table is made.
        table: ``liquidations`` (narrow) or ``scores`` (114 columns).
        places: Numbers of versions, rising.
        maintained_every: Commits between two maintenances, which run beside the next commits in a process of their own; their
            log entries are made old first, as if a day had passed. None: never.
    """
    tables = DeltaTables(str(folder), tables=(table,))
    tables.open()
    rows = _rows(table)
    wall: list[float] = []
    cpu: list[float] = []
    maintenance: multiprocessing.process.BaseProcess | None = None
    context = multiprocessing.get_context("spawn")
    for version in range(1, places[-1] + 1):
        rows = rows.set_column(rows.schema.get_field_index("sequence"), *_sequences(rows, version))
        began, began_cpu = time.perf_counter(), time.process_time()
        tables.commit(table.name, rows, {_PARTITION: version})
        cpu.append((time.process_time() - began_cpu) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
        if version in places:
            yield _measured(folder / table.name, version, wall[-_MEASURED:], cpu[-_MEASURED:])
        if maintained_every is not None and version % maintained_every == 0:
            if maintenance is not None:
                maintenance.join()
            maintenance = context.Process(target=_maintain, args=(str(folder / table.name),))
            maintenance.start()
    if maintenance is not None:
        maintenance.join()
    committed = DeltaTable(str(folder / table.name)).transaction_version(app_id(_PARTITION))
    if committed != places[-1]:
        raise AssertionError(f"the table says that {committed} is its last frame, and {places[-1]} is")


def _maintain(uri: str) -> None:
    for entry in Path(uri, "_delta_log").iterdir():
        os.utime(entry, (_LONG_AGO, _LONG_AGO))
    TableMaintenance(uri, {}, Rules(), now_us=now_us()).run()


def _measured(path: Path, version: int, wall: list[float], cpu: list[float]) -> Place:
    opened = [_timed(lambda: DeltaTable(str(path)))[1] for _ in range(5)]
    table = DeltaTable(str(path))
    read, read_ms = _timed(table.to_pyarrow_table)
    if read.num_rows != version * _ROWS:
        raise AssertionError(f"{read.num_rows} rows after {version} commits of {_ROWS}")
    return Place(
        versions=version,
        commit_ms=wall,
        commit_cpu_ms=float(np.mean(cpu)),
        open_ms=float(np.median(opened)),
        read_ms=read_ms,
        files=len(table.file_uris()),
        entries=len(list((path / "_delta_log").glob("*.json"))),
    )


def _timed(act: Callable[[], _Result]) -> tuple[_Result, float]:
    began = time.perf_counter()
    result = act()
    return result, (time.perf_counter() - began) * 1e3


def _sequences(rows: pa.Table, version: int) -> tuple[pa.Field, pa.Array]:
    return rows.schema.field("sequence"), pa.array([version] * rows.num_rows, pa.int64())


def _rows(table: Table) -> pa.Table:
    cause = Cause(_PARTITION, 1, now_us() // _DAY_US * _DAY_US)
    if table is SCORES:
        side = CascadeScore(None, 0.0, {}, ("size",))
        risk = AbsoluteRisk(0, None, None, None, None)
        unknown: dict[str, Any] = dict.fromkeys(("windows", "derivatives", "pressure", "miners"))
        empty = Score(
            cause=cause,
            asset="BTC",
            **unknown,
            risk=risk,
            cascade_long=side,
            cascade_short=side,
            severity=Severity.NONE,
            pressure_waived=True,
            missing_inputs=(),
            parameter_version="0123456789ab",
        )
        return to_arrow(SCORES, [empty] * _ROWS)
    one = Liquidation(
        cause=cause,
        venue="okx",
        symbol="BTC-USDT-SWAP",
        asset="BTC",
        position_side=PositionSide.LONG,
        price=100_000.5,
        base_quantity=0.01,
        notional_micros=1_000_005_000,
        completeness=Completeness.SAMPLED,
        event_time_us=cause.receive_time_us,
    )
    return to_arrow(LIQUIDATIONS, [one] * _ROWS)
