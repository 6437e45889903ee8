"""The page on the tables is made from the schemas, and the schemas say what a reader needs."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from cascadewatch.describe_tables import markdown
from connectors.sinks.table_columns import NUMBERS_BY_NAME, to_arrow
from connectors.sinks.table_examples import example_of
from connectors.sinks.tables import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"

UNITS = re.compile(
    r"USD|[Cc]oins|BTC|[Ff]raction|percent|[Hh]ours|ratio\b|Accounts long per|no unit|[Pp]oints|\d+ to \d+|at most 1"
    r"|[Nn]umber of|[Nn]umber |Sequence of"
)


def columns():
    return [pytest.param(column, id=f"{table.name}.{column.name}") for table in TABLES for column in table.columns]


def test_the_page_is_what_the_schemas_say():
    page = PAGE.read_text(encoding="utf-8")

    assert page == markdown() + "\n", "regenerate it: python -m cascadewatch.describe_tables > docs/tables.md"


def test_every_column_is_described_and_no_cell_of_the_page_breaks_its_row():
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]

    assert len(rows) == sum(len(table.columns) for table in TABLES)
    assert all(re.fullmatch(r"\| `\w+` \| [a-z ]+ \| (no)? \| [^|]{3,} \| (`[^`|]*`|null) \|", row) for row in rows)


@pytest.mark.parametrize(
    "column", [each for each in columns() if each.values[0].type in {pa.float64(), pa.int64(), NUMBERS_BY_NAME}]
)
def test_every_number_says_its_unit(column):
    assert UNITS.search(column.comment)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_examples_are_rows_and_leave_little_unknown(table):
    (row,) = to_arrow(table, [example_of(table)]).to_pylist(maps_as_pydicts="strict")
    unknown = {name for name, value in row.items() if value is None}

    assert unknown <= {"bid_usd_2p0", "ask_usd_2p0", "open_interest_change_24h_percent", "funding_change_24h"}
