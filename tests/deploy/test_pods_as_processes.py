"""What the overlays start, started: the manifests' own commands, settings and probes, on loopback, against the simulator."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from local_pods import START_SECONDS, LocalCluster, Pod, local_cluster, wait_for
from manifests import ROOT, Resource, resources, stateful_set, the
from s3_server import s3_server

from market.shards import owner_of

pytestmark = pytest.mark.slow

DRAIN_JOB = ROOT / "deploy" / "kubernetes" / "drain_job.py"
QUICK = {"CASCADEWATCH_CHAIN__LOOKBACK_BLOCKS": "40", "CASCADEWATCH_SINK__COMMIT_INTERVAL_SECONDS": "0.5"}
VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")


@contextmanager
def simulator() -> Iterator[str]:
    """Run the simulator; give its host and port."""
    command = [sys.executable, "-m", "simulator", "--parent-pipe", "--scenario", "long-cascade", "--speed", "5"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"].removeprefix("http://")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def market() -> Iterator[str]:
    with simulator() as address:
        yield address


def of_the_simulator() -> dict[str, str]:
    """Return the settings by which the demo watches the simulator, for the overlays that watch the real exchanges."""
    [settings] = [each["data"] for each in resources("demo") if each["kind"] == "ConfigMap"]
    wanted = ("CASCADEWATCH_CHAIN__", "CASCADEWATCH_MINING__", "CASCADEWATCH_ENDPOINTS")
    return {**{key: value for key, value in settings.items() if key.startswith(wanted)}, **QUICK}


def rows(uri: str, table: str, options: dict[str, str] | None = None) -> list[dict[str, Any]]:
    where = f"{uri}/{table}"
    if not DeltaTable.is_deltatable(where, options):
        return []
    return DeltaTable(where, storage_options=options).to_pyarrow_table().to_pylist()


def wait_until(is_so: Callable[[], bool], *, what: str, pods: list[Pod], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        for pod in pods:
            assert pod.is_running(), f"{pod.name} ended before {what}: {pod.words()}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def drain_job(overlay: str, number: int) -> Resource:
    """Return what deploy/scale.sh would create."""
    made = subprocess.run(
        [sys.executable, str(DRAIN_JOB), str(number)],
        input=json.dumps(stateful_set(overlay)),
        capture_output=True,
        text=True,
        check=True,
    )
    job: Resource = json.loads(made.stdout)
    return job


@dataclass
class Scaled:
    """What became of two shards, one of which was killed, and of the three after them."""

    tables: str
    codes: dict[str, list[int]] = field(default_factory=dict)
    early: str = ""
    sequences: dict[str, int] = field(default_factory=dict)


def drain(cluster: LocalCluster, *numbers: int, count: int | None = None) -> list[int]:
    """Run the Jobs of these pods at once; return their exit codes."""
    jobs = []
    for number in numbers:
        [container] = drain_job(cluster.overlay, number)["spec"]["template"]["spec"]["containers"]
        jobs.append(cluster.run(container, number, name=f"drain-{number}", count=count))
    return [job.wait(START_SECONDS) for job in jobs]


@pytest.fixture(scope="module")
def scaled(market: str, tmp_path_factory: pytest.TempPathFactory) -> Scaled:
    with local_cluster("demo", tmp_path_factory.mktemp("demo") / "cluster", market, settings=QUICK) as cluster:
        story = Scaled(str(cluster.tables))

        def partitions() -> set[str]:
            return {row["feed_partition"] for row in rows(story.tables, "scores")}

        pods = [cluster.start(number) for number in range(2)]
        wait_for(pods, "startupProbe")
        wait_for(pods, "readinessProbe")
        wait_until(lambda: len(partitions()) == 2, what="scores of both", pods=pods)
        story.codes["probed"] = [pod.probe("livenessProbe") for pod in pods]
        pods[1].kill()
        story.codes["stopped"] = [pods[0].stop()]
        early = cluster.start(0, count=3)
        story.codes["early"] = [early.wait(START_SECONDS)]
        story.early = early.words()
        story.codes["drained"] = drain(cluster, 0, 1)
        story.codes["drained again"] = drain(cluster, 1)
        pods = [cluster.start(number, count=3) for number in range(3)]
        wait_for(pods, "readinessProbe")
        wait_until(lambda: len(partitions()) == 5, what="scores of all three", pods=pods)
        story.codes["stopped again"] = [pod.stop() for pod in pods]
    return story


def test_pods_of_the_demo_become_ready_are_alive_and_end_in_time(scaled: Scaled) -> None:
    assert scaled.codes["probed"] == [200, 200]
    assert scaled.codes["stopped"] == [0]
    assert scaled.codes["stopped again"] == [0, 0, 0]


def test_each_pod_has_the_shard_of_its_number_and_its_assets_only(scaled: Scaled) -> None:
    wrong = Counter(
        (row["asset"], row["feed_partition"])
        for row in rows(scaled.tables, "scores")
        if owner_of(row["asset"], int(row["feed_partition"][3])) != int(row["feed_partition"][0])
    )

    assert {row["feed_partition"][:4] for row in rows(scaled.tables, "scores")} == {"0of2", "1of2", "0of3", "1of3", "2of3"}
    assert wrong == Counter()


def test_another_number_cannot_begin_before_all_have_handed_over_and_the_jobs_see_to_that(scaled: Scaled) -> None:
    assert scaled.codes["early"] == [1]
    assert "not handed over yet: shard 1/2" in scaled.early
    assert scaled.codes["drained"] == [0, 0]
    assert scaled.codes["drained again"] == [0]


def test_nothing_is_in_the_tables_twice_after_all_that(scaled: Scaled) -> None:
    for table, identity in (
        ("liquidations", ("venue", "symbol", "position_side", "event_time", "price", "base_quantity")),
        ("scores", ("asset", "feed_partition", "sequence")),
    ):
        found = Counter(tuple(row[name] for name in identity) for row in rows(scaled.tables, table))
        assert found, table
        assert [key for key, count in found.items() if count > 1] == [], table


def test_a_single_pod_keeps_its_tables_on_its_volume_and_the_cron_job_maintains_them_there(
    market: str, tmp_path: Path
) -> None:
    with local_cluster("single", tmp_path / "cluster", market, settings=of_the_simulator()) as cluster:
        pod = cluster.start(0)
        wait_for([pod], "readinessProbe")
        tables = str(cluster.data(0) / "tables")
        wait_until(lambda: bool(rows(tables, "liquidations")), what="liquidations", pods=[pod])
        job = the("CronJob", "cascadewatch-maintain", cluster.among)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        maintained = cluster.run(job["containers"][0], 0, name="maintain")
        assert maintained.wait(START_SECONDS) == 0, maintained.words()
        assert "liquidations" in maintained.words()
        assert pod.stop() == 0
        assert {row["feed_partition"] for row in rows(tables, "liquidations")} == {"0"}


def test_one_pod_becomes_shards_and_reaches_its_object_store_by_what_is_in_the_secret(market: str, tmp_path: Path) -> None:
    with s3_server(tmp_path) as store:
        options = store.storage_options()
        secret = "[sink.storage_options]\n" + "".join(f'{key} = "{value}"\n' for key, value in options.items())
        uri = store.uri("cascadewatch")
        settings = {**of_the_simulator(), "CASCADEWATCH_SINK__TABLES_URI": uri}
        with local_cluster("sharded", tmp_path / "cluster", market, settings=settings, secret=secret) as cluster:

            def partitions() -> set[str]:
                return {row["feed_partition"] for row in rows(uri, "scores", options)}

            undivided = cluster.start(0, count=1)
            wait_until(lambda: partitions() == {"0"}, what="scores", pods=[undivided])
            assert undivided.stop() == 0, undivided.words()
            assert drain(cluster, 0, count=1) == [0]
            pod = cluster.start(2)
            wait_for([pod], "readinessProbe")
            wait_until(lambda: partitions() == {"0", "2of3g2"}, what="scores of the shard", pods=[pod])
            assert pod.stop() == 0, pod.words()
        assert "handed_over" in pod.words()


@pytest.mark.cluster
def test_the_pods_of_the_cluster_find_each_other_and_all_that_is_kept_is_with_the_first(market: str, tmp_path: Path) -> None:
    settings = {**of_the_simulator(), "CASCADEWATCH_SINK__TABLES_URI": "/var/lib/tables"}
    with local_cluster("cluster", tmp_path / "cluster", market, settings=settings) as cluster:
        for start in range(2):
            pods = [cluster.start(number, count=2) for number in range(2)]
            wait_for(pods, "livenessProbe")
            wait_for(pods[:1], "readinessProbe")
            before = len(rows(str(cluster.tables), "liquidations"))
            wait_until(
                lambda: len(rows(str(cluster.tables), "liquidations")) > before,  # noqa: B023 - called here
                what=f"new rows after start {start}",
                pods=pods,
            )
            for pod in pods:
                pod.process.terminate()
            assert [pod.wait(20) for pod in pods] == [0, 0], pods[0].words() + pods[1].words()
        assert sorted(path.name for path in (cluster.data(0) / "recovery").glob("*.sqlite3")) == [
            f"part-{number}.sqlite3" for number in range(3)
        ]
        assert not list((cluster.data(1) / "recovery").iterdir())
