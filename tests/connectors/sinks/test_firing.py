import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from property_examples import examples
from sink_events import NOON_US, PARTITION, alert_change, cascade_step, cause, score

from connectors.sinks import firing as firing_module
from connectors.sinks.firing import FiringAlerts
from market.raw import PositionSide
from market.readings import CascadePhase, Severity

SECOND = 1_000_000
RISK_WARNING = ("LiquidationRisk", "BTC", "", "warning")
RISK_CRITICAL = ("LiquidationRisk", "BTC", "", "critical")
CASCADE = ("LiquidationCascade", "BTC", "LONG", "critical")


def after(*events, **options):
    firing = FiringAlerts(**options)
    firing.observe_batch(events)
    return firing


def standing(firing):
    """Return when each alert began and ended, in seconds after noon."""

    def second(at_us):
        return None if at_us is None else (at_us - NOON_US) // SECOND

    return {alert.identity: (second(alert.starts_us), second(alert.ends_us)) for alert in firing.alerts()}


def samples(firing):
    registry = CollectorRegistry()
    registry.register(firing)
    return {(sample.name, *sample.labels.values()): sample.value for family in registry.collect() for sample in family.samples}


def test_an_alert_fires_from_its_frame_on_and_ends_with_another():
    firing = after(alert_change(Severity.WARNING, sequence=1))
    assert standing(firing) == {RISK_WARNING: (1, None)}

    firing.observe_batch([alert_change(Severity.NONE, Severity.WARNING, sequence=9)])

    assert standing(firing) == {RISK_WARNING: (1, 9)}


def test_another_severity_is_another_alert_and_ends_the_one_before():
    firing = after(alert_change(Severity.WARNING, sequence=1), alert_change(Severity.CRITICAL, Severity.WARNING, sequence=4))

    assert standing(firing) == {RISK_WARNING: (1, 4), RISK_CRITICAL: (4, None)}


def test_an_alert_that_fires_again_begins_anew():
    firing = after(
        alert_change(Severity.WARNING, sequence=1),
        alert_change(Severity.NONE, Severity.WARNING, sequence=3),
        alert_change(Severity.WARNING, sequence=8),
    )

    assert standing(firing) == {RISK_WARNING: (8, None)}


def test_the_end_of_what_nobody_knew_of_is_known_too():
    assert standing(after(alert_change(Severity.NONE, Severity.WARNING, sequence=5))) == {RISK_WARNING: (5, 5)}


def test_cascades_fire_by_side_until_they_end():
    firing = after(
        cascade_step(sequence=1),
        cascade_step(sequence=2, position_side=PositionSide.SHORT),
        cascade_step(CascadePhase.ENDED, sequence=3),
    )

    assert standing(firing) == {
        ("LiquidationCascade", "BTC", "SHORT", "critical"): (2, None),
        CASCADE: (1, 3),
    }


def test_metrics_show_what_fires_and_what_ended():
    firing = after(
        alert_change(Severity.WARNING, sequence=1),
        alert_change(Severity.CRITICAL, Severity.WARNING, sequence=2),
        alert_change(Severity.INFO, sequence=2, asset="ETH"),
        alert_change(Severity.NONE, Severity.INFO, sequence=3, asset="ETH"),
        cascade_step(sequence=3),
    )

    assert samples(firing) == {
        ("cascadewatch_alert_severity", "BTC"): 3,
        ("cascadewatch_alert_severity", "ETH"): 0,
        ("cascadewatch_cascade_running", "BTC", "LONG"): 1,
    }


def test_the_newest_score_of_an_asset_is_at_hand_and_only_so_many_are(monkeypatch):
    monkeypatch.setattr(firing_module, "MAX_SCORES", 2)
    firing = after(score(asset="BTC"), score(asset="ETH"), score(2, asset="BTC"), score(asset="SOL"))

    assert firing.score_of("BTC") == score(2, asset="BTC")
    assert firing.score_of("ETH") is None


def test_what_ended_goes_first_when_there_are_too_many():
    firing = after(
        alert_change(Severity.INFO, sequence=1, asset="A"),
        alert_change(Severity.INFO, sequence=2, asset="B"),
        alert_change(Severity.NONE, Severity.INFO, sequence=3, asset="B"),
        alert_change(Severity.INFO, sequence=4, asset="C"),
        alert_change(Severity.INFO, sequence=5, asset="D"),
        max_alerts=2,
    )

    assert [alert.asset for alert in firing.alerts()] == ["C", "D"]


def test_what_ended_long_ago_is_forgotten():
    firing = after(
        alert_change(Severity.INFO, sequence=1, asset="A"),
        alert_change(Severity.NONE, Severity.INFO, sequence=2, asset="A"),
        alert_change(Severity.INFO, sequence=2 + 7_201),
    )

    assert [alert.asset for alert in firing.alerts()] == ["BTC"]


# Restarts


@pytest.fixture
def kept(tmp_path):
    """Return what makes a process that keeps its alerts in one file."""
    running = []

    def start(*events):
        firing = FiringAlerts()
        firing.keep(tmp_path / "firing.json", PARTITION)
        running.append(firing)
        firing.observe_batch(events)
        return firing

    yield start
    for firing in running:
        firing.close()


def test_a_restarted_process_knows_what_fires(kept):
    before = kept(alert_change(Severity.CRITICAL, sequence=1), cascade_step(sequence=2))
    before.close()

    assert standing(kept()) == standing(before) == {RISK_CRITICAL: (1, None), CASCADE: (2, None)}


def test_a_killed_process_has_written_what_it_had_a_moment_to_write(kept, tmp_path):
    firing = kept(alert_change(Severity.CRITICAL, sequence=1))
    path = tmp_path / "firing.json"
    firing.wait(firing.version, 0.5)
    while not path.exists():
        firing.wait(firing.version, 0.01)

    assert [alert["sequence"] for alert in json.loads(path.read_bytes())["alerts"]] == [1]


def test_frames_that_are_read_again_change_nothing(kept):
    events = [
        alert_change(Severity.WARNING, sequence=1),
        alert_change(Severity.CRITICAL, Severity.WARNING, sequence=2),
        cascade_step(sequence=3),
        alert_change(Severity.NONE, Severity.CRITICAL, sequence=4),
    ]
    before = kept(*events)
    before.close()
    again = kept()
    version = again.version

    again.observe_batch(events)

    assert standing(again) == standing(before)
    assert again.version == version


def test_a_new_data_directory_counts_from_one_again_and_a_clock_may_be_set_back():
    later = {"cause": cause(1, at_us=NOON_US + 900 * SECOND)}
    firing = after(alert_change(Severity.WARNING, sequence=500), alert_change(Severity.NONE, Severity.WARNING, **later))
    assert standing(firing) == {RISK_WARNING: (500, 900)}

    firing.observe_batch([alert_change(Severity.WARNING, cause=cause(2, at_us=NOON_US))])

    assert standing(firing) == {RISK_WARNING: (0, None)}


def test_alerts_of_a_shard_that_once_was_here_are_left(kept, tmp_path):
    of_another = {"cause": cause(7, partition="0of2g1", at_us=NOON_US)}
    kept(alert_change(Severity.WARNING, sequence=1), alert_change(Severity.CRITICAL, asset="ETH", **of_another)).close()

    assert standing(kept()) == {RISK_WARNING: (1, None)}


def test_a_damaged_file_is_as_good_as_none(kept, tmp_path):
    (tmp_path / "firing.json").write_bytes(b'{"format": 1, "alerts": [{"name"')

    firing = kept(alert_change(Severity.WARNING, sequence=1))
    firing.close()

    assert standing(kept()) == {RISK_WARNING: (1, None)}


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path):
    firing = FiringAlerts()
    firing.keep(tmp_path / "missing" / "firing.json", PARTITION)
    firing.observe_batch([alert_change(Severity.WARNING, sequence=1)])
    firing.close()

    assert standing(firing) == {RISK_WARNING: (1, None)}


def test_a_restored_alert_whose_asset_is_never_heard_of_is_given_up_and_others_stay(kept, monkeypatch):
    kept(alert_change(Severity.WARNING, sequence=1), alert_change(Severity.WARNING, sequence=1, asset="ETH")).close()
    monkeypatch.setattr(firing_module, "UNCONFIRMED_SECONDS", -1.0)
    firing = FiringAlerts()
    path = firing_module.Path(kept()._path)

    firing.keep(path, PARTITION)
    firing.observe_batch([score(5, asset="ETH")])

    assert [alert.asset for alert in firing.alerts()] == ["ETH"]
    firing.close()


@given(st.lists(st.sampled_from(["none", "info", "warning", "critical"]), max_size=12), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=examples(60))
def test_a_restart_anywhere_and_a_second_reading_of_any_stretch_change_nothing(severities, restart, back):
    events, previous = [], Severity.NONE
    for number, name in enumerate(severities, start=1):
        severity = Severity(name)
        if severity is not previous:
            events.append(alert_change(severity, previous, sequence=number))
            previous = severity
    whole = after(*events)

    restarted = after(*events[:restart])
    restarted.observe_batch(events[max(0, restart - back) :])

    assert standing(restarted) == standing(whole)
    fires = [alert.severity for alert in whole.alerts() if alert.ends_us is None]
    assert fires == ([] if previous is Severity.NONE else [previous.value])
