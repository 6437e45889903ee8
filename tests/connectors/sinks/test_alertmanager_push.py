"""Pushes to something that speaks like Alertmanager, and to the real one."""

import base64
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime

import httpx
import pytest
import trustme
from prometheus_client import generate_latest
from real_servers import free_port, real_program, running, wait_until_it_answers
from receivers import WAIT_SECONDS, http_receiver
from sink_events import PARTITION, alert_change, cascade_step, cause, score

from connectors import clock
from connectors.sinks.alert_words import Links
from connectors.sinks.alertmanager import (
    AlertmanagerPusher,
    Credentials,
    CredentialsError,
    PushPolicy,
    name_of,
)
from connectors.sinks.firing import FiringAlerts
from connectors.sinks.metrics import Metrics
from market.readings import CascadePhase, Severity

pytestmark = pytest.mark.slow  # it waits for clocks

HOUR_US = 3_600_000_000
NEVER = 3_600.0


def now(sequence=1, *, ago_us=0):
    return {"cause": cause(sequence, at_us=clock.now_us() - ago_us)}


def alerts_in(message):
    return [(alert["labels"]["alertname"], alert["labels"]["severity"]) for alert in message.json()]


def fires(alert):
    return alert["endsAt"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1))


@contextmanager
def pushing(*urls, firing=None, metrics=None, resend_seconds=NEVER, max_age_seconds=60.0, credentials=Credentials(), tls=None):  # noqa: B008 - frozen
    firing = FiringAlerts() if firing is None else firing
    with ExitStack() as around:
        for url in urls:
            pusher = AlertmanagerPusher(
                url,
                firing,
                metrics or Metrics(),
                policy=PushPolicy(resend_seconds, max_age_seconds),
                credentials=credentials,
                links=Links(),
                ssl_context=tls,
            )
            pusher.start()
            around.callback(pusher.close)
        yield firing


def refusing(count, code=503):
    """Refuse so many pushes, then take them."""
    left = [count]

    def answer(_message):
        left[0] -= 1
        return (code, {}, b"not now") if left[0] >= 0 else (200, {}, b"")

    return answer


def test_a_change_is_pushed_with_labels_words_and_times():
    with http_receiver() as inbox, pushing(inbox.url, resend_seconds=60) as firing:
        change = alert_change(Severity.CRITICAL, **now(17))
        firing.observe_batch([change])

        message = inbox.wait_for(lambda message: bool(message.json()))

    assert (message.path, message.headers["Content-Type"]) == ("/api/v2/alerts", "application/json")
    (alert,) = message.json()
    assert alert["labels"] == {"alertname": "LiquidationRisk", "asset": "BTC", "family": "market", "severity": "critical"}
    assert alert["annotations"]["frame"] == "local/17"
    began = change.cause.receive_time_us / 1e6
    assert alert["startsAt"].startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began)))
    assert abs(_seconds(alert["endsAt"]) - began - 240) < 5  # four resends


def test_the_end_is_pushed_too_and_a_rise_ends_what_was_lower():
    with http_receiver() as inbox, pushing(inbox.url) as firing:
        firing.observe_batch([alert_change(Severity.WARNING, **now(1))])
        inbox.wait_for(lambda message: alerts_in(message) == [("LiquidationRisk", "warning")])
        firing.observe_batch([alert_change(Severity.CRITICAL, Severity.WARNING, **now(2))])

        message = inbox.wait_for(lambda message: len(message.json()) == 2)

    assert {(alert["labels"]["severity"], fires(alert)) for alert in message.json()} == {
        ("warning", False),
        ("critical", True),
    }


def test_every_alertmanager_gets_it_also_while_another_hangs_or_is_away():
    released = threading.Event()

    def hang(_message):
        released.wait(WAIT_SECONDS)
        return 200, {}, b""

    away = f"http://127.0.0.1:{free_port()}"
    with (
        http_receiver(hang) as hanging,
        http_receiver() as one,
        http_receiver() as other,
        pushing(hanging.url, away, one.url, other.url) as firing,
    ):
        firing.observe_batch([cascade_step(**now())])

        for inbox in (hanging, one, other):
            inbox.wait_for(lambda message: bool(message.json()))
        assert not released.is_set()
        released.set()


def test_what_cannot_be_delivered_is_tried_again_and_only_its_newest_state():
    metrics = Metrics()
    with http_receiver(refusing(1)) as inbox, pushing(inbox.url, metrics=metrics) as firing:
        firing.observe_batch([cascade_step(sequence=1, **now(1))])
        inbox.wait_for(lambda message: bool(message.json()))  # refused
        firing.observe_batch([cascade_step(CascadePhase.ENDED, **now(2)), cascade_step(**now(3))])

        taken = inbox.wait_for(lambda message: message.json()[0]["annotations"]["frame"] == "local/3")

        assert len(taken.json()) == 1
        page = _wait_for_page(metrics, "cascadewatch_alerts_pushed_total", 1.0)
    name = f'alertmanager="{name_of(inbox.url)}"'
    assert f'cascadewatch_alert_push_failures_total{{{name},error="HTTP 503"}} 1.0' in page
    assert f"cascadewatch_alert_unsent_timestamp_seconds{{{name}}} 0.0" in page


def test_while_nothing_can_be_delivered_the_age_of_the_oldest_shows_and_the_flow_is_not_held_up():
    metrics = Metrics()
    began_us = clock.now_us()
    with pushing(f"http://127.0.0.1:{free_port()}", metrics=metrics) as firing:
        for sequence in range(1, 20_001):
            firing.observe_batch([alert_change(Severity.INFO, asset=f"A{sequence % 3_000}", **now(sequence))])

        assert clock.now_us() - began_us < 5_000_000
        assert 1_800 <= len(firing.alerts()) <= 2_000
        page = _wait_for_page(metrics, "cascadewatch_alert_unsent_timestamp_seconds", began_us / 1e6)
    assert 'error="ConnectError"' in page


def test_what_fires_is_said_again_and_what_ended_is_not():
    with http_receiver() as inbox, pushing(inbox.url, resend_seconds=0.3) as firing:
        firing.observe_batch(
            [alert_change(Severity.CRITICAL, **now(1)), cascade_step(**now(2)), cascade_step(CascadePhase.ENDED, **now(3))]
        )

        again = inbox.wait_for(lambda message: inbox.messages.index(message) >= 2)

    assert alerts_in(again) == [("LiquidationRisk", "critical")]


def test_what_is_read_again_after_a_restart_is_not_said_before_the_flow_has_caught_up():
    with http_receiver() as inbox, pushing(inbox.url) as firing:
        for sequence in range(1, 100):  # an hour of the journal: begins and ends again and again
            at = now(sequence, ago_us=HOUR_US - sequence)
            firing.observe_batch([cascade_step(CascadePhase.BEGAN if sequence % 2 else CascadePhase.ENDED, **at)])
        time.sleep(0.4)
        assert inbox.messages == []
        firing.observe_batch([score(200, at_us=clock.now_us())])

        message = inbox.wait_for(lambda message: bool(message.json()))
        time.sleep(0.4)

    assert [(alert["annotations"]["frame"], fires(alert)) for alert in message.json()] == [("local/99", True)]
    assert len(inbox.messages) == 1


def test_a_restarted_process_says_what_fires_as_soon_as_it_has_caught_up(tmp_path):
    before = FiringAlerts()
    before.keep(tmp_path / "firing.json", PARTITION)
    before.observe_batch([alert_change(Severity.CRITICAL, **now(1, ago_us=HOUR_US))])
    before.close()
    firing = FiringAlerts()
    firing.keep(tmp_path / "firing.json", PARTITION)

    with http_receiver() as inbox, pushing(inbox.url, firing=firing):
        firing.observe_batch([score(9, asset="ETH", at_us=clock.now_us())])
        message = inbox.wait_for(lambda message: bool(message.json()))
    firing.close()

    assert alerts_in(message) == [("LiquidationRisk", "critical")]


@pytest.mark.parametrize("way", ["bearer", "basic"])
def test_credentials_come_from_files_that_may_be_renewed(tmp_path, way):
    secret = tmp_path / "secret"
    secret.write_text("first-secret\n")
    bearer, basic = Credentials(bearer_token_file=secret), Credentials("watch", secret)

    with http_receiver() as inbox, pushing(inbox.url, credentials=bearer if way == "bearer" else basic) as firing:
        for sequence, text in enumerate(("first-secret", "second-secret"), start=1):
            secret.write_text(text)
            firing.observe_batch([cascade_step(asset=f"A{sequence}", **now(sequence))])
            encoded = base64.b64encode(f"watch:{text}".encode()).decode()
            wanted = f"Bearer {text}" if way == "bearer" else f"Basic {encoded}"
            inbox.wait_for(lambda message, wanted=wanted: message.headers["Authorization"] == wanted)


def test_a_missing_secret_is_a_failure_that_heals(tmp_path):
    metrics, secret = Metrics(), tmp_path / "secret"
    with http_receiver() as inbox, pushing(inbox.url, metrics=metrics, credentials=Credentials(None, None, secret)) as firing:
        firing.observe_batch([cascade_step(**now())])
        _wait_for_page(metrics, "cascadewatch_alert_push_failures_total", 1.0)
        assert inbox.messages == []
        secret.write_text("a-secret")

        inbox.wait_for(lambda message: bool(message.json()))


@pytest.mark.parametrize("text", ["töken", "two\nlines", "-----BEGIN\tKEY"])
def test_a_file_that_holds_no_token_is_refused_by_name_and_without_its_words(tmp_path, text):
    (tmp_path / "token").write_text(text)

    with pytest.raises(CredentialsError, match=r"alertmanager\.bearer_token_file: .*token holds no token") as refusal:
        Credentials(bearer_token_file=tmp_path / "token").headers()

    assert text not in str(refusal.value)


def test_a_private_authority_is_trusted_when_it_is_told_of_and_not_otherwise(tmp_path):
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    metrics = Metrics()

    with http_receiver(tls=served) as inbox:
        with pushing(inbox.url, metrics=metrics) as firing:
            firing.observe_batch([cascade_step(**now())])
            _wait_for_page(metrics, "cascadewatch_alert_push_failures_total", 1.0)
            assert inbox.messages == []
        with pushing(inbox.url, firing=firing, tls=trusting):
            inbox.wait_for(lambda message: bool(message.json()))


def test_many_alerts_go_in_several_requests():
    firing = FiringAlerts()
    firing.observe_batch([cascade_step(asset=f"A{number}", **now(number)) for number in range(1, 451)])

    with http_receiver() as inbox, pushing(inbox.url, firing=firing):
        inbox.wait_for(lambda _message: len(inbox.messages) == 3)

    assert [len(message.json()) for message in inbox.messages] == [200, 200, 50]


def test_an_alertmanager_is_called_by_host_and_port_without_its_path():
    assert [name_of(url) for url in ("http://a:9093/prefix", "https://b")] == ["a:9093", "b"]


def test_the_real_alertmanager_takes_it_keeps_it_while_it_is_said_again_and_believes_its_end(tmp_path):
    program, port = real_program("prometheus-alertmanager"), free_port()
    (tmp_path / "config.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = [program, f"--config.file={tmp_path}/config.yml", f"--storage.path={tmp_path}/data", "--cluster.listen-address="]
    url = f"http://127.0.0.1:{port}"

    def known():
        found = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
        return {(alert["labels"]["alertname"], alert["labels"].get("position_side")) for alert in found}

    def until(wanted, seconds=10.0):
        deadline = time.monotonic() + seconds
        while known() != wanted:
            assert time.monotonic() < deadline, known()
            time.sleep(0.05)

    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], log=tmp_path / "log") as server:
        wait_until_it_answers(f"{url}/-/ready", server)
        with pushing(url, resend_seconds=0.5) as firing:
            firing.observe_batch([alert_change(Severity.CRITICAL, **now(1)), cascade_step(**now(2))])
            until({("LiquidationRisk", None), ("LiquidationCascade", "LONG")})
            time.sleep(2.5)  # longer than it lives without being said again
            assert known() == {("LiquidationRisk", None), ("LiquidationCascade", "LONG")}
            firing.observe_batch([cascade_step(CascadePhase.ENDED, **now(3))])
            until({("LiquidationRisk", None)})
            firing.observe_batch([alert_change(Severity.NONE, Severity.CRITICAL, **now(4))])
            until(set())
            firing.observe_batch([alert_change(Severity.INFO, **now(5))])
            until({("LiquidationRisk", None)})
        until(set())  # nobody says it any more


def _seconds(text):
    return datetime.fromisoformat(text).timestamp()


def _wait_for_page(metrics, name, least):
    deadline = time.monotonic() + 10
    while True:
        page = generate_latest(metrics.registry).decode()
        values = [float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name}{{")]
        if values and max(values) >= least:
            return page
        assert time.monotonic() < deadline, page
        time.sleep(0.02)
