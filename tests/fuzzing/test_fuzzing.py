"""Fuzzing in the size that fits a test run, from a fixed seed; ``make fuzz`` goes on from there."""

import random

import pytest

from connectors.sources.registry import _SOURCES
from fuzzing.corpus import _FOLDERS, feeds, seeds_of
from fuzzing.crashes import crash_of, kept, made_smaller, saved
from fuzzing.frames import take_frame
from fuzzing.mutator import Mutator
from fuzzing.run import Job, run
from fuzzing.target import Answer, Target
from fuzzing.targets import PARSERS, TARGETS, target_of

SEED = 1
PARSER_FRAMES = 2_000
INPUTS = {"flow": 8, "machines": 8, "answers": 200, "node": 60, "command-line": 300, "settings": 60, "days": 60}

KEPT = kept()


@pytest.mark.parametrize("name", KEPT)
def test_what_once_crashed_does_not(name):
    target_of(name).take(KEPT[name].read_bytes())


@pytest.mark.parametrize("feed", feeds())
def test_every_parser_has_a_fixture_that_it_understands(feed):
    assert any(not take_frame(feed, seed).refused for seed in seeds_of(feed))


def test_every_parser_is_fuzzed():
    named = {tuple(name.split("/")[1:3]) for name in TARGETS if name.startswith(PARSERS)}

    assert named == {("status",), *((source, channel) for source, each in _SOURCES.items() for channel in each.parsers)}
    assert set(_FOLDERS) == {*_SOURCES, "status"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_crashes(name):
    crashes = []
    job = Job(TARGETS[name], SEED)

    for _ in range(INPUTS.get(name, PARSER_FRAMES)):
        job.step(lambda _target, crash: crashes.append(crash))

    assert crashes == []
    assert job.tally.parsed > 0
    assert len(job.tally.kinds) > 1


def test_the_same_seed_makes_the_same_frames():
    def some(seed):
        source = TARGETS["parser/okx/liquidations"].source(random.Random(seed))
        return [source.make() for _ in range(50)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_most_frames_are_still_json_but_none_of_two_hundred_is_the_same():
    (seed,) = [seed for seed in seeds_of("bybit-linear/liquidations") if seed.count(b'"T"') > 1]
    mutator = Mutator([seed], [], random.Random(1))

    frames = [mutator.frame() for _ in range(200)]

    assert len(set(frames)) > 150
    assert sum(frame.startswith(b"{") and frame.endswith(b"}") for frame in frames) > 120


class _Numbers:
    """Inputs 0, 1, 2, …"""

    def __init__(self, _chance):
        self.next = -1

    def make(self):
        self.next += 1
        return f"xx{self.next}yy".encode()

    def keep(self, data, answer):
        pass


def fragile(data):
    if b"7" in data:
        raise ValueError(data.decode())
    return Answer(1, int(b"1" in data), "one" if b"1" in data else "other")


FRAGILE = Target("fragile/thing", _Numbers, fragile)


def test_a_crash_is_counted_each_time_and_reported_once():
    crashes = []
    job = Job(FRAGILE, SEED)

    run([job], seconds=None, frames=40, on_crash=lambda _target, crash: crashes.append(crash.data))

    assert crashes == [b"xx7yy"]
    tally = job.tally
    assert (tally.frames, tally.refused, tally.parsed, tally.crashed) == (40, 12, 24, 4)
    assert tally.kinds == {"one", "other"}


def test_a_crash_is_made_small_and_found_again_by_its_target(tmp_path):
    data = b"abc7def" * 3
    with pytest.raises(ValueError, match="abc") as raised:
        fragile(data)

    smaller = made_smaller(FRAGILE, crash_of(FRAGILE, data, raised.value))
    path = saved(smaller, tmp_path)

    assert smaller.data == b"7"
    assert kept(tmp_path) == {f"fragile/thing/{path.name}": path}
    assert path.read_bytes() == b"7"


def test_time_alone_ends_a_run_too():
    job = Job(Target("ever", _Numbers, lambda _data: Answer(1, 0, "")), SEED)

    run([job], seconds=0.05, frames=None, on_crash=lambda *_: None)

    assert job.tally.frames > 0
