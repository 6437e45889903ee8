import dataclasses
import math
from functools import partial

import pytest
from asset_events import SECOND, at, cause, derivatives, feed, feed_with_restarts, tick
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from market.events import AssetTick
from market.parameters import DeltaParameters, Parameters
from market.raw import Cause
from market.readings import DELTA_WINDOWS_S, DerivativesReading
from operators import deltas as deltas_module
from operators import venue_derivatives
from operators.deltas import Deltas
from operators.pace import next_emission_us
from operators.venue_derivatives import weighted_mean

DEFAULTS = Parameters()
HOUR, DAY = 3600, 86_400
LOOK_BACKS = ("5m", "1h", "24h")

build = partial(Deltas, DEFAULTS)


def readings_of(outs):
    return [out for out in outs if isinstance(out, DerivativesReading)]


def last(items, machine=None):
    return readings_of(feed(machine or build(), items))[-1]


def poll(at_s, open_interest=1_000.0, mark_price=100_000.0, funding_rate_8h=0.0001, **others):
    return derivatives(
        at_s, open_interest_base=open_interest, mark_price=mark_price, funding_rate_8h=funding_rate_8h, **others
    )


def tick_at(time_us):
    return AssetTick(Cause("0", 1, time_us), "BTC")


def polled(until_s, values, every_s=10, start_s=0, **others):
    """A poll and a tick every so often; ``values`` gives the poll's numbers at a second."""
    items = []
    for at_s in range(start_s, until_s + 1, every_s):
        items += [poll(at_s, *values(at_s), **others), tick(at_s)]
    return items


def all_missing(*venues, look_backs=LOOK_BACKS):
    return {f"{what}_{look_back}": venues for look_back in look_backs for what in ("open_interest", "funding", "price")}


def test_the_tick_after_a_first_poll_says_how_things_stand_and_that_no_change_is_known():
    event = poll(0, long_short_ratio=1.5, delay_s=2)

    outs = feed(build(), [event, tick(1)])

    assert outs == [
        event,
        DerivativesReading(
            cause=cause(1),
            asset="BTC",
            mark_price=100_000.0,
            price_changes_percent=(None, None, None),
            open_interest_base=1_000.0,
            open_interest_usd=100_000_000.0,
            open_interest_changes_percent=(None, None, None),
            venue_open_interest_changes_percent={},
            funding_rate_8h=0.0001,
            funding_changes=(None, None, None),
            venue_funding_changes={},
            long_short_ratio=1.5,
            missing=all_missing("bybit-linear"),
            oldest_input_time_us=at(-2),
        ),
        tick(1),
    ]


def test_open_interest_funding_and_price_change_over_the_same_five_minutes():
    reading = last(polled(420, lambda at_s: (1_000.0, 100_000.0, 0.0001) if at_s < 120 else (1_100.0, 99_000.0, 0.0004)))

    assert reading.open_interest_changes_percent == (10.0, None, None)
    assert reading.price_changes_percent == (-1.0, None, None)
    assert reading.funding_changes == (pytest.approx(0.0003), None, None)
    assert reading.venue_open_interest_changes_percent == {"bybit-linear": (10.0, None, None)}
    assert reading.venue_funding_changes == {"bybit-linear": (pytest.approx(0.0003), None, None)}
    assert reading.missing == {"long_short_ratio": ("bybit-linear",)} | all_missing("bybit-linear", look_backs=("1h", "24h"))


def test_a_day_is_compared_with_coarser_samples():
    reading = last(polled(DAY + 1200, lambda at_s: (1_000.0 + at_s / 60, 100_000.0, 0.0001), every_s=60))

    now = 1_000 + (DAY + 1200) / 60
    five_minutes, an_hour, a_day = reading.open_interest_changes_percent
    assert five_minutes == pytest.approx(100 * (now / (now - 5) - 1), rel=0.3)
    assert an_hour == pytest.approx(100 * (now / (now - 60) - 1), rel=0.05)
    assert a_day == pytest.approx(100 * (now / (now - 1440) - 1), rel=0.02)
    assert reading.missing == {"long_short_ratio": ("bybit-linear",)}


def test_levels_are_summed_or_weighted_by_open_interest_over_venues():
    reading = last(
        [
            poll(0, 3_000.0, 100_000.0, 0.0001, venue="binance-usdm", long_short_ratio=2.0),
            poll(0, 1_000.0, 100_400.0, 0.0005, venue="okx", long_short_ratio=1.0),
            tick(1),
        ],
    )

    assert reading.open_interest_base == 4_000.0
    assert reading.mark_price == pytest.approx(100_100.0)
    assert reading.open_interest_usd == pytest.approx(4_000 * 100_100.0)
    assert reading.funding_rate_8h == pytest.approx(0.0002)
    assert reading.long_short_ratio == pytest.approx(1.75)


def test_a_venues_instruments_are_summed_and_its_price_is_that_of_its_perpetuals():
    reading = last(
        [
            poll(0, 3_000.0, 100_000.0, 0.0001, symbol="BTCUSDT"),
            poll(0, 1_000.0, 100_400.0, 0.0005, symbol="BTCUSD"),
            poll(0, 2_000.0, 110_000.0, None, symbol="BTCUSDH26"),
            tick(1),
        ],
    )

    assert reading.open_interest_base == 6_000.0
    assert reading.mark_price == pytest.approx(100_100.0)
    assert reading.funding_rate_8h == pytest.approx(0.0002)
    assert last([poll(0, 2_000.0, 110_000.0, None), tick(1)]).mark_price == 110_000.0


def test_the_parts_of_one_poll_come_in_one_reading():
    parts = [derivatives(0, open_interest_base=5.0), derivatives(0.1, mark_price=2.0), derivatives(0.2, funding_rate_8h=0.1)]

    readings = readings_of(feed(build(), [*parts, tick(1), tick(2)]))

    assert [(out.open_interest_base, out.mark_price, out.funding_rate_8h) for out in readings] == [(5.0, 2.0, 0.1)]


def test_there_is_at_most_one_reading_per_interval_of_the_clock():
    outs = feed(build(), [poll(0), tick(1.2), poll(1.3), tick(1.4), tick(2.0)])

    assert [out.cause for out in readings_of(outs)] == [cause(1.2), cause(2.0)]


def test_the_next_interval_begins_with_its_first_microsecond():
    machine = build()
    feed(machine, [poll(0), tick(0), poll(0.1)])
    begin_us = next_emission_us("BTC", at(0), DEFAULTS.windows.emit_interval_us)

    assert readings_of(feed(machine, [tick_at(begin_us - 1)])) == []
    assert len(readings_of(feed(machine, [tick_at(begin_us)]))) == 1


def test_what_becomes_old_is_told_a_microsecond_later():
    machine = build()
    feed(machine, [poll(0), tick(0)])
    old_us = at(0) + 2 * DEFAULTS.deltas.sample_us + 1

    assert readings_of(feed(machine, [tick_at(old_us - 1)])) == []
    assert len(readings_of(feed(machine, [tick_at(old_us)]))) == 1


@pytest.mark.parametrize(("late_us", "expected"), [(0, ("bybit-linear",)), (1, None)])
def test_a_venue_is_expected_for_a_day_to_the_microsecond(late_us, expected):
    reading = last([poll(0), tick(0), poll(DAY, venue="okx"), tick_at(at(DAY) + late_us)])

    assert reading.missing.get("open_interest") == expected


def test_an_answer_that_comes_after_a_newer_one_changes_nothing():
    assert last([poll(10, 7.0), poll(11, 5.0, delay_s=5), tick(12)]).open_interest_base == 7.0


def test_only_venues_that_know_both_ends_enter_a_change_and_the_others_are_named():
    items = polled(600, lambda _: (1_000.0, 100_000.0, 0.0001))
    joined_late = polled(600, lambda _: (9_000.0, 100_000.0, 0.0001), start_s=400, venue="okx")

    reading = last(sorted([*items, *joined_late], key=lambda item: item.cause.receive_time_us))

    assert reading.open_interest_base == 10_000.0
    assert reading.open_interest_changes_percent[0] == 0.0
    assert reading.missing["open_interest_5m"] == ("okx",)
    assert reading.missing["price_1h"] == ("bybit-linear", "okx")


def test_an_instrument_listed_or_ended_meanwhile_changes_no_open_interest():
    items = polled(600, lambda _: (1_000.0, 100_000.0, 0.0001))
    ended = polled(300, lambda _: (500.0, 100_000.0, 0.0001), symbol="ended")
    listed = polled(600, lambda _: (700.0, 100_000.0, 0.0001), start_s=400, symbol="listed")

    reading = last(sorted([*items, *ended, *listed], key=lambda item: item.cause.receive_time_us))

    assert reading.open_interest_changes_percent[0] == 0.0
    assert reading.venue_open_interest_changes_percent["bybit-linear"][0] == 0.0


def test_where_no_instrument_is_there_at_both_ends_the_change_of_open_interest_is_missing():
    ended = polled(300, lambda _: (500.0, 100_000.0, 0.0001), symbol="ended")
    listed = polled(650, lambda _: (700.0, 100_000.0, 0.0001), start_s=400, symbol="listed")

    reading = last([*ended, *listed])

    assert reading.open_interest_changes_percent[0] is None
    assert reading.missing["open_interest_5m"] == ("bybit-linear",)
    assert "price_5m" not in reading.missing


def test_weights_that_move_do_not_look_like_a_price_that_moves():
    items = polled(600, lambda at_s: (1_000.0 + at_s, 100_000.0, 0.0001))
    dearer = polled(600, lambda _: (1_000.0, 101_000.0, 0.0001), venue="okx")

    reading = last(sorted([*items, *dearer], key=lambda item: item.cause.receive_time_us))

    assert reading.price_changes_percent[0] == 0.0
    assert reading.mark_price == pytest.approx((1_600 * 100_000 + 1_000 * 101_000) / 2_600)


def test_a_change_from_nothing_is_not_known():
    reading = last(polled(600, lambda at_s: (0.0 if at_s < 400 else 5.0, 1.0, 0.0)))

    assert reading.open_interest_changes_percent[0] is None
    assert reading.venue_open_interest_changes_percent == {}
    assert "open_interest_5m" not in reading.missing


def test_when_a_venue_falls_silent_ticks_say_what_becomes_old_and_at_last_nothing():
    machine = build()
    feed(machine, polled(600, lambda _: (1_000.0, 100_000.0, 0.0001)))

    seconds = [*range(601, 1_600), *range(1_600, DAY + 500, 50), *range(DAY + 500, DAY + 610)]
    told = readings_of(feed(machine, [tick(second) for second in seconds]))

    known_changes = [out.cause.receive_time_us for out in told if out.open_interest_changes_percent[0] is not None]
    known_levels = [out.cause.receive_time_us for out in told if out.open_interest_base is not None]
    expected = [out.cause.receive_time_us for out in told if out.missing]
    assert max(known_changes) <= at(720)
    assert next(out for out in told if out.cause.receive_time_us > at(720)).cause == cause(721)
    assert next(out for out in told if out.cause.receive_time_us > at(1500)).cause == cause(1501)
    assert max(known_levels) <= at(1500)
    assert max(expected) < at(601 + DAY)
    assert len(told) < 12
    assert told[-1] == DerivativesReading(
        cause=cause(601 + DAY),
        asset="BTC",
        mark_price=None,
        price_changes_percent=(None, None, None),
        open_interest_base=None,
        open_interest_usd=None,
        open_interest_changes_percent=(None, None, None),
        venue_open_interest_changes_percent={},
        funding_rate_8h=None,
        funding_changes=(None, None, None),
        venue_funding_changes={},
        long_short_ratio=None,
        missing={},
        oldest_input_time_us=None,
    )
    assert machine.is_idle()
    assert machine.snapshot() == build().snapshot()


@pytest.mark.slow
def test_an_ended_instrument_is_forgotten_after_a_day():
    items = [poll(0, symbol="ended"), tick(0), *polled(DAY + 60, lambda _: (1.0, 1.0, 0.0), every_s=60)]
    machine = build()
    feed(machine, items)

    assert list(machine.snapshot().venues["bybit-linear"].instruments) == ["BTCUSDT"]
    assert list(machine.snapshot().venues["bybit-linear"].coarse.open_interest) == ["BTCUSDT"]


def test_more_venues_or_instruments_than_the_limit_pass_unheard(monkeypatch):
    monkeypatch.setattr(deltas_module, "MAX_VENUES", 2)
    monkeypatch.setattr(venue_derivatives, "MAX_INSTRUMENTS", 2)
    items = [poll(0, 1.0, venue=f"venue-{number}", symbol=symbol) for number in range(3) for symbol in "abc"]

    outs = feed(build(), [*items, tick(1)])

    assert outs[:9] == items
    assert readings_of(outs)[0].open_interest_base == 4.0


@pytest.mark.slow
def test_the_state_stays_small_however_long_it_runs():
    machine = build()
    sizes = []
    for day in range(3):
        feed(machine, polled((day + 1) * DAY, lambda _: (1.0, 1.0, 0.0), every_s=300, start_s=day * DAY))
        venue = machine.snapshot().venues["bybit-linear"]
        sizes.append((len(venue.fine.times) // 8, len(venue.coarse.times) // 8))

    assert sizes[1] == sizes[2]
    assert sizes[2] == (13, 147)


def test_an_unchanged_venue_is_not_copied_again():
    machine = build()
    feed(machine, [poll(0), poll(0, venue="okx"), tick(1)])
    first = machine.snapshot()
    feed(machine, [poll(2), tick(2)])

    second = machine.snapshot()

    assert second.venues["okx"] is first.venues["okx"]
    assert second.venues["bybit-linear"] != first.venues["bybit-linear"]


@pytest.mark.parametrize(
    ("pairs", "mean"),
    [
        ([], None),
        ([(5.0, None)], 5.0),
        ([(5.0, None), (7.0, None)], 6.0),
        ([(5.0, 1.0), (7.0, None)], 5.0),
        ([(5.0, 0.0), (7.0, 0.0)], 6.0),
        ([(5.0, 1.0), (7.0, 3.0)], 6.5),
    ],
)
def test_a_mean_is_weighted_where_there_are_weights(pairs, mean):
    assert weighted_mean(pairs) == mean


@given(st.floats(-1, 1), st.lists(st.floats(0.1, 1e9), min_size=1))
def test_the_mean_of_equal_values_is_exactly_that_value(value, weights):
    assert weighted_mean([(value, weight) for weight in weights]) == value


class Recount:
    """The law, from the whole history: what was known at a moment, worked out anew each time."""

    def __init__(self, parameters):
        self.parameters = parameters.deltas
        self.fresh_us = 2 * self.parameters.sample_us
        self.polls = []
        self.written = {self.parameters.sample_us: {}, self.parameters.long_sample_us: {}}

    def known(self, venue, now_us, age_us):
        """Per symbol and field the newest value that is not too old."""
        newest = {}
        for event in self.polls:
            if event.venue == venue:
                for field in ("open_interest_base", "funding_rate_8h", "mark_price"):
                    value = getattr(event, field)
                    before = newest.get((event.symbol, field))
                    if value is not None and (before is None or event.event_time_us >= before[1]):
                        newest[event.symbol, field] = (value, event.event_time_us)
        return {key: value for key, (value, time_us) in newest.items() if time_us >= now_us - age_us}

    def on_tick(self, now_us, touched):
        for interval_us, written in self.written.items():
            for venue in touched:
                written[venue, now_us // interval_us] = (now_us, self.known(venue, now_us, self.fresh_us))

    def before(self, venue, now_us, look_back_us):
        interval_us = self.parameters.sample_us if look_back_us <= HOUR * SECOND else self.parameters.long_sample_us
        start_us = now_us - look_back_us
        rows = [row for (name, _), row in self.written[interval_us].items() if name == venue and row[0] <= start_us]
        row = max(rows, default=None, key=lambda row: row[0])
        return row[1] if row is not None and row[0] >= start_us - 2 * interval_us else {}

    def open_interest_changes(self, venues, now_us):
        changes = []
        for seconds in DELTA_WINDOWS_S:
            now_sum = then_sum = 0.0
            for venue in venues:
                now = self.known(venue, now_us, self.fresh_us)
                then = self.before(venue, now_us, seconds * SECOND)
                for key in now.keys() & then.keys():
                    if key[1] == "open_interest_base":
                        now_sum += now[key]
                        then_sum += then[key]
            changes.append(100 * (now_sum - then_sum) / then_sum if then_sum else None)
        return tuple(changes)


QUICK = dataclasses.replace(DEFAULTS, deltas=DeltaParameters(sample_us=60 * SECOND, long_sample_us=600 * SECOND))


@st.composite
def markets(draw):
    items, now_s = [], 0
    for sequence in range(draw(st.integers(1, 30))):
        now_s += draw(st.sampled_from([0, 1, 10, 60, 110, 290, 900, 3000, 40_000, 86_000]))
        if draw(st.integers(0, 2)) == 0:
            items.append(tick(now_s, sequence))
        else:
            items.append(
                derivatives(
                    now_s,
                    venue=draw(st.sampled_from(["bybit-linear", "okx"])),
                    symbol=draw(st.sampled_from(["BTCUSDT", "BTCUSD"])),
                    delay_s=draw(st.sampled_from([0, 0, 5, 100])),
                    sequence=sequence,
                    open_interest_base=draw(st.sampled_from([None, 1.0, 2.0, 5.0])),
                    funding_rate_8h=draw(st.sampled_from([None, 0.0001, 0.0005])),
                    mark_price=draw(st.sampled_from([None, 100.0, 103.0])),
                ),
            )
    return items, now_s


@settings(max_examples=examples(70))
@given(markets(), st.sets(st.integers(0, 40)), st.booleans())
def test_a_restart_at_any_point_changes_nothing(market, restarts, forgets):
    items, end_s = market
    items = [*items, tick(end_s + 1), tick(end_s + DAY + 1), tick(end_s + DAY + 2)]

    outs, machine = feed_with_restarts(build, items, restarts, forget_when_idle=forgets)

    assert outs == feed(build(), items)
    assert machine.is_idle()


@settings(max_examples=examples(70))
@given(markets())
def test_changes_are_what_the_whole_history_says(market):
    items, end_s = market
    machine, recount, touched = build(), Recount(DEFAULTS), set()
    venues = {}
    for item in [*items, tick(end_s + 10), tick(end_s + 300)]:
        outs = feed(machine, [item])
        now_us = item.cause.receive_time_us
        if isinstance(item, type(tick())):
            for reading in readings_of(outs):
                recount.on_tick(now_us, touched)
                touched = set()
                venues = {venue: seen_us for venue, seen_us in venues.items() if now_us - seen_us <= DAY * SECOND}
                expected = recount.open_interest_changes(venues, now_us)
                assert [change is None for change in reading.open_interest_changes_percent] == [
                    change is None for change in expected
                ]
                for change, wanted in zip(reading.open_interest_changes_percent, expected, strict=True):
                    assert change is None or math.isclose(change, wanted, abs_tol=1e-9)
        else:
            recount.polls.append(item)
            touched.add(item.venue)
            venues[item.venue] = now_us


@settings(max_examples=examples(60))
@given(markets())
def test_a_change_is_unknown_exactly_where_every_venue_is_named_as_missing_it(market):
    items, _ = market
    machine, heard = build(), {}
    for item in items:
        heard.update({item.venue: item.cause.receive_time_us} if hasattr(item, "venue") else {})
        for reading in readings_of(feed(machine, [item])):
            now_us = reading.cause.receive_time_us
            expected = {venue for venue, heard_us in heard.items() if now_us - heard_us <= DAY * SECOND}
            levels = {
                "open_interest": reading.open_interest_base,
                "funding": reading.funding_rate_8h,
                "price": reading.mark_price,
                "long_short_ratio": reading.long_short_ratio,
            }
            for number, look_back in enumerate(LOOK_BACKS):
                levels[f"funding_{look_back}"] = reading.funding_changes[number]
                levels[f"price_{look_back}"] = reading.price_changes_percent[number]
                levels[f"open_interest_{look_back}"] = reading.open_interest_changes_percent[number]
                for venue in expected:
                    is_known = reading.venue_funding_changes.get(venue, (None,) * 3)[number] is not None
                    assert is_known == (venue not in reading.missing.get(f"funding_{look_back}", ()))
            for name, level in levels.items():
                missing = reading.missing.get(name, ())
                assert set(missing) <= expected
                assert list(missing) == sorted(set(missing))
                assert (level is None) == (set(missing) == expected)
            if reading.oldest_input_time_us is not None:
                assert now_us - reading.oldest_input_time_us <= DEFAULTS.deltas.max_age_us
