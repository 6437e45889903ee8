"""Who wants to know how the sink fares: metrics and health, told by the flow's thread and by the uploading one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SinkObserver(Protocol):
    """Told of everything that happens between a row and its Delta table. Methods are quick and raise nothing."""

    def rows_spooled(self, table: str, rows: int) -> None:
        """Rows are safe on the local disk."""

    def spool_bytes(self, size_bytes: int) -> None:
        """The spool has grown or shrunk to this size."""

    def spool_blocked(self, *, is_blocked: bool) -> None:
        """The spool is full and the flow waits, or no longer."""

    def committed(self, table: str, rows: int, seconds: float) -> None:
        """A commit is done; ``rows`` is 0 when the table had them already."""

    def commit_failed(self, table: str, error: str, reason: str) -> None:
        """A commit failed and will be tried again. ``error`` is the exception's class, ``reason`` its words."""


class SinkObservers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[SinkObserver] = ()) -> None:
        """Tell these, in order."""
        self._observers = tuple(observers)

    def rows_spooled(self, table: str, rows: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.rows_spooled(table, rows)

    def spool_bytes(self, size_bytes: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.spool_bytes(size_bytes)

    def spool_blocked(self, *, is_blocked: bool) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.spool_blocked(is_blocked=is_blocked)

    def committed(self, table: str, rows: int, seconds: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.committed(table, rows, seconds)

    def commit_failed(self, table: str, error: str, reason: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.commit_failed(table, error, reason)
