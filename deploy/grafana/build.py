"""Makes the dashboards' JSON from panels as data: ``python deploy/grafana/build.py`` writes ``deploy/grafana/dashboards``.

Grafana's own library puts them together, so that fields and values are those that Grafana knows. It wants Python 3.11.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from asset_detail import ASSET_DETAIL
from feeds_and_pipeline import PIPELINE
from grafana_foundation_sdk.builders import common as common_parts
from grafana_foundation_sdk.builders import dashboard as parts
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from market_overview import MARKET
from objective import SLO
from panels import WHOLE, Dashboard, Panel, Row, Variable

DASHBOARDS = (MARKET, ASSET_DETAIL, PIPELINE, SLO)
FOLDER = Path(__file__).parent / "dashboards"

_SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG = "cascadewatch"
_RUNBOOKS = "deploy/runbooks"


def built(described: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    board = (
        parts.Dashboard(described.title)
        .uid(described.uid)
        .description(described.description)
        .tags([_TAG])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("utc")
        .with_variable(parts.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            parts.TextBoxVariable("runbooks")
            .label("Runbooks")
            .description("URL of the folder deploy/runbooks, for the panels' links")
            .default_value(_RUNBOOKS)
        )
        .link(
            parts.DashboardLink("cascadewatch")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
    )
    for variable in described.variables:
        board.with_variable(_variable(variable))
    ids = count(1)
    for row in described.rows:
        _add_row(board, row, ids)
    return json.loads(JSONEncoder(sort_keys=True).encode(board.build()))


def _variable(described: Variable) -> parts.QueryVariable:
    variable = (
        parts.QueryVariable(described.name)
        .label(described.label)
        .datasource(_SOURCE)
        .query({"query": described.query, "refId": "StandardVariableQuery"})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(described.multi)
        .include_all(described.multi)
    )
    if described.multi:
        variable.all_value(".+").current(dashboard.VariableOption(text="All", value="$__all"))
    return variable


def _add_row(board: parts.Dashboard, row: Row, ids: Iterator[int]) -> None:
    board.with_row(parts.Row(row.title).id(next(ids)))
    for panel in row.panels:
        board.with_panel(_panel(panel).id(next(ids)))


def _panel(described: Panel) -> stat.Panel | timeseries.Panel:
    panel = _stat() if described.kind == "stat" else _timeseries(described)
    panel.title(described.title).description(_words(described)).unit(described.unit).datasource(_SOURCE)
    panel.span(described.width).height(described.height)
    for ref_id, query in zip(string.ascii_uppercase, described.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref_id)
        panel.with_target(target.instant() if described.kind == "stat" else target.range())
    if described.minimum is not None:
        panel.min(described.minimum)
    if described.maximum is not None:
        panel.max(described.maximum)
    if described.thresholds:
        panel.thresholds(_thresholds(described))
    if described.names:
        names = {str(value): dashboard.ValueMappingResult(text=text) for value, text in described.names.items()}
        panel.mappings([dashboard.ValueMap(options=names)])
    panel.links([parts.DashboardLink(f"Runbook: {name}").url(f"${{runbooks}}/{name}.md") for name in described.runbooks])
    return panel


def _words(described: Panel) -> str:
    reasons = dict.fromkeys(query.may_be_empty for query in described.queries if query.may_be_empty)
    return "\n\n".join([described.description, *(f"May be empty: {reason}." for reason in reasons)])


def _stat() -> stat.Panel:
    newest = common_parts.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(newest).graph_mode(common.BigValueGraphMode.NONE)


def _timeseries(described: Panel) -> timeseries.Panel:
    legend = common_parts.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE).show_legend(show_legend=True)
    legend.placement(common.LegendPlacement.RIGHT if described.width == WHOLE else common.LegendPlacement.BOTTOM)
    panel = timeseries.Panel().legend(legend.calcs(["lastNotNull", "max"])).line_width(1)
    panel.tooltip(common_parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    if described.stacked:
        panel.stacking(common_parts.StackingConfig().mode(common.StackingMode.NORMAL)).fill_opacity(30)
    if described.thresholds:
        panel.thresholds_style(common_parts.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    return panel


def _thresholds(described: Panel) -> parts.ThresholdsConfig:
    first = "red" if described.thresholds[-1].colour == "green" else "green"
    steps = [dashboard.Threshold(value=None, color=first)]
    steps += [dashboard.Threshold(value=each.value, color=each.colour) for each in described.thresholds]
    return parts.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def text_of(described: Dashboard) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(built(described), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for described in DASHBOARDS:
        (FOLDER / f"{described.uid}.json").write_text(text_of(described), encoding="utf-8")


if __name__ == "__main__":
    main()
