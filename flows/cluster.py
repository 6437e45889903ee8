"""The same dataflow in several processes that Bytewax joins to a cluster: ``python -m bytewax.run … -a ADDRESSES -i PROCESS``.

The law: process 0 is the only one that touches the outside. It has the connections, the journal, the one feed partition, the
spool and the commits; the others compute for the assets that Bytewax sends them. So frames keep one order, and the tables are
the same as of one process, whatever the number of processes; and every volume that matters is that of process 0.

A process that dies takes the others with it, within seconds; one that stands still, or never comes, would keep them waiting
for ever, so each of them ends by itself when its dataflow has not moved for a while. A supervisor starts all of them again.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from bytewax.inputs import DynamicSource, FixedPartitionedSource, StatefulSourcePartition, StatelessSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors import clock
from connectors.sinks.delta import Reached
from connectors.sinks.health import HealthState
from connectors.sources.frame import Frame
from connectors.sources.source import StopSignal

_BEAT = timedelta(seconds=0.1)  # later than half a second, and epochs would wait for it
_LOOK_SECONDS = 1.0
_STALLED_EXIT_CODE = 75  # "temporary failure": try again

_log = structlog.get_logger(__name__)


class ClusterError(Exception):
    """The cluster cannot be run like this; the message says what to change."""


@dataclass(frozen=True)
class Position:
    """One process among those of a cluster."""

    process: int = 0
    processes: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether there is no cluster."""
        return self.processes == 1

    @property
    def is_outside(self) -> bool:
        """Whether connections, journal, spool and tables are its own."""
        return self.process == 0


ALONE = Position()


def position() -> Position:
    """Return this process's place in the cluster, from the arguments and the environment that Bytewax's own command reads.

    Raises:
        ClusterError: It asks for more than one worker in a process.
    """
    main = sys.modules["__main__"].__spec__
    if main is None or main.name != "bytewax.run":
        return ALONE
    from bytewax.run import _parse_args  # noqa: PLC0415 - only where that command runs, and has read them before

    arguments = _parse_args()
    if (arguments.workers_per_process or 1) > 1:
        raise ClusterError("-w: one worker per process; start more processes (-a, -i), or shards, which are faster")
    addresses = (arguments.addresses or "").split(";")
    return Position(arguments.process_id or 0, len(addresses))


class NothingToRead(FixedPartitionedSource[Frame, int]):
    """The source of a process that receives nothing. It has no partition.

    An empty one would be saved, and Bytewax 0.21.1 panics at a start when no process lists a partition that was saved: there
    could never be fewer processes again.
    """

    def list_parts(self) -> list[str]:
        """Return none."""
        return []

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> StatefulSourcePartition[Frame, int]:  # noqa: ARG002 - Bytewax's
        """Never be called.

        Raises:
            ClusterError: It was.
        """
        raise ClusterError(f"{step_id}: process 0 reads {for_part}, no other does")


class Pulse(DynamicSource[Any]):
    """In every process a source without items, of which nothing is saved: it shows that the dataflow moves there."""

    def __init__(self, stop: StopSignal, health: HealthState) -> None:
        """Describe it.

        Args:
            stop: Ends it: a dataflow ends when all its sources have.
            health: Told that the dataflow moves.
        """
        self._stop = stop
        self._health = health

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Beat:  # noqa: ARG002 - Bytewax's
        """Return this process's."""
        return _Beat(self._stop, self._health)


class _Beat(StatelessSourcePartition[Any]):
    def __init__(self, stop: StopSignal, health: HealthState) -> None:
        self._stop = stop
        self._health = health

    def next_batch(self) -> list[Any]:
        """Return nothing.

        Raises:
            StopIteration: The stop was asked for.
        """
        self._health.batch_handed_on()
        if self._stop.is_asked():
            raise StopIteration
        return []

    def next_awake(self) -> datetime:
        """Ask to be called again soon."""
        return clock.utc_now() + _BEAT


class WrittenElsewhere(FixedPartitionedSink[Any, Reached]):
    """The sink of a process that writes nothing: rows go to process 0, whose partition is the only one."""

    def list_parts(self) -> list[str]:
        """Return none."""
        return []

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002 - Bytewax's
        """Return the one partition's place."""
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: Reached | None) -> StatefulSinkPartition[Any, Reached]:  # noqa: ARG002 - Bytewax's
        """Never be called.

        Raises:
            ClusterError: It was.
        """
        raise ClusterError(f"{step_id}: process 0 writes {for_part}, no other does")


def end_when_stalled(health: HealthState, patience_seconds: float, end: Callable[[int], object] = os._exit) -> None:
    """End this process, from a thread of its own, when its dataflow has not moved for so long. Nothing is lost by that."""

    def watch() -> None:
        while health.stalled_seconds() <= patience_seconds:
            threading.Event().wait(min(_LOOK_SECONDS, patience_seconds))
        with suppress(OSError, ValueError):  # nobody may be reading any more what it says
            _log.error("cluster_stalled", seconds=patience_seconds, remedy="see whether every process of the cluster runs")
        end(_STALLED_EXIT_CODE)

    threading.Thread(target=watch, name="patience", daemon=True).start()
