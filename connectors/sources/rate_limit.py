"""A venue's rate limit: arithmetic with the time handed in, and the asynchronous shell that waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from connectors.clock import monotonic_seconds
from connectors.sources.feed import RateLimit

_BURST_SHARE = 0.5
"""Of a limit: at most this may be spent at once, the rest is what refills meanwhile; together they never exceed the limit."""


@dataclass(slots=True)
class TokenBucket:
    """A rate limit as arithmetic; times are seconds of any clock that never falls.

    In any stretch of ``limit.per_seconds`` it grants at most ``limit.weight``. One call heavier than half of that waits for
    the full bucket and leaves a debt.
    """

    limit: RateLimit
    tokens: float = field(init=False)
    updated_seconds: float = field(init=False, default=0.0)
    paused_until_seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Start full."""
        self.tokens = self.capacity

    @property
    def capacity(self) -> float:
        """The most that can be spent at once."""
        return self.limit.weight * _BURST_SHARE

    @property
    def tokens_per_second(self) -> float:
        """How fast it refills."""
        return self.limit.weight * (1.0 - _BURST_SHARE) / self.limit.per_seconds

    def wait_seconds(self, weight: float, now_seconds: float) -> float:
        """Return how long to wait before ``weight`` may be taken; 0.0 when it may be now."""
        self._refill(now_seconds)
        missing = min(weight, self.capacity) - self.tokens
        return max(0.0, missing / self.tokens_per_second, self.paused_until_seconds - now_seconds)

    def take(self, weight: float, now_seconds: float) -> None:
        """Spend; only when ``wait_seconds`` says 0.0."""
        self._refill(now_seconds)
        self.tokens -= weight

    def pause_until(self, until_seconds: float) -> None:
        """Grant nothing before this time; never shortens an earlier pause."""
        self.paused_until_seconds = max(self.paused_until_seconds, until_seconds)

    def _refill(self, now_seconds: float) -> None:
        passed = max(0.0, now_seconds - self.updated_seconds)
        self.tokens = min(self.capacity, self.tokens + passed * self.tokens_per_second)
        self.updated_seconds = max(self.updated_seconds, now_seconds)


class RateLimiter:
    """A venue's rate limit, shared by its polls. First come, first served."""

    def __init__(self, limit: RateLimit) -> None:
        """Start with a full bucket."""
        self._bucket = TokenBucket(limit)
        self._turn = asyncio.Lock()  # wakes its waiters in order of arrival

    async def acquire(self, weight: float) -> None:
        """Wait until a call of this weight may be made, and count it."""
        async with self._turn:
            now = monotonic_seconds()
            while (wait := self._bucket.wait_seconds(weight, now)) > 0.0:
                await asyncio.sleep(wait)
                now = monotonic_seconds()
            self._bucket.take(weight, now)

    def paused_seconds(self) -> float:
        """Return for how long polls are still held back because the venue said so; 0.0 when they are not."""
        return max(0.0, self._bucket.paused_until_seconds - monotonic_seconds())

    def pause_until(self, until_seconds: float) -> None:
        """Hold every poll of the venue back until this time of :func:`connectors.clock.monotonic_seconds`."""
        self._bucket.pause_until(until_seconds)
