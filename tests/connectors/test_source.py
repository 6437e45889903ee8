import asyncio
import contextlib
import itertools
import time

import pytest

from connectors.sources import frame as frame_module
from connectors.sources import inbox as inbox_module
from connectors.sources.journal import Journal, JournalError
from connectors.sources.source import FrameSource, Retention, StopSignal
from market.raw import FeedState


class World:
    """A source whose transports are a list of frames."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "0.db"
        self.stop = StopSignal()
        self.observer = None

    @contextlib.contextmanager
    def partition(self, *payloads, resume=None, committed=0, retention=None, collect=None):
        async def send(inbox):
            for payload in payloads:
                inbox.put("venue/feed", payload)
            await asyncio.Event().wait()

        source = FrameSource(
            partition="0",
            journal_path=self.path,
            collect=collect or send,
            committed=lambda: committed,
            stop=self.stop,
            retention=retention or Retention(),
            observer=self.observer,
        )
        part = source.build_part("frames", "0", resume)
        try:
            yield part
        finally:
            part.close()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def take(part, count, *, seconds=10.0):
    """Frames of feed ``venue/feed`` until there are so many; ticks are left out."""
    frames, deadline = [], time.monotonic() + seconds
    while len(frames) < count and time.monotonic() < deadline:
        frames += [frame for frame in part.next_batch() if frame.feed == "venue/feed"]
    return frames


def test_frames_arrive_in_order_with_their_cause(world):
    with world.partition(b"a", b"b") as part:
        frames = take(part, 2)

    assert [(frame.payload, frame.cause.feed_partition, frame.cause.sequence) for frame in frames] == [
        (b"a", "0", 1),
        (b"b", "0", 2),
    ]


def test_what_was_journaled_and_not_durable_is_emitted_again_before_what_is_new(world):
    with world.partition(b"a", b"b", b"c") as part:
        take(part, 1)
        resume = part.snapshot()
        assert resume >= 2

    with world.partition(b"d", resume=2) as part:
        frames = take(part, 3)

    assert [frame.payload for frame in frames] == [b"b", b"c", b"d"]


def test_without_saved_state_everything_in_the_journal_is_emitted(world):
    with world.partition(b"a") as part:
        take(part, 1)

    with world.partition(b"b") as part:
        assert [frame.payload for frame in take(part, 2)] == [b"a", b"b"]


def test_a_full_queue_leaves_frames_in_the_journal_and_loses_none(world, monkeypatch):
    monkeypatch.setattr(inbox_module, "MAX_WAITING_BYTES", 1_000)
    payloads = [b"%06d" % number for number in range(20_000)]

    async def flood(inbox):
        for start in range(0, len(payloads), 7):
            for payload in payloads[start : start + 7]:
                inbox.put("venue/feed", payload)
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    with world.partition(collect=flood) as part:
        frames = take(part, len(payloads))

    assert [frame.payload for frame in frames] == payloads


def test_large_frames_that_wait_in_the_journal_come_a_few_at_a_time(world, monkeypatch):
    monkeypatch.setattr(inbox_module, "MAX_WAITING_BYTES", 0)
    monkeypatch.setattr(frame_module, "MAX_BATCH_BYTES", 2_000)
    batches = []

    with world.partition(*[bytes(1_000)] * 9) as part:
        wait_for(lambda: part._journal.next_sequence > 9)
        while sum(map(len, batches)) < 9:
            batches.append(large_ones(part.next_batch()))

    assert max(map(len, batches)) == 2


def large_ones(frames):
    return [frame for frame in frames if frame.payload]


def wait_for(is_so):
    deadline = time.monotonic() + 10.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_clock_ticks_at_twentieths_of_a_second_and_makes_up_for_none(world):
    ticks, deadline = [], time.monotonic() + 10.0
    with world.partition() as part:
        while len(ticks) < 8 and time.monotonic() < deadline:
            ticks += [frame for frame in part.next_batch() if frame.feed == "clock"]

    moments = [tick.cause.receive_time_us // 50_000 for tick in ticks]
    steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert len(moments) >= 8
    assert min(steps) == 1  # a busy machine may sleep through some, never through all


def test_a_stop_ends_the_stream_and_what_came_after_it_waits_in_the_journal(world):
    with world.partition(b"a", b"b") as part:
        world.stop.ask()
        time.sleep(0.1)
        with pytest.raises(StopIteration):
            part.next_batch()
        assert part.snapshot() == 1

    world.stop = StopSignal()
    with world.partition(resume=1) as part:
        assert [frame.payload for frame in take(part, 2)] == [b"a", b"b"]


def test_what_is_durable_and_older_than_the_retention_is_trimmed(world):
    with world.partition(b"a", b"b", b"c", retention=Retention(seconds=0)) as part:
        take(part, 3)
        time.sleep(0.01)
        part.snapshot()
        part.next_batch()
        time.sleep(0.2)

    assert Journal(world.path).first_sequence >= 4


def test_what_is_within_the_retention_stays(world):
    with world.partition(b"a", retention=Retention(seconds=3600)) as part:
        take(part, 1)
        part.snapshot()
        part.next_batch()
        time.sleep(0.1)

    assert Journal(world.path).first_sequence == 1


def test_a_journal_over_its_size_limit_keeps_only_what_resuming_needs(world):
    with world.partition(b"a", b"b", retention=Retention(seconds=3600, limit_bytes=0)) as part:
        take(part, 2)
        part.snapshot()
        part.next_batch()
        time.sleep(0.1)

    assert Journal(world.path).first_sequence >= 3


def test_a_journal_behind_the_tables_is_refused(world):
    with pytest.raises(JournalError, match="give numbers out twice"), world.partition(committed=5):
        pass


def test_a_journal_that_lacks_what_resuming_needs_is_refused(world):
    journal = Journal(world.path)
    journal.append([("venue/feed", b"x", 1)] * 10)
    journal.trim(9)

    with pytest.raises(JournalError, match="begins at 9"), world.partition(resume=3):
        pass


def journal_of(world, *, begin_at=1, trim_below=0, frames=10):
    journal = Journal(world.path)
    journal.begin_at(begin_at)
    journal.append([("venue/feed", b"%d" % number, 0) for number in range(frames)])
    journal.trim(trim_below)
    return journal


def test_without_saved_state_a_trimmed_journal_is_refused_where_the_tables_have_rows(world):
    journal_of(world, trim_below=3).close()

    with pytest.raises(JournalError, match=r"no saved state.*rows up to frame 7.*trimmed up to frame 2.*begin-anew"):
        world.partition(committed=7).__enter__()


def test_without_saved_state_a_whole_journal_gives_everything_again(world):
    journal_of(world, begin_at=100).close()

    with world.partition(committed=107) as part:
        assert [frame.cause.sequence for frame in take(part, 10)] == list(range(100, 110))


def test_a_frame_that_is_missing_ends_the_flow(world):
    journal = journal_of(world)
    journal._writer.execute("DELETE FROM frames WHERE sequence = 6")
    journal.close()

    with world.partition() as part, pytest.raises(JournalError, match="frame 6 is missing"):
        take(part, 10)


def test_the_last_frame_that_is_missing_ends_the_flow(world):
    with world.partition() as part:
        part._journal.append([("venue/feed", b"", 0)] * 10)
        part._journal._writer.execute("DELETE FROM frames")
        with pytest.raises(JournalError, match="is missing"):
            take(part, 10)


def test_a_journal_that_cannot_be_trimmed_ends_the_flow_before_it_fills_the_disk(world):
    journal_of(world)._writer.execute(
        "CREATE TRIGGER full BEFORE DELETE ON frames BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )

    with world.partition(retention=Retention(seconds=0)) as part, pytest.raises(JournalError, match="cannot trim"):
        take(part, 10)
        part.snapshot()
        take(part, 1, seconds=20)


class Told:
    """An observer that waits to be told of a failure."""

    def __init__(self):
        self.reasons = []

    def reception_failed(self, reason):
        self.reasons.append(reason)

    def frames_received(self, feed, count, payload_bytes): ...
    def queue_depth(self, frames): ...
    def batch_handed_on(self): ...
    def journal_size(self, size_bytes, frames): ...


def test_a_disk_that_is_full_is_told_to_the_observer_for_the_flow_may_be_waiting_elsewhere(world):
    world.observer = Told()
    journal_of(world)._writer.execute(
        "CREATE TRIGGER full BEFORE INSERT ON frames BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )

    with world.partition():
        wait_for(lambda: world.observer.reasons)

    assert "cannot write the journal" in world.observer.reasons[0]


def test_a_bug_in_a_transport_is_told_to_the_observer(world):
    world.observer = Told()

    async def crash(_inbox):
        raise ValueError("a bug")

    with world.partition(collect=crash):
        wait_for(lambda: world.observer.reasons)

    assert world.observer.reasons == ["ValueError: a bug"]


def test_a_bug_in_a_transport_ends_the_flow_loudly(world):
    async def broken(inbox):
        raise ZeroDivisionError

    with world.partition(collect=broken) as part, pytest.raises(ZeroDivisionError):
        take(part, 1)


def test_a_status_is_a_frame_too(world):
    async def tell(inbox):
        inbox.status("venue/feed", "1", FeedState.LOST, "reset by peer")
        await asyncio.Event().wait()

    with world.partition(collect=tell) as part:
        frames = []
        while not frames:
            frames = [frame for frame in part.next_batch() if frame.feed == "status"]

    assert frames[0].payload == b'{"feed":"venue/feed","connection":"1","state":"lost","reason":"reset by peer"}'


def test_receive_times_never_fall(world, monkeypatch):
    times = iter([2_000_000, 1_000_000, 3_000_000])

    async def send(inbox):
        monkeypatch.setattr("connectors.clock.now_us", lambda: next(times, 4_000_000))
        for _ in range(3):
            inbox.put("venue/feed", b"x")
        await asyncio.Event().wait()

    with world.partition(collect=send) as part:
        frames = take(part, 3)

    assert [frame.cause.receive_time_us for frame in frames] == [2_000_000, 2_000_000, 3_000_000]
