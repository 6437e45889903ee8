"""Every asset has one owner, and always the same."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE

from market.shards import MAX_SHARDS, WHOLE, Shard, ShardError, owner_of

COUNTS = st.integers(1, MAX_SHARDS)


def test_owners_are_those_that_were_documented() -> None:
    assets = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")

    assert {asset: owner_of(asset, 2) for asset in assets} == {"BTC": 1, "ETH": 0, "SOL": 1, "XRP": 0, "DOGE": 1, "BNB": 0}
    assert {asset: owner_of(asset, 3) for asset in assets} == {"BTC": 2, "ETH": 0, "SOL": 2, "XRP": 1, "DOGE": 1, "BNB": 0}


@given(asset=st.text(UNICODE), count=COUNTS)
def test_every_asset_has_exactly_one_owner(asset: str, count: int) -> None:
    assert [Shard(index, count).owns(asset) for index in range(count)].count(True) == 1


def test_no_shard_is_left_without_its_share() -> None:
    counts = Counter(owner_of(f"COIN{number}", 5) for number in range(1_000))

    assert all(160 < counts[index] < 240 for index in range(5))


@given(data=st.data(), count=COUNTS)
def test_a_shard_is_read_back_from_its_spelling(data: st.DataObject, count: int) -> None:
    shard = Shard(data.draw(st.integers(0, count - 1)), count)

    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize(
    "text", ["", "1", "3/3", "1/0", "-1/3", "0/65", "01/3", "1 /3", "1/3 ", "1/3/5", "a/b", "1/03", "٠/3"]
)
def test_anything_else_is_no_shard(text: str) -> None:
    with pytest.raises(ShardError, match="a shard is i/n"):
        Shard.parse(text)


def test_the_whole_market_is_one_shard_that_owns_everything() -> None:
    assert Shard.parse("0/1") == WHOLE
    assert WHOLE.is_whole
    assert WHOLE.is_first
    assert WHOLE.owns("BTC")
    assert not Shard(1, 2).is_whole
    assert not Shard(1, 2).is_first


def test_there_may_be_as_many_as_is_said() -> None:
    assert Shard.parse(f"{MAX_SHARDS - 1}/{MAX_SHARDS}") == Shard(MAX_SHARDS - 1, MAX_SHARDS)
