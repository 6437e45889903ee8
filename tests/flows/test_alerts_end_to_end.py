"""From a simulated cascade to every receiver, by both ways, with the real servers: what comes, what it says, and how soon.

One story is told once; the tests look at it. Nothing waits for a fixed time: a receiver is waited for until its message comes.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from alertmanager_files import SECRETS, rendered, write_secrets
from flow_runs import START_SECONDS, journal_of, live, program, simulator, watching
from named_metrics import named_in_files, unknown_in
from real_servers import free_ports, real_program, running, wait_until_it_answers
from receivers import Inbox, Message, http_receiver, mail_receiver

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
PUSH_SECONDS = 2.0
RULES_SECONDS = 30.0
RECEIVERS = ("telegram", "discord", "slack", "pagerduty", "mail", "webhook")
WATCHES = ("prometheus/rules", "runbooks", "grafana")
ONLY_WHEN_SOMETHING_IS_WRONG = {"venue_error:cascadewatch_dead_letters:increase15m"}


@dataclass
class Story:
    """What happened.

    Attributes:
        asset: Whose cascade was the first.
        caused_at: Receive time of its causing frame, as the journal has it, in seconds.
        pushed: By receiver, the first message of that cascade, by the direct push.
        by_rules: The webhook's, by /metrics, Prometheus and another Alertmanager.
        watchdog: The first message to the dead man's switch.
    """

    asset: str = ""
    caused_at: float = 0.0
    frame: str = ""
    pushed: dict[str, Message] = field(default_factory=dict)
    by_rules: Message | None = None
    watchdog: Message | None = None
    page: str = ""
    rules: list[dict[str, Any]] = field(default_factory=list)
    empty_records: list[str] = field(default_factory=list)
    alertmanager_log: str = ""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Tell it."""
    folder = tmp_path_factory.mktemp("story")
    pushed_to, by_rules, prometheus, metrics = free_ports(4)
    with ExitStack() as around:
        inboxes = {name: around.enter_context(http_receiver()) for name in RECEIVERS if name != "mail"}
        inboxes["mail"] = around.enter_context(mail_receiver())
        rules_inbox, watchdog = around.enter_context(http_receiver()), around.enter_context(http_receiver())
        log = _alertmanager(around, folder / "pushed-to", pushed_to, _config_with_all(folder / "pushed-to", inboxes))
        secrets = {"webhook-url": rules_inbox.url, "watchdog-url": watchdog.url}
        _alertmanager(around, folder / "by-rules", by_rules, _config(folder / "by-rules", secrets))
        _prometheus(around, folder / "prometheus", prometheus, {"9464": metrics, "9093": by_rules})
        market = around.enter_context(simulator("long-cascade"))
        environment = watching(market, ALERTMANAGER__URLS=f"http://127.0.0.1:{pushed_to}", METRICS__PORT=metrics)
        flow = around.enter_context(program(live(folder / "data"), environment, folder / "flow.log"))
        told = Story()
        first = inboxes["webhook"].wait_for(lambda message: bool(_cascades(message)), START_SECONDS)
        alert = _cascades(first)[0]
        told.asset, told.frame = alert["labels"]["asset"], alert["annotations"]["frame"]
        told.caused_at = _received(folder / "data", int(told.frame.partition("/")[2]))
        assert abs(datetime.fromisoformat(alert["startsAt"].replace("Z", "+00:00")).timestamp() - told.caused_at) < 0.001
        for name, inbox in inboxes.items():
            told.pushed[name] = inbox.wait_for(lambda message: f"{told.asset}: a cascade of longs" in _text(message), 10.0)
        told.by_rules = rules_inbox.wait_for(
            lambda message: any(each["labels"]["asset"] == told.asset for each in _cascades(message)), RULES_SECONDS + 10
        )
        told.page = httpx.get(f"http://127.0.0.1:{metrics}/metrics", trust_env=False).text
        told.rules = _asked(prometheus, "rules")["groups"]
        told.empty_records = _empty_records(prometheus, told.rules)
        told.watchdog = watchdog.wait_for(lambda _message: True)
        told.alertmanager_log = log.read_text()
        assert flow.stop() == 0
        yield told


def test_every_receiver_has_the_cascade_within_two_seconds_of_the_frame_that_made_it(
    story: Story, capfd: pytest.CaptureFixture[str]
) -> None:
    delays = {name: message.at_seconds - story.caused_at for name, message in story.pushed.items()}
    _show("direct push", delays, capfd)

    assert set(delays) == set(RECEIVERS)
    assert {name: delay for name, delay in delays.items() if not 0 < delay < PUSH_SECONDS} == {}


def test_the_rules_bring_it_within_thirty_seconds(story: Story, capfd: pytest.CaptureFixture[str]) -> None:
    assert story.by_rules is not None
    delay = story.by_rules.at_seconds - story.caused_at
    _show("rules", {"webhook": delay}, capfd)

    assert 0 < delay < RULES_SECONDS


@pytest.mark.parametrize("name", RECEIVERS)
def test_every_receiver_is_told_the_explanation_and_where_to_go(story: Story, name: str) -> None:
    text = _text(story.pushed[name])

    assert f"A cascade of {story.asset} longs began at " in text
    assert "Liquidation Risk is " in text
    assert "Liquidated in the last 90 s: " in text
    assert "deploy/runbooks/LiquidationCascade.md" in text
    assert name == "webhook" or "/#/silences/new?filter=" in text
    assert "<no value>" not in text


def test_every_receiver_is_spoken_to_in_its_own_way(story: Story) -> None:
    telegram, pagerduty = story.pushed["telegram"], story.pushed["pagerduty"]

    assert telegram.path == f"/bot{SECRETS['telegram-bot-token']}/sendMessage"
    assert (telegram.json()["chat_id"], telegram.json()["parse_mode"]) == (SECRETS["telegram-chat-id"], "HTML")
    assert pagerduty.json()["routing_key"] == SECRETS["pagerduty-routing-key"]
    assert pagerduty.json()["payload"]["severity"] == "critical"
    assert story.pushed["slack"].json()["attachments"][0]["color"] == "danger"
    assert story.pushed["discord"].json()["embeds"][0]["title"].startswith(f"critical: {story.asset}: a cascade of longs")
    mail = message_from_bytes(story.pushed["mail"].body, policy=policy.default)
    assert mail["To"] == SECRETS["mail-to"]
    assert mail["Subject"].startswith(f"critical: {story.asset}: a cascade of longs")
    assert {part.get_content_type() for part in mail.walk()} >= {"text/plain", "text/html"}


def test_both_ways_bring_one_and_the_same_alert(story: Story) -> None:
    assert story.by_rules is not None
    (pushed,) = [each for each in _cascades(story.pushed["webhook"]) if each["labels"]["asset"] == story.asset]
    (ruled,) = [each for each in _cascades(story.by_rules) if each["labels"]["asset"] == story.asset]

    assert pushed["labels"] == ruled["labels"]
    assert pushed["fingerprint"] == ruled["fingerprint"]


def test_prometheus_evaluates_every_rule_without_an_error_and_every_record_has_data(story: Story) -> None:
    evaluated = [rule for group in story.rules for rule in group["rules"]]

    assert [(rule["name"], rule.get("lastError")) for rule in evaluated if rule["health"] != "ok"] == []
    assert set(story.empty_records) <= ONLY_WHEN_SOMETHING_IS_WRONG
    assert story.watchdog is not None
    assert story.watchdog.json()["alerts"][0]["labels"]["alertname"] == "Watchdog"


def test_every_metric_of_rules_runbooks_and_dashboards_is_on_the_page_of_the_running_process(story: Story) -> None:
    files = [path for watch in WATCHES for path in (DEPLOY / watch).rglob("*") if path.suffix in {".yml", ".md", ".json"}]
    named = named_in_files(files)

    assert len(named) > 50
    assert unknown_in(story.page, named) == []


def test_alertmanager_delivered_without_a_complaint(story: Story) -> None:
    assert [line for line in story.alertmanager_log.splitlines() if "level=error" in line or "level=warn" in line] == []


def _config_with_all(folder: Path, inboxes: dict[str, Inbox]) -> Path:
    """Render the configuration with all receivers and point those with fixed addresses to loopback."""
    secrets = {name: value for name, value in SECRETS.items() if not name.startswith("mail-")}
    secrets |= {f"{name}-url": inboxes[name].url for name in ("webhook",)}
    secrets |= {f"{name}-webhook-url": inboxes[name].url for name in ("discord", "slack")}
    secrets |= {f"mail-{name}": SECRETS[f"mail-{name}"] for name in ("from", "to")}
    path = _config(folder, {**secrets, "mail-smarthost": inboxes["mail"].url})
    config = yaml.safe_load(path.read_text())
    for receiver in config["receivers"]:
        for telegram in receiver.get("telegram_configs", []):
            telegram["api_url"] = inboxes["telegram"].url
        for pagerduty in receiver.get("pagerduty_configs", []):
            pagerduty["url"] = f"{inboxes['pagerduty'].url}/v2/enqueue"
        for mail in receiver.get("email_configs", []):
            mail["require_tls"] = False
    path.write_text(yaml.safe_dump(config))
    return path


def _config(folder: Path, secrets: dict[str, str]) -> Path:
    done = rendered(_made(folder) / "alertmanager.yml", write_secrets(folder / "secrets", secrets))
    assert done.returncode == 0, done.stderr
    return folder / "alertmanager.yml"


def _alertmanager(around: ExitStack, folder: Path, port: int, config: Path) -> Path:
    log = folder / "log"
    command = [real_program("prometheus-alertmanager"), f"--config.file={config}", f"--storage.path={folder / 'storage'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    wait_until_it_answers(f"http://127.0.0.1:{port}/-/ready", around.enter_context(running(command, log=log)))
    return log


def _prometheus(around: ExitStack, folder: Path, port: int, ports: dict[str, int]) -> None:
    """Run the shipped configuration and rules, with production intervals; only ports differ."""
    shutil.copytree(DEPLOY / "prometheus", folder)
    config = (folder / "prometheus.yml").read_text()
    for usual, used in ports.items():
        assert f"[127.0.0.1:{usual}]" in config
        config = config.replace(f"[127.0.0.1:{usual}]", f"[127.0.0.1:{used}]")
    (folder / "prometheus.yml").write_text(config)
    command = [real_program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'storage'}", f"--web.listen-address=127.0.0.1:{port}"]
    command.append("--rules.alert.resend-delay=15s")  # as docs/alerts.md says: what it said before it knew anybody is lost
    server = around.enter_context(running(command, log=folder / "log"))
    wait_until_it_answers(f"http://127.0.0.1:{port}/-/ready", server)


def _empty_records(port: int, groups: list[dict[str, Any]]) -> list[str]:
    """Return the recorded series that have none; those that are recorded every 15 s are waited for."""
    names = [rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "recording"]
    deadline = time.monotonic() + 35.0
    while True:
        empty = [name for name in names if not _asked(port, "query", query=name)["result"]]
        if set(empty) <= ONLY_WHEN_SOMETHING_IS_WRONG or time.monotonic() > deadline:
            return empty
        time.sleep(1.0)


def _asked(port: int, what: str, **query: str) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/{what}", params=query, trust_env=False)
    assert answer.is_success, answer.text
    return answer.json()["data"]


def _received(data: Path, sequence: int) -> float:
    """Return when a frame was received, as the journal has it."""
    with closing(sqlite3.connect(f"file:{journal_of(data)}?mode=ro", uri=True)) as opened:
        (at_us,) = opened.execute("SELECT receive_time_us FROM frames WHERE sequence = ?", (sequence,)).fetchone()
    return float(at_us) / 1e6


def _cascades(message: Message) -> list[dict[str, Any]]:
    alerts: list[dict[str, Any]] = message.json()["alerts"]
    return [each for each in alerts if each["labels"]["alertname"] == "LiquidationCascade" and each["status"] == "firing"]


def _text(message: Message) -> str:
    """Return all that a message says: JSON without its escapes, or every part of a mail."""
    if message.body.startswith(b"{"):
        return json.dumps(message.json(), ensure_ascii=False)
    mail = message_from_bytes(message.body, policy=policy.default)
    if mail["Subject"]:
        parts = [part.get_content() for part in mail.walk() if part.get_content_maintype() == "text"]
        return "\n".join([mail["Subject"], *parts])
    return message.body.decode()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _show(way: str, delays: dict[str, float], capfd: pytest.CaptureFixture[str]) -> None:
    """Print delivery times past pytest's capture: they are the figures of this test."""
    told = ", ".join(f"{name} {delay * 1000:.0f} ms" for name, delay in sorted(delays.items(), key=lambda item: item[1]))
    with capfd.disabled():
        sys.stdout.write(f"\nfrom the causing frame by {way}: {told}\n")
