"""Writes docs/tables.md from the tables' schemas: ``python -m cascadewatch.describe_tables > docs/tables.md``."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pyarrow as pa
from deltalake import Schema

from connectors.sinks.table_columns import NUMBERS_BY_NAME, Column, Table, to_arrow
from connectors.sinks.table_examples import example_of
from connectors.sinks.tables import TABLES

_HEAD = """# Tables

Delta tables below `tables/` of the data directory, or at `sink.tables_uri`. Names, types and units are a contract: they do not
change within a version. Each is partitioned by `date`, the UTC day of `receive_time`. What is not known is null, never zero; a
column without a “no” below may be null. Times are UTC with microseconds; a rate or a share is a fraction unless its name says
percent. Rows have no order: sort by `feed_partition, sequence`.

How to read them with DuckDB, polars, pandas, Spark and others: [recipes.md](recipes.md). The same columns in a terminal:
`cascadewatch tables --schema scores`.

This page is generated: `python -m cascadewatch.describe_tables > docs/tables.md`. Examples of a table are all of one row.
"""

_LONGEST = 60  # characters of an example


def markdown() -> str:
    """Return the page."""
    links = "\n".join(f"- [{table.name}](#{table.name}): {table.comment}" for table in TABLES)
    return "\n".join([_HEAD, links, *map(_section, TABLES)])


def _section(table: Table) -> str:
    row = to_arrow(table, [example_of(table)]).to_pylist(maps_as_pydicts="strict")[0]
    heads = "| column | type | null | meaning, unit, sign | example |\n|---|---|---|---|---|"
    return "\n".join(
        [f"\n## {table.name}\n\n{table.comment}.\n", heads, *(_line(each, row[each.name]) for each in table.columns)]
    )


def _line(column: Column, example: Any) -> str:
    null = "no" if column.is_required else ""
    return f"| `{column.name}` | {_type_of(column)} | {null} | {column.comment} | {_shown(example)} |"


def _type_of(column: Column) -> str:
    """Return the type as Delta calls it."""
    if column.type == NUMBERS_BY_NAME:
        return "map of string to double"
    if pa.types.is_list(column.type):
        return "array of string"
    (field,) = Schema.from_arrow(pa.schema([column.field])).fields
    return str(field.type.type)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        words = value.decode()
    else:
        words = value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
    return f"`{words if len(words) <= _LONGEST else words[: _LONGEST - 1] + '…'}`"


if __name__ == "__main__":
    sys.stdout.write(markdown() + "\n")
