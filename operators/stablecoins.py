"""From token logs to exchange flows, supply changes and their pressure, market-wide. Wants sequence order, not block order.

The law: what is published is the sum over the blocks of the last ``lookback_us`` as they are known at the tick, whatever the
order in which their logs came and however often: reorganised, read twice, or filled in later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from market.events import ExchangeKind, Pressure, StablecoinTransfer, TransferKind
from market.exchanges import AddressBook, ExchangeAddress
from market.parameters import Parameters, PressureParameters
from market.pressure import MICROS_PER_USD, stablecoin_pressure
from market.raw import Cause, ChainProgress, RawTokenEvent, Tick, TokenEventKind
from operators.machine import Handler
from operators.stablecoin_logs import NEVER_US, Effect, LogMemory, TokenLog

REMEMBERED_BEYOND_US = 7_200_000_000
"""Logs are remembered two hours longer than the look-back: a restart reads the whole look-back again, and a bit more."""

_IDENTITY_BYTES = 16  # of a digest: two logs never share one by chance, and a third of the text is stored

_EFFECTS = {
    (TransferKind.INFLOW, ExchangeKind.SPOT): Effect.INFLOW_SPOT,
    (TransferKind.INFLOW, ExchangeKind.DERIVATIVES): Effect.INFLOW_DERIVATIVES,
    (TransferKind.OUTFLOW, ExchangeKind.SPOT): Effect.OUTFLOW_SPOT,
    (TransferKind.OUTFLOW, ExchangeKind.DERIVATIVES): Effect.OUTFLOW_DERIVATIVES,
    (TransferKind.MINT, None): Effect.MINT,
    (TransferKind.BURN, None): Effect.BURN,
}


class _Coverage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Blocks of one chain read without a hole, both ends included, with their times."""

    from_block: int
    to_block: int
    from_us: int
    to_us: int


class _Head(msgspec.Struct, array_like=True):
    """The small part of the state. ``coverage`` has one entry per configured chain."""

    now_us: int = 0
    forgotten_until_us: int = 0
    coverage: dict[str, _Coverage] = msgspec.field(default_factory=dict)
    published: Pressure | None = None


_HEAD = msgspec.msgpack.Decoder(_Head)


class Stablecoins:
    """Classify token logs, drop repeats, sum what counts, publish the pressure.

    A log is known by (transaction hash, log index) for the look-back and two hours more, by block time. Its repeat is consumed
    silently; the same identity in another block replaces the older; ``is_removed`` takes back what the same block brought.
    A log too old to be remembered is passed on as a row and adds to nothing.

    Bounds: ``max_transfers`` logs that count, beyond which the oldest blocks are forgotten early and pressure is not known
    until the look-back has left them behind; as many that do not count, beyond which the oldest are forgotten (their repeats
    would be rows again). ``minimum_usd`` is applied to what is remembered, so that a changed one takes effect on resume.
    """

    def __init__(self, parameters: Parameters, state: object | None = None, *, address_book: AddressBook) -> None:
        """Build from a snapshot, or new."""
        self._parameters = parameters.pressure
        self._address_book = address_book
        self._head = _Head()
        self._logs = LogMemory(self._parameters)
        if state is not None:
            head, blocks = cast("tuple[bytes, tuple[bytes, ...]]", state)
            self._head = _HEAD.decode(head)
            self._logs.restore(blocks)
        self._is_changed = True
        self._next_look_us = 0

    def handlers(self) -> Mapping[type, Handler]:
        """Own the chain's events, and ticks."""
        return {RawTokenEvent: self.on_token_event, ChainProgress: self.on_progress, Tick: self.on_tick}

    def on_token_event(self, event: RawTokenEvent) -> Iterable[object]:
        """Return the transfer in place of the log: nothing when it concerns no exchange, or was heard before."""
        transfer = self._transfer(event)
        if transfer is None:
            return ()
        effect = _EFFECTS.get((transfer.kind, transfer.exchange_kind), Effect.INTERNAL)
        log = TokenLog(event.block_number, Effect.REMOVED if event.is_removed else effect, event.amount_micros)
        if event.block_time_us <= self._head.forgotten_until_us:
            return (transfer,)
        if not self._logs.learn(_identity(event), event.block_time_us, log):
            return ()
        self._keep_bounds()
        self._is_changed = True
        return (transfer,)

    def on_progress(self, progress: ChainProgress) -> Iterable[object]:
        """Extend what has been read. A hole after it begins the coverage anew; blocks apart before it add nothing."""
        coverage = self._head.coverage
        coverage[progress.chain] = _extended(coverage.get(progress.chain), progress)
        self._is_changed = True
        return ()

    def on_tick(self, tick: Tick) -> Iterable[object]:
        """Forget what is too old; after the tick, publish the pressure if any of its values changed."""
        head = self._head
        head.now_us = now_us = max(head.now_us, tick.cause.receive_time_us)
        self._forget_until(now_us - self._parameters.lookback_us - REMEMBERED_BEYOND_US)
        if not head.coverage or (now_us < self._next_look_us and not self._is_changed):
            return (tick,)
        self._is_changed = False
        reading = self._reading(tick.cause)
        if head.published is not None and msgspec.structs.replace(reading, cause=head.published.cause) == head.published:
            return (tick,)
        head.published = reading
        return (tick, reading)

    def snapshot(self) -> object:
        """Return the state; blocks without new logs since the last snapshot are not encoded again."""
        return msgspec.msgpack.encode(self._head), self._logs.snapshot()

    def is_idle(self) -> bool:
        """Never: what was read of the chain outlives every quiet."""
        return False

    def _transfer(self, event: RawTokenEvent) -> StablecoinTransfer | None:
        kind, owner = self._classify(event)
        if kind is None:
            return None
        is_large = event.amount_micros >= self._parameters.minimum_usd * MICROS_PER_USD
        return StablecoinTransfer(
            cause=event.cause,
            chain=event.chain,
            token=event.token,
            kind=kind,
            amount_micros=event.amount_micros,
            exchange=owner.exchange if owner is not None else "",
            exchange_kind=owner.kind if owner is not None else None,
            is_counted=is_large and kind is not TransferKind.INTERNAL,
            block_number=event.block_number,
            block_time_us=event.block_time_us,
            transaction_hash=event.transaction_hash,
            log_index=event.log_index,
            is_removed=event.is_removed,
        )

    def _classify(self, event: RawTokenEvent) -> tuple[TransferKind | None, ExchangeAddress | None]:
        """Say what a log means, and for which exchange; of an internal move, the one that receives."""
        if event.kind is TokenEventKind.MINT:
            return TransferKind.MINT, None
        if event.kind is TokenEventKind.BURN:
            return TransferKind.BURN, None
        sender = self._address_book.find(event.from_address, event.block_time_us)
        receiver = self._address_book.find(event.to_address, event.block_time_us)
        if receiver is None:
            return (None, None) if sender is None else (TransferKind.OUTFLOW, sender)
        return TransferKind.INFLOW if sender is None else TransferKind.INTERNAL, receiver

    def _keep_bounds(self) -> None:
        limit = self._parameters.max_transfers
        while self._logs.counted > limit:
            self._forget_until(self._logs.oldest_time_us())
        while self._logs.uncounted > limit:
            self._logs.forget_oldest_uncounted()

    def _forget_until(self, time_us: int) -> None:
        if time_us > self._head.forgotten_until_us:
            self._head.forgotten_until_us = time_us
            self._logs.forget_until(time_us)

    def _reading(self, cause: Cause) -> Pressure:
        """Return the present values, and note when they may next change by themselves."""
        head, parameters = self._head, self._parameters
        begin_us = head.now_us - parameters.lookback_us
        covered_from_us = max(coverage.from_us for coverage in head.coverage.values())
        covered_to_us = min(coverage.to_us for coverage in head.coverage.values())
        known_from_us = max(covered_from_us, head.forgotten_until_us)
        stale_after_us = covered_to_us + parameters.max_age_us
        sums, oldest_us = self._logs.sums_after(begin_us)
        changes_us = [known_from_us + parameters.lookback_us, stale_after_us + 1, oldest_us + parameters.lookback_us]
        self._next_look_us = min((at_us for at_us in changes_us if at_us > head.now_us), default=NEVER_US)
        is_known = known_from_us <= begin_us and head.now_us <= stale_after_us
        return _pressure(cause, sums, covered_from_us, covered_to_us, parameters if is_known else None)


def _identity(event: RawTokenEvent) -> bytes:
    words = f"{event.transaction_hash}:{event.log_index}".encode()
    return hashlib.blake2b(words, digest_size=_IDENTITY_BYTES).digest()


def _extended(known: _Coverage | None, progress: ChainProgress) -> _Coverage:
    read = _Coverage(progress.from_block, progress.to_block, progress.from_block_time_us, progress.to_block_time_us)
    if known is None or read.from_block > known.to_block + 1:
        return read
    if read.to_block < known.from_block - 1:
        return known
    first = read if read.from_block < known.from_block else known
    last = read if read.to_block > known.to_block else known
    return _Coverage(first.from_block, last.to_block, first.from_us, last.to_us)


def _pressure(
    cause: Cause, sums: list[int], covered_from_us: int, covered_to_us: int, parameters: PressureParameters | None
) -> Pressure:
    """Name the sums and, given parameters, score them; without, the pressure is not known."""
    inflow_micros = sums[Effect.INFLOW_SPOT] + sums[Effect.INFLOW_DERIVATIVES]
    outflow_micros = sums[Effect.OUTFLOW_SPOT] + sums[Effect.OUTFLOW_DERIVATIVES]
    mint_micros, burn_micros = sums[Effect.MINT], sums[Effect.BURN]
    pressure = None
    if parameters is not None:
        pressure = stablecoin_pressure(
            inflow_micros=inflow_micros,
            outflow_micros=outflow_micros,
            mint_micros=mint_micros,
            burn_micros=burn_micros,
            parameters=parameters,
        )
    return Pressure(
        cause=cause,
        pressure=pressure,
        inflow_micros=inflow_micros,
        outflow_micros=outflow_micros,
        mint_micros=mint_micros,
        burn_micros=burn_micros,
        inflow_spot_micros=sums[Effect.INFLOW_SPOT],
        outflow_spot_micros=sums[Effect.OUTFLOW_SPOT],
        inflow_derivatives_micros=sums[Effect.INFLOW_DERIVATIVES],
        outflow_derivatives_micros=sums[Effect.OUTFLOW_DERIVATIVES],
        covered_from_us=covered_from_us,
        covered_to_us=covered_to_us,
    )
