"""One process's time as a shard: it takes its place, begins with what others have left, and leaves its own.

For an undivided process that always was one nothing of this costs anything: there is no ledger, and it makes none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from connectors.sinks.shard_ledger import ShardLedger
from connectors.sources.chain.addresses import exchange_addresses
from connectors.sources.journal import Journal
from flows.cascade import Share, asset_machines, market_machines
from flows.handover import SOURCE_STEP, Chains, has_begun, inheritance, legacy, position, recovered
from flows.settings import Settings
from flows.shard_rules import ShardsError, name_of
from flows.shards import PARTITION, Place, adopt, finish, home_of, settle, shard_of_recording
from operators.inheritance import Inheritance

_log = structlog.get_logger(__name__)


class Tenancy:
    """The place of one process. Settled once, before its dataflow is built."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; nothing is touched yet."""
        self._parameters = settings.parameters
        self._ledger = ShardLedger(settings.tables_uri, settings.storage_options())
        self._chains = Chains.of(
            market_machines(settings.parameters, exchange_addresses()), asset_machines(settings.parameters)
        )
        self._inherited: Inheritance | None = None
        self.shard = settings.own_shard
        self.home: Path = home_of(settings.data_dir, self.shard)
        self.place = Place(self.shard, self.home, PARTITION)

    @property
    def share(self) -> Share:
        """What the dataflow has of the market."""
        return Share(self.place.shard, self.place.is_receiver, self._inherited)

    def settle(
        self, *, recording: str | None = None, was_undivided: Callable[[], bool] = lambda: False, may_begin: bool = True
    ) -> Place:
        """Take the place.

        Args:
            recording: Name of the journal that is replayed; None for a run that receives.
            was_undivided: Says whether an undivided process has written these tables.
            may_begin: Whether a new generation may be begun.

        Raises:
            ShardsError: It cannot be taken now.
            DeltaTablesError: The ledger cannot be reached.
            JournalError: The journal cannot be made.
        """
        recorded_by = None if recording is None else shard_of_recording(recording)
        if recording is not None and recorded_by is not None:
            if not self.shard.is_whole and recorded_by != self.shard:
                raise ShardsError(
                    f"this journal was recorded by {name_of(recorded_by)}, and is replayed as such: unset CASCADEWATCH_SHARD"
                )
            self.place = Place(recorded_by, self.home, recording)
            return self.place
        self.place = settle(
            self._ledger, self.shard, self.home, recording=recording, was_undivided=was_undivided, may_begin=may_begin
        )
        self._inherited = self._inherit()
        if self.place.tenure is not None:
            tenure = self.place.tenure
            _log.info("shard", shard=str(self.shard), generation=tenure.generation, partition=tenure.partition)
        return self.place

    def adopt(self) -> Place:
        """Enter an undivided process that has stopped into the ledger.

        Raises:
            ShardsError: None has run here.
            DeltaTablesError: The ledger cannot be written.
        """
        partition = next(iter(recovered(self.place.recovery).get(SOURCE_STEP, {})), self.place.partition)
        if not self.place.recovery.is_dir() and not self.place.journal.is_file():
            raise ShardsError(f"nothing has run with the data directory {self.home}: there is nothing to drain")
        self.place = adopt(self._ledger, self.home, partition)
        return self.place

    def hand_over(self) -> None:
        """Leave the states to whoever comes next. The dataflow has ended in order, and all its rows are in the tables.

        Raises:
            ShardsError: There are frames that it has not emitted, or the place is no longer this process's.
            DeltaTablesError: The ledger cannot be written.
        """
        tenure = self.place.tenure
        if tenure is None:
            return
        states = recovered(self.place.recovery)
        next_sequence = position(states, self.place.partition) or tenure.next_sequence
        if self.place.journal.is_file():
            journal = Journal(self.place.journal)
            end = journal.next_sequence
            journal.close()
            if next_sequence < end:
                raise ShardsError(f"the frames from {next_sequence} on of {self.place.journal} are in no table yet")
        left = legacy(states, self.place.partition, self._inherited, self._chains)
        finish(self._ledger, tenure, next_sequence=next_sequence, states=left)
        _log.info("handed_over", shard=str(self.shard), generation=tenure.generation, size_bytes=len(left))

    def _inherit(self) -> Inheritance | None:
        predecessors = self.place.predecessors
        if not predecessors or has_begun(self.place.recovery):
            return None
        legacies = self._ledger.states(predecessors[0].generation)
        in_order = (legacies[index] for index in sorted(legacies))
        return inheritance(in_order, self.shard, self._chains, self._parameters, partition=self.place.partition)
