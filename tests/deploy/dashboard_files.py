"""The dashboards' files as Grafana reads them: panels, their questions, and these with variables chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
METRIC = re.compile(r"\b(?:cascadewatch_[a-z0-9_]+|up)\b")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_IN_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Question:
    """One question of one panel, as the file has it."""

    dashboard: str
    panel: str
    expr: str
    legend: str
    may_be_empty: bool

    def asked(self, chosen: Mapping[str, str]) -> str:
        """Return the question with the variables chosen.

        Raises:
            KeyError: It has a variable that is not among them.
        """
        return _VARIABLE.sub(lambda found: chosen[found[1]], self.expr)

    @property
    def legend_labels(self) -> set[str]:
        """Labels that the legend shows."""
        return set(_IN_LEGEND.findall(self.legend))

    @property
    def metrics(self) -> set[str]:
        """Names of metrics in the question, those of a histogram as it is declared."""
        return {re.sub(r"_(bucket|count|sum)$", "", name) for name in METRIC.findall(self.expr)}


def read(path: Path) -> dict[str, Any]:
    """Return a dashboard."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield its panels without the headings of rows."""
    yield from (panel for panel in board["panels"] if panel["type"] != "row")
