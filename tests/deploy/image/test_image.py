"""The built image under a real engine without a daemon: who it runs as, what it may, how it ends, how large it is.

``make image-test`` builds it and runs this; IMAGE names another image.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from deltalake import DeltaTable
from packaging.requirements import Requirement
from real_servers import free_port

from cascadewatch.demo import simulated_endpoints
from flows.stopping import STOP_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.image]

ROOT = Path(__file__).parents[3]
IMAGE = os.environ.get("IMAGE", "localhost/cascadewatch:latest")
BUILD = ROOT / "deploy" / "image" / "build.sh"
CONFIGURATION = Path(__file__).with_name("containers.conf")
VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
MEGABYTE = 1_000_000
MAX_IMAGE_MEGABYTES = 650
MEMORY_BYTES = 1536 * 1024**2
KILLED_FOR_MEMORY = 137
START_SECONDS = 120
CLOSED_OFF = ["--network", "host", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL"]  # noqa: S108 - its own
CLOSED_OFF += ["--security-opt", "no-new-privileges"]


def podman(*arguments: object, code: int | None = 0) -> str:
    """Run podman; return what it prints."""
    assert shutil.which("podman"), "podman is not on PATH: make image-test installs it"
    done = subprocess.run(
        ["podman", *map(str, arguments)],
        cwd=tempfile.gettempdir(),  # where a container is killed for its memory, its monitor leaves a file
        env={**os.environ, "CONTAINERS_CONF": str(CONFIGURATION)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert code is None or done.returncode == code, f"{arguments}: {done.returncode}: {done.stderr}"
    return done.stdout


def inside(*arguments: object, options: tuple[object, ...] = (), code: int | None = 0) -> str:
    """Run a program of the image's in a container of its own."""
    program, *rest = arguments
    return podman("run", "--rm", *CLOSED_OFF, *options, "--entrypoint", program, IMAGE, *rest, code=code)


def about_image(image: str = IMAGE) -> dict[str, Any]:
    [told] = json.loads(podman("image", "inspect", image))
    return dict(told)


@contextmanager
def simulator() -> Iterator[str]:
    command = [sys.executable, "-m", "simulator", "--parent-pipe", "--scenario", "long-cascade", "--speed", "5"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.kill()


def settings(url: str, port: int) -> list[str]:
    told = simulated_endpoints(url, VENUES)
    given = {
        "METRICS__PORT": port,
        "ENDPOINTS": json.dumps(told["endpoints"]),
        "CHAIN__URL": told["chain"]["url"],
        "CHAIN__LOOKBACK_BLOCKS": 40,
        "MINING__BASE_URLS": json.dumps(told["mining"]["base_urls"]),
    }
    return [word for name, value in given.items() for word in ("--env", f"CASCADEWATCH_{name}={value}")]


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"not ready within {START_SECONDS} s"
        time.sleep(0.05)


@dataclass
class Story:
    """One container, run, looked at, stopped, and started again on the same volume."""

    seconds_until_healthy: float = 0.0
    seconds_until_ready: float = 0.0
    seconds_to_stop: float = 0.0
    status: str = ""
    command: str = ""
    memory_limit: str = ""
    peak_memory: str = ""
    is_healthy: bool = False
    exit_codes: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    owner: int = -1


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    told = Story()
    name = f"cascadewatch-test-{secrets.token_hex(4)}"
    port = free_port()
    try:
        with simulator() as url:
            told.exit_codes += (_first_run(told, name, settings(url, port), port),)
            folder = Path(podman("volume", "inspect", name, "--format", "{{.Mountpoint}}").strip())
            told.owner = folder.stat().st_uid
            told.rows += (DeltaTable(str(folder / "tables" / "liquidations")).count(),)
            podman("start", name)
            wait_until_ready(port)
            time.sleep(6)
            podman("stop", "--time", 20, name)
            told.exit_codes += (int(podman("inspect", name, "--format", "{{.State.ExitCode}}")),)
            told.rows += (DeltaTable(str(folder / "tables" / "liquidations")).count(),)
        yield told
    finally:
        podman("rm", "--force", name, code=None)
        podman("volume", "rm", name, code=None)


def _first_run(told: Story, name: str, given: list[str], port: int) -> int:
    begin = time.monotonic()
    volume = f"{name}:/var/lib/cascadewatch"
    podman("run", "--detach", "--name", name, *CLOSED_OFF, "--memory", MEMORY_BYTES, "--volume", volume, *given, IMAGE)
    while not told.is_healthy:
        told.is_healthy = _succeeds("healthcheck", "run", name)
        assert time.monotonic() < begin + START_SECONDS, podman("logs", name)
    told.seconds_until_healthy = time.monotonic() - begin
    wait_until_ready(port)
    told.seconds_until_ready = time.monotonic() - begin
    time.sleep(8)  # rows, and more than one epoch
    told.status = podman("exec", name, "cat", "/proc/1/status")
    told.command = podman("exec", name, "cat", "/proc/1/cmdline").replace("\0", " ")
    told.memory_limit = _of_cgroup(name, "memory.limit_in_bytes", "memory.max")
    told.peak_memory = _of_cgroup(name, "memory.max_usage_in_bytes", "memory.peak")
    begin = time.monotonic()
    podman("stop", "--time", 20, name)
    told.seconds_to_stop = time.monotonic() - begin
    return int(podman("inspect", name, "--format", "{{.State.ExitCode}}"))


def _of_cgroup(name: str, *files: str) -> str:
    """Read a value of the container's control group, of version 1 or 2."""
    script = " || ".join(f"cat /sys/fs/cgroup/{folder}{file} 2>/dev/null" for file in files for folder in ("memory/", ""))
    return podman("exec", name, "/bin/sh", "-c", script).strip()


def test_the_program_is_process_1_as_nobody_with_no_capability_and_no_way_to_more(story: Story) -> None:
    status = dict(line.split(":\t", 1) for line in story.status.splitlines() if ":\t" in line)

    assert story.command.strip() == "/opt/cascadewatch/bin/python /opt/cascadewatch/bin/cascadewatch run --live"
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_it_ends_on_sigterm_in_time_with_code_0_and_carries_on_where_it_was(story: Story) -> None:
    assert story.seconds_to_stop < STOP_SECONDS + 0.5
    assert story.exit_codes == (0, 0)
    assert 0 < story.rows[0] < story.rows[1]


def test_its_volume_belongs_to_its_user(story: Story) -> None:
    assert story.owner == 10_001


def test_it_stays_within_the_memory_that_the_manifests_grant(story: Story) -> None:
    assert int(story.memory_limit) == MEMORY_BYTES
    assert int(story.peak_memory) < MEMORY_BYTES * 0.7


def test_what_needs_more_memory_than_granted_is_killed() -> None:
    greedy = ("python", "-c", "print(len(bytes(b'1') * (600 << 20)))")

    inside(*greedy, options=("--memory", "256m", "--memory-swap", "256m"), code=KILLED_FOR_MEMORY)


def test_the_health_check_passes_only_while_the_program_answers(story: Story) -> None:
    command = about_image()["Healthcheck"]["Test"]

    assert story.is_healthy
    assert command[0] == "CMD"
    nobody_there = ("--env", f"CASCADEWATCH_METRICS__PORT={free_port()}")
    inside(*command[1:], options=nobody_there, code=1)


def test_its_root_cannot_be_written() -> None:
    told = inside(
        "/bin/sh", "-c", "touch /x /opt/x /opt/cascadewatch/x; touch /tmp/x /var/lib/cascadewatch/x && echo yes", code=0
    )

    assert told == "yes\n"


def test_nothing_is_left_that_builds_or_installs() -> None:
    names = "pip pip3 gcc cc g++ ld make cmake cargo git curl wget apt apt-get npm"
    told = inside("/bin/sh", "-c", f"for name in {names}; do command -v $name; done; python -m pip; python -m ensurepip; true")

    assert told == ""


def spelt(name: str) -> str:
    """Return a package's name as the lock spells it."""
    return name.lower().replace("_", "-").replace(".", "-")


def test_what_is_installed_is_what_the_lock_names() -> None:
    listing = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    installed = {spelt(name): version for name, version in json.loads(inside("python", "-c", listing)).items()}
    version = json.loads(inside("python", "-c", "import sys, json; print(json.dumps('%d.%d' % sys.version_info[:2]))"))
    environment = {"python_version": version, "python_full_version": f"{version}.9", "sys_platform": "linux"}
    environment |= {"platform_system": "Linux", "platform_machine": "x86_64"}
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    named = [Requirement(line.rstrip(" \\")) for line in lines if "==" in line and not line.startswith(" ")]
    wanted = {
        spelt(each.name): str(each.specifier).removeprefix("==")
        for each in named
        if each.marker is None or each.marker.evaluate(environment)
    }

    assert installed.pop("cascadewatch") == "0.1.0"
    assert installed == wanted


def test_it_says_what_it_is() -> None:
    config = about_image()["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["cascadewatch"]
    assert config["StopSignal"] == "SIGTERM"
    assert labels["title"] == "cascadewatch"
    assert labels["version"] == "0.1.0"
    assert len(labels["revision"]) == 40


def test_size_and_start(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    size = about_image()["Size"] / MEGABYTE
    figures = f"image {size:.0f} MB, healthy after {story.seconds_until_healthy:.1f} s, ready after "
    figures += f"{story.seconds_until_ready:.1f} s, stopped in {story.seconds_to_stop:.1f} s, "
    figures += f"peak memory {int(story.peak_memory) / MEGABYTE:.0f} MB"
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")

    assert size < MAX_IMAGE_MEGABYTES


def of_compose(service: dict[str, Any]) -> list[str]:
    """Return the options by which podman runs a service of the compose file, on the network of this machine."""
    options = ["--detach", "--network", "host", "--add-host", "simulator:127.0.0.1", "--add-host", "alertmanager:127.0.0.1"]
    options += ["--read-only"] if service["read_only"] else []
    options += [word for name in service["cap_drop"] for word in ("--cap-drop", name)]
    options += [word for name in service["security_opt"] for word in ("--security-opt", name.removesuffix(":true"))]
    options += [word for folder in service["tmpfs"] for word in ("--tmpfs", f"{folder}:mode=1777")]
    options += [word for name, value in service.get("environment", {}).items() for word in ("--env", f"{name}={value}")]
    return [*options, "--memory", service["deploy"]["resources"]["limits"]["memory"].lower()]


def test_simulator_and_flow_as_compose_starts_them_find_each_other() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    simulated, flow = services["simulator"], services["flow"]
    names = [f"cascadewatch-test-{secrets.token_hex(4)}" for _ in range(2)]
    metrics, market = free_port(), free_port()  # the file's own may be somebody's here
    at_home = {"8900": str(market), ":8900": f":{market}"}
    command = [at_home.get(word, word) for word in simulated["command"]]
    program, *rest = simulated["entrypoint"]
    try:
        options = of_compose(simulated)
        podman("run", "--name", names[0], *options, "--entrypoint", program, IMAGE, *rest, *command)
        check = [word.replace(":8900", f":{market}") for word in simulated["healthcheck"]["test"][1:]]
        deadline = time.monotonic() + START_SECONDS
        while not _succeeds("exec", names[0], *check):
            assert time.monotonic() < deadline, podman("logs", names[0])
            time.sleep(0.5)
        options = [word.replace(":8900", f":{market}") for word in of_compose(flow)]
        podman("run", "--name", names[1], *options, "--env", f"CASCADEWATCH_METRICS__PORT={metrics}", IMAGE)
        wait_until_ready(metrics)
    finally:
        for name in names:
            podman("rm", "--force", "--volumes", name, code=None)


def _succeeds(*arguments: str) -> bool:
    told = subprocess.run(
        ["podman", *arguments],
        env={**os.environ, "CONTAINERS_CONF": str(CONFIGURATION)},
        cwd=tempfile.gettempdir(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return told.returncode == 0


def test_the_same_tree_gives_the_same_layers() -> None:
    again = f"localhost/cascadewatch-again:{secrets.token_hex(4)}"
    time_of_first = about_image()["Config"]["Labels"]["org.opencontainers.image.created"]
    epoch = int(time.mktime(time.strptime(time_of_first, "%Y-%m-%dT%H:%M:%SZ"))) - time.timezone
    subprocess.run([str(BUILD), again], env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}, check=True, capture_output=True)
    try:
        assert about_image(again)["RootFS"] == about_image()["RootFS"]
    finally:
        podman("rmi", again, code=None)
