import sqlite3

import pytest

from connectors.sources import journal as journal_module
from connectors.sources.journal import Journal, JournalError, JournalWriteError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0.db"


def rows(count, *, start_us=0):
    return [("venue/feed", b"payload %d" % number, start_us + number) for number in range(count)]


def sequences(journal, first=1, last=None):
    return [sequence for sequence, _row in journal.read(first, last)]


def test_an_empty_journal_gives_the_number_one_first(path):
    journal = Journal(path)

    assert (journal.first_sequence, journal.next_sequence, sequences(journal)) == (1, 1, [])


def test_frames_come_back_as_they_were_in_order(path):
    journal = Journal(path)

    first = journal.append(rows(3))

    assert first == 1
    assert list(journal.read(1)) == [
        (1, ("venue/feed", b"payload 0", 0)),
        (2, ("venue/feed", b"payload 1", 1)),
        (3, ("venue/feed", b"payload 2", 2)),
    ]


def test_reading_is_bounded_on_both_sides_and_crosses_pages(path):
    journal = Journal(path)
    journal.append(rows(2_500))

    assert sequences(journal, 999, 2_001) == list(range(999, 2_002))


def test_large_frames_are_not_read_all_at_once(path, monkeypatch):
    monkeypatch.setattr(journal_module, "_READ_BYTES", 1_000)
    journal = Journal(path)
    journal.append([("venue/feed", bytes(600), 0)] * 5)
    asked = []
    journal._reader.set_trace_callback(asked.append)

    assert sequences(journal) == [1, 2, 3, 4, 5]
    assert len(asked) == 4  # two, two, one, and none


def test_the_payloads_of_one_feed_come_newest_first(path):
    journal = Journal(path)
    journal.append([row for number in range(50) for row in (("chain/logs", b"%d" % number, 0), ("venue/feed", b"other", 0))])

    assert list(journal.newest_of("chain/logs")) == [b"%d" % number for number in reversed(range(50))]
    assert list(journal.newest_of("nobody/logs")) == []


def test_another_process_finds_what_was_appended_without_a_clean_end(path):
    Journal(path).append(rows(5))

    again = Journal(path)

    assert again.append(rows(1)) == 6
    assert sequences(again) == [1, 2, 3, 4, 5, 6]


def test_trimming_everything_does_not_give_numbers_out_twice(path):
    journal = Journal(path)
    journal.append(rows(10))
    while journal.trim(11):
        pass

    again = Journal(path)

    assert (again.first_sequence, again.next_sequence, sequences(again)) == (11, 11, [])


def test_trimming_goes_in_steps_and_stops_below_the_given_number(path):
    journal = Journal(path)
    journal.append(rows(1_200))

    steps = 1
    while journal.trim(1_101):
        steps += 1

    assert steps == 3
    assert sequences(journal)[0] == 1_101


def test_the_first_frame_of_a_time_is_found(path):
    journal = Journal(path)
    journal.append(rows(100, start_us=1_000))

    assert [journal.first_received_at_or_after(time) for time in (0, 1_050, 1_099, 5_000)] == [1, 51, 100, 101]


def test_room_freed_by_trimming_is_not_in_use(path):
    journal = Journal(path)
    journal.append([("venue/feed", bytes(1_000), 0)] * 5_000)
    before = journal.bytes_in_use()
    while journal.trim(5_001):
        pass

    assert journal.bytes_in_use() < before / 10
    assert journal.bytes_on_disk() >= before


def test_a_reader_that_stopped_half_way_does_not_hinder_the_writer(path):
    journal = Journal(path)
    journal.append(rows(3_000))
    reading = journal.read(1)
    next(reading)

    journal.append(rows(1))

    assert journal.trim(2_000) is True


def test_the_sqlite3_shell_can_read_it(path):
    Journal(path).append(rows(1))

    with sqlite3.connect(path) as shell:
        assert shell.execute("SELECT feed, CAST(payload AS TEXT) FROM frames").fetchall() == [("venue/feed", "payload 0")]
    shell.close()


def test_a_file_that_is_no_journal_is_refused_by_name(path):
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)

    with pytest.raises(JournalError, match=r"0\.db"):
        Journal(path)


def test_a_failed_append_writes_nothing_of_its_group(path):
    journal = Journal(path)
    journal.append(rows(1))
    refusal = "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    changed(path, f"CREATE TRIGGER full BEFORE INSERT ON frames WHEN NEW.payload = x'62' {refusal}")

    with pytest.raises(JournalWriteError, match="free disk space"):
        journal.append([("venue/feed", b"a", 1), ("venue/feed", b"b", 1)])

    assert journal.append(rows(1)) == 2
    assert sequences(journal) == [1, 2]


def test_sync_returns_and_close_keeps_everything(path):
    journal = Journal(path)
    journal.append(rows(2))
    journal.sync()
    journal.close()

    assert sequences(Journal(path)) == [1, 2]


def test_checkpoints_keep_the_log_short_beside_the_writer_and_lose_nothing(path):
    journal = Journal(path)
    rows = [("okx/liquidations", b"x" * 2_000, 1)] * 50
    for _ in range(30):
        journal.append(rows)
        journal.checkpoint()

    assert path.with_name(f"{path.name}-wal").stat().st_size < 1_000_000 < path.stat().st_size
    assert len(list(journal.read(1))) == 1_500
    journal.close()


def test_a_checkpoint_after_the_end_does_nothing(path):
    journal = Journal(path)
    journal.close()

    journal.checkpoint()

    assert Journal(path).next_sequence == 1


def changed(path, statement, *values):
    """Change a journal behind its back."""
    with sqlite3.connect(path) as shell:
        shell.execute(statement, values)
    shell.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE frames SET payload = CAST('payload 8' AS BLOB) WHERE sequence = 4",
        "UPDATE frames SET feed = 'other/feed' WHERE sequence = 4",
        "UPDATE frames SET receive_time_us = 7 WHERE sequence = 4",
        "UPDATE frames SET checksum = checksum + 1 WHERE sequence = 4",
    ],
)
def test_a_frame_that_is_not_as_it_was_written_is_refused_by_its_number(path, change):
    Journal(path).append(rows(5))
    changed(path, change)

    with pytest.raises(JournalError, match=r"0\.db is damaged: frame 4 is not as it was written\. Restore it, or run"):
        sequences(Journal(path))


def test_a_frame_under_another_number_is_refused(path):
    Journal(path).append(rows(5))
    changed(path, "DELETE FROM frames WHERE sequence = 4")
    changed(path, "UPDATE frames SET sequence = 4 WHERE sequence = 5")

    with pytest.raises(JournalError, match="frame 4 is not as it was written"):
        sequences(Journal(path))


def test_a_journal_of_earlier_days_is_read_and_goes_on_with_checksums(path):
    changed(path, "CREATE TABLE frames (sequence INTEGER PRIMARY KEY, feed TEXT, receive_time_us INTEGER, payload BLOB)")
    changed(path, "CREATE TABLE trimmed (only_row INTEGER PRIMARY KEY, sequence INTEGER NOT NULL)")
    changed(path, "INSERT INTO trimmed VALUES (1, 4)")
    changed(path, "INSERT INTO frames VALUES (5, 'venue/feed', 0, x'00')")

    journal = Journal(path)
    journal.append(rows(1))

    assert (sequences(journal), journal.is_whole) == ([5, 6], False)
    changed(path, "UPDATE frames SET payload = x'01'")
    with pytest.raises(JournalError, match="frame 5 is not as it was written"):
        sequences(journal)


def test_a_journal_is_whole_until_it_is_trimmed(path):
    journal = Journal(path)
    journal.append(rows(10))
    assert (journal.is_whole, Journal(path).is_whole) == (True, True)

    journal.trim(5)

    assert (journal.is_whole, Journal(path).is_whole) == (False, False)


def test_a_journal_can_begin_behind_another_and_is_whole_then(path):
    journal = Journal(path)
    journal.begin_at(1_000)
    journal.append(rows(2))

    again = Journal(path)

    assert (sequences(again), again.first_sequence, again.is_whole) == ([1_000, 1_001], 1_000, True)
    again.trim(1_001)
    assert Journal(path).is_whole is False


def test_trimming_a_journal_whose_disk_is_full_forgets_nothing_and_appending_goes_on(path):
    journal = Journal(path)
    journal.append(rows(10))
    changed(path, "CREATE TRIGGER full BEFORE DELETE ON frames BEGIN SELECT RAISE(ABORT, 'disk is full'); END")

    with pytest.raises(JournalWriteError, match=r"cannot trim .* free disk space and start again"):
        journal.trim(5)

    assert journal.append(rows(1)) == 11
    assert sequences(journal) == list(range(1, 12))


def test_a_journal_without_a_frame_that_should_be_there_says_so_when_it_looks_for_a_time(path):
    journal = Journal(path)
    journal.append(rows(3))
    changed(path, "DELETE FROM frames WHERE sequence = 2")

    with pytest.raises(JournalError, match="frame 2 is missing"):
        journal.first_received_at_or_after(1)


def test_a_journal_whose_first_frames_are_missing_is_refused(path):
    Journal(path).append(rows(3))
    changed(path, "DELETE FROM frames WHERE sequence = 1")

    with pytest.raises(JournalError, match="damaged: it was trimmed up to frame 0 and begins with frame 2"):
        Journal(path)


def test_a_journal_that_does_not_say_how_far_it_was_trimmed_is_refused(path):
    Journal(path).append(rows(3))
    changed(path, "DROP TABLE trimmed")
    changed(path, "CREATE TABLE trimmed (only_row INTEGER PRIMARY KEY, sequence, begun_after)")
    changed(path, "INSERT INTO trimmed VALUES (1, NULL, 'x')")

    with pytest.raises(JournalError, match=r"cannot open the journal .* restore the file, or run `cascadewatch begin-anew`"):
        Journal(path)
