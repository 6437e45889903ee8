"""Beginning anew behind the rows that the tables have: what is put aside, what the new journal says, and who is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from connectors.sinks.delta import DeltaTables
from connectors.sinks.sequences import highs_of
from connectors.sinks.shard_ledger import Ledger, ShardLedger, ShardStatus, Tenure
from connectors.sinks.spool import EncodedRows, Spool
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import DEAD_LETTERS
from connectors.sources.journal import Journal
from flows import anew
from flows.anew import Anew, AnewError, begin_anew
from flows.runtime import DataDirectoryError, held
from flows.settings import Settings
from flows.shard_rules import ShardsError
from market.raw import Cause, DeadLetter
from market.shards import Shard

NOON_US = 1_763_726_400_000_000
VENUES = ("okx", "bybit-linear")


def settings_of(data: Path, **more: object) -> Settings:
    return Settings(data_dir=data, venues=VENUES, **more)


def dead_letter(sequence: int) -> DeadLetter:
    cause = Cause("0", sequence, NOON_US + sequence * 1_000)  # tables keep the newest time of a file to the millisecond
    return DeadLetter(cause=cause, feed="okx/liquidations", venue="okx", error="E", reason="", payload=b"")


def rows(*sequences: int) -> pa.Table:
    return to_arrow(DEAD_LETTERS, [dead_letter(sequence) for sequence in sequences])


def commit(data: Path, *sequences: int) -> None:
    tables, batch = DeltaTables(str(data / "tables")), rows(*sequences)
    tables.open()
    tables.commit("dead_letters", batch, highs_of(batch))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the directory of a run that has written up to frame 7."""
    for folder in ("journal", "recovery"):
        (tmp_path / folder).mkdir()
    journal = Journal(tmp_path / "journal" / "0.db")
    journal.append([("venue/feed", b"", 0)] * 9)
    journal.close()
    (tmp_path / "recovery" / "part-0.sqlite3").write_bytes(b"damaged")
    (tmp_path / "firing.json").write_bytes(b'{"format": 1, "alerts": []}')
    commit(tmp_path, 3, 7)
    return tmp_path


def test_journal_and_state_are_put_aside_and_a_new_journal_begins_with_the_loss_of_every_feed(data: Path) -> None:
    done = begin_anew(settings_of(data))

    assert done == Anew(first_frame=8, blind_since_us=NOON_US + 7_000, aside=data / "given-up-1")
    assert sorted(path.name for path in done.aside.iterdir()) == ["0.db", "firing.json", "recovery"]
    assert not (data / "recovery").exists()
    journal = Journal(data / "journal" / "0.db")
    assert (journal.is_whole, journal.first_sequence) == (True, 8)
    assert [(number, feed, at_us, json.loads(payload)) for number, (feed, payload, at_us) in journal.read(8)] == [
        (
            8 + place,
            "status",
            NOON_US + 7_000,
            {"feed": f"{venue}/liquidations", "connection": "", "state": "lost", "reason": "the data directory was given up"},
        )
        for place, venue in enumerate(VENUES)
    ]


def spool_of(data: Path) -> Spool:
    spool = Spool(data / "spool")
    spool.open()
    return spool


def test_rows_in_the_spool_are_committed_whatever_is_missing_before_them(data: Path) -> None:
    encoded = EncodedRows(DEAD_LETTERS.row_schema, follows={"0": 10})
    encoded.add(rows(11, 12))
    file = spool_of(data).write("dead_letters", encoded)

    done = begin_anew(settings_of(data))

    assert (done.first_frame, done.blind_since_us) == (13, NOON_US + 12_000)
    assert not file.path.exists()
    committed = DeltaTable(str(data / "tables" / "dead_letters")).to_pyarrow_table(columns=["sequence"])
    assert sorted(committed["sequence"].to_pylist()) == [3, 7, 11, 12]


def test_a_store_that_does_not_take_the_rows_in_the_spool_leaves_all_as_it_is(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: Any) -> int:
        raise OSError("the store is away")

    file = spool_of(data).write("dead_letters", EncodedRows.of(rows(8)))
    monkeypatch.setattr(DeltaTables, "commit", away)
    monkeypatch.setattr(anew, "_COMMIT_SECONDS", 0.1)

    with pytest.raises(AnewError, match=r"does not take the rows in the spool: dead_letters: OSError: the store is away"):
        begin_anew(settings_of(data))

    assert file.path.exists()
    assert (data / "recovery").exists()


def test_what_was_put_aside_before_stays_apart(data: Path) -> None:
    begin_anew(settings_of(data))

    assert begin_anew(settings_of(data)).aside == data / "given-up-2"


def test_where_the_tables_have_nothing_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(AnewError, match=r"have no row of .*: start with a new data directory"):
        begin_anew(settings_of(tmp_path))


def test_a_directory_in_use_is_refused(data: Path) -> None:
    with held(data), pytest.raises(DataDirectoryError, match="another process uses"):
        begin_anew(settings_of(data))


def test_the_directory_of_a_lost_shard_is_refused_with_what_to_do(data: Path) -> None:
    with pytest.raises(ShardsError, match=r"cascadewatch shards --give-up 1/3"):
        begin_anew(settings_of(data, shard="1/3"))


def test_an_undivided_directory_beside_shards_is_refused(data: Path) -> None:
    ledger = ShardLedger(str(data / "tables"), {})
    ledger.write(
        Ledger(()),
        Tenure(
            generation=1,
            shard=Shard(0, 2),
            status=ShardStatus.RUNNING,
            partition="0of2g1",
            next_sequence=1,
            begun_us=NOON_US,
        ),
    )

    with pytest.raises(ShardsError, match=r"cascadewatch shards --give-up 0/1"):
        begin_anew(settings_of(data))
