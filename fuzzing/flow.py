"""The whole flow but Bytewax, journal and disk: it must take any sequence of frames, and of events, and raise nothing.

That is every machine behind the parsers, saved and rebuilt now and then, its rows and its metrics page.
"""

from __future__ import annotations

import math
import pickle
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import generate_latest

from connectors.sinks.metrics import Metrics
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import TABLE_OF
from connectors.sources.chain.addresses import exchange_addresses
from flows.cascade import asset_machines, market_machines
from fuzzing.target import NonsenseError
from market.parameters import Parameters
from market.raw import Tick
from operators.machine import MachineChain

_ADDRESSES = exchange_addresses()


class FlowInProcess:
    """One partition's machines and every asset's."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        """Start with nothing known."""
        parameters = parameters or Parameters()
        self._market_factories = market_machines(parameters, _ADDRESSES)
        self._asset_factories = asset_machines(parameters)
        self._market = MachineChain(self._market_factories, None)
        self._assets: dict[str, MachineChain] = {}
        self._metrics = Metrics()
        self.rows: defaultdict[str, int] = defaultdict(int)

    def feed(self, events: Sequence[Any]) -> None:
        """Run events through everything.

        Raises:
            NonsenseError: A row holds a number that is none.
        """
        bunches, _is_idle = self._market.on_batch([list(events)])
        by_asset: defaultdict[str, list[Any]] = defaultdict(list)
        for event in (event for bunch in bunches for event in bunch):
            if not isinstance(event, Tick):  # those of the assets have been made by now
                by_asset[getattr(event, "asset", "")].append(event)
        readings: list[Any] = []
        for asset, bunch in by_asset.items():
            chain = self._assets.get(asset)
            if chain is None:
                chain = self._assets[asset] = MachineChain(self._asset_factories, None)
            outs, is_idle = chain.on_batch([bunch])
            readings += [event for out in outs for event in out]
            if is_idle:
                del self._assets[asset]
        self._write(readings)

    def restart(self) -> None:
        """Save every machine and build it anew from what was saved."""
        self._market = MachineChain(self._market_factories, _saved(self._market))
        self._assets = {name: MachineChain(self._asset_factories, _saved(chain)) for name, chain in self._assets.items()}

    def page(self) -> bytes:
        """Return the metrics page."""
        return generate_latest(self._metrics.registry)

    def _write(self, readings: list[Any]) -> None:
        self._metrics.observe_batch(readings)
        by_type: defaultdict[type, list[Any]] = defaultdict(list)
        for event in readings:
            if type(event) in TABLE_OF:
                by_type[type(event)].append(event)
        for event_type, rows in by_type.items():
            table = TABLE_OF[event_type]
            self.rows[table.name] += to_arrow(table, rows).num_rows
            for row in rows:
                _check_finite(table.name, table.read_row(row))


def _saved(chain: MachineChain) -> Any:
    return pickle.loads(pickle.dumps(chain.snapshot()))  # noqa: S301 - our own bytes, as Bytewax stores them


def _check_finite(table: str, row: Iterable[Any]) -> None:
    for value in row:
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            inner = number[1] if isinstance(number, tuple) else number
            if isinstance(inner, float) and not math.isfinite(inner):
                raise NonsenseError(f"{inner} in a row of {table}")
