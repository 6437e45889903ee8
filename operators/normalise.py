"""From venues' contracts to coins and USD: the contract table is this machine's state, fed by the instruments frames.

Takes out every ``Raw…`` item of instruments, liquidations, derivatives and order books; puts in its place the
measured event, or a dead letter with the reason and the item as JSON. Nothing is guessed and nothing else is lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Union

import msgspec

from market.contracts import (
    MICROS_PER_USD,
    Contract,
    ContractError,
    ContractRecord,
    FutureTimeError,
    UnknownSymbolError,
    UnsupportedContractError,
)
from market.events import BookDepth, Derivatives, Liquidation
from market.parameters import Parameters
from market.polled import measure_book, measure_derivatives
from market.raw import ContractKind, DeadLetter, RawBookDepth, RawDerivatives, RawInstrument, RawLiquidation
from operators.machine import Handler

MAX_CONTRACTS = 20_000
"""Contracts remembered: about ten times what the ten largest venues list; further ones are dead letters."""

_MEASURES = (
    "mark_price",
    "index_price",
    "open_interest_contracts",
    "open_interest_base",
    "open_interest_usd",
    "funding_rate",
    "long_short_ratio",
)
"""All that a poll can say of a contract but its funding interval."""

# Looked up once: an attribute of an enum class costs more than the comparison.
_QUANTO = ContractKind.QUANTO

_Timed = Union[RawLiquidation, RawDerivatives, RawBookDepth]
_Key = tuple[str, str]


class Polled(msgspec.Struct, array_like=True):
    """What polls last said of one contract. ``mark_time_us`` is the event time of ``mark_price`` (USD per coin)."""

    mark_price: float | None = None
    mark_time_us: int = 0
    funding_interval_hours: float | None = None


class _PolledState(msgspec.Struct, array_like=True):
    """The part of the state that changes with every poll."""

    polled: list[tuple[str, str, Polled]]
    coin_marks: dict[str, tuple[float, int]]
    clock_skew_counts: dict[str, int]


_CONTRACTS = msgspec.msgpack.Decoder(list[ContractRecord])
_POLLED = msgspec.msgpack.Decoder(_PolledState)


class Normalise:
    """One feed partition's contract table, and what it makes of every item that needs it.

    State: at most :data:`MAX_CONTRACTS` contracts, and at most as many marks. Its bytes are kept from snapshot to snapshot
    and made anew only after a change.

    Times ahead of the receive time become the receive time and are counted in ``clock_skew_counts`` by venue; further ahead
    than ``ContractLimits.max_clock_skew_us`` they are refused.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Start with an empty table, or with what :meth:`snapshot` returned."""
        self._max_notional_micros = parameters.contracts.max_notional_usd * MICROS_PER_USD
        self._max_clock_skew_us = parameters.contracts.max_clock_skew_us
        self._max_mark_age_us = parameters.deltas.max_age_us
        self._watched_assets = frozenset(parameters.watch.watched_assets)
        self._contracts: dict[_Key, Contract] = {}
        self._polled: dict[_Key, Polled] = {}
        self._coin_marks: dict[str, tuple[float, int]] = {}  # by asset: USD per coin and when, for quanto settlement
        self.clock_skew_counts: dict[str, int] = {}
        self._contract_bytes: bytes | None = None
        self._polled_bytes: bytes | None = None
        if isinstance(state, tuple):
            self._restore(*state)

    def _restore(self, contract_bytes: bytes, polled_bytes: bytes) -> None:
        for record in _CONTRACTS.decode(zlib.decompress(contract_bytes)):
            contract = Contract.from_record(record)
            self._contracts[contract.venue, contract.symbol] = contract
        saved = _POLLED.decode(polled_bytes)
        self._polled = {(venue, symbol): polled for venue, symbol, polled in saved.polled}
        self._coin_marks = saved.coin_marks
        self.clock_skew_counts = saved.clock_skew_counts
        self._contract_bytes, self._polled_bytes = contract_bytes, polled_bytes

    def handlers(self) -> Mapping[type, Handler]:
        """Own everything whose meaning depends on a contract."""
        return {
            RawLiquidation: self._on_liquidation,
            RawDerivatives: self._on_derivatives,
            RawBookDepth: self._on_book,
            RawInstrument: self._on_instrument,
        }

    def snapshot(self) -> object:
        """Return the contracts and what polls last said of them, each as bytes."""
        if self._contract_bytes is None:
            records = [contract.record() for contract in self._contracts.values()]
            self._contract_bytes = zlib.compress(msgspec.msgpack.encode(records), 1)
        if self._polled_bytes is None:
            polled = [(venue, symbol, of) for (venue, symbol), of in self._polled.items()]
            state = _PolledState(polled, self._coin_marks, self.clock_skew_counts)
            self._polled_bytes = msgspec.msgpack.encode(state)
        return self._contract_bytes, self._polled_bytes

    def is_idle(self) -> bool:
        """A contract table is always needed."""
        return False

    def _on_instrument(self, raw: RawInstrument) -> tuple[DeadLetter, ...]:
        key = raw.venue, raw.symbol
        known = self._contracts.get(key)
        try:
            if known is None and len(self._contracts) >= MAX_CONTRACTS:
                raise UnsupportedContractError(f"the contract table is full: {MAX_CONTRACTS}")
            contract = Contract.from_instrument(raw)
        except ContractError as error:
            return (_dead_letter(raw, "instruments", error),)
        if contract != known:
            self._contracts[key] = contract
            self._contract_bytes = None
        return ()

    def _on_liquidation(self, raw: RawLiquidation) -> tuple[Liquidation | DeadLetter]:
        try:
            contract = self._contracts.get((raw.venue, raw.symbol)) or _unknown(raw)
            event_time_us = raw.event_time_us
            if event_time_us > raw.cause.receive_time_us:
                event_time_us = self._clamp(raw)
            settlement_usd = None if contract.kind is not _QUANTO else self._settlement_usd(contract, raw)
            measured = contract.measure(raw.price, raw.contract_quantity, self._max_notional_micros, settlement_usd)
        except ContractError as error:
            return (_dead_letter(raw, "liquidations", error),)
        return (
            Liquidation(
                raw.cause,
                raw.venue,
                raw.symbol,
                contract.asset,
                raw.position_side,
                measured.price,
                measured.base_quantity,
                measured.notional_micros,
                raw.completeness,
                event_time_us,
            ),
        )

    def _on_derivatives(self, raw: RawDerivatives) -> tuple[Derivatives | DeadLetter, ...]:
        """Measure what a poll said. Some endpoints speak of every contract of a venue: those not watched are no rows."""
        key = raw.venue, raw.symbol
        says_only_interval = not any(getattr(raw, name) is not None for name in _MEASURES)
        if says_only_interval and key not in self._contracts:
            return ()
        try:
            contract = self._contracts.get(key) or _unknown(raw)
            event_time_us = self._clamp(raw)
            polled = self._polled.get(key) or Polled()
            event = measure_derivatives(
                raw,
                contract,
                event_time_us=event_time_us,
                last_mark=polled.mark_price if self._is_fresh(polled.mark_time_us, event_time_us) else None,
                last_interval_hours=polled.funding_interval_hours,
                settlement_usd=self._settlement_usd(contract, raw),
            )
        except ContractError as error:
            return (_dead_letter(raw, "derivatives", error),)
        self._remember(key, polled, raw, event)
        return () if says_only_interval or event.asset not in self._watched_assets else (event,)

    def _on_book(self, raw: RawBookDepth) -> tuple[BookDepth | DeadLetter]:
        try:
            contract = self._contracts.get((raw.venue, raw.symbol)) or _unknown(raw)
            settlement_usd = self._settlement_usd(contract, raw)
            book = measure_book(raw, contract, event_time_us=self._clamp(raw), settlement_usd=settlement_usd)
        except ContractError as error:
            return (_dead_letter(raw, "depth", error),)
        return (book,)

    def _remember(self, key: _Key, polled: Polled, raw: RawDerivatives, event: Derivatives) -> None:
        if event.mark_price is not None:
            polled.mark_price, polled.mark_time_us = event.mark_price, event.event_time_us
            self._coin_marks[event.asset] = event.mark_price, event.event_time_us
        if raw.funding_interval_hours is not None:
            polled.funding_interval_hours = event.funding_interval_hours
        if event.mark_price is not None or raw.funding_interval_hours is not None:
            self._polled[key] = polled
            self._polled_bytes = None

    def _settlement_usd(self, contract: Contract, raw: _Timed) -> float | None:
        """Return the last mark of the currency that a quanto settles in; ``None`` when unknown or too old."""
        price, time_us = self._coin_marks.get(contract.settle_asset, (None, 0))
        return price if self._is_fresh(time_us, raw.event_time_us) else None

    def _is_fresh(self, mark_time_us: int, event_time_us: int) -> bool:
        return event_time_us - mark_time_us <= self._max_mark_age_us

    def _clamp(self, raw: _Timed) -> int:
        """Return the event time, or the receive time where that is earlier."""
        ahead_us = raw.event_time_us - raw.cause.receive_time_us
        if ahead_us <= 0:
            return raw.event_time_us
        if ahead_us > self._max_clock_skew_us:
            raise FutureTimeError(f"{ahead_us / 1e6:.3f} s ahead of our clock")
        self.clock_skew_counts[raw.venue] = self.clock_skew_counts.get(raw.venue, 0) + 1
        self._polled_bytes = None
        return raw.cause.receive_time_us


def _unknown(raw: _Timed) -> Contract:
    raise UnknownSymbolError(f"no list of instruments of {raw.venue} has named {raw.symbol!r}")


def _dead_letter(raw: RawInstrument | _Timed, channel: str, error: ContractError) -> DeadLetter:
    return DeadLetter(
        cause=raw.cause,
        feed=f"{raw.venue}/{channel}",
        venue=raw.venue,
        error=type(error).__name__,
        reason=error.reason,
        payload=msgspec.json.encode(raw),
    )
