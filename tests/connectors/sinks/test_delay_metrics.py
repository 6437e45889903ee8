from __future__ import annotations

from prometheus_client import CollectorRegistry
from sink_events import NOON_US, liquidation, score

from connectors.sinks.delay_metrics import DelayMetrics

MS = 1_000


def samples(metrics: DelayMetrics) -> dict[tuple[str, str, str], float]:
    registry = CollectorRegistry()
    registry.register(metrics)
    return {
        (sample.labels["signal"], sample.name.rpartition("_")[2], sample.labels.get("le", "")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.value
    }


def test_delays_are_counted_by_signal_and_bucket() -> None:
    metrics = DelayMetrics()
    metrics.begin(NOON_US)

    metrics.observe_batch([liquidation(1, at_us=NOON_US), score(2, at_us=NOON_US)], NOON_US + 5 * MS)
    metrics.observe_batch([liquidation(3, at_us=NOON_US)], NOON_US + 70_000 * MS)

    found = samples(metrics)
    assert found["liquidation", "bucket", "0.005"] == 1
    assert ("liquidation", "bucket", "0.002") not in found
    assert (found["liquidation", "bucket", "60.0"], found["liquidation", "bucket", "+Inf"]) == (1, 2)
    assert (found["liquidation", "count", ""], found["liquidation", "sum", ""]) == (2, 70.005)
    assert (found["score", "count", ""], found["score", "sum", ""]) == (1, 0.005)


def test_frames_of_before_do_not_count_and_a_replay_receives_none() -> None:
    metrics = DelayMetrics()
    events = [liquidation(1, at_us=NOON_US), liquidation(2, at_us=NOON_US + 1)]

    metrics.observe_batch(events, NOON_US + 2)
    assert samples(metrics) == {}

    metrics.begin(NOON_US + 1)
    metrics.begin(NOON_US)
    metrics.observe_batch(events, NOON_US + 2)
    assert samples(metrics)["liquidation", "count", ""] == 1
