"""When an asset speaks: once in every interval of a clock that is its own.

All clocks run alike, each begun at a moment of the second that follows from the asset's name. So the work of many assets is
spread over the second, and an event behind it waits for a few of them, never for all.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

TICK_EVERY_US = 1_000_000
"""An active asset is sent a tick so often."""


@lru_cache(maxsize=20_000)
def phase_us(asset: str) -> int:
    """Return where in the second an asset's clock begins: the same in every process and on every machine."""
    return zlib.crc32(asset.encode("utf-8", "surrogatepass")) % TICK_EVERY_US


def is_due(asset: str, now_us: int, ticked_us: int) -> bool:
    """Say whether an asset gets the tick at ``now_us``, when the one before was at ``ticked_us``.

    Of ticks a second or more apart it gets each; of more frequent ones the first of each of its seconds.
    """
    phase = phase_us(asset)
    return (now_us - phase) // TICK_EVERY_US > (ticked_us - phase) // TICK_EVERY_US


def next_emission_us(asset: str, now_us: int, interval_us: int) -> int:
    """Return when the next reading is allowed after one at ``now_us``: at the start of the next interval of its clock.

    Counting whole intervals of the clock, not time elapsed, gives at most one reading per interval, and still one per tick
    where ticks come a little early or late.
    """
    interval_us = max(1, interval_us)
    phase = phase_us(asset)
    return ((now_us - phase) // interval_us + 1) * interval_us + phase
