"""From the receipt of a frame to its signal: how long the process's own frames took to reach the last step.

Counting is on the flow's path, so it is a bisection and an addition; samples are made when somebody asks for the page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from connectors.sinks import metric_list as m
from market.events import Liquidation
from market.readings import Score

BOUNDS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets; the goals are 5 ms for 99 % of liquidations and 5 s for 99.5 % of scores."""

_BOUNDS_US = tuple(round(seconds * 1_000_000) for seconds in BOUNDS_SECONDS)
_SIGNALS: dict[type, str] = {Liquidation: "liquidation", Score: "score"}


class DelayMetrics(Collector):
    """Delays of liquidations and scores. Frames received before :meth:`begin` are not this process's to answer for."""

    def __init__(self) -> None:
        """Count nothing before the first frame was received."""
        self._since_us: int | None = None
        self._counts: dict[type, list[int]] = {kind: [0] * (len(_BOUNDS_US) + 1) for kind in _SIGNALS}
        self._sums_us: dict[type, int] = dict.fromkeys(_SIGNALS, 0)

    def begin(self, now_us: int) -> None:
        """Count frames received from now on; only the first call counts. A replay receives none."""
        if self._since_us is None:
            self._since_us = now_us

    def observe_batch(self, events: Iterable[Any], now_us: int) -> None:
        """Take events that have reached the last step now."""
        since_us = self._since_us
        if since_us is None:
            return
        counts_of, sums_us = self._counts, self._sums_us
        for event in events:
            kind = type(event)
            if kind in counts_of and event.cause.receive_time_us >= since_us:
                delay_us = now_us - event.cause.receive_time_us
                counts_of[kind][bisect_left(_BOUNDS_US, delay_us)] += 1
                sums_us[kind] += delay_us

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the histogram."""
        metric = m.SIGNAL_SECONDS
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for kind, signal in _SIGNALS.items():
            buckets = zip([*map(str, BOUNDS_SECONDS), "+Inf"], accumulate(self._counts[kind]), strict=True)
            family.add_metric([signal], list(buckets), self._sums_us[kind] / 1e6)
        yield family
