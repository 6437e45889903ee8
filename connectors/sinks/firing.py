"""Which alerts fire now: what pushes and rules go by. Follows the flow's last step, survives a restart in a small file.

The law: an alert is what its labels say, so another severity is another alert; its newest change wins, and a change that is
read again after a restart is no change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from connectors import clock
from connectors.sinks import metric_list as m
from connectors.sinks.alert_words import CASCADE, RISK, Alert, Identity, cascade_words, risk_words
from market.readings import AlertChange, CascadePhase, CascadeTransition, Score, Severity

MAX_ALERTS = 2_000
"""Remembered at once: five for each of some hundred assets. Beyond it what ended goes, then what is oldest."""

FORGET_ENDED_US = 7_200_000_000
"""An alert that ended is remembered for two hours: longer than the journal can make a restart read again by default."""

UNCONFIRMED_SECONDS = 900.0
"""A restored alert whose asset has had no score for so long is given up: another process has the asset now."""

MAX_SCORES = 500
"""Assets whose newest score is at hand; as many as the metrics show."""

_FORGET_EVERY_US = 60_000_000
_LEVELS = {"info": 1, "warning": 2, "critical": 3}
_JOIN_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class _File(msgspec.Struct):
    format: int
    alerts: list[Alert]


class FiringAlerts(Collector):
    """Every alert that fires, or ended not long ago. Observed by the flow's thread, read by others."""

    def __init__(self, *, max_alerts: int = MAX_ALERTS) -> None:
        """Know none."""
        self._max_alerts = max_alerts
        self._alerts: dict[Identity, Alert] = {}
        self._scores: dict[str, Score] = {}
        self._restored: set[Identity] = set()
        self._heard: set[str] = set()  # assets with a score, while restored alerts wait for one
        self._give_up_at = 0.0
        self._changed = threading.Condition()
        self._version = 0
        self._newest_us = 0
        self._forget_again_us = 0
        self._path: Path | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            Score: self._score,
            AlertChange: self._alert,
            CascadeTransition: self._cascade,
        }

    def observe_batch(self, events: Iterable[Any]) -> None:
        """Take events in the order they come. The flow's thread: it is held up by nothing."""
        handler_of = self._handlers.get
        for event in events:
            handler = handler_of(type(event))
            if handler is not None:
                handler(event)

    def alerts(self) -> list[Alert]:
        """Return them all, those that ended too."""
        with self._changed:
            self._give_up_unconfirmed()
            return list(self._alerts.values())

    def score_of(self, asset: str) -> Score | None:
        """Return the newest score of an asset."""
        return self._scores.get(asset)

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    @property
    def newest_us(self) -> int:
        """Receive time of the newest frame that had a say, as far as the flow has come; 0 before the first."""
        return self._newest_us

    def wait(self, version: int, seconds: float) -> None:
        """Return when something has changed since ``version``, or after so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version or self._is_closed, max(0.0, seconds))

    def keep(self, path: Path, partition: str) -> None:
        """Begin with what a file says, and keep it up to date from a thread of its own until closed.

        Alerts of another feed partition than this process's are left: they are of a shard that once was here, whose state this
        process does not have, so it would never end them. A file that cannot be read is as good as none: what fires is then
        known from its next change on.
        """
        self._path = path
        with self._changed:
            for alert in [alert for alert in _read(path) if alert.partition == partition]:
                self._version += 1
                self._alerts[alert.identity] = msgspec.structs.replace(alert, version=self._version)
            self._restored = {alert.identity for alert in self._alerts.values() if alert.ends_us is None}
            self._give_up_at = clock.monotonic_seconds() + UNCONFIRMED_SECONDS
        self._thread = threading.Thread(target=self._write_changes, name="firing alerts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what has changed, and wake whoever waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will change."""
        return self._is_closed

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what fires as metrics: 0 for what ended not long ago, no sample for what nobody has heard of."""
        severities: dict[str, int] = {}
        sides: dict[tuple[str, str], int] = {}
        for alert in self.alerts():
            level = _LEVELS[alert.severity] if alert.ends_us is None else 0
            if alert.name == RISK:
                severities[alert.asset] = max(level, severities.get(alert.asset, 0))
            else:
                side = (alert.asset, alert.position_side)
                sides[side] = max(int(level > 0), sides.get(side, 0))
        yield _family(m.ALERT_SEVERITY, {(asset,): level for asset, level in severities.items()})
        yield _family(m.CASCADE_RUNNING, sides)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: the names are known to be unique."""
        return ()

    def _score(self, score: Score) -> None:
        asset = score.asset
        self._newest_us = score.cause.receive_time_us
        self._scores.pop(asset, None)  # so that the newest is last
        self._scores[asset] = score
        if len(self._scores) > MAX_SCORES:
            del self._scores[next(iter(self._scores))]
        if self._restored:
            self._heard.add(asset)

    def _alert(self, change: AlertChange) -> None:
        summary, words = risk_words(change)
        for severity in (change.previous_severity, change.severity):
            if severity is not Severity.NONE:
                is_over = severity is not change.severity
                self._take(change, (RISK, change.asset, "", severity.value), summary, words, is_over=is_over)

    def _cascade(self, step: CascadeTransition) -> None:
        summary, words = cascade_words(step)
        identity = (CASCADE, step.asset, step.position_side.value, Severity.CRITICAL.value)
        self._take(step, identity, summary, words, is_over=step.phase is CascadePhase.ENDED)

    def _take(
        self, change: AlertChange | CascadeTransition, identity: Identity, summary: str, words: str, *, is_over: bool
    ) -> None:
        cause = change.cause
        now_us = cause.receive_time_us
        with self._changed:
            self._newest_us = now_us
            before = self._alerts.get(identity)
            if before is not None and _is_known(before, cause.feed_partition, cause.sequence, now_us):
                return
            starts_us = before.starts_us if before is not None and before.ends_us is None else now_us
            self._version += 1
            self._alerts.pop(identity, None)  # so that the newest is last
            self._alerts[identity] = Alert(
                *identity,
                starts_us=starts_us,
                ends_us=now_us if is_over else None,
                partition=cause.feed_partition,
                sequence=cause.sequence,
                changed_us=now_us,
                summary=summary,
                words=words,
                version=self._version,
            )
            self._restored.discard(identity)
            self._forget(now_us)
            self._changed.notify_all()

    def _forget(self, now_us: int) -> None:
        are_too_many = len(self._alerts) > self._max_alerts
        if not are_too_many and now_us < self._forget_again_us:
            return
        self._forget_again_us = now_us + _FORGET_EVERY_US
        ended = [alert for alert in self._alerts.values() if alert.ends_us is not None]
        for alert in ended:
            if are_too_many or alert.changed_us < now_us - FORGET_ENDED_US:
                del self._alerts[alert.identity]
        if are_too_many:  # some at a time: looking through all of them for each would hold the flow up
            for identity in list(self._alerts)[: max(0, len(self._alerts) - self._max_alerts + self._max_alerts // 10)]:
                del self._alerts[identity]

    def _give_up_unconfirmed(self) -> None:
        """Drop restored alerts of assets that are somebody else's now: they are not said to be over, only not said again."""
        if self._restored and clock.monotonic_seconds() > self._give_up_at:
            for identity in self._restored:
                if identity[1] not in self._heard:
                    self._alerts.pop(identity, None)
            self._restored, self._heard = set(), set()

    def _write_changes(self) -> None:
        written = self._version
        while not (self._is_closed and written == self._version):
            self.wait(written, 60.0)
            if self._version == written:
                continue
            written = self._version
            try:
                _write(self._path or Path(), self.alerts())
            except OSError as error:
                _log.warning(
                    "firing_alerts_not_saved",
                    error=error.strerror or str(error),
                    remedy="make room, or let the process write its data directory; a restart would not know what fires",
                )


def _is_known(before: Alert, partition: str, sequence: int, receive_time_us: int) -> bool:
    """Say whether this change, or one after it, has been taken: the flow reads some frames again after a restart.

    Both must say so: numbers begin anew in a new data directory, and a clock may be set back.
    """
    return before.partition == partition and sequence <= before.sequence and receive_time_us <= before.changed_us


def _read(path: Path) -> list[Alert]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).alerts
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("firing_alerts_not_read", path=str(path), error=str(error), remedy="none needed: it is written anew")
        return []


def _write(path: Path, alerts: list[Alert]) -> None:
    """Replace the file as a whole."""
    made = path.with_suffix(".tmp")
    made.write_bytes(msgspec.json.encode(_File(1, alerts)))
    made.replace(path)


def _family(metric: m.Metric, samples: dict[Any, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
