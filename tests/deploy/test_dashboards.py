"""The dashboards: files as their source says, words for every panel, and an answer of a real Prometheus to every question."""

from __future__ import annotations

import importlib
import json
import re
import sys
import threading
import time

import httpx
import pytest
import yaml
from dashboard_files import FILES, GRAFANA, Question, panels, read
from real_servers import free_port, real_program, running, wait_until_it_answers
from simulated_run import simulated_run

from connectors.sinks.metric_list import METRICS

DEPLOY = GRAFANA.parent
NAMES = {metric.name: metric for metric in METRICS}
UIDS = {"cascadewatch-asset", "cascadewatch-market", "cascadewatch-pipeline", "cascadewatch-slo"}
UNITS = {"short", "currencyUSD", "percentunit", "s", "bytes", "Bps"}
MODULES = ("panels", "market_overview", "asset_detail", "feeds_and_pipeline", "objective")
SCRAPE_SECONDS = 1
CHOSEN = {"asset": "BTC", "venue": ".+", "instance": ".+", "__rate_interval": "10s"}


def module(name):
    """A module of the dashboards' source, which is a folder of scripts and no package."""
    sys.path.insert(0, str(GRAFANA))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(GRAFANA))


def described():
    found = (value for name in MODULES[1:] for value in vars(module(name)).values())
    return {each.uid: each for each in found if isinstance(each, module("panels").Dashboard)}


def all_questions():
    return [
        Question(board.uid, panel.title, query.expr, query.legend, bool(query.may_be_empty))
        for board in described().values()
        for panel in board.panels
        for query in panel.queries
    ]


def all_panels():
    return [
        pytest.param(board["uid"], panel, id=f"{board['uid']} {panel['title']}")
        for board in boards()
        for panel in panels(board)
    ]


def boards():
    return [read(path) for path in FILES]


# What the files are


def test_there_are_the_four_dashboards_each_in_a_file_of_its_name():
    assert {path.stem for path in FILES} == {board["uid"] for board in boards()} == set(described()) == UIDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_what_its_source_makes(path):
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's library has no build for Python 3.10")
    build = module("build")
    by_uid = {board.uid: board for board in build.DASHBOARDS}

    assert path.read_text(encoding="utf-8") == build.text_of(by_uid[path.stem]), "make it anew: python deploy/grafana/build.py"


def test_a_file_asks_what_its_source_asks():
    asked = sorted(
        (board["uid"], panel["title"], target["expr"], target["legendFormat"])
        for board in boards()
        for panel in panels(board)
        for target in panel["targets"]
    )

    assert asked == sorted((each.dashboard, each.panel, each.expr, each.legend) for each in all_questions())


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_numbers_and_titles_of_panels_are_unique_and_none_overlaps_another(board):
    everything = board["panels"]
    places = [
        (x, y)
        for panel in everything
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len({panel["id"] for panel in everything}) == len({panel["title"] for panel in everything}) == len(everything)
    assert len(places) == len(set(places))
    assert max(x for x, _y in places) < 24


@pytest.mark.parametrize(("uid", "panel"), all_panels())
def test_every_panel_says_what_it_shows_in_what_unit(uid, panel):
    assert len(panel["description"]) > 8
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize(("uid", "panel"), all_panels())
def test_every_metric_of_a_panel_exists_and_its_legend_shows_labels_that_the_metric_has(uid, panel):
    for target in panel["targets"]:
        question = Question(uid, panel["title"], target["expr"], target["legendFormat"], may_be_empty=False)
        labels = set().union(*(NAMES[name].labels for name in question.metrics if name != "up"))

        assert question.metrics <= {*NAMES, "up"}
        assert question.metrics
        assert question.legend_labels <= labels | {"instance"}


@pytest.mark.parametrize(("uid", "panel"), all_panels())
def test_every_runbook_that_a_panel_links_to_exists(uid, panel):
    links = [link["url"] for link in panel["links"]]

    assert all(re.fullmatch(r"\$\{runbooks\}/\w+\.md", link) for link in links)
    assert all((DEPLOY / "runbooks" / link.rpartition("/")[2]).is_file() for link in links)


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_every_variable_is_used_and_every_one_used_is_there(board):
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(
        re.findall(r"\$\{?(\w+)\}?", json.dumps([board["panels"], [v.get("datasource") for v in board["templating"]["list"]]]))
    )

    assert used - {"__rate_interval"} == variables


def test_grafana_is_told_of_one_source_and_one_folder():
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/cascadewatch.yml").read_text())["providers"]
    scraping = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]

    assert (source["type"], source["isDefault"], source["url"]) == ("prometheus", True, "$PROMETHEUS_URL")
    assert source["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)


# What Prometheus answers


class Prometheus:
    """A real one, asked as Grafana asks it."""

    def __init__(self, address):
        self.url = f"http://{address}"
        self._client = httpx.Client(base_url=f"{self.url}/api/v1", trust_env=False, timeout=30)

    def ask(self, expr):
        answer = self._client.post("/query", data={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        return answer["data"]["result"]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._client.close()

    def wait_until_it_has(self, expr):
        deadline = time.monotonic() + 30
        while not self.ask(expr):
            assert time.monotonic() < deadline, f"no answer to {expr}"
            threading.Event().wait(0.3)

    def values_of(self, label, metric):
        return self._client.get(f"/label/{label}/values", params={"match[]": metric}).json()["data"]


def shipped_configuration(folder, target):
    """The shipped file with another target and second, and without rules and Alertmanager."""
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    configuration["global"] = {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"global": configuration["global"], "scrape_configs": [job]}))
    return path


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """One that has scraped a run through the beginning of a cascade; nothing answers where that pushes its alerts."""
    program = real_program("prometheus")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    nobody = {"ALERTMANAGER__URLS": f"http://127.0.0.1:{free_port()}"}
    with simulated_run(folder / "data", **nobody) as run:
        command = [
            program,
            f"--config.file={shipped_configuration(folder, run.metrics_address)}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
        ]
        with running(command, log=folder / "prometheus.log") as server:
            wait_until_it_answers(f"http://127.0.0.1:{port}/-/ready", server)
            for metric in ("cascade_running", "stablecoin_flow_usd", "hashprice_usd_per_ph_day", "open_interest_usd"):
                run.wait_until(lambda page, metric=metric: f"\ncascadewatch_{metric}" in page, seconds=60)
            with Prometheus(f"127.0.0.1:{port}") as asked:
                asked.wait_until_it_has("count_over_time(cascadewatch_cascade_running[5s]) >= 3")
                asked.wait_until_it_has("cascadewatch_chain_block_timestamp_seconds")
                asked.wait_until_it_has('rate(cascadewatch_rows_committed_total{table="cascades"}[10s])')
                yield asked


@pytest.mark.slow
@pytest.mark.parametrize("question", all_questions(), ids=lambda each: f"{each.dashboard} {each.panel}: {each.legend}")
def test_every_question_is_answered_with_the_labels_that_its_legend_shows(question, prometheus):
    found = prometheus.ask(question.asked(CHOSEN))

    assert found or question.may_be_empty
    assert all(question.legend_labels <= set(series["metric"]) for series in found)
    assert all(series["value"][1] != "NaN" for series in found) or "histogram_quantile" in question.expr


@pytest.mark.slow
@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_every_choice_of_a_dashboard_has_values(board, prometheus):
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()

            assert prometheus.values_of(label, metric), variable["name"]


@pytest.mark.slow
def test_a_dashboard_can_be_drawn(prometheus, tmp_path):
    picture = module("picture")
    (path,) = (path for path in FILES if path.stem == "cascadewatch-slo")
    with picture.Asked(prometheus.url, minutes=1, asset="BTC") as asked:
        picture.draw(read(path), asked, tmp_path / "slo.png")

    assert (tmp_path / "slo.png").read_bytes().startswith(b"\x89PNG")


def test_every_dashboard_has_its_picture_on_the_page():
    docs = DEPLOY.parent / "docs"
    shown = re.findall(r"!\[[^]]+\]\(pictures/([\w-]+)\.png\)", (docs / "dashboards.md").read_text(encoding="utf-8"))

    assert set(shown) == UIDS == {path.stem for path in (docs / "pictures").glob("cascadewatch-*.png")}
