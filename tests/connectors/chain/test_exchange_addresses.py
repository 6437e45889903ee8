from __future__ import annotations

import csv
from datetime import datetime, timezone
from pathlib import Path

import pytest

from connectors.sources.chain.addresses import ADDRESS_FILE, COLUMNS, AddressFileError, exchange_addresses
from market.events import ExchangeKind
from market.exchanges import AddressBook, AddressBookError, ExchangeAddress

ONE = "0x" + "1" * 40
HEADER = ",".join(COLUMNS)


def us(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=timezone.utc).timestamp()) * 1_000_000


def read(path: Path, *lines: str, header: str = HEADER) -> AddressBook:
    file = path / "addresses.csv"
    file.write_text("\n".join([header, *lines]), encoding="utf-8")
    return exchange_addresses(file)


def test_the_list_that_comes_with_the_project_knows_the_large_exchanges() -> None:
    book = exchange_addresses()

    now_us = us(2026, 11, 1)
    binance = book.find("0x28c6c06298d514db089934071355e5743bf21d60", now_us)
    deribit = book.find("0x77021d475e36b3ab1921a0e3a8380f069d3263de", now_us)
    assert binance is not None
    assert deribit is not None
    assert (binance.exchange, binance.kind) == ("binance", ExchangeKind.SPOT)
    assert (deribit.exchange, deribit.kind) == ("deribit", ExchangeKind.DERIVATIVES)
    assert len(book.addresses) > 200


@pytest.mark.parametrize(
    "address",
    [
        "0xeb31973e0febf3e3d7058234a5ebbae1ab4b8c23",  # Kucoin Hacker
        "0xc365c3315cf926351ccaf13fa7d19c8c4058c8e1",  # Binance Pool
        "0x50d1c9771902476076ecfc8b2a83ad6b9355a4c9",  # the FTT token
        "0x9430801ebaf509ad49202aabc5f5bc6fd8a3daf8",  # a deposit funder
    ],
)
def test_what_only_bears_an_exchanges_name_is_not_in_the_list(address: str) -> None:
    assert exchange_addresses().find(address, us(2023, 1, 1)) is None


def test_a_closed_exchange_counts_until_it_closed() -> None:
    book = exchange_addresses()
    ftx = "0x2faf487a4414fe77e2327f0bf4ae2a264a776ad2"

    assert book.find(ftx, us(2022, 11, 11) - 1) is not None
    assert book.find(ftx, us(2022, 11, 11)) is None


def test_every_row_names_its_source_and_no_kind_differs_within_an_exchange() -> None:
    with ADDRESS_FILE.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))

    assert all(row["source"] and row["exchange"] for row in rows)
    assert len({row["exchange"] for row in rows}) == len({(row["exchange"], row["kind"]) for row in rows})


def test_a_row_becomes_an_address_with_its_days(tmp_path: Path) -> None:
    book = read(tmp_path, f"{ONE.upper().replace('X', 'x')},x,derivatives,me,2023-01-02,2024-02-03")

    assert book.entries == (ExchangeAddress(ONE, "x", ExchangeKind.DERIVATIVES, us(2023, 1, 2), us(2024, 2, 3)),)


def test_an_address_may_have_owners_one_after_the_other(tmp_path: Path) -> None:
    book = read(tmp_path, f"{ONE},x,spot,me,,2023-01-01", f"{ONE},y,spot,me,2023-01-01,")

    owners = [book.find(ONE, at_us) for at_us in (us(2022, 12, 31), us(2023, 1, 1))]
    assert [owner.exchange for owner in owners if owner is not None] == ["x", "y"]


@pytest.mark.parametrize(
    "row",
    [
        "0x12,x,spot,me,,",
        f"{ONE},x,casino,me,,",
        f"{ONE},x,spot,me,yesterday,",
        f"{ONE}",
        ",x,spot,me,,",
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(AddressFileError, match="line 3") as caught:
        read(tmp_path, f"0x{'2' * 40},x,spot,me,,", row)

    assert caught.value.line == 3


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressFileError, match="line 1"):
        read(tmp_path, header="address,exchange")


def test_two_owners_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressBookError):
        read(tmp_path, f"{ONE},x,spot,me,,", f"{ONE},y,spot,me,,")
