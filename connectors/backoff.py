"""How long to wait before trying again: arithmetic, no clock and no chance inside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Count failures and turn them into waits: doubling, fully jittered, between a floor and a ceiling."""

    first_delay_seconds: float
    max_delay_seconds: float
    failures: int = 0

    def next_delay_seconds(self, jitter: float) -> float:
        """Count one more failure and return the wait before the next attempt.

        Args:
            jitter: In [0, 1): where between the floor and twice, four times, … the floor the wait falls.
        """
        self.failures += 1
        floor = min(self.first_delay_seconds, self.max_delay_seconds)
        # 2**64 first delays are beyond every ceiling; the bound keeps the power finite.
        ceiling = min(self.max_delay_seconds, floor * 2.0 ** min(self.failures, 64))
        return floor + jitter * (ceiling - floor)

    def reset(self) -> None:
        """Forget the failures: what was reached has proved stable."""
        self.failures = 0
