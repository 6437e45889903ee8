import dataclasses
import random
from functools import partial

from asset_events import LONG, NOON_US, SECOND, SHORT, USD, at, cause, feed, feed_with_restarts, liquidation, tick
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from market.events import AssetTick, Liquidation
from market.parameters import Parameters, WindowParameters
from market.raw import Completeness
from market.readings import WINDOWS_S, LiquidationPulse, LiquidationWindows, SideWindows
from operators import liquidation_ledger, liquidation_side
from operators.liquidation_windows import LiquidationWindowsMachine
from operators.pace import phase_us

DEFAULTS = Parameters()
EMPTY = SideWindows((0,) * 6, (0,) * 6, (0,) * 6, {}, 0, 0, 0)

build = partial(LiquidationWindowsMachine, DEFAULTS)


def with_windows(**changes):
    return dataclasses.replace(DEFAULTS, windows=WindowParameters(**changes))


def windows_of(outs):
    return [out for out in outs if isinstance(out, LiquidationWindows)]


def pulses_of(outs):
    return [out for out in outs if isinstance(out, LiquidationPulse)]


def test_a_first_liquidation_is_followed_by_its_pulse_and_a_full_reading():
    event = liquidation(at_s=0, usd=5_000, delay_s=1)

    outs = feed(build(), [event])

    usd = 5_000 * USD
    assert outs == [
        event,
        LiquidationPulse(event.cause, "BTC", usd, 0, 1, 0, 1, 0, event),
        LiquidationWindows(
            event.cause, "BTC", SideWindows((usd,) * 6, (1,) * 6, (usd,) * 6, {"bybit-linear": usd}, usd, usd, 0), EMPTY
        ),
    ]


def test_each_window_begins_just_after_its_start():
    events = [liquidation(at_s=-seconds, usd=seconds) for seconds in reversed(WINDOWS_S)]
    last = liquidation(at_s=0, usd=1)

    reading = windows_of(feed(build(), [*events, last]))[-1]

    sums = (1, 11, 71, 161, 281, 581)
    assert reading.long == SideWindows(
        usd_micros=tuple(usd * USD for usd in sums),
        counts=(1, 2, 3, 4, 5, 6),
        largest_micros=tuple(usd * USD for usd in (1, 10, 60, 90, 120, 300)),
        venue_micros={"bybit-linear": 71 * USD},
        full_micros=71 * USD,
        peak_micros=270 * USD,
        late_count=0,
    )


def test_sides_venues_and_completeness_are_told_apart():
    events = [
        liquidation(usd=10, venue="binance-usdm", completeness=Completeness.SAMPLED),
        liquidation(usd=20, venue="okx"),
        liquidation(usd=40, venue="okx", completeness=Completeness.SAMPLED),
        liquidation(usd=80, position_side=SHORT),
    ]

    outs = feed(build(), [*events, tick(at_s=1)])

    assert pulses_of(outs)[-1] == LiquidationPulse(cause(), "BTC", 70 * USD, 80 * USD, 3, 1, 2, 1, events[-1])
    reading = windows_of(outs)[-1]
    assert (reading.long.venue_micros, reading.long.full_micros) == ({"binance-usdm": 10 * USD, "okx": 60 * USD}, 20 * USD)
    assert (reading.short.venue_micros, reading.short.full_micros) == ({"bybit-linear": 80 * USD}, 80 * USD)


def test_full_readings_come_once_per_interval_of_the_clock_and_the_tick_brings_the_rest():
    outs = feed(build(), [liquidation(0.2), liquidation(0.5), tick(1.0), liquidation(1.7), tick(2.001), tick(3.0)])

    assert [(out.cause, out.long.counts[0]) for out in windows_of(outs)] == [
        (cause(0.2), 1),
        (cause(1.0), 2),
        (cause(2.001), 3),
    ]


def test_an_interval_of_zero_gives_a_reading_for_every_liquidation():
    machine = LiquidationWindowsMachine(with_windows(emit_interval_us=0))

    outs = feed(machine, [liquidation(0.2), liquidation(0.200001)])

    assert len(windows_of(outs)) == 2


def test_a_tick_publishes_when_time_alone_changed_a_window_and_only_then():
    machine = build()
    feed(machine, [liquidation(0.0)])

    counts = {second: [out.long.counts for out in windows_of(feed(machine, [tick(second)]))] for second in range(1, 91)}

    assert {second: read for second, read in counts.items() if read} == {
        10: [(0, 1, 1, 1, 1, 1)],
        60: [(0, 0, 1, 1, 1, 1)],
        90: [(0, 0, 0, 1, 1, 1)],
    }


def test_what_a_tick_publishes_goes_before_the_tick():
    outs = feed(build(), [liquidation(0.0), tick(10.0)])

    assert [type(out) for out in outs[3:]] == [LiquidationWindows, AssetTick]


def test_a_late_liquidation_is_counted_and_goes_on_but_enters_no_window():
    just_in_time = liquidation(0, delay_s=10)
    late = liquidation(0, delay_s=10.000001)
    machine = build()

    outs = feed(machine, [just_in_time, late, tick(1)])

    assert outs[3] == late
    assert [out.long.late_count for out in windows_of(outs)] == [0, 1]
    assert [out.long.counts[-1] for out in windows_of(outs)] == [1, 1]


def test_the_peak_lasts_until_the_90_second_sum_is_zero():
    outs = feed(
        build(), [liquidation(0, usd=100), tick(60), liquidation(60, usd=50), tick(91), tick(150), liquidation(151, usd=7)]
    )

    assert [out.long.peak_micros // USD for out in windows_of(outs)] == [100, 100, 150, 0, 7]


def test_disorder_within_the_lateness_changes_nothing_but_the_order_of_arrival():
    in_order = [liquidation(at_s=second, usd=second, sequence=second) for second in range(1, 10)]
    swapped = [liquidation(at_s=9, usd=second, delay_s=9 - second, sequence=second) for second in (3, 1, 2, 9, 5, 4, 8, 7, 6)]

    readings = [windows_of(feed(build(), [*events, tick(12)]))[-1] for events in (in_order, swapped)]

    assert readings[0] == readings[1]
    assert readings[0].cause == cause(12)


def test_a_quiet_asset_is_forgotten_an_hour_later_and_begins_anew():
    machine = build()
    feed(machine, [liquidation(0.0), liquidation(0.0, delay_s=11, position_side=SHORT)])
    outs = feed(machine, [tick(1), tick(3600)])

    assert windows_of(outs)[-1] == LiquidationWindows(
        cause(3600), "BTC", EMPTY, SideWindows((0,) * 6, (0,) * 6, (0,) * 6, {}, 0, 0, 1)
    )
    assert not machine.is_idle()
    assert feed(machine, [tick(3601)]) == [tick(3601)]
    assert machine.is_idle()
    assert feed(machine, [tick(3602)]) == [tick(3602)]
    assert machine.is_idle()


def test_a_late_liquidation_alone_is_told_and_kept_for_an_hour():
    machine = build()
    outs = feed(machine, [liquidation(0.0, delay_s=11), tick(1), tick(2), tick(3600)])

    assert [(out.cause, out.long.late_count) for out in windows_of(outs)] == [(cause(1), 1)]
    assert machine.is_idle()


def test_more_venues_than_can_be_told_apart_are_summed():
    machine = build()
    events = [liquidation(0, usd=1, venue=f"venue-{number}") for number in range(liquidation_side.MAX_VENUES + 2)]

    outs = feed(machine, [*events, tick(1)])

    reading = windows_of(outs)[-1].long
    assert len(reading.venue_micros) == liquidation_side.MAX_VENUES
    assert reading.venue_micros["other"] == 3 * USD
    restarted = build(machine.snapshot())
    assert windows_of(feed(restarted, [liquidation(2, usd=1, venue="venue-99")]))[-1].long.venue_micros["other"] == 4 * USD


def test_beyond_the_limit_the_oldest_events_are_folded_out(monkeypatch):
    monkeypatch.setattr(liquidation_side, "MAX_EVENTS", 16)
    machine = build()

    outs = feed(machine, [*(liquidation(0.001 * number, usd=number) for number in range(1, 18)), tick(1)])

    reading = windows_of(outs)[-1].long
    assert (reading.counts, reading.usd_micros[0]) == ((14,) * 6, sum(range(4, 18)) * USD)
    assert pulses_of(feed(machine, [liquidation(1.5, usd=1)]))[0].long_count == 15


def test_beyond_the_largest_sum_the_oldest_events_are_folded_out(monkeypatch):
    monkeypatch.setattr(liquidation_ledger, "MAX_SUM_MICROS", 100 * USD)
    machine = build()

    outs = feed(machine, [*(liquidation(0.001 * number, usd=20) for number in range(6)), tick(1), liquidation(2, usd=101)])

    assert [(out.long.counts[0], out.long.usd_micros[0] // USD) for out in windows_of(outs)] == [(1, 20), (5, 100), (0, 0)]


def test_the_sums_begin_anew_before_they_grow_too_large(monkeypatch):
    monkeypatch.setattr(liquidation_ledger, "MAX_SUM_MICROS", 100 * USD)
    machine = build()

    outs = feed(machine, [liquidation(0, usd=30), liquidation(1200, usd=30), tick(3600), liquidation(3601, usd=60)])

    assert [out.long.usd_micros[-1] // USD for out in windows_of(outs)] == [30, 60, 30, 90]


def test_an_unchanged_side_is_not_copied_again():
    machine = build()
    feed(machine, [liquidation(0), liquidation(0, position_side=SHORT)])
    first = machine.snapshot()
    feed(machine, [liquidation(0.1)])

    second = machine.snapshot()

    assert second.short is first.short
    assert second.long is not first.long


class Recount:
    """The law, word by word: all events kept, all counted again each time."""

    def __init__(self, parameters):
        self.lateness_us = parameters.windows.allowed_lateness_us
        self.interval_us = parameters.windows.emit_interval_us
        self.forget()
        self.now_us = 0

    def forget(self):
        self.events = {LONG: [], SHORT: []}
        self.peaks = {LONG: 0, SHORT: 0}
        self.late = {LONG: 0, SHORT: 0}
        self.last_late_us = 0
        self.is_dirty = False
        self.slot = None
        self.last_counts = None

    def within(self, side, seconds):
        return [event for event in self.events[side] if event.event_time_us > self.now_us - seconds * SECOND]

    def sum(self, side, seconds):
        return sum(event.notional_micros for event in self.within(side, seconds))

    def follow_peak(self):
        for side in (LONG, SHORT):
            self.peaks[side] = max(self.peaks[side], self.sum(side, 90)) if self.sum(side, 90) else 0

    def side(self, side):
        last_90_s = self.within(side, 90)
        return SideWindows(
            tuple(self.sum(side, seconds) for seconds in WINDOWS_S),
            tuple(len(self.within(side, seconds)) for seconds in WINDOWS_S),
            tuple(max((event.notional_micros for event in self.within(side, seconds)), default=0) for seconds in WINDOWS_S),
            {
                venue: sum(event.notional_micros for event in last_90_s if event.venue == venue)
                for venue in {event.venue for event in last_90_s}
            },
            sum(event.notional_micros for event in last_90_s if event.completeness is Completeness.FULL),
            self.peaks[side],
            self.late[side],
        )

    def counts(self):
        return [len(self.within(side, seconds)) for side in (LONG, SHORT) for seconds in WINDOWS_S]

    def pulse(self, event):
        def venues(side):
            return len({seen.venue for seen in self.within(side, 90)})

        return LiquidationPulse(
            event.cause,
            event.asset,
            self.sum(LONG, 90),
            self.sum(SHORT, 90),
            len(self.within(LONG, 90)),
            len(self.within(SHORT, 90)),
            venues(LONG),
            venues(SHORT),
            event,
        )

    def interval(self):
        return (self.now_us - phase_us("BTC")) // self.interval_us

    def publish(self, item):
        self.slot = self.interval()
        self.is_dirty = False
        self.last_counts = self.counts()
        return LiquidationWindows(item.cause, item.asset, self.side(LONG), self.side(SHORT))

    def __call__(self, item):
        self.now_us = max(self.now_us, item.cause.receive_time_us)
        self.follow_peak()
        is_free = self.slot != self.interval()
        if isinstance(item, Liquidation):
            self.is_dirty = True
            if self.now_us - item.event_time_us > self.lateness_us:
                self.late[item.position_side] += 1
                self.last_late_us = self.now_us
                return [item]
            self.events[item.position_side].append(item)
            self.follow_peak()
            pulse = self.pulse(item)
            return [item, pulse, self.publish(item)] if is_free else [item, pulse]
        if is_free and (self.is_dirty or (self.last_counts is not None and self.counts() != self.last_counts)):
            return [self.publish(item), item]
        if is_free and self.slot is not None and not any(self.counts()) and self.now_us - self.last_late_us >= 3600 * SECOND:
            self.forget()
        return [item]


@st.composite
def items_of_an_asset(draw):
    gaps = st.one_of(st.just(0.0), st.floats(0, 2), st.sampled_from([1.0, 9.9, 10.0, 30.0, 89.0, 90.0, 300.0, 3595.0, 4000.0]))
    delays = st.one_of(st.just(0.0), st.floats(0, 12), st.sampled_from([9.0, 10.0, 95.0]))
    items, now_s = [], 0.0
    for sequence in range(draw(st.integers(1, 25))):
        now_s = round(now_s + draw(gaps), 3)
        if draw(st.booleans()):
            items.append(tick(now_s, sequence))
            continue
        burst = draw(st.sampled_from([1, 1, 1, 12]))
        for _ in range(burst):
            items.append(
                liquidation(
                    now_s,
                    usd=draw(st.integers(0, 5)),
                    position_side=draw(st.sampled_from([LONG, LONG, SHORT])),
                    venue=draw(st.sampled_from(["binance-usdm", "bybit-linear", "okx"])),
                    delay_s=round(draw(delays), 3),
                    completeness=draw(st.sampled_from(list(Completeness))),
                    sequence=sequence,
                ),
            )
    return items


@settings(max_examples=examples(80))
@given(
    items_of_an_asset(),
    st.sets(st.integers(0, 100)),
    st.sampled_from(
        [WindowParameters(), WindowParameters(allowed_lateness_us=100 * SECOND, emit_interval_us=120 * SECOND)],
    ),
    st.booleans(),
)
def test_every_reading_is_what_a_recount_says_whatever_the_order_and_the_restarts(items, restarts, windows, forgets):
    parameters = dataclasses.replace(DEFAULTS, windows=windows)
    recount = Recount(parameters)

    outs, _ = feed_with_restarts(partial(LiquidationWindowsMachine, parameters), items, restarts, forget_when_idle=forgets)

    assert outs == [out for item in items for out in recount(item)]


@settings(max_examples=examples(50))
@given(items_of_an_asset())
def test_a_quiet_asset_becomes_idle_and_its_state_small(items):
    end_s = (items[-1].cause.receive_time_us - NOON_US) / SECOND

    _, machine = feed_with_restarts(build, [*items, tick(end_s + 3601), tick(end_s + 7300), tick(end_s + 7302)])

    assert machine.is_idle()
    assert machine.snapshot() == build().snapshot()


def test_a_receive_time_that_goes_back_is_taken_for_the_latest_so_far():
    outs = feed(build(), [liquidation(100), liquidation(5, delay_s=-92), tick(101)])

    assert [out.long.counts for out in windows_of(outs)] == [(1,) * 6, (2,) * 6]
    assert at(97) == outs[3].event_time_us


def test_many_liquidations_at_once_are_counted_as_few_are():
    chance = random.Random(1)  # noqa: S311 - data of a test
    items = []
    for second in range(2):
        for sequence in range(150):
            side, venue = chance.choice([LONG, SHORT, LONG]), chance.choice(["binance-usdm", "bybit-linear", "okx"])
            item = liquidation(
                second + sequence / 200,
                usd=chance.randrange(1, 1_000),
                position_side=side,
                venue=venue,
                delay_s=chance.random(),
                sequence=sequence,
            )
            items.append(item)
        items.append(tick(second + 1))
    items += [tick(91), tick(92.5), tick(400)]
    recount = Recount(DEFAULTS)

    assert feed(build(), items) == [out for item in items for out in recount(item)]
