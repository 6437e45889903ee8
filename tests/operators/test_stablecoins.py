"""Stablecoin flows: from token logs to transfers and pressure."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from partition_machines import NOON_US, cause, derived, run, tick, us

from market.events import ExchangeKind, Pressure, StablecoinTransfer, TransferKind
from market.exchanges import AddressBook, ExchangeAddress
from market.parameters import Parameters, PressureParameters
from market.raw import ChainProgress, RawTokenEvent, TokenEventKind
from operators.stablecoins import Stablecoins

MILLION = 1_000_000 * 1_000_000  # USD in micro-USD
HOUR_S = 3600
LOOKBACK_S = 4 * HOUR_S
USDT = "USDT"
BINANCE, BYBIT, OUTSIDE, ELSEWHERE = "0xb1", "0xb2", "0x01", "0x02"
BOOK = AddressBook(
    (
        ExchangeAddress(BINANCE, "binance", ExchangeKind.SPOT),
        ExchangeAddress("0xb3", "binance", ExchangeKind.DERIVATIVES),
        ExchangeAddress(BYBIT, "bybit", ExchangeKind.DERIVATIVES),
        ExchangeAddress("0xf7", "ftx", ExchangeKind.SPOT, valid_to_us=NOON_US),
    )
)


def build(parameters=None, state=None, book=BOOK):
    return Stablecoins(parameters or Parameters(), state, address_book=book)


def with_parameters(**changes):
    parameters = Parameters(pressure=PressureParameters(**changes))
    return lambda state: build(parameters, state)


def default(state):
    return build(state=state)


def log(
    sender=OUTSIDE,
    receiver=BINANCE,
    millions=10,
    *,
    kind=TokenEventKind.TRANSFER,
    block_s=0,
    transaction_hash="0xaa",
    log_index=0,
    is_removed=False,
    block=None,
    at_s=0.0,
):
    return RawTokenEvent(
        cause=cause(at_s),
        chain="ethereum",
        token=USDT,
        kind=kind,
        from_address=sender,
        to_address=receiver,
        amount_micros=round(millions * MILLION),
        block_number=block_at(block_s) if block is None else block,
        block_time_us=us(block_s),
        transaction_hash=transaction_hash,
        log_index=log_index,
        is_removed=is_removed,
    )


def block_at(block_s):
    return 20_000 + block_s // 12


def removed(event):
    return msgspec.structs.replace(event, is_removed=True)


def transfer(event, kind=TransferKind.INFLOW, exchange="binance", exchange_kind=ExchangeKind.SPOT, is_counted=True):
    return StablecoinTransfer(
        cause=event.cause,
        chain="ethereum",
        token=USDT,
        kind=kind,
        amount_micros=event.amount_micros,
        exchange=exchange,
        exchange_kind=exchange_kind,
        is_counted=is_counted,
        block_number=event.block_number,
        block_time_us=event.block_time_us,
        transaction_hash=event.transaction_hash,
        log_index=event.log_index,
        is_removed=event.is_removed,
    )


def progress(from_s=-LOOKBACK_S, to_s=0, at_s=0.0, chain="ethereum"):
    return ChainProgress(cause(at_s), chain, block_at(from_s), block_at(to_s), us(from_s), us(to_s))


def pressure(at_s=0.0, value=0, covered_from_s=-LOOKBACK_S, covered_to_s=0, **millions):
    """Sums in millions of USD; of a side named without a kind, all is spot."""
    flows = dict.fromkeys(
        ("inflow_spot", "inflow_derivatives", "outflow_spot", "outflow_derivatives", "mint", "burn"),
        0,
    )
    flows |= {name: amount * MILLION for name, amount in millions.items()}
    return Pressure(
        cause=cause(at_s),
        pressure=value,
        inflow_micros=flows["inflow_spot"] + flows["inflow_derivatives"],
        outflow_micros=flows["outflow_spot"] + flows["outflow_derivatives"],
        mint_micros=flows["mint"],
        burn_micros=flows["burn"],
        inflow_spot_micros=flows["inflow_spot"],
        outflow_spot_micros=flows["outflow_spot"],
        inflow_derivatives_micros=flows["inflow_derivatives"],
        outflow_derivatives_micros=flows["outflow_derivatives"],
        covered_from_us=us(covered_from_s),
        covered_to_us=us(covered_to_s),
    )


def pressures(items, built=default):
    return [output for output in derived(built, items) if isinstance(output, Pressure)]


# Classification


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (log(OUTSIDE, BINANCE), (TransferKind.INFLOW, "binance", ExchangeKind.SPOT, True)),
        (log(BYBIT, OUTSIDE), (TransferKind.OUTFLOW, "bybit", ExchangeKind.DERIVATIVES, True)),
        (log(BINANCE, BYBIT), (TransferKind.INTERNAL, "bybit", ExchangeKind.DERIVATIVES, False)),
        (log(BINANCE, "0xb3"), (TransferKind.INTERNAL, "binance", ExchangeKind.DERIVATIVES, False)),
        (log("", BINANCE, kind=TokenEventKind.MINT), (TransferKind.MINT, "", None, True)),
        (log("", "", kind=TokenEventKind.BURN), (TransferKind.BURN, "", None, True)),
        (log("0xf7", OUTSIDE, block_s=-1), (TransferKind.OUTFLOW, "ftx", ExchangeKind.SPOT, True)),
        (log(OUTSIDE, "0xf7", block_s=-1), (TransferKind.INFLOW, "ftx", ExchangeKind.SPOT, True)),
        (log(millions=1), (TransferKind.INFLOW, "binance", ExchangeKind.SPOT, True)),
        (log(millions=0.999_999), (TransferKind.INFLOW, "binance", ExchangeKind.SPOT, False)),
    ],
)
def test_a_log_becomes_the_transfer_that_it_means_for_exchanges(event, expected):
    kind, exchange, exchange_kind, is_counted = expected

    assert run(default, [event]) == [[transfer(event, kind, exchange, exchange_kind, is_counted)]]


def test_a_move_that_touches_no_exchange_becomes_nothing():
    ended = [log("0xf7", OUTSIDE, block_s=0), log(OUTSIDE, "0xf7", block_s=0)]

    assert run(default, [log(OUTSIDE, ELSEWHERE), *ended]) == [[], [], []]


def test_a_repeated_log_is_consumed():
    assert derived(default, [log(), log(at_s=7)]) == [transfer(log())]


def test_two_logs_of_one_transaction_are_two():
    events = [log(log_index=0), log(log_index=1)]

    assert derived(default, events) == [transfer(event) for event in events]


# Sums


def test_the_sums_are_split_by_direction_and_by_what_the_exchange_serves():
    items = [
        log(OUTSIDE, BINANCE, 1, log_index=0),
        log(OUTSIDE, BYBIT, 2, log_index=1),
        log(BINANCE, OUTSIDE, 40, log_index=2),
        log(BYBIT, OUTSIDE, 80, log_index=3),
        log("", "", 100, kind=TokenEventKind.MINT, log_index=4),
        log("", "", 300, kind=TokenEventKind.BURN, log_index=5),
        log(BINANCE, BYBIT, 500, log_index=6),
        log(OUTSIDE, BINANCE, 0.9, log_index=7),
        progress(),
        tick(1),
    ]

    # (120 − 3)/2 is clipped to 50; (100 − 300)/10 is −20.
    expected = {
        "inflow_spot": 1,
        "inflow_derivatives": 2,
        "outflow_spot": 40,
        "outflow_derivatives": 80,
        "mint": 100,
        "burn": 300,
    }

    assert pressures(items) == [pressure(1, 30, **expected)]


def test_a_transfer_leaves_the_sums_when_its_block_is_the_look_back_old():
    items = [
        progress(),
        log(block_s=-100),
        tick(0),
        progress(0, LOOKBACK_S - 99),
        tick(LOOKBACK_S - 101),
        tick(LOOKBACK_S - 100),
    ]

    assert pressures(items) == [
        pressure(0, -5, inflow_spot=10),
        pressure(LOOKBACK_S - 101, -5, inflow_spot=10, covered_to_s=LOOKBACK_S - 99),
        pressure(LOOKBACK_S - 100, 0, covered_to_s=LOOKBACK_S - 99),
    ]


def test_a_block_from_the_future_counts():
    assert pressures([progress(), log(block_s=5), tick(0)]) == [pressure(0, -5, inflow_spot=10)]


def test_the_sign_of_the_flow_is_a_setting():
    items = [progress(), log(), tick(0)]

    assert pressures(items, with_parameters(inflow_is_bearish=False)) == [pressure(0, 5, inflow_spot=10)]


def test_pressure_comes_at_the_next_tick_and_only_after_a_change():
    items = [progress(), tick(0), log(), log(log_index=1), tick(1), tick(2), log(at_s=2.5), tick(3)]

    assert pressures(items) == [pressure(0), pressure(1, -10, inflow_spot=20)]


def test_a_tick_goes_on_before_what_it_brings():
    assert run(default, [progress(), tick(0)]) == [[], [tick(0), pressure(0)]]


def test_without_a_chain_nothing_is_said():
    assert run(default, [tick(0), tick(1)]) == [[tick(0)], [tick(1)]]


# Re-organisations


def test_a_removed_log_takes_its_amount_back():
    items = [progress(), log(), log(log_index=1), tick(0), removed(log()), tick(1)]

    assert derived(default, items) == [
        transfer(log()),
        transfer(log(log_index=1)),
        pressure(0, -10, inflow_spot=20),
        transfer(removed(log())),
        pressure(1, -5, inflow_spot=10),
    ]


def test_a_removed_log_never_seen_is_a_row_and_changes_nothing():
    items = [progress(), tick(0), removed(log()), tick(1)]

    assert derived(default, items) == [pressure(0), transfer(removed(log()))]


def test_a_removal_repeated_is_consumed():
    items = [log(), removed(log()), removed(log())]

    assert derived(default, items) == [transfer(log()), transfer(removed(log()))]


def test_after_its_removal_a_log_counts_again_in_another_block_or_the_same_one():
    elsewhere = log(block_s=12)
    items = [progress(), log(), removed(log()), elsewhere, tick(0), removed(elsewhere), elsewhere, tick(1)]

    assert pressures(items) == [pressure(0, -5, inflow_spot=10)]
    assert derived(default, items)[-1] == transfer(elsewhere)


def test_a_log_found_in_another_block_without_a_removal_has_moved():
    moved = log(block_s=12)
    items = [progress(), log(), moved, tick(0), removed(log()), tick(1)]

    assert derived(default, items) == [
        transfer(log()),
        transfer(moved),
        pressure(0, -5, inflow_spot=10),
        transfer(removed(log())),
    ]


# Coverage


def test_pressure_is_not_known_until_the_look_back_is_covered():
    items = [progress(-LOOKBACK_S + 12, 0), log(), tick(0), tick(11), tick(12)]

    assert pressures(items) == [
        pressure(0, None, inflow_spot=10, covered_from_s=-LOOKBACK_S + 12),
        pressure(12, -5, inflow_spot=10, covered_from_s=-LOOKBACK_S + 12),
    ]


def test_neighbouring_and_overlapping_ranges_are_one_coverage_in_either_direction():
    items = [
        progress(-1_200, -600),
        progress(-588, -12),
        progress(-1_800, -1_212),
        progress(-24, 0),
        progress(-600, -300),
        tick(0),
    ]

    assert pressures(items) == [pressure(0, None, covered_from_s=-1_800, covered_to_s=0)]


def test_a_hole_begins_the_coverage_anew():
    items = [progress(-LOOKBACK_S, -600), tick(-600), progress(-576, 0), tick(0)]

    assert pressures(items) == [
        pressure(-600, None, covered_to_s=-600),
        pressure(0, None, covered_from_s=-576),
    ]


def test_older_blocks_that_do_not_join_add_nothing():
    items = [progress(-600, 0), progress(-LOOKBACK_S, -624), tick(0)]

    assert pressures(items) == [pressure(0, None, covered_from_s=-600)]


def test_pressure_is_not_known_while_the_chain_is_stale():
    items = [progress(), tick(0), tick(900), tick(900.000001), tick(902), progress(0, 900), tick(903)]

    assert pressures(items) == [
        pressure(0),
        pressure(900.000001, None),
        pressure(903, 0, covered_to_s=900),
    ]


def test_with_two_chains_the_one_that_knows_less_decides():
    items = [progress(), progress(-LOOKBACK_S + 60, -120, chain="tron"), tick(0)]

    assert pressures(items) == [pressure(0, None, covered_from_s=-LOOKBACK_S + 60, covered_to_s=-120)]


def test_a_clock_that_steps_back_changes_nothing():
    items = [progress(), log(), tick(10), tick(-5_000)]

    assert pressures(items) == [pressure(10, -5, inflow_spot=10)]


# Bounds and settings


def test_beyond_the_limit_the_oldest_block_is_folded_away_and_pressure_is_not_known_until_it_would_have_left():
    items = [
        progress(),
        log(block_s=-120),
        log(block_s=-60, log_index=1),
        tick(0),
        log(block_s=-24, log_index=2),
        tick(1),
        progress(0, LOOKBACK_S - 130),
        tick(LOOKBACK_S - 121),
        tick(LOOKBACK_S - 120),
    ]

    assert pressures(items, with_parameters(max_transfers=2)) == [
        pressure(0, -10, inflow_spot=20),
        pressure(1, None, inflow_spot=20),
        pressure(LOOKBACK_S - 121, None, inflow_spot=20, covered_to_s=LOOKBACK_S - 130),
        pressure(LOOKBACK_S - 120, -10, inflow_spot=20, covered_to_s=LOOKBACK_S - 130),
    ]


def test_beyond_the_limit_the_oldest_small_ones_are_forgotten_and_only_their_repeats_show_it():
    large = log(block_s=12)
    small, newer, newest = (log(millions=0.1, block_s=12 * number, log_index=number) for number in (1, 2, 3))
    items = [progress(), large, small, newer, newest, small, newest, large, tick(0)]

    assert derived(with_parameters(max_transfers=2), items) == [
        transfer(large),
        *(transfer(event, is_counted=False) for event in (small, newer, newest, small)),
        pressure(0, -5, inflow_spot=10),
    ]


def test_a_log_older_than_the_memory_is_a_row_each_time_and_adds_nothing():
    ancient = log(block_s=-LOOKBACK_S - 7_200)
    items = [progress(), tick(0), ancient, ancient, tick(1)]

    assert derived(default, items) == [pressure(0), transfer(ancient), transfer(ancient)]


def test_a_repeat_is_recognised_for_two_hours_beyond_the_look_back():
    old = log(block_s=-LOOKBACK_S - 7_199)

    assert derived(default, [tick(0), old, old]) == [transfer(old)]


def test_a_changed_minimum_takes_effect_on_resume():
    machine = with_parameters(minimum_usd=5_000_000)(None)
    for item in (progress(), log(millions=4), log(millions=8, log_index=1), tick(0)):
        machine.handlers()[type(item)](item)
    saved = machine.snapshot()

    def resumed(minimum_usd):
        return list(with_parameters(minimum_usd=minimum_usd)(saved).on_tick(tick(1)))

    assert resumed(1_000_000) == [tick(1), pressure(1, -6, inflow_spot=12)]
    assert resumed(5_000_000) == [tick(1)]
    assert resumed(9_000_000) == [tick(1), pressure(1, 0)]


def test_a_snapshot_between_changes_encodes_nothing_anew():
    machine = default(None)
    for item in (log(block_s=0), log(block_s=12, log_index=1)):
        machine.on_token_event(item)
    first = machine.snapshot()[1]
    machine.on_tick(tick(1))
    second = machine.snapshot()[1]
    machine.on_token_event(log(block_s=12, log_index=2))
    third = machine.snapshot()[1]

    assert second is first
    assert third[0] is first[0]
    assert third[1] != first[1]


def test_it_never_becomes_idle():
    assert not default(None).is_idle()


# Properties


EITHER = st.booleans()
NEVER = st.just(False)  # noqa: FBT003 - the value drawn
SOME_LOGS = [
    log(OUTSIDE, BINANCE, 7, log_index=0),
    log(OUTSIDE, BYBIT, 1, log_index=1),
    log(BINANCE, OUTSIDE, 3, log_index=2),
    log(BYBIT, BINANCE, 9, log_index=3),
    log(OUTSIDE, BYBIT, 0.5, log_index=4),
    log(BYBIT, OUTSIDE, 0.5, log_index=5),
    log(kind=TokenEventKind.MINT, log_index=6),
    log(kind=TokenEventKind.BURN, log_index=7),
]


@st.composite
def logs(draw, removals=EITHER):
    """Return a log of the handful above in any block, or its removal."""
    number = draw(st.integers(-20, 20))
    return msgspec.structs.replace(
        draw(st.sampled_from(SOME_LOGS)),
        block_number=block_at(number * 1_200),
        block_time_us=us(number * 1_200),
        is_removed=draw(removals),
    )


spans = st.builds(
    lambda begin, blocks: progress(begin * 1_200, (begin + blocks) * 1_200), st.integers(-20, 20), st.integers(0, 20)
)
ticks = st.builds(tick, st.integers(-10_000, 40_000))
items_lists = st.lists(st.one_of(logs(), logs(), spans, ticks), max_size=40)


@given(items=items_lists, restarts=st.sets(st.integers(0, 40)), limit=st.integers(1, 6))
def test_a_restart_at_any_point_changes_nothing(items, restarts, limit):
    built = with_parameters(max_transfers=limit)

    assert run(built, items, restarts) == run(built, items)


@given(items=items_lists, limit=st.integers(0, 6))
def test_the_memory_stays_within_its_bound(items, limit):
    machine = with_parameters(max_transfers=limit)(None)
    for item in items:
        machine.handlers()[type(item)](item)

        blocks = [msgspec.msgpack.decode(block) for block in machine.snapshot()[1]]
        remembered = [entry for _time_us, block in blocks for entry in block.values()]
        counted = [effect < 6 and amount_micros >= MILLION for _block, effect, amount_micros in remembered]
        assert counted.count(True) <= limit
        assert counted.count(False) <= limit
        assert all(block for _time_us, block in blocks)


def naive_sums(items, now_us):
    """Sum what stands at the end: of every log its last block, unless that was taken back."""
    standing = {}
    for event in items:
        identity = event.transaction_hash, event.log_index
        known = standing.get(identity)
        if not event.is_removed:
            if known is None or known.block_number != event.block_number:
                standing[identity] = event
        elif known is not None and known.block_number == event.block_number:
            del standing[identity]
    sums = Counter()
    for event in standing.values():
        becomes = next(iter(default(None).on_token_event(event)), None)
        if becomes is not None and becomes.is_counted and event.block_time_us > now_us - LOOKBACK_S * 1_000_000:
            sums[becomes.kind] += becomes.amount_micros
    return [sums[kind] for kind in (TransferKind.INFLOW, TransferKind.OUTFLOW, TransferKind.MINT, TransferKind.BURN)]


@given(events=st.lists(logs(), max_size=30), at_s=st.integers(-10_000, 25_000))
def test_the_sums_are_those_of_the_logs_that_stand(events, at_s):
    last = pressures([*events, progress(), tick(at_s)])[-1]

    assert [last.inflow_micros, last.outflow_micros, last.mint_micros, last.burn_micros] == naive_sums(events, us(at_s))


@given(data=st.data(), events=st.lists(logs(NEVER), max_size=15, unique_by=lambda event: event.log_index))
def test_repeats_and_disorder_change_no_sum(data, events):
    shuffled = data.draw(st.permutations(events + events))

    assert pressures([*shuffled, progress(), tick(0)]) == pressures([*events, progress(), tick(0)])
