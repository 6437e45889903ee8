"""Begin where other processes left off: keyed states that were not saved by this dataflow, but handed over to it.

The law: a key that has a saved state goes on from that; one that has none goes on from what it inherits, once.

Bytewax has a place for state that it saved itself, and none for state from elsewhere. So what the assets inherit travels
through the flow once, as items ahead of everything else, from the step keyed by feed partition to the step keyed by asset;
with the end of that epoch it is saved like all state. Should the process die before, it travels again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from bytewax.operators import StatefulBatchLogic

from operators.machine import Bunch, MachineChain, MachineFactory

States = tuple[object, ...]
"""What a chain of machines saves: one state per machine, in order."""


class Inherited(msgspec.Struct, frozen=True):
    """The states with which an asset's machines begin: the first item of its key."""

    asset: str
    states: States


@dataclass(frozen=True)
class Inheritance:
    """All that a dataflow without a saved state begins with.

    Attributes:
        market: Of the machines keyed by feed partition.
        assets: Of the machines keyed by asset; no asset of another shard.
    """

    market: States
    assets: Mapping[str, States] = field(default_factory=dict)


def market_heir(factories: Sequence[MachineFactory], inheritance: Inheritance) -> Callable[[States | None], _Bequest]:
    """Return what ``op.stateful_batch`` wants for the step keyed by feed partition, which must have one key only."""

    def build(saved: States | None) -> _Bequest:
        if saved is not None:
            return _Bequest(MachineChain(factories, saved), [])
        assets = [Inherited(asset, states) for asset, states in sorted(inheritance.assets.items())]
        return _Bequest(MachineChain(factories, inheritance.market), assets)

    return build


def asset_heir(factories: Sequence[MachineFactory]) -> Callable[[States | None], _Heir]:
    """Return what ``op.stateful_batch`` wants for the step keyed by asset."""

    def build(saved: States | None) -> _Heir:
        return _Heir(factories, saved)

    return build


class _Bequest(StatefulBatchLogic[Bunch, Bunch, States]):
    """The partition's machines; what the assets inherit goes before their first output."""

    def __init__(self, chain: MachineChain, assets: list[Any]) -> None:
        self._chain = chain
        self._assets = assets

    def on_batch(self, values: list[Bunch]) -> tuple[list[Bunch], bool]:
        """Run the machines."""
        outputs, is_complete = self._chain.on_batch(values)
        if self._assets:
            outputs, self._assets = [self._assets, *outputs], []
        return outputs, is_complete

    def on_eof(self) -> tuple[list[Bunch], bool]:
        """Say nothing and keep the key."""
        return self._chain.on_eof()

    def snapshot(self) -> States:
        """Return the machines' states."""
        return self._chain.snapshot()


class _Heir(StatefulBatchLogic[Bunch, Bunch, States]):
    """One asset's machines, begun anew when what they inherit comes."""

    def __init__(self, factories: Sequence[MachineFactory], saved: States | None) -> None:
        self._factories = factories
        self._chain = MachineChain(factories, saved)

    def on_batch(self, values: list[Bunch]) -> tuple[list[Bunch], bool]:
        """Run the machines."""
        first = values[0][0]
        if type(first) is Inherited:
            self._chain = MachineChain(self._factories, first.states)
            values = [values[0][1:], *values[1:]]
        return self._chain.on_batch(values)

    def on_eof(self) -> tuple[list[Bunch], bool]:
        """Say nothing and keep the key."""
        return self._chain.on_eof()

    def snapshot(self) -> States:
        """Return the machines' states."""
        return self._chain.snapshot()
