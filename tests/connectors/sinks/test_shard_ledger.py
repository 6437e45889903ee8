"""The ledger of shards: one row per shard and generation, and one writer at a time."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from connectors.sinks.delta_tables import DeltaTablesError
from connectors.sinks.shard_ledger import Ledger, LedgerConflictError, ShardLedger, ShardStatus, Tenure
from market.shards import Shard


def tenure(index: int = 0, count: int = 2, *, generation: int = 1, **changes: Any) -> Tenure:
    usual = {
        "status": ShardStatus.RUNNING,
        "partition": f"{index}of{count}g{generation}",
        "next_sequence": 1,
        "begun_us": 1_700_000_000_000_000 + index,
    }
    return Tenure(generation=generation, shard=Shard(index, count), **(usual | changes))


@pytest.fixture
def ledger(tmp_path) -> ShardLedger:
    return ShardLedger(str(tmp_path))


def write(ledger: ShardLedger, row: Tenure, states: bytes = b"") -> None:
    ledger.write(ledger.read(), row, states)


def test_where_nobody_was_a_shard_there_is_no_ledger_and_reading_makes_none(ledger, tmp_path) -> None:
    assert ledger.read() == Ledger(())
    assert ledger.states(1) == {}
    ledger.forget_before(1)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_read_back_in_the_order_of_generations_and_shards(ledger) -> None:
    rows = [tenure(1), tenure(0), tenure(0, 3, generation=2)]
    for row in rows:
        write(ledger, row)

    assert ledger.read() == Ledger((rows[1], rows[0], rows[2]), changes=3)
    assert ledger.read().newest == (rows[2],)
    assert ledger.read().of(1) == (rows[1], rows[0])
    assert ledger.read().before(2) == (rows[1], rows[0])
    assert ledger.read().before(1) == ()


def test_a_shard_has_one_row_in_a_generation_the_last_one_written(ledger) -> None:
    drained = tenure(status=ShardStatus.DRAINED, next_sequence=70)
    write(ledger, tenure())
    write(ledger, tenure(1))
    write(ledger, drained, b"states")

    assert ledger.read().tenures == (drained, tenure(1))
    assert ledger.states(1) == {0: b"states"}


def test_who_runs_again_takes_what_it_had_left_with_it(ledger) -> None:
    write(ledger, tenure(status=ShardStatus.DRAINED), b"states")
    write(ledger, tenure())

    assert ledger.states(1) == {}


def test_only_a_running_shard_is_not_finished() -> None:
    assert [tenure(status=status).is_finished for status in ShardStatus] == [False, True, True]


def test_of_two_who_have_read_the_same_only_one_may_write(ledger) -> None:
    write(ledger, tenure())
    read = ledger.read()
    ledger.write(read, tenure(1))

    with pytest.raises(LedgerConflictError):
        ledger.write(read, tenure(1, 3, generation=2))
    assert ledger.read().tenures == (tenure(), tenure(1))


def test_of_two_who_find_no_ledger_only_one_may_begin_it(ledger) -> None:
    read = ledger.read()
    ledger.write(read, tenure())

    with pytest.raises(LedgerConflictError):
        ledger.write(read, tenure(1))


def test_of_many_who_write_at_once_each_gets_its_turn(ledger) -> None:
    conflicts = []

    def join(index: int) -> None:
        for _attempt in range(200):
            try:
                return write(ledger, tenure(index, 4))
            except LedgerConflictError:
                conflicts.append(index)
        raise AssertionError(f"{index} never got a turn")

    threads = [threading.Thread(target=join, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ledger.read() == Ledger(tuple(tenure(index, 4) for index in range(4)), changes=4)
    assert conflicts


def test_old_generations_can_be_forgotten(ledger) -> None:
    for generation in (1, 2, 3):
        write(ledger, tenure(generation=generation))

    ledger.forget_before(2)

    assert [row.generation for row in ledger.read().tenures] == [2, 3]
    write(ledger, tenure(1, generation=3))
    assert [row.generation for row in ledger.read().tenures] == [2, 3, 3]


def test_a_table_of_somebody_else_is_refused(ledger) -> None:
    write_deltalake(ledger.uri, pa.table({"a": [1]}))

    for use in (ledger.read, lambda: ledger.states(1), lambda: ledger.write(Ledger(()), tenure())):
        with pytest.raises(DeltaTablesError, match="other columns"):
            use()


def test_a_store_that_cannot_be_reached_says_so() -> None:
    nobody_listens = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "max_retries": "0",
        "OBJECT_STORE_CONCURRENCY_LIMIT": "1",
    }
    ledger = ShardLedger("s3://bucket/prefix", nobody_listens)

    uses = (ledger.read, lambda: ledger.states(1), lambda: ledger.write(Ledger(()), tenure()), lambda: ledger.forget_before(1))
    for use in uses:
        with pytest.raises(DeltaTablesError, match=r"cannot (read|write) s3://bucket/prefix/_shards: "):
            use()


def test_a_ledger_that_changes_while_rows_are_forgotten_keeps_them(ledger, monkeypatch) -> None:
    write(ledger, tenure())
    stale = DeltaTable(ledger.uri)
    write(ledger, tenure(1))
    monkeypatch.setattr(ledger, "_handle", lambda: stale)

    ledger.forget_before(2)

    monkeypatch.undo()
    assert ledger.read().tenures == (tenure(), tenure(1))
