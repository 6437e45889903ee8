"""Metrics of one process: what the events say, and how sources and sink fare. The list is in ``metric_list``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from connectors import clock
from connectors.sinks import metric_list as m
from connectors.sinks.delay_metrics import DelayMetrics
from connectors.sinks.event_metrics import EventMetrics, feed_labels
from connectors.sinks.firing import FiringAlerts
from connectors.sinks.metric_list import METRICS, Metric, MetricKind

__all__ = ["METRICS", "Metric", "MetricKind", "Metrics", "MetricsSink"]

DEFAULT_MAX_ASSETS = 500
"""Assets with a sample for each score metric: a page of some 30,000 lines. The longest quiet ones go first."""

# Local appends take 10 to 30 ms, object stores some hundred; a commit of an hour's backlog takes seconds.
_COMMIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MICROS = 1_000_000

EventObserver = Callable[[Iterable[Any]], None]
"""Takes a batch of events."""


class Metrics:
    """All metrics, on one registry. Observes events, the source and the sink; its methods may be called on any thread."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        max_assets: int = DEFAULT_MAX_ASSETS,
        shards: int = 1,
        firing: FiringAlerts | None = None,
    ) -> None:
        """Register everything.

        Args:
            registry: A fresh one is made without.
            max_assets: With a sample for each score metric.
            shards: Among which the assets are divided.
            firing: The alerts that fire; whoever gives it has it observe the events.
        """
        self.registry = registry if registry is not None else CollectorRegistry()
        self._events = EventMetrics(max_assets)
        self.registry.register(self._events)
        self._delays = DelayMetrics()
        self.registry.register(self._delays)
        if firing is not None:
            self.registry.register(firing)
        self._frames = self._counter(m.FRAMES)
        self._frame_bytes = self._counter(m.FRAME_BYTES)
        self._frame_timestamp = self._gauge(m.FRAME_TIMESTAMP)
        self._queue_frames = self._gauge(m.QUEUE_FRAMES)
        self._journal_bytes = self._gauge(m.JOURNAL_BYTES)
        self._journal_frames = self._gauge(m.JOURNAL_FRAMES)
        self._batch_timestamp = self._gauge(m.BATCH_TIMESTAMP)
        self._gauge(m.SHARDS).set(shards)
        self._rows_spooled = self._counter(m.ROWS_SPOOLED)
        self._rows_committed = self._counter(m.ROWS_COMMITTED)
        self._spool_bytes = self._gauge(m.SPOOL_BYTES)
        self._spool_blocked = self._gauge(m.SPOOL_BLOCKED)
        self._commit_seconds = Histogram(
            m.COMMIT_SECONDS.name,
            m.COMMIT_SECONDS.help,
            m.COMMIT_SECONDS.labels,
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        self._commit_failures = self._counter(m.COMMIT_FAILURES)
        self._commit_timestamp = self._gauge(m.COMMIT_TIMESTAMP)
        self._alerts_pushed = self._counter(m.ALERTS_PUSHED)
        self._alert_push_failures = self._counter(m.ALERT_PUSH_FAILURES)
        self._alert_unsent_timestamp = self._gauge(m.ALERT_UNSENT_TIMESTAMP)
        self._feed_children: dict[str, tuple[Counter, Counter, Gauge]] = {}

    def observe(self, event: Any) -> None:
        """Take one event."""
        self._events.observe_batch((event,))

    def observe_batch(self, events: Iterable[Any]) -> None:
        """Take events in the order they come. The flow's thread."""
        self._events.observe_batch(events)
        self._delays.observe_batch(events, clock.now_us())

    def batch_handed_on(self) -> None:
        """The flow's source has handed on a batch, maybe an empty one."""
        self._batch_timestamp.set(clock.now_us() / _MICROS)

    def frames_received(self, feed: str, count: int, payload_bytes: int) -> None:
        """Frames of one feed were journaled."""
        self._delays.begin(clock.now_us())
        children = self._feed_children.get(feed)
        if children is None:
            labels = feed_labels(feed)
            children = self._feed_children[feed] = (
                self._frames.labels(*labels),
                self._frame_bytes.labels(*labels),
                self._frame_timestamp.labels(*labels),
            )
        frames, frame_bytes, timestamp = children
        frames.inc(count)
        frame_bytes.inc(payload_bytes)
        timestamp.set(clock.now_us() / _MICROS)

    def queue_depth(self, frames: int) -> None:
        """So many frames are journaled and not yet in the flow."""
        self._queue_frames.set(frames)

    def journal_size(self, size_bytes: int, frames: int) -> None:
        """The journal is of this size."""
        self._journal_bytes.set(size_bytes)
        self._journal_frames.set(frames)

    def rows_spooled(self, table: str, rows: int) -> None:
        """Rows are safe on the local disk."""
        self._rows_spooled.labels(table).inc(rows)

    def spool_bytes(self, size_bytes: int) -> None:
        """The spool has grown or shrunk to this size."""
        self._spool_bytes.set(size_bytes)

    def spool_blocked(self, *, is_blocked: bool) -> None:
        """The spool is full and the flow waits, or no longer."""
        self._spool_blocked.set(is_blocked)

    def committed(self, table: str, rows: int, seconds: float) -> None:
        """A commit is done."""
        self._rows_committed.labels(table).inc(rows)
        self._commit_seconds.labels(table).observe(seconds)
        self._commit_timestamp.labels(table).set(clock.now_us() / _MICROS)

    def commit_failed(self, table: str, error: str, reason: str) -> None:  # noqa: ARG002 - words make no label
        """A commit failed and will be tried again."""
        self._commit_failures.labels(table, error).inc()

    def alerts_pushed(self, alertmanager: str, count: int) -> None:
        """An Alertmanager has taken so many alerts."""
        self._alerts_pushed.labels(alertmanager).inc(count)

    def alert_push_failed(self, alertmanager: str, error: str) -> None:
        """A push failed and will be tried again."""
        self._alert_push_failures.labels(alertmanager, error).inc()

    def alerts_unsent(self, alertmanager: str, since_us: int | None) -> None:
        """The oldest change that is not delivered yet is from then; without one all are."""
        self._alert_unsent_timestamp.labels(alertmanager).set((since_us or 0) / _MICROS)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)


class MetricsSink(DynamicSink[Any]):
    """Hands every batch of events to observers that need no recovery: metrics, health, a live view.

    Items are ``(key, list of events)``.
    """

    def __init__(self, *observers: EventObserver) -> None:
        """Hand batches to these, in order."""
        self._observers = observers

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:  # noqa: ARG002 - Bytewax's
        """Return a partition; all of them share the observers."""
        return _ObserverPartition(self._observers)


class _ObserverPartition(StatelessSinkPartition[Any]):
    def __init__(self, observers: tuple[EventObserver, ...]) -> None:
        self._observers = observers

    def write_batch(self, items: list[Any]) -> None:
        events = [event for _key, bunch in items for event in bunch]
        for observe in self._observers:
            observe(events)
