"""Maintenance beside a sink that writes, killed at random (SEED=2 gives other moments), and on a real object store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from maintained_tables import DAY_US, Maintained
from s3_server import S3Server, s3_server
from sink_events import (
    NOON_US,
    cause,
    liquidation,
    miner_day,
    score,
    stablecoin_transfer,
)

from connectors.sinks.delta import DeltaSink
from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.maintenance import Rules, TableMaintenance
from connectors.sinks.spool import Spool
from connectors.sinks.tables import LIQUIDATIONS, SCORES, TABLES
from market.raw import DeadLetter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
EPOCHS = 150
KILLS = 12
COMMITS, ROUND, OWN = 2_000, 500, 50  # of each round so many by the sink's own writer, which takes long


class Failures:
    """Remembers commits that failed."""

    def __init__(self) -> None:
        self.of_commits: list[str] = []
        self.committed_rows = 0

    def rows_spooled(self, table: str, rows: int) -> None: ...

    def spool_bytes(self, size_bytes: int) -> None: ...

    def spool_blocked(self, *, is_blocked: bool) -> None: ...

    def committed(self, table: str, rows: int, seconds: float) -> None:
        self.committed_rows += rows

    def commit_failed(self, table: str, error: str, reason: str) -> None:
        self.of_commits.append(f"{table}: {error}: {reason}")


@contextmanager
def again_and_again(maintained: Maintained, **rules: object) -> Iterator[list[BaseException]]:
    """Maintain both tables without pause, in a thread, while the context lasts."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            while not ended.is_set():
                for name in ("liquidations", "scores"):
                    maintained.maintain(name, at_us=NOON_US + 5 * DAY_US, **rules)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        ended.set()
        thread.join()


def test_a_sink_writes_on_while_its_tables_are_maintained_without_pause(tmp_path: Path) -> None:
    maintained = Maintained(tmp_path / "tables")
    failures = Failures()
    tables = DeltaTables(maintained.root, tables=(LIQUIDATIONS, SCORES))
    sink = DeltaSink(tables, Spool(tmp_path / "spool"), commit_interval_seconds=0.02, observers=[failures])
    partition = sink.build_part("tables", "rows", None)

    with again_and_again(maintained, retention_days={"liquidations": 3}) as raised:
        for sequence in range(1, EPOCHS + 1):
            expired, kept = NOON_US, NOON_US + 5 * DAY_US
            at_us = expired if sequence % 3 == 0 else kept  # rows of an expired day come too, and go again
            partition.write_batch([[liquidation(sequence, at_us=at_us), score(sequence, at_us=kept)]])
            partition.snapshot()
            threading.Event().wait(0.04)
        assert sink.drain(30), sink.last_error
    maintained.maintain(at_us=NOON_US + 5 * DAY_US, retention_days={"liquidations": 3})

    assert raised == []
    assert failures.of_commits == []
    assert failures.committed_rows == 2 * EPOCHS
    assert maintained.sequences() == [sequence for sequence in range(1, EPOCHS + 1) if sequence % 3]
    assert maintained.rows("scores")["sequence"].to_pylist() == list(range(1, EPOCHS + 1))
    for name in ("liquidations", "scores"):
        assert maintained.table(name).transaction_version("cascadewatch:local") == EPOCHS


_MAINTAIN_FOR_EVER = """
import sys
from connectors.clock import now_us
from connectors.sinks.maintenance import Rules, TableMaintenance

while True:
    TableMaintenance(sys.argv[1], {}, Rules(), now_us=now_us()).run()
    print("again", flush=True)
"""


def test_killed_anywhere_maintenance_leaves_nothing_broken(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "1"))
    chance = random.Random(seed)  # noqa: S311 - for moments of death
    maintained = Maintained(tmp_path)
    written = 0
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", _MAINTAIN_FOR_EVER, f"{tmp_path}/liquidations"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"again\n"  # it has imported what it needs and is in the midst of it
            dies = threading.Timer(chance.uniform(0.0, 0.6), process.send_signal, [signal.SIGKILL])
            dies.start()
            while process.poll() is None:
                written += 1
                maintained.commit(written, day=kill % 3)
            dies.join()
        assert maintained.sequences() == list(range(1, written + 1)), f"after kill {kill}, SEED={seed}"

    report = maintained.maintain()

    assert report.left_to_others == ()
    assert maintained.sequences() == list(range(1, written + 1))
    assert maintained.opened().committed("liquidations", "local") == written
    maintained.maintain(old_versions_hours=0, is_forced=True)
    assert len(maintained.stored()) == len(maintained.table().file_uris()) == 3  # what kills left behind is gone
    assert maintained.sequences() == list(range(1, written + 1))


def test_after_thousands_of_commits_a_table_is_as_small_as_before(tmp_path: Path) -> None:
    maintained = Maintained(tmp_path)
    files: list[int] = []
    for first in range(1, COMMITS, ROUND):
        for sequence in range(first, first + OWN):
            maintained.commit(sequence)
        maintained.commit_plainly(range(first + OWN, first + ROUND))
        report = maintained.maintain()
        maintained.age("_delta_log/*")  # a day passes
        assert report.after is not None
        files.append(report.after.files)

    maintained.commit(COMMITS + 1)
    report = maintained.maintain()

    assert files == [1, 1, 1, 1]
    assert report.after is not None
    assert report.after.log.entries < 110  # from the last checkpoint before the day that is kept
    assert maintained.sequences() == list(range(1, COMMITS + 2))
    assert maintained.opened().committed("liquidations", "local") == COMMITS + 1


# A real object store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def of_every_kind(sequence: int) -> list[object]:
    """Return events of several tables."""
    letter = DeadLetter(cause(sequence), "okx/liquidations", "okx", "MalformedFrameError", "no JSON", b"\xff\x00")
    return [liquidation(sequence), score(sequence), stablecoin_transfer(sequence), miner_day(sequence), letter]


def test_every_table_is_written_to_an_object_store_maintained_and_read_back(server: S3Server, tmp_path: Path) -> None:
    root, options = server.uri("whole"), server.storage_options()
    failures = Failures()
    sink = DeltaSink(DeltaTables(root, options), Spool(tmp_path / "spool"), commit_interval_seconds=0.05, observers=[failures])
    partition = sink.build_part("tables", "rows", None)
    for sequence in range(1, 11):
        partition.write_batch([of_every_kind(sequence)])
        partition.snapshot()
        threading.Event().wait(0.1)
    assert sink.drain(30), sink.last_error
    before = {table.name: read(root, options, table.name) for table in TABLES}

    reports = {
        table.name: TableMaintenance(f"{root}/{table.name}", options, Rules(), now_us=NOON_US).run() for table in TABLES
    }

    assert failures.of_commits == []
    assert {name: rows.num_rows for name, rows in before.items() if rows.num_rows} == dict.fromkeys(
        ("liquidations", "scores", "stablecoin_transfers", "miner_days", "dead_letters"), 10
    )
    for name, rows in before.items():
        assert read(root, options, name).equals(rows), name
        assert reports[name].after is not None
    assert reports["liquidations"].merged_files > 1
    again = DeltaTables(root, options)
    again.open()
    assert again.committed("scores", "local") == 10


def read(root: str, options: dict[str, str], name: str) -> pa.Table:
    return DeltaTable(f"{root}/{name}", storage_options=options).to_pyarrow_table().sort_by("sequence")


def test_of_writers_and_maintenances_at_once_an_object_store_loses_nothing(server: S3Server) -> None:
    maintained = Maintained(server.uri("at-once"), server.storage_options())
    shards = {name: maintained.opened() for name in ("shard-0", "shard-1")}

    with again_and_again(maintained) as one, again_and_again(maintained) as other:
        for sequence in range(1, 41):
            for name, writer in shards.items():
                assert maintained.commit(sequence, partition=name, writer=writer) == 1

    assert (one, other) == ([], [])
    assert maintained.sequences() == sorted(2 * list(range(1, 41)))


def test_a_store_that_was_killed_takes_commits_again_where_they_stopped(tmp_path: Path) -> None:
    with s3_server(tmp_path) as server:
        endpoint = server.endpoint
        maintained = Maintained(server.uri("killed"), server.storage_options())
        maintained.commit(1)
        server.kill()
        assert not server.is_running()
        with pytest.raises(OSError, match=r"(?s)error sending request|Connection refused|retr"):
            impatient = {"max_retries": "0", "timeout": "2 seconds"}
            DeltaTable(server.uri("killed/liquidations"), storage_options=server.storage_options(**impatient))

        server.start()

        assert server.endpoint == endpoint
        assert maintained.commit(1) == 0
        assert maintained.commit(2) == 1
        assert maintained.sequences() == [1, 2]
