"""What can be seen of the venues' liquidations, as samples of metrics."""

from __future__ import annotations

from collections.abc import Callable

from connectors.sinks import metric_list as m
from connectors.sinks.score_metrics import Samples
from market.feeds import LIQUIDATIONS_CHANNEL, LiquidationFeeds, Sight

_MICROS = 1_000_000


def _blind(feeds: LiquidationFeeds) -> Samples:
    return [((venue, LIQUIDATIONS_CHANNEL), each.sight is Sight.BLIND) for venue, each in feeds.sights.items()]


def _silent(feeds: LiquidationFeeds) -> Samples:
    """Say nothing where nothing can be told; what was found silent stays so, also without two others to compare it with."""
    return [
        ((venue, LIQUIDATIONS_CHANNEL), each.sight is Sight.SILENT)
        for venue, each in feeds.sights.items()
        if each.sight is Sight.SILENT or venue in feeds.silent_after_us
    ]


def _unseen(feeds: LiquidationFeeds) -> Samples:
    return [
        ((venue, LIQUIDATIONS_CHANNEL), each.since_us / _MICROS)
        for venue, each in feeds.sights.items()
        if each.sight is not Sight.SEEING
    ]


def _silent_after(feeds: LiquidationFeeds) -> Samples:
    return [((venue, LIQUIDATIONS_CHANNEL), after_us / _MICROS) for venue, after_us in feeds.silent_after_us.items()]


FEED_METRICS: tuple[tuple[m.Metric, Callable[[LiquidationFeeds], Samples]], ...] = (
    (m.FEED_BLIND, _blind),
    (m.FEED_SILENT, _silent),
    (m.FEED_UNSEEN_TIMESTAMP, _unseen),
    (m.FEED_SILENT_AFTER, _silent_after),
)
