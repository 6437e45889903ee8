"""SQL over the tables, read-only, and what is in each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from connectors.sinks.delta_tables import STORE_ERRORS
from connectors.sinks.tables import TABLES
from views.common import views_named_in

_ANSWER_ERRORS = (*STORE_ERRORS, pa.ArrowException)  # rows are computed while they are read: division by zero comes as Arrow's

# The engine plans these as if they were queries: the statement is one, and its names are wrong.
_WRONG_NAMES = ("Schema error", "Error during planning")

_ONE_SELECT = "Only one SELECT is answered here: the tables are read-only."

_COLOURS = re.compile(r"\x1b\[[0-9;]*m|↳")
_STACK = re.compile(r"\n\s*0: ")


class QueryError(Exception):
    """The question cannot be answered; the message says why."""


@dataclass(frozen=True)
class TableSummary:
    """What one table holds: rows, files, bytes on disk, newest version; None when it is not there."""

    name: str
    comment: str
    rows: int | None = None
    files: int | None = None
    size_bytes: int | None = None
    version: int | None = None


def open_tables(uri: str, storage_options: Mapping[str, str] | None = None) -> dict[str, DeltaTable]:
    """Return the tables that are there, by name.

    Raises:
        QueryError: There is none, or the store cannot be reached.
    """
    options = dict(storage_options or {})
    opened = {table.name: _open(f"{uri.rstrip('/')}/{table.name}", options) for table in TABLES}
    found = {name: table for name, table in opened.items() if table is not None}
    if not found:
        raise QueryError(f"there are no tables at {uri}; give the directory of a run with --data")
    return found


def _open(uri: str, storage_options: dict[str, str]) -> DeltaTable | None:
    try:
        return DeltaTable(uri, storage_options=storage_options)
    except TableNotFoundError:
        return None
    except STORE_ERRORS as error:
        raise QueryError(f"cannot read the table {uri}: {_in_words(error)}") from error


def query(sql: str, tables: Mapping[str, DeltaTable]) -> pa.Table:
    """Return the answer to one SELECT (DataFusion's SQL) over tables and the views for common questions.

    Raises:
        QueryError: Not a query, or one that cannot be answered: the engine's own words.
    """
    statement = sql.strip().rstrip(";").strip()
    engine = QueryBuilder()
    for name, table in tables.items():
        engine.register(name, table)
    _make_views(engine, statement)
    try:
        # Only a query can stand inside EXISTS: this refuses COPY, CREATE, INSERT and every other statement that acts.
        plan = pa.table(engine.execute(f"EXPLAIN SELECT 1 WHERE EXISTS (\n{statement}\n)"))
    except DeltaError as refusal:
        words = _in_words(refusal)
        raise QueryError(words if words.startswith(_WRONG_NAMES) else f"{words}\n{_ONE_SELECT}") from refusal
    if _makes_a_table(plan):
        raise QueryError(f"SELECT … INTO would make a table\n{_ONE_SELECT}")
    try:
        return pa.table(engine.execute(statement))
    except _ANSWER_ERRORS as error:
        raise QueryError(_in_words(error)) from error


def _make_views(engine: QueryBuilder, statement: str) -> None:
    """Make the views that a statement names; one whose tables are not there is missing, as they are."""
    for view in views_named_in(statement):
        with suppress(DeltaError):
            engine.execute(f"CREATE VIEW {view.name} AS {view.sql}")


def _makes_a_table(plan: pa.Table) -> bool:
    return any("CreateMemoryTable" in row["plan"] for row in plan.to_pylist() if row["plan_type"] == "physical_plan_error")


def _in_words(error: Exception) -> str:
    """Return what was raised in one line, without its colours and the engine's stack."""
    return " ".join(_COLOURS.sub("", _STACK.split(str(error), maxsplit=1)[0]).split())


def summarise(uri: str, storage_options: Mapping[str, str] | None = None) -> list[TableSummary]:
    """Return one summary per table of the contract, whether it is there or not.

    Raises:
        QueryError: None is there, or the store cannot be reached.
    """
    found = open_tables(uri, storage_options)
    return [_summary(table.name, table.comment, found.get(table.name)) for table in TABLES]


def _summary(name: str, comment: str, table: DeltaTable | None) -> TableSummary:
    if table is None:
        return TableSummary(name, comment)
    files = pa.table(table.get_add_actions(flatten=True))
    rows, size_bytes = (sum(files[column].to_pylist()) if files.num_rows else 0 for column in ("num_records", "size_bytes"))
    return TableSummary(name, comment, rows, files.num_rows, size_bytes, table.version())
