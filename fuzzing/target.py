"""What is fuzzed, and how it answered."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

_SPECIFIC = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[0-9]+|`[^`]*`")


@dataclass(frozen=True)
class Answer:
    """How one input was taken. ``kind`` says it in words without its particulars, so that a new one shows a new path."""

    frames: int
    refused: int
    kind: str


class Source(Protocol):
    """Makes one target's inputs, the same ones for the same chance."""

    def make(self) -> bytes:
        """Return the next input."""

    def keep(self, data: bytes, answer: Answer) -> None:
        """Take note of an input that brought an answer never seen before."""


@dataclass(frozen=True)
class Target:
    """One thing that reads input.

    Attributes:
        source: Makes a source of inputs from a seeded chance.
        take: Hands an input to it. Whatever it raises is a crash.
        are_lines: An input is a sequence, one step a line: it is made smaller line by line, not byte by byte.
    """

    name: str
    source: Callable[[random.Random], Source]
    take: Callable[[bytes], Answer]
    are_lines: bool = False


class NonsenseError(Exception):
    """What came out breaks a promise of the code that made it: no exception of its own, but as bad as one."""


def kind_of(error: Exception) -> str:
    """Return a refusal without the values in it."""
    return f"{type(error).__name__} {_SPECIFIC.sub('', str(error))[:80]}"


@dataclass
class Crash:
    """An input that something could not bear."""

    target: str
    error: str
    data: bytes


@dataclass
class Tally:
    """What one target was given and what it made of it."""

    frames: int = 0
    refused: int = 0
    crashed: int = 0
    kinds: set[str] = field(default_factory=set)
    crashes: dict[str, Crash] = field(default_factory=dict)

    @property
    def parsed(self) -> int:
        """Frames that were understood."""
        return self.frames - self.refused - self.crashed
