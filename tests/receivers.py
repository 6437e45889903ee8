"""Receivers of messages on loopback: what an HTTP API or a mail server would be sent, with the time at which it came."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Message:
    """One that came.

    Attributes:
        at_seconds: When it was complete, since the epoch.
        path: Of the URL; of a mail, its recipient.
    """

    at_seconds: float
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


@dataclass
class Inbox:
    """Messages in the order they came."""

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    _came: threading.Condition = field(default_factory=threading.Condition)

    def add(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Take one."""
        with self._came:
            self.messages.append(Message(time.time(), path, headers, body))
            self._came.notify_all()

    def wait_for(self, is_wanted: Callable[[Message], bool], seconds: float = WAIT_SECONDS) -> Message:
        """Return the first message that is wanted; fail, showing all, when none comes in time."""
        found: list[Message] = []

        def look() -> bool:
            found.extend(message for message in self.messages if is_wanted(message))
            return bool(found)

        with self._came:
            assert self._came.wait_for(look, seconds), f"waited {seconds} s in vain; came: {self.messages}"
        return found[0]


_TAKEN = b'{"ok": true, "result": {"message_id": 1, "date": 1, "chat": {"id": 1, "type": "group"}}}'
"""As Telegram says it, which Alertmanager reads to the end; the others look at the code only."""

Answer = Callable[[Message], tuple[int, dict[str, str], bytes]]


def _always(_message: Message) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, _TAKEN


@contextmanager
def http_receiver(answer: Answer = _always, *, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Inbox]:
    """Serve while the context lasts; what ``answer`` raises closes the connection."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            inbox.add(self.path, dict(self.headers.items()), body)
            code, headers, content = answer(inbox.messages[-1])
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    inbox.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    with _served(server):
        yield inbox


@contextmanager
def mail_receiver() -> Iterator[Inbox]:
    """Take mail while the context lasts: as much of SMTP (RFC 5321) as a client without TLS and login speaks."""
    inbox = Inbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 loopback ready")
            recipient = ""
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word in {b"EHLO", b"HELO"}:
                    self._say("250 loopback")
                elif word == b"RCPT":
                    recipient = line.decode().partition("<")[2].partition(">")[0]
                    self._say("250 ok")
                elif word == b"DATA":
                    self._say("354 go on")
                    inbox.add(recipient, {}, b"".join(iter(self.rfile.readline, b".\r\n")))
                    self._say("250 taken")
                elif word == b"QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 ok")

        def _say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    inbox.url = f"127.0.0.1:{server.server_address[1]}"
    with _served(server):
        yield inbox


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
