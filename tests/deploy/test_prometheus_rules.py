"""The rules of deploy/prometheus: their own unit tests by promtool, their runbooks, and that each is tested both ways."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from alertmanager_files import SECRETS
from named_metrics import named_in, named_in_files, unknown_in
from prometheus_client import CollectorRegistry, generate_latest
from real_servers import real_program

from connectors.sinks.alert_words import CASCADE, RISK, Alert, labels_of
from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.firing import FiringAlerts
from connectors.sinks.metric_list import METRICS
from connectors.sinks.metrics import Metrics
from views.queries import open_tables, query

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
UNIT_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
RUNBOOKS = DEPLOY / "runbooks"
SENTENCE = re.compile(r"[.](\{\{ end \}\})?$")


@functools.cache
def rules():
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


@functools.cache
def cases():
    """Return alert, whether it is expected to fire, of every unit test."""
    return list(_cases())


def _cases():
    for path in UNIT_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", []):
                yield case["alertname"], bool(case.get("exp_alerts"))


@pytest.mark.slow
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_every_rule_does_what_its_unit_test_says(path):
    done = subprocess.run([real_program("promtool"), "test", "rules", path], check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_prometheus_takes_its_configuration_and_rules(tmp_path):
    promtool = real_program("promtool")
    copied = shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    command = [promtool, "check", "config", copied / "prometheus.yml"]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout


def test_the_job_is_called_as_the_rules_call_it_and_what_it_says_is_a_rules_alert_soon_enough():
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    named = {name for rule in rules() for name in re.findall(r'job="([^"]*)"', rule["expr"])}
    seconds = [int(config["global"][name].removesuffix("s")) for name in ("scrape_interval", "evaluation_interval")]

    assert named == {job["job_name"]} == {"cascadewatch"}
    assert sum(seconds) <= 15  # and some for the delivery, of the 30 s that it may take
    assert "external_labels" not in config["global"]


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in alerts()}))
def test_every_alert_is_tested_to_fire_and_to_keep_quiet(name):
    outcomes = {fires for alert, fires in cases() if alert == name}

    assert outcomes == ({True} if name == "Watchdog" else {True, False})


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_is_wrong_in_sentences_and_where_to_read_on(rule):
    annotations = rule["annotations"]

    assert set(rule["labels"]) >= {"family", "severity"}
    assert rule["labels"]["family"] in {"market", "pipeline"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
    assert annotations["summary"]
    assert not annotations["summary"].endswith(".")
    assert SENTENCE.search(annotations["description"])
    assert len(annotations["description"]) > 60
    assert ("degraded" in annotations) == (rule["labels"]["family"] == "market")


def test_every_runbook_is_there_and_every_one_is_used():
    named = {rule["annotations"]["runbook_url"] for rule in alerts()}

    assert {url.rpartition("/")[0] for url in named} == {"deploy/runbooks"}
    assert {url.rpartition("/")[2] for url in named} == {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}


def test_the_page_about_alerts_names_each_with_its_family_and_every_file_of_secrets():
    page = (DEPLOY.parent / "docs" / "alerts.md").read_text(encoding="utf-8")
    families = {rule["alert"]: rule["labels"]["family"] for rule in alerts()}
    rows = re.findall(r"^\| (market|pipeline) \| ([^|]*) \|", page, re.MULTILINE)

    assert {name: family for family, names in rows for name in re.findall(r"`(\w+)`", names)} == families
    assert [name for name in SECRETS if f"`{name}`" not in page] == []


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_every_runbook_says_what_it_means_what_to_look_at_and_what_to_do(path):
    text = path.read_text()
    if path.stem == "README":
        return

    assert text.startswith(f"# {path.stem}")
    assert [part in text for part in ("**Means.**", "**Look at.**", "**Do.**")] == [True, True, True]
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (path.parent / link).is_file()] == []


@pytest.mark.parametrize("path", [*RULES, *UNIT_TESTS, *sorted(RUNBOOKS.glob("*.md"))], ids=lambda path: path.stem)
def test_every_metric_that_is_named_is_declared(path):
    declared = {metric.name for metric in METRICS}
    named = {re.sub(r"_(bucket|sum|count)$", "", each.metric) for each in named_in(path.read_text())}
    recorded = {rule["record"] for rule in rules() if "record" in rule}

    assert named - declared - recorded == set()


def test_what_is_pushed_and_what_the_rules_say_are_one_alert():
    """Alertmanager takes alerts with the same labels for one: neither way may have a label more."""
    market = {rule["alert"]: rule for rule in alerts() if rule["labels"]["family"] == "market"}

    for name, side in ((RISK, ""), (CASCADE, "LONG")):
        pushed = labels_of(Alert(name, "BTC", side, "critical", 0, None, "0", 1, 0, "", ""))
        grouped_by = re.match(r"max by \(([^)]*)\)", market[name]["expr"])[1].split(", ")
        assert set(pushed) == {"alertname", *market[name]["labels"], *grouped_by}
    severities = {rule["labels"]["severity"]: rule["expr"][-1] for rule in alerts() if rule["alert"] == RISK}
    assert severities == {"critical": "3", "warning": "2", "info": "1"}


# The watch over the watch


def page():
    return generate_latest(Metrics(CollectorRegistry(), firing=FiringAlerts()).registry).decode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate(cascadewatch_liquidatons_total[5m])", "cascadewatch_liquidatons_total: there is no such metric"),
        ('cascadewatch_signal_seconds_bucket{signal="scores"}', "cascadewatch_signal_seconds_bucket: no signal='scores'"),
        ('cascadewatch_signal_seconds_bucket{le="5"}', "cascadewatch_signal_seconds_bucket: no le='5'"),
        ('cascadewatch_signal_seconds_count{kind="score"}', "cascadewatch_signal_seconds_count: no label kind"),
    ],
)
def test_what_a_running_process_does_not_have_is_named(text, words):
    assert next(iter(unknown_in(page(), named_in(text)))).partition(";")[0] == words


def test_what_it_has_and_what_is_recorded_is_not_named():
    text = 'cascadewatch_signal_seconds_bucket{signal="score",le="5.0"} job:cascadewatch_slow_scores:ratio_rate5m'

    assert unknown_in(page(), named_in(text)) == []
    assert named_in_files(RULES)


@pytest.fixture(scope="module")
def empty_tables(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tables"))
    DeltaTables(folder).open()
    return open_tables(folder)


def questions():
    text = "".join(path.read_text() for path in sorted(RUNBOOKS.glob("*.md")))
    return re.findall(r'cascadewatch query[^"]*"([^"]+)"', text)


@pytest.mark.parametrize("question", questions())
def test_every_question_of_a_runbook_can_be_asked(question, empty_tables):
    assert query(question, empty_tables).num_rows == 0
