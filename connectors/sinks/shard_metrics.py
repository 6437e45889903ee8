"""The label ``shard`` on every sample of a process that has only a share of the assets.

So the samples of several shards add up in PromQL, and what each of them says of the whole market can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from market.shards import Shard

SHARD_LABEL = "shard"
"""Its value is the shard's number, from 0."""


class ShardRegistry(CollectorRegistry):
    """A registry that adds a label to every sample."""

    def __init__(self, shard: Shard) -> None:
        """Register nothing yet."""
        super().__init__()
        self._labels = {SHARD_LABEL: str(shard.index)}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, with the label."""
        for metric in super().collect():
            labelled = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            labelled.samples = [each._replace(labels={**each.labels, **self._labels}) for each in metric.samples]
            yield labelled


def registry_of(shard: Shard) -> CollectorRegistry:
    """Return the registry for a process's metrics: a plain one where the market is not divided."""
    return CollectorRegistry() if shard.is_whole else ShardRegistry(shard)
