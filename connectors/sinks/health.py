"""One HTTP server per process: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for whoever starts and watches it.

Healthy: the flow moves. If it does not, a restart may help. Ready: it also sees the market and can keep what it sees. If it
does not, a restart would not help.
"""

from __future__ import annotations

import errno
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from connectors import clock
from connectors.secrets import SECRETS
from market.feeds import LiquidationFeeds, Sight, liquidations_feed
from market.raw import FeedState, FeedStatus

DEFAULT_MAX_BATCH_AGE_SECONDS = 15.0
"""Ticks make twenty batches a second; an epoch with a slow disk may take some. Below Kubernetes' three failures in 30 s."""

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Environment = dict[str, Any]

_REQUEST_SECONDS = 10.0  # a client that says nothing for so long is hung up on
_JOIN_SECONDS = 5.0
_STOP_CHECK_SECONDS = 0.05  # how often it looks whether it shall stop: half a second by default, which each stop then takes


class HealthServerError(Exception):
    """The server cannot listen; the message names the setting."""


@dataclass
class HealthState:
    """What health depends on. Written by the flow, the event loop and the uploader, read by the server.

    Attributes:
        max_batch_age_seconds: A flow whose last batch is older than this does not move.
    """

    max_batch_age_seconds: float = DEFAULT_MAX_BATCH_AGE_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _last_batch_seconds: float = 0.0
    _expected_feeds: frozenset[str] = frozenset()
    _connections: dict[str, set[str]] = field(default_factory=dict)
    _silences: dict[str, list[str]] = field(default_factory=dict)
    _journal_error: str | None = None
    _is_spool_blocked: bool = False
    _commit_errors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Count the start as a batch."""
        self.batch_handed_on()

    def batch_handed_on(self) -> None:
        """The flow moves: its source has handed on a batch, maybe an empty one."""
        self._last_batch_seconds = clock.monotonic_seconds()

    def expect_feeds(self, names: Iterable[str]) -> None:
        """Ready means that each of these feeds has a connection."""
        with self._lock:
            self._expected_feeds = frozenset(names)

    def observe_batch(self, events: Iterable[Any]) -> None:
        """Take events of the flow: what became of connections, and what can be seen over them."""
        for event in events:
            if type(event) is FeedStatus:
                self.feed_status(event.feed, event.connection, event.state)
            elif type(event) is LiquidationFeeds:
                self.feeds_seen(event)

    def feed_status(self, feed: str, connection: str, state: FeedState) -> None:
        """Take what became of a connection. Polls, which may fail and be made up for, do not count."""
        with self._lock:
            if state is FeedState.CONNECTED:
                self._connections.setdefault(feed, set()).add(connection)
            elif state in {FeedState.LOST, FeedState.REFUSED}:
                self._connections.get(feed, set()).discard(connection)

    def feeds_seen(self, feeds: LiquidationFeeds) -> None:
        """Take which connected feeds say nothing: they are as good as not connected."""
        silences = [
            f"feed {liquidations_feed(venue)} is {each.reason}"
            for venue, each in sorted(feeds.sights.items())
            if each.sight is Sight.SILENT
        ]
        with self._lock:
            self._silences[feeds.cause.feed_partition] = silences

    def journal_failed(self, reason: str) -> None:
        """Frames can no longer be journaled."""
        self._journal_error = reason

    def journal_works(self) -> None:
        """Frames can be journaled again."""
        self._journal_error = None

    def rows_spooled(self, table: str, rows: int) -> None:
        """Rows are safe on the local disk: nothing to note."""

    def spool_bytes(self, size_bytes: int) -> None:
        """The spool has this size: nothing to note."""

    def spool_blocked(self, *, is_blocked: bool) -> None:
        """The spool is full and the flow waits, or no longer."""
        if not is_blocked:
            self.batch_handed_on()  # it has not had the time for one yet
        self._is_spool_blocked = is_blocked

    def committed(self, table: str, rows: int, seconds: float) -> None:  # noqa: ARG002 - an observer's
        """A commit is done."""
        with self._lock:
            self._commit_errors.pop(table, None)

    def commit_failed(self, table: str, error: str, reason: str) -> None:
        """A commit failed and will be tried again."""
        with self._lock:
            self._commit_errors[table] = SECRETS.clean(f"{error}: {reason}")

    def batch_age_seconds(self) -> float:
        """Return how long ago the flow last handed on a batch, or started."""
        return clock.monotonic_seconds() - self._last_batch_seconds

    def stalled_seconds(self) -> float:
        """Return for how long the flow has not moved, as far as a restart may help.

        0 while it waits for room in the spool: what comes then is journaled. Started anew, it would find the store away, and
        not even do that.
        """
        return 0.0 if self._is_spool_blocked else self.batch_age_seconds()

    def unhealthy(self) -> list[str]:
        """Say why the flow does not move; empty while it does."""
        age = self.stalled_seconds()
        if age <= self.max_batch_age_seconds:
            return []
        return [f"the last batch was {age:.0f} s ago, allowed are {self.max_batch_age_seconds:.0f} s"]

    def not_ready(self) -> list[str]:
        """Say what is missing for the flow to see the market and to keep what it sees; empty when nothing is."""
        with self._lock:
            missing = [
                f"feed {name} is not connected" for name in sorted(self._expected_feeds) if not self._connections.get(name)
            ]
            missing += [words for silences in self._silences.values() for words in silences]
            if self._journal_error is not None:
                missing.append(f"the journal cannot be written: {self._journal_error}")
            if self._is_spool_blocked:
                missing.append("the spool is full and the store does not take its rows: frames are journaled, the flow waits")
            return missing + self.unhealthy()

    def commit_errors(self) -> dict[str, str]:
        """Return the last error of every table whose commits fail at present; rows wait in the spool meanwhile."""
        with self._lock:
            return dict(self._commit_errors)


class HealthServer:
    """Serve metrics and health, in threads of its own."""

    def __init__(self, registry: CollectorRegistry, state: HealthState, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Describe the server; :meth:`start` makes it listen. Port 0 picks a free one."""
        self._host = host
        self._wanted_port = port
        self._app = _App(make_wsgi_app(registry), state)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._wanted_port if self._server is None else self._server.server_port

    def start(self) -> None:
        """Listen, and serve until closed.

        Raises:
            HealthServerError: The address cannot be had.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._server = _Server((self._host, self._wanted_port), family)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise HealthServerError(
                    f"metrics.port: {self._wanted_port} on {self._host} is taken by another program; "
                    "choose another, or 0 for a free one"
                ) from error
            raise HealthServerError(
                f"metrics.host, metrics.port: cannot listen on {self._host}:{self._wanted_port}: {error}"
            ) from error
        self._server.set_app(self._app)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_CHECK_SECONDS,), name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(_JOIN_SECONDS)
            self._server = None


class _App:
    """The router."""

    def __init__(self, metrics: Callable[..., Iterable[bytes]], state: HealthState) -> None:
        self._metrics = metrics
        self._state = state

    def __call__(self, environ: Environment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return self._metrics(environ, start_response)
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _answer(start_response, "405 Method Not Allowed", {"error": "GET only"})
        if path == "/healthz":
            return self._healthz(start_response)
        if path == "/readyz":
            return self._readyz(start_response)
        return _answer(start_response, "404 Not Found", {"error": "there are /metrics, /healthz and /readyz"})

    def _healthz(self, start_response: StartResponse) -> Iterable[bytes]:
        reasons = self._state.unhealthy()
        body = {
            "healthy": not reasons,
            "reasons": reasons,
            "last_batch_age_seconds": round(self._state.batch_age_seconds(), 3),
        }
        return _answer(start_response, "503 Service Unavailable" if reasons else "200 OK", body)

    def _readyz(self, start_response: StartResponse) -> Iterable[bytes]:
        reasons = self._state.not_ready()
        body = {"ready": not reasons, "reasons": reasons, "commit_errors": self._state.commit_errors()}
        return _answer(start_response, "503 Service Unavailable" if reasons else "200 OK", body)


def _answer(start_response: StartResponse, status: str, body: dict[str, Any]) -> Iterable[bytes]:
    content = json.dumps(body).encode() + b"\n"
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log nothing: probes come every few seconds."""


class _Server(ThreadingWSGIServer):
    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()
