"""When a shard may begin, and as whom: pure rules over what the ledger and its directory say.

The law: an asset is followed by one process at a time, and by the next one only after the last one has put all that it
received into the tables. A start that cannot know this refuses, and says what has to happen first.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from connectors.sinks.shard_ledger import Ledger, ShardStatus, Tenure
from market.shards import Shard


class ShardsError(Exception):
    """This shard cannot begin, or end, now; the message says what has to happen first."""


class Mark(msgspec.Struct, frozen=True):
    """What a directory says of itself: which shard of which generation its journal and state belong to.

    Attributes:
        is_entered: Whether the ledger was seen to say the same; a process may have died before it could.
    """

    generation: int
    shard: str
    partition: str
    begun_us: int
    is_entered: bool = True


@dataclass(frozen=True)
class Resume:
    """Go on where this shard was."""

    tenure: Tenure


@dataclass(frozen=True)
class Join:
    """Begin as a shard of this generation, with what its predecessors have left."""

    generation: int
    predecessors: tuple[Tenure, ...]

    @property
    def first_sequence(self) -> int:
        """The number of its first frame: numbers go on, so that none ever comes twice."""
        return max((each.next_sequence for each in self.predecessors), default=1)


def name_of(shard: Shard) -> str:
    """Return what a person calls it."""
    return "the undivided process" if shard.is_whole else f"shard {shard}"


def decide(ledger: Ledger, shard: Shard, mark: Mark | None) -> Resume | Join:
    """Say how a shard begins.

    Args:
        ledger: As it is now.
        shard: Who wants to begin.
        mark: What its directory says of itself; None when that is new.

    Raises:
        ShardsError: It may not begin now.
    """
    newest = ledger.newest
    if not newest:
        if mark is not None and mark.is_entered:
            raise ShardsError(
                f"this directory has been {name_of(Shard.parse(mark.shard))} of tables that are not here. Restore the tables "
                "that belong to it, or start with a new data directory"
            )
        return Join(1, ())
    generation, count = newest[0].generation, newest[0].shard.count
    own = next((each for each in newest if each.shard == shard), None)
    if own is None and count == shard.count:
        return Join(generation, ledger.before(generation))
    if own is not None and mark is not None and own.status is not ShardStatus.GIVEN_UP and _is_of(mark, own):
        return Resume(own)
    if unfinished := _unfinished(newest, count):
        raise ShardsError(_elsewhere(own) if own is not None else _not_handed_over(shard, unfinished, newest))
    return Join(generation + 1, newest)


def check_positions(predecessors: tuple[Tenure, ...]) -> None:
    """Refuse to carry on a replay whose shards, which all read the same frames, have not stopped at the same one.

    Raises:
        ShardsError: They have not.
    """
    reached = {str(each.shard): each.next_sequence - 1 for each in predecessors if each.status is ShardStatus.DRAINED}
    if len(set(reached.values())) > 1:
        where = ", ".join(f"{shard} at {sequence}" for shard, sequence in reached.items())
        raise ShardsError(
            f"the shards of this replay have stopped at different frames ({where}): run each of them to the same one"
        )


def _is_of(mark: Mark, tenure: Tenure) -> bool:
    return (mark.generation, mark.begun_us) == (tenure.generation, tenure.begun_us)


def _unfinished(newest: tuple[Tenure, ...], count: int) -> list[Shard]:
    finished = {each.shard.index for each in newest if each.is_finished}
    return [Shard(index, count) for index in range(count) if index not in finished]


def _elsewhere(own: Tenure) -> str:
    who = name_of(own.shard)
    if own.status is ShardStatus.GIVEN_UP:
        return (
            f"{who} was given up, and the others of its generation have not finished. Stop them, so that they hand over; then "
            "start all of them"
        )
    return (
        f"{who} has its journal and state in another directory (partition {own.partition}), and the shards have not all "
        "handed over. Start it with the volume that holds them. Should that be lost for good, say so: `cascadewatch shards "
        f"--give-up {own.shard}`; then stop the others and start all of them"
    )


def _not_handed_over(shard: Shard, unfinished: list[Shard], newest: tuple[Tenure, ...]) -> str:
    begun = {each.shard for each in newest}
    which = ", ".join(f"{name_of(each)}{'' if each in begun else ' (never started)'}" for each in unfinished)
    return (
        f"cannot begin as {name_of(shard)}: not handed over yet: {which}. Stop what still runs; for what was killed, or never "
        "started, run `cascadewatch drain` with its CASCADEWATCH_SHARD and --data. Then start again"
    )
