"""Every block of docs/recipes.md, run as it stands against the tables of a real run of the simulated market."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest
from simulated_run import simulated_run
from typer.testing import CliRunner

from cascadewatch.cli import app
from views.common import common_views
from views.queries import open_tables, query

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(.+?)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
QUESTION = "SELECT venue, position_side, notional_usd FROM last_hour_by_venue"


def blocks(language):
    found = [code for kind, code in BLOCKS if kind == language]
    return [pytest.param(code, id=f"{language} {number}") for number, code in enumerate(found, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with a run's ``data`` in it: a cascade has begun, and its rows are in the tables."""
    folder = tmp_path_factory.mktemp("reader")
    with simulated_run(folder / "data") as run:
        run.wait_until(lambda page: 'rows_committed_total{table="cascades"}' in page, seconds=60)
    return folder


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CASCADEWATCH_DATA_DIR", "data")


def run_block(code, **names):
    known = {"__name__": "recipe", **names}
    exec(compile(code, "docs/recipes.md", "exec"), known)  # noqa: S102 - our own page
    return known


def rows_of(answer):
    """An answer of any engine as rows, their numbers rounded to cents: sums of doubles depend on their order."""
    if type(answer).__module__.startswith("pyspark"):  # any name is a column of it
        rows = answer.collect()
    elif hasattr(answer, "fetchall"):  # DuckDB
        rows = answer.fetchall()
    elif hasattr(answer, "iter_rows"):  # polars
        rows = answer.iter_rows()
    elif hasattr(answer, "itertuples"):  # pandas
        rows = answer.itertuples(index=False)
    else:
        rows = zip(*answer.to_pydict().values(), strict=True)
    return sorted((venue, side, round(usd, 2)) for venue, side, usd in rows)


@pytest.fixture
def expected(folder):
    rows = rows_of(query(QUESTION, open_tables(str(folder / "data" / "tables"))))
    assert len(rows) >= 4
    return rows


def test_no_block_is_passed_over():
    assert {kind for kind, _code in BLOCKS} == {"sh", "python", "sql", "python spark"}


@pytest.mark.parametrize("commands", blocks("sh"))
def test_every_command_answers(commands):
    for line in commands.strip().splitlines():
        name, *arguments = shlex.split(line)
        result = CliRunner().invoke(app, arguments)

        assert (name, result.exit_code) == ("cascadewatch", 0), result.output
        assert result.stdout.strip()


@pytest.mark.parametrize("code", blocks("python"))
def test_every_block_of_python_runs_and_answers_the_question_as_all_others_do(code, expected, capsys):
    known = run_block(code)

    assert capsys.readouterr().out
    assert "answer" not in known or rows_of(known["answer"]) == expected


def test_most_blocks_answer_the_question():
    assert sum("answer = " in code for kind, code in BLOCKS if kind.startswith("python")) == 5


@pytest.fixture(scope="module")
def duckdb_tables(folder):
    """The connection that the page's first block makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_block(next(code for kind, code in BLOCKS if "duckdb.connect" in code))["database"]


@pytest.mark.parametrize("sql", blocks("sql"))
def test_every_block_of_sql_has_an_answer_in_duckdb(sql, duckdb_tables):
    assert duckdb_tables.sql(sql).to_arrow_table().num_rows


@pytest.mark.parametrize("view", common_views(), ids=lambda view: view.name)
def test_every_view_gives_the_same_rows_in_duckdb(view, folder, duckdb_tables):
    ours = query(f"SELECT * FROM {view.name}", open_tables(str(folder / "data" / "tables")))  # noqa: S608 - our own name
    theirs = duckdb_tables.sql(view.sql).to_arrow_table()

    assert theirs.column_names == ours.column_names
    assert sorted(map(as_text, theirs.to_pylist())) == sorted(map(as_text, ours.to_pylist()))
    assert ours.num_rows or view.name == "unseen_by_day"


def as_text(row):
    return str([round(value, 2) if isinstance(value, float) else str(value) for value in row.values()])


@pytest.fixture(scope="module")
def spark():
    if sys.platform != "linux":
        pytest.skip("pysail and pyspark-client, which run the recipes for Spark, are installed on Linux only")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # Spark's client has words about newer versions of pandas
        patch.setenv("SPARK_HOME", "none")  # and ends the process where it finds none, which it does not need
        server, sql = importlib.import_module("pysail.spark"), importlib.import_module("pyspark.sql")
        connect = server.SparkConnectServer()
        connect.start(background=True)
        _host, port = connect.listening_address
        session = sql.SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
    yield session
    session.stop()
    connect.stop()


@pytest.mark.filterwarnings("ignore")  # Spark's client has words about newer versions of pandas
@pytest.mark.parametrize("code", blocks("python spark"))
def test_every_block_for_spark_runs(code, spark, expected, capsys):
    known = run_block(code, spark=spark)

    assert capsys.readouterr().out
    assert "answer" not in known or rows_of(known["answer"]) == expected


@pytest.mark.filterwarnings("ignore")  # Spark's client has words about newer versions of pandas
@pytest.mark.parametrize("view", common_views(), ids=lambda view: view.name)
def test_every_view_is_read_by_spark(view, spark, folder):
    for table in (folder / "data" / "tables").iterdir():
        if (table / "_delta_log").is_dir():
            spark.read.format("delta").load(str(table)).createOrReplaceTempView(table.name)
    ours = query(f"SELECT count(*) AS n FROM {view.name}", open_tables(str(folder / "data" / "tables")))  # noqa: S608 - our own name

    assert spark.sql(view.sql).count() == pa.table(ours)["n"][0].as_py()
