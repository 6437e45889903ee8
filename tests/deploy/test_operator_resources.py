"""What is said to Prometheus in a cluster: the operator's resources, strictly, and the plain file for those without it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1
from manifests import FOLDER, OVERLAYS, resources_in, stateful_set, the
from pydantic import ValidationError
from real_servers import real_program

pytestmark = pytest.mark.slow  # kubectl renders, promtool reads

PLAIN = FOLDER / "plain" / "scrape-config.yaml"
RULE_WRITER = FOLDER / "prometheus_rule.py"
JOB = "cascadewatch"


def kinds():
    return {"PodMonitor": v1.PodMonitor, "PrometheusRule": v1.PrometheusRule}


def unknown_keys(said, understood, path=""):
    """Return what the models, which pass over keys that they do not know, have lost."""
    if isinstance(said, dict) and isinstance(understood, dict):
        for key, value in said.items():
            yield from unknown_keys(value, understood[key], f"{path}.{key}") if key in understood else [f"{path}.{key}"]
    if isinstance(said, list) and isinstance(understood, list):
        for number, (one, other) in enumerate(zip(said, understood, strict=True)):
            yield from unknown_keys(one, other, f"{path}[{number}]")


def check(resource):
    model = kinds()[resource["kind"]].model_validate(resource)
    return list(unknown_keys(resource, model.model_dump(mode="json", by_alias=True, exclude_unset=True)))


@pytest.fixture(scope="module")
def with_operator(tmp_path_factory):
    """An operator's own kustomization: the overlay and the component."""
    folder = tmp_path_factory.mktemp("own")

    def path(there: Path) -> str:
        return os.path.relpath(there, folder)

    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "cascadewatch",
        "resources": [path(FOLDER / "overlays" / "sharded")],
        "components": [path(FOLDER / "components" / "operator")],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return resources_in(folder)


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_the_operator_knows_every_key(with_operator, kind):
    assert check(the(kind, "cascadewatch", with_operator)) == []


def test_a_misspelt_key_and_a_wrong_value_would_be_found(with_operator):
    misspelt = copy.deepcopy(the("PodMonitor", "cascadewatch", with_operator))
    misspelt["spec"]["podMetricsEndpoints"][0]["intervall"] = "5s"
    wrong = copy.deepcopy(the("PrometheusRule", "cascadewatch", with_operator))
    wrong["spec"]["groups"][0]["rules"][0]["for"] = "soon"

    assert check(misspelt) == [".spec.podMetricsEndpoints[0].intervall"]
    with pytest.raises(ValidationError, match="for"):
        check(wrong)


def test_the_monitor_finds_the_pods_at_a_port_that_they_have_and_names_the_job_as_the_rules_do(with_operator):
    monitor = the("PodMonitor", "cascadewatch", with_operator)["spec"]
    template = the("StatefulSet", "cascadewatch", with_operator)["spec"]["template"]
    labels = template["metadata"]["labels"]

    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["podMetricsEndpoints"][0]["port"] in {each["name"] for each in template["spec"]["containers"][0]["ports"]}
    assert labels[monitor["jobLabel"]] == JOB
    assert f'job="{JOB}"' in yaml.safe_dump(the("PrometheusRule", "cascadewatch", with_operator), width=10_000)


def test_the_rules_are_those_of_the_files():
    checked = subprocess.run([sys.executable, str(RULE_WRITER), "--check"], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


def test_rules_that_were_changed_are_noticed(tmp_path):
    (tmp_path / "prometheus" / "rules").mkdir(parents=True)
    (tmp_path / "prometheus" / "rules" / "one.yml").write_text("groups: [{name: one, rules: []}]")
    (tmp_path / "kubernetes" / "components" / "operator").mkdir(parents=True)
    copied = tmp_path / "kubernetes" / RULE_WRITER.name
    copied.write_bytes(RULE_WRITER.read_bytes())

    def run(*arguments):
        return subprocess.run([sys.executable, str(copied), *arguments], capture_output=True, text=True, check=False)

    assert run("--check").returncode == 1
    assert run().returncode == 0
    assert run("--check").returncode == 0
    (tmp_path / "prometheus" / "rules" / "two.yml").write_text("groups: [{name: two, rules: []}]")
    assert "python deploy/kubernetes/prometheus_rule.py" in run("--check").stderr


def test_prometheus_takes_the_plain_file(tmp_path):
    # Debian's Prometheus is built without Kubernetes: pods are replaced by an address, all else is checked.
    plain = yaml.safe_load(PLAIN.read_text())
    discovery = plain["scrape_configs"][0].pop("kubernetes_sd_configs")
    plain["scrape_configs"][0]["static_configs"] = [{"targets": ["127.0.0.1:9464"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(plain))
    command = [real_program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr
    assert discovery == [{"role": "pod", "namespaces": {"names": ["cascadewatch"]}}]


def test_the_plain_file_finds_the_pods_by_what_they_are_labelled():
    [job] = yaml.safe_load(PLAIN.read_text())["scrape_configs"]
    wanted = job["relabel_configs"][0]["regex"]
    for overlay in OVERLAYS:
        template = stateful_set(overlay)["spec"]["template"]
        labels = template["metadata"]["labels"]
        port = next(each for each in template["spec"]["containers"][0]["ports"] if each["containerPort"] == 9464)
        found = f"{labels['app.kubernetes.io/name']}/{labels['app.kubernetes.io/component']}/{port['name']}"
        assert found == wanted, overlay
    assert job["job_name"] == JOB
