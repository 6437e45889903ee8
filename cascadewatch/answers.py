"""How the terminal shows tables: lists, columns, answers to queries."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.sinks.tables import TABLES
from flows.settings import Settings
from views.common import common_views
from views.queries import QueryError, open_tables, query, summarise

_MOST_SHOWN = 200
_MOST_SIDE_BY_SIDE = 16  # columns: more than that and none of them can be read
_MOST_UPRIGHT = 4  # rows shown as columns where there are more columns than that
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


def print_view(name: str) -> None:
    """Print the SQL of one view, as any engine that knows the tables by name takes it.

    Raises:
        QueryError: There is no such view.
    """
    view = next((view for view in common_views() if view.name == name), None)
    if view is None:
        raise QueryError(f"there is no view {name!r}; there are {', '.join(view.name for view in common_views())}")
    typer.echo(f"-- {view.comment}\n{view.sql}")


def print_answer(settings: Settings, sql: str, output: Literal["table", "csv", "json"]) -> None:
    """Print the answer to a query.

    Raises:
        QueryError: It cannot be answered.
    """
    answer = query(sql, open_tables(settings.tables_uri, settings.storage_options()))
    if output == "csv":
        _print_csv(answer)
    elif output == "json":
        _print_json(answer)
    else:
        _print_table(answer)


def _console() -> Console:
    """Return a console as wide as the terminal; into a pipe or a file, wide enough that columns are not cut."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


def _print_json(answer: pa.Table) -> None:
    for row in answer.to_pylist(maps_as_pydicts="lossy"):
        typer.echo(msgspec.json.encode(row).decode())


def _print_csv(answer: pa.Table) -> None:
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(answer.column_names)
    lines.writerows(_rows(answer))


def _print_table(answer: pa.Table) -> None:
    is_wide = answer.num_columns > _MOST_SIDE_BY_SIDE
    most = _MOST_UPRIGHT if is_wide else _MOST_SHOWN
    names, rows = answer.column_names, list(_rows(answer.slice(0, most)))
    if is_wide:  # each row upright, beside the names
        names, rows = ["", *(f"row {number}" for number in range(1, len(rows) + 1))], list(zip(names, *rows, strict=True))
    shown = Table()
    for name in names:
        shown.add_column(Text(name))
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    _console().print(shown)
    if answer.num_rows > most:
        typer.echo(f"the first {most} of {answer.num_rows:,} rows; --output csv gives all", err=True)


def _rows(answer: pa.Table) -> Iterator[tuple[str, ...]]:
    """Return the rows in words, by place: a join may give two columns of one name."""
    columns = [column.to_pylist(maps_as_pydicts="lossy") for column in answer.columns]
    return (tuple(_in_words(value) for value in row) for row in zip(*columns, strict=True))


def _in_words(value: Any) -> str:
    """Return a value as JSON has it, but text bare, bytes as the text that they are, and nothing for what is not known."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        return value
    words = msgspec.json.encode(value).decode()
    return "" if words == "null" else words.strip('"')
