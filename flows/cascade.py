"""The dataflow, from frames to rows and metrics, as a table of contents.

One chain, two keys: the feed partition, then the asset. Each step takes the stream of everything, adds what it derives and
passes on what it does not own, so that every asset meets its events in sequence order (see docs/adr).
"""

from __future__ import annotations

import atexit
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from connectors.sinks.tables import TABLE_OF
from connectors.sources.frame import Frame
from connectors.sources.parse import parse_batch
from market.exchanges import AddressBook
from market.parameters import Parameters
from market.raw import Tick
from operators.alerts import Alerts
from operators.deltas import Deltas
from operators.duplicates import Duplicates
from operators.feed_watch import FeedWatch
from operators.heartbeats import Heartbeats
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

_ROWS = "rows"


def build(
    source: Source[Frame], *, tables: Sink[Any], metrics: Sink[Any], parameters: Parameters, addresses: AddressBook
) -> Dataflow:
    """Return the dataflow. Live, replay and backtest differ in ``source`` and sinks only."""
    flow = Dataflow("cascadewatch")
    frames = op.input("frames", flow, source)
    raw_events = op.flat_map_batch("parse", frames, parse_batch)
    events = op.stateful_batch("market", raw_events, chain_builder(market_machines(parameters, addresses)))
    by_asset = op.flat_map_batch("by_asset", events, key_by_asset)
    readings = op.stateful_batch("assets", by_asset, chain_builder(asset_machines(parameters)))
    op.output("metrics", readings, metrics)
    rows = op.flat_map_batch("rows", readings, keep_rows)
    op.output("tables", rows, tables)
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
    from flows.runtime import Runtime, stopped_by_signals  # noqa: PLC0415 - the runtime is built around this module
    from flows.settings import load_settings  # noqa: PLC0415 - the same

    around = ExitStack()
    atexit.register(around.close)
    runtime = around.enter_context(Runtime(load_settings()))
    tables = runtime.tables_sink()
    around.callback(runtime.drain, tables)
    around.enter_context(stopped_by_signals(runtime, tables))
    return runtime.flow(runtime.live_source(tables), tables)


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


def key_by_asset(bunches: list[tuple[str, Bunch]]) -> list[tuple[str, Bunch]]:
    """Bunch events anew by their asset. Ticks end here: each asset that needs one has got its own."""
    by_asset: defaultdict[str, Bunch] = defaultdict(list)
    for _partition, bunch in bunches:
        for event in bunch:
            if type(event) is not Tick:
                by_asset[getattr(event, "asset", MARKET_WIDE)].append(event)
    return list(by_asset.items())


def keep_rows(bunches: list[tuple[str, Bunch]]) -> list[tuple[str, Bunch]]:
    """Keep what is a row of some table."""
    rows = [event for _asset, bunch in bunches for event in bunch if type(event) in TABLE_OF]
    return [(_ROWS, rows)] if rows else []
