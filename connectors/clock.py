"""The one module that reads a clock or draws a random number for the connectors."""

from __future__ import annotations

import random
import time


def now_us() -> int:
    """Return microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def monotonic_seconds() -> float:
    """Return seconds of a clock that never jumps: for time-outs and ages within one process."""
    return time.monotonic()


def jitter() -> float:
    """Return a number in [0, 1), different in every process: spreads retries and polls."""
    return random.random()
