"""``cascadewatch maintain``: every table in turn, what was done or would be, and what failed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
from deltalake.exceptions import TableNotFoundError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cascadewatch.checkup import without_secrets
from connectors.clock import now_us
from connectors.sinks.delta_tables import STORE_ERRORS
from connectors.sinks.footprint import Footprint
from connectors.sinks.maintenance import Rules, TableMaintenance, TableReport
from connectors.sinks.tables import TABLES
from flows.settings import Settings, SettingsError

_NICENESS = 10  # halfway: with 2 busy cores it still gets about a tenth of one
_WIDTH_WITHOUT_TERMINAL = 200
_STEPS = ("KB", "MB", "GB", "TB")


def yield_to_others() -> None:
    """Take the processor only when nobody else wants it: the flow may be on the same machine. Holds for the whole process."""
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)


def maintain_tables(settings: Settings, names: Sequence[str], *, is_dry_run: bool, is_forced: bool) -> bool:
    """Maintain tables, one after the other, and print what became of them; says whether nothing failed.

    Args:
        settings: Where the tables are, and what is kept.
        names: Of the tables; all when there are none.
        is_dry_run: Only say what would be done.
        is_forced: The retention of old versions may be below its floor.

    Raises:
        SettingsError: There is no such table, or no table at all.
        MaintenanceError: The retention of old versions is below its floor.
    """
    chosen = names or [table.name for table in TABLES]
    unknown = sorted(set(chosen) - {table.name for table in TABLES})
    if unknown:
        raise SettingsError(f"unknown --table {', '.join(unknown)}; allowed: {', '.join(table.name for table in TABLES)}")
    rules = Rules(
        retention_days=settings.maintenance.retention_days,
        old_versions_hours=settings.maintenance.vacuum_retention_hours,
        target_file_bytes=settings.maintenance.target_file_bytes,
        is_forced=is_forced,
    )
    reports, failures = _all_of(settings, chosen, rules, is_dry_run=is_dry_run)
    if not reports and not failures:
        raise SettingsError(f"there are no tables at {settings.tables_uri}; give the directory of a run with --data")
    _print(settings, reports, is_dry_run=is_dry_run)
    for name, words in failures.items():
        typer.secho(f"{name}: {words}", fg="red", err=True)
    return not failures


def _all_of(
    settings: Settings, names: Sequence[str], rules: Rules, *, is_dry_run: bool
) -> tuple[list[TableReport], dict[str, str]]:
    """Return what was done per table, and what failed; one table's failure does not hold up the others."""
    reports: list[TableReport] = []
    failures: dict[str, str] = {}
    with _shown() as show:
        for name in names:
            table = TableMaintenance(
                f"{settings.tables_uri.rstrip('/')}/{name}",
                settings.storage_options(),
                rules,
                now_us=now_us(),
                progress=show,
            )
            try:
                reports.append(table.plan() if is_dry_run else table.run())
            except TableNotFoundError:
                continue
            except STORE_ERRORS as error:
                failures[name] = without_secrets(f"{type(error).__name__}: {error}", settings)
    return reports, failures


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    """Show in a terminal what is being done, on standard error so that the table can go elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _words, _done, _of: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=1)
        yield lambda words, done, of: bars.update(bar, description=words, completed=done, total=of)


def _print(settings: Settings, reports: Sequence[TableReport], *, is_dry_run: bool) -> None:
    title = f"{'What maintenance would do to' if is_dry_run else 'Maintenance of'} the tables at {settings.tables_uri}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("table")
    for heading in ("rows expired", "files merged", "files deleted", "log entries removed"):
        shown.add_column(heading, justify="right")
    for heading in ("live files", "their size", "stored in all", "versions kept"):
        shown.add_column(heading if is_dry_run else f"{heading}, before → after", justify="right")
    if any(report.left_to_others for report in reports):
        shown.add_column("left to another process")
    for report in reports:
        shown.add_row(*_row(report))
    Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL).print(shown)


def _row(report: TableReport) -> Iterator[str]:
    yield report.name
    for number in (report.expired_rows, report.merged_files, report.removed_files, report.removed_log_entries):
        yield f"{number:,}"
    yield _both(report, lambda footprint: f"{footprint.files:,}")
    yield _both(report, lambda footprint: _in_units(footprint.file_bytes))
    yield _both(report, lambda footprint: _in_units(footprint.stored_bytes))
    yield _both(report, lambda footprint: f"{footprint.log.entries:,}")
    if report.left_to_others:
        yield ", ".join(report.left_to_others)


def _both(report: TableReport, words: Callable[[Footprint], str]) -> str:
    return words(report.before) if report.after is None else f"{words(report.before)} → {words(report.after)}"


def _in_units(size_bytes: int) -> str:
    size, unit = float(size_bytes), "B"
    for larger in _STEPS:
        if size < 1000:  # noqa: PLR2004 - where the next unit begins
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
