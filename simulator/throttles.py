"""How much of what happens each venue publishes, and when. Pure: time is an argument, in milliseconds.

Sources: the vendors' pages on their liquidation streams, see each class.
"""

from __future__ import annotations

from typing import Protocol

from simulator.instruments import BINANCE, BYBIT_INVERSE, BYBIT_LINEAR, OKX
from simulator.truth import Record

BINANCE_WINDOW_MS = 1000
BYBIT_PUSH_MS = 500
OKX_PAUSE_MS = 1000


class Throttle(Protocol):
    """One venue's rule."""

    def add(self, record: Record, now_ms: int) -> None:
        """Take a liquidation that has just happened."""

    def due(self, now_ms: int) -> list[list[Record]]:
        """Return what is to be published now, one list per message."""

    def is_idle(self) -> bool:
        """Whether nothing waits to be published."""


class LargestPerSecond:
    """Binance since 2026-04: per symbol at most one per 1000 ms, the largest of them, at the end of the window.

    The window begins with the first liquidation after the last push, hence E − T of up to a second.
    """

    def __init__(self) -> None:
        """Begin without an open window."""
        self._windows: dict[str, tuple[int, Record]] = {}

    def add(self, record: Record, now_ms: int) -> None:
        """Keep it if it is its symbol's largest so far."""
        symbol = record.liquidation.instrument.symbol
        begin, largest = self._windows.get(symbol, (now_ms, record))
        if record.notional_micros > largest.notional_micros:
            largest = record
        self._windows[symbol] = (begin, largest)

    def due(self, now_ms: int) -> list[list[Record]]:
        """Return the largest of each window that is over."""
        over = [symbol for symbol, (begin, _) in self._windows.items() if now_ms >= begin + BINANCE_WINDOW_MS]
        return [[self._windows.pop(symbol)[1]] for symbol in over]

    def is_idle(self) -> bool:
        """Whether no window is open."""
        return not self._windows


class EverythingTwiceASecond:
    """Bybit since 2025-02: every liquidation, pushed each 500 ms, one message per symbol."""

    def __init__(self) -> None:
        """Begin with nothing waiting."""
        self._waiting: dict[str, list[Record]] = {}
        self._next_push_ms = 0

    def add(self, record: Record, now_ms: int) -> None:
        """Let it wait for the next push."""
        del now_ms
        self._waiting.setdefault(record.liquidation.instrument.symbol, []).append(record)

    def due(self, now_ms: int) -> list[list[Record]]:
        """Return everything that waits, by symbol, when it is time."""
        if now_ms < self._next_push_ms:
            return []
        self._next_push_ms = (now_ms // BYBIT_PUSH_MS + 1) * BYBIT_PUSH_MS
        pushes = list(self._waiting.values())
        self._waiting = {}
        return pushes

    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting


class OnePerContractAndSecond:
    """OKX: at most one per contract and second; one message may carry several contracts.

    Which one is not said; here the first is published at once and what follows within the second is not.
    """

    def __init__(self) -> None:
        """Begin with nothing published."""
        self._free_from_ms: dict[str, int] = {}
        self._waiting: list[Record] = []

    def add(self, record: Record, now_ms: int) -> None:
        """Take it when its contract has been silent for a second."""
        symbol = record.liquidation.instrument.symbol
        if now_ms >= self._free_from_ms.get(symbol, now_ms):
            self._free_from_ms[symbol] = now_ms + OKX_PAUSE_MS
            self._waiting.append(record)

    def due(self, now_ms: int) -> list[list[Record]]:
        """Return what was taken: swaps in one message, futures in another."""
        del now_ms
        waiting, self._waiting = self._waiting, []
        kinds = (
            [record for record in waiting if record.liquidation.instrument.is_perpetual],
            [record for record in waiting if not record.liquidation.instrument.is_perpetual],
        )
        return [kind for kind in kinds if kind]

    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting


def make_throttles() -> dict[str, Throttle]:
    """Return a fresh throttle for each venue."""
    return {
        BINANCE: LargestPerSecond(),
        BYBIT_LINEAR: EverythingTwiceASecond(),
        BYBIT_INVERSE: EverythingTwiceASecond(),
        OKX: OnePerContractAndSecond(),
    }
