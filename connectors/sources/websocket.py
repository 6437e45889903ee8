"""The WebSocket transport: keeps one described connection open, and hands on every message as it came.

The law: a connection is announced CONNECTED once everything is subscribed, and one LOST follows each CONNECTED of the same
label, also when the whole is cancelled. A planned replacement is announced the same way, the successor first: the two labels
overlap, so that nobody sees a gap.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.parse
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from connectors.backoff import Backoff
from connectors.clock import jitter, monotonic_seconds, now_us
from connectors.secrets import SECRETS
from connectors.sources.feed import FrameReceiver, KeepAlive, WebSocketFeed
from connectors.sources.reconnecting import BLOCKED_CODES, ReconnectPolicy, refusal_words, retry_after_seconds
from market.raw import FeedState

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Larger than any message in the venue reference by two orders; beyond it the connection is closed, not the memory filled."""

_MAX_QUEUED_FRAMES = 4096
"""Frames parsed but not yet read; beyond it the socket is paused. One read of a burst brings some thousands at once."""

REPLACED = "replaced"
"""The reason of a connection that is lost because another brings what it brought."""

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_log = structlog.get_logger(__name__)


async def run_websocket(
    feed: WebSocketFeed,
    receiver: FrameReceiver,
    *,
    policy: ReconnectPolicy | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    """Keep the connection open and hand every message to ``receiver``, until cancelled.

    Cancelling closes the sockets, within two closing time-outs, and reports LOST with the words of the cancellation, "stopped"
    where it has none: what comes before the next start is a gap too.

    Raises:
        InvalidURI: The feed's address is none.
        Exception: Whatever ``receiver`` raises; the sockets are closed then.
    """
    await _Keeper(feed, receiver, policy or ReconnectPolicy(), ssl_context).run()


class _Socket(ClientConnection):
    """A connection that knows when anything last arrived: a message, half of one, a ping or a pong."""

    received_seconds = 0.0

    def data_received(self, data: bytes) -> None:
        """Stamp, then let the library read."""
        self.received_seconds = monotonic_seconds()
        super().data_received(data)


class _Connect(connect):
    """Goes where it is told and nowhere else: a venue's redirect is a refusal like any other."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow none. The library would also go to another host, and raise when the address is no address."""
        return exc


class _OpenError(Exception):
    """A connection did not come about. ``wait_seconds`` is the least that the venue or the code asks us to wait."""

    def __init__(self, state: FeedState, kind: str, reason: str, wait_seconds: float = 0.0) -> None:
        self.reason = SECRETS.clean(reason)
        super().__init__(self.reason)
        self.state = state
        self.kind = kind  # failures of one kind are announced once per incident
        self.wait_seconds = wait_seconds


class _End(NamedTuple):
    """Why a connection ended, and whether nobody said so: then what was sent since anything last came may be lost."""

    reason: str
    is_sudden: bool = False


class _Session:
    """One open connection: read, watched and kept alive from the moment it is made until ``ended`` says why it ended."""

    def __init__(self, feed: WebSocketFeed, label: str, socket: _Socket, receiver: FrameReceiver) -> None:
        self.label = label
        self.opened_seconds = socket.received_seconds = monotonic_seconds()
        self._feed = feed
        self._socket = socket
        self._receiver = receiver
        self._connected_us = 0
        self.ended: asyncio.Task[_End] = asyncio.create_task(self._live())

    async def subscribe(self) -> None:
        """Send the subscriptions, no faster than the venue allows. Answers are already being read meanwhile.

        Raises:
            ConnectionClosed: The connection ended before all were sent.
        """
        for place, message in enumerate(self._feed.subscribe):
            if place:
                await asyncio.sleep(1.0 / self._feed.messages_per_second)
            await self._socket.send(message)

    def connected(self) -> None:
        """Take note that everything is subscribed."""
        self._connected_us = now_us()

    def seen_until_us(self) -> int | None:
        """Return when anything last came, if the connection ended without a word; never before it was connected."""
        if not self.ended.result().is_sudden:
            return None
        quiet_us = round((monotonic_seconds() - self._socket.received_seconds) * 1_000_000)
        return max(self._connected_us, now_us() - quiet_us)

    async def close(self) -> None:
        """Say goodbye and read on until the connection is closed, so that nothing under way is lost."""
        await self._socket.close()
        await asyncio.gather(self.ended, return_exceptions=True)

    async def stop(self) -> None:
        """Read no more and close."""
        self.ended.cancel()
        await asyncio.gather(self._socket.close(), self.ended, return_exceptions=True)

    async def _live(self) -> _End:
        # In this order: a stale connection's abort also ends the reading, and "stale" is the better reason.
        duties: list[Coroutine[Any, Any, _End]] = [self._watch(), self._read()]
        if self._feed.keep_alive is not None and self._feed.keep_alive.message is not None:
            duties.append(self._keep_alive(self._feed.keep_alive, self._feed.keep_alive.message))
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task.result() for task in tasks if task.done())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> _End:
        receive, put, name = self._socket.recv, self._receiver.put, self._feed.name
        try:
            while True:
                put(name, await receive(decode=False))
        except ConnectionClosed as closed:
            return _end_of(closed)

    async def _watch(self) -> _End:
        limit = self._feed.stale_after_seconds
        quiet = 0.0
        while quiet < limit:
            await asyncio.sleep(limit - quiet)
            quiet = monotonic_seconds() - self._socket.received_seconds
        self._socket.transport.abort()  # nobody is there to answer a closing handshake
        return _End(f"stale: nothing received for {limit:g} s", is_sudden=True)

    async def _keep_alive(self, keep_alive: KeepAlive, message: str) -> _End:
        try:
            while True:
                await asyncio.sleep(keep_alive.every_seconds)
                await self._socket.send(message)
        except ConnectionClosed as closed:
            return _end_of(closed)


class _Keeper:
    """Sees to it that one connection is open, and replaces it before the venue ends it."""

    def __init__(
        self,
        feed: WebSocketFeed,
        receiver: FrameReceiver,
        policy: ReconnectPolicy,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._feed = feed
        self._receiver = receiver
        self._policy = policy
        self._ssl_context = ssl_context
        self._backoff = Backoff(policy.first_delay_seconds, policy.max_delay_seconds)
        self._wait_seconds = 0.0
        self._replacements = 0
        self._sessions: set[_Session] = set()
        self._announced: set[str] = set()  # kinds of failure since the last CONNECTED or LOST
        self._replace_jitter = jitter()

    async def run(self) -> None:
        try:
            while True:
                session: _Session | None = await self._reach(self._label(), self._announce)
                while session is not None:
                    session = await self._hold(session)
        except asyncio.CancelledError as cancelled:
            await self._stop_all()
            reason = str(cancelled.args[0]) if cancelled.args and cancelled.args[0] else "stopped"
            for stopped in sorted(self._sessions, key=lambda session: session.opened_seconds):
                self._receiver.status(self._feed.name, stopped.label, FeedState.LOST, reason)
            raise
        finally:
            await self._stop_all()

    async def _stop_all(self) -> None:
        await asyncio.gather(*(session.stop() for session in self._sessions))

    async def _hold(self, session: _Session) -> _Session | None:
        """Follow a connection until it ends (None) or another has taken its place (that one)."""
        await asyncio.wait({session.ended}, timeout=self._seconds_to_replacement(session))
        successor = None if session.ended.done() else await self._reach_successor(session)
        if successor is None:
            self._lose(session)
            return None
        both = {session.ended, successor.ended}
        await asyncio.wait(both, timeout=self._policy.overlap_seconds, return_when=asyncio.FIRST_COMPLETED)
        if successor.ended.done() and not session.ended.done():
            self._lose(successor)
            return session
        self._replacements += 1
        await self._retire(session)
        return successor

    def _seconds_to_replacement(self, session: _Session) -> float | None:
        if self._feed.lifetime_seconds is None:
            return None
        after = self._policy.replace_after_seconds(self._feed.lifetime_seconds, jitter=self._replace_jitter)
        return max(0.0, session.opened_seconds + after - monotonic_seconds())

    async def _reach(self, label: str, announce: Callable[[str, _OpenError], None]) -> _Session:
        """Return a connection with everything subscribed, however long that takes."""
        while True:
            await asyncio.sleep(self._wait_seconds)
            try:
                session = await self._open(label)
            except _OpenError as failure:
                self._wait_seconds = max(self._backoff.next_delay_seconds(jitter()), failure.wait_seconds)
                announce(label, failure)
            else:
                self._receiver.status(self._feed.name, label, FeedState.CONNECTED, "subscribed")
                session.connected()
                _log.info("websocket_connected", feed=self._feed.name, connection=label, failures=self._backoff.failures)
                self._announced.clear()
                return session

    async def _reach_successor(self, session: _Session) -> _Session | None:
        """Return the connection that will take over, or None when the present one ends before there is one."""
        if self._is_stable(session):
            self._backoff.reset()
            self._wait_seconds = 0.0
        reaching = asyncio.create_task(self._reach(self._label(successor=True), self._note))
        try:
            await asyncio.wait({reaching, session.ended}, return_when=asyncio.FIRST_COMPLETED)
            return reaching.result() if reaching.done() else None
        finally:
            reaching.cancel()
            await asyncio.gather(reaching, return_exceptions=True)

    async def _open(self, label: str) -> _Session:
        feed, policy = self._feed, self._policy
        url = urllib.parse.urlsplit(feed.url)
        try:
            socket = await _Connect(
                feed.url,
                ssl=(self._ssl_context or True) if url.scheme == "wss" else None,
                proxy=None if url.hostname in _LOOPBACK_HOSTS else True,
                compression=None,
                open_timeout=policy.open_timeout_seconds,
                close_timeout=policy.close_timeout_seconds,
                # Pongs must have time to arrive before the connection counts as stale.
                ping_interval=min(policy.ping_every_seconds, feed.stale_after_seconds / 3),
                ping_timeout=None,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=_MAX_QUEUED_FRAMES,
                create_connection=_Socket,
            )
        except (OSError, asyncio.TimeoutError, InvalidHandshake) as error:
            raise self._open_error(error) from error
        assert isinstance(socket, _Socket)  # noqa: S101 - tells mypy what create_connection made
        session = _Session(feed, label, socket, self._receiver)
        self._sessions.add(session)
        try:
            await session.subscribe()
        except ConnectionClosed as closed:
            await self._drop(session)
            raise _OpenError(FeedState.LOST, "lost", f"while subscribing: {_end_of(closed).reason}") from closed
        except asyncio.CancelledError:
            await self._drop(session)
            raise
        return session

    def _open_error(self, error: Exception) -> _OpenError:
        if isinstance(error, InvalidStatus):
            code = error.response.status_code
            reason = refusal_words(code, error.response.reason_phrase, bytes(error.response.body or b""))
            wait = retry_after_seconds(error.response.headers.get("Retry-After"), now_us=now_us()) or 0.0
            if code in BLOCKED_CODES:
                wait = max(wait, self._policy.blocked_delay_seconds)
            return _OpenError(FeedState.REFUSED, f"HTTP {code}", reason, wait)
        if isinstance(error, InvalidHandshake):
            return _OpenError(FeedState.REFUSED, "handshake", f"no WebSocket there: {error}")
        return _OpenError(FeedState.LOST, "lost", f"cannot connect: {error or type(error).__name__}")

    async def _drop(self, session: _Session) -> None:
        self._sessions.discard(session)
        await session.stop()

    async def _retire(self, session: _Session) -> None:
        """Close a connection that has been replaced."""
        if not session.ended.done():
            await session.close()
        self._sessions.discard(session)
        session.ended.result()  # a receiver's failure must not pass unseen
        self._receiver.status(self._feed.name, session.label, FeedState.LOST, REPLACED)
        _log.info("websocket_replaced", feed=self._feed.name, connection=session.label)

    def _lose(self, session: _Session) -> None:
        """Take note of a connection that ended by itself."""
        reason, seen_until_us = session.ended.result().reason, session.seen_until_us()
        self._sessions.discard(session)
        if self._is_stable(session):
            self._backoff.reset()
        self._wait_seconds = self._backoff.next_delay_seconds(jitter())
        self._announced = {"lost"}
        self._receiver.status(self._feed.name, session.label, FeedState.LOST, reason, seen_until_us=seen_until_us)
        _log.warning("websocket_lost", feed=self._feed.name, connection=session.label, reason=reason)

    def _announce(self, label: str, failure: _OpenError) -> None:
        """Report a failure to connect, once per kind and incident; after a LOST no second one."""
        if failure.kind in self._announced or (failure.state is FeedState.LOST and self._announced):
            return
        self._announced.add(failure.kind)
        self._receiver.status(self._feed.name, label, failure.state, failure.reason)
        _log.warning(f"websocket_{failure.state.value}", feed=self._feed.name, connection=label, reason=failure.reason)

    def _note(self, label: str, failure: _OpenError) -> None:
        """Log that a successor is not to be had, once; the feed itself is still connected."""
        if failure.kind not in self._announced:
            self._announced.add(failure.kind)
            _log.warning("websocket_replacement_failed", feed=self._feed.name, connection=label, reason=failure.reason)

    def _label(self, *, successor: bool = False) -> str:
        """Name the connection: the feed's own name for the first, numbered after each replacement."""
        number = self._replacements + 1 + successor
        return self._feed.connection if number == 1 else f"{self._feed.connection}#{number}"

    def _is_stable(self, session: _Session) -> bool:
        return monotonic_seconds() - session.opened_seconds >= self._policy.stable_after_seconds


def _end_of(closed: ConnectionClosed) -> _End:
    """Say who ended a connection, and why."""
    if closed.rcvd is not None and (closed.sent is None or closed.rcvd_then_sent):
        return _End(SECRETS.clean(f"closed by the venue: {closed.rcvd.code} {closed.rcvd.reason}".rstrip()))
    if closed.sent is not None:
        return _End(f"closed by us: {closed.sent.code} {closed.sent.reason}".rstrip())
    return _End(SECRETS.clean(f"broken: {closed.__cause__ or 'ended without a closing handshake'}"), is_sudden=True)
