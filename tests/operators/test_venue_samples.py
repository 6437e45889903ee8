"""A track of samples against the list of all that was written to it."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from operators.venue_derivatives import Levels, Sample, Track

INTERVAL_US, REACH_US = 10, 60
TOLERANCE_US = 2 * INTERVAL_US


class Written(NamedTuple):
    time_us: int
    sample: Sample


def levels(number: int) -> Levels:
    """Return levels that no other number has; every third instrument and value is unknown."""
    known = {symbol: float(number) for place, symbol in enumerate("ab") if (number + place) % 3}
    return Levels(known, float(number) if number % 4 else None, float(number), None, None)


def written(times_us: list[int], track: Track) -> list[Written]:
    """Write at these times; return what is to be found: the last of each interval, as far back as a look-back reaches."""
    kept: list[Written] = []
    for number, time_us in enumerate(times_us, start=1):
        track.write(time_us, levels(number))
        if kept and kept[-1].time_us // INTERVAL_US == time_us // INTERVAL_US:
            kept.pop()
        said = levels(number)
        kept.append(Written(time_us, Sample(said.open_interest, said.funding, said.price)))
    now_us = times_us[-1] if times_us else 0
    return [each for each in kept if each.time_us >= now_us - REACH_US - TOLERANCE_US]


def found(kept: list[Written], start_us: int) -> Sample | None:
    last = next((each for each in reversed(kept) if each.time_us <= start_us), None)
    return None if last is None or last.time_us < start_us - TOLERANCE_US else last.sample


@settings(max_examples=examples(200))
@given(st.lists(st.integers(0, 25), max_size=30), st.integers(0, 29))
def test_a_sample_is_the_last_one_up_to_a_moment_unless_it_is_too_old(pauses_us: list[int], restart_at: int) -> None:
    times_us = [1_000 + sum(pauses_us[: number + 1]) for number in range(len(pauses_us))]
    track = Track(INTERVAL_US, REACH_US, None)
    written(times_us[:restart_at], track)
    track = Track(INTERVAL_US, REACH_US, track.snapshot())
    for number, time_us in enumerate(times_us[restart_at:], start=restart_at + 1):
        track.write(time_us, levels(number))

    kept = written(times_us, Track(INTERVAL_US, REACH_US, None))
    end_us = times_us[-1] if times_us else 1_000
    for start_us in range(end_us - REACH_US - 2 * TOLERANCE_US, end_us + 2 * TOLERANCE_US):
        assert track.sample_at(start_us) == found(kept, start_us)
        until_us = min((until for until in track.holds_until_us(start_us) if until >= start_us), default=None)
        if until_us is None:
            assert found(kept, start_us) is None
            assert not kept or start_us > kept[-1].time_us
        else:
            assert {repr(found(kept, at_us)) for at_us in range(start_us, until_us + 1)} == {repr(found(kept, start_us))}
            assert found(kept, until_us + 1) != found(kept, start_us)


def test_an_instrument_that_is_forgotten_is_in_no_sample() -> None:
    track = Track(INTERVAL_US, REACH_US, None)
    track.write(0, levels(1))
    track.write(20, levels(4))

    track.forget("b")

    assert [track.sample_at(0), track.sample_at(20)] == [Sample({"a": 1.0}, 1.0, 1.0), Sample({"a": 4.0}, None, 4.0)]
