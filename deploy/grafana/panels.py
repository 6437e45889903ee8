"""What panels and dashboards are, apart from Grafana: questions in PromQL, their legends, a unit, words for the reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WHOLE = 24  # columns of Grafana's grid
HALF = 12
THIRD = 8
QUARTER = 6


@dataclass(frozen=True)
class Query:
    """One question.

    Attributes:
        legend: Names labels of the answer as ``{{label}}``.
        may_be_empty: Why there may rightly be no data, or "" where there always is some.
    """

    expr: str
    legend: str
    may_be_empty: str = ""


@dataclass(frozen=True)
class Threshold:
    """From this value on the colour changes."""

    value: float
    colour: str


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        description: What is seen and how to read it; shown when one points at the title.
        unit: As Grafana calls it: ``currencyUSD``, ``percentunit``, ``s``, ``bytes``, ``short`` …
        kind: ``timeseries``, or ``stat`` for the newest value alone.
        runbooks: Names of runbooks that belong to what is seen.
        stacked: Series are parts of a whole.
        names: Words for values.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = HALF
    height: int = 8
    kind: str = "timeseries"
    minimum: float | None = None
    maximum: float | None = None
    thresholds: tuple[Threshold, ...] = ()
    runbooks: tuple[str, ...] = ()
    stacked: bool = False
    names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label.

    Attributes:
        query: As Grafana asks Prometheus: ``label_values(metric, label)``.
        multi: Several can be chosen, and all of them are at first.
    """

    name: str
    label: str
    query: str
    multi: bool = True


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its file and its address are called ``uid``."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


ASSET = Variable("asset", "Asset", "label_values(cascadewatch_score_timestamp_seconds, asset)")
ONE_ASSET = Variable("asset", "Asset", "label_values(cascadewatch_score_timestamp_seconds, asset)", multi=False)
VENUE = Variable("venue", "Venue", "label_values(cascadewatch_frames_received_total, venue)")
INSTANCE = Variable("instance", "Instance", "label_values(cascadewatch_batch_timestamp_seconds, instance)")

SEVERITIES = {0: "none", 1: "info", 2: "warning", 3: "critical"}
"""What the numbers of the severity metrics mean."""


SEVERITY_STEPS = (Threshold(1, "yellow"), Threshold(2, "orange"), Threshold(3, "red"))

SHORT_RUN = "changes need as much history as their look-back: nothing in the first minutes, or hours, of a run"
"""Why what is compared with the past may be empty."""


def stat(title: str, description: str, unit: str, queries: tuple[Query, ...], *, height: int = 5, **more: Any) -> Panel:
    """Return a panel of the newest value alone, a quarter of the width."""
    return Panel(title, description, unit, queries, width=QUARTER, height=height, kind="stat", **more)


def one(expr: str, legend: str, may_be_empty: str = "") -> tuple[Query, ...]:
    """Return a panel's only question."""
    return (Query(expr, legend, may_be_empty),)
