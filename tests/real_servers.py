"""The real servers that tests start on loopback: found on PATH, run while a context lasts, asked until they answer.

Where one is missing, continuous integration fails (``CI`` is set) and other machines skip, saying what to install::

    prometheus = real_program("prometheus")
    port = free_port()
    with running([prometheus, f"--web.listen-address=127.0.0.1:{port}", ...], log=tmp_path / "prometheus.log") as server:
        wait_until_it_answers(f"http://127.0.0.1:{port}/-/ready", server)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

INSTALLER = Path(__file__).parents[1] / "deploy" / "install-tools.sh"
START_SECONDS = 60.0
_STOP_SECONDS = 10.0


def real_program(name: str) -> str:
    """Return the path of a program that ``deploy/install-tools.sh`` installs.

    Skips the test where it is missing, or fails it where ``CI`` is set: there nothing may go untested unseen.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    words = f"{name} is not on PATH: as root, deploy/install-tools.sh installs it"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def free_port() -> int:
    """Return a port of loopback that nobody has now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return so many; all are held until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class RealServer:
    """A process and where its words go."""

    process: subprocess.Popen[bytes]
    log: Path

    def words(self) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-4_000:]

    def stop(self) -> None:
        """Ask it to end; make it, when it does not."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[RealServer]:
    """Run a program while the context lasts; what it says goes to ``log``."""
    with log.open("ab") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=env, cwd=cwd)
    server = RealServer(process, log)
    try:
        yield server
    finally:
        server.stop()


def wait_until_it_answers(url: str, server: RealServer, *, seconds: float = START_SECONDS) -> None:
    """Return when ``url`` answers with success.

    Raises:
        AssertionError: It does not in time, or the program ended; with the end of what it said.
    """
    deadline = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while not _answers(client, url):
            assert server.process.poll() is None, f"it ended: {server.words()}"
            assert time.monotonic() < deadline, f"{url} does not answer after {seconds:.0f} s: {server.words()}"
            threading.Event().wait(0.05)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False
