"""What one process needs around the flow: its data directory, tables, metrics and sources; and how it starts and stops."""

from __future__ import annotations

import fcntl
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink
from bytewax.run import cli_main

from connectors import clock
from connectors.sinks.delta import DeltaSink, DeltaTables, DeltaTablesError
from connectors.sinks.firing import FiringAlerts
from connectors.sinks.health import HealthServer, HealthState
from connectors.sinks.metrics import EventObserver, Metrics, MetricsSink
from connectors.sinks.observer import SinkObserver
from connectors.sinks.shard_metrics import registry_of
from connectors.sinks.spool import Spool, SpoolError, SpoolWriteError
from connectors.sources.chain.addresses import exchange_addresses
from connectors.sources.collector import collect
from connectors.sources.frame import Frame
from connectors.sources.journal import JournalWriteError
from connectors.sources.source import FrameSource, Retention, StopSignal
from flows.alerting import alerting
from flows.cascade import build
from flows.cluster import ALONE, ClusterError, Position, Pulse
from flows.collection import collection_of
from flows.recovery_store import RecoveryStoreWriteError, plainly_failing, recovery_store
from flows.replay import TABLE_PARTITION, ReplaySource, journal_source, table_source
from flows.settings import Settings
from flows.shard_rules import ShardsError
from flows.shards import PARTITION, Place
from flows.stopping import Phase
from flows.tenancy import Tenancy

LOCK_NAME = "lock"
DISK_ERRORS = (JournalWriteError, RecoveryStoreWriteError, SpoolWriteError)
_DRAIN_SECONDS = 8.0  # from the moment of the stop: it takes ten at most, as orchestrators expect
_LAST_TRY_SECONDS = 1.0  # so long at least, should the flow itself have taken so long to end
_COLLECT_AFTER_OBJECTS = 50_000
_SWITCH_SECONDS = 0.001  # a thread that commits hands the interpreter back to the flow after so long; by default 5 ms

_log = structlog.get_logger(__name__)


class DataDirectoryError(Exception):
    """The data directory cannot be used: another process holds it, or it cannot be written."""


class Runtime:
    """Everything of one process around the dataflow. A context manager: what it opens it closes."""

    def __init__(
        self,
        settings: Settings,
        *,
        observers: Sequence[EventObserver] = (),
        sink_observers: Sequence[SinkObserver] = (),
        position: Position = ALONE,
    ) -> None:
        """Take the settings; nothing is opened yet.

        Args:
            settings: Of this process.
            observers: Told of every event after the last step, besides the metrics.
            sink_observers: Told of rows and commits, besides metrics and health.
            position: In a cluster.

        Raises:
            ClusterError: Settings and cluster do not go together.
        """
        self.settings = settings
        self.position = position
        self.stop = StopSignal()
        self.phase = Phase.STARTING
        self.tenancy = Tenancy(settings)
        if not (position.is_alone or self.tenancy.shard.is_whole):
            raise ClusterError("CASCADEWATCH_SHARD in a cluster: have either shards, each of one process, or a cluster")
        self.firing = FiringAlerts()
        self.metrics = Metrics(registry_of(self.tenancy.shard), shards=self.tenancy.shard.count, firing=self.firing)
        self.health = HealthState()
        self._observers = observers
        self._sink_observers = sink_observers
        self._addresses = exchange_addresses()
        self.metrics_url = ""
        self._opened = ExitStack()

    def __enter__(self) -> Runtime:
        """Hold the data directory and serve metrics.

        Raises:
            DataDirectoryError: It is in use or cannot be written.
            HealthServerError: Nothing can be served at the port.
        """
        with ExitStack() as opened:
            if self.position.is_outside:
                opened.enter_context(held(self.settings.data_dir, alone=self.tenancy.shard.is_whole))
            if self.home != self.settings.data_dir:
                opened.enter_context(held(self.home))
            where = self.settings.metrics
            server = HealthServer(self.metrics.registry, self.health, host=where.host, port=where.port)
            server.start()
            opened.callback(server.close)
            self.metrics_url = f"http://{where.host}:{server.port}"
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release them."""
        self._opened.close()

    @property
    def home(self) -> Path:
        """Where journal, recovery store and spool of this process are, if it has any."""
        is_outside, number = self.position.is_outside, self.position.process
        return self.tenancy.home if is_outside else self.settings.data_dir / f"process-{number}"

    def tables_sink(self) -> DeltaSink:
        """Return the sink of this process's tables."""
        settings = self.settings
        return DeltaSink(
            DeltaTables(settings.tables_uri, settings.storage_options()),
            Spool(self.home / "spool", settings.sink.spool_limit_bytes),
            commit_interval_seconds=settings.sink.commit_interval_seconds,
            observers=(self.metrics, self.health, *self._sink_observers),
        )

    def live_source(self, tables: DeltaSink) -> FrameSource:
        """Return the source of everything that the settings name.

        Raises:
            ShardsError: This shard cannot begin now.
            DeltaTablesError: The tables cannot be reached, or are not this program's.
        """
        settings = self.settings
        place = self.tenancy.settle(was_undivided=lambda: self._was_undivided(tables))
        place.journal.parent.mkdir(exist_ok=True)
        collection = collection_of(settings)
        self.health.expect_feeds(f"{name}/liquidations" for name in settings.venues)
        self.push_alerts()
        return FrameSource(
            partition=place.partition,
            journal_path=place.journal,
            collect=lambda inbox: collect(collection, inbox),
            committed=lambda: tables.highest_sequence(place.partition),
            stop=self.stop,
            retention=Retention(settings.journal.retention_seconds, settings.journal.limit_bytes),
            observer=_SourceObservers(self.metrics, self.health, tables.release),
        )

    def push_alerts(self) -> None:
        """Remember and push what fires, until this context ends. A live process's alone: a replay tells nobody."""
        self._opened.enter_context(alerting(self.settings, self.firing, self.metrics, self.home, self.tenancy.place.partition))

    def journal_replay(self, path: Path, tables: DeltaSink, *, last: int | None) -> ReplaySource:
        """Return the source that replays a journal, up to frame ``last`` where given.

        Raises:
            ShardsError: This shard cannot begin now.
            JournalError: It cannot be opened, or is none.
            FileNotFoundError: There is no such file.
        """
        place = self.tenancy.settle(recording=path.stem, was_undivided=lambda: tables.highest_sequence(path.stem) > 0)
        return journal_source(path, last=last, partition=place.partition, first=_first_of(place))

    def table_replay(self, uri: str, tables: DeltaSink) -> ReplaySource:
        """Return the source that replays recorded rows.

        Raises:
            ShardsError: This shard cannot begin now.
            FileNotFoundError: There are no such tables.
            DeltaTablesError: They cannot be reached, or have other columns.
        """
        recording = TABLE_PARTITION
        place = self.tenancy.settle(recording=recording, was_undivided=lambda: tables.highest_sequence(recording) > 0)
        return table_source(uri, partition=place.partition, first=_first_of(place))

    def flow(self, source: Source[Frame], tables: Sink[Any]) -> Dataflow:
        """Return the dataflow between them."""
        return build(
            source,
            tables=tables,
            metrics=MetricsSink(
                self.metrics.observe_batch, self.health.observe_batch, self.firing.observe_batch, *self._observers
            ),
            parameters=self.settings.parameters,
            addresses=self._addresses,
            share=self.tenancy.share,
            at_source=None if self.position.is_alone else self.health.observe_batch,
            pulse=None if self.position.is_alone else Pulse(self.stop, self.health),
        )

    def run(self, source: Source[Frame], tables: DeltaSink) -> None:
        """Run until the source ends or a stop is asked for, then commit what is spooled. The main thread's, as Bytewax wants.

        Where shards divide the market, it then also emits what was journaled meanwhile and hands over. What cannot be done in
        the time that a stop has is left to the next start, which carries on.

        Raises:
            DeltaTablesError: The tables are not this program's.
            JournalError: The journal does not fit the saved state or the tables, or cannot be read or written.
            RecoveryStoreError: The saved state cannot be read or written.
            SpoolError: The spool cannot be read or written.
        """
        _tune_interpreter()
        tables.open()
        self.phase = Phase.RUNNING
        try:
            self._run(source, tables)
        except DISK_ERRORS:
            with suppress(DeltaTablesError, SpoolError):
                self.drain(tables)  # which makes room, and needs none
            raise
        finally:
            self.phase = Phase.ENDED
        deadline = clock.monotonic_seconds() + self._drain_seconds()
        if not self.drain(tables) or self.tenancy.place.tenure is None:
            return
        try:
            if self.tenancy.place.journal.is_file():
                self._emit_rest(deadline - clock.monotonic_seconds())
            self.tenancy.hand_over()
        except (ShardsError, DeltaTablesError) as error:
            _log.warning("not_handed_over", error=str(error), remedy="only before the number of shards changes: drain")

    def drain(self, tables: DeltaSink) -> bool:
        """Commit what is spooled, after the flow has ended; what the store does not take waits for the next start."""
        is_drained = tables.drain(self._drain_seconds())
        if not is_drained:
            _log.warning("rows_left_in_spool", error=tables.last_error, remedy="start again: they are committed then")
        return is_drained

    def finish(self) -> None:
        """Emit all that a stopped or killed process has journaled, commit it, and hand over; nothing is received.

        Raises:
            ShardsError: There is nothing to finish, or it cannot be finished now.
            DeltaTablesError: The tables are not this program's.
            JournalError: The journal does not fit the saved state.
            SpoolError: The spool cannot be read or written.
        """
        if self.tenancy.settle(may_begin=False).tenure is None:
            self.tenancy.adopt()
        self._emit_rest()
        self.tenancy.hand_over()

    def _drain_seconds(self) -> float:
        return max(_LAST_TRY_SECONDS, _DRAIN_SECONDS - self.stop.age_seconds())

    def _run(self, source: Source[Frame], tables: DeltaSink) -> None:
        with plainly_failing(self.home):
            cli_main(
                self.flow(source, tables),
                epoch_interval=timedelta(seconds=self.settings.epoch_seconds),
                recovery_config=recovery_store(self.home),
            )

    def _emit_rest(self, seconds: float | None = None) -> None:
        """Emit what is in the journal and was not emitted, and commit it.

        Args:
            seconds: What is left after so long stays; None emits all.

        Raises:
            ShardsError: The store does not take its rows.
        """
        place = self.tenancy.place
        is_receiver = place.journal.is_file()
        source = journal_source(place.journal) if is_receiver else ReplaySource(place.partition, lambda _first: iter(()))
        tables = self.tables_sink()
        with ExitStack() as around:
            if seconds is not None:
                timer = threading.Timer(max(0.0, seconds), source.stop)
                timer.start()
                around.callback(timer.cancel)
            self._run(source, tables)
        if not self.drain(tables):
            raise ShardsError(f"the store does not take the rows in the spool: {tables.last_error}")

    def _was_undivided(self, tables: DeltaSink) -> bool:
        return (self.settings.data_dir / "journal" / f"{PARTITION}.db").exists() or tables.highest_sequence(PARTITION) > 0


@dataclass(frozen=True)
class _SourceObservers:
    """Tells metrics all of the source, and health that the flow moves.

    Attributes:
        release: Has a flow wait for the store no more: when no more frames can come, it has to hear of that.
    """

    metrics: Metrics
    health: HealthState
    release: Callable[[], None]

    def frames_received(self, feed: str, count: int, payload_bytes: int) -> None:
        self.metrics.frames_received(feed, count, payload_bytes)

    def queue_depth(self, frames: int) -> None:
        self.metrics.queue_depth(frames)

    def reception_failed(self, reason: str) -> None:
        self.health.journal_failed(reason)
        self.release()

    def batch_handed_on(self) -> None:
        self.metrics.batch_handed_on()
        self.health.batch_handed_on()

    def journal_size(self, size_bytes: int, frames: int) -> None:
        self.metrics.journal_size(size_bytes, frames)


def _tune_interpreter() -> None:
    """Look for reference cycles rarely: events make none, and looking at the default rate halves the throughput.

    And let threads change places quickly.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 20)
    sys.setswitchinterval(_SWITCH_SECONDS)


@contextmanager
def held(data_dir: Path, *, alone: bool = True) -> Iterator[None]:
    """Hold a data directory, or only keep everybody from holding it alone; it is made when missing.

    Raises:
        DataDirectoryError: It is in use or cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write the data directory {data_dir}: {error.strerror}; choose another with --data"
        ) from error
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise DataDirectoryError(
            f"another process uses the data directory {data_dir}; stop it, or choose another directory with --data"
        ) from error
    try:
        yield
    finally:
        os.close(lock)


def _first_of(place: Place) -> int | None:
    """Return the frame of a recording with which a shard begins that carries on the work of others."""
    return place.tenure.next_sequence if place.tenure is not None and place.predecessors else None
