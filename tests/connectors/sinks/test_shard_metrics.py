"""A shard's samples carry its number."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sink_events import liquidation

from connectors.sinks.metrics import Metrics
from connectors.sinks.shard_metrics import registry_of
from market.shards import WHOLE, Shard


def samples(shard: Shard):
    metrics = Metrics(registry_of(shard), shards=shard.count)
    metrics.observe_batch([liquidation()])
    metrics.committed("scores", 3, 0.2)
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return [sample for family in families for sample in family.samples]


def test_every_sample_of_a_shard_carries_its_number_and_keeps_its_other_labels() -> None:
    plain, labelled = samples(WHOLE), samples(Shard(1, 3))

    assert {sample.labels["shard"] for sample in labelled} == {"1"}
    assert {(sample.name, *sorted(sample.labels.items())) for sample in plain} == {
        (sample.name, *sorted((name, value) for name, value in sample.labels.items() if name != "shard"))
        for sample in labelled
    }


def test_where_the_market_is_not_divided_no_sample_speaks_of_shards_but_their_number() -> None:
    assert all("shard" not in sample.labels for sample in samples(WHOLE))
    assert [sample.value for sample in samples(WHOLE) if sample.name == "cascadewatch_shards"] == [1.0]
    assert [sample.value for sample in samples(Shard(1, 3)) if sample.name == "cascadewatch_shards"] == [3.0]
