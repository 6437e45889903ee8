from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pyarrow as pa
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, cluster_main
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property_examples import examples
from sink_events import NOON_US, liquidation, miner_day, score

from connectors.sinks import uploader as uploader_module
from connectors.sinks.delta import DeltaSink, Reached, RowOrderError, RowsPartition, TableBehindError
from connectors.sinks.delta_tables import DeltaTables, DeltaTablesError, OtherWriterError, SchemaDiffersError, app_id
from connectors.sinks.sequences import highs_of
from connectors.sinks.spool import EncodedRows, Spool, SpoolError
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import LIQUIDATIONS, SCORES, TABLES

HOUR = 3600.0
DAY_US = 86_400_000_000


def rows(*sequences: int, partition: str = "local") -> pa.Table:
    return to_arrow(LIQUIDATIONS, [liquidation(sequence, partition=partition) for sequence in sequences])


def opened(tmp_path: Path, **options: Any) -> DeltaTables:
    tables = DeltaTables(str(tmp_path / "tables"), tables=(LIQUIDATIONS, SCORES), **options)
    tables.open()
    return tables


def commit(tables: DeltaTables, batch: pa.Table) -> int:
    return tables.commit("liquidations", batch, highs_of(batch))


def sequences_in(tmp_path: Path, name: str = "liquidations") -> list[int]:
    """Read a table as somebody else would: with SQL."""
    table = DeltaTable(str(tmp_path / "tables" / name))
    result = QueryBuilder().register("t", table).execute("select sequence from t order by sequence").read_all()
    sequences: list[int] = pa.table(result)["sequence"].to_pylist()
    return sequences


class Notes:
    """What a sink told its observer."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def rows_spooled(self, table: str, rows: int) -> None:
        self.told.append(("spooled", table, rows))

    def spool_bytes(self, size_bytes: int) -> None: ...

    def spool_blocked(self, *, is_blocked: bool) -> None: ...

    def committed(self, table: str, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(("committed", table, rows))

    def commit_failed(self, table: str, error: str, reason: str) -> None:
        assert reason
        self.told.append(("failed", table, error))


class Process:
    """One run of the sink, driven as Bytewax drives it. Its uploader looks once, at the start, unless told otherwise."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        limit_bytes: int = 1_000_000,
        interval_seconds: float = HOUR,
        state: Reached | None = None,
    ) -> None:
        self.notes = Notes()
        self.spool = Spool(tmp_path / "spool", limit_bytes)
        self.tables = DeltaTables(str(tmp_path / "tables"), tables=(LIQUIDATIONS, SCORES))
        self.sink = DeltaSink(self.tables, self.spool, commit_interval_seconds=interval_seconds, observers=[self.notes])
        self.partition: RowsPartition = self.sink.build_part("tables", "rows", state)

    def epoch(self, *batches: list[Any]) -> Reached:
        for batch in batches:
            self.partition.write_batch([batch])
        return self.partition.snapshot()

    def killed(self) -> None:
        """End without the courtesy of a drain. The thread would end with the process."""
        self.partition.close()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader_module, "_FIRST_RETRY_SECONDS", 0.001)


# The tables


def test_missing_tables_are_made_with_comments_and_partitioned_by_date(tmp_path: Path) -> None:
    DeltaTables(str(tmp_path)).open()

    for table in TABLES:
        made = DeltaTable(str(tmp_path / table.name))
        assert pa.schema(made.schema().to_arrow()).equals(table.schema, check_metadata=True)
        assert made.metadata().partition_columns == ["date"]
        assert made.metadata().description == table.comment


def test_what_was_committed_is_read_back_by_others(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    batch = to_arrow(LIQUIDATIONS, [liquidation(1), liquidation(2, at_us=NOON_US + DAY_US)])

    assert commit(tables, batch) == 2

    table = DeltaTable(tables.uri("liquidations"))
    assert table.to_pyarrow_table().sort_by("sequence").equals(batch)
    assert sorted(table.partitions(), key=str) == [{"date": "2023-11-15"}, {"date": "2023-11-16"}]
    assert table.transaction_version("cascadewatch:local") == 2


def test_wide_rows_with_maps_and_lists_are_read_back_by_others(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    batch = to_arrow(SCORES, [score(1, missing_inputs=("fuel",)), score(2, asset="ETH")])

    tables.commit("scores", batch, highs_of(batch))

    assert DeltaTable(tables.uri("scores")).to_pyarrow_table().sort_by("sequence").equals(batch)


def test_a_commit_that_is_repeated_changes_nothing(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert commit(first, rows(1, 2)) == 2

    assert commit(first, rows(1, 2)) == 0
    assert commit(opened(tmp_path), rows(1, 2)) == 0

    assert sequences_in(tmp_path) == [1, 2]


def test_a_commit_that_overlaps_adds_what_is_new(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    commit(tables, rows(1, 2, 3))

    assert commit(tables, rows(2, 3, 4, 5)) == 2

    assert sequences_in(tmp_path) == [1, 2, 3, 4, 5]


def test_each_feed_partition_has_its_own_place(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    commit(tables, pa.concat_tables([rows(1, 9, partition="a"), rows(1, 2, partition="b")]))

    assert commit(tables, pa.concat_tables([rows(9, partition="a"), rows(2, 3, partition="b")])) == 1

    again = opened(tmp_path)
    assert (again.committed("liquidations", "a"), again.committed("liquidations", "b")) == (9, 3)
    assert again.committed("liquidations", "c") == 0
    assert sequences_in(tmp_path) == [1, 1, 2, 3, 9]


def test_another_writer_of_the_same_feed_partition_is_caught(tmp_path: Path) -> None:
    ours = opened(tmp_path)
    commit(ours, rows(1))
    other = opened(tmp_path)
    commit(other, rows(2))

    with pytest.raises(OtherWriterError, match="another process writes the same feed partition"):
        commit(ours, rows(2, 3))

    commit(other, rows(3))
    assert sequences_in(tmp_path) == [1, 2, 3]


def test_another_writer_of_another_feed_partition_is_welcome(tmp_path: Path) -> None:
    ours, other = opened(tmp_path), opened(tmp_path)

    commit(ours, rows(1, partition="shard-0"))
    commit(other, rows(1, partition="shard-1"))
    commit(ours, rows(2, partition="shard-0"))

    assert sequences_in(tmp_path) == [1, 1, 2]


def test_rows_with_other_columns_are_refused_rather_than_cast(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    batch = rows(1)
    as_text = batch.set_column(5, pa.field("price", pa.string()), pa.array(["37000.5"]))

    with pytest.raises(SchemaDiffersError, match=r"«<price: string>» where .* writes «<price: double>»"):
        commit(tables, as_text)
    with pytest.raises(SchemaDiffersError, match=r"«no column» where .* writes «<date: date32.day. not null>»"):
        commit(tables, batch.drop_columns(["date"]))


def test_a_table_with_other_columns_is_refused_by_name_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "liquidations"
    write_deltalake(str(path), rows(1).rename_columns({"price": "price_usd"}), partition_by="date")

    with pytest.raises(
        SchemaDiffersError, match=r"liquidations: it has «<price_usd: double>» where .*«<price: double>».*move it"
    ):
        opened(tmp_path)


def test_a_table_partitioned_otherwise_is_refused(tmp_path: Path) -> None:
    DeltaTable.create(str(tmp_path / "tables" / "liquidations"), schema=LIQUIDATIONS.schema, partition_by="asset")

    with pytest.raises(SchemaDiffersError, match="partitioned by"):
        opened(tmp_path)


def test_a_store_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("no directory")

    with pytest.raises(DeltaTablesError, match=f"cannot open the table {tmp_path}/tables/liquidations"):
        opened(tmp_path)


def test_a_change_of_the_tables_metadata_by_others_does_not_stop_commits(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    commit(tables, rows(1))
    DeltaTable(tables.uri("liquidations")).alter.set_table_properties({"delta.logRetentionDuration": "interval 7 days"})

    commit(tables, rows(2))

    assert sequences_in(tmp_path) == [1, 2]


@pytest.mark.slow
def test_a_checkpoint_is_made_every_hundred_commits_and_the_handle_opened_anew(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    handles = set()

    for sequence in range(1, 211):
        commit(tables, rows(sequence))
        handles.add(id(tables._handles.get("liquidations")))

    log = tmp_path / "tables" / "liquidations" / "_delta_log"
    assert [path.name for path in sorted(log.glob("*.checkpoint.parquet"))] == [
        "00000000000000000099.checkpoint.parquet",
        "00000000000000000199.checkpoint.parquet",
    ]
    assert id(None) in handles  # dropped after a checkpoint, opened anew by the next commit
    assert opened(tmp_path).committed("liquidations", "local") == 210
    assert sequences_in(tmp_path) == list(range(1, 211))


# The sink, and where it may be killed


def test_an_epoch_becomes_one_file_per_table_and_then_rows(tmp_path: Path) -> None:
    process = Process(tmp_path)

    process.epoch([liquidation(2), liquidation(1), score(2)], [liquidation(3)])
    assert {table: len(files) for table, files in process.spool.pending().items()} == {"liquidations": 1, "scores": 1}
    assert process.sink.drain(10)

    assert sequences_in(tmp_path) == [1, 2, 3]
    assert sequences_in(tmp_path, "scores") == [2]
    assert process.spool.pending() == {}
    assert process.notes.told == [
        ("spooled", "liquidations", 3),
        ("spooled", "scores", 1),
        ("committed", "liquidations", 3),
        ("committed", "scores", 1),
    ]


def test_rows_in_a_file_are_sorted_by_sequence_and_those_of_one_frame_stay_in_order(tmp_path: Path) -> None:
    process = Process(tmp_path)

    process.epoch([liquidation(2, symbol="B"), liquidation(1, symbol="Z")], [liquidation(2, symbol="A")])

    [file] = process.spool.pending()["liquidations"]
    batch = process.spool.read(file)
    assert list(zip(batch["sequence"].to_pylist(), batch["symbol"].to_pylist(), strict=True)) == [(1, "Z"), (2, "B"), (2, "A")]
    process.killed()


def test_several_epochs_become_one_commit(tmp_path: Path) -> None:
    process = Process(tmp_path)

    process.epoch([liquidation(1)])
    process.epoch([liquidation(2)])
    process.epoch([liquidation(3)])
    assert process.sink.drain(10)

    assert process.notes.told[-1] == ("committed", "liquidations", 3)
    assert DeltaTable(process.tables.uri("liquidations")).version() == 1
    assert DeltaTable(process.tables.uri("liquidations")).transaction_version(app_id("local")) == 3


def test_an_epoch_without_rows_writes_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)

    process.epoch()
    process.epoch([miner_day()])  # of a table that this sink does not have

    assert process.spool.pending() == {}
    assert process.notes.told == []
    process.killed()


def test_a_large_epoch_is_whole(tmp_path: Path) -> None:
    process = Process(tmp_path)
    events = [liquidation(sequence) for sequence in range(1, 2_001)]

    process.epoch(events[:700], events[700:1_900], events[1_900:])
    assert process.sink.drain(10)

    assert sequences_in(tmp_path) == list(range(1, 2_001))


def test_closing_writes_nothing_because_a_panic_closes_too(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(1)])
    process.partition.write_batch([[liquidation(2)]])

    process.partition.close()

    assert {table: len(files) for table, files in process.spool.pending().items()} == {"liquidations": 1}
    assert sequences_in(tmp_path) == []


def test_killed_before_the_spool_was_written_the_epoch_is_replayed(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.partition.write_batch([[liquidation(1)]])
    first.killed()

    second = Process(tmp_path)
    second.epoch([liquidation(1), liquidation(2)])

    assert second.sink.drain(10)
    assert sequences_in(tmp_path) == [1, 2]


def test_killed_between_the_spool_files_of_an_epoch_each_table_goes_on_from_its_own_place(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.epoch([liquidation(1), score(1)])
    first.killed()
    shutil.rmtree(tmp_path / "spool" / "scores")

    second = Process(tmp_path)
    second.epoch([liquidation(1), score(1), liquidation(2), score(2)])

    assert second.sink.drain(10)
    assert (sequences_in(tmp_path), sequences_in(tmp_path, "scores")) == ([1, 2], [1, 2])


def test_killed_after_the_spool_was_written_the_replayed_rows_are_dropped(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.epoch([liquidation(1), liquidation(2)])
    first.killed()

    second = Process(tmp_path)
    second.epoch([liquidation(1)], [liquidation(2), liquidation(3)])

    assert second.sink.drain(10)
    assert sequences_in(tmp_path) == [1, 2, 3]


def test_killed_after_the_commit_the_spool_file_is_recognised(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.epoch([liquidation(1), liquidation(2)])
    first.killed()
    saved = shutil.copytree(tmp_path / "spool", tmp_path / "saved")
    assert first.sink.drain(10)
    shutil.copytree(saved, tmp_path / "spool", dirs_exist_ok=True)  # as if it had not been removed yet

    second = Process(tmp_path)
    second.epoch([liquidation(2), liquidation(3)])

    assert second.sink.drain(10)
    assert sequences_in(tmp_path) == [1, 2, 3]


def test_killed_after_a_commit_the_file_joins_later_ones_in_the_next_commit(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.epoch([liquidation(1)])
    first.killed()
    commit(opened(tmp_path), rows(1))

    spool = Spool(tmp_path / "spool")
    spool.open()
    spool.write("liquidations", EncodedRows.of(rows(2)))
    second = Process(tmp_path)

    assert second.sink.drain(10)
    assert sequences_in(tmp_path) == [1, 2]


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_restarts_anywhere_lose_nothing_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Each process resumes at a durable epoch of its predecessor, or before, and dies somewhere."""
    tmp_path = tmp_path_factory.mktemp("kills")
    durable, state = 0, None
    for _ in range(data.draw(st.integers(1, 4))):
        process = Process(tmp_path, state=state)
        position = durable
        for _ in range(data.draw(st.integers(0, 3))):
            upper = position + data.draw(st.integers(1, 4))
            reached = process.epoch([liquidation(sequence) for sequence in range(position + 1, upper + 1)])
            position = upper
            if data.draw(st.booleans()):
                durable, state = position, reached  # the epoch's recovery commit happened
        if data.draw(st.booleans()):
            process.sink.drain(10)
        process.killed()
    last = Process(tmp_path, state=state)
    beyond_all = durable + 4 * 3 * 4 + 1
    last.epoch([liquidation(sequence) for sequence in range(durable + 1, beyond_all + 1)])

    assert last.sink.drain(10)
    assert sequences_in(tmp_path) == list(range(1, beyond_all + 1))


def test_an_event_with_a_cause_of_long_ago_is_an_error_rather_than_lost_at_the_next_restart(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(5)])
    process.partition.write_batch([[liquidation(4)]])

    with pytest.raises(RowOrderError, match="earlier epoch"):
        process.partition.snapshot()

    process.killed()


def test_the_highest_sequence_counts_tables_and_spool(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert process.sink.highest_sequence("local") == 0
    process.epoch([liquidation(4), score(3)])
    process.sink.drain(10)
    again = Process(tmp_path)
    again.epoch([score(6)])
    again.killed()

    assert Process(tmp_path).sink.highest_sequence("local") == 6
    assert DeltaSink(opened(tmp_path), Spool(tmp_path / "empty")).highest_sequence("local") == 4


def test_the_state_says_how_far_each_table_came_in_this_run_and_before(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert process.epoch([liquidation(1), liquidation(7)]) == {"liquidations": {"local": 7}}
    assert process.sink.drain(10)

    resumed = Process(tmp_path, state={"liquidations": {"local": 7, "other": 0}})

    assert resumed.partition.snapshot() == {"liquidations": {"local": 7, "other": 0}}
    assert resumed.epoch([liquidation(8), score(9)]) == {"liquidations": {"local": 8, "other": 0}, "scores": {"local": 9}}


def test_rows_in_the_spool_are_not_missing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    state = process.epoch([liquidation(7)])
    process.killed()

    assert Process(tmp_path, state=state).sink.drain(10)

    assert sequences_in(tmp_path) == [7]


def test_an_older_table_below_a_newer_state_is_refused_by_name_with_a_remedy(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(7)])
    assert process.sink.drain(10)

    with pytest.raises(
        TableBehindError,
        match=r"liquidations ends at frame 7 of feed partition local, but .* up to frame 8: an older table was put back",
    ):
        Process(tmp_path, state={"liquidations": {"local": 8}, "of another version": {"local": 9}})


def test_a_spool_file_that_is_missing_is_noticed_by_the_next(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(7)])
    first = process.spool.pending()["liquidations"][0].path
    process.epoch([liquidation(8)])
    state = process.epoch([liquidation(9), score(9)])
    process.killed()
    first.unlink()

    for known in (state, None):  # without a saved state, too
        with pytest.raises(
            TableBehindError, match=r"ends at frame 0 .* by the spool file .*1-.*arrow it had rows up to frame 7"
        ):
            Process(tmp_path, state=known)


def test_a_spool_file_that_is_missing_at_the_end_is_noticed_by_the_state(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(7)])
    state = process.epoch([liquidation(8)])
    process.spool.pending()["liquidations"][-1].path.unlink()
    process.killed()

    with pytest.raises(TableBehindError, match=r"ends at frame 7 .* by the saved state it had rows up to frame 8"):
        Process(tmp_path, state=state)


def test_an_older_table_below_a_newer_spool_is_refused(tmp_path: Path) -> None:
    process = Process(tmp_path)
    state = process.epoch([liquidation(7)])
    assert process.sink.drain(10)
    resumed = Process(tmp_path, state=state)
    resumed.epoch([liquidation(8)])
    resumed.killed()
    shutil.rmtree(tmp_path / "tables" / "liquidations")

    with pytest.raises(TableBehindError, match=r"ends at frame 0 .* by the spool file .* it had rows up to frame 7"):
        Process(tmp_path)


def test_rows_that_a_lost_state_has_replayed_count_for_the_new_one(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(7)])
    assert process.sink.drain(10)

    again = Process(tmp_path)

    assert again.epoch([liquidation(7)]) == {"liquidations": {"local": 7}}


def test_a_spool_file_of_a_former_version_does_not_say_what_came_before(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(7)])
    process.killed()
    file = process.spool.pending()["liquidations"][0].path
    with pa.ipc.open_file(str(file)) as reader:
        batch = reader.read_all().replace_schema_metadata(None)
    with pa.ipc.new_file(str(file.with_name("00000000000000000000.arrow")), batch.schema) as writer:
        writer.write_table(batch)
    file.unlink()

    assert Process(tmp_path).sink.drain(10)

    assert sequences_in(tmp_path) == [7]


def test_a_sink_that_was_never_built_has_nothing_to_drain(tmp_path: Path) -> None:
    sink = DeltaSink(DeltaTables(str(tmp_path)), Spool(tmp_path / "spool"))

    assert sink.drain(1)
    assert sink.last_error is None


# A store that is away


def fail(tables: DeltaTables, errors: Iterator[Exception]) -> None:
    """Make the store refuse as often as there are errors."""
    really = tables._commit_once

    def commit_once(*arguments: Any) -> int:
        for error in errors:
            raise error
        return really(*arguments)

    tables._commit_once = commit_once


def test_a_store_that_is_away_for_a_while_costs_no_rows(tmp_path: Path, no_waiting: None) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(1), score(1)])
    fail(process.tables, iter([OSError("unreachable"), OSError("unreachable"), OSError("timed out")]))

    assert process.sink.drain(10)

    assert (sequences_in(tmp_path), sequences_in(tmp_path, "scores")) == ([1], [1])
    failed = [told for told in process.notes.told if told[0] == "failed"]
    assert failed == [
        ("failed", "liquidations", "OSError"),
        ("failed", "scores", "OSError"),
        ("failed", "liquidations", "OSError"),
    ]
    assert process.sink.last_error is None


def test_a_store_that_stays_away_leaves_the_rows_in_the_spool(tmp_path: Path, no_waiting: None) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(1)])
    fail(process.tables, iter(lambda: OSError("unreachable"), None))

    assert not process.sink.drain(0.05)

    assert process.sink.last_error == "liquidations: OSError: unreachable"
    assert {table: len(files) for table, files in process.spool.pending().items()} == {"liquidations": 1}
    assert Process(tmp_path).sink.drain(10)
    assert sequences_in(tmp_path) == [1]


def test_a_commit_of_which_nobody_knows_whether_it_happened_is_not_repeated(tmp_path: Path, no_waiting: None) -> None:
    process = Process(tmp_path)
    process.epoch([liquidation(1)])
    really = process.tables._commit_once
    answers = iter([OSError("connection lost after the request")])

    def commit_once(*arguments: Any) -> int:
        written = really(*arguments)
        for error in answers:
            process.tables._handles.clear()
            raise error
        return written

    process.tables._commit_once = commit_once

    assert process.sink.drain(10)
    assert sequences_in(tmp_path) == [1]


def test_a_commit_refused_on_a_stale_handle_succeeds_on_a_fresh_one(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    fail(tables, iter([CommitFailedError("Concurrent transaction failed")]))

    assert commit(tables, rows(1)) == 1


def test_pending_files_are_committed_by_the_thread_itself(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.epoch([liquidation(1)])
    first.killed()

    second = Process(tmp_path, interval_seconds=0.01)
    second.epoch([liquidation(2)])
    for _ in range(500):
        if not second.spool.pending():
            break
        second.sink._uploader._stopping.wait(0.01)
    second.killed()

    assert sequences_in(tmp_path) == [1, 2]


def test_what_can_never_be_committed_stops_the_flow_with_the_reason(tmp_path: Path) -> None:
    process = Process(tmp_path, interval_seconds=0.01)
    commit(opened(tmp_path), rows(7))
    process.epoch([liquidation(8)])
    process.sink._uploader._thread.join(10)

    with pytest.raises(SpoolError, match="another process writes the same feed partition"):
        process.epoch([liquidation(9)])

    assert "another process" in str(process.sink.last_error)
    process.killed()


def test_whatever_ends_the_thread_stops_the_flow_with_the_reason(tmp_path: Path) -> None:
    process = Process(tmp_path, interval_seconds=0.01)
    fail(process.tables, iter([RuntimeError("the library panicked")]))
    process.epoch([liquidation(1)])
    process.sink._uploader._thread.join(10)

    with pytest.raises(SpoolError, match="the library panicked"):
        process.epoch([liquidation(2)])

    assert Process(tmp_path).sink.drain(10)
    assert sequences_in(tmp_path) == [1]


def test_a_spool_of_another_version_is_refused_at_the_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    spool.write("liquidations", EncodedRows.of(rows(1).drop_columns(["price"])))

    with pytest.raises(SchemaDiffersError, match=r"rows for .*liquidations"):
        Process(tmp_path)


def test_a_spool_with_rows_of_an_unknown_table_is_refused_at_the_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    spool.write("trades", EncodedRows.of(rows(1)))

    with pytest.raises(DeltaTablesError, match="there is no table trades"):
        Process(tmp_path)


def test_a_flow_that_ends_waits_for_no_room(tmp_path: Path) -> None:
    process = Process(tmp_path, limit_bytes=1)
    process.epoch([liquidation(1)])
    process.sink.release()
    process.epoch([liquidation(2)])
    process.killed()

    assert Process(tmp_path).sink.drain(10)
    assert sequences_in(tmp_path) == [1, 2]


# In Bytewax


def run_flow(tmp_path: Path, items: list[Any]) -> DeltaSink:
    sink = DeltaSink(
        DeltaTables(str(tmp_path / "tables"), tables=(LIQUIDATIONS, SCORES)),
        Spool(tmp_path / "spool"),
        commit_interval_seconds=HOUR,
    )
    flow = Dataflow("rows")
    events = op.input("events", flow, TestingSource(items, batch_size=3))
    op.output("tables", op.map("bunch", events, lambda event: ("rows", [event])), sink)
    cluster_main(flow, [], 0, recovery_config=RecoveryConfig(tmp_path / "recovery"))
    return sink


def test_a_flow_that_is_aborted_and_resumed_leaves_the_same_tables(tmp_path: Path) -> None:
    (tmp_path / "recovery").mkdir()
    init_db_dir(tmp_path / "recovery", 1)
    events: list[Any] = [liquidation(sequence) for sequence in range(1, 21)]
    aborting = [*events[:11], TestingSource.ABORT(), *events[11:]]

    assert run_flow(tmp_path, aborting).drain(10)
    assert run_flow(tmp_path, aborting).drain(10)

    assert sequences_in(tmp_path) == list(range(1, 21))


def test_a_flow_without_recovery_still_writes_every_row(tmp_path: Path) -> None:
    sink = DeltaSink(DeltaTables(str(tmp_path / "tables")), Spool(tmp_path / "spool"), commit_interval_seconds=HOUR)
    flow = Dataflow("rows")
    bunches = op.input("events", flow, TestingSource([("rows", [liquidation(1), score(1)])]))
    op.output("tables", bunches, sink)

    cluster_main(flow, [], 0)

    assert sink.drain(10)
    assert (sequences_in(tmp_path), sequences_in(tmp_path, "scores")) == ([1], [1])


def test_the_log_of_a_table_names_the_feed_partition(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    commit(tables, rows(5))

    log = tmp_path / "tables" / "liquidations" / "_delta_log" / "00000000000000000001.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    [transaction] = [action["txn"] for action in actions if "txn" in action]
    assert (transaction["appId"], transaction["version"]) == ("cascadewatch:local", 5)


def test_a_version_that_somebody_set_by_hand_is_another_writer(tmp_path: Path) -> None:
    tables = opened(tmp_path)
    write_deltalake(
        tables.uri("liquidations"),
        rows(3),
        mode="append",
        commit_properties=CommitProperties(app_transactions=[Transaction(app_id("local"), 3)]),
    )

    with pytest.raises(OtherWriterError):
        commit(tables, rows(4))
