"""Writes docs/metrics.md from the list of metrics: ``python -m cascadewatch.describe_metrics > docs/metrics.md``."""

from __future__ import annotations

import sys

from connectors.sinks.metrics import METRICS

_HEAD = """# Metrics

Served at `/metrics` of the address that a run prints (`metrics.host`, `metrics.port`). Base units; labels come from closed
sets. What is not known has no sample: it is never zero. Times are seconds since the epoch; subtract them from `time()`.

This page is generated: `python -m cascadewatch.describe_metrics > docs/metrics.md`.

| metric | kind | meaning | labels |
|---|---|---|---|
"""


def markdown() -> str:
    """Return the page."""
    rows = (
        f"| `{metric.name}` | {metric.kind.value} | {metric.help} | {', '.join(f'`{label}`' for label in metric.labels)} |\n"
        for metric in METRICS
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(markdown())
