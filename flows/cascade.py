"""The dataflow, from frames to rows and metrics, as a table of contents.

One chain, two keys: the feed partition, then the asset. Each step takes the stream of everything, adds what it derives and
passes on what it does not own, so that every asset meets its events in sequence order (see docs/adr).
"""

from __future__ import annotations

import atexit
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from connectors.sinks.tables import TABLE_OF
from connectors.sources.frame import Frame
from connectors.sources.parse import parse_batch
from market.events import Gap
from market.exchanges import AddressBook
from market.parameters import Parameters
from market.raw import DeadLetter, Tick
from market.shards import WHOLE, Shard
from operators.alerts import Alerts
from operators.deltas import Deltas
from operators.duplicates import Duplicates
from operators.feed_watch import FeedWatch
from operators.heartbeats import Heartbeats
from operators.inheritance import Inheritance, asset_heir, market_heir
from operators.lifecycle import CascadeLifecycle
from operators.liquidation_windows import LiquidationWindowsMachine
from operators.machine import Bunch, MachineFactory, chain_builder
from operators.miners import Miners
from operators.normalise import Normalise
from operators.scores import Scores
from operators.silence import Silence
from operators.stablecoins import Stablecoins

MARKET_WIDE = "-"
"""Key of events that belong to no asset."""

RECEPTION = frozenset({Gap, DeadLetter})
"""Events of no asset that tell of a connection, not of the market: each shard has its own connections."""

_ROWS = "rows"


@dataclass(frozen=True)
class Share:
    """What of the market a dataflow has (docs/adr/0006).

    Attributes:
        shard: Its assets. Every shard computes what concerns the whole market; the first one writes it.
        is_receiver: Whether what tells of connections is its to write.
        inheritance: What it begins with where it has saved nothing yet.
    """

    shard: Shard = WHOLE
    is_receiver: bool = True
    inheritance: Inheritance | None = None


EVERYTHING = Share()
"""Of a process that has the market to itself."""


def build(
    source: Source[Frame],
    *,
    tables: Sink[Any],
    metrics: Sink[Any],
    parameters: Parameters,
    addresses: AddressBook,
    share: Share = EVERYTHING,
    at_source: Callable[[Iterable[Any]], None] | None = None,
    pulse: Source[Any] | None = None,
) -> Dataflow:
    """Return the dataflow. Live, replay and backtest differ in ``source`` and sinks only, shards in their share.

    Args:
        source: Of frames.
        tables: Takes lists of rows, keyed by any text.
        metrics: Takes every event after the last step, as ``(key, list of events)``.
        parameters: Every number that a score depends on.
        addresses: Of exchanges.
        share: What this dataflow has of the market.
        at_source: Told of what the frames say, in the process that received them: in a cluster another one may go on with it.
        pulse: Has no items; in a cluster it runs in every process.
    """
    market, assets = market_machines(parameters, addresses), asset_machines(parameters)
    left = share.inheritance
    flow = Dataflow("cascadewatch")
    frames = op.input("frames", flow, source)
    raw_events = op.flat_map_batch("parse", frames, parse_batch if at_source is None else _parsed_and_told(at_source))
    events = op.stateful_batch("market", raw_events, chain_builder(market) if left is None else market_heir(market, left))
    by_asset = op.flat_map_batch("by_asset", events, keyed_by_asset(share.shard))
    readings = op.stateful_batch("assets", by_asset, chain_builder(assets) if left is None else asset_heir(assets))
    op.output("metrics", readings, metrics)
    rows = op.flat_map_batch("rows", readings, kept_rows(share))
    op.output("tables", rows, tables)
    if pulse is not None:
        op.output("pulses", op.input("pulse", flow, pulse), metrics)
    return flow


def live() -> Dataflow:
    """Return the dataflow of the settings in the environment, for the tools of Bytewax itself.

    Run it with::

        python -m bytewax.run "flows.cascade:live()" -r data/recovery -s 1 -b 0

    Holds the data directory, serves metrics, stops cleanly on SIGTERM and SIGINT, and commits what is spooled at the end.

    Raises:
        SettingsError: A setting is wrong.
        DataDirectoryError: It is in use or cannot be written.
    """
    from flows.bytewax_start import flow_for_bytewax  # noqa: PLC0415 - it is built around this module

    around = ExitStack()
    atexit.register(around.close)
    return flow_for_bytewax(around)


def _parsed_and_told(observe: Callable[[Iterable[Any]], None]) -> Callable[[list[Frame]], list[tuple[str, Bunch]]]:
    def parse_and_tell(frames: list[Frame]) -> list[tuple[str, Bunch]]:
        bunches = parse_batch(frames)
        for _partition, bunch in bunches:
            observe(bunch)
        return bunches

    return parse_and_tell


def market_machines(parameters: Parameters, addresses: AddressBook) -> Sequence[MachineFactory]:
    """Return the machines keyed by feed partition, in order."""
    return (
        partial(Duplicates, parameters),
        partial(Normalise, parameters),
        partial(Stablecoins, parameters, address_book=addresses),
        partial(Miners, parameters),
        partial(FeedWatch, parameters),
        partial(Silence, parameters),
        partial(Heartbeats, parameters),
    )


def asset_machines(parameters: Parameters) -> Sequence[MachineFactory]:
    """Return the machines keyed by asset, in order."""
    return (
        partial(LiquidationWindowsMachine, parameters),
        partial(Deltas, parameters),
        partial(CascadeLifecycle, parameters),
        partial(Scores, parameters),
        partial(Alerts, parameters),
    )


def keyed_by_asset(shard: Shard) -> Callable[[list[tuple[str, Bunch]]], list[tuple[str, Bunch]]]:
    """Return what bunches events anew by their asset, and drops those of other shards' assets."""
    if shard.is_whole:
        return key_by_asset

    def key_by_own_asset(bunches: list[tuple[str, Bunch]]) -> list[tuple[str, Bunch]]:
        return [(asset, bunch) for asset, bunch in key_by_asset(bunches) if asset == MARKET_WIDE or shard.owns(asset)]

    return key_by_own_asset


def key_by_asset(bunches: list[tuple[str, Bunch]]) -> list[tuple[str, Bunch]]:
    """Bunch events anew by their asset. Ticks end here: each asset that needs one has got its own."""
    by_asset: defaultdict[str, Bunch] = defaultdict(list)
    for _partition, bunch in bunches:
        for event in bunch:
            if type(event) is not Tick:
                by_asset[getattr(event, "asset", MARKET_WIDE)].append(event)
    return list(by_asset.items())


def kept_rows(share: Share) -> Callable[[list[tuple[str, Bunch]]], list[tuple[str, Bunch]]]:
    """Return what keeps the rows of some table that are this share's to write."""
    if share.shard.is_whole:
        return keep_rows
    types = frozenset(event_type for event_type in TABLE_OF if _writes(share, event_type))

    def keep_own_rows(bunches: list[tuple[str, Bunch]]) -> list[tuple[str, Bunch]]:
        rows = [event for _asset, bunch in bunches for event in bunch if type(event) in types]
        return [(_ROWS, rows)] if rows else []

    return keep_own_rows


def keep_rows(bunches: list[tuple[str, Bunch]]) -> list[tuple[str, Bunch]]:
    """Keep what is a row of some table."""
    rows = [event for _asset, bunch in bunches for event in bunch if type(event) in TABLE_OF]
    return [(_ROWS, rows)] if rows else []


def _writes(share: Share, event_type: Any) -> bool:
    if "asset" in event_type.__struct_fields__:
        return True  # those of other assets have not come so far
    return share.is_receiver if event_type in RECEPTION else share.shard.is_first
