"""When events are folded out early, what is left is what the sums say: found wanting by mutation testing."""

from functools import partial

from asset_events import USD, feed, liquidation, tick

from market.parameters import Parameters
from market.readings import LiquidationPulse, LiquidationWindows
from operators import liquidation_ledger, liquidation_side
from operators.liquidation_windows import LiquidationWindowsMachine

build = partial(LiquidationWindowsMachine, Parameters())


def newest(kind, outs):
    return [out for out in outs if isinstance(out, kind)][-1]


def test_what_leaves_the_last_ninety_seconds_leaves_their_sum_and_count(monkeypatch):
    monkeypatch.setattr(liquidation_side, "MAX_EVENTS", 16)
    machine = build()
    feed(machine, [*(liquidation(0.001 * number, usd=number) for number in range(1, 18)), tick(1.5)])

    pulse = newest(LiquidationPulse, feed(machine, [liquidation(2, usd=1)]))

    assert (pulse.long_count, pulse.long_micros) == (15, (sum(range(4, 18)) + 1) * USD)


def test_what_had_left_them_before_is_not_taken_off_again(monkeypatch):
    monkeypatch.setattr(liquidation_side, "MAX_EVENTS", 16)
    machine = build()
    old = [liquidation(0.001 * number, usd=1_000) for number in range(10)]
    feed(machine, [*old, *(liquidation(100 + 0.001 * number, usd=number) for number in range(1, 8)), tick(101.5)])

    outs = feed(machine, [liquidation(102, usd=1), tick(103.5)])
    pulse, reading = newest(LiquidationPulse, outs), newest(LiquidationWindows, outs).long

    assert (pulse.long_count, pulse.long_micros) == (8, 29 * USD)
    assert (reading.counts[-1], reading.usd_micros[-1]) == (15, (7_000 + 29) * USD)


def test_when_all_of_it_is_folded_out_the_peak_begins_anew(monkeypatch):
    monkeypatch.setattr(liquidation_ledger, "MAX_SUM_MICROS", 100 * USD)
    machine = build()

    emptied = newest(LiquidationWindows, feed(machine, [liquidation(0, usd=101), tick(1.5)])).long
    later = newest(LiquidationWindows, feed(machine, [liquidation(3, usd=2), tick(4.5)])).long

    assert (emptied.counts, emptied.peak_micros) == ((0,) * 6, 0)
    assert (later.usd_micros[0], later.peak_micros) == (2 * USD, 2 * USD)


def test_a_restart_after_folding_out_changes_nothing(monkeypatch):
    monkeypatch.setattr(liquidation_side, "MAX_EVENTS", 16)
    machine = build()
    feed(machine, [*(liquidation(0.001 * number, usd=number) for number in range(1, 18)), tick(1.5)])
    restarted = build(machine.snapshot())

    for at_s in (2.0, 50.0, 91.0):
        item = liquidation(at_s, usd=5)
        assert feed(restarted, [item]) == feed(machine, [item])
