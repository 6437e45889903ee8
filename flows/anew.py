"""Go on with the same tables when a journal or a saved state is lost: what cannot be had back is given up, and said so.

The new journal begins behind the newest row that the tables have, so that no number is given out twice, and says since when
nothing was seen: the interval becomes a row of ``gaps``. The old files are put aside, not deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from connectors.sinks.delta import DeltaSink, DeltaTables
from connectors.sinks.shard_ledger import ShardLedger
from connectors.sinks.spool import Spool
from connectors.sources.frame import STATUS_FEED
from connectors.sources.inbox import StatusPayload
from connectors.sources.journal import Journal
from flows.alerting import FILE_NAME
from flows.runtime import held
from flows.settings import Settings
from flows.shard_rules import ShardsError, name_of
from flows.shards import PARTITION, home_of, read_mark
from market.feeds import liquidations_feed
from market.raw import FeedState

GIVEN_UP = "the data directory was given up"

_COMMIT_SECONDS = 600.0  # a full spool, two gigabytes, to a slow store


class AnewError(Exception):
    """There is nothing to begin anew, or the rows that are there cannot be brought to their tables."""


@dataclass(frozen=True)
class Anew:
    """What was done.

    Attributes:
        first_frame: Number of the first frame to come, but for those that say what happened.
        blind_since_us: Receive time of the newest row.
        aside: Where the old files are.
    """

    first_frame: int
    blind_since_us: int
    aside: Path


def begin_anew(settings: Settings) -> Anew:
    """Commit what is in the spool, put journal and saved state aside, and begin behind the newest row of the tables.

    Raises:
        AnewError: The tables have no row of this data directory, or the store does not take those in the spool.
        ShardsError: It is that of a shard whose directory this is not.
        DataDirectoryError: A process is using it.
        DeltaTablesError: The tables cannot be reached, or are not this program's.
        SpoolError: A file in the spool cannot be read.
    """
    home = home_of(settings.data_dir, settings.own_shard)
    with held(home):
        partition = _partition(settings, home)
        tables = DeltaTables(settings.tables_uri, settings.storage_options())
        sink = DeltaSink(tables, Spool(home / "spool"))
        reached = sink.highest_sequence(partition)
        if not reached:
            raise AnewError(f"the tables at {settings.tables_uri} have no row of {home}: start with a new data directory")
        # Files of the spool that are missing are noticed by those behind them, which no start would take therefore.
        if not sink.commit_pending(_COMMIT_SECONDS):
            raise AnewError(f"the store does not take the rows in the spool: {sink.last_error}. Try again when it does")
        blind_since_us = tables.newest_receive_time_us()
        # What fires goes too: without its state nothing would end it.
        old = [*(home / "journal").glob(f"{partition}.db*"), home / "recovery", home / FILE_NAME]
        aside = _put_aside(home, old)
        _begin_journal(home / "journal" / f"{partition}.db", reached + 1, blind_since_us, settings.venues)
    return Anew(reached + 1, blind_since_us, aside)


def _partition(settings: Settings, home: Path) -> str:
    mark = read_mark(home)
    if mark is not None:
        return mark.partition
    if not settings.own_shard.is_whole or ShardLedger(settings.tables_uri, settings.storage_options()).read().newest:
        who = settings.own_shard
        raise ShardsError(
            f"{home} is not the directory of {name_of(who)} of these tables. Should that be lost: `cascadewatch shards "
            f"--give-up {who}`"
        )
    return PARTITION


def _put_aside(home: Path, paths: list[Path]) -> Path:
    number = 1 + sum(1 for _ in home.glob("given-up-*"))
    aside = home / f"given-up-{number}"
    aside.mkdir()
    for path in paths:
        if path.exists():
            path.rename(aside / path.name)
    return aside


def _begin_journal(path: Path, first_sequence: int, blind_since_us: int, venues: tuple[str, ...]) -> None:
    """Make a journal that begins with the loss of every feed, at the time of the newest row."""
    path.parent.mkdir(exist_ok=True)
    journal = Journal(path)
    journal.begin_at(first_sequence)
    lost = [StatusPayload(liquidations_feed(venue), "", FeedState.LOST, GIVEN_UP) for venue in venues]
    journal.append([(STATUS_FEED, msgspec.json.encode(status), blind_since_us) for status in lost])
    journal.sync()
    journal.close()
