"""Which metrics, labels and label values rules, dashboards and runbooks name, to be compared with a page of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

_SELECTOR = re.compile(r"(?<![\w:])(cascadewatch_[a-z0-9_]+)(\{[^}]*\})?")  # a recorded name has a colon somewhere
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\\*[\"']((?:[^\"'\\]|\\(?![\"']))*)\\*[\"']")
_OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
_TARGET_LABELS = frozenset({"job", "instance", "shard"})


class Named(NamedTuple):
    """A metric that somebody asks for, with the labels of the selector."""

    metric: str
    labels: tuple[tuple[str, str, str], ...]


def named_in(text: str) -> Iterator[Named]:
    """Yield every selector of a metric of the program in a text; names of recorded series are none."""
    for found in _SELECTOR.finditer(text):
        if found.end(1) < len(text) and text[found.end(1)] == ":":
            continue
        yield Named(found[1], tuple(match for match in _MATCHER.findall(found[2] or "")))


def named_in_files(paths: Iterable[Path]) -> set[Named]:
    """Return those of several files."""
    return {named for path in paths for named in named_in(path.read_text(encoding="utf-8"))}


def unknown_in(page: str, named: Iterable[Named]) -> list[str]:
    """Say what is named and is not on the page of a running process: a metric, a label of it, a value that is always there.

    Values are compared where a selector wants one exactly and the metric has samples; assets and the like are examples.
    """
    samples: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(page):
        base = f"{family.name}_total" if family.type == "counter" else family.name
        samples.setdefault(base, [])
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
            samples[base].append(sample.labels)
    unknown = []
    for metric, labels in sorted(set(named)):
        known = samples.get(metric)
        if known is None:
            base = next((metric.removesuffix(end) for end in _OF_HISTOGRAMS if metric.endswith(end)), metric)
            known = samples.get(base)
        if known is None:
            unknown.append(f"{metric}: there is no such metric")
            continue
        for label, operator, value in labels:
            values = {each[label] for each in known if label in each}
            if known and not values and label not in _TARGET_LABELS:
                unknown.append(f"{metric}: no label {label}")
            is_fixed = label not in _TARGET_LABELS | {"asset", "venue"}
            if known and operator == "=" and is_fixed and value not in values and "$" not in value and "%" not in value:
                unknown.append(f"{metric}: no {label}={value!r}; there are {sorted(values)}")
    return unknown
