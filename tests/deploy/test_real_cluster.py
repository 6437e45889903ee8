"""The demo in the cluster that kubectl reaches now, if it does: a pod killed, two shards become three, the tables whole.

``make test-kubernetes`` runs it. The nodes must have the image localhost/cascadewatch:latest (docs/kubernetes.md says how) and
make volumes on demand. It makes the namespace cascadewatch-demo, removes it at the end, and touches nothing else.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from manifests import FOLDER, ROOT, kubectl

pytestmark = [pytest.mark.slow, pytest.mark.kubernetes]

DEMO = FOLDER / "overlays" / "demo"
NAMESPACE = "cascadewatch-demo"
START_SECONDS = 300


def asked(*arguments: object, code: int | None = 0, seconds: float = 60) -> str:
    """Ask kubectl; return what it prints."""
    command = [kubectl(), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    assert code is None or done.returncode == code, f"{arguments}: {done.stderr}"
    return done.stdout


def within(*arguments: object, code: int | None = 0, seconds: float = 60) -> str:
    return asked("--namespace", NAMESPACE, *arguments, code=code, seconds=seconds)


def require_cluster() -> None:
    """Skip with a sentence where there is none that this may use."""
    if not asked("get", "--raw=/readyz", "--request-timeout=5s", code=None):
        pytest.skip("kubectl reaches no cluster: name one in KUBECONFIG, such as that of kind or minikube")
    if asked("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"):
        pytest.skip(f"the cluster has a namespace {NAMESPACE} already, which is not this test's to remove")


def rows(sql: str) -> list[dict[str, Any]]:
    """Ask the tables, in the first pod."""
    told = within("exec", "cascadewatch-0", "--", "cascadewatch", "query", sql, "--output", "json", seconds=120)
    return [json.loads(line) for line in told.splitlines()]


def count(table: str, partitions: str) -> int:
    return int(rows(f"SELECT count(*) AS n FROM {table} WHERE feed_partition LIKE '{partitions}'")[0]["n"])  # noqa: S608 - ours


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"not within {START_SECONDS} s: {what}; {within('get', 'pods')}"
        time.sleep(2)


@dataclass
class Story:
    """What happened: rows of each shard before and after, restarts, duplicates."""

    counts: dict[str, int] = field(default_factory=dict)
    scaled: str = ""
    twice: list[dict[str, Any]] = field(default_factory=list)
    shards: str = ""


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    require_cluster()
    told = Story()
    try:
        asked("apply", "--kustomize", DEMO)
        within("rollout", "status", "statefulset/cascadewatch", f"--timeout={START_SECONDS}s", seconds=START_SECONDS + 10)
        wait_until(lambda: count("scores", "1of2g1") > 0, "scores of the second shard")
        told.counts["before"] = count("scores", "1of2g1")
        within("delete", "pod", "cascadewatch-1", "--grace-period=0", "--force", seconds=120)
        wait_until(lambda: count("scores", "1of2g1") > told.counts["before"], "more of them after the pod was killed")
        scale = [str(ROOT / "deploy" / "scale.sh"), "--namespace", NAMESPACE, "3"]
        told.scaled = subprocess.run(scale, capture_output=True, text=True, check=True, timeout=900).stdout
        for index in range(3):
            wait_until(lambda: count("scores", f"{index}of3g2") > 0, f"scores of shard {index}/3")  # noqa: B023 - called here
        identity = "venue, symbol, position_side, event_time, price, base_quantity"
        told.twice = rows(f"SELECT {identity}, count(*) AS n FROM liquidations GROUP BY {identity} HAVING count(*) > 1")  # noqa: S608 - ours
        told.shards = within("exec", "cascadewatch-0", "--", "cascadewatch", "shards", seconds=120)
        yield told
    finally:
        asked("delete", "--kustomize", DEMO, "--ignore-not-found", "--wait=false", code=None, seconds=120)


def test_a_pod_that_was_killed_comes_back_and_goes_on(story: Story) -> None:
    assert story.counts["before"] > 0


def test_three_shards_carry_on_what_two_have_handed_over(story: Story) -> None:
    assert "write 3 into your overlay" in story.scaled
    assert "generation 2" in story.shards


def test_no_liquidation_is_in_the_tables_twice(story: Story) -> None:
    assert story.twice == []
