"""What can stand between a program and its object store, over loopback: nothing, slowness, refusals, silence.

It passes bytes on as they are, so that signatures stay valid, and looks only at where each request begins.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK_BYTES = 64 * 1024
_READING = (b"GET", b"HEAD")


class StoreProxy(socketserver.ThreadingTCPServer):
    """A proxy of one store. What is public may be set at any time, and counts for requests that come after.

    Attributes:
        delay_seconds: Each request waits for so long.
        refuses_with: Status that is the answer to each request, such as 503; None passes them on.
        refuses_writes_only: Then requests that read are passed on.
        is_silent: Requests are taken and never answered.
    """

    def __init__(self, store_url: str) -> None:
        """Stand before the store at this URL."""
        super().__init__(("127.0.0.1", 0), _Connection)
        self.store = urlsplit(store_url)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.delay_seconds = 0.0
        self.refuses_with: int | None = None
        self.refuses_writes_only = False
        self.is_silent = False
        self.is_ending = threading.Event()
        self.open: set[socket.socket] = set()

    def refusal_of(self, request: bytes) -> bytes | None:
        """Return the answer to a request that is not passed on."""
        if self.refuses_with is None or (self.refuses_writes_only and request.startswith(_READING)):
            return None
        return f"HTTP/1.1 {self.refuses_with} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

    def end(self) -> None:
        """End all connections and the server."""
        self.is_ending.set()
        self.shutdown()
        for each in list(self.open):
            _end(each)
        self.server_close()  # waits for the threads of all connections


class _Connection(socketserver.BaseRequestHandler):
    """One connection, until either side ends it."""

    server: StoreProxy
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection((self.server.store.hostname, self.server.store.port)) as store:
            both = {self.request, store}
            self.server.open |= both
            self._is_next_request = True
            answers = threading.Thread(target=self._pass_answers, args=(store,))
            answers.start()
            with suppress(OSError):
                self._pass_requests(store)
            for each in both:
                _end(each)
            answers.join()
            self.server.open -= both

    def _pass_requests(self, store: socket.socket) -> None:
        while chunk := self.request.recv(_CHUNK_BYTES):
            if self._is_next_request:
                self._is_next_request = False
                self.server.is_ending.wait(self.server.delay_seconds)
                if self.server.is_silent:
                    self.server.is_ending.wait()
                refusal = self.server.refusal_of(chunk)
                if refusal is not None:
                    self.request.sendall(refusal)
                    return
            store.sendall(chunk)

    def _pass_answers(self, store: socket.socket) -> None:
        with suppress(OSError):
            while chunk := store.recv(_CHUNK_BYTES):
                self._is_next_request = True  # after an answer
                self.request.sendall(chunk)
        _end(self.request)


def _end(connection: socket.socket) -> None:
    """End a connection that another thread may be reading from."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def store_proxy(store_url: str) -> Iterator[StoreProxy]:
    """Run a proxy while the context lasts."""
    proxy = StoreProxy(store_url)
    serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, name="store proxy", daemon=True)
    serving.start()
    try:
        yield proxy
    finally:
        proxy.end()
        serving.join()
