"""What the settings make of pushes to Alertmanager, and which processes push."""

import time

import pytest
from flow_runs import START_SECONDS, journal_of, live, program, replaying, settings_environment, simulator, watching
from real_servers import free_port
from receivers import http_receiver

from connectors.sinks.firing import FiringAlerts
from connectors.sinks.metrics import Metrics
from flows.alerting import FILE_NAME, alerting, credentials_of, pushers_of
from flows.settings import Settings, SettingsError, load_settings, secrets_of


def settings(**alertmanager):
    return Settings(alertmanager=alertmanager)


def test_without_urls_nothing_is_pushed():
    assert pushers_of(Settings(), FiringAlerts(), Metrics()) == []


def test_every_url_has_a_pusher():
    two = settings(urls="http://a:9093,https://b/alertmanager/")

    assert two.alertmanager.urls == ("http://a:9093", "https://b/alertmanager")
    assert [pusher.name for pusher in pushers_of(two, FiringAlerts(), Metrics())] == ["a:9093", "b"]


def test_the_environment_and_json_lists_are_read_too(monkeypatch):
    monkeypatch.setenv("CASCADEWATCH_ALERTMANAGER__URLS", '["http://a:9093", "http://b:9093"]')

    assert load_settings().alertmanager.urls == ("http://a:9093", "http://b:9093")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"urls": ["ftp://a"]}, "alertmanager.urls.0: a base URL begins with http:// or https://"),
        ({"urls": ["http://me:secret-word@a"]}, "credentials do not belong here"),
        ({"username": "me"}, "alertmanager: username and password_file go together"),
        ({"username": "me", "password_file": "p", "bearer_token_file": "t"}, "not both"),
        ({"resend_seconds": 0}, "alertmanager.resend_seconds: should be greater than 0"),
        ({"url": "http://a"}, "alertmanager.url: there is no such setting; allowed: bearer_token_file, dashboard_url"),
    ],
)
def test_what_is_wrong_is_named_without_a_secret(wrong, words):
    with pytest.raises(SettingsError) as refusal:
        load_settings({"alertmanager": wrong})

    assert words in str(refusal.value)
    assert "secret-word" not in str(refusal.value)


def test_credentials_are_read_from_where_the_settings_say(tmp_path):
    (tmp_path / "token").write_text("a-bearer-token\n")

    assert credentials_of(settings(bearer_token_file=tmp_path / "token")).headers() == {
        "Authorization": "Bearer a-bearer-token"
    }
    assert credentials_of(Settings()).headers() == {}
    assert "hook-4711-key" in secrets_of(settings(urls=["http://a/hook-4711-key"]))


def test_what_fires_is_remembered_in_the_home_also_without_an_alertmanager(tmp_path):
    firing = FiringAlerts()

    with alerting(Settings(), firing, Metrics(), tmp_path, "0"):
        assert not firing.is_closed

    assert firing.is_closed
    assert list(tmp_path.iterdir()) == []
    assert FILE_NAME == "firing.json"


@pytest.mark.slow
def test_a_run_pushes_a_restart_says_it_again_without_a_storm_and_a_replay_tells_nobody(tmp_path):
    with http_receiver() as inbox, simulator("long-cascade", "--speed", "4") as market:
        away = f"http://127.0.0.1:{free_port()}"  # which costs the other nothing, and the stop neither
        environment = watching(market, ALERTMANAGER__URLS=f"{away},{inbox.url}", ALERTMANAGER__RESEND_SECONDS=600)

        def cascades(message):
            return [each for each in message.json() if each["labels"]["alertname"] == "LiquidationCascade"]

        with program(live(tmp_path / "run"), environment, tmp_path / "run.log"):
            first = inbox.wait_for(lambda message: bool(cascades(message)), START_SECONDS)
            time.sleep(1.0)
        before = len(inbox.messages)
        with program(live(tmp_path / "run"), environment, tmp_path / "again.log") as run:
            again = inbox.wait_for(
                lambda message: message in inbox.messages[before:] and bool(cascades(message)), START_SECONDS
            )
            assert run.stop() == 0
    known = {_identity(alert): alert["startsAt"] for message in inbox.messages[:before] for alert in message.json()}
    for alert in cascades(first):
        assert known[_identity(alert)] == alert["startsAt"]
    assert {_identity(alert) for alert in cascades(again)} & {_identity(alert) for alert in cascades(first)}
    told = len(inbox.messages)

    with http_receiver(port=int(inbox.url.rpartition(":")[2])) as silent:
        arguments = replaying(journal_of(tmp_path / "run"), tmp_path / "replayed")
        with program(arguments, settings_environment(ALERTMANAGER__URLS=silent.url), tmp_path / "replay.log") as run:
            assert run.wait(START_SECONDS) == 0
        assert silent.messages == []
    assert told == len(inbox.messages)


def _identity(alert):
    return tuple(sorted(alert["labels"].items()))
