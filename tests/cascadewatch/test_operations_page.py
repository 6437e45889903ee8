"""Procedures of docs/operations.md, carried out as the page has them beside a real run of the simulated market."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_run import program_environment, simulated_run

from connectors.sinks.tables import TABLES
from views.queries import open_tables, query

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```sh (\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def carry_out(name, folder):
    """Run a block of the page where the data directory is called ``data``."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = program_environment(METRICS__PORT=0) | {"PATH": programs}
    done = subprocess.run(
        ["bash", "-ec", BLOCKS[name]], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(folder, *arguments):
    command = [sys.executable, "-m", "cascadewatch", *arguments]
    environment = program_environment(METRICS__PORT=0) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that has ended, and a backup of its tables that was made while it wrote them."""
    folder = tmp_path_factory.mktemp("operations")
    with simulated_run(folder / "data", SINK__COMMIT_INTERVAL_SECONDS=0.1) as run:
        run.wait_until(lambda page: 'rows_committed_total{table="liquidations"}' in page, seconds=60)
        carry_out("backup", folder)
    return folder


def rows(data, table):
    tables = open_tables(str(data / "tables"))
    columns = ", ".join(f"count({column.name})" for column in table.columns)  # reads every column of every file
    answer = query(f"SELECT count(*) AS n, max(sequence) AS newest, {columns} FROM {table.name}", tables).to_pylist()[0]  # noqa: S608 - our own names
    return answer["n"], answer["newest"] or 0


def test_tables_that_were_copied_while_a_run_wrote_them_are_whole_and_a_run_can_go_on_behind_them(folder):
    said = carry_out("restore", folder)
    restored = {table.name: rows(folder / "restored", table) for table in TABLES}
    written = {table.name: rows(folder / "data", table) for table in TABLES}

    assert all(restored[name][0] <= written[name][0] for name in written)
    assert restored["liquidations"][0] > 0
    highest = max(newest for _n, newest in restored.values())
    assert f"the next run begins with frame {highest + 1}" in said


def test_the_journal_gives_the_rows_again_and_the_tables_are_scored_again(folder):
    drained = program(folder, "drain", "--data", "data")
    assert drained.returncode == 0, drained.stderr

    carry_out("replay", folder)

    for table in TABLES:
        assert rows(folder / "replayed", table) == rows(folder / "data", table)
    (liquidations,) = (table for table in TABLES if table.name == "liquidations")
    assert rows(folder / "scored-again", liquidations)[0] == rows(folder / "data", liquidations)[0]
    assert query(
        "SELECT DISTINCT feed_partition AS p FROM scores", open_tables(str(folder / "scored-again" / "tables"))
    ).to_pylist() == [{"p": "replay"}]


def test_every_block_that_can_be_carried_out_is():
    assert set(BLOCKS) == {"backup", "restore", "replay"}


def test_every_page_that_it_links_to_exists():
    docs = Path(__file__).parents[2] / "docs"

    assert all((docs / link).exists() for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE))
