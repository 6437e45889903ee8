"""The demo in the cluster that kubectl reaches now, if it does: maintained, a pod killed, two shards become three.

Nothing that the simulator says it sent while all were connected may be missing, and nothing be there twice.

``make test-kubernetes`` runs it. The nodes must have the image localhost/cascadewatch:latest (docs/kubernetes.md says how) and
make volumes on demand. It makes the namespace cascadewatch-demo, removes it at the end, and touches nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from liquidation_identity import record_identity
from manifests import FOLDER, ROOT, kubectl

pytestmark = [pytest.mark.slow, pytest.mark.kubernetes]

DEMO = FOLDER / "overlays" / "demo"
NAMESPACE = "cascadewatch-demo"
START_SECONDS = 300
STEADY_SECONDS = 10
IDENTITY = """
    venue, symbol, asset, position_side,
    CAST(round(notional_usd * 1000000) AS BIGINT) AS micros,
    CAST(round(date_part('epoch', event_time) * 1000) AS BIGINT) AS event_time_ms
"""


def asked(*arguments: object, code: int | None = 0, seconds: float = 60, text: str = "") -> str:
    """Ask kubectl, which may read ``text``; return what it prints."""
    command = [kubectl(), *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=seconds)
    assert code is None or done.returncode == code, f"{arguments}: {done.stderr}"
    return done.stdout


def within(*arguments: object, code: int | None = 0, seconds: float = 60, text: str = "") -> str:
    return asked("--namespace", NAMESPACE, *arguments, code=code, seconds=seconds, text=text)


def require_cluster() -> None:
    """Skip with a sentence where there is none that this may use."""
    if not asked("get", "--raw=/readyz", "--request-timeout=5s", code=None):
        pytest.skip("kubectl reaches no cluster: name one in KUBECONFIG, such as that of kind or minikube")
    if asked("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"):
        pytest.skip(f"the cluster has a namespace {NAMESPACE} already, which is not this test's to remove")


def as_served(manifests: str) -> str:
    """Return manifests in versions that the cluster serves: before 1.21 two kinds were v1beta1 only, with the same fields."""
    served = [line.split() for line in asked("api-resources", "--no-headers").splitlines()]
    kinds = {(words[-3], words[-1]) for words in served}  # its version and name; short names may be missing
    documents = list(yaml.safe_load_all(manifests))
    for document in documents:
        if (document["apiVersion"], document["kind"]) not in kinds:
            document["apiVersion"] = document["apiVersion"].partition("/")[0] + "/v1beta1"
    return yaml.safe_dump_all(documents)


def rows(sql: str) -> list[dict[str, Any]]:
    """Ask the tables, in the first pod."""
    told = within("exec", "cascadewatch-0", "--", "cascadewatch", "query", sql, "--output", "json", seconds=120)
    return [json.loads(line) for line in told.splitlines()]


def count(table: str, partitions: str) -> int:
    return int(rows(f"SELECT count(*) AS n FROM {table} WHERE feed_partition LIKE '{partitions}'")[0]["n"])  # noqa: S608 - ours


def environment() -> dict[str, str]:
    """Return one in which scripts find the same kubectl."""
    return {**os.environ, "PATH": f"{Path(kubectl()).parent}{os.pathsep}{os.environ['PATH']}"}


def simulated(path: str) -> Any:
    """Ask the simulator, from the first pod: others may not speak to it."""
    program = f"import urllib.request as web; print(web.urlopen('http://simulator:8900{path}', timeout=30).read().decode())"
    return json.loads(within("exec", "cascadewatch-0", "--", "python", "-c", program, seconds=60))


def maintain(manifests: str) -> str:
    """Run what the CronJob runs, now; return what it said."""
    (cron,) = [each for each in yaml.safe_load_all(manifests) if each["kind"] == "CronJob"]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "maintain-now"},
        "spec": cron["spec"]["jobTemplate"]["spec"],
    }
    within("apply", "--filename", "-", text=json.dumps(job))
    within("wait", "--for=condition=complete", "job/maintain-now", f"--timeout={START_SECONDS}s", seconds=START_SECONDS + 10)
    return within("logs", "job/maintain-now")


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"not within {START_SECONDS} s: {what}; {within('get', 'pods')}"
        time.sleep(2)


@dataclass
class Story:
    """What happened.

    Attributes:
        steady_ms: A time in which all shards were connected, of the simulator's clock.
        counts: Scores of the second shard before its pod was killed, and after.
    """

    steady_ms: tuple[int, int] = (0, 0)
    maintained: str = ""
    counts: tuple[int, int] = (0, 0)
    scaled: str = ""
    shards: str = ""
    written: list[tuple[object, ...]] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    require_cluster()
    told = Story()
    manifests = as_served(asked("kustomize", DEMO))
    try:
        asked("apply", "--filename", "-", text=manifests)
        within("rollout", "status", "statefulset/cascadewatch", f"--timeout={START_SECONDS}s", seconds=START_SECONDS + 10)
        for index in range(2):
            wait_until(lambda: count("scores", f"{index}of2g1") > 0, f"scores of shard {index}/2")  # noqa: B023 - called here
        begin_ms = simulated("/control/state")["now_ms"]
        time.sleep(STEADY_SECONDS)
        told.steady_ms = begin_ms, simulated("/control/state")["now_ms"]
        told.maintained = maintain(manifests)
        before = count("scores", "1of2g1")
        within("delete", "pod", "cascadewatch-1", "--grace-period=0", "--force", seconds=120)
        wait_until(lambda: count("scores", "1of2g1") > before, "more of them after the pod was killed")
        told.counts = before, count("scores", "1of2g1")
        scale = [str(ROOT / "deploy" / "scale.sh"), "--namespace", NAMESPACE, "3"]
        told.scaled = subprocess.run(scale, capture_output=True, text=True, check=True, timeout=900, env=environment()).stdout
        for index in range(3):
            wait_until(lambda: count("scores", f"{index}of3g2") > 0, f"scores of shard {index}/3")  # noqa: B023 - called here
        told.shards = within("exec", "cascadewatch-0", "--", "cascadewatch", "shards", seconds=120)
        told.written = [tuple(row.values()) for row in rows(f"SELECT {IDENTITY} FROM liquidations")]  # noqa: S608 - ours
        venues = simulated("/truth?published=true")["venues"]
        told.published = [record for records in venues.values() for record in records]
        yield told
    finally:
        asked("delete", "--filename", "-", "--ignore-not-found", "--wait=false", code=None, seconds=120, text=manifests)


def test_a_pod_that_was_killed_comes_back_and_goes_on(story: Story) -> None:
    before, after = story.counts

    assert after > before > 0


def test_the_tables_are_maintained_beside_the_pods(story: Story) -> None:
    assert "liquidations" in story.maintained


def test_three_shards_carry_on_what_two_have_handed_over(story: Story) -> None:
    assert "write 3 into your overlay" in story.scaled
    assert "generation 2" in story.shards


def test_every_liquidation_that_came_while_all_were_connected_is_a_row_none_is_there_twice_and_none_was_made_up(
    story: Story,
) -> None:
    begin_ms, end_ms = story.steady_ms
    sent = {record_identity(record) for record in story.published if begin_ms <= record["sent_ms"] < end_ms - 500}
    written = set(story.written)

    assert len(sent) > 50
    assert sent - written == set()
    assert written - set(map(record_identity, story.published)) == set()
    assert len(written) == len(story.written)
