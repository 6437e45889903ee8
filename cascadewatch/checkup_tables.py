"""What a live run needs of the tables: reachable, of our columns, and not ahead of the journal. They are only read."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from cascadewatch.checkup import Check, Level, without_secrets
from cascadewatch.checkup_local import journal_path
from connectors.sinks.delta_tables import STORE_ERRORS, app_id
from connectors.sinks.tables import TABLES
from connectors.sources.journal import Journal, JournalError
from flows.settings import Settings

_NAME = "tables"


def check_tables(settings: Settings) -> Check:
    """Open every table that is there. Blocks as long as the store makes it."""
    uri, options = settings.tables_uri.rstrip("/"), settings.storage_options()
    found: dict[str, DeltaTable] = {}
    for table in TABLES:
        try:
            opened = DeltaTable(f"{uri}/{table.name}", storage_options=options)
            columns = pa.schema(opened.schema().to_arrow())
        except TableNotFoundError:
            continue
        except STORE_ERRORS as error:
            advice = "check sink.tables_uri and sink.storage_options, and that the store answers from here"
            return Check(_NAME, Level.FAILED, without_secrets(f"{uri}/{table.name}: {error}", settings), advice)
        if not columns.equals(table.row_schema):
            advice = "run the version that made it, or move it away"
            return Check(_NAME, Level.FAILED, f"{uri}/{table.name} has other columns than this version writes", advice)
        found[table.name] = opened
    return _not_ahead(settings, found) or Check(_NAME, Level.OK, _seen(uri, len(found)))


def _seen(uri: str, count: int) -> str:
    what = f"{count} of {len(TABLES)} at {uri}, columns as they should be" if count else f"none yet at {uri}"
    missing = "; the others are made at the start" if 0 < count < len(TABLES) else ""
    if "://" in uri:
        return f"{what}{missing}; whether the store takes writes is not tried here: the first commit shows it"
    return f"{what}{missing}"


def _not_ahead(settings: Settings, found: dict[str, DeltaTable]) -> Check | None:
    """Find the mismatch with the journal on which a run would refuse to start."""
    path = journal_path(settings)
    committed = max((table.transaction_version(app_id(path.stem)) or 0 for table in found.values()), default=0)
    journaled = 0
    if path.exists():
        try:
            journal = Journal(path)
        except (JournalError, OSError):
            return None  # the journal's own check says so
        journaled = journal.next_sequence - 1
        journal.close()
    if committed <= journaled:
        return None
    return Check(
        _NAME,
        Level.FAILED,
        f"they hold frames up to {committed}, but the journal ends at {journaled}: its numbers would be given out twice",
        "restore the journal that belongs to these tables, or choose another directory with --data",
    )
