"""Which exchange an address belonged to, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from market.events import ExchangeKind


class AddressBookError(ValueError):
    """Entries that contradict each other or themselves. ``address`` says which."""

    def __init__(self, address: str, reason: str) -> None:
        """Keep the culprit."""
        super().__init__(f"{address}: {reason}")
        self.address = address


class ExchangeAddress(msgspec.Struct, frozen=True):
    """One address of one exchange for as long as it served it.

    Attributes:
        address: Lower-case hex with 0x.
        exchange: The exchange's name, in the spelling that the tables use.
        valid_from_us: Block time from which it counts; ``None``: since ever.
        valid_to_us: Block time at which it no longer counts (exclusive); ``None``: still does.
    """

    address: str
    exchange: str
    kind: ExchangeKind
    valid_from_us: int | None = None
    valid_to_us: int | None = None

    def holds_at(self, at_us: int) -> bool:
        """Say whether the address was the exchange's at that block time."""
        begun = self.valid_from_us is None or self.valid_from_us <= at_us
        return begun and (self.valid_to_us is None or at_us < self.valid_to_us)


@dataclass(frozen=True)
class AddressBook:
    """Exchanges by address. An address may have had several owners, one after the other.

    Raises:
        AddressBookError: An address not in lower case, a validity that ends before it begins, or two owners at once.
    """

    entries: tuple[ExchangeAddress, ...] = ()
    _by_address: Mapping[str, tuple[ExchangeAddress, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every entry and index them."""
        owners: dict[str, tuple[ExchangeAddress, ...]] = {}
        for entry in self.entries:
            _check(entry, owners.get(entry.address, ()))
            owners[entry.address] = (*owners.get(entry.address, ()), entry)
        object.__setattr__(self, "_by_address", MappingProxyType(owners))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that ever counted, sorted: what a node is asked for."""
        return tuple(sorted(self._by_address))

    def find(self, address: str, at_us: int) -> ExchangeAddress | None:
        """Return whose the address was at that block time, or ``None`` when it was no exchange's."""
        for entry in self._by_address.get(address, ()):
            if entry.holds_at(at_us):
                return entry
        return None


def _check(entry: ExchangeAddress, others: tuple[ExchangeAddress, ...]) -> None:
    if entry.address != entry.address.lower():
        raise AddressBookError(entry.address, "not in lower case")
    begin, end = _interval(entry)
    if begin >= end:
        raise AddressBookError(entry.address, "its validity ends before it begins")
    for other in others:
        other_begin, other_end = _interval(other)
        if begin < other_end and other_begin < end:
            raise AddressBookError(entry.address, f"{other.exchange} and {entry.exchange} at the same time")


def _interval(entry: ExchangeAddress) -> tuple[float, float]:
    begin = float("-inf") if entry.valid_from_us is None else entry.valid_from_us
    return begin, float("inf") if entry.valid_to_us is None else entry.valid_to_us
