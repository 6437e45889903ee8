"""What the overlays say, checked against Kubernetes' own schemas and against the program that they start."""

from __future__ import annotations

import copy
import re
from functools import cache
from itertools import chain
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from manifests import FOLDER, OVERLAYS, pod_templates, resources, started, stateful_set, the

from connectors.sinks.health import DEFAULT_MAX_BATCH_AGE_SECONDS
from connectors.sources.registry import VENUES
from flows.settings import JournalSettings, Settings, SinkSettings
from flows.stopping import STOP_SECONDS

pytestmark = pytest.mark.slow  # kubectl renders

VERSIONS = ("1.27", "1.30", "1.33", "1.37")
OPERATORS = "monitoring.coreos.com/"
UNITS = {"Mi": 1024**2, "Gi": 1024**3}


@pytest.fixture(autouse=True, scope="module")
def schemas_are_read_once():
    """Each check would read megabytes of them anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


def size_bytes(text):
    return int(text[:-2]) * UNITS[text[-2:]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_fits_the_schema_and_says_nothing_that_is_not_in_it(overlay, version):
    for each in resources(overlay):
        kubernetes_validate.validate(each, version, strict=True)


def test_a_misspelt_key_would_be_found():
    wrong = copy.deepcopy(stateful_set("single"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 30

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_number_of_pods_is_the_same_in_both_places(overlay):
    spec = stateful_set(overlay)["spec"]
    [count] = [each["value"] for each in spec["template"]["spec"]["containers"][0]["env"] if each["name"] == "COUNT"]

    assert count == str(spec["replicas"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_of_the_programs(overlay):
    names = {name for each in resources(overlay) if each["kind"] == "ConfigMap" for name in each["data"]}
    keys = {name.removeprefix("CASCADEWATCH_").lower().split("__")[0] for name in names}

    assert all(name.startswith("CASCADEWATCH_") for name in names)
    assert keys - {"config"} <= set(Settings.model_fields)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_is_told_of_services_whose_names_would_be_taken_for_settings(overlay):
    assert [
        kind for kind, template in pod_templates(resources(overlay)) if template["spec"].get("enableServiceLinks", True)
    ] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_meets_the_restricted_standard_has_no_token_and_writes_only_to_volumes(overlay):
    for kind, template in pod_templates(resources(overlay)):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, kind
        assert spec["securityContext"]["runAsNonRoot"] is True, kind
        assert spec["securityContext"]["runAsUser"] > 10_000, kind
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, kind
        for container in chain(spec.get("initContainers", ()), spec["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, kind
            assert set(container["resources"]) == {"requests", "limits"}, kind


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_image_that_the_nodes_have_is_not_asked_for_again(overlay):
    """With the tag `latest` Kubernetes would, and find no registry behind what was loaded onto the nodes."""
    for kind, template in pod_templates(resources(overlay)):
        for container in chain(template["spec"].get("initContainers", ()), template["spec"]["containers"]):
            assert container["imagePullPolicy"] == "IfNotPresent", kind


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_longer_to_end_than_a_stop_takes(overlay):
    assert stateful_set(overlay)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 2 * STOP_SECONDS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_what_they_are_for_at_a_port_that_is_served(overlay):
    [container] = stateful_set(overlay)["spec"]["template"]["spec"]["containers"]
    settings = started(container, resources(overlay), pod_name="cascadewatch-0").environment
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    live = container["livenessProbe"]

    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {container[name]["httpGet"]["port"] for name in paths} == {"metrics"}
    assert str(ports["metrics"]) == settings["CASCADEWATCH_METRICS__PORT"]
    assert settings["CASCADEWATCH_METRICS__HOST"] == "0.0.0.0"  # noqa: S104 - within the pod
    # What is unhealthy for an epoch may recover; the health page itself waits so long before it says so.
    assert live["periodSeconds"] * live["failureThreshold"] > DEFAULT_MAX_BATCH_AGE_SECONDS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_volume_holds_what_journal_and_spool_may_grow_to(overlay):
    [claim] = stateful_set(overlay)["spec"]["volumeClaimTemplates"]

    assert claim["metadata"]["name"] == "data"
    assert size_bytes(claim["spec"]["resources"]["requests"]["storage"]) > (
        JournalSettings().limit_bytes + SinkSettings().spool_limit_bytes
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_mounted_is_there_and_settings_point_at_it(overlay):
    for kind, template in pod_templates(resources(overlay)):
        spec = template["spec"]
        volumes = {each["name"] for each in spec.get("volumes", ())} | ({"data"} if kind == "StatefulSet" else set())
        for container in spec["containers"]:
            mounts = {each["mountPath"]: each["name"] for each in container.get("volumeMounts", ())}
            assert set(mounts.values()) <= volumes, kind
            if "envFrom" in container:
                environment = started(container, resources(overlay), pod_name="pod-0").environment
                assert mounts[environment["CASCADEWATCH_DATA_DIR"]] == "data"
                assert mounts[environment["CASCADEWATCH_CONFIG"].rpartition("/")[0]] == "secrets"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_referred_to_by_name_exists(overlay):
    among = resources(overlay)
    claims = {each["metadata"]["name"] for each in among if each["kind"] == "PersistentVolumeClaim"}
    for kind, template in pod_templates(among):
        spec = template["spec"]
        the("ServiceAccount", spec["serviceAccountName"], among)
        for volume in spec.get("volumes", ()):
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in claims | {"data-cascadewatch-0"}, kind
    the("Service", stateful_set(overlay)["spec"]["serviceName"], among)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_budgets_and_policies_choose_pods_that_there_are(overlay):
    among = resources(overlay)
    labels = [template["metadata"]["labels"] for _kind, template in pod_templates(among)]
    chosen = [
        selector.get("matchLabels", selector)
        for each in among
        for key in ("selector", "podSelector")
        if (selector := each["spec"].get(key) if "spec" in each else None)
    ]

    assert len(chosen) >= 5
    for selector in chosen:
        assert any(selector.items() <= pod.items() for pod in labels), selector


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_prometheus_may_come_in_and_only_for_metrics(overlay):
    policy = the("NetworkPolicy", "cascadewatch", resources(overlay))["spec"]

    assert policy["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "cascadewatch"}}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "ports": [{"port": 9464, "protocol": "TCP"}],
        }
    ]


def test_every_address_of_a_venue_and_a_mining_source_may_be_spoken_to():
    addresses = re.findall(r'"((?:https|wss)://[^"{}]+)"', "".join(path.read_text() for path in source_files()))
    ports = {urlsplit(address).port or 443 for address in addresses}
    outside = the("NetworkPolicy", "cascadewatch", resources("single"))["spec"]["egress"][1]

    assert len(addresses) >= len(VENUES)
    assert ports <= {each["port"] for each in outside["ports"]}


def source_files():
    folder = FOLDER.parents[1] / "connectors" / "sources"
    return [*folder.glob("venues/*.py"), *folder.glob("mining/*.py")]


def test_only_a_clusters_processes_reach_its_ports_and_these_are_all_of_theirs():
    among = resources("cluster")
    policy = the("NetworkPolicy", "cascadewatch-processes", among)["spec"]
    processes = {"podSelector": {"matchLabels": stateful_set("cluster")["spec"]["selector"]["matchLabels"]}}

    assert [rule["from"] for rule in policy["ingress"]] == [[processes]]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {2101}
    assert f":{2101}" in stateful_set("cluster")["spec"]["template"]["spec"]["containers"][0]["args"][0]


def test_a_single_pods_tables_are_maintained_where_their_volume_is():
    spec = the("CronJob", "cascadewatch-maintain", resources("single"))["spec"]["jobTemplate"]["spec"]["template"]["spec"]

    assert spec["volumes"][0] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-cascadewatch-0"}}
    [rule] = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"] == stateful_set("single")["spec"]["selector"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_that_looks_like_a_secret_is_in_any_of_them(overlay):
    for each in resources(overlay):
        if each["kind"] == "Secret":
            assert each["data"] == {"secrets.toml": ""}, each["metadata"]["name"]
        assert not re.search(r"(?i)(access_key|password|token)\W+[a-z0-9/+]{12}", yaml.safe_dump(each))
