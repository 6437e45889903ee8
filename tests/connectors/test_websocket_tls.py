"""Against a real server with TLS on loopback: whom the transport trusts."""

import asyncio
import ssl

import trustme
from websockets.asyncio.server import serve

from connectors.sources.feed import WebSocketFeed
from connectors.sources.reconnecting import ReconnectPolicy
from connectors.sources.websocket import run_websocket
from market.raw import FeedState

ONCE = ReconnectPolicy(first_delay_seconds=30.0, max_delay_seconds=30.0, open_timeout_seconds=2.0)


class Recorder:
    def __init__(self):
        self.payloads = []
        self.statuses = []

    def put(self, feed, payload):
        self.payloads.append(payload)

    def status(self, feed, connection, state, reason, *, seen_until_us=None):
        self.statuses.append((state, reason))


def meet(authority, trusted, *, named="127.0.0.1"):
    """What a transport that trusts ``trusted`` receives from a server whose certificate ``authority`` signed for ``named``."""
    recorder = Recorder()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(named).configure_cert(server_side)

    async def greet(socket):
        await socket.send("hello")
        await socket.wait_closed()

    async def main():
        async with serve(greet, "127.0.0.1", 0, ssl=server_side) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            feed = WebSocketFeed("venue/liquidations", "1", f"wss://127.0.0.1:{port}")
            running = asyncio.ensure_future(run_websocket(feed, recorder, policy=ONCE, ssl_context=trusted))
            for _ in range(200):
                await asyncio.sleep(0.02)
                if recorder.payloads or recorder.statuses:
                    break
            await asyncio.sleep(0.05)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    return recorder


def test_a_private_authority_that_is_trusted_is_spoken_to():
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    recorder = meet(authority, trusting)

    assert recorder.payloads == [b"hello"]
    assert recorder.statuses[0][0] is FeedState.CONNECTED


def test_without_a_setting_the_system_decides_and_a_stranger_is_a_status_never_a_crash():
    recorder = meet(trustme.CA(), None)

    assert recorder.payloads == []
    state, reason = recorder.statuses[0]
    assert state is FeedState.LOST
    assert "CERTIFICATE_VERIFY_FAILED" in reason


def test_a_certificate_for_another_host_is_not_believed_even_from_an_authority_that_is_trusted():
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    recorder = meet(authority, trusting, named="venue.example")

    assert recorder.payloads == []
    state, reason = recorder.statuses[0]
    assert state is FeedState.LOST
    assert "mismatch" in reason
