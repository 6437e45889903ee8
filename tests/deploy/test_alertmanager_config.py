"""deploy/alertmanager: filled in, checked and routed by amtool; templates as people will read them."""

import json
import re
import stat
import subprocess
import time

import httpx
import pytest
import yaml
from alertmanager_files import FOLDER, SECRETS, rendered, write_secrets
from real_servers import free_port, real_program, running, wait_until_it_answers

MARKET, PIPELINE = "family=market", "family=pipeline"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the configuration with every receiver set up."""
    folder = tmp_path_factory.mktemp("alertmanager")
    done = rendered(folder / "alertmanager.yml", write_secrets(folder / "secrets"))
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "alertmanager.yml"


def amtool(*arguments):
    return subprocess.run([real_program("amtool"), *arguments], check=False, capture_output=True, text=True)


def check(path):
    done = amtool("check-config", path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_alertmanager_takes_the_whole_configuration_and_its_templates(whole):
    assert "1 templates" in check(whole)  # one pattern, which stands for all files


@pytest.mark.slow
@pytest.mark.parametrize("missing", [*SECRETS, "all"])
def test_a_receiver_that_is_not_set_up_is_left_out_and_the_rest_stands(tmp_path, missing):
    left = {} if missing == "all" else {name: value for name, value in SECRETS.items() if name != missing}

    done = rendered(tmp_path / "alertmanager.yml", write_secrets(tmp_path / "secrets", left))

    assert done.returncode == 0
    assert "not set up" in done.stderr
    assert (missing if missing != "all" else "webhook-url") in done.stderr
    check(tmp_path / "alertmanager.yml")
    assert "@" not in re.sub(r"\w@example|127\.0\.0\.1", "", (tmp_path / "alertmanager.yml").read_text())


def test_every_receiver_is_in_the_page_and_secrets_are_where_they_are_read_from(whole):
    config = yaml.safe_load(whole.read_text())
    page = next(receiver for receiver in config["receivers"] if receiver["name"] == "page")

    assert set(page) - {"name"} == {
        f"{kind}_configs" for kind in ("pagerduty", "telegram", "discord", "slack", "email", "webhook")
    }
    assert page["telegram_configs"][0]["bot_token"] == SECRETS["telegram-bot-token"]
    assert page["telegram_configs"][0]["chat_id"] == -100123
    for where in (page["pagerduty_configs"][0]["routing_key_file"], page["slack_configs"][0]["api_url_file"]):
        assert where.startswith(str(whole.parent / "secrets"))
    text = whole.read_text()
    assert "a-routing-key" not in text
    assert "a-mail-password" not in text


def test_the_filled_in_configuration_is_for_its_owner_alone(whole):
    assert stat.S_IMODE(whole.stat().st_mode) == 0o600


@pytest.mark.parametrize("value", ["a&b\\1", "it's: a #secret", 'with "quotes" @secrets@x'])
def test_secrets_may_have_any_characters(tmp_path, value):
    if "@secrets@" in value:
        value = value.replace("@secrets@", "")
    secrets = write_secrets(tmp_path / "secrets", {**SECRETS, "telegram-bot-token": value})

    assert rendered(tmp_path / "alertmanager.yml", secrets).returncode == 0

    config = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    assert config["receivers"][1]["telegram_configs"][0]["bot_token"] == value


def test_without_the_folder_of_secrets_nothing_starts_and_the_reason_is_said(tmp_path):
    done = rendered(tmp_path / "alertmanager.yml", tmp_path / "missing")

    assert done.returncode == 1
    assert "set SECRETS" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ((MARKET, "severity=critical", "alertname=LiquidationCascade", "asset=BTC", "position_side=LONG"), "page"),
        ((MARKET, "severity=critical", "alertname=LiquidationRisk", "asset=BTC"), "page"),
        ((MARKET, "severity=warning", "alertname=LiquidationRisk", "asset=BTC"), "chat"),
        ((MARKET, "severity=info", "alertname=LiquidationRisk", "asset=BTC"), "mail"),
        ((MARKET, "severity=strange", "alertname=LiquidationRisk"), "chat"),
        ((PIPELINE, "severity=critical", "alertname=ProcessDown", "instance=a"), "page"),
        ((PIPELINE, "severity=warning", "alertname=FeedDown", "venue=okx"), "chat"),
        ((PIPELINE, "severity=info", "alertname=SourceStale"), "mail"),
        ((PIPELINE, "severity=none", "alertname=Watchdog"), "watchdog"),
        (("severity=none", "alertname=Other"), "nobody"),
        (("severity=critical", "alertname=OfSomebodyElse"), "chat"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_alerts_go_where_they_should(whole, labels, receiver):
    done = amtool("config", "routes", "test", f"--config.file={whole}", f"--verify.receivers={receiver}", *labels)

    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_critical_in_the_market_waits_for_nothing(whole):
    config = yaml.safe_load(whole.read_text())
    market = next(route for route in config["route"]["routes"] if "routes" in route and 'family="market"' in route["matchers"])

    assert [(route["receiver"], route["group_wait"]) for route in market["routes"]] == [
        ("page", "0s"),
        ("chat", "5s"),
        ("mail", "30s"),
    ]


def test_whoever_hears_of_a_begin_hears_of_the_end(whole):
    receivers = yaml.safe_load(whole.read_text())["receivers"]
    configs = [
        (receiver["name"], kind, each.get("send_resolved", kind == "pagerduty_configs"))
        for receiver in receivers
        for kind, found in receiver.items()
        if kind != "name"
        for each in found
    ]

    assert [(name, kind) for name, kind, is_told in configs if not is_told] == [("watchdog", "webhook_configs")]


def group(*alerts, status="firing", severity="critical"):
    common = {"alertname": "LiquidationRisk", "asset": "BTC", "family": "market", "severity": severity}
    return {
        "receiver": "page",
        "status": status,
        "alerts": list(alerts),
        "groupLabels": {"alertname": "LiquidationRisk"},
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
    }


def alert(status="firing", **annotations):
    told = {"summary": "BTC: Liquidation Risk 80 of 100", "description": "BTC risk 80 < 100 & rising.", **annotations}
    ends = "2026-11-21T10:05:00Z" if status == "resolved" else "0001-01-01T00:00:00Z"
    return {"status": status, "labels": {}, "annotations": told, "startsAt": "2026-11-21T10:00:00Z", "endsAt": ends}


def read(name, data, tmp_path, kind="text"):
    (tmp_path / "data.json").write_text(json.dumps(data))
    done = amtool(
        "template",
        "render",
        f"--template.glob={FOLDER}/templates/*.tmpl",
        f"--template.type={kind}",
        f'--template.text={{{{ template "cascadewatch.{name}" . }}}}',
        f"--template.data={tmp_path}/data.json",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_people_read_the_explanation_what_degrades_it_and_where_to_go(tmp_path):
    links = {
        "degraded": "without liquidations of okx",
        "runbook_url": "https://runbooks.example/LiquidationRisk.md",
        "dashboard_url": "https://grafana.example/d/asset?var-asset=BTC",
    }

    assert read("text", group(alert(**links)), tmp_path) == (
        "BTC risk 80 < 100 & rising.\n"
        "Degraded: without liquidations of okx.\n"
        "Since 10:00:00 UTC.\n"
        "Runbook: https://runbooks.example/LiquidationRisk.md\n"
        "Dashboard: https://grafana.example/d/asset?var-asset=BTC\n"
        "\n"
        "Silence: http://alertmanager.example/#/silences/new?filter=%7Balertname%3D%22LiquidationRisk%22%2C%20asset%3D%22BTC%22"
        "%2C%20family%3D%22market%22%2C%20severity%3D%22critical%22%7D"
    )


@pytest.mark.slow
def test_an_end_is_said_to_be_one_and_what_is_not_there_is_not_said(tmp_path):
    over = group(alert("resolved", degraded="", runbook_url="deploy/runbooks/X.md"), alert("resolved"), status="resolved")

    assert read("title", over, tmp_path) == "resolved: BTC: Liquidation Risk 80 of 100 (2 alerts)"
    assert read("title", group(alert()), tmp_path) == "critical: BTC: Liquidation Risk 80 of 100"
    text = read("text", over, tmp_path)
    assert text.startswith(
        "[resolved] BTC risk 80 < 100 & rising.\nSince 10:00:00 UTC until 10:05:00.\nRunbook: deploy/runbooks/X.md\n\n"
    )
    assert "Degraded" not in text
    assert "no value" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["telegram", "html"])
def test_markup_escapes_what_alerts_say(name, tmp_path):
    text = read(name, group(alert()), tmp_path, kind="html")

    assert "BTC risk 80 &lt; 100 &amp; rising." in text
    assert "<b>critical: BTC" in text or "<h3>critical: BTC" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("severity", "status", "color", "level"),
    [
        ("critical", "firing", "danger", "critical"),
        ("warning", "firing", "warning", "warning"),
        ("none", "firing", "warning", "info"),
        ("critical", "resolved", "good", "critical"),
    ],
)
def test_receivers_are_told_the_severity_in_their_own_words(severity, status, color, level, tmp_path):
    told = group(alert(), severity=severity, status=status)

    assert (read("slack.color", told, tmp_path), read("pagerduty.severity", told, tmp_path)) == (color, level)


def labelled(text):
    name, *labels = text.split()
    return {"alertname": name, **dict(label.split("=") for label in labels)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("firing", "muted"),
    [
        (
            # Of one asset the worst; what has no asset is no asset's.
            [
                "LiquidationCascade family=market severity=critical asset=BTC position_side=LONG",
                "LiquidationRisk family=market severity=warning asset=BTC",
                "LiquidationRisk family=market severity=warning asset=ETH",
                "LiquidationRisk family=market severity=info asset=ETH",
                "CascadesInManyAssets family=market severity=critical",
                "StablecoinsEnterExchanges family=market severity=info",
                "FeedDown family=pipeline severity=warning venue=okx",
            ],
            {("LiquidationRisk", "BTC", "warning"), ("LiquidationRisk", "ETH", "info")},
        ),
        (
            # The cause, not what follows from it; and never the market.
            [
                "ProcessDown family=pipeline severity=critical instance=a",
                "SpoolGrowing family=pipeline severity=warning instance=a",
                "SpoolBlocked family=pipeline severity=critical instance=b",
                "CommitStale family=pipeline severity=warning instance=b",
                "CommitStale family=pipeline severity=warning instance=c",
                "AllFeedsDown family=pipeline severity=critical",
                "FeedDown family=pipeline severity=warning venue=okx",
                "LiquidationRisk family=market severity=critical asset=BTC",
            ],
            {("SpoolGrowing", None, "warning"), ("CommitStale", None, "warning"), ("FeedDown", None, "warning")},
        ),
    ],
    ids=["market", "pipeline"],
)
def test_what_is_worse_and_what_is_the_cause_mute_the_rest(whole, tmp_path, firing, muted):
    port = free_port()
    command = [real_program("prometheus-alertmanager"), f"--config.file={whole}", f"--storage.path={tmp_path}"]
    url = f"http://127.0.0.1:{port}"
    with running(
        [*command, f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="], log=tmp_path / "log"
    ) as server:
        wait_until_it_answers(f"{url}/-/ready", server)
        posted = [{"labels": labelled(text), "annotations": {"summary": text}} for text in firing]
        assert httpx.post(f"{url}/api/v2/alerts", json=posted, trust_env=False).is_success
        deadline = time.monotonic() + 10
        while True:
            found = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
            if len(found) == len(firing) and all(alert["status"]["state"] != "unprocessed" for alert in found):
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
    suppressed = [alert["labels"] for alert in found if alert["status"]["inhibitedBy"]]

    assert {(labels["alertname"], labels.get("asset"), labels["severity"]) for labels in suppressed} == muted
    assert all(labels.get("instance") != "c" for labels in suppressed)
