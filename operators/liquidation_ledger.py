"""Events of one position side in order of their time, with the sum and the largest of every look-back at little cost.

A sum is the difference of two prefix sums, in exact integers; the largest is found by bisection among the events that no later
one reaches. Both are brought up to date when asked for, from the first place that changed. NumPy does it where there are many
new events; for a few, its calls cost more than they save.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_SUM_MICROS = 2**62
"""What the events held may sum to, 4.6 million million USD: above it the prefix sums might not fit their integers."""

NEVER_US = 2**62
"""Later than any time."""

# Where NumPy begins to pay, as measured.
_MANY_TO_SORT = 48
_MANY_TO_SUM = 24
_MANY_TO_ADD = 128


class Totals(NamedTuple):
    """What each look-back holds, in the order given to the ledger."""

    usd_micros: tuple[int, ...]
    counts: tuple[int, ...]
    largest_micros: tuple[int, ...]


class Ledger:
    """Events by time. Positions count from the oldest event held; times are microseconds, codes 0…255."""

    __slots__ = (
        "_base",
        "_befores",
        "_clean",
        "_dropped",
        "_leaves_us",
        "_maxima",
        "_maxima_at",
        "_spans_us",
        "_starts",
        "_sums",
        "codes",
        "notionals",
        "times",
    )

    def __init__(self, spans_us: Sequence[int], *, times: bytes = b"", notionals: bytes = b"", codes: bytes = b"") -> None:
        """Begin with the bytes of another one's arrays; ``spans_us`` are the look-backs."""
        self.times = array("q")
        self.notionals = array("q")
        self.codes = bytearray(codes)
        self.times.frombytes(times)
        self.notionals.frombytes(notionals)
        self._spans_us = spans_us
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._sums = array("q")  # up to and with this event, and _base; right up to _clean, like the maxima
        self._base = 0
        self._clean = 0
        self._dropped = 0  # events dropped since then: _maxima_at counts from before them
        self._maxima_at: list[int] = []  # events that no later one reaches: oldest, and so largest, first
        self._maxima: list[int] = []
        self._starts = [0] * len(self._spans_us)  # per look-back: where it begins,
        self._befores = [0] * len(self._spans_us)  # the prefix sum before that,
        self._leaves_us = [0] * len(self._spans_us)  # and until when both hold; 0: to be worked out

    def insert(self, times: list[int], notionals: list[int], codes: list[int]) -> None:
        """Put events in their places, given in any order: one list per property."""
        position = bisect_right(self.times, min(times))
        if len(self.times) - position + len(times) < _MANY_TO_SORT:
            self._insert_few(position, times, notionals, codes)
            return
        all_times = np.concatenate((_integers(self.times[position:]), _integers(times)))
        all_notionals = np.concatenate((_integers(self.notionals[position:]), _integers(notionals)))
        all_codes = np.frombuffer(self.codes[position:] + bytes(codes), dtype=np.uint8)
        order = all_times.argsort(kind="stable")
        del self.times[position:], self.notionals[position:], self.codes[position:]
        self.times.frombytes(all_times[order].tobytes())
        self.notionals.frombytes(all_notionals[order].tobytes())
        self.codes += all_codes[order].tobytes()
        self._unsettle(position)

    def _insert_few(self, position: int, times: list[int], notionals: list[int], codes: list[int]) -> None:
        all_times = self.times[position:].tolist() + times
        all_notionals = self.notionals[position:].tolist() + notionals
        all_codes = [*self.codes[position:], *codes]
        order = sorted(range(len(all_times)), key=all_times.__getitem__)
        del self.times[position:], self.notionals[position:], self.codes[position:]
        self.times.extend([all_times[place] for place in order])
        self.notionals.extend([all_notionals[place] for place in order])
        self.codes.extend([all_codes[place] for place in order])
        self._unsettle(position)

    def _unsettle(self, position: int) -> None:
        """From here on all has to be worked out again; look-backs that begin earlier still begin there."""
        self._clean = min(self._clean, position)
        for number, start in enumerate(self._starts):
            if start >= position:
                self._leaves_us[number] = 0

    def update(self) -> bool:
        """Make ready for :meth:`totals`. False, and not ready, when the events sum to more than the limit."""
        clean, sums = self._clean, self._sums
        fresh = self.notionals[clean:]
        if not fresh:
            return True
        del sums[clean:]
        before = sums[-1] if sums else self._base
        if before + sum(fresh) > MAX_SUM_MICROS:
            if sum(self.notionals) > MAX_SUM_MICROS:
                return False
            self._begin_anew()
            return self.update()
        known = bisect_left(self._maxima_at, clean + self._dropped)
        del self._maxima_at[known:], self._maxima[known:]
        if len(fresh) < _MANY_TO_SUM:
            for notional in fresh:
                before += notional
                sums.append(before)
                self._add_maximum(self._dropped + len(sums) - 1, notional)
        else:
            values = _integers(fresh)
            sums.frombytes((np.cumsum(values) + before).tobytes())
            for position, notional in zip(*_unreached(values), strict=True):
                self._add_maximum(self._dropped + clean + position, notional)
        self._clean = len(sums)
        return True

    def _add_maximum(self, at: int, notional: int) -> None:
        maxima = self._maxima
        while maxima and maxima[-1] <= notional:
            maxima.pop()
            self._maxima_at.pop()
        maxima.append(notional)
        self._maxima_at.append(at)

    def totals(self, now_us: int) -> Totals:
        """Return what ``(now − span, now]`` holds, for every span. Time does not go back; :meth:`update` has been called."""
        for number, leaves_us in enumerate(self._leaves_us):
            if leaves_us <= now_us:
                self._find_start(number, now_us)
        end = len(self.times)
        total_micros = self._sums[-1] if end else self._base
        maxima, maxima_at, dropped = self._maxima, self._maxima_at, self._dropped
        return Totals(
            tuple([total_micros - before for before in self._befores]),
            tuple([end - start for start in self._starts]),
            tuple([maxima[bisect_left(maxima_at, start + dropped)] if start < end else 0 for start in self._starts]),
        )

    def _find_start(self, number: int, now_us: int) -> None:
        span_us = self._spans_us[number]
        start = bisect_right(self.times, now_us - span_us)
        self._starts[number] = start
        self._befores[number] = self._sums[start - 1] if start else self._base
        self._leaves_us[number] = self.times[start] + span_us if start < len(self.times) else NEVER_US

    def changes_us(self) -> int:
        """Return when the next event leaves a look-back, since the last :meth:`totals`."""
        return min(self._leaves_us)

    def outside(self) -> int:
        """Return how many of the oldest events are in no look-back, since the last :meth:`totals`."""
        return min(self._starts)

    def drop(self, count: int) -> None:
        """Forget the oldest events, whether a look-back holds them or not."""
        del self.times[:count], self.notionals[:count], self.codes[:count]
        if count > min(self._clean, self.outside()) or not self.times:
            self._begin_anew()
            return
        self._base = self._sums[count - 1]
        self._clean -= count
        self._dropped += count
        del self._sums[:count]
        first = bisect_left(self._maxima_at, self._dropped)
        del self._maxima_at[:first], self._maxima[:first]
        self._starts = [start - count for start in self._starts]


def add_by_code(sums: list[int], notionals: Sequence[int], codes: Sequence[int], *, sign: int = 1) -> None:
    """Add notionals to the sums numbered by their codes."""
    if len(notionals) < _MANY_TO_ADD or sum(notionals) > MAX_SUM_MICROS:
        for notional, code in zip(notionals, codes, strict=True):
            sums[code] += sign * notional
        return
    values = _integers(notionals)
    numbers = np.frombuffer(bytes(codes), dtype=np.uint8)
    for code in set(codes):
        sums[code] += sign * int(values[numbers == code].sum())


def _integers(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def _unreached(notionals: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[list[int], list[int]]:
    """Return where and how large the events are that no later one reaches, oldest first."""
    newest_first = notionals[::-1]
    is_larger = np.ones(len(notionals), dtype=np.bool_)
    is_larger[1:] = newest_first[1:] > np.maximum.accumulate(newest_first)[:-1]
    back = np.flatnonzero(is_larger)[::-1]
    return (len(notionals) - 1 - back).tolist(), newest_first[back].tolist()
