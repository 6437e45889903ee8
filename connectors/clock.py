"""The one module that reads a clock or draws a random number for the connectors."""

from __future__ import annotations

import random
import time
from datetime import datetime, timezone


def now_us() -> int:
    """Return microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def utc_now() -> datetime:
    """Return the same as a time that Bytewax can be given to wait for."""
    return datetime.now(timezone.utc)


def monotonic_seconds() -> float:
    """Return seconds of a clock that never jumps: for time-outs and ages within one process."""
    return time.monotonic()


def jitter() -> float:
    """Return a number in [0, 1), different in every process: spreads retries and polls."""
    return random.random()
