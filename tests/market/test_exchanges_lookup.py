"""Whose an address was, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.events import ExchangeKind
from market.exchanges import AddressBook, AddressBookError, ExchangeAddress

HOT = "0x00000000000000000000000000000000000000aa"
OTHER = "0x00000000000000000000000000000000000000bb"


def entry(
    address: str = HOT, exchange: str = "binance", valid_from_us: int | None = None, valid_to_us: int | None = None
) -> ExchangeAddress:
    return ExchangeAddress(address, exchange, ExchangeKind.SPOT, valid_from_us, valid_to_us)


def test_a_known_address_is_found_and_another_is_not() -> None:
    book = AddressBook((entry(),))

    assert book.find(HOT, 5) == entry()
    assert book.find(OTHER, 5) is None


def test_a_validity_includes_its_begin_and_not_its_end() -> None:
    dated = entry(valid_from_us=10, valid_to_us=20)
    book = AddressBook((dated,))

    assert [book.find(HOT, at_us) for at_us in (9, 10, 19, 20)] == [None, dated, dated, None]


def test_an_address_may_change_hands() -> None:
    before, after = entry(exchange="ftx", valid_to_us=20), entry(exchange="okx", valid_from_us=20)
    book = AddressBook((after, before))

    assert book.find(HOT, 19) == before
    assert book.find(HOT, 20) == after


def test_the_addresses_are_listed_once_and_sorted() -> None:
    book = AddressBook((entry(OTHER), entry(valid_to_us=20), entry(valid_from_us=20)))

    assert book.addresses == (HOT, OTHER)


def test_an_empty_book_knows_nobody() -> None:
    assert AddressBook().addresses == ()
    assert AddressBook().find(HOT, 0) is None


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((entry(HOT.upper()),), "not in lower case"),
        ((entry(valid_from_us=20, valid_to_us=20),), "ends before it begins"),
        ((entry(), entry(exchange="okx")), "binance and okx at the same time"),
        ((entry(valid_to_us=21), entry(exchange="okx", valid_from_us=20)), "at the same time"),
    ],
)
def test_entries_that_contradict_are_refused_by_name(entries: tuple[ExchangeAddress, ...], reason: str) -> None:
    with pytest.raises(AddressBookError, match=reason) as caught:
        AddressBook(entries)

    assert caught.value.address == entries[0].address


@given(cuts=st.lists(st.integers(0, 100), unique=True, min_size=1).map(sorted), at_us=st.integers(-1, 101))
def test_neighbouring_owners_leave_no_time_without_one(cuts: list[int], at_us: int) -> None:
    edges = [None, *cuts, None]
    owners = [entry(exchange=str(i), valid_from_us=edges[i], valid_to_us=edges[i + 1]) for i in range(len(edges) - 1)]

    expected = owners[sum(cut <= at_us for cut in cuts)]

    assert AddressBook(tuple(reversed(owners))).find(HOT, at_us) == expected
