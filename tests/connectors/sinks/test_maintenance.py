from __future__ import annotations

import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from maintained_tables import DAY_US, Maintained
from sink_events import NOON_US

from connectors.clock import now_us
from connectors.sinks.delta_tables import DeltaTables, table_properties
from connectors.sinks.footprint import Log
from connectors.sinks.maintenance import MaintenanceError, Rules, TableMaintenance
from connectors.sinks.tables import LIQUIDATIONS

pytestmark = pytest.mark.slow  # real tables, most of a second each

HOUR_US = 3_600_000_000
KEEP_ONE_DAY = {"retention_days": {"liquidations": 1}}


@pytest.fixture
def tables(tmp_path: Path) -> Maintained:
    return Maintained(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Merging


def test_merging_files_changes_no_row_and_keeps_days_apart(tables: Maintained) -> None:
    for sequence in range(1, 7):
        tables.commit(sequence, day=sequence % 2)
    before = tables.rows()

    report = tables.maintain()

    assert tables.rows().equals(before)
    assert tables.days() == ["2023-11-15", "2023-11-16"]
    assert (report.merged_files, report.before.files, report.after and report.after.files) == (6, 6, 2)
    assert (report.before.rows, report.after and report.after.rows) == (6, 6)


def test_merging_keeps_maps_lists_and_nulls(tables: Maintained) -> None:
    tables.commit_scores(1, missing_inputs=("fuel",))
    tables.commit_scores(2, asset="ETH", missing_inputs=())
    before = tables.rows("scores")

    assert tables.maintain("scores").merged_files == 2

    assert tables.rows("scores").equals(before)


def test_what_is_large_enough_is_left_alone(tables: Maintained) -> None:
    for sequence in range(1, 4):
        tables.commit(sequence)
    smallest = min(path.stat().st_size for path in tables.stored())

    report = tables.maintain(target_file_bytes=smallest)

    assert (report.merged_files, report.after and report.after.files) == (0, 3)


def test_a_second_maintenance_finds_nothing_to_do_and_writes_nothing(tables: Maintained, tmp_path: Path) -> None:
    for sequence in range(1, 6):
        tables.commit(sequence, day=sequence % 3)
    tables.maintain(at_us=NOON_US + 3 * DAY_US, **KEEP_ONE_DAY)
    before = content(tmp_path / "liquidations")

    report = tables.maintain(at_us=NOON_US + 3 * DAY_US, **KEEP_ONE_DAY)

    assert report.before == report.after
    assert content(tmp_path / "liquidations") == before


def test_a_table_without_rows_is_maintained(tables: Maintained) -> None:
    report = tables.maintain(**KEEP_ONE_DAY)

    assert (report.before.files, report.before.rows, report.merged_files) == (0, 0, 0)


def test_a_table_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    missing = TableMaintenance(str(tmp_path / "liquidations"), {}, Rules(), now_us=NOON_US)

    with pytest.raises(TableNotFoundError):
        missing.run()
    with pytest.raises(TableNotFoundError):
        missing.plan()


# Expired days


def test_expired_days_go_whole_and_the_others_stay(tables: Maintained) -> None:
    for sequence in range(1, 9):
        tables.commit(sequence, day=sequence % 4)

    report = tables.maintain(at_us=NOON_US + 3 * DAY_US, retention_days={"liquidations": 1})

    assert tables.days() == ["2023-11-17", "2023-11-18"]  # today and the day before
    assert tables.sequences() == [2, 3, 6, 7]
    assert (report.expired_files, report.expired_rows) == (4, 4)


def test_a_table_that_is_not_named_keeps_everything(tables: Maintained) -> None:
    tables.commit(1)

    report = tables.maintain(at_us=NOON_US + 9_999 * DAY_US, retention_days={"scores": 1})

    assert (report.expired_rows, tables.sequences()) == (0, [1])


@pytest.mark.parametrize(
    ("at_us", "first"),
    [(NOON_US, date(2023, 11, 8)), (NOON_US + DAY_US // 2 - 1, date(2023, 11, 8)), (NOON_US + DAY_US // 2, date(2023, 11, 9))],
)
def test_days_are_counted_in_utc(at_us: int, first: date) -> None:
    rules = Rules(retention_days={"scores": 7})

    assert rules.first_day("scores", at_us) == first
    assert rules.first_day("gaps", at_us) is None


# Dry run


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(tables: Maintained, tmp_path: Path) -> None:
    for sequence in range(1, 31):
        tables.commit(sequence, day=sequence % 3)
    (tmp_path / "liquidations" / "date=2023-11-16" / "never-committed.parquet").write_bytes(b"half a file")
    tables.age("date=*/*")
    tables.age("_delta_log/*")
    before = content(tmp_path / "liquidations")

    rules: dict[str, Any] = {"at_us": NOON_US + 2 * DAY_US, **KEEP_ONE_DAY}
    # What a log entry's age is measured against is the real clock.
    plan = tables.maintenance(**rules).plan()
    assert content(tmp_path / "liquidations") == before
    report = tables.maintenance(**rules).run()

    assert (plan.expired_files, plan.expired_rows, plan.merged_files) == (10, 10, 20)
    assert (report.expired_files, report.expired_rows, report.merged_files) == (10, 10, 20)
    assert (plan.removed_files, report.removed_files) == (1, 1)
    assert plan.after is None
    assert plan.before == report.before


def test_a_dry_run_counts_the_log_entries_that_go(tables: Maintained) -> None:
    for sequence in range(1, 5):
        tables.commit(sequence)
    checkpoint = (tables.maintain().after or pytest.fail("no after")).version
    tables.commit(5)
    tables.age("_delta_log/*")
    tables.commit(6)  # the oldest that is kept: it needs the version before it, and that the checkpoint

    plan = tables.maintenance().plan()
    report = tables.maintain()

    assert plan.removed_log_entries == report.removed_log_entries == checkpoint


@pytest.mark.parametrize(
    ("ages_in_hours", "checkpoints", "expired"),
    [
        ({}, set(), 0),
        ({0: 1, 1: 1}, set(), 0),
        ({0: 99, 1: 99, 2: 99}, set(), 2),  # all old: a checkpoint of the newest comes first
        ({0: 99, 1: 99, 2: 1}, set(), 0),  # none below which they could go
        ({0: 99, 1: 99, 2: 1}, {1}, 1),
        ({0: 99, 1: 99, 2: 1}, {2}, 2),
        ({0: 99, 1: 99, 2: 1, 3: 1}, {3}, 0),  # version 2 is kept, and needs what came before
        ({7: 99, 8: 99, 9: 1}, {8}, 1),
    ],
)
def test_a_log_entry_goes_when_a_checkpoint_stands_above_it_and_no_kept_version_needs_it(
    ages_in_hours: dict[int, int], checkpoints: set[int], expired: int
) -> None:
    log = Log({version: NOON_US - hours * HOUR_US for version, hours in ages_in_hours.items()}, frozenset(checkpoints))

    assert log.expired(NOON_US - 24 * HOUR_US) == expired


# Old versions


def test_files_of_old_versions_stay_for_readers_that_hold_one_however_old_the_files_are(tables: Maintained) -> None:
    for sequence in range(1, 5):
        tables.commit(sequence, day=sequence % 2)
    reader = tables.table()
    before = reader.to_pyarrow_table()
    tables.age("date=*/*")  # written long ago, but needed until now

    report = tables.maintain(at_us=NOON_US + 2 * DAY_US, **KEEP_ONE_DAY)

    assert (report.expired_files, report.merged_files, report.removed_files) == (2, 2, 0)
    assert reader.to_pyarrow_table().equals(before)


def test_files_of_old_versions_go_after_the_retention(tables: Maintained) -> None:
    for sequence in range(1, 5):
        tables.commit(sequence)
    tables.maintain()
    assert len(tables.stored()) == 5

    report = tables.maintain(old_versions_hours=0, is_forced=True)

    assert report.removed_files == 4
    assert len(tables.stored()) == 1
    assert tables.sequences() == [1, 2, 3, 4]


def test_a_file_that_is_about_to_be_committed_stays_and_one_that_never_was_goes(tables: Maintained, tmp_path: Path) -> None:
    tables.commit(1)
    day = tmp_path / "liquidations" / "date=2023-11-15"
    young, old = day / "about-to-be-committed.parquet", day / "of-a-process-that-was-killed.parquet"
    old.write_bytes(b"")
    tables.age("date=*/of-*")
    young.write_bytes(b"")

    report = tables.maintain()

    assert report.removed_files == 1
    assert (young.exists(), old.exists(), tables.sequences()) == (True, False, [1])


def test_a_retention_below_the_floor_is_refused_unless_forced() -> None:
    with pytest.raises(MaintenanceError, match=r"maintenance.vacuum_retention_hours = 0 is less than 1.* --force"):
        Rules(old_versions_hours=0)

    assert Rules(old_versions_hours=0, is_forced=True).old_versions_hours == 0
    assert Rules(old_versions_hours=1).old_versions_hours == 1


# Transaction ids, and the writer's held handle


def test_transaction_ids_outlive_merging_checkpoints_and_the_log(tables: Maintained) -> None:
    tables.commit(7, partition="once-and-never-again")
    for sequence in range(1, 5):
        tables.commit(sequence)
    tables.maintain()
    tables.age("_delta_log/*")
    tables.commit(5)

    tables.maintain()
    report = tables.maintain()

    assert report.after is not None
    assert "00000000000000000000.json" not in tables.log()
    assert report.after.log.entries < report.before.version == 10
    again = tables.opened()
    assert (again.committed("liquidations", "local"), again.committed("liquidations", "once-and-never-again")) == (5, 7)
    assert tables.commit(4, 5, writer=again) == 0
    assert tables.commit(6, writer=again) == 1
    assert tables.sequences() == [1, 2, 3, 4, 5, 6, 7]


def test_transaction_ids_carry_no_time_so_that_a_retention_set_by_others_does_not_forget_them(tables: Maintained) -> None:
    tables.commit(1)
    tables.table().alter.set_table_properties({"delta.setTransactionRetentionDuration": "interval 0 seconds"})

    tables.maintain()

    assert tables.opened().committed("liquidations", "local") == 1
    assert tables.commit(1, writer=tables.opened()) == 0


def test_the_writer_goes_on_after_files_were_merged(tables: Maintained) -> None:
    for sequence in range(1, 4):
        tables.commit(sequence)

    tables.maintain()

    assert tables.commit(4) == 1
    assert tables.commit(4) == 0
    assert tables.sequences() == [1, 2, 3, 4]


def test_the_writer_opens_the_table_anew_after_rows_were_deleted_and_properties_changed(tables: Maintained) -> None:
    tables.commit(1)
    tables.commit(2, day=2)

    tables.maintain(at_us=NOON_US + 2 * DAY_US, old_versions_hours=48, **KEEP_ONE_DAY)

    assert tables.commit(3, day=2) == 1
    assert tables.sequences() == [2, 3]


def test_a_writer_that_was_quiet_for_longer_than_the_log_goes_back_commits_all_the_same(tables: Maintained) -> None:
    quiet = tables.opened()
    tables.commit(1, partition="quiet", writer=quiet)
    never_asked = tables.opened()
    for sequence in range(1, 4):
        tables.commit(sequence)
    tables.maintain()
    tables.age("_delta_log/*")
    tables.commit(4)
    tables.maintain()
    held = quiet._handles["liquidations"]
    assert f"{held.version():020}.json" not in tables.log()

    assert tables.commit(2, partition="quiet", writer=quiet) == 1

    assert never_asked.committed("liquidations", "local") == 4
    assert tables.sequences() == [1, 1, 2, 2, 3, 4]


def test_a_table_made_by_an_earlier_version_gets_the_properties_that_new_ones_have(tmp_path: Path) -> None:
    DeltaTable.create(
        str(tmp_path / "liquidations"),
        schema=LIQUIDATIONS.schema,
        partition_by="date",
        configuration={"delta.checkpointInterval": "100", "delta.appendOnly": "false"},
    )
    tables = Maintained(tmp_path)

    tables.maintain(old_versions_hours=36)

    assert tables.table().metadata().configuration == {**table_properties(36), "delta.appendOnly": "false"}


def test_new_tables_have_the_properties_that_maintenance_wants(tables: Maintained) -> None:
    assert tables.table().metadata().configuration == table_properties()
    assert tables.maintain().before.version == tables.table().version()


def test_files_say_their_number_of_rows_and_the_times_and_sequences_in_them_and_nothing_else(
    tables: Maintained, tmp_path: Path
) -> None:
    tables.commit(1, 2)

    log = (tmp_path / "liquidations" / "_delta_log" / "00000000000000000001.json").read_text().splitlines()
    [added] = [json.loads(line)["add"] for line in log if '"add"' in line]
    assert json.loads(added["stats"]) == {
        "numRecords": 2,
        "minValues": {"receive_time": "2023-11-15T12:00:00Z", "sequence": 1},
        "maxValues": {"receive_time": "2023-11-15T12:00:00Z", "sequence": 2},
        "nullCount": {"receive_time": 0, "sequence": 0},
    }


# Others at the same time


def test_what_others_do_again_and_again_is_left_to_them(tables: Maintained) -> None:
    maintenance = tables.maintenance()
    tries: list[int] = []

    def beaten() -> None:
        tries.append(1)
        raise CommitFailedError("a concurrent transaction deleted the same data")

    assert maintenance._undisturbed("merging", beaten) is None
    assert len(tries) == 3
    assert maintenance._left_to_others == ["merging"]


def test_of_two_mergers_that_saw_the_same_files_only_one_commits(tables: Maintained) -> None:
    """delta-rs alone lets both: should it no longer, the merger's name in the metadata may go."""
    for sequence in range(1, 5):
        tables.commit(sequence)
    first, second = tables.table(), tables.table()
    first.optimize.compact()
    second.optimize.compact()
    assert tables.sequences() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_merger_that_began_before_another_became_the_merger_fails(tables: Maintained) -> None:
    for sequence in range(1, 5):
        tables.commit(sequence)
    slow = tables.table()

    tables.maintain()

    with pytest.raises(CommitFailedError, match="Metadata changed"):
        slow.optimize.compact()
    assert tables.sequences() == [1, 2, 3, 4]


def test_a_merger_that_was_overtaken_leaves_the_rest_to_the_other(tables: Maintained) -> None:
    for sequence in range(1, 5):
        tables.commit(sequence, day=sequence % 2)
    other = tables.maintenance()

    def overtake(words: str, done: int, _of: int) -> None:
        if "merging" in words and done == 1:
            other._become_the_merger()

    report = TableMaintenance(f"{tables.root}/liquidations", {}, Rules(), now_us=now_us(), progress=overtake).run()

    assert (report.merged_files, report.left_to_others) == (2, ("merging files",))
    assert tables.sequences() == [1, 2, 3, 4]
    assert tables.maintain().merged_files == 2


@pytest.mark.parametrize("trial", range(5))
def test_maintenances_of_one_table_at_the_same_time_do_no_harm(tables: Maintained, trial: int) -> None:
    for sequence in range(1, 20):
        tables.commit(sequence, day=sequence % 3)
    tables.maintain()
    tables.age("_delta_log/*")
    for sequence in range(20, 30):
        tables.commit(sequence, day=sequence % 3)
    raised: list[BaseException] = []
    at_once = threading.Barrier(3)

    def run() -> None:
        at_once.wait()
        try:
            tables.maintain(at_us=NOON_US + 2 * DAY_US, **KEEP_ONE_DAY)
        except BaseException as error:  # noqa: BLE001 - shown below
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert raised == []
    assert tables.sequences() == [sequence for sequence in range(1, 30) if sequence % 3]
    assert tables.table().transaction_version("cascadewatch:local") == 29
    tables.maintain()
    assert len(tables.table().file_uris()) == 2


def test_progress_names_the_table_and_the_day(tables: Maintained) -> None:
    for sequence in range(1, 5):
        tables.commit(sequence, day=sequence % 2)
    told: list[tuple[str, int, int]] = []

    TableMaintenance(
        f"{tables.root}/liquidations",
        {},
        Rules(),
        now_us=now_us(),
        progress=lambda words, done, of: told.append((words, done, of)),
    ).run()

    assert told == [
        ("liquidations: looking", 0, 1),
        ("liquidations: merging files of 2023-11-15", 0, 2),
        ("liquidations: merging files of 2023-11-16", 1, 2),
        ("liquidations: writing a checkpoint", 0, 1),
        ("liquidations: deleting unneeded files", 0, 1),
        ("liquidations: removing old log entries", 0, 1),
    ]


def test_all_tables_can_be_maintained(tmp_path: Path) -> None:
    DeltaTables(str(tmp_path)).open()

    for table in tmp_path.iterdir():
        report = TableMaintenance(str(table), {}, Rules(), now_us=NOON_US).run()
        assert report.before.version == 0
        assert pa.schema(DeltaTable(str(table)).schema().to_arrow()).names
