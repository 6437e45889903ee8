"""How the terminal shows tables: lists, columns, answers to queries."""

from __future__ import annotations

import sys
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import typer
from rich.console import Console
from rich.table import Table

from connectors.sinks.tables import TABLES
from flows.settings import Settings
from views.queries import QueryError, open_tables, query, summarise

_MOST_SHOWN = 200
_WIDTH_WITHOUT_TERMINAL = 200


def print_tables(settings: Settings) -> None:
    """Print every table with rows, files, size and version."""
    shown = Table(title=f"Tables at {settings.tables_uri}", title_justify="left")
    for name in ("table", "rows", "files", "size", "version", "one row per"):
        shown.add_column(name, justify="left" if name in {"table", "one row per"} else "right")
    for summary in summarise(settings.tables_uri, settings.storage_options()):
        numbers = (summary.rows, summary.files, summary.size_bytes, summary.version)
        rows, files, size, version = ("–" if number is None else f"{number:,}" for number in numbers)
        shown.add_row(summary.name, rows, files, size, version, summary.comment)
    _console().print(shown)


def print_schema(name: str) -> None:
    """Print one table's columns.

    Raises:
        QueryError: There is no such table.
    """
    table = next((table for table in TABLES if table.name == name), None)
    if table is None:
        raise QueryError(f"there is no table {name!r}; there are {', '.join(table.name for table in TABLES)}")
    shown = Table(title=f"{table.name}: {table.comment}", title_justify="left")
    for heading in ("column", "type", "meaning and unit"):
        shown.add_column(heading)
    for field in table.schema:
        shown.add_row(field.name, str(field.type), (field.metadata or {}).get(b"comment", b"").decode())
    _console().print(shown)


def print_answer(settings: Settings, sql: str, output: Literal["table", "csv", "json"]) -> None:
    """Print the answer to a query.

    Raises:
        QueryError: It cannot be answered.
    """
    answer = query(sql, open_tables(settings.tables_uri, settings.storage_options()))
    if output == "csv":
        pa.csv.write_csv(answer, sys.stdout.buffer)
    elif output == "json":
        _print_json(answer)
    else:
        _print_table(answer)


def _console() -> Console:
    """Return a console as wide as the terminal; into a pipe or a file, wide enough that columns are not cut."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


def _print_json(answer: pa.Table) -> None:
    import msgspec  # noqa: PLC0415 - only this output needs it

    for row in answer.to_pylist(maps_as_pydicts="lossy"):
        typer.echo(msgspec.json.encode(row).decode())


def _print_table(answer: pa.Table) -> None:
    shown = Table()
    for name in answer.column_names:
        shown.add_column(name)
    for row in answer.slice(0, _MOST_SHOWN).to_pylist():
        shown.add_row(*("" if value is None else str(value) for value in row.values()))
    _console().print(shown)
    if answer.num_rows > _MOST_SHOWN:
        typer.echo(f"the first {_MOST_SHOWN} of {answer.num_rows:,} rows; --output csv gives all", err=True)
