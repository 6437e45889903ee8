"""Tables for the tests of maintenance: written as the sink writes them, aged as if time had passed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from sink_events import NOON_US, liquidation, score

from connectors.clock import now_us
from connectors.sinks.delta_tables import DeltaTables, app_id
from connectors.sinks.maintenance import Rules, TableMaintenance, TableReport
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import LIQUIDATIONS, SCORES

DAY_US = 86_400_000_000
LONG_AGO = (1_000_000_000, 1_000_000_000)  # 2001


class Maintained:
    """Two tables below a folder or prefix, their writer, and maintenance of one of them."""

    def __init__(self, root: Path | str, storage_options: dict[str, str] | None = None) -> None:
        self.root = str(root)
        self.options = storage_options or {}
        self.writer = self.opened()

    def opened(self) -> DeltaTables:
        """Open the tables as a process that starts does."""
        tables = DeltaTables(self.root, self.options, tables=(LIQUIDATIONS, SCORES))
        tables.open()
        return tables

    def commit(self, *sequences: int, day: int = 0, partition: str = "local", writer: DeltaTables | None = None) -> int:
        """Commit liquidations, so many days after 2023-11-15."""
        at_us = NOON_US + day * DAY_US
        events = [liquidation(sequence, partition=partition, at_us=at_us) for sequence in sequences]
        return self._commit("liquidations", to_arrow(LIQUIDATIONS, events), writer)

    def commit_scores(self, *sequences: int, **changes: Any) -> int:
        """Commit wide rows, with maps and lists."""
        return self._commit("scores", to_arrow(SCORES, [score(sequence, **changes) for sequence in sequences]), None)

    def _commit(self, name: str, rows: pa.Table, writer: DeltaTables | None) -> int:
        return (writer or self.writer).commit(name, rows, highs_of(rows))

    def commit_plainly(self, sequences: Iterable[int], day: str = "2023-11-15") -> None:
        """Commit liquidations, one by one, by no library: the table's files are what they would be, in a tenth of the time.

        Args:
            sequences: Of the rows, which continue what was committed.
            day: The partition, whatever the rows' time.
        """
        folder = Path(self.root, "liquidations")
        for version, sequence in enumerate(sequences, start=self.table().version() + 1):
            name = f"date={day}/{sequence}.parquet"
            pq.write_table(to_arrow(LIQUIDATIONS, [liquidation(sequence)]), folder / name)
            file = {"path": name, "partitionValues": {"date": day}, "size": (folder / name).stat().st_size, "dataChange": True}
            added = {**file, "modificationTime": NOON_US // 1_000, "stats": json.dumps({"numRecords": 1})}
            actions = [{"add": added}, {"txn": {"appId": app_id("local"), "version": sequence}}]
            (folder / "_delta_log" / f"{version:020}.json").write_text("\n".join(map(json.dumps, actions)))
        self.writer = self.opened()

    def table(self, name: str = "liquidations") -> DeltaTable:
        """Open a table as a reader does."""
        return DeltaTable(f"{self.root}/{name}", storage_options=self.options)

    def rows(self, name: str = "liquidations") -> pa.Table:
        """Return all rows, by sequence."""
        return self.table(name).to_pyarrow_table().sort_by("sequence")

    def sequences(self) -> list[int]:
        """Return what the liquidations' table has."""
        return [int(sequence) for sequence in self.rows()["sequence"].to_pylist()]

    def days(self) -> list[str]:
        """Return the days of which it has rows."""
        return sorted(partition["date"] for partition in self.table().partitions())

    def maintenance(self, name: str = "liquidations", *, at_us: int | None = None, **rules: Any) -> TableMaintenance:
        """Return the maintenance of one table."""
        return TableMaintenance(
            f"{self.root}/{name}", self.options, Rules(**rules), now_us=now_us() if at_us is None else at_us
        )

    def maintain(self, name: str = "liquidations", *, at_us: int | None = None, **rules: Any) -> TableReport:
        """Run it."""
        return self.maintenance(name, at_us=at_us, **rules).run()

    def stored(self) -> list[Path]:
        """Return the data files below the liquidations' folder."""
        return sorted(Path(self.root, "liquidations").glob("date=*/*.parquet"))

    def log(self) -> list[str]:
        """Return what is in its log."""
        return sorted(path.name for path in Path(self.root, "liquidations", "_delta_log").iterdir())

    def age(self, pattern: str) -> None:
        """Let files below its folder look as old as can be."""
        for path in Path(self.root, "liquidations").glob(pattern):
            os.utime(path, LONG_AGO)
