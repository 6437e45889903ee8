"""The mutator's loop: every target in turn, a slice at a time, until the time or the frames are used up."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from connectors.clock import monotonic_seconds
from fuzzing.crashes import crash_of
from fuzzing.target import Crash, NonsenseError, Source, Tally, Target

MOST_SECONDS = 20.0
"""For one input, on a busy machine: what takes longer is a crash, too."""

_INPUTS_PER_SLICE = 500
_SEQUENCE_FRAMES = 60
"""Frames of a sequence, about: a target of sequences gets so many inputs fewer."""

_LEAST_SECONDS = 0.05

OnCrash = Callable[[Target, Crash], None]
"""Told of the first crash at each place of the code."""


@dataclass
class Job:
    """A target under way. Its inputs depend on the seed and its name alone, not on how the time is shared."""

    target: Target
    seed: int
    tally: Tally = field(default_factory=Tally)
    inputs: int = 0
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        """Make the source."""
        self.source = self.target.source(random.Random(f"{self.seed}/{self.target.name}"))

    def step(self, on_crash: OnCrash) -> None:
        """Make one input and hand it over."""
        self.take(self.source.make(), on_crash)

    def take(self, data: bytes, on_crash: OnCrash) -> None:
        """Hand an input over."""
        self.inputs += 1
        tally = self.tally
        try:
            with _time_limit():
                answer = self.target.take(data)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            tally.frames += 1
            tally.crashed += 1
            crash = crash_of(self.target, data, error)
            if crash.error not in tally.crashes:
                tally.crashes[crash.error] = crash
                on_crash(self.target, crash)
            return
        tally.frames += answer.frames
        tally.refused += answer.refused
        if answer.kind not in tally.kinds:
            tally.kinds.add(answer.kind)
            self.source.keep(data, answer)


def inputs_for(target: Target, frames: int) -> int:
    """Return how many inputs stand for so many frames."""
    return max(1, frames // _SEQUENCE_FRAMES) if target.are_lines else frames


def run(
    jobs: Sequence[Job],
    *,
    seconds: float | None,
    frames: int | None,
    on_crash: OnCrash,
    on_slice: Callable[[], None] = lambda: None,
) -> None:
    """Run until ``seconds`` have passed, or until each target had ``frames``; with both, until either."""
    until = None if seconds is None else monotonic_seconds() + seconds
    unfinished = list(jobs)
    while unfinished:
        share = None if until is None else max(0.0, until - monotonic_seconds()) / len(unfinished) / 3
        for job in list(unfinished):
            most = None if frames is None else inputs_for(job.target, frames)
            _slice(job, most, None if share is None else max(_LEAST_SECONDS, share), on_crash)
            on_slice()
            if (most is not None and job.inputs >= most) or (until is not None and monotonic_seconds() >= until):
                unfinished.remove(job)


def _slice(job: Job, most: int | None, seconds: float | None, on_crash: OnCrash) -> None:
    began = monotonic_seconds()
    for _ in range(_INPUTS_PER_SLICE):
        if most is not None and job.inputs >= most:
            return
        job.step(on_crash)
        if seconds is not None and monotonic_seconds() - began > seconds:
            return


@contextmanager
def _time_limit() -> Iterator[None]:
    def over(_number: int, _frame: object) -> None:
        raise NonsenseError(f"took longer than {MOST_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
