"""Against real servers on loopback: what a venue may do to a connection, and what of it becomes frames and statuses."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import struct
import time
from dataclasses import replace

import pytest
from loopback import until
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from connectors.sources import websocket
from connectors.sources.feed import KeepAlive, WebSocketFeed
from connectors.sources.reconnecting import ReconnectPolicy
from connectors.sources.websocket import run_websocket
from market.raw import FeedState

FAST = ReconnectPolicy(
    first_delay_seconds=0.02,
    max_delay_seconds=0.1,
    blocked_delay_seconds=0.4,
    stable_after_seconds=30.0,
    open_timeout_seconds=10.0,  # a machine may be busy; the test of silence has its own
    close_timeout_seconds=0.5,
    ping_every_seconds=0.1,
    overlap_seconds=0.15,
)
CONNECTED, LOST, REFUSED = FeedState.CONNECTED, FeedState.LOST, FeedState.REFUSED
STOPPED = ("1", LOST, "stopped")
SUBSCRIBED = ("1", CONNECTED, "subscribed")


class Recorder:
    """A receiver that remembers, and can be waited for."""

    def __init__(self):
        self.frames = []
        self.statuses = []
        self.seen_until_us = []
        self.log = []

    def put(self, feed, payload):
        self.frames.append((feed, payload))
        self.log.append(payload)

    def status(self, feed, connection, state, reason, *, seen_until_us=None):
        assert feed == "venue/liquidations"
        self.seen_until_us.append(seen_until_us)
        self.statuses.append((connection, state, reason))
        self.log.append((connection, state))

    def payloads(self):
        return [payload for _feed, payload in self.frames]

    def states(self):
        return [state for _connection, state, _reason in self.statuses]


def feed_at(port, **fields):
    return WebSocketFeed(name="venue/liquidations", connection="1", url=f"ws://127.0.0.1:{port}/ws", **fields)


@contextlib.asynccontextmanager
async def running(feed, receiver, policy=FAST):
    task = asyncio.ensure_future(run_websocket(feed, receiver, policy=policy))
    try:
        yield task
    finally:
        task.cancel()
        start = time.monotonic()
        await asyncio.gather(task, return_exceptions=True)
        assert time.monotonic() - start < 2.0, "cancelling took too long"


@contextlib.asynccontextmanager
async def venue(handler, **options):
    """A WebSocket server; yields its port."""
    async with serve(handler, "127.0.0.1", 0, close_timeout=0.2, **options) as server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def rough_venue(talk):
    """A server that does the opening handshake by hand and then whatever ``talk(reader, writer)`` does; yields its port."""

    async def accept(reader, writer):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        answer = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()  # noqa: S324 - RFC 6455
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {answer}\r\n\r\n".encode()
        )
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def listen_only(connection):
    async for _message in connection:
        pass


def test_text_becomes_utf8_bytes_and_binary_stays_as_it_is():
    async def scenario():
        async def handler(connection):
            await connection.send("größer")
            await connection.send(b"\x1f\x8b\x00\xff")
            await listen_only(connection)

        receiver = Recorder()
        async with venue(handler) as port, running(feed_at(port), receiver):
            await until(lambda: len(receiver.frames) == 2)
        return receiver

    receiver = asyncio.run(scenario())

    assert receiver.frames == [("venue/liquidations", "größer".encode()), ("venue/liquidations", b"\x1f\x8b\x00\xff")]
    assert {type(payload) for payload in receiver.payloads()} == {bytes}
    assert receiver.statuses == [SUBSCRIBED, STOPPED]


def test_subscriptions_are_sent_in_order_and_no_faster_than_allowed_and_then_it_counts_as_connected():
    async def scenario():
        arrivals = []

        async def handler(connection):
            async for message in connection:
                arrivals.append((message, time.monotonic()))
                await connection.send(f"ok {message}")

        receiver = Recorder()
        feed = {"subscribe": ("a", "b", "c"), "messages_per_second": 10.0}
        async with venue(handler) as port, running(feed_at(port, **feed), receiver):
            await until(lambda: len(receiver.frames) == 3)
        return arrivals, receiver

    arrivals, receiver = asyncio.run(scenario())

    assert [message for message, _time in arrivals] == ["a", "b", "c"]
    assert arrivals[2][1] - arrivals[0][1] >= 0.19
    assert receiver.payloads() == [b"ok a", b"ok b", b"ok c"]
    assert receiver.log.index(b"ok a") < receiver.log.index(("1", CONNECTED))  # at once, it would come before every answer


def test_the_venues_own_keep_alive_is_sent_again_and_again():
    async def scenario():
        received = []

        async def handler(connection):
            async for message in connection:
                received.append(message)

        feed = {"keep_alive": KeepAlive('{"op":"ping"}', every_seconds=0.05)}
        async with venue(handler) as port, running(feed_at(port, **feed), Recorder()):
            await until(lambda: len(received) >= 3)
        return received

    assert set(asyncio.run(scenario())) == {'{"op":"ping"}'}


def test_a_quiet_connection_whose_pongs_come_is_not_stale():
    async def scenario():
        receiver = Recorder()
        feed = {"stale_after_seconds": 0.3, "keep_alive": KeepAlive(None, every_seconds=0.1)}
        async with venue(listen_only) as port, running(feed_at(port, **feed), receiver):
            await asyncio.sleep(0.9)
        return receiver.statuses

    assert asyncio.run(scenario()) == [SUBSCRIBED, STOPPED]


def test_a_connection_on_which_nothing_at_all_comes_is_stale_and_opened_again_and_says_until_when_it_saw():
    async def scenario():
        async def silent(reader, writer):
            await asyncio.sleep(0.1)
            writer.write(b"\x81\x04last")
            while await reader.read(4096):  # hears the pings, never answers
                pass

        receiver, times_us = Recorder(), []
        async with rough_venue(silent) as port, running(feed_at(port, stale_after_seconds=0.3), receiver):
            for count in (1, 2):
                await until(lambda count=count: len(receiver.log) == count)
                times_us.append(time.time_ns() // 1_000)
            await until(lambda: len(receiver.statuses) == 3)
        return receiver, times_us

    receiver, (connected_us, last_us) = asyncio.run(scenario())

    assert receiver.statuses == [SUBSCRIBED, ("1", LOST, "stale: nothing received for 0.3 s"), SUBSCRIBED, STOPPED]
    (seen_until_us,) = (seen_us for seen_us in receiver.seen_until_us if seen_us is not None)
    assert connected_us < seen_until_us <= last_us


def test_a_connection_that_was_silent_from_the_first_moment_saw_until_it_was_connected():
    async def scenario():
        async def silent(reader, _writer):
            while await reader.read(4096):
                pass

        receiver, feed = Recorder(), {"stale_after_seconds": 0.4, "subscribe": ("a", "b"), "messages_per_second": 5.0}
        async with rough_venue(silent) as port:
            before_us = time.time_ns() // 1_000
            async with running(feed_at(port, **feed), receiver):
                await until(lambda: len(receiver.statuses) == 2)
        return receiver.seen_until_us[1] - before_us

    assert asyncio.run(scenario()) >= 200_000  # subscribing takes so long


def test_after_the_venue_closes_it_is_opened_and_subscribed_again():
    async def scenario():
        seen = []

        async def handler(connection):
            seen.append(await connection.recv())
            await connection.send(f"hello {len(seen)}")
            if len(seen) < 3:
                await connection.close(1001, "maintenance")
            else:
                await listen_only(connection)

        receiver = Recorder()
        async with venue(handler) as port, running(feed_at(port, subscribe=("all",)), receiver):
            await until(lambda: len(receiver.frames) == 3)
        return receiver

    receiver = asyncio.run(scenario())

    assert receiver.payloads() == [b"hello 1", b"hello 2", b"hello 3"]
    closed = ("1", LOST, "closed by the venue: 1001 maintenance")
    assert receiver.statuses == [SUBSCRIBED, closed, SUBSCRIBED, closed, SUBSCRIBED, STOPPED]
    assert set(receiver.seen_until_us) == {None}


def test_half_a_frame_and_a_reset_is_a_loss_without_a_frame():
    async def scenario():
        async def broken(_reader, writer):
            writer.write(b"\x81\x05whole" + b"\x81\x7e\x01\x00half")
            await writer.drain()
            await asyncio.sleep(0.05)
            linger_zero = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(1, 13, linger_zero)  # SOL_SOCKET, SO_LINGER: close with a reset
            writer.transport.abort()

        receiver = Recorder()
        async with rough_venue(broken) as port, running(feed_at(port), receiver):
            await until(lambda: len(receiver.statuses) == 3)
        return receiver

    receiver = asyncio.run(scenario())

    assert set(receiver.payloads()) == {b"whole"}
    assert receiver.states()[:3] == [CONNECTED, LOST, CONNECTED]
    assert receiver.statuses[1][2].startswith("broken: ")
    assert receiver.seen_until_us[1] is not None


@pytest.mark.slow
def test_a_frame_of_10_mb_arrives_whole():
    async def scenario():
        async def handler(connection):
            await connection.send("x" * 10_000_000)
            await listen_only(connection)

        receiver = Recorder()
        async with venue(handler, compression=None) as port, running(feed_at(port), receiver):
            await until(lambda: receiver.frames)
        return receiver

    receiver = asyncio.run(scenario())

    assert receiver.payloads() == [b"x" * 10_000_000]
    assert receiver.statuses == [SUBSCRIBED, STOPPED]


def test_a_frame_over_the_limit_ends_the_connection_not_the_feed(monkeypatch):
    monkeypatch.setattr(websocket, "MAX_MESSAGE_BYTES", 1000)

    async def scenario():
        async def handler(connection):
            await connection.send("small")
            await connection.send("x" * 1001)
            await listen_only(connection)

        receiver = Recorder()
        async with venue(handler) as port, running(feed_at(port), receiver):
            await until(lambda: len(receiver.frames) >= 2)
        return receiver

    receiver = asyncio.run(scenario())

    assert set(receiver.payloads()) == {b"small"}
    assert receiver.statuses[1][2].startswith("closed by us: 1009")
    assert receiver.states()[:3] == [CONNECTED, LOST, CONNECTED]


@pytest.mark.slow
def test_a_burst_of_20000_messages_arrives_whole_and_in_order():
    messages = [f'{{"data":{{"number":{number},"filler":"{"x" * 200}"}}}}' for number in range(20_000)]

    async def scenario():
        async def handler(connection):
            for message in messages:
                await connection.send(message)
            await listen_only(connection)

        receiver = Recorder()
        async with venue(handler, compression=None) as port, running(feed_at(port), receiver):
            await until(lambda: len(receiver.frames) == len(messages), seconds=30.0)
        return receiver

    receiver = asyncio.run(scenario())

    assert receiver.payloads() == [message.encode() for message in messages]
    assert receiver.statuses == [SUBSCRIBED, STOPPED]


def refusing(code, headers=None, body="go away", times=10**9):
    """A handshake that refuses so many times, then accepts; remembers when it was asked."""
    asked = []

    def process_request(_connection, _request):
        asked.append(time.monotonic())
        if len(asked) > times:
            return None
        length = {"Content-Length": str(len(body)), "Connection": "close"}
        return Response(code, "Refused", Headers({**length, **(headers or {})}), body.encode())

    return process_request, asked


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "HTTP 401 Refused (blocked here?): go away"),
        (403, "HTTP 403 Refused (blocked here?): go away"),
        (429, "HTTP 429 Refused: go away"),
        (451, "HTTP 451 Refused (blocked here?): go away"),
        (500, "HTTP 500 Refused: go away"),
        (503, "HTTP 503 Refused: go away"),
    ],
)
def test_a_refused_handshake_is_reported_once_with_code_and_words_and_tried_again(code, reason):
    async def scenario():
        process_request, asked = refusing(code, times=2)
        receiver = Recorder()
        policy = ReconnectPolicy(first_delay_seconds=0.02, max_delay_seconds=0.1, blocked_delay_seconds=0.15)
        async with venue(listen_only, process_request=process_request) as port, running(feed_at(port), receiver, policy):
            await until(lambda: len(receiver.statuses) == 2)
        return receiver.statuses, asked

    statuses, asked = asyncio.run(scenario())

    assert statuses == [("1", REFUSED, reason), SUBSCRIBED, STOPPED]
    assert (asked[1] - asked[0] >= 0.15) is (code in {401, 403, 451})


@pytest.mark.slow
def test_retry_after_is_honoured():
    async def scenario():
        process_request, asked = refusing(429, {"Retry-After": "1"}, times=1)
        receiver = Recorder()
        async with venue(listen_only, process_request=process_request) as port, running(feed_at(port), receiver):
            await until(lambda: CONNECTED in receiver.states())
        return asked

    first, second = asyncio.run(scenario())

    assert 1.0 <= second - first < 2.0


def test_another_kind_of_refusal_in_one_incident_is_reported_too():
    async def scenario():
        codes = [503, 503, 500, 503, 500]

        def process_request(connection, _request):
            return connection.respond(codes.pop(0), "") if codes else None

        receiver = Recorder()
        async with venue(listen_only, process_request=process_request) as port, running(feed_at(port), receiver):
            await until(lambda: CONNECTED in receiver.states())
        return receiver.statuses

    statuses = asyncio.run(scenario())

    assert [(state, reason[:8]) for _connection, state, reason in statuses[:3]] == [
        (REFUSED, "HTTP 503"),
        (REFUSED, "HTTP 500"),
        (CONNECTED, "subscrib"),
    ]


def test_something_that_is_no_websocket_is_a_refusal():
    async def scenario():
        async def babble(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        receiver = Recorder()
        async with running(feed_at(server.sockets[0].getsockname()[1]), receiver):
            await until(lambda: receiver.statuses)
            await asyncio.sleep(0.2)
        server.close()
        return receiver.statuses

    ((_connection, state, reason),) = asyncio.run(scenario())

    assert state is REFUSED
    assert reason.startswith("no WebSocket there: ")


def test_nobody_listening_is_one_loss_until_somebody_does():
    async def scenario():
        receiver = Recorder()
        async with venue(listen_only) as port:
            pass
        async with running(feed_at(port), receiver):
            await until(lambda: receiver.statuses)
            await asyncio.sleep(0.3)
            before = list(receiver.statuses)
            async with serve(listen_only, "127.0.0.1", port, close_timeout=0.2):
                await until(lambda: CONNECTED in receiver.states())
        return before

    ((connection, state, reason),) = asyncio.run(scenario())

    assert (connection, state) == ("1", LOST)
    assert reason.startswith("cannot connect: ")


def test_a_handshake_that_is_never_answered_is_given_up():
    async def scenario():
        async def mute(reader, writer):
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        receiver = Recorder()
        policy = ReconnectPolicy(open_timeout_seconds=0.1)
        async with running(feed_at(server.sockets[0].getsockname()[1]), receiver, policy):
            await until(lambda: receiver.statuses)
        server.close()
        return receiver.statuses

    ((_connection, state, reason),) = asyncio.run(scenario())

    assert state is LOST
    assert "timed out" in reason


def test_a_connection_that_ends_while_subscribing_was_never_connected():
    async def scenario():
        async def handler(connection):
            await connection.recv()
            await connection.close(4001, "too many")

        receiver = Recorder()
        feed = {"subscribe": ("a", "b"), "messages_per_second": 20.0}
        async with venue(handler) as port, running(feed_at(port, **feed), receiver):
            await until(lambda: receiver.statuses)
            await asyncio.sleep(0.2)
        return receiver.statuses

    assert asyncio.run(scenario()) == [("1", LOST, "while subscribing: closed by the venue: 4001 too many")]


def test_waits_grow_while_the_venue_drops_us_and_are_short_again_after_a_stable_connection(monkeypatch):
    monkeypatch.setattr(websocket, "jitter", lambda: 1.0)  # every wait is the longest that it may be

    async def scenario():
        opened = []

        async def handler(connection):
            opened.append(time.monotonic())
            if len(opened) == 6:
                await asyncio.sleep(0.3)
            await connection.close()

        policy = ReconnectPolicy(first_delay_seconds=0.01, max_delay_seconds=10.0, stable_after_seconds=0.2)
        async with venue(handler) as port, running(feed_at(port), Recorder(), policy):
            await until(lambda: len(opened) == 7)
        return [later - earlier for earlier, later in itertools.pairwise(opened)]

    waits = asyncio.run(scenario())

    assert all(wait >= expected for wait, expected in zip(waits, [0.02, 0.04, 0.08, 0.16, 0.32], strict=False))
    assert waits[5] < 0.3 + 0.64


@pytest.mark.slow
def test_before_its_lifetime_ends_a_connection_is_replaced_with_overlap_and_nothing_is_missed():
    async def scenario():
        open_now, most_open = set(), []

        async def handler(connection):
            open_now.add(connection)
            most_open.append(len(open_now))
            try:
                await listen_only(connection)
            finally:
                open_now.discard(connection)

        async def broadcast(sent):
            while True:
                for connection in list(open_now):
                    with contextlib.suppress(Exception):
                        await connection.send(str(len(sent)))
                sent.append(len(sent))
                await asyncio.sleep(0.01)

        receiver, sent = Recorder(), []
        async with venue(handler) as port, running(feed_at(port, lifetime_seconds=0.6, subscribe=("all",)), receiver):
            await until(lambda: open_now)
            broadcasting = asyncio.ensure_future(broadcast(sent))
            await until(lambda: len(receiver.statuses) >= 5)
            last = len(sent) - 5
            await asyncio.sleep(0.1)
            broadcasting.cancel()
        return receiver, last, max(most_open)

    receiver, last, most_open = asyncio.run(scenario())

    assert receiver.statuses[:5] == [
        SUBSCRIBED,
        ("1#2", CONNECTED, "subscribed"),
        ("1", LOST, "replaced"),
        ("1#3", CONNECTED, "subscribed"),
        ("1#2", LOST, "replaced"),
    ]
    assert most_open == 2
    assert {int(payload) for payload in receiver.payloads()} >= set(range(last))


@pytest.mark.slow
def test_a_successor_that_cannot_be_had_is_no_loss_until_the_old_connection_ends():
    async def scenario():
        opened = []

        async def handler(connection):
            opened.append(connection)
            await asyncio.sleep(0.6)
            await connection.close(1001, "24 hours")

        def process_request(connection, _request):
            return connection.respond(503, "busy") if len(opened) == 1 and opened[0].state == 1 else None

        receiver = Recorder()
        async with (
            venue(handler, process_request=process_request) as port,
            running(feed_at(port, lifetime_seconds=0.2), receiver),
        ):
            await until(lambda: len(receiver.statuses) >= 3)
        return receiver.statuses[:3]

    assert asyncio.run(scenario()) == [SUBSCRIBED, ("1", LOST, "closed by the venue: 1001 24 hours"), SUBSCRIBED]


def test_a_successor_that_dies_in_the_overlap_leaves_the_old_connection_in_place():
    async def scenario():
        opened = []

        async def handler(connection):
            opened.append(connection)
            if len(opened) == 2:
                await connection.close(1011, "oops")
            await listen_only(connection)

        receiver = Recorder()
        policy = replace(FAST, overlap_seconds=60.0)
        async with venue(handler) as port, running(feed_at(port, lifetime_seconds=0.2), receiver, policy):
            await until(lambda: len(receiver.statuses) == 4)
        return receiver.statuses

    assert asyncio.run(scenario()) == [
        SUBSCRIBED,
        ("1#2", CONNECTED, "subscribed"),
        ("1#2", LOST, "closed by the venue: 1011 oops"),
        ("1#2", CONNECTED, "subscribed"),
        STOPPED,
        ("1#2", LOST, "stopped"),
    ]


def test_an_old_connection_that_dies_in_the_overlap_was_replaced():
    async def scenario():
        opened = []

        async def handler(connection):
            opened.append(connection)
            if len(opened) == 2:
                await opened[0].close(1001, "24 hours")
            await listen_only(connection)

        receiver = Recorder()
        async with venue(handler) as port, running(feed_at(port, lifetime_seconds=0.2), receiver):
            await until(lambda: len(receiver.statuses) >= 3)
        return receiver.statuses[:3]

    assert asyncio.run(scenario()) == [SUBSCRIBED, ("1#2", CONNECTED, "subscribed"), ("1", LOST, "replaced")]


def test_cancelling_in_the_overlap_stops_both_connections():
    async def scenario():
        open_now = set()

        async def handler(connection):
            open_now.add(connection)
            await listen_only(connection)
            open_now.discard(connection)

        receiver = Recorder()
        policy = ReconnectPolicy(overlap_seconds=60.0)
        async with venue(handler) as port:
            async with running(feed_at(port, lifetime_seconds=0.1), receiver, policy):
                await until(lambda: len(receiver.statuses) == 2)
            await until(lambda: not open_now, seconds=1.0)
        return receiver.statuses

    assert asyncio.run(scenario()) == [SUBSCRIBED, ("1#2", CONNECTED, "subscribed"), STOPPED, ("1#2", LOST, "stopped")]


def test_cancelling_while_subscribing_closes_the_socket():
    async def scenario():
        closed = asyncio.Event()

        async def handler(connection):
            await listen_only(connection)
            closed.set()

        receiver = Recorder()
        feed = {"subscribe": ("a", "b"), "messages_per_second": 0.01}
        async with venue(handler) as port:
            async with running(feed_at(port, **feed), receiver):
                await asyncio.sleep(0.2)
            await asyncio.wait_for(closed.wait(), 1.0)
        return receiver.statuses

    assert asyncio.run(scenario()) == []


@pytest.mark.slow
def test_cancelling_is_quick_even_when_the_venue_does_not_say_goodbye():
    async def scenario():
        async def deaf(reader, _writer):
            while await reader.read(4096):
                pass

        receiver = Recorder()
        async with rough_venue(deaf) as port, running(feed_at(port), receiver, ReconnectPolicy()):
            await until(lambda: receiver.statuses)
        return receiver.statuses  # ``running`` checks the time

    assert asyncio.run(scenario()) == [SUBSCRIBED, STOPPED]


def test_what_the_receiver_raises_ends_the_transport_and_closes_the_socket():
    class Full(Recorder):
        def put(self, feed, payload):
            raise OSError("disk full")

    async def scenario():
        closed = asyncio.Event()

        async def handler(connection):
            await connection.send("first")
            await listen_only(connection)
            closed.set()

        async with venue(handler) as port:
            with pytest.raises(OSError, match="disk full"):
                await asyncio.wait_for(run_websocket(feed_at(port), Full(), policy=FAST), 2.0)
            await asyncio.wait_for(closed.wait(), 1.0)

    asyncio.run(scenario())


@pytest.mark.parametrize("place", ["http://[", "ftp://127.0.0.1:1/", "ws://127.0.0.1:1/elsewhere", "//other.example/", ""])
def test_a_redirect_is_a_refusal_and_is_not_followed(place):
    """An address that is none would end everything; one elsewhere would take us to whom nobody named."""
    asked = []

    def redirect(connection, request):
        asked.append(request.path)
        response = connection.respond(301, "go away")
        response.headers["Location"] = place
        return response

    async def scenario():
        receiver = Recorder()
        async with venue(None, process_request=redirect) as port, running(feed_at(port), receiver):
            await until(lambda: receiver.statuses and len(asked) >= 2)
        return receiver.statuses

    assert asyncio.run(scenario()) == [("1", REFUSED, "HTTP 301 Moved Permanently: go away")]
    assert set(asked) == {"/ws"}
