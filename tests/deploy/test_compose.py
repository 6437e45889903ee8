"""What docker compose would start: read by its own specification, held against the files that it mounts and the program."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose
from manifests import ROOT, resources
from real_servers import real_program

from cascadewatch.demo import simulated_endpoints
from flows.settings import Settings
from flows.stopping import STOP_SECONDS

FILE = ROOT / "deploy" / "compose.yaml"
VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
_DEFAULT = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


def text():
    """Return the file with its variables at their defaults."""
    return _DEFAULT.sub(r"\1", FILE.read_text())


def read(name=None):
    composed = yaml.safe_load(text())
    return composed if name is None else composed["services"][name]


def strictly(words):
    """Read it by the specification, which knows what YAML's own merging has become."""
    return PyCompose.from_json(json.dumps(yaml.safe_load(words)))


def test_compose_knows_every_key_and_value():
    assert strictly(text())
    assert set(read()["services"]) == {"simulator", "flow", "prometheus", "alertmanager", "grafana"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("read_only", "readonly"), ("unless-stopped", "until-stopped"), ("service_healthy", "service_helthy")],
)
def test_a_misspelt_key_or_value_would_be_found(right, wrong):
    assert right in text()

    with pytest.raises(Exception, match=wrong):
        strictly(text().replace(right, wrong))


def test_every_setting_is_one_of_the_programs():
    names = [name for name in read("flow")["environment"] if name.startswith("CASCADEWATCH_")]
    keys = {name.removeprefix("CASCADEWATCH_").lower().split("__")[0] for name in names}

    assert len(names) == len(read("flow")["environment"])
    assert keys <= set(Settings.model_fields)


@pytest.mark.slow
def test_the_flow_watches_the_simulator_at_the_port_that_it_serves():
    simulator, flow = read("simulator"), read("flow")
    port = simulator["command"][simulator["command"].index("--port") + 1]
    told = simulated_endpoints(f"http://simulator:{port}", VENUES)

    assert json.loads(flow["environment"]["CASCADEWATCH_ENDPOINTS"]) == told["endpoints"]
    assert flow["environment"]["CASCADEWATCH_CHAIN__URL"] == told["chain"]["url"]
    assert json.loads(flow["environment"]["CASCADEWATCH_MINING__BASE_URLS"]) == told["mining"]["base_urls"]
    [demo] = [each["data"] for each in resources("demo") if each["kind"] == "ConfigMap"]
    assert json.loads(demo["CASCADEWATCH_ENDPOINTS"]) == told["endpoints"]


def test_nothing_listens_beyond_loopback_and_every_container_is_closed_off():
    for name, service in read()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name


def test_the_flow_has_longer_to_end_than_a_stop_takes():
    assert int(read("flow")["stop_grace_period"].removesuffix("s")) > STOP_SECONDS


def test_every_folder_that_is_mounted_exists():
    sources = [
        volume.partition(":")[0]
        for service in read()["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]

    assert len(sources) == 5
    for source in sources:
        assert source == "./secrets" or (FILE.parent / source).is_dir(), source


@pytest.mark.slow
def test_names_of_containers_are_the_only_difference_to_the_shipped_prometheus_configuration(tmp_path: Path):
    theirs = read()["configs"]["prometheus"]["content"]
    for name, address in (("flow:", "127.0.0.1:"), ("alertmanager:", "127.0.0.1:")):
        theirs = theirs.replace(f"[{name}", f"[{address}")

    assert yaml.safe_load(theirs) == yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(read()["configs"]["prometheus"]["content"])
    (tmp_path / "rules").symlink_to(ROOT / "deploy" / "prometheus" / "rules")
    command = [real_program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_its_dashboards_are_where_grafana_is_told_to_look():
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/cascadewatch.yml").read_text())["providers"][0]
    targets = {volume.split(":")[1] for volume in read("grafana")["volumes"]}

    assert provider["options"]["path"] in targets
    assert "$PROMETHEUS_URL" in (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    assert "PROMETHEUS_URL" in read("grafana")["environment"]
