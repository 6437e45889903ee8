"""WebSocket connections, and who is subscribed to what.

Every event to a client passes :meth:`Connection.publish`, every frame the queue: the places for faults on the wire.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

_LOG = logging.getLogger(__name__)
_QUEUE_FRAMES = 50_000  # a client this far behind is cut off
_GOING_AWAY = 1001
_POLICY_VIOLATION = 1008
_LOOK_AFTER_S = 1.0
_DRAIN_S = 5.0
_TRICKLE_BYTES, _TRICKLE_S = 24, 0.05
_LENGTH_IN_16_BITS, _LENGTH_IN_64_BITS = 126, 127

TEXT, BINARY = 1, 2


def to_text(message: object) -> str:
    """Return JSON as the venues write it: no spaces."""
    return json.dumps(message, separators=(",", ":"))


@dataclass(frozen=True)
class KeepAlive:
    """What a venue does about silent clients, in seconds.

    Attributes:
        ping_every: The venue sends a protocol ping this often.
        pong_within: A client that has not answered for so long is cut off.
        idle_after: A connection on which nothing has passed either way for so long is cut off.
        idle_code: Close code and words for that.
    """

    ping_every: float | None = None
    pong_within: float | None = None
    idle_after: float | None = None
    idle_code: tuple[int, str] = (_POLICY_VIOLATION, "idle")


class Connection:
    """One client's socket, with a queue of frames to it."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport, place: str) -> None:
        """Wrap an open socket, reached below the prefix ``place``."""
        self.socket = socket
        self.transport = transport
        self.place = place
        self.id = secrets.token_hex(4)  # what some venues put into their answers
        self.topics: set[tuple[str, str]] = set()
        self.last_traffic = self.last_pong = time.monotonic()
        self.names_streams = False  # Binance: each frame is wrapped with the name of its stream
        self.is_gone = asyncio.Event()
        self.is_mute = False  # a fault: nobody is there any more, not even to answer a ping
        self.is_deaf = False  # a fault: nothing that is sent arrives any more
        self.tap: Callable[[str], bool] | None = None  # a fault: takes events in place of the queue
        self.trickles_until = 0.0  # a fault: until then (monotonic) frames leave in small pieces
        self._frames: asyncio.Queue[str | bytes] = asyncio.Queue(_QUEUE_FRAMES)
        self._closing: asyncio.Future[bool] | None = None

    def publish(self, text: str) -> bool:
        """Queue an event; return whether the client gets to read it."""
        if self.is_deaf:
            return False
        if self.tap is not None:
            return self.tap(text)
        self.send(text)
        return True

    def send(self, frame: str | bytes) -> None:
        """Queue a text frame, or octets as they shall be on the wire. A client too far behind loses its connection."""
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            _LOG.warning("client too slow: cut off", extra={"connection": self.id})
            self.close_soon(_POLICY_VIOLATION, "too slow")

    def close_soon(self, code: int, reason: str) -> None:
        """Close the socket from outside its own task."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self.socket.close(code=code, message=reason.encode()))

    async def write(self) -> None:
        """Send what is queued, for ever."""
        while True:
            frame = await self._frames.get()
            try:
                if isinstance(frame, bytes):
                    self.transport.write(frame)
                elif time.monotonic() < self.trickles_until:
                    await self._trickle(wire_frame(frame.encode()))
                else:
                    await self.socket.send_str(frame)
            finally:
                self._frames.task_done()
            self.last_traffic = time.monotonic()

    async def _trickle(self, octets: bytes) -> None:
        for begin in range(0, len(octets), _TRICKLE_BYTES):
            self.transport.write(octets[begin : begin + _TRICKLE_BYTES])
            await asyncio.sleep(_TRICKLE_S)

    async def drain(self) -> None:
        """Wait until everything queued has been handed to the system, or the client is gone or does not read."""
        waits = [asyncio.ensure_future(self._frames.join()), asyncio.ensure_future(self.is_gone.wait())]
        await asyncio.wait(waits, timeout=_DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def wire_frame(payload: bytes, *, opcode: int = TEXT, is_compressed: bool = False) -> bytes:
    """Return a whole frame as a server puts it on the wire (RFC 6455 §5.2): one fragment, no mask.

    Args:
        payload: What it carries.
        opcode: 1 text, 2 binary.
        is_compressed: Whether it claims, by its first reserved bit, to be of permessage-deflate (RFC 7692 §6).
    """
    first = 0x80 | (0x40 if is_compressed else 0) | opcode
    length = len(payload)
    if length < _LENGTH_IN_16_BITS:
        return bytes([first, length]) + payload
    if length < 1 << 16:
        return bytes([first, _LENGTH_IN_16_BITS]) + length.to_bytes(2, "big") + payload
    return bytes([first, _LENGTH_IN_64_BITS]) + length.to_bytes(8, "big") + payload


Reader = Callable[[Connection, str], None]
"""Handles one text frame of a client."""


class Hub:
    """All connections and their subscriptions. A topic is a venue id and a name of that venue's own.

    A venue that is retired accepts connections, acknowledges subscriptions, answers pings, and publishes nothing.
    """

    def __init__(self, on_subscribe: Callable[[str], None], retired: Iterable[str] = ()) -> None:
        """Begin without clients; ``on_subscribe`` hears the venue id of every subscription."""
        self.retired = set(retired)
        self.repeats: dict[str, deque[str]] = {}  # a fault: by venue, what whoever subscribes next is told once more
        self._on_subscribe = on_subscribe
        self._subscribers: dict[tuple[str, str], dict[str, Connection]] = {}
        self._connections: dict[str, Connection] = {}

    def subscribe(self, connection: Connection, venue: str, topic: str) -> None:
        """Let the connection have the topic from now on."""
        is_first = not connection.topics
        connection.topics.add((venue, topic))
        self._subscribers.setdefault((venue, topic), {})[connection.id] = connection
        self._on_subscribe(venue)
        if is_first:
            for text in self.repeats.get(venue, ()):
                connection.send(text)

    def unsubscribe(self, connection: Connection, venue: str, topic: str) -> None:
        """Let the connection be without it."""
        connection.topics.discard((venue, topic))
        self._subscribers.get((venue, topic), {}).pop(connection.id, None)

    def subscribers(self, venue: str, topic: str) -> Iterable[Connection]:
        """Return who is sent what is published of the topic."""
        return () if venue in self.retired else tuple(self._subscribers.get((venue, topic), {}).values())

    def deliver(self, connection: Connection, venue: str, text: str) -> bool:
        """Send one subscriber an event; return whether it gets to read it."""
        arrives = connection.publish(text)
        if arrives and venue in self.repeats:
            self.repeats[venue].append(text)
        return arrives

    def connections(self, place: str) -> list[Connection]:
        """Return the connections that were reached below a prefix."""
        return [connection for connection in self._connections.values() if connection.place == place]

    def count_listeners(self, venue: str) -> int:
        """Count connections that are subscribed to something of a venue and could get to read it."""
        return sum(not each.is_deaf and any(of == venue for of, _topic in each.topics) for each in self._connections.values())

    def __len__(self) -> int:
        """Count connections."""
        return len(self._connections)

    async def drain(self) -> None:
        """Wait until every connection's queue is empty."""
        for connection in tuple(self._connections.values()):
            await connection.drain()

    async def close(self) -> None:
        """Say goodbye to everyone."""
        for connection in tuple(self._connections.values()):
            await connection.socket.close(code=_GOING_AWAY, message=b"shutting down")

    async def serve(
        self, request: web.Request, *, on_open: Callable[[Connection], None], on_text: Reader, keep_alive: KeepAlive
    ) -> web.WebSocketResponse:
        """Accept a WebSocket and stay with it until it closes."""
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)  # noqa: S101 - it was there a moment ago
        connection = Connection(socket, request.transport, request.path.split("/")[1])
        self._connections[connection.id] = connection
        helpers = [asyncio.ensure_future(connection.write()), asyncio.ensure_future(_look_after(connection, keep_alive))]
        try:
            on_open(connection)
            async for message in socket:
                connection.last_traffic = time.monotonic()
                if connection.is_mute:
                    continue
                if message.type is WSMsgType.TEXT:
                    on_text(connection, message.data)
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    connection.last_pong = time.monotonic()
        finally:
            connection.is_gone.set()
            for venue, topic in tuple(connection.topics):
                self.unsubscribe(connection, venue, topic)
            del self._connections[connection.id]
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return socket


async def _look_after(connection: Connection, keep_alive: KeepAlive) -> None:
    """Ping the client and cut it off as the venue would."""
    next_ping = time.monotonic() + (keep_alive.ping_every or 0.0)
    while not connection.socket.closed:
        await asyncio.sleep(_LOOK_AFTER_S)
        if connection.is_mute:
            return
        now = time.monotonic()
        if keep_alive.ping_every is not None and now >= next_ping:
            next_ping = now + keep_alive.ping_every
            await connection.socket.ping()
        if keep_alive.pong_within is not None and now - connection.last_pong > keep_alive.pong_within:
            connection.close_soon(_POLICY_VIOLATION, "no pong")
            return
        if keep_alive.idle_after is not None and now - connection.last_traffic > keep_alive.idle_after:
            connection.close_soon(*keep_alive.idle_code)
            return
