"""What each scenario promises to those who build on it, in the numbers that a cascade detector looks at."""

import json
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from told_stories import NOON_MS, until

from simulator.__main__ import main
from simulator.instruments import VENUES
from simulator.positions import LONG, SHORT
from simulator.scenarios import SCENARIOS

REPOSITORY = Path(__file__).parents[2]
WINDOW_MS = 90_000


def of(records_, *, asset, side, is_published=True):
    return [
        each
        for each in records_
        if each.liquidation.instrument.asset == asset
        and each.liquidation.position_side == side
        and (each.sent_ms is not None or not is_published)
    ]


def usd(records_):
    return sum(each.notional_micros for each in records_) / 1e6


def largest_window_usd(records_):
    """Return the largest sum over 90 s."""
    largest = total = first = 0
    for each in records_:
        total += each.notional_micros
        while records_[first].event_time_ms <= each.event_time_ms - WINDOW_MS:
            total -= records_[first].notional_micros
            first += 1
        largest = max(largest, total)
    return largest / 1e6


def seconds_of(each):
    return (each.event_time_ms - NOON_MS) / 1000


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "side", "other"), [("long-cascade", LONG, SHORT), ("short-squeeze", SHORT, LONG)])
def test_cascades_are_called_by_the_usual_threshold_from_what_is_published(scenario, side, other):
    story = until(scenario, 60)

    for asset in ("BTC", "ETH"):
        mine, theirs = of(story, asset=asset, side=side), of(story, asset=asset, side=other)
        assert largest_window_usd(mine) > 5e6
        assert usd(mine) > 0.65 * (usd(mine) + usd(theirs))
        assert {each.liquidation.instrument.venue for each in mine} == set(VENUES)
    everything = [each for each in story if each.liquidation.position_side == side]
    assert 30e6 < usd(everything) < 120e6
    assert len(everything) > 2_000


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "side"), [("long-cascade", LONG), ("short-squeeze", SHORT)])
def test_cascades_follow_a_calm_and_take_half_a_minute(scenario, side):
    story = [each for each in until(scenario, 60) if each.liquidation.position_side == side]

    assert usd([each for each in story if seconds_of(each) < 15]) < 0.5e6
    times = sorted(map(seconds_of, story))
    assert 30 < times[int(0.95 * len(times))] < 55


@pytest.mark.slow
def test_a_cascade_comes_again():
    scenario = SCENARIOS["long-cascade"]
    story = of(until("long-cascade", 230), asset="BTC", side=LONG)

    quiet = [each for each in story if scenario.recovery.end < seconds_of(each) < scenario.cycle_seconds + 15]
    again = [each for each in story if seconds_of(each) >= scenario.cycle_seconds + 15]
    assert largest_window_usd(quiet) < 0.5e6
    assert largest_window_usd(again) > 5e6


def test_calm_has_liquidations_and_no_cascade():
    story = until("calm", 40)

    assert 15 < len(story) < 400
    assert usd(story) < 1e6
    assert max(each.notional_micros for each in story) < 300_000e6


@pytest.mark.slow
def test_a_burst_is_twenty_thousand_within_one_second_and_nothing_else():
    story = until("burst", 14)

    times = [each.event_time_ms - NOON_MS for each in story]
    assert (len(story), min(times) >= 9_980, max(times) - min(times) < 1000) == (20_000, True, True)
    by_venue = defaultdict(lambda: [0, 0])
    for each in story:
        by_venue[each.liquidation.instrument.venue][each.sent_ms is not None] += 1
    assert by_venue.keys() == set(VENUES)
    assert (by_venue["bybit-linear"][0], by_venue["bybit-inverse"][0]) == (0, 0)  # all published
    assert 10 <= by_venue["binance-usdm"][1] <= 26
    assert 10 <= by_venue["okx"][1] <= 30


def test_a_single_print_is_large_and_alone():
    story = until("single-print", 45)

    (largest,) = (each for each in story if each.notional_micros > 1_000_000e6)
    assert (largest.liquidation.instrument.venue, largest.liquidation.instrument.symbol) == ("binance-usdm", "BTCUSDT")
    assert usd([largest]) == pytest.approx(8e6, rel=0.01)
    assert 14.9 < seconds_of(largest) < 15.1
    assert largest.sent_ms is not None
    assert usd(of(story, asset="BTC", side=LONG, is_published=False)) - usd([largest]) < 0.5e6


def test_scenarios_say_what_they_are():
    assert {name: scenario.name for name, scenario in SCENARIOS.items()} == {name: name for name in SCENARIOS}
    assert all(scenario.description for scenario in SCENARIOS.values())


# The program.


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_the_program_says_where_it_is_and_ends_cleanly_on_a_signal():
    with start("--scenario", "calm", "--seed", "7") as program:
        ready = json.loads(program.stdout.readline())
        program.send_signal(signal.SIGTERM)
        rest, log = program.communicate(timeout=20)

    assert (ready["scenario"], ready["seed"], ready["url"].startswith("http://127.0.0.1:")) == ("calm", 7, True)
    assert (program.returncode, rest) == (0, "")
    assert log.endswith("stopped\n")


@pytest.mark.slow
def test_the_program_ends_when_its_parent_is_gone():
    with start("--parent-pipe", stdin=subprocess.PIPE) as program:
        program.stdout.readline()
        assert program.poll() is None
        program.stdin.close()
        assert program.wait(timeout=20) == 0
        assert program.stdout.read() == ""


@pytest.mark.slow
def test_the_program_ends_when_its_time_is_up():
    with start("--seconds", "0.2", stdin=subprocess.DEVNULL) as program:
        assert json.loads(program.stdout.readline())["scenario"] == "long-cascade"
        assert program.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scenario", "storm"], "invalid choice: 'storm'"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 up"),
        (["--speed", "0"], "argument --speed: '0' is not a number above 0"),
        (["--speed", "21"], "argument --speed: '21' is above 20"),
        (["--seconds", "long"], "argument --seconds: 'long' is not a number above 0"),
    ],
)
def test_the_program_names_the_argument_it_refuses(arguments, words, capsys):
    with pytest.raises(SystemExit) as refusal:
        main(arguments)

    assert refusal.value.code == 2
    assert words in capsys.readouterr().err


def test_the_help_names_every_scenario_and_shows_the_way(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])

    assert end.value.code == 0
    page = capsys.readouterr().out
    for words in (*SCENARIOS, "URL/binance-usdm", "curl URL/truth/summary", "stop-liquidations"):
        assert words in page
