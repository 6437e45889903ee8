"""The script that changes the number of pods: what it does in which order, told by a kubectl that only writes down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import pytest
from manifests import ROOT, resources, stateful_set
from real_servers import real_program

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "deploy" / "scale.sh"
_RECORDER = """#!/usr/bin/env bash
echo "$*" >>"$RECORD/calls"
case "$*" in
*"get statefulset"*) cat "$RECORD/statefulset.json" ;;
*"get configmap"*) cat "$RECORD/tables" ;;
*"get pods"*) ;;
*create*) cat "${@: -3:1}" >>"$RECORD/jobs" && echo job.batch/one ;;
*.status.succeeded*) [ -e "$RECORD/fails" ] || echo -n 1 ;;
*Failed*) [ ! -e "$RECORD/fails" ] || echo -n True ;;
*logs*) echo "cascadewatch: the store does not take the rows" ;;
esac
"""


@dataclass
class Recorded:
    """A folder with a kubectl, and what it was asked."""

    folder: Path

    def scale(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "RECORD": str(self.folder)}
        done = subprocess.run([str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return [re.sub(r"\S+/job.json", "FILE", line) for line in calls.read_text().splitlines()] if calls.exists() else []

    def changes(self) -> list[str]:
        return [call.partition(" cascadewatch ")[2] for call in self.calls() if " get " not in call]


@pytest.fixture
def sharded(tmp_path):
    return recorder(tmp_path, "sharded")


def recorder(folder: Path, overlay: str) -> Recorded:
    (folder / "kubectl").write_text(_RECORDER)
    (folder / "kubectl").chmod(0o755)
    (folder / "statefulset.json").write_text(json.dumps(stateful_set(overlay)))
    (folder / "tables").write_text(settings_of(overlay).get("CASCADEWATCH_SINK__TABLES_URI", ""))
    return Recorded(folder)


def settings_of(overlay: str) -> dict[str, str]:
    [settings] = [each["data"] for each in resources(overlay) if each["kind"] == "ConfigMap"]
    return dict(settings)


def patch(count: int) -> str:
    """Return the change of both places at once."""
    container = f'{{"name":"flow","env":[{{"name":"COUNT","value":"{count}"}}]}}'
    return f'{{"spec":{{"replicas":{count},"template":{{"spec":{{"containers":[{container}]}}}}}}}}'


def test_it_stops_all_has_each_hand_over_and_starts_the_new_number(sharded):
    done = sharded.scale("5")

    assert done.returncode == 0, done.stderr
    assert sharded.changes() == [
        "scale statefulset cascadewatch --replicas=0",
        "create --filename FILE --output name",
        "create --filename FILE --output name",
        "create --filename FILE --output name",
        f"patch statefulset cascadewatch --type strategic --patch {patch(5)}",
        "rollout status statefulset/cascadewatch --timeout 300s",
    ]
    assert "write 5 into your overlay" in done.stdout


def test_it_starts_nothing_while_a_shard_has_not_handed_over_and_says_what_to_do(sharded):
    (sharded.folder / "fails").touch()

    done = sharded.scale("5")

    assert done.returncode == 1
    assert [change.split()[0] for change in sharded.changes()] == ["scale", "create", "logs"]
    assert "the store does not take the rows" in done.stderr + done.stdout
    assert "shard 0/3 has not handed over" in done.stderr


def test_it_goes_back_to_the_old_number_without_draining(sharded):
    assert sharded.scale("3").returncode == 0

    assert [change.split()[0] for change in sharded.changes()] == ["scale", "patch", "rollout"]


def test_it_only_says_what_it_would_do(sharded):
    done = sharded.scale("--dry-run", "--namespace", "elsewhere", "2")

    assert done.returncode == 0, done.stderr
    assert [call for call in sharded.calls() if " get " not in call] == []
    assert f"+ kubectl --namespace elsewhere patch statefulset cascadewatch --type strategic --patch {patch(2)}" in done.stdout


def test_processes_of_a_cluster_have_nothing_to_hand_over(tmp_path):
    cluster = recorder(tmp_path, "cluster")

    assert cluster.scale("2").returncode == 0
    assert [change.split()[0] for change in cluster.changes()] == ["scale", "patch", "rollout"]


def test_tables_that_only_one_pod_reaches_are_not_divided(tmp_path):
    single = recorder(tmp_path, "single")

    done = single.scale("2")

    assert done.returncode == 1
    assert "Set CASCADEWATCH_SINK__TABLES_URI first" in done.stderr
    assert single.changes() == []


@pytest.mark.parametrize("arguments", [(), ("0",), ("65",), ("three",), ("--replicas", "3")])
def test_what_makes_no_sense_changes_nothing(sharded, arguments):
    assert sharded.scale(*arguments).returncode == 2
    assert sharded.calls() == []


@pytest.mark.parametrize("overlay", ["single", "sharded", "demo"])
def test_its_jobs_are_the_pods_themselves_with_their_volume(overlay):
    number = 0 if overlay == "single" else 1
    script = str(ROOT / "deploy" / "kubernetes" / "drain_job.py")
    told = subprocess.run(
        [sys.executable, script, str(number)],
        input=json.dumps(stateful_set(overlay)),
        capture_output=True,
        text=True,
        check=True,
    )
    job = json.loads(told.stdout)
    theirs, ours = stateful_set(overlay)["spec"]["template"]["spec"], job["spec"]["template"]["spec"]

    kubernetes_validate.validate({**job, "metadata": {**job["metadata"], "name": "given-by-the-server"}}, "1.27", strict=True)
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-cascadewatch-{number}"}}
    assert ours["volumes"] == [*theirs["volumes"], claim]
    for same in ("securityContext", "serviceAccountName", "enableServiceLinks", "automountServiceAccountToken"):
        assert ours[same] == theirs[same]
    for same in ("image", "command", "envFrom", "securityContext", "volumeMounts", "resources"):
        assert ours["containers"][0][same] == theirs["containers"][0][same]
    assert ours["containers"][0]["args"] == ['CASCADEWATCH_SHARD="${POD_NAME##*-}/$COUNT" exec cascadewatch drain']


def test_no_job_is_made_of_what_is_no_shard():
    script = str(ROOT / "deploy" / "kubernetes" / "drain_job.py")
    told = subprocess.run(
        [sys.executable, script, "0"], input=json.dumps(stateful_set("cluster")), capture_output=True, text=True, check=False
    )

    assert told.returncode == 1
    assert "its pods are no shards" in told.stderr


def test_scripts_hold_no_known_trap():
    scripts = [str(path) for path in (ROOT / "deploy").rglob("*.sh")]
    checked = subprocess.run([real_program("shellcheck"), *scripts], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout
