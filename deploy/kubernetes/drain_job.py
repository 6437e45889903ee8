"""Read a StatefulSet as JSON and print the Job that finishes what one of its pods has left: ``drain_job.py NUMBER < FILE``.

The Job is the pod itself, with its volume, settings, secrets and rights, and with ``cascadewatch drain`` for a command. Only
Python's own library is needed.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

RUN = "exec cascadewatch run --live"
DRAIN = "exec cascadewatch drain"

_ONLY_FOR_WHAT_STAYS = ("startupProbe", "livenessProbe", "readinessProbe", "ports")
_ATTEMPTS = 3


def drain_job(stateful_set: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the Job for the pod of this number.

    Raises:
        ValueError: The pods of this StatefulSet are not shards.
    """
    metadata, spec = stateful_set["metadata"], stateful_set["spec"]
    pod_name = f"{metadata['name']}-{number}"
    template = copy.deepcopy(spec["template"])
    template["metadata"] = {"labels": {**template["metadata"]["labels"], "app.kubernetes.io/component": "drain"}}
    pod = template["spec"]
    pod.pop("topologySpreadConstraints", None)
    pod["restartPolicy"] = "Never"
    pod["containers"] = [_draining(pod["containers"][0], pod_name)]
    pod["volumes"] = [*pod.get("volumes", []), *(_claimed(each, pod_name) for each in spec.get("volumeClaimTemplates", []))]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{pod_name}-drain-",
            **({"namespace": metadata["namespace"]} if "namespace" in metadata else {}),
            "labels": template["metadata"]["labels"],
        },
        "spec": {"backoffLimit": _ATTEMPTS - 1, "ttlSecondsAfterFinished": 86_400, "template": template},
    }


def _draining(container: dict[str, Any], pod_name: str) -> dict[str, Any]:
    changed = {key: value for key, value in container.items() if key not in _ONLY_FOR_WHAT_STAYS}
    changed["args"] = [word.replace(RUN, DRAIN) for word in container["args"]]
    if changed["args"] == container["args"]:
        raise ValueError(f"{pod_name} does not say '{RUN}': its pods are no shards, there is nothing to drain")
    others = [each for each in container["env"] if each["name"] != "POD_NAME"]
    changed["env"] = [{"name": "POD_NAME", "value": pod_name}, *others]
    return changed


def _claimed(claim: dict[str, Any], pod_name: str) -> dict[str, Any]:
    name = claim["metadata"]["name"]
    return {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{pod_name}"}}


if __name__ == "__main__":
    print(json.dumps(drain_job(json.load(sys.stdin), int(sys.argv[1])), indent=2))
