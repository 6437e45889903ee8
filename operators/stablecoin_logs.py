"""The memory of :mod:`operators.stablecoins`: every log once, by block time, with what they sum to."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from market.parameters import PressureParameters
from market.pressure import MICROS_PER_USD

NEVER_US = 2**63 - 1
"""Later than any time."""


class Effect(enum.IntEnum):
    """What a log adds to; the first six are also places in a block's sums."""

    INFLOW_SPOT = 0
    INFLOW_DERIVATIVES = 1
    OUTFLOW_SPOT = 2
    OUTFLOW_DERIVATIVES = 3
    MINT = 4
    BURN = 5
    INTERNAL = 6  # adds to nothing
    REMOVED = 7  # taken back: remembered so that the same word twice is heard once


EFFECTS_SUMMED = 6
"""So many effects, the first, add to something."""


class TokenLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of one log."""

    block_number: int
    effect: int
    amount_micros: int


_BLOCK = msgspec.msgpack.Decoder(tuple[int, dict[bytes, TokenLog]])


class LogMemory:
    """Logs by block time, with what they sum to. ``counted`` and ``uncounted`` are how many; the owner keeps them bounded."""

    def __init__(self, parameters: PressureParameters) -> None:
        """Start empty."""
        self.counted = 0
        self.uncounted = 0
        self._minimum_micros = parameters.minimum_usd * MICROS_PER_USD
        self._blocks: dict[int, dict[bytes, TokenLog]] = {}
        self._oldest_us: int | None = None  # to be looked for
        self._time_of: dict[bytes, int] = {}
        self._sums: dict[int, list[int]] = {}  # of blocks in which something counts
        self._encoded: dict[int, bytes] = {}
        self._snapshot: tuple[bytes, ...] | None = None

    def restore(self, blocks: Iterable[bytes]) -> None:
        """Take back a snapshot."""
        for encoded in blocks:
            time_us, logs = _BLOCK.decode(encoded)
            for identity, log in logs.items():
                self._add(identity, time_us, log)
            self._encoded[time_us] = encoded

    def snapshot(self) -> tuple[bytes, ...]:
        """Return every block, encoded."""
        if self._snapshot is None:
            for time_us, logs in self._blocks.items():
                if time_us not in self._encoded:
                    self._encoded[time_us] = msgspec.msgpack.encode((time_us, logs))
            self._snapshot = tuple(self._encoded.values())
        return self._snapshot

    def learn(self, identity: bytes, time_us: int, log: TokenLog) -> bool:
        """Take a log in, or back.

        Returns:
            False when exactly that was known: the same log of the same block, here or taken back.
        """
        known_time_us = self._time_of.get(identity)
        if known_time_us is not None:
            known = self._blocks[known_time_us][identity]
            is_same_block = known.block_number == log.block_number
            was_removed, is_removed = known.effect == Effect.REMOVED, log.effect == Effect.REMOVED
            if is_same_block and was_removed == is_removed:
                return False
            if is_removed and not (is_same_block or was_removed):
                return True  # it has moved on to another block: nothing of the removed one counts any more
            self._drop(identity, known_time_us)
        self._add(identity, time_us, log)
        return True

    def forget_until(self, time_us: int) -> None:
        """Forget every block up to that time, included."""
        if self.oldest_time_us() <= time_us:
            for block_time_us in [known_us for known_us in self._blocks if known_us <= time_us]:
                for identity in list(self._blocks[block_time_us]):
                    self._drop(identity, block_time_us)

    def oldest_time_us(self) -> int:
        """Return the time of the oldest block; later than any time when there is none."""
        if self._oldest_us is None:
            self._oldest_us = min(self._blocks, default=NEVER_US)
        return self._oldest_us

    def forget_oldest_uncounted(self) -> None:
        """Forget the logs that do not count in the oldest block that has any; there must be one."""
        time_us = min(time_us for time_us, logs in self._blocks.items() if not all(map(self._counts, logs.values())))
        for identity, log in list(self._blocks[time_us].items()):
            if not self._counts(log):
                self._drop(identity, time_us)

    def sums_after(self, begin_us: int) -> tuple[list[int], int]:
        """Return what the blocks later than that sum to, by effect, and the oldest such block's time (0: none)."""
        within = {time_us: sums for time_us, sums in self._sums.items() if time_us > begin_us}
        rows = list(within.values())
        return [sum([row[effect] for row in rows]) for effect in range(EFFECTS_SUMMED)], min(within, default=0)

    def _counts(self, log: TokenLog) -> bool:
        return log.effect < EFFECTS_SUMMED and log.amount_micros >= self._minimum_micros

    def _add(self, identity: bytes, time_us: int, log: TokenLog) -> None:
        self._blocks.setdefault(time_us, {})[identity] = log
        self._time_of[identity] = time_us
        if self._counts(log):
            self.counted += 1
            self._sums.setdefault(time_us, [0] * EFFECTS_SUMMED)[log.effect] += log.amount_micros
        else:
            self.uncounted += 1
        self._touch(time_us)

    def _drop(self, identity: bytes, time_us: int) -> None:
        logs = self._blocks[time_us]
        log = logs.pop(identity)
        del self._time_of[identity]
        if self._counts(log):
            self.counted -= 1
            self._sums[time_us][log.effect] -= log.amount_micros
        else:
            self.uncounted -= 1
        if not logs:
            del self._blocks[time_us]
            self._sums.pop(time_us, None)
        self._touch(time_us)

    def _touch(self, time_us: int) -> None:
        self._encoded.pop(time_us, None)
        self._snapshot = None
        self._oldest_us = None
