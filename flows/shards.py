"""Where a run stands: its share of the assets, its directory, its feed partition, and whose work it carries on.

Independent processes divide the assets among them (``CASCADEWATCH_SHARD=1/3``). Each has a directory of its own below the
data directory, and all that it keeps there belongs together: journal, recovery store, spool. What they have in common are the
tables, and beside them the ledger (:mod:`connectors.sinks.shard_ledger`), by which a start finds out whether it may
(:mod:`flows.shard_rules`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from bytewax.recovery import init_db_dir

from connectors import clock
from connectors.sinks.shard_ledger import Ledger, LedgerConflictError, ShardLedger, ShardStatus, Tenure
from connectors.sources.journal import Journal
from flows.shard_rules import Join, Mark, Resume, ShardsError, check_positions, decide, name_of
from market.shards import WHOLE, Shard, ShardError

PARTITION = "0"
"""Feed partition of a process that has the whole market, and always had."""

MARK_NAME = "shard.json"
_PARTITION_OF_A_SHARD = re.compile(r"([0-9]+)of([0-9]+)g[0-9]+")
_ATTEMPTS = 100  # each lost race means that another shard has won one; there are not so many of them


@dataclass(frozen=True)
class Place:
    """What one run stands on.

    Attributes:
        home: Holds journal, recovery store and spool.
        partition: Feed partition that its rows carry.
        is_receiver: Whether gaps and dead letters are its to write: they came over its own connections, or nobody else does.
        tenure: Its row of the ledger; None where there is no ledger, for an undivided process that always was one.
        predecessors: Whose work it carries on, if it has not begun yet.
    """

    shard: Shard
    home: Path
    partition: str
    is_receiver: bool = True
    tenure: Tenure | None = None
    predecessors: tuple[Tenure, ...] = ()

    @property
    def journal(self) -> Path:
        """Of what it receives itself."""
        return self.home / "journal" / f"{self.partition}.db"

    @property
    def recovery(self) -> Path:
        """Of Bytewax."""
        return self.home / "recovery"


def home_of(data_dir: Path, shard: Shard) -> Path:
    """Return where a shard keeps its own: the data directory itself, where the market is not divided."""
    return data_dir if shard.is_whole else data_dir / f"shard-{shard.index}-of-{shard.count}"


def shard_of_recording(recording: str) -> Shard | None:
    """Return whose journal has this name; None where it is an undivided process's."""
    found = _PARTITION_OF_A_SHARD.fullmatch(recording)
    try:
        return None if found is None else Shard.parse(f"{found[1]}/{found[2]}")
    except ShardError:
        return None


def read_mark(home: Path) -> Mark | None:
    """Return what a directory says of itself; None when it says nothing.

    Raises:
        ShardsError: It cannot be understood.
    """
    path = home / MARK_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ShardsError(f"{path} is damaged ({error}): restore it, or the whole directory") from error


def last_place(data_dir: Path, shard: Shard) -> Place:
    """Return where a shard was when it last ran, and would be if it went on; nothing is asked of the ledger.

    Raises:
        ShardsError: Its directory cannot be understood.
    """
    home = home_of(data_dir, shard)
    mark = read_mark(home)
    return Place(shard, home, PARTITION if mark is None else mark.partition)


def settle(
    ledger: ShardLedger,
    shard: Shard,
    home: Path,
    *,
    recording: str | None,
    was_undivided: Callable[[], bool],
    may_begin: bool = True,
) -> Place:
    """Take a shard's place, and say so in the ledger and in its directory.

    Args:
        ledger: Beside the tables.
        shard: Whose place.
        home: Its directory, held by this process.
        recording: Name of what is replayed; None for a run that receives.
        was_undivided: Says whether an undivided process has written these tables. Asked only where the ledger knows nobody.
        may_begin: Whether a new generation may be begun.

    Raises:
        ShardsError: It may not begin now.
        DeltaTablesError: The ledger cannot be reached.
        JournalError: The journal cannot be made.
    """
    arrival = _Arrival(ledger, shard, home, recording)
    for _attempt in range(_ATTEMPTS):
        known = ledger.read()
        mark = read_mark(home)
        if not known.tenures and shard.is_whole and (mark is None or not mark.is_entered):
            return Place(shard, home, PARTITION if recording is None else recording)
        if not known.tenures and not shard.is_whole and was_undivided():
            raise ShardsError(
                f"{name_of(WHOLE)} has written these tables and has not handed over. Stop it, run `cascadewatch drain` with "
                "its --data and without CASCADEWATCH_SHARD, then start the shards"
            )
        decision = decide(known, shard, mark)
        if not may_begin and isinstance(decision, Join) and not known.of(decision.generation):
            raise ShardsError(f"there is no {name_of(shard)} at present; `cascadewatch shards` says which there are")
        try:
            return arrival.resume(known, decision.tenure) if isinstance(decision, Resume) else arrival.join(known, decision)
        except LedgerConflictError:
            continue
    raise ShardsError(f"other shards have changed {ledger.uri} {_ATTEMPTS} times meanwhile: start again")


def adopt(ledger: ShardLedger, home: Path, partition: str) -> Place:
    """Enter an undivided process, which needed no ledger so far, into a new one, so that it can hand over.

    Raises:
        ShardsError: Somebody else has begun one.
        DeltaTablesError: The ledger cannot be written.
    """
    tenure = _tenure(1, WHOLE, partition, 1)
    _write_mark(home, tenure, is_entered=False)
    try:
        ledger.write(Ledger(()), tenure)
    except LedgerConflictError as error:
        raise ShardsError(f"another process has begun with {ledger.uri} in this moment: find out which") from error
    _write_mark(home, tenure)
    return Place(WHOLE, home, partition, tenure=tenure)


def finish(ledger: ShardLedger, tenure: Tenure, *, next_sequence: int, states: bytes) -> None:
    """Say that all that a shard received is in the tables, and leave its states.

    Raises:
        ShardsError: It is not this shard's any more.
        DeltaTablesError: The ledger cannot be reached.
    """
    finished = msgspec.structs.replace(tenure, status=ShardStatus.DRAINED, next_sequence=next_sequence)
    for _attempt in range(_ATTEMPTS):
        known = ledger.read()
        if not any((each.shard, each.begun_us) == (tenure.shard, tenure.begun_us) for each in known.newest):
            raise ShardsError(f"{name_of(tenure.shard)} was given up while it ran, and others carry on its work")
        try:
            return ledger.write(known, finished, states)
        except LedgerConflictError:
            continue
    raise ShardsError(f"other shards have changed {ledger.uri} {_ATTEMPTS} times meanwhile: run `cascadewatch drain`")


def give_up(ledger: ShardLedger, shard: Shard) -> None:
    """Declare a shard's volume lost: what was in its journal and spool is missing, and its assets begin anew.

    Raises:
        ShardsError: There is no such shard, or it has handed over.
        DeltaTablesError: The ledger cannot be reached.
    """
    known = ledger.read()
    if not known.newest or known.newest[0].shard.count != shard.count:
        raise ShardsError(f"there is no shard {shard} now; `cascadewatch shards` says which there are")
    generation = known.newest[0].generation
    own = next((each for each in known.newest if each.shard == shard), None)
    if own is not None and own.status is ShardStatus.DRAINED:
        raise ShardsError(f"{name_of(shard)} has handed over: nothing of it is lost")
    lost = own or _tenure(generation, shard, _partition_name(shard, generation, None), 1)
    try:
        ledger.write(known, msgspec.structs.replace(lost, status=ShardStatus.GIVEN_UP))
    except LedgerConflictError as error:
        raise ShardsError("another shard has just begun or ended: try again") from error


@dataclass(frozen=True)
class _Arrival:
    """Who comes, and where to."""

    ledger: ShardLedger
    shard: Shard
    home: Path
    recording: str | None

    def resume(self, known: Ledger, tenure: Tenure) -> Place:
        _write_mark(self.home, tenure)
        if tenure.status is ShardStatus.DRAINED:
            tenure = msgspec.structs.replace(tenure, status=ShardStatus.RUNNING)
            self.ledger.write(known, tenure)
        return self._place(tenure, known.before(tenure.generation))

    def join(self, known: Ledger, decision: Join) -> Place:
        if self.recording is not None:
            check_positions(decision.predecessors)
        partition = _partition_name(self.shard, decision.generation, self.recording)
        tenure = _tenure(decision.generation, self.shard, partition, decision.first_sequence)
        place = self._place(tenure, decision.predecessors)
        self._prepare(place, tenure)
        self.ledger.write(known, tenure)
        _write_mark(self.home, tenure)
        if decision.predecessors and decision.predecessors == known.newest:
            self.ledger.forget_before(tenure.generation - 1)
        return place

    def _place(self, tenure: Tenure, predecessors: tuple[Tenure, ...]) -> Place:
        is_receiver = self.recording is None or self.shard.is_first
        return Place(self.shard, self.home, tenure.partition, is_receiver, tenure, predecessors)

    def _prepare(self, place: Place, tenure: Tenure) -> None:
        """Make the directory this shard's, of this generation: what an earlier one kept there has been handed over."""
        _empty_recovery(place.recovery)
        if self.recording is None:
            place.journal.parent.mkdir(exist_ok=True)
            _begin_journal(place.journal, tenure.next_sequence)
        _write_mark(self.home, tenure, is_entered=False)


def _partition_name(shard: Shard, generation: int, recording: str | None) -> str:
    """Return a feed partition that no other shard and no other generation has. A recording's name stays part of it."""
    name = f"{shard.index}of{shard.count}g{generation}"
    return name if recording is None else f"{recording}-{name}"


def _empty_recovery(folder: Path) -> None:
    """Forget all state in a recovery store. It keeps its number of partitions: somebody may have made them just now."""
    count = len(list(folder.glob("part-*.sqlite3")))
    for file in folder.glob("part-*.sqlite3*"):
        file.unlink()
    if count:
        init_db_dir(folder, count)


def _begin_journal(path: Path, first_sequence: int) -> None:
    journal = Journal(path)
    journal.begin_at(first_sequence)
    journal.close()


def _write_mark(home: Path, tenure: Tenure, *, is_entered: bool = True) -> None:
    """Write it whole or not at all."""
    mark = Mark(tenure.generation, str(tenure.shard), tenure.partition, tenure.begun_us, is_entered)
    unfinished = home / f"{MARK_NAME}.tmp"
    with unfinished.open("wb") as file:
        file.write(msgspec.json.encode(mark))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(home / MARK_NAME)


def _tenure(generation: int, shard: Shard, partition: str, next_sequence: int) -> Tenure:
    return Tenure(
        generation=generation,
        shard=shard,
        status=ShardStatus.RUNNING,
        partition=partition,
        next_sequence=next_sequence,
        begun_us=clock.now_us(),
    )
