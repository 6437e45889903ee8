"""Metrics derived from events: plain sums and newest values, turned into samples when somebody asks for the page.

Counting is on the flow's path, so it is integer arithmetic on plain dicts, without locks; making samples is on the server's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from connectors.sinks import metric_list as m
from connectors.sinks.feed_metrics import FEED_METRICS
from connectors.sinks.score_metrics import MINER_METRICS, PRESSURE_METRICS, SCORE_METRICS, Samples
from market.events import AssetMiners, AssetPressure, Gap, Liquidation, MinerDay, Pressure
from market.feeds import LiquidationFeeds, channel_of, venue_of
from market.raw import DeadLetter, FeedState, FeedStatus, PositionSide
from market.readings import AlertChange, CascadeTransition, Score

_MICROS = 1_000_000


class EventMetrics(Collector):
    """Follow the events of one flow."""

    def __init__(self, max_assets: int) -> None:
        """Know nothing; remember the newest score of at most so many assets, the longest quiet ones going first."""
        self._max_assets = max_assets
        self._longs: dict[str, list[int]] = {}  # by venue: count, micro-USD
        self._shorts: dict[str, list[int]] = {}
        self._heard_us: dict[str, int] = {}  # by venue: receive time of the newest liquidation
        self._lag_us: dict[str, int] = {}  # by venue: of the same, from the venue's time to the receipt
        self._counts: dict[m.Metric, defaultdict[tuple[str, ...], float]] = {metric: defaultdict(float) for metric in _COUNTED}
        self._scores: dict[str, Score] = {}
        self._pressure: Pressure | None = None
        self._miners: MinerDay | None = None
        self._up: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._failing: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._feeds: dict[str, LiquidationFeeds] = {}  # by feed partition
        self._handlers: dict[type, Callable[[Any], None]] = {
            Score: self._score,
            Pressure: self._newest_pressure,
            AssetPressure: lambda event: self._newest_pressure(event.pressure),
            MinerDay: self._newest_miners,
            AssetMiners: lambda event: self._newest_miners(event.miners),
            CascadeTransition: self._cascade_step,
            AlertChange: self._alert_change,
            DeadLetter: self._dead_letter,
            Gap: self._gap,
            FeedStatus: self._feed_status,
            LiquidationFeeds: self._newest_feeds,
        }

    def observe_batch(self, events: Iterable[Any]) -> None:
        """Take events in the order they come; those of no interest are passed over."""
        longs, shorts, heard_us, long = self._longs, self._shorts, self._heard_us, PositionSide.LONG
        lag_us = self._lag_us
        handler_of = self._handlers.get
        for event in events:
            kind = type(event)
            if kind is Liquidation:
                by_venue = longs if event.position_side is long else shorts
                totals = by_venue.get(event.venue)
                if totals is None:
                    totals = by_venue[event.venue] = [0, 0]
                totals[0] += 1
                totals[1] += event.notional_micros
                receive_time_us = event.cause.receive_time_us
                heard_us[event.venue] = receive_time_us
                lag_us[event.venue] = receive_time_us - event.event_time_us
            else:
                handler = handler_of(kind)
                if handler is not None:
                    handler(event)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Make the samples. Another thread's: every dict is copied in one step before it is walked."""
        liquidations = [
            ((venue, side), count, micros)
            for side, by_venue in (("LONG", self._longs), ("SHORT", self._shorts))
            for venue, (count, micros) in list(by_venue.items())
        ]
        yield _family(m.LIQUIDATIONS, ((labels, count) for labels, count, _micros in liquidations))
        yield _family(m.LIQUIDATED_USD, ((labels, micros / _MICROS) for labels, _count, micros in liquidations))
        heard = list(self._heard_us.items())
        yield _family(m.LIQUIDATION_TIMESTAMP, (((venue,), at_us / _MICROS) for venue, at_us in heard))
        lags = list(self._lag_us.items())
        yield _family(m.EVENT_LAG, (((venue,), lag_us / _MICROS) for venue, lag_us in lags))
        for metric, counts in self._counts.items():
            yield _family(metric, list(counts.items()))
        yield _family(m.CONNECTIONS, [(labels, len(up)) for labels, up in list(self._up.items())])
        yield _family(m.POLLS_FAILING, [(labels, len(failing)) for labels, failing in list(self._failing.items())])
        all_feeds = list(self._feeds.values())
        for metric, of_feeds in FEED_METRICS:
            yield _family(metric, (sample for feeds in all_feeds for sample in of_feeds(feeds)))
        scores = list(self._scores.values())
        for metric, of_score in SCORE_METRICS:
            yield _family(metric, (sample for score in scores for sample in of_score(score)))
        for metric, of_pressure in PRESSURE_METRICS:
            yield _family(metric, of_pressure(self._pressure) if self._pressure else ())
        for metric, of_miners in MINER_METRICS:
            yield _family(metric, of_miners(self._miners) if self._miners else ())

    def describe(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Return nothing: the names are known to be unique, and collecting to find them out would be waste."""
        return ()

    def _score(self, score: Score) -> None:
        scores = self._scores
        scores.pop(score.asset, None)  # so that the newest is last
        scores[score.asset] = score
        if len(scores) > self._max_assets:
            del scores[next(iter(scores))]
        if score.pressure is not None:
            self._newest_pressure(score.pressure)
        if score.miners is not None:
            self._newest_miners(score.miners)

    def _newest_pressure(self, pressure: Pressure) -> None:
        if self._pressure is None or pressure.cause.receive_time_us >= self._pressure.cause.receive_time_us:
            self._pressure = pressure

    def _newest_miners(self, miners: MinerDay) -> None:
        if self._miners is None or (miners.day, miners.cause.receive_time_us) >= (
            self._miners.day,
            self._miners.cause.receive_time_us,
        ):
            self._miners = miners

    def _cascade_step(self, step: CascadeTransition) -> None:
        self._counts[m.CASCADE_STEPS][step.asset, step.position_side.value, step.phase.value] += 1

    def _alert_change(self, change: AlertChange) -> None:
        self._counts[m.ALERT_CHANGES][change.severity.value, change.state.value] += 1

    def _dead_letter(self, letter: DeadLetter) -> None:
        self._counts[m.DEAD_LETTERS][letter.venue, letter.error] += 1

    def _gap(self, gap: Gap) -> None:
        self._counts[m.GAPS][gap.venue,] += 1
        self._counts[m.GAP_SECONDS][gap.venue,] += max(0, gap.to_time_us - gap.from_time_us) / _MICROS

    def _newest_feeds(self, feeds: LiquidationFeeds) -> None:
        self._feeds[feeds.cause.feed_partition] = feeds

    def _feed_status(self, status: FeedStatus) -> None:
        labels = venue, channel = feed_labels(status.feed)
        self._counts[m.FEED_CHANGES][venue, channel, status.state.value] += 1
        if status.state in {FeedState.POLL_FAILED, FeedState.POLL_ANSWERED}:
            change, members = status.state is FeedState.POLL_FAILED, self._failing[labels]
        else:
            change, members = status.state is FeedState.CONNECTED, self._up[labels]
        member = f"{status.feed} {status.connection}"
        if change:
            members.add(member)
        else:
            members.discard(member)


_COUNTED = (m.CASCADE_STEPS, m.ALERT_CHANGES, m.DEAD_LETTERS, m.GAPS, m.GAP_SECONDS, m.FEED_CHANGES)


def feed_labels(feed: str) -> tuple[str, str]:
    """Return venue and channel of a feed; its subject, a symbol say, is left out."""
    return venue_of(feed), channel_of(feed)


def _family(metric: m.Metric, samples: Samples) -> CounterMetricFamily | GaugeMetricFamily:
    """Put samples together; those without a value are left out."""
    kind = CounterMetricFamily if metric.kind is m.MetricKind.COUNTER else GaugeMetricFamily
    family = kind(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    return family
