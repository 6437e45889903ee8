"""The overlays as a cluster would get them, and a pod's container as the kubelet would start it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("single", "sharded", "cluster", "demo")
MINOR_VERSION = 27
"""kubectl 1.27 brings the first kustomize (5.0) that knows all that the overlays use."""

Resource = dict[str, Any]

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


@cache
def kubectl() -> str:
    """Return the path of a kubectl that can render; without one skip, or fail where ``CI`` is set."""
    for found in (shutil.which("kubectl"), shutil.which("kubectl", path=str(Path(sys.executable).parent))):
        if found is not None and _minor_version(found) >= MINOR_VERSION:
            return found
    words = f"no kubectl 1.{MINOR_VERSION} or newer: deploy/get-kubectl.sh .venv installs it"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def _minor_version(program: str) -> int:
    told = subprocess.run([program, "version", "--client", "--output=json"], capture_output=True, text=True, check=True)
    found = re.match(r"\d+", json.loads(told.stdout)["clientVersion"]["minor"])
    assert found is not None, told.stdout
    return int(found[0])


def _rendered(folder: Path) -> str:
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecated fields are warned of
    return done.stdout


@cache
def resources(overlay: str) -> list[Resource]:
    """Return all that an overlay consists of: always the same objects, which nobody may change."""
    return resources_in(FOLDER / "overlays" / overlay)


def resources_in(folder: Path) -> list[Resource]:
    """Return all that a kustomization consists of."""
    return [each for each in yaml.load_all(_rendered(folder), Loader=yaml.CSafeLoader) if each]


def the(kind: str, name: str, among: list[Resource]) -> Resource:
    """Return the one resource of a kind and name."""
    [found] = [each for each in among if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def stateful_set(overlay: str) -> Resource:
    """Return an overlay's one StatefulSet."""
    return the("StatefulSet", "cascadewatch", resources(overlay))


def pod_templates(among: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Return every pod's specification with the kind of what makes it."""
    for each in among:
        if each["kind"] in {"StatefulSet", "Deployment", "Job"}:
            yield each["kind"], each["spec"]["template"]
        if each["kind"] == "CronJob":
            yield each["kind"], each["spec"]["jobTemplate"]["spec"]["template"]


@dataclass(frozen=True)
class Started:
    """What the kubelet would execute."""

    command: list[str]
    environment: dict[str, str]


def started(container: Resource, among: list[Resource], *, pod_name: str) -> Started:
    """Return a container's command and environment, with references resolved as the kubelet does.

    Args:
        container: Of the manifest. A command must be named: the image's own is not known here.
        among: All resources, for the ConfigMaps.
        pod_name: For the downward API.
    """
    environment: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        environment.update(the("ConfigMap", source["configMapRef"]["name"], among)["data"])
    for variable in container.get("env", ()):
        environment[variable["name"]] = _expanded(_value(variable, pod_name), environment)
    words = [*container.get("command", ["cascadewatch"]), *container.get("args", [])]
    return Started([_expanded(word, environment) for word in words], environment)


def _value(variable: Resource, pod_name: str) -> str:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}, "teach this helper what is new"
    return pod_name


def _expanded(text: str, environment: dict[str, str]) -> str:
    """Replace ``$(NAME)`` where there is such a variable, and ``$$`` by ``$``."""

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return environment.get(found[1], found[0])

    return _REFERENCE.sub(replacement, text)
