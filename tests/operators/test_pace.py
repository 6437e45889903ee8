"""Each asset's own clock: all run alike, none begins with all the others."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE

from operators.pace import TICK_EVERY_US, is_due, next_emission_us, phase_us

ASSETS = st.text(UNICODE, max_size=10)
TIMES = st.integers(0, 2 * 10**15)


def test_an_asset_has_the_same_phase_everywhere():
    assert {asset: phase_us(asset) for asset in ("BTC", "ETH", "")} == {"BTC": 990_918, "ETH": 163_211, "": 0}


def test_assets_are_spread_over_the_second():
    tenths = [phase_us(f"COIN{number}") // 100_000 for number in range(1_000)]

    assert all(70 <= tenths.count(tenth) <= 130 for tenth in range(10))


@given(ASSETS, TIMES, st.integers(TICK_EVERY_US, 10**9))
def test_of_ticks_a_second_or_more_apart_an_asset_gets_each(asset, ticked_us, apart_us):
    assert is_due(asset, ticked_us + apart_us, ticked_us)


@given(ASSETS, TIMES, st.lists(st.integers(1, 99), max_size=9, unique=True).map(sorted))
def test_of_any_ticks_within_a_second_it_gets_exactly_one(asset, ticked_us, between):
    moments = [ticked_us, *(ticked_us + TICK_EVERY_US * percent // 100 for percent in between), ticked_us + TICK_EVERY_US]

    assert sum(is_due(asset, now_us, before_us) for before_us, now_us in pairwise(moments)) == 1


@given(ASSETS, TIMES)
def test_a_repeated_tick_and_one_from_before_are_nobody_s(asset, now_us):
    assert not is_due(asset, now_us, now_us)
    assert not is_due(asset, now_us - 1, now_us)


@pytest.mark.parametrize(("now_us", "interval_us", "expected"), [(0, 10, 10), (9, 10, 10), (10, 10, 20), (7, 0, 8)])
def test_the_next_reading_is_allowed_from_the_next_interval_of_the_clock(now_us, interval_us, expected):
    assert next_emission_us("", now_us, interval_us) == expected


@given(ASSETS, TIMES, st.integers(1, 10**7))
def test_it_is_after_the_last_one_by_an_interval_at_most(asset, now_us, interval_us):
    assert now_us < next_emission_us(asset, now_us, interval_us) <= now_us + interval_us


@given(ASSETS, TIMES)
def test_the_tick_of_the_next_second_may_always_publish(asset, now_us):
    due_us = next_emission_us(asset, now_us, TICK_EVERY_US)

    assert is_due(asset, due_us, due_us - 1)
