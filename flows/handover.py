"""What a shard leaves to the next ones: the keyed states of its dataflow, out of Bytewax's store and into the ledger.

Read from the store after the dataflow has ended in order: then the newest snapshot of every key is its state. Whoever carries
on reads the states of all shards before it, merges what they knew of the market, and takes the assets that are its own.

States are pickles, as Bytewax makes them. They come from the tables' store, which more people can write to than this machine's
disk, so only this program's own types are made from them.
"""

from __future__ import annotations

import io
import pickle
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec

from flows.shard_rules import ShardsError
from market.parameters import Parameters
from market.shards import Shard
from operators.inheritance import Inheritance, States
from operators.machine import MachineFactory
from operators.merging import merged, renamed

FLOW = "cascadewatch"
SOURCE_STEP = "frames"
MARKET_STEP = "market"
ASSETS_STEP = "assets"

_OWN_PACKAGES = ("market.", "operators.")
_NEWEST = (
    "SELECT step_id, state_key, ser_change FROM snaps AS s WHERE snap_epoch ="
    " (SELECT max(snap_epoch) FROM snaps WHERE step_id = s.step_id AND state_key = s.state_key) AND ser_change IS NOT NULL"
)

_DURABLE = "SELECT 1 FROM snaps, commits WHERE step_id = ? AND snap_epoch <= commit_epoch LIMIT 1"

Recovered = Mapping[str, Mapping[str, bytes]]
"""By step and key, the pickled state."""


class _Legacy(msgspec.Struct, frozen=True):
    """What one shard leaves. Machines are named so that another version's states are not taken for this one's."""

    market_machines: list[str]
    asset_machines: list[str]
    market: bytes
    assets: dict[str, bytes]


_LEGACY = msgspec.msgpack.Decoder(_Legacy)


def recovered(folder: Path) -> Recovered:
    """Return the newest state of every step and key. Bytewax must have ended in order: else some of them were never durable.

    Raises:
        ShardsError: The store cannot be read.
    """
    states: dict[str, dict[str, bytes]] = {}
    for file in sorted(folder.glob("part-*.sqlite3")):
        for step_id, key, state in _ask(file, _NEWEST):
            states.setdefault(step_id.removeprefix(f"{FLOW}."), {})[key] = state
    return states


def has_begun(folder: Path) -> bool:
    """Say whether the market's state is durable in this store; a process may have been killed in the middle of that.

    Raises:
        ShardsError: The store cannot be read.
    """
    return any(_ask(file, _DURABLE, (f"{FLOW}.{MARKET_STEP}",)) for file in folder.glob("part-*.sqlite3"))


def position(states: Recovered, partition: str) -> int | None:
    """Return the number of the next frame that the dataflow would have emitted; None when it has emitted none."""
    state = states.get(SOURCE_STEP, {}).get(partition)
    return None if state is None else int(cast("int", _unpickled(state)))


def legacy(states: Recovered, partition: str, inherited: Inheritance | None, chains: Chains) -> bytes:
    """Return what is to be left; empty when there is nothing.

    Args:
        states: Of the dataflow that has ended.
        partition: Its feed partition.
        inherited: What it would have begun with. Where it has not come so far, that is left instead.
        chains: Machines of both steps.
    """
    market = states.get(MARKET_STEP, {}).get(partition)
    if market is not None:
        left = _Legacy(chains.market_machines, chains.asset_machines, market, dict(states.get(ASSETS_STEP, {})))
    elif inherited is not None:
        assets = {asset: pickle.dumps(of) for asset, of in inherited.assets.items()}
        left = _Legacy(chains.market_machines, chains.asset_machines, pickle.dumps(inherited.market), assets)
    else:
        return b""
    return msgspec.msgpack.encode(left)


def inheritance(
    legacies: Iterable[bytes], shard: Shard, chains: Chains, parameters: Parameters, *, partition: str
) -> Inheritance | None:
    """Return what a shard begins with; None when nobody has left anything.

    Args:
        legacies: Of all shards before, in their order.
        shard: Who begins.
        partition: Its feed partition.
        chains: Machines of both steps.
        parameters: For the bounds of merged states.

    Raises:
        ShardsError: They cannot be understood, or are of another version.
    """
    left = [_decoded(each, chains) for each in legacies]
    if not left:
        return None
    market = merged(chains.market_machines, [cast("States", _unpickled(each.market)) for each in left], parameters)
    machines = chains.asset_machines
    assets = {
        asset: renamed(machines, cast("States", _unpickled(state)), parameters, partition=partition)
        for each in left
        for asset, state in each.assets.items()
        if shard.owns(asset)
    }
    return Inheritance(market, assets)


class Chains(msgspec.Struct, frozen=True):
    """Class names of the machines of both steps, in order."""

    market_machines: list[str]
    asset_machines: list[str]

    @classmethod
    def of(cls, market: Sequence[MachineFactory], assets: Sequence[MachineFactory]) -> Chains:
        """Name the machines that these make."""
        return cls([_name(each) for each in market], [_name(each) for each in assets])


def _ask(file: Path, question: str, values: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            return opened.execute(question, values).fetchall()
    except sqlite3.DatabaseError as error:
        raise ShardsError(f"cannot read the recovery store {file}: {error}; restore it") from error


def _name(factory: Any) -> str:
    return str(factory.func.__name__)


def _decoded(states: bytes, chains: Chains) -> _Legacy:
    try:
        left = _LEGACY.decode(states)
    except msgspec.MsgspecError as error:
        raise ShardsError(f"what a shard has left cannot be understood: {error}") from error
    if (left.market_machines, left.asset_machines) != (chains.market_machines, chains.asset_machines):
        raise ShardsError(
            "the shards before were of another version of the program, whose states are others. Change the number of shards "
            "with the version that they ran, and the version afterwards"
        )
    return left


class _OwnTypesOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if module.startswith(_OWN_PACKAGES) else None
        if not isinstance(found, type) or not found.__module__.startswith(_OWN_PACKAGES):
            raise ShardsError(f"what a shard has left holds {module}.{name}, which no state of this program does")
        return found


def _unpickled(state: bytes) -> object:
    return _OwnTypesOnly(io.BytesIO(state)).load()
