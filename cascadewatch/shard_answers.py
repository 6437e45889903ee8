"""``cascadewatch shards``: who has which share of the assets, and how far."""

from __future__ import annotations

import sys
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table

from connectors.sinks.shard_ledger import Ledger, ShardLedger, ShardStatus, Tenure
from flows.settings import Settings
from flows.shard_rules import ShardsError
from flows.shards import give_up
from market.shards import Shard, ShardError

_IN_WORDS = {
    ShardStatus.RUNNING: "begun: runs, or was killed",
    ShardStatus.DRAINED: "handed over",
    ShardStatus.GIVEN_UP: "given up",
}
_WIDTH_WITHOUT_TERMINAL = 200


def print_shards(settings: Settings, lost: str | None) -> None:
    """Print the newest generation; first give up the shard ``lost``, where one is named.

    Raises:
        ShardsError: It cannot be given up.
        DeltaTablesError: The ledger cannot be reached.
    """
    ledger = ShardLedger(settings.tables_uri, settings.storage_options())
    if lost is not None:
        give_up(ledger, _parsed(lost))
    known = ledger.read()
    if not known.newest:
        sys.stdout.write(f"no shards at {settings.tables_uri}: the market is not divided\n")
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    console.print(_table(known, settings.tables_uri))


def _table(known: Ledger, uri: str) -> Table:
    newest = known.newest
    generation, count = newest[0].generation, newest[0].shard.count
    shown = Table(title=f"Shards of {uri}, generation {generation}", title_justify="left")
    for name in ("shard", "status", "feed partition", "began"):
        shown.add_column(name)
    by_index = {each.shard.index: each for each in newest}
    for index in range(count):
        shown.add_row(str(Shard(index, count)), *_cells(by_index.get(index)))
    return shown


def _cells(tenure: Tenure | None) -> tuple[str, str, str]:
    if tenure is None:
        return "never started", "", ""
    began = datetime.fromtimestamp(tenure.begun_us / 1_000_000, timezone.utc)
    return _IN_WORDS[tenure.status], tenure.partition, f"{began:%Y-%m-%d %H:%M:%S} UTC"


def _parsed(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ShardError as error:
        raise ShardsError(f"--give-up {text}: {error}") from error
