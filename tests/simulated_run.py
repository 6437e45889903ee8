"""The real program watching the simulated market while a context lasts, for tests that look at what it serves and writes."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from real_servers import RealServer, free_port, running, wait_until_it_answers

from cascadewatch.demo import simulated_endpoints

ROOT = Path(__file__).parents[1]
VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
_PREFIX = "CASCADEWATCH_"


@dataclass
class SimulatedRun:
    """A run: where its data is, what it serves."""

    data: Path
    metrics_address: str
    server: RealServer

    def metrics(self) -> str:
        """Return its page of metrics."""
        return httpx.get(f"http://{self.metrics_address}/metrics", trust_env=False).text

    def wait_until(self, is_so: Callable[[str], bool], seconds: float) -> None:
        """Return when the page of metrics is as wanted."""
        deadline = time.monotonic() + seconds
        while not is_so(self.metrics()):
            assert self.server.process.poll() is None, f"it ended: {self.server.words()}"
            assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {self.server.words()}"
            threading.Event().wait(0.2)


def program_environment(**settings: object) -> dict[str, str]:
    """Return the environment of a process of ours with these settings and none of this machine's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    return inherited | {f"{_PREFIX}{name}": _spelt(value) for name, value in settings.items()}


def _spelt(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


@contextmanager
def simulated_run(
    data: Path, *, scenario: str = "long-cascade", speed: float = 10, seed: int = 1, **settings: object
) -> Iterator[SimulatedRun]:
    """Run simulator and program; yields when it serves metrics. It is asked to stop, and waited for, at the end."""
    data.mkdir(parents=True, exist_ok=True)
    market_log, port = data / "simulator.log", free_port()
    command = [sys.executable, "-m", "simulator", "--scenario", scenario, "--seed", str(seed), "--speed", str(speed)]
    with running(command, log=market_log, cwd=ROOT) as market:
        given = simulated_endpoints(_url(market), VENUES)
        environment = program_environment(
            **{name.upper(): value for name, value in given.items()},
            **{"METRICS__PORT": port, "SINK__COMMIT_INTERVAL_SECONDS": 0.5, **settings},
        )
        run = [sys.executable, "-m", "cascadewatch", "run", "--live", "--plain", "--data", str(data)]
        with running(run, log=data / "run.log", env=environment, cwd=ROOT) as server:
            wait_until_it_answers(f"http://127.0.0.1:{port}/metrics", server)
            yield SimulatedRun(data, f"127.0.0.1:{port}", server)


def _url(market: RealServer) -> str:
    deadline = time.monotonic() + 60
    while True:
        for line in market.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                return str(json.loads(line)["url"])
        assert time.monotonic() < deadline, f"the simulator did not start: {market.words()}"
        assert market.process.poll() is None, f"the simulator ended: {market.words()}"
        threading.Event().wait(0.05)
