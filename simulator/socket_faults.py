"""What a venue may do to the connections that it has: one function each. Who asks for them is :mod:`simulator.faults`.

An event that the client cannot get to read, because its frame was never whole or because the client has every right to end the
connection before it, counts as delivered to nobody. Written from RFC 6455 (WebSocket) and RFC 7692 (permessage-deflate).
"""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from simulator.sockets import BINARY, Connection, Hub, wire_frame

_ARRIVAL_S = 2.0  # what was sent before a reset has been read by then, on a busy machine too: the reset would take it along
_REMEMBERED = 5_000  # events that are said twice at most
_SEED = 1
_HALF = b'{"half of a frame":"' + 400 * b"x" + b'"}'

GARBAGE = (
    b"<html><body>502 Bad Gateway</body></html>",
    b'{"topic":"allLiquidation.BTCUSDT","type":"sna',
    b"\xff\xfe\x00 no text at all",
    b"",
    b"[" * 10_000,
)
"""Text frames that no venue's documents know. The third is no UTF-8."""


@dataclass(frozen=True)
class Asked:
    """How much of a fault is wanted.

    Attributes:
        seconds: How long it lasts.
        times: How many frames it concerns.
        size_bytes: How large a frame.
        is_last: Nothing that comes after it arrives.
    """

    seconds: float = 5.0
    times: int = 1
    size_bytes: int = 10_000_000
    is_last: bool = False


async def drop(connection: Connection, _: Asked, __: list[bytes]) -> None:
    """End it without a word: what was sent arrives, then a reset."""
    spoil(connection)
    await _arrived(connection)
    _reset(connection)


async def fall_mute(connection: Connection, _: Asked, __: list[bytes]) -> None:
    """Keep it open and say nothing more, not even a pong."""
    spoil(connection)
    connection.is_mute = True


async def send_half(connection: Connection, _: Asked, __: list[bytes]) -> None:
    """Send the first half of a frame and never the second."""
    spoil(connection)
    connection.is_mute = True
    connection.send(_half())


async def send_half_and_close(connection: Connection, _: Asked, __: list[bytes]) -> None:
    """Send the first half of a frame and end the connection."""
    spoil(connection)
    connection.send(_half())
    await _arrived(connection)
    connection.transport.close()


async def send_garbage(connection: Connection, asked: Asked, payloads: list[bytes]) -> None:
    """Send text frames that are none of the venue's, between those that are."""
    for number in range(asked.times):
        payload = GARBAGE[number % len(GARBAGE)]
        payloads.append(payload)
        connection.send(wire_frame(payload))


async def send_gzip(connection: Connection, asked: Asked, payloads: list[bytes]) -> None:
    """Send the next events as binary frames of gzip, as some other venues do and this one never does."""
    left = asked.times

    def tap(text: str) -> bool:
        nonlocal left
        left -= 1
        if not left:
            connection.tap = None
        payloads.append(gzip.compress(text.encode()))
        connection.send(wire_frame(payloads[-1], opcode=BINARY))
        return False

    connection.tap = tap


async def send_bad_deflate(connection: Connection, _: Asked, __: list[bytes]) -> None:
    """Send a frame that claims to be compressed, though nobody agreed on that, and does not inflate either."""
    spoil(connection)
    connection.send(wire_frame(b"\x07 this does not inflate", is_compressed=True))


async def send_big(connection: Connection, asked: Asked, payloads: list[bytes]) -> None:
    """Send one text frame of this size."""
    frame_is_last, size = asked.is_last, asked.size_bytes
    if frame_is_last:
        spoil(connection)
    head, tail = b'{"filler":"', b'"}'
    payloads.append(head + (size - len(head) - len(tail)) * b"x" + tail)
    connection.send(wire_frame(payloads[-1]))


async def trickle(connection: Connection, asked: Asked, _: list[bytes]) -> None:
    """Send frames a few bytes at a time."""
    connection.trickles_until = time.monotonic() + asked.seconds


async def shuffle(connection: Connection, asked: Asked, _: list[bytes]) -> None:
    """Hold events back for so long, then send them in no order."""
    held: list[str] = []

    def hold(text: str) -> bool:
        held.append(text)
        return True

    def release() -> None:
        connection.tap = None
        random.Random(_SEED).shuffle(held)
        for text in held:
            connection.send(text)

    connection.tap = hold
    asyncio.get_running_loop().call_later(asked.seconds, release)


Fault = Callable[[Connection, Asked, list[bytes]], Awaitable[None]]
"""Does something to one connection. What it sends that is a whole frame and no event it adds to the list."""

SOCKET_FAULTS: Mapping[str, Fault] = {
    "drop": drop,
    "mute": fall_mute,
    "half": send_half,
    "half-close": send_half_and_close,
    "garbage": send_garbage,
    "gzip": send_gzip,
    "deflate": send_bad_deflate,
    "big": send_big,
    "trickle": trickle,
    "shuffle": shuffle,
}


def repeat_itself(hub: Hub, venue: str, asked: Asked) -> None:
    """Let whoever subscribes within so long be told once more all that was said meanwhile."""
    hub.repeats[venue] = deque(maxlen=_REMEMBERED)
    asyncio.get_running_loop().call_later(asked.seconds, hub.repeats.pop, venue, None)


def spoil(connection: Connection) -> None:
    """Let no further event arrive."""
    connection.is_deaf = True


def _half() -> bytes:
    octets = wire_frame(_HALF)
    return octets[: len(octets) // 2]


async def _arrived(connection: Connection) -> None:
    """Wait until what was sent has surely been read."""
    await connection.drain()
    await asyncio.sleep(_ARRIVAL_S)


def _reset(connection: Connection) -> None:
    raw = connection.transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()
