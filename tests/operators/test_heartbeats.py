"""Which assets hear of the clock, of pressure and of mining."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_machines import cause, histories, run, tick, us
from property_examples import examples

from market.events import AssetMiners, AssetPressure, AssetTick, Derivatives, Liquidation, MinerDay, Pressure
from market.parameters import Parameters, WatchParameters
from market.raw import Completeness, PositionSide, Tick
from operators.heartbeats import Heartbeats
from operators.pace import is_due

ACTIVE_S = 100


def with_parameters(watched=(), max_assets=5_000):
    watch = WatchParameters(watched_assets=watched, active_us=ACTIVE_S * 1_000_000, max_assets=max_assets)
    return lambda state: Heartbeats(Parameters(watch=watch), state)


unwatched = with_parameters()
watching = with_parameters(watched=("ETH", "BTC"))


def liquidation(at_s, asset="BTC"):
    return Liquidation(
        cause(at_s), "okx", f"{asset}-USDT-SWAP", asset, PositionSide.LONG, 1.0, 1.0, 1_000_000, Completeness.FULL, us(at_s)
    )


def derivatives(at_s, asset="BTC"):
    return Derivatives(
        cause(at_s), "okx", f"{asset}-USDT-SWAP", asset, us(at_s), 1.0, None, None, None, None, None, None, None
    )


def pressure(at_s, value=7):
    return Pressure(cause(at_s), value, 0, 0, 0, 0, 0, 0, 0, 0, us(-20_000), us(0))


def miners(at_s, day="2025-12-31", price_usd=90_000.0, *, is_final=True):
    return MinerDay(cause(at_s), day, price_usd, 1e14, None, 40.0, {"15": 50_000.0}, {}, is_final)


def asset_ticks(at_s, *assets):
    return [AssetTick(cause(at_s), asset) for asset in assets]


def asset_pressures(at_s, what, *assets):
    return [AssetPressure(cause(at_s), asset, what) for asset in assets]


def asset_miners(at_s, what, *assets):
    return [AssetMiners(cause(at_s), asset, what) for asset in assets]


# Ticks


def test_frequent_ticks_reach_each_asset_once_a_second_at_a_moment_of_its_own():
    ticks = [tick(tenth / 10) for tenth in range(30)]

    outputs = run(watching, ticks)

    heard = [(at, output.asset) for at, became in enumerate(outputs) for output in became if isinstance(output, AssetTick)]
    # The phases are 0.990918 s (BTC) and 0.163211 s (ETH); the first tick of all reaches everybody.
    assert heard == [(0, "BTC"), (0, "ETH"), (2, "ETH"), (10, "BTC"), (12, "ETH"), (20, "BTC"), (22, "ETH")]


def test_a_tick_goes_on_and_then_to_every_active_asset_by_name():
    items = [liquidation(0, "SOL"), derivatives(0.5, "ADA"), tick(1)]

    assert run(unwatched, items) == [[items[0]], [items[1]], [items[2], *asset_ticks(1, "ADA", "SOL")]]


def test_an_asset_without_events_gets_no_tick():
    assert run(unwatched, [tick(1)]) == [[tick(1)]]


def test_an_asset_is_active_until_the_time_after_its_last_event_is_over():
    items = [liquidation(0), derivatives(10), tick(10 + ACTIVE_S), tick(10.000_001 + ACTIVE_S)]

    assert run(unwatched, items)[2:] == [[items[2], *asset_ticks(10 + ACTIVE_S, "BTC")], [items[3]]]


def test_watched_assets_are_active_from_the_first_tick_on_for_ever():
    items = [tick(0), tick(10 * ACTIVE_S)]

    assert run(watching, items) == [
        [item, *asset_ticks(at_s, "BTC", "ETH")] for item, at_s in ((tick(0), 0), (items[1], 1_000))
    ]


def test_an_asset_that_is_no_longer_watched_falls_quiet():
    machine = watching(None)
    machine.on_tick(tick(0))
    machine = unwatched(machine.snapshot())

    assert machine.on_tick(tick(ACTIVE_S)) == [tick(ACTIVE_S), *asset_ticks(ACTIVE_S, "BTC", "ETH")]
    assert machine.on_tick(tick(ACTIVE_S + 1)) == [tick(ACTIVE_S + 1)]


# Slow data


def test_pressure_goes_to_every_active_asset():
    items = [liquidation(0, "SOL"), liquidation(0, "ADA"), pressure(1)]

    assert run(unwatched, items)[2] == [pressure(1), *asset_pressures(1, pressure(1), "ADA", "SOL")]


def test_a_miner_day_goes_to_every_active_asset_even_while_it_is_running():
    items = [liquidation(0), miners(1, is_final=False), miners(2, price_usd=91_000.0)]

    assert run(unwatched, items)[1:] == [
        [items[1], *asset_miners(1, items[1], "BTC")],
        [items[2], *asset_miners(2, items[2], "BTC")],
    ]


def test_an_earlier_miner_day_only_passes():
    items = [liquidation(0), miners(1), miners(2, "2025-12-30"), liquidation(3, "ETH")]

    assert run(unwatched, items)[2:] == [[items[2]], [items[3], *asset_miners(3, miners(1), "ETH")]]


def test_an_asset_that_becomes_active_is_sent_the_newest_of_both_after_its_event():
    items = [pressure(0, 1), pressure(1, 2), miners(2), liquidation(3), liquidation(4)]

    assert run(unwatched, items)[3:] == [
        [items[3], *asset_pressures(3, pressure(1, 2), "BTC"), *asset_miners(3, miners(2), "BTC")],
        [items[4]],
    ]


def test_an_asset_that_becomes_active_again_is_sent_them_again():
    items = [pressure(0), liquidation(1), tick(2 + ACTIVE_S), liquidation(3 + ACTIVE_S)]

    assert run(unwatched, items)[3] == [items[3], *asset_pressures(3 + ACTIVE_S, pressure(0), "BTC")]


def test_a_watched_asset_is_sent_them_before_its_first_tick():
    items = [pressure(0), tick(1), tick(2)]

    assert run(with_parameters(watched=("BTC",)), items)[1:] == [
        [items[1], *asset_pressures(1, pressure(0), "BTC"), *asset_ticks(1, "BTC")],
        [items[2], *asset_ticks(2, "BTC")],
    ]


# Bounds


def test_beyond_the_limit_the_asset_quiet_for_longest_is_dropped():
    items = [liquidation(1, "A"), liquidation(2, "B"), liquidation(3, "A"), liquidation(4, "C"), tick(5)]

    assert run(with_parameters(max_assets=2), items)[4] == [items[4], *asset_ticks(5, "A", "C")]


def test_of_two_equally_quiet_assets_the_one_known_for_longer_is_dropped():
    items = [liquidation(1, "B"), liquidation(1, "A"), liquidation(1, "C"), tick(5)]

    assert run(with_parameters(max_assets=2), items)[3] == [items[3], *asset_ticks(5, "A", "C")]


def test_watched_assets_are_never_dropped():
    items = [tick(0), liquidation(1, "A"), liquidation(2, "B"), tick(3)]

    assert run(with_parameters(("BTC", "ETH"), max_assets=1), items)[3] == [items[3], *asset_ticks(3, "B", "BTC", "ETH")]


def test_without_room_for_others_only_watched_assets_are_active():
    items = [tick(0), liquidation(1, "A"), tick(3)]

    assert run(with_parameters(("BTC",), max_assets=0), items)[2] == [items[2], *asset_ticks(3, "BTC")]


def test_it_never_becomes_idle():
    assert not unwatched(None).is_idle()


# Properties


KINDS = {
    "tick": lambda at_s, _asset, _day: tick(at_s),
    "liquidation": lambda at_s, asset, _day: liquidation(at_s, asset),
    "derivatives": lambda at_s, asset, _day: derivatives(at_s, asset),
    "pressure": lambda at_s, _asset, _day: pressure(at_s, round(at_s) % 100),
    "miners": lambda at_s, _asset, day: miners(at_s, day, at_s),
}
HISTORIES = histories(KINDS, [0, 1, 60, 101, -5], ["ADA", "BTC", "ETH", "SOL", "XRP"], ["2025-12-30", "2025-12-31"])


@settings(max_examples=examples(80))
@given(items=HISTORIES, restarts=st.sets(st.integers(0, 30)), max_assets=st.integers(0, 3))
def test_a_restart_at_any_point_changes_nothing(items, restarts, max_assets):
    built = with_parameters(("BTC",), max_assets)

    assert run(built, items, restarts) == run(built, items)


@given(items=HISTORIES, max_assets=st.integers(0, 3))
def test_whatever_comes_passes_on_first_and_the_state_stays_bounded(items, max_assets):
    machine = with_parameters(("BTC", "ETH"), max_assets)(None)
    for item in items:
        assert next(iter(machine.handlers()[type(item)](item))) is item
        assert len(msgspec.msgpack.decode(machine.snapshot())[0]) <= max_assets + 2


@given(items=HISTORIES)
def test_an_asset_with_a_tick_has_been_sent_the_newest_pressure_and_miner_day(items):
    newest_pressure = newest_miners = None
    known_pressure, known_miners = {}, {}
    for output in (output for outputs in run(watching, items) for output in outputs):
        if isinstance(output, Pressure):
            newest_pressure = output
        elif isinstance(output, MinerDay) and (newest_miners is None or output.day >= newest_miners.day):
            newest_miners = output
        elif isinstance(output, AssetPressure):
            known_pressure[output.asset] = output.pressure
        elif isinstance(output, AssetMiners):
            known_miners[output.asset] = output.miners
        elif isinstance(output, AssetTick):
            assert known_pressure.get(output.asset) == newest_pressure
            assert known_miners.get(output.asset) == newest_miners


@given(items=HISTORIES)
def test_exactly_the_assets_heard_of_within_the_time_and_due_get_a_tick(items):
    heard_us, expected, seen, ticked_us = {}, [], [], 0
    for item, outputs in zip(items, run(unwatched, items), strict=True):
        if isinstance(item, Tick):
            begin_us = item.cause.receive_time_us - ACTIVE_S * 1_000_000
            now_us = item.cause.receive_time_us
            expected.append(
                sorted(
                    asset for asset, last_us in heard_us.items() if last_us >= begin_us and is_due(asset, now_us, ticked_us)
                )
            )
            ticked_us = now_us
            seen.append([output.asset for output in outputs if isinstance(output, AssetTick)])
        elif isinstance(item, Liquidation | Derivatives):
            heard_us[item.asset] = item.cause.receive_time_us

    assert seen == expected
