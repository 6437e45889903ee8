from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples
from sink_events import liquidation, score

from connectors.sinks.spool import EncodedRows, Spool, SpoolError
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import TABLE_OF


def rows(*sequences: int, partition: str = "local") -> pa.Table:
    events = [liquidation(sequence, partition=partition) for sequence in sequences]
    return to_arrow(TABLE_OF[type(events[0])], events)


def encoded(*sequences: int, partition: str = "local") -> EncodedRows:
    return EncodedRows.of(rows(*sequences, partition=partition))


def opened(directory: Path, limit_bytes: int = 1_000_000) -> Spool:
    spool = Spool(directory, limit_bytes)
    spool.open()
    return spool


def pending(spool: Spool) -> dict[str, list[tuple[int, dict[str, int]]]]:
    return {table: [(file.ordinal, dict(file.highs)) for file in files] for table, files in spool.pending().items()}


class Notes:
    """What a spool told its observer."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.blocked: list[bool] = []
        self.was_blocked = threading.Event()

    def spool_bytes(self, size_bytes: int) -> None:
        self.sizes.append(size_bytes)

    def spool_blocked(self, *, is_blocked: bool) -> None:
        self.blocked.append(is_blocked)
        self.was_blocked.set()

    def rows_spooled(self, table: str, rows: int) -> None: ...

    def committed(self, table: str, rows: int, seconds: float) -> None: ...

    def commit_failed(self, table: str, error: str, reason: str) -> None: ...


def test_what_was_written_is_pending_in_order_with_its_highest_sequence_numbers(tmp_path: Path) -> None:
    spool = opened(tmp_path)

    spool.write("liquidations", encoded(1, 2))
    spool.write("liquidations", encoded(3, 5, 4))

    assert pending(spool) == {"liquidations": [(0, {"local": 2}), (1, {"local": 5})]}


def test_rows_of_two_feed_partitions_have_two_highest_sequence_numbers(tmp_path: Path) -> None:
    spool = opened(tmp_path)

    file = spool.write(
        "liquidations", EncodedRows.of(pa.concat_tables([rows(7, 8, partition="a"), rows(2, 3, partition="b")]))
    )

    assert file.highs == {"a": 8, "b": 3}
    assert (spool.reached("liquidations", "a"), spool.reached("liquidations", "b")) == (8, 3)


def test_a_restart_finds_what_is_pending(tmp_path: Path) -> None:
    before = opened(tmp_path)
    before.write("liquidations", encoded(1))
    before.write("liquidations", encoded(2))
    before.write("scores", EncodedRows.of(to_arrow(TABLE_OF[type(score())], [score(2)])))

    after = opened(tmp_path)

    assert pending(after) == pending(before)
    assert after.size_bytes == before.size_bytes > 0
    assert after.reached("liquidations", "local") == 2
    [_first, second] = after.pending()["liquidations"]
    assert after.read(second).equals(rows(2))


def test_files_go_on_after_those_that_are_pending(tmp_path: Path) -> None:
    before = opened(tmp_path)
    first, _second = before.write("liquidations", encoded(1)), before.write("liquidations", encoded(2))
    before.remove([first])

    after = opened(tmp_path)
    after.write("liquidations", encoded(3))

    assert pending(after) == {"liquidations": [(1, {"local": 2}), (2, {"local": 3})]}


def test_the_file_that_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    opened(tmp_path).write("liquidations", encoded(1))
    unfinished = tmp_path / "liquidations" / "00000000000000000001.tmp"
    unfinished.write_bytes(b"half a")

    spool = opened(tmp_path)

    assert not unfinished.exists()
    assert pending(spool) == {"liquidations": [(0, {"local": 1})]}


@pytest.mark.parametrize("kept_bytes", [0, 7, 1000])
def test_a_torn_file_is_named_and_not_dropped(tmp_path: Path, kept_bytes: int) -> None:
    file = opened(tmp_path).write("liquidations", encoded(1))
    file.path.write_bytes(file.path.read_bytes()[:kept_bytes])

    with pytest.raises(SpoolError, match=f"{file.path} is damaged"):
        opened(tmp_path)

    assert file.path.exists()


@settings(max_examples=examples(60))
@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    directory = tmp_path_factory.mktemp("spool")
    file = opened(directory).write("liquidations", encoded(1, 2))
    content = bytearray(file.path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    file.path.write_bytes(content)

    with pytest.raises(SpoolError, match=r"is damaged .* bytes that are not those that were written"):
        opened(directory)


def test_a_file_without_a_checksum_is_read_all_the_same(tmp_path: Path) -> None:
    file = opened(tmp_path).write("liquidations", encoded(1))
    file.path.rename(file.path.with_name("00000000000000000000.arrow"))

    assert pending(opened(tmp_path)) == {"liquidations": [(0, {"local": 1})]}


def test_a_foreign_file_is_named_and_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "liquidations" / "00000000000000000000.arrow"
    path.parent.mkdir()
    foreign = rows(1).drop_columns(["sequence"])
    with pa.ipc.new_file(str(path), foreign.schema) as writer:
        writer.write_table(foreign)

    with pytest.raises(SpoolError, match="not written by this program"):
        opened(tmp_path)


def test_opening_twice_is_opening_once(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.write("liquidations", encoded(1))

    spool.open()

    assert pending(spool) == {"liquidations": [(0, {"local": 1})]}


def test_what_its_table_has_is_removed(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    file = spool.write("liquidations", encoded(1))

    spool.remove([file])

    assert (spool.pending(), spool.size_bytes, file.path.exists()) == ({}, 0, False)
    assert spool.reached("liquidations", "local") == 1


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    (tmp_path / "liquidations").write_text("in the way")

    with pytest.raises(SpoolError, match=f"cannot write {tmp_path}/liquidations"):
        spool.write("liquidations", encoded(1))


def test_one_write_larger_than_the_limit_passes_when_the_spool_is_empty(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1)

    spool.write("liquidations", encoded(1, 2, 3))

    assert pending(spool) == {"liquidations": [(0, {"local": 3})]}


def in_thread(work: Any) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except SpoolError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_a_full_spool_waits_until_there_is_room_and_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=1)
    spool.observer = notes = Notes()
    spool.open()
    first = spool.write("liquidations", encoded(1))

    thread, errors = in_thread(lambda: spool.write("liquidations", encoded(2)))
    assert notes.was_blocked.wait(5)
    assert pending(spool) == {"liquidations": [(0, {"local": 1})]}
    spool.remove([first])
    thread.join(5)

    assert pending(spool) == {"liquidations": [(0, {"local": 2})]}
    assert notes.blocked == [True, False]
    assert notes.sizes == [0, first.size_bytes, 0, spool.size_bytes]
    assert errors == []


def test_a_flow_that_waits_gives_up_with_the_reason_when_emptying_fails_for_good(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=1)
    spool.observer = notes = Notes()
    spool.open()
    spool.write("liquidations", encoded(1))

    thread, errors = in_thread(lambda: spool.write("liquidations", encoded(2)))
    assert notes.was_blocked.wait(5)
    spool.fail(ValueError("the table has other columns"))
    thread.join(5)

    assert [str(error) for error in errors] == ["no more rows can be spooled: the table has other columns"]
    assert pending(spool) == {"liquidations": [(0, {"local": 1})]}


def test_a_flow_that_waits_writes_beyond_the_limit_when_it_is_released(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=1)
    spool.observer = notes = Notes()
    spool.open()
    spool.write("liquidations", encoded(1))

    thread, errors = in_thread(lambda: spool.write("liquidations", encoded(2)))
    assert notes.was_blocked.wait(5)
    spool.release()
    thread.join(5)

    assert pending(spool) == {"liquidations": [(0, {"local": 1}), (1, {"local": 2})]}
    assert notes.blocked == [True, False]
    assert errors == []


def test_a_released_spool_takes_rows_whatever_the_limit(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1)

    spool.release()
    spool.write("liquidations", encoded(1))
    spool.write("liquidations", encoded(2))

    assert pending(opened(tmp_path)) == {"liquidations": [(0, {"local": 1}), (1, {"local": 2})]}
