"""Views for common questions: what each of them makes of a handful of rows, and where their names can be used."""

import datetime as dt

import pytest
from typer.testing import CliRunner
from view_events import alert, at, cascade, gap, liquidation, score

from cascadewatch.cli import app
from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import ALERTS, CASCADES, GAPS, LIQUIDATIONS, SCORES
from market.readings import CascadePhase, Severity
from views.common import common_views, views_named_in
from views.queries import QueryError, open_tables, query

WRITTEN = {
    LIQUIDATIONS: [liquidation(-3_600), liquidation(-3_599), liquidation(-1, "bybit-linear"), liquidation(0)],
    SCORES: [
        score(at_s=-3_700, risk=99, cascades=(9.9, 9.9)),
        score(at_s=-2, risk=40, cascades=(6.5, 0.5)),
        score(at_s=-1, risk=55, cascades=(7.5, 0.5), severity=Severity.WARNING),
        score(at_s=-0.5, asset="ETH", risk=70),
        score(at_s=0, risk=60, cascades=(8.5, 0.5)),
    ],
    CASCADES: [cascade(), cascade(CascadePhase.ENDED, at_s=120)],
    GAPS: [gap(10, 4.5), gap(50, 20)],
}
TODAY = dt.date(2025, 11, 21)


def moment(seconds):
    return dt.datetime.fromtimestamp(at(seconds) / 1e6, tz=dt.timezone.utc)


def opened(folder, written):
    tables = DeltaTables(str(folder), tables=tuple(written))
    tables.open()
    for table, events in written.items():
        if events:
            rows = to_arrow(table, events)
            tables.commit(table.name, rows, highs_of(rows))
    return open_tables(str(folder))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("data") / "tables", WRITTEN)


def rows(sql, tables):
    return query(sql, tables).to_pylist()


def test_the_last_hour_ends_with_the_newest_liquidation_and_leaves_out_what_is_an_hour_older(tables):
    found = rows("SELECT venue, position_side, notional_usd, liquidations FROM last_hour_by_venue ORDER BY venue", tables)

    assert found == [
        {"venue": "bybit-linear", "position_side": "LONG", "notional_usd": 1_000.0, "liquidations": 1},
        {"venue": "okx", "position_side": "LONG", "notional_usd": 2_000.0, "liquidations": 2},
    ]


def test_the_newest_score_of_each_asset_is_one_row(tables):
    found = rows("SELECT asset, as_of, risk_absolute FROM newest_scores ORDER BY asset", tables)

    assert found == [
        {"asset": "BTC", "as_of": moment(0), "risk_absolute": 60},
        {"asset": "ETH", "as_of": moment(-0.5), "risk_absolute": 70},
    ]


def test_a_cascade_that_ended_is_one_row(tables):
    found = rows("SELECT * FROM cascades_by_day WHERE day = '2025-11-21'", tables)

    assert found == [
        {
            "day": TODAY,
            "cascade_id": "BTC-LONG-0-1",
            "asset": "BTC",
            "position_side": "LONG",
            "began_time": moment(0),
            "ended_time": moment(120),
            "peak_usd": 6_250_000.0,
            "total_usd": 7_000_000.0,
            "liquidations": 12,
        }
    ]


def test_a_cascade_that_runs_has_no_end(tmp_path):
    tables = opened(tmp_path, {CASCADES: [cascade()]})

    assert rows("SELECT ended_time FROM cascades_by_day", tables) == [{"ended_time": None}]


def test_the_score_before_a_cascade_is_the_newest_of_its_asset_that_did_not_know_of_it(tables):
    found = rows("SELECT cascade_id, as_of, risk_absolute, cascade_score, severity FROM score_before_cascade", tables)

    assert found == [
        {
            "cascade_id": "BTC-LONG-0-1",
            "as_of": moment(-1),
            "risk_absolute": 55,
            "cascade_score": 7.5,
            "severity": "warning",
        }
    ]


def test_a_cascade_without_a_score_in_the_hour_before_it_is_there_all_the_same(tmp_path):
    tables = opened(tmp_path, {CASCADES: [cascade()], SCORES: [score(at_s=-3_700)]})

    assert rows("SELECT cascade_id, as_of FROM score_before_cascade", tables) == [
        {"cascade_id": "BTC-LONG-0-1", "as_of": None}
    ]


def test_the_gaps_of_a_day_are_counted_by_feed_with_the_longest(tables):
    assert rows("SELECT * FROM unseen_by_day", tables) == [
        {
            "day": TODAY,
            "venue": "okx",
            "feed": "okx/liquidations",
            "gaps": 2,
            "first_from_time": moment(5.5),
            "last_to_time": moment(50),
            "longest": dt.timedelta(seconds=20),
        }
    ]


@pytest.mark.parametrize("view", common_views(), ids=lambda view: view.name)
def test_over_empty_tables_a_view_is_empty(view, tmp_path):
    tables = opened(tmp_path, dict.fromkeys(WRITTEN, ()))

    assert rows(f"SELECT * FROM {view.name}", tables) == []  # noqa: S608 - our own name


def test_a_view_of_a_table_that_is_not_there_is_refused_in_words(tmp_path):
    tables = opened(tmp_path, {ALERTS: [alert()]})

    with pytest.raises(QueryError, match="cascades_by_day' not found"):
        query("SELECT * FROM cascades_by_day", tables)


def test_only_views_that_a_statement_names_are_made():
    assert [view.name for view in views_named_in("SELECT * FROM Newest_Scores AS newest")] == ["newest_scores"]
    assert views_named_in("SELECT 1 FROM liquidations") == ()


def test_a_view_can_be_joined_with_a_table(tables):
    sql = "SELECT n.asset, count(*) AS n FROM newest_scores AS n JOIN scores AS s ON s.asset = n.asset GROUP BY 1 ORDER BY 1"

    assert rows(sql, tables) == [{"asset": "BTC", "n": 4}, {"asset": "ETH", "n": 1}]


@pytest.mark.parametrize("view", common_views(), ids=lambda view: view.name)
def test_the_command_prints_a_views_sql(view):
    printed = CliRunner().invoke(app, ["tables", "--view", view.name])

    assert (printed.exit_code, printed.stdout) == (0, f"-- {view.comment}\n{view.sql}\n")


def test_an_unknown_view_is_answered_with_those_that_there_are():
    refused = CliRunner().invoke(app, ["tables", "--view", "prices"])

    assert refused.exit_code == 1
    assert f"there is no view 'prices'; there are {', '.join(view.name for view in common_views())}" in refused.stderr
