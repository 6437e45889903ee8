"""Every parser, a frame at a time: events or ``FrameError``, nothing else."""

from __future__ import annotations

import random
from functools import partial
from typing import get_args

from connectors.sources.frame import STATUS_FEED, Frame, FrameError
from connectors.sources.parse import _parse_status as parse_status
from connectors.sources.registry import parser_of
from fuzzing.corpus import feeds, seeds_of
from fuzzing.mutator import Mutator
from fuzzing.target import Answer, NonsenseError, Target, kind_of
from market.events import Derivatives, Liquidation
from market.raw import Cause, RawEvent

RECEIVED_US = 1_791_565_602_000_000
CAUSE = Cause("0", 7, RECEIVED_US)

_EVENTS = frozenset({*get_args(RawEvent), Liquidation, Derivatives})
_TIMES = ("event_time_us", "block_time_us", "from_block_time_us", "to_block_time_us")
_MAX_TIME_US = 2**63


class FrameSource:
    """Frames of one feed."""

    def __init__(self, feed: str, chance: random.Random) -> None:
        """Begin with the feed's fixtures."""
        seeds = seeds_of(feed)
        understood = [seed for seed in seeds if not take_frame(feed, seed).refused]
        self._mutator = Mutator(understood, [seed for seed in seeds if seed not in understood], chance)

    def make(self) -> bytes:
        """Return a frame."""
        return self._mutator.frame()

    def mutated(self, data: bytes, seed: int) -> bytes:
        """Return this very frame with something wrong in it, the same for the same seed."""
        return self._mutator.mutated(data, seed)

    def keep(self, data: bytes, answer: Answer) -> None:
        """Go on from it."""
        self._mutator.keep(data, is_understood=not answer.refused)


def frame_targets() -> list[Target]:
    """Return one target per feed that has a parser."""
    return [Target(f"parser/{feed}", partial(FrameSource, feed), partial(take_frame, feed)) for feed in feeds()]


def take_frame(feed: str, payload: bytes) -> Answer:
    """Parse one frame.

    Raises:
        NonsenseError: What came out is no event, or has a time that no table can hold.
        Exception: Whatever the parser raises besides ``FrameError``.
    """
    frame = Frame(feed, payload, CAUSE)
    try:
        events = parse_status(frame) if feed == STATUS_FEED else parser_of(feed)(frame)
    except FrameError as refusal:
        return Answer(1, 1, kind_of(refusal))
    for event in events:
        check_event(event)
    return Answer(1, 0, " ".join(sorted({type(event).__name__ for event in events})) + "+" * min(len(events), 2))


def check_event(event: object) -> None:
    """Raise unless this is an event of the frame with times that fit a table."""
    if type(event) not in _EVENTS or getattr(event, "cause", None) is not CAUSE:
        raise NonsenseError(f"no event of this frame: {event!r:.200}")
    for name in _TIMES:
        time_us = getattr(event, name, 0)
        if not (isinstance(time_us, int) and 0 <= time_us < _MAX_TIME_US):
            raise NonsenseError(f"{name} of {time_us!r:.60}")
