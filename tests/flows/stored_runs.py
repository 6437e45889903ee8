"""Runs whose tables are in an object store: what such a run is told, and what it has written there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from deltalake import DeltaTable, write_deltalake
from flow_runs import Program
from prometheus_client.parser import text_string_to_metric_families

from connectors.sinks.tables import TABLES


@dataclass(frozen=True)
class StoredTables:
    """Tables below a prefix of an object store.

    Attributes:
        options: For delta-rs.
    """

    uri: str
    options: Mapping[str, str]

    def settings(self, *, through: str | None = None) -> dict[str, str]:
        """Return the settings of a run that writes them, maybe through a proxy at this URL."""
        options = {**self.options, **({} if through is None else {"AWS_ENDPOINT_URL": through})}
        return {"SINK__TABLES_URI": self.uri, "SINK__STORAGE_OPTIONS": json.dumps(options)}

    def table(self, name: str) -> DeltaTable:
        """Return a table as it is now."""
        return DeltaTable(f"{self.uri}/{name}", storage_options=dict(self.options))

    def bring(self, data: Path) -> Path:
        """Copy all rows to where a run has its tables by default; return the run's directory, for what compares such runs."""
        for each in TABLES:
            rows = self.table(each.name).to_pyarrow_table()
            if rows.num_rows:
                write_deltalake(str(data / "tables" / each.name), rows)
        return data

    def disorder(self) -> dict[str, list[Any]]:
        """Return, by table, commits that came before others of earlier frames: none where they came in order."""
        found = {}
        for each in TABLES:
            added = self.table(each.name).get_add_actions(flatten=True)
            columns = [added.column(name).to_pylist() for name in ("modification_time", "min.sequence", "max.sequence")]
            spans = sorted(zip(*columns, strict=True))
            # One commit may write several files at once, which end in any order.
            apart = [(one, other) for one, other in pairwise(spans) if other[0] - one[0] > _AT_ONCE_MS]
            if wrong := [(one[1:], other[1:]) for one, other in apart if other[1] <= one[2]]:
                found[each.name] = wrong
        return found


_AT_ONCE_MS = 1_000


class Pages:
    """What a run serves, found by what it logs at its start."""

    def __init__(self, run: Program) -> None:
        """Find the pages of a program that logs to a file of its own."""
        self._run = run

    def metrics(self) -> dict[str, float]:
        """Return the samples now, summed over their labels; nothing before the run serves any."""
        page = self._get("metrics")
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(page.text) if page is not None else ():
            for sample in family.samples:
                name = sample.name.removeprefix("cascadewatch_")
                sums[name] = sums.get(name, 0.0) + sample.value
        return sums

    def status(self, path: str) -> int:
        """Return the status of ``healthz`` or ``readyz``; 0 before the run serves any."""
        page = self._get(path)
        return 0 if page is None else page.status_code

    def _get(self, path: str) -> httpx.Response | None:
        lines = [line for line in self._run.log.read_text(errors="replace").splitlines() if '"event": "started"' in line]
        if not lines:
            return None
        url = str(json.loads(lines[-1])["metrics"]).removesuffix("metrics") + path
        try:
            return httpx.get(url, trust_env=False, timeout=10)
        except httpx.TransportError:
            return None
