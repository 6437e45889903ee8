import sqlite3
import subprocess
import sys
import textwrap
from datetime import datetime, timezone

import msgspec
import pytest
from deltalake import write_deltalake

from connectors.sinks.delta_tables import DeltaTables, SchemaDiffersError
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import DERIVATIVES, LIQUIDATIONS
from connectors.sources.frame import CLOCK_FEED, Frame
from connectors.sources.journal import Journal, JournalError
from connectors.sources.parse import parse
from connectors.sources.recorded import DERIVATIVES_FEED, LIQUIDATIONS_FEED
from flows import recorded_rows
from flows.replay import TICKS_AFTER_SECONDS, frames_of, journal_source, table_source
from market.events import Derivatives, Liquidation
from market.raw import Cause, Completeness, PositionSide, Tick

NOON_US = int(datetime(2025, 10, 10, 12, tzinfo=timezone.utc).timestamp()) * 1_000_000
SECOND_US = 1_000_000


def at(seconds):
    return NOON_US + round(seconds * SECOND_US)


def emitted(source, state=None):
    """Return all that a source emits, and the state that it would be resumed with after each batch."""
    (name,) = source.list_parts()
    partition = source.build_part("frames", name, state)
    frames, states = [], []
    while True:
        try:
            frames += partition.next_batch()
        except StopIteration:
            return frames, states
        states.append(partition.snapshot())


# Journals


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0.db"


def record(path, count):
    journal = Journal(path)
    journal.append([("okx/liquidations", b"payload %d" % number, NOON_US + number) for number in range(1, count + 1)])
    return journal


def recorded(first, last):
    return [
        Frame("okx/liquidations", b"payload %d" % number, Cause("0", number, NOON_US + number))
        for number in range(first, last + 1)
    ]


def test_a_journal_gives_the_frames_that_were_recorded(path):
    record(path, 2_500)

    frames, states = emitted(journal_source(path))

    assert frames == recorded(1, 2_500)
    assert states == [1_001, 2_001, 2_501]


def test_a_replay_ends_with_the_last_frame_asked_for(path):
    record(path, 2_500)

    assert emitted(journal_source(path, last=1_200))[0] == recorded(1, 1_200)


def test_a_last_frame_beyond_the_journal_is_its_end(path):
    record(path, 3)

    assert emitted(journal_source(path, last=10))[0] == recorded(1, 3)


def test_a_replay_resumes_at_any_frame(path):
    record(path, 2_500)

    assert emitted(journal_source(path), 2_499)[0] == recorded(2_499, 2_500)


def test_a_trimmed_journal_begins_where_it_begins(path):
    journal = record(path, 900)
    while journal.trim(600):
        pass

    assert emitted(journal_source(path))[0] == recorded(600, 900)


def test_a_replay_counts_what_it_emitted(path):
    record(path, 2_500)
    source = journal_source(path)

    emitted(source)

    assert source.emitted == 2_500


def test_a_missing_journal_is_named_and_not_made(path):
    with pytest.raises(FileNotFoundError, match=r"0\.db"):
        journal_source(path)

    assert not path.exists()


def test_another_database_is_refused_and_left_alone(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE something (else_ INTEGER)")
    database.close()
    content = path.read_bytes()

    with pytest.raises(JournalError, match="is no journal"):
        journal_source(path)

    assert path.read_bytes() == content


def content_of(path):
    with sqlite3.connect(path) as database:
        content = [database.execute(f"SELECT * FROM {table}").fetchall() for table in ("frames", "trimmed")]  # noqa: S608 - ours
    database.close()
    return content


def test_a_replay_changes_nothing_in_the_journal(path):
    journal = record(path, 1_500)
    journal.trim(101)
    before = content_of(path)

    emitted(journal_source(path))

    assert content_of(path) == before


def test_what_a_run_appends_meanwhile_is_not_replayed_and_is_not_hindered(path):
    run = record(path, 1_500)
    source = journal_source(path)
    partition = source.build_part("frames", "0", None)
    first_batch = partition.next_batch()

    run.append([("okx/liquidations", b"later", NOON_US)])
    second_batch = partition.next_batch()

    assert first_batch + second_batch == recorded(1, 1_500)
    with pytest.raises(StopIteration):
        partition.next_batch()
    assert Journal(path).next_sequence == 1_502


def test_frames_that_a_run_trims_before_they_were_replayed_are_missed_aloud(path):
    run = record(path, 2_500)
    source = journal_source(path)
    partition = source.build_part("frames", "0", None)
    partition.next_batch()

    while run.trim(2_400):
        pass

    with pytest.raises(JournalError, match=r"frame 1001 .* has been trimmed"):
        partition.next_batch()


def test_a_replay_whose_next_frame_was_trimmed_does_not_resume(path):
    run = record(path, 1_000)
    while run.trim(1_001):
        pass

    with pytest.raises(JournalError, match=r"frame 500 .* has been trimmed"):
        emitted(journal_source(path), 500)


@pytest.mark.slow
def test_a_run_in_another_process_goes_on_appending_under_a_replay(path):
    record(path, 1_000).close()
    program = """
        import sys
        from pathlib import Path
        from connectors.sources.journal import Journal
        journal = Journal(Path(sys.argv[1]))
        print("ready", flush=True)
        for _ in range(200):
            journal.append([("okx/liquidations", b"live", 0)] * 10)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        run.stdout.readline()
        for _ in range(5):
            assert emitted(journal_source(path, last=1_000))[0] == recorded(1, 1_000)
        run.communicate("")

    assert run.returncode == 0
    assert Journal(path).next_sequence == 3_001


# The clock between rows


def rows(*seconds):
    return [(at(second), "0", number, LIQUIDATIONS_FEED, b"") for number, second in enumerate(seconds, start=1)]


def shape(frames):
    """Return frames as (seconds after noon, is a tick)."""
    return [((frame.cause.receive_time_us - NOON_US) / SECOND_US, frame.feed == CLOCK_FEED) for frame in frames]


def test_the_clock_ticks_at_every_whole_second_between_rows():
    frames = list(frames_of(rows(0.5, 3.25)))

    assert shape(frames)[:5] == [(0.5, False), (1, True), (2, True), (3, True), (3.25, False)]


def test_frames_are_numbered_from_one_as_partition_replay():
    frames = list(frames_of(rows(0.5, 2.5)))

    assert [(frame.cause.feed_partition, frame.cause.sequence) for frame in frames[:4]] == [
        ("replay", 1),
        ("replay", 2),
        ("replay", 3),
        ("replay", 4),
    ]
    assert [frame.cause.sequence for frame in frames] == list(range(1, len(frames) + 1))


def test_a_tick_comes_before_a_row_of_its_moment_and_once():
    frames = list(frames_of(rows(0, 1, 1, 1.5)))

    assert shape(frames)[:6] == [(0, False), (1, True), (1, False), (1, False), (1.5, False), (2, True)]


def test_after_the_last_row_the_clock_ticks_until_the_longest_window_is_empty():
    frames = list(frames_of(rows(0.5)))

    assert shape(frames) == [(0.5, False)] + [(second, True) for second in range(1, TICKS_AFTER_SECONDS + 1)]


def test_a_longer_silence_is_jumped_over():
    frames = list(frames_of(rows(0, 86_400.5)))

    assert shape(frames)[TICKS_AFTER_SECONDS : TICKS_AFTER_SECONDS + 3] == [
        (TICKS_AFTER_SECONDS, True),
        (86_400.5, False),
        (86_401, True),
    ]


def test_no_rows_are_no_frames():
    assert list(frames_of([])) == []


# Tables


def liquidation(seconds, sequence, *, partition="0", symbol="BTCUSDT", notional_micros=1_234_567_891):
    return Liquidation(
        cause=Cause(partition, sequence, at(seconds)),
        venue="binance-usdm",
        symbol=symbol,
        asset="BTC",
        position_side=PositionSide.SHORT,
        price=120_000.1,
        base_quantity=0.3,
        notional_micros=notional_micros,
        completeness=Completeness.SAMPLED,
        event_time_us=at(seconds) - 1_234,
    )


def derivatives(seconds, sequence, *, partition="0"):
    return Derivatives(
        cause=Cause(partition, sequence, at(seconds)),
        venue="okx",
        symbol="BTC-USDT-SWAP",
        asset="BTC",
        event_time_us=at(seconds) - 7,
        mark_price=120_000.5,
        index_price=None,
        open_interest_base=31_000.123,
        open_interest_usd=None,
        funding_rate=None,
        funding_interval_hours=None,
        funding_rate_8h=0.0001,
        long_short_ratio=None,
    )


def write(uri, *commits):
    """Write each list of events as one commit of its table."""
    tables = DeltaTables(str(uri))
    tables.open()
    for events in commits:
        table = LIQUIDATIONS if isinstance(events[0], Liquidation) else DERIVATIVES
        written = to_arrow(table, events)
        tables.commit(table.name, written, highs_of(written))


def events_of(frames):
    """Return the events of frames other than ticks, without their cause."""
    events = [event for frame in frames for event in parse(frame) if not isinstance(event, Tick)]
    return [(event.cause.receive_time_us, msgspec.structs.replace(event, cause=None)) for event in events]


def without_cause(*events):
    return [(event.cause.receive_time_us, msgspec.structs.replace(event, cause=None)) for event in events]


def test_both_tables_come_back_as_the_events_that_they_were_by_receive_time(tmp_path):
    early, late = liquidation(0.1, 3), liquidation(0.4, 9, notional_micros=4_000_000_000_000_001)
    poll, older_poll = derivatives(0.2, 5), derivatives(0, 1)
    write(tmp_path, [early, late], [older_poll, poll])

    frames, _states = emitted(table_source(str(tmp_path)))

    assert events_of(frames) == without_cause(older_poll, early, poll, late)


def test_at_one_moment_partition_and_sequence_decide_and_rows_of_a_frame_stay_as_they_were(tmp_path):
    second = liquidation(0, 2)
    first_of_frame, second_of_frame = liquidation(0, 1, symbol="ZZZ"), liquidation(0, 1, symbol="AAA")
    other_partition = liquidation(0, 1, partition="1")
    write(tmp_path, [other_partition], [first_of_frame, second_of_frame, second], [derivatives(0, 3)])

    frames, _states = emitted(table_source(str(tmp_path)))

    assert events_of(frames) == without_cause(first_of_frame, second_of_frame, second, derivatives(0, 3), other_partition)


def test_days_follow_each_other(tmp_path):
    hours = [liquidation(3_600 * hour, number) for number, hour in enumerate((0, 11.9, 12, 36, 60), start=1)]
    write(tmp_path, hours[:2], hours[2:])

    frames, _states = emitted(table_source(str(tmp_path)))

    assert events_of(frames) == without_cause(*hours)


def test_a_crowded_day_is_read_in_parts_and_gives_the_same(tmp_path, monkeypatch):
    crowd = [liquidation(number / 10, number) for number in range(1, 200)]
    moment = [liquidation(30, 200 + number) for number in range(20)]
    write(tmp_path, crowd[100:150], crowd[150:], moment)
    whole, _states = emitted(table_source(str(tmp_path)))
    monkeypatch.setattr(recorded_rows, "MOST_ROWS", 7)

    parts, _states = emitted(table_source(str(tmp_path)))

    assert parts == whole
    assert events_of(parts) == without_cause(*crowd[100:], *moment)


def test_a_replay_of_tables_resumes_after_every_batch(tmp_path):
    write(tmp_path, [liquidation(0, 1), liquidation(2_500.5, 2)], [derivatives(7, 9)])
    frames, states = emitted(table_source(str(tmp_path)))

    for state in states:
        resumed, _states = emitted(table_source(str(tmp_path)), state)
        assert resumed == frames[state - 1 :]


def test_one_table_alone_is_enough(tmp_path):
    write(tmp_path, [derivatives(0, 1)])
    for file in sorted((tmp_path / "liquidations").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()

    frames, _states = emitted(table_source(str(tmp_path)))

    assert (frames[0].feed, len(frames)) == (DERIVATIVES_FEED, 1 + TICKS_AFTER_SECONDS)


def test_empty_tables_are_no_frames(tmp_path):
    write(tmp_path)

    assert emitted(table_source(str(tmp_path))) == ([], [])


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table liquidations or derivatives at .*nothing"):
        table_source(str(tmp_path / "nothing"))


def test_a_table_of_another_shape_is_refused_by_column(tmp_path):
    written = to_arrow(LIQUIDATIONS, [liquidation(0, 1)]).drop_columns(["notional_usd"])
    write_deltalake(str(tmp_path / "liquidations"), written, partition_by="date")

    with pytest.raises(SchemaDiffersError, match="notional_usd of type double"):
        table_source(str(tmp_path))
