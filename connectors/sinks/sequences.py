"""What makes the sink exact: which frames' rows a batch of rows holds, and which of them are there already.

All rows of one frame fall in one epoch and so in one spool file, and frames come in order. So of a table and a feed partition
everything at or below the highest sequence number seen is there, and nothing above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Highs = Mapping[str, int]
"""The highest sequence number per feed partition."""

NOTHING = 0
"""Sequence numbers begin at 1: what has this has nothing."""


def partitions_of(rows: pa.Table) -> list[str]:
    """Return the feed partitions that rows come from: nearly always one."""
    partitions: list[str] = pc.unique(rows["feed_partition"]).to_pylist()
    return partitions


def highs_of(rows: pa.Table) -> dict[str, int]:
    """Return the highest sequence number of every feed partition in the rows."""
    partitions = partitions_of(rows)
    if len(partitions) == 1:
        return {partitions[0]: pc.max(rows["sequence"]).as_py()}
    return {
        partition: pc.max(rows["sequence"].filter(pc.equal(rows["feed_partition"], pa.scalar(partition)))).as_py()
        for partition in partitions
    }


def merged(highs: Sequence[Highs]) -> dict[str, int]:
    """Return the highest of all, per feed partition."""
    highest: dict[str, int] = {}
    for each in highs:
        for partition, sequence in each.items():
            highest[partition] = max(sequence, highest.get(partition, NOTHING))
    return highest


def rows_after(rows: pa.Table, reached: Callable[[str], int]) -> pa.Table:
    """Return the rows above what ``reached`` gives for their feed partition; the same table when all of them are."""
    sequences = rows["sequence"].to_numpy()
    partitions = partitions_of(rows)
    if len(partitions) == 1:
        is_new = sequences > reached(partitions[0])
    else:
        names = rows["feed_partition"].to_numpy()
        is_new = np.ones(rows.num_rows, np.bool_)
        for partition in partitions:
            is_new &= (names != partition) | (sequences > reached(partition))
    return rows if is_new.all() else rows.filter(pa.array(is_new, pa.bool_()))
