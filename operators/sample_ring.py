"""Samples of a few numbers at regular times, as far back as a window needs: bounded, and compact when saved."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence

_SLACK_SAMPLES = 2
"""A sample stands for a moment when it is at most so many intervals older: ticks come late, and one may be missed."""


class SampleRing:
    """Rows of numbers by time, oldest first; ``None`` where a number was not known.

    Keeps ``reach_us`` and the slack, so at most ``reach_us / every_us + 3`` rows.
    """

    def __init__(self, width: int, *, every_us: int, reach_us: int, saved: tuple[bytes, bytes] | None = None) -> None:
        """Start empty, or with what :meth:`save` returned.

        Args:
            width: Numbers per row.
            every_us: Between rows at least.
            reach_us: The oldest moment that can be asked for.
            saved: From a ring of the same width.
        """
        self._width = width
        self._every_us = every_us
        self._slack_us = _SLACK_SAMPLES * every_us
        self._reach_us = reach_us
        self._times = array("q")
        self._values = array("d")
        if saved is not None:
            self._times.frombytes(saved[0])
            self._values.frombytes(saved[1])

    def add(self, now_us: int, row: Sequence[float | None]) -> bool:
        """Keep a row, unless the last one is too young; say whether it was kept."""
        if self._times and now_us - self._times[-1] < self._every_us:
            return False
        self._times.append(now_us)
        self._values.extend(math.nan if value is None else value for value in row)
        outdated = bisect_right(self._times, now_us - self._reach_us - self._slack_us)
        del self._times[:outdated]
        del self._values[: outdated * self._width]
        return True

    def at(self, moment_us: int) -> tuple[float | None, ...] | None:
        """Return the newest row at or before a moment; ``None`` when there is none that is young enough to stand for it."""
        place = bisect_right(self._times, moment_us) - 1
        if place < 0 or moment_us - self._times[place] > self._slack_us:
            return None
        row = self._values[place * self._width : (place + 1) * self._width]
        return tuple(None if math.isnan(value) else value for value in row)

    def save(self) -> tuple[bytes, bytes]:
        """Return all rows."""
        return self._times.tobytes(), self._values.tobytes()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._times)
