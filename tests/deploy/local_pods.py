"""Pods of an overlay as processes here: their own command and settings, with folders for volumes and loopback for pods.

What differs from a cluster is listed in :meth:`LocalCluster._at_home`, and nothing else does.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from manifests import Resource, resources, started, the

SIMULATOR = "simulator:8900"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
"""Shorter than the pods' grace: what an engine without settings grants."""

_OTHER_PROCESS = "${POD_NAME%-*}-$other.cascadewatch:"


@dataclass
class Pod:
    """A running pod: its process, and where it is probed."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    address: str
    probes: dict[str, str]

    def probe(self, kind: str) -> int:
        """Return the status that a probe gets; 0 when nobody answers."""
        try:
            return httpx.get(self.probes[kind], trust_env=False, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def words(self) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-4_000:]

    def wait(self, seconds: float) -> int:
        """Return the exit code.

        Raises:
            AssertionError: It does not end in time; it is killed then.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s: {self.words()}") from None

    def stop(self) -> int:
        """Ask it to end, as the kubelet does; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Let it die without a word."""
        self.process.kill()
        self.process.wait()

    def is_running(self) -> bool:
        """Say whether it has not ended."""
        return self.process.poll() is None


@dataclass
class LocalCluster:
    """The pods of one overlay.

    Attributes:
        market: Host and port of the simulator.
        settings: What an operator would add to the ConfigMap.
        secret: What an operator would put into ``secrets.toml``.
    """

    overlay: str
    folder: Path
    market: str
    settings: dict[str, str] = field(default_factory=dict)
    secret: str = ""
    _network: str = field(default_factory=lambda: f"127.{10 + secrets.randbelow(200)}.{secrets.randbelow(250)}")
    _around: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        """Lay out what volumes and the Secret would hold."""
        (self.folder / "secrets").mkdir(parents=True)
        (self.folder / "secrets" / "secrets.toml").write_text(self.secret)

    @property
    def among(self) -> list[Resource]:
        """Return the overlay's resources."""
        return resources(self.overlay)

    def data(self, number: int) -> Path:
        """Return the folder that is a pod's volume."""
        return self.folder / f"data-cascadewatch-{number}"

    @property
    def tables(self) -> Path:
        """Return the folder that is the volume of the tables, where they have one."""
        return self.folder / "tables"

    def start(self, number: int, *, count: int | None = None) -> Pod:
        """Start a pod of the StatefulSet; ``count`` as deploy/scale.sh would have changed it."""
        [container] = the("StatefulSet", "cascadewatch", self.among)["spec"]["template"]["spec"]["containers"]
        return self.run(container, number, name=f"cascadewatch-{number}", count=count)

    def run(self, container: Resource, number: int, *, name: str, count: int | None = None) -> Pod:
        """Start a container of a pod that has the volume of this number."""
        pod_name = f"cascadewatch-{number}"
        what = started(container, self.among, pod_name=pod_name)
        environment = {**what.environment, **self.settings, **({} if count is None else {"COUNT": str(count)})}
        address = f"{self._network}.{10 + number}"
        environment = {key: self._at_home(value, number) for key, value in environment.items()}
        assert environment["CASCADEWATCH_METRICS__HOST"] == "0.0.0.0"  # noqa: S104 - in a pod; here it is the pod's address
        environment["CASCADEWATCH_METRICS__HOST"] = address
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("CASCADEWATCH_")}
        inherited["PATH"] = f"{Path(sys.executable).parent}:{inherited['PATH']}"
        self.data(number).mkdir(exist_ok=True)
        log = self.folder / f"{name}.log"
        with log.open("ab") as words:
            process = subprocess.Popen(
                [self._at_home(word, number) for word in what.command],
                cwd=self.data(number),
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", ())}
        probes = {
            kind: f"http://{address}:{ports[asked['port']]}{asked['path']}"
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
            if (asked := container.get(kind, {}).get("httpGet"))
        }
        pod = Pod(name, process, log, address, probes)
        self._around.callback(pod.kill)
        return pod

    def _at_home(self, text: str, number: int) -> str:
        """Replace what a cluster has by what this machine has: paths of volumes, the simulator's name, the names of pods."""
        for theirs, ours in (
            ("/var/lib/cascadewatch", str(self.data(number))),
            ("/var/lib/tables", str(self.tables)),
            ("/etc/cascadewatch", str(self.folder / "secrets")),
            (SIMULATOR, self.market),
            (_OTHER_PROCESS, f"{self._network}.$((10 + other)):"),
        ):
            text = text.replace(theirs, ours)
        return text

    def close(self) -> None:
        """Kill what still runs."""
        self._around.close()


@contextmanager
def local_cluster(
    overlay: str, folder: Path, market: str, *, settings: dict[str, str] | None = None, secret: str = ""
) -> Iterator[LocalCluster]:
    """Give the pods of an overlay; none outlives the context."""
    cluster = LocalCluster(overlay, folder, market, settings or {}, secret)
    try:
        yield cluster
    finally:
        cluster.close()


def wait_for(pods: list[Pod], kind: str, *, seconds: float = START_SECONDS) -> None:
    """Return when a probe succeeds at all of them.

    Raises:
        AssertionError: It does not in time, or one has ended; with the end of what it said.
    """
    deadline = time.monotonic() + seconds
    for pod in pods:
        while pod.probe(kind) != httpx.codes.OK:
            assert pod.is_running(), f"{pod.name} ended: {pod.words()}"
            assert time.monotonic() < deadline, f"{pod.name}: no {kind} after {seconds} s: {pod.words()}"
            time.sleep(0.1)
