"""How a process ends when it is asked to: in order, within ten seconds, whatever keeps it.

The first SIGTERM or SIGINT asks the source to stop; the epoch becomes durable, what is spooled is committed as far as the
store takes it in time, and the exit code is 0. A process that has not begun to emit has nothing to finish and ends at once.
More SIGTERMs change nothing: some supervisors send several. A second SIGINT, somebody's second Ctrl-C, ends it at once (130).
"""

from __future__ import annotations

import enum
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from connectors.signals import end_at_once, heard_by
from connectors.sources.source import StopSignal

STOP_SECONDS = 9.5
"""Orchestrators kill after ten at the soonest."""

_log = structlog.get_logger(__name__)

End = Callable[[int], object]


class Phase(enum.Enum):
    """How far a process has come."""

    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    """The flow has; rows may still be on their way from the spool to the store."""


class Stoppable(Protocol):
    """What can be asked to stop."""

    stop: StopSignal
    phase: Phase


class Waiting(Protocol):
    """What may keep a flow waiting."""

    def release(self) -> None:
        """Make it wait no more."""


@contextmanager
def stopped_by_signals(
    process: Stoppable,
    waiting: Waiting | None = None,
    also: Callable[[], None] | None = None,
    *,
    seconds: float = STOP_SECONDS,
    end: End = os._exit,
) -> Iterator[None]:
    """Stop cleanly on SIGTERM and SIGINT. The main thread's.

    Args:
        process: Whose source is asked to stop.
        waiting: Released, so that a flow that waits for room in the spool goes on to its end.
        also: Called too.
        seconds: Longer than this no stop takes: what has not ended by then is ended as by a kill, of which nothing is lost.
        end: Ends the process with a code.
    """
    stopping, ended = threading.Event(), threading.Event()

    def end_if_it_takes_too_long() -> None:
        if not ended.wait(seconds):
            _log.error("stop_took_too_long", phase=process.phase.value, remedy="start again: nothing is lost")
            end(1 if process.phase is Phase.RUNNING else 0)

    def react(number: signal.Signals) -> None:
        if stopping.is_set():
            if number == signal.SIGINT:
                end_at_once(number)
            return
        stopping.set()
        _log.info("stopping", signal=number.name, phase=process.phase.value)
        process.stop.ask()
        if process.phase is Phase.STARTING and number == signal.SIGTERM:
            end(0)
        if waiting is not None:
            waiting.release()
        if also is not None:
            also()
        threading.Thread(target=end_if_it_takes_too_long, name="patience with the stop", daemon=True).start()

    try:
        with heard_by(react):
            yield
    finally:
        ended.set()
