"""The leveraged positions of one instrument and side, nearest to liquidation last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LONG = "LONG"
SHORT = "SHORT"
SIDES = (LONG, SHORT)

_UNREACHABLE = -np.inf


class Positions:
    """Positions sorted by how soon a moving price reaches them.

    A key is the logarithm of the liquidation price, negated for shorts, so that both sides read alike: a position is
    liquidated when the mark price's key is at or below its own.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._keys: Floats = np.empty(0)
        self._lots: Integers = np.empty(0, dtype=np.int64)
        self.total_lots = 0

    def __len__(self) -> int:
        """Count positions."""
        return len(self._keys)

    @property
    def nearest(self) -> float:
        """Key of the next to be liquidated; minus infinity when there is none."""
        return float(self._keys[-1]) if len(self._keys) else _UNREACHABLE

    def open(self, keys: Floats, lots: Integers) -> None:
        """Add positions."""
        if keys.size:
            keys, lots = np.concatenate((self._keys, keys)), np.concatenate((self._lots, lots))
            order = keys.argsort(kind="stable")
            self._keep(keys[order], lots[order])

    def close(self, *, beyond: float, share: Floats, churn: float) -> None:
        """Close positions whose key is below ``beyond``, and those whose ``share`` (a number for each) is below ``churn``."""
        keep = (self._keys >= beyond) & (share >= churn)
        if not keep.all():
            self._keep(self._keys[keep], self._lots[keep])

    def take_crossed(self, mark_key: float) -> tuple[Floats, Integers]:
        """Remove the positions that the mark price has reached, nearest first, and return their keys and lots."""
        first = int(np.searchsorted(self._keys, mark_key, side="left"))
        keys, lots = self._keys[first:][::-1], self._lots[first:][::-1]
        self._keys, self._lots = self._keys[:first], self._lots[:first]
        self.total_lots -= int(lots.sum())
        return keys, lots

    def _keep(self, keys: Floats, lots: Integers) -> None:
        self._keys, self._lots = keys, lots
        self.total_lots = int(lots.sum())
