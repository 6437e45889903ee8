"""Starts the simulated market as a process of its own and points the settings at it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

SCENARIOS = ("long-cascade", "calm", "short-squeeze", "burst", "single-print")
_END_SECONDS = 5.0


class DemoError(Exception):
    """The simulator could not be started; the message says why."""


@contextmanager
def simulated_market(scenario: str, seed: int) -> Iterator[str]:
    """Run the simulator beside this process; give its URL once it listens.

    It ends with the context, and by itself should this process die.

    Raises:
        DemoError: It did not start.
    """
    command = [sys.executable, "-m", "simulator", "--port", "0", "--parent-pipe"]
    command += ["--scenario", scenario, "--seed", str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            yield _url(process)
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _url(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise DemoError(
            f"the simulator did not start (exit code {process.wait()}); its reason is printed above. "
            "Is its extra installed? pip install 'cascadewatch[simulator]'"
        )
    return str(json.loads(line)["url"])


def simulated_endpoints(url: str, venues: Sequence[str]) -> dict[str, Any]:
    """Return the settings that replace the vendors' addresses by the simulator's."""
    socket_url = url.replace("http", "ws", 1)
    return {
        "endpoints": {venue: {"rest_url": f"{url}/{venue}", "websocket_url": f"{socket_url}/{venue}"} for venue in venues},
        "chain": {"url": f"{url}/ethereum", "poll_seconds": 3.0},
        "mining": {"source": "mempool", "base_urls": {"mempool": f"{url}/mempool"}},
    }
