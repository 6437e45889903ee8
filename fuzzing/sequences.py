"""Sequences: an hour of frames, right and wrong ones mixed; and of events as valid as they are extreme."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator

from connectors.sources.frame import CLOCK_FEED, STATUS_FEED, Frame
from connectors.sources.parse import parse_batch
from fuzzing.corpus import feeds, seeds_of
from fuzzing.flow import FlowInProcess
from fuzzing.frames import RECEIVED_US
from fuzzing.mutator import Mutator
from fuzzing.target import Answer, Target
from market.raw import Cause, DeadLetter

_MILLIS = re.compile(rb"1[5-9][0-9]{11}(?![0-9])")
_STEPS_US = (0, 0, 0, 1_000, 250_000, 1_000_000, 1_000_000, 6_000_000, 61_000_000, 300_000_000, 3_600_000_000, 90_000_000_000)
_AGES_MS = (0, 5, 900, 9_999, 95_000, -59_000)
_LISTS = ("instruments",)
_RESTART_SHARE = 0.02
_RESTART = "restart"


class FlowSource:
    """Sequences of frames of every feed."""

    def __init__(self, chance: random.Random) -> None:
        """Begin with the fixtures of each."""
        self._chance = chance
        self._feeds = [feed for feed in feeds() if feed != STATUS_FEED]
        self._lists = [feed for feed in self._feeds if feed.split("/")[1] in _LISTS]
        self._seeds = {feed: seeds_of(feed) for feed in [*self._feeds, STATUS_FEED]}
        self._mutators = {feed: Mutator(seeds, [], chance) for feed, seeds in self._seeds.items()}

    def make(self) -> bytes:
        """Return the lists of contracts, and then up to a hundred frames of any feed, one step a line."""
        chance = self._chance
        lines = [_line(0, feed, seed) for feed in self._lists for seed in self._seeds[feed]]
        after_us = 0
        for _ in range(chance.randrange(1, 100)):
            step_us = chance.choice(_STEPS_US)
            after_us += step_us
            lines.append(self._step(step_us, after_us))
        return b"\n".join(lines)

    def keep(self, data: bytes, answer: Answer) -> None:
        """Nothing: sequences are made anew each time."""

    def _step(self, step_us: int, after_us: int) -> bytes:
        chance = self._chance
        kind = chance.random()
        if kind < _RESTART_SHARE:
            return _line(step_us, _RESTART, b"")
        if kind < 0.3:  # noqa: PLR2004 - the clock is what moves most machines
            return _line(step_us, CLOCK_FEED, b"")
        feed = STATUS_FEED if kind < 0.35 else chance.choice(self._feeds)  # noqa: PLR2004 - few
        payload = chance.choice(self._seeds[feed])
        if chance.random() < 0.75:  # noqa: PLR2004 - of the present, most
            now_ms = (RECEIVED_US + after_us) // 1_000
            payload = _MILLIS.sub(lambda _found: str(now_ms - chance.choice(_AGES_MS)).encode(), payload)
        if chance.random() < 0.7:  # noqa: PLR2004 - wrong, most
            payload = self._mutators[feed].mutated(payload)
        return _line(step_us, feed, payload)


def _line(step_us: int, feed: str, payload: bytes) -> bytes:
    return json.dumps([step_us, feed, payload.decode("latin-1")]).encode()


def take_sequence(data: bytes) -> Answer:
    """Run a sequence of frames through everything.

    Raises:
        Exception: Whatever anything raises: nothing may.
    """
    flow = FlowInProcess()
    frames = refused = 0
    kinds: set[str] = set()
    for step in _steps(data):
        if step is None:
            flow.restart()
            continue
        frames += 1
        for _partition, events in parse_batch([step]):
            letters = [event for event in events if isinstance(event, DeadLetter)]
            refused += bool(letters)
            kinds.update(f"{letter.error} {letter.feed}" for letter in letters)
            flow.feed(events)
    flow.restart()
    flow.page()
    return Answer(frames, refused, " ".join(sorted([*kinds, *flow.rows])))


def _steps(data: bytes) -> Iterator[Frame | None]:
    receive_time_us = RECEIVED_US
    for sequence, line in enumerate(data.splitlines(), start=1):
        step_us, feed, payload = json.loads(line)
        receive_time_us += step_us
        cause = Cause("0", sequence, receive_time_us)
        yield None if feed == _RESTART else Frame(feed, payload.encode("latin-1"), cause)


FLOW = Target("flow", FlowSource, take_sequence, are_lines=True)
