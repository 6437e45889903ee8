"""The polling transport: asks one described URL again and again, and hands on every answer as it came.

The law: a poll runs at its own places on the clock, or not at all; what a stall made it miss is never made up for. All polls
of a venue share its rate limit, and all of them wait when the venue says "later", each with a failure to its name.

An answer that is no JSON, as from a proxy or cut in half, is handed on like any other, and counts as a failure all the same:
what is asked once a day must be asked again before tomorrow.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import httpx
import msgspec
import structlog

from connectors.backoff import Backoff
from connectors.clock import jitter, monotonic_seconds, now_us
from connectors.secrets import SECRETS
from connectors.sources.feed import FrameReceiver, PollFeed
from connectors.sources.rate_limit import RateLimiter
from connectors.sources.reconnecting import (
    BLOCKED_CODES,
    BUSY_CODES,
    ReconnectPolicy,
    refusal_words,
    retry_after_seconds,
)
from market.raw import FeedState

__all__ = ["PollError", "RateLimiter", "poll_once", "poll_until_answered", "run_poll", "run_poll_with_fallback"]

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Larger than any answer in the venue reference (Binance's exchangeInfo, about 2 MB) by an order."""

POLL_CONNECTION = "poll"
"""What a poll's status says as its connection."""

_PATIENCE_SECONDS = 60.0
"""A poll of such a period or a longer one asks once at the start, and retries between its places: its value is worth more."""

_OFFSET_SHARE = 0.1
"""Of a period: polls of one period are spread over so much of it."""

_RETRY_SHARE = 0.1
"""Of a period: retries of a failing poll are at most so far apart, or ``max_delay_seconds`` if that is more."""

_OK = 200
_EXCERPT_BYTES = 1024  # of an answer that is not wanted

_ANY_JSON = msgspec.json.Decoder(msgspec.Raw)  # checks the syntax and builds nothing

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class PollError(Exception):
    """A poll that brought no answer.

    Attributes:
        code: The HTTP code, or None where there was none.
        reason: One line for people, without the URL.
        wait_seconds: The least that the venue or the code asks us to wait.
    """

    def __init__(self, reason: str, *, code: int | None = None, wait_seconds: float = 0.0) -> None:
        """Keep what the caller needs."""
        self.code = code
        self.reason = SECRETS.clean(reason)
        super().__init__(self.reason)
        self.wait_seconds = wait_seconds


def objection_to(body: bytes) -> str:
    """Say why a body is no answer to any poll; empty when it is JSON."""
    try:
        _ANY_JSON.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"no JSON: {error}"
    return ""


def next_slot_us(now_us: int, *, every_us: int, offset_us: int) -> int:
    """Return the first time after ``now_us`` that lies ``offset_us`` beyond a multiple of ``every_us``, in microseconds."""
    return now_us - (now_us - offset_us) % every_us + every_us


def slot_offset_us(feed_name: str, *, every_us: int) -> int:
    """Return a feed's own place within its period: the same in every process, within the first tenth."""
    return int(zlib.crc32(feed_name.encode()) / 2**32 * every_us * _OFFSET_SHARE)


async def poll_once(
    feed: PollFeed,
    client: httpx.AsyncClient,
    limiter: RateLimiter,
    *,
    policy: ReconnectPolicy | None = None,
) -> bytes:
    """Ask once, within the rate limit, and return the answer.

    Raises:
        PollError: No answer with code 200 within the feed's time-out. Where the venue said "later", the limiter waits already.
    """
    await limiter.acquire(feed.weight)
    try:
        return await _within(feed.timeout_seconds, _get(feed, client, limiter, policy or ReconnectPolicy()))
    except (asyncio.TimeoutError, httpx.TimeoutException) as error:
        raise PollError(f"no answer within {feed.timeout_seconds:g} s") from error
    except httpx.HTTPError as error:
        raise PollError(f"{type(error).__name__}: {error}") from error


async def poll_until_answered(
    feed: PollFeed,
    client: httpx.AsyncClient,
    limiter: RateLimiter,
    receiver: FrameReceiver,
    *,
    objection: Callable[[bytes], str] = objection_to,
    policy: ReconnectPolicy | None = None,
) -> bytes:
    """Ask now, and again with growing waits, until there is an answer. It is returned, not put; statuses are reported.

    ``objection`` says why a body is no answer, or nothing. Such a body is put, and counts as a failure.
    """
    poller = _Poller(feed, client, limiter, receiver, policy=policy or ReconnectPolicy(), objection=objection)
    while True:
        body = await poller.ask()
        if body is not None:
            return body
        await asyncio.sleep(poller.wait_seconds)


async def run_poll(
    feed: PollFeed,
    client: httpx.AsyncClient,
    limiter: RateLimiter,
    receiver: FrameReceiver,
    *,
    policy: ReconnectPolicy | None = None,
) -> None:
    """Ask at the feed's places on the clock and hand every answer to ``receiver``, until cancelled."""
    await _Poller(feed, client, limiter, receiver, policy=policy or ReconnectPolicy()).run()


async def run_poll_with_fallback(
    polls: Sequence[PollFeed],
    fallback: Sequence[PollFeed],
    client: httpx.AsyncClient,
    limiter: RateLimiter,
    receiver: FrameReceiver,
    *,
    policy: ReconnectPolicy | None = None,
) -> None:
    """Run ``polls`` and, while any of them fails, also ``fallback``, until cancelled. All share the limiter."""
    health = _Health()
    policy = policy or ReconnectPolicy()
    mains = [_Poller(feed, client, limiter, receiver, policy=policy, health=health) for feed in polls]
    stand_ins = [_Poller(feed, client, limiter, receiver, policy=policy) for feed in fallback]
    await _until_first_ends([*(poller.run() for poller in mains), _stand_in(stand_ins, health)])


class _Health:
    """Whether any of several polls fails, as something to wait for."""

    def __init__(self) -> None:
        self._failing_feeds: set[str] = set()
        self.failing = asyncio.Event()
        self.healthy = asyncio.Event()

    def note(self, feed: str, *, is_failing: bool) -> None:
        (self._failing_feeds.add if is_failing else self._failing_feeds.discard)(feed)
        now, before = (self.failing, self.healthy) if self._failing_feeds else (self.healthy, self.failing)
        now.set()
        before.clear()


async def _stand_in(pollers: Sequence[_Poller], health: _Health) -> None:
    while True:
        await health.failing.wait()
        await _until_first_ends([health.healthy.wait(), *(poller.run() for poller in pollers)])


async def _until_first_ends(jobs: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Run all until one ends or fails; then end the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _within(seconds: float, job: Coroutine[Any, Any, _T]) -> _T:
    """Await with a time limit. Unlike ``asyncio.wait_for`` before 3.12 it never swallows a cancellation at the end."""
    task = asyncio.ensure_future(job)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Poller:
    """One feed's polls: when to ask, and whether an incident is going on."""

    def __init__(
        self,
        feed: PollFeed,
        client: httpx.AsyncClient,
        limiter: RateLimiter,
        receiver: FrameReceiver,
        *,
        policy: ReconnectPolicy,
        health: _Health | None = None,
        objection: Callable[[bytes], str] = objection_to,
    ) -> None:
        self._feed = feed
        self._client = client
        self._limiter = limiter
        self._receiver = receiver
        self._policy = policy
        self._health = health or _Health()
        self._objection = objection
        self._is_failing = False
        self._is_patient = feed.every_seconds < _PATIENCE_SECONDS
        self._every_us = round(feed.every_seconds * 1_000_000)
        self._offset_us = slot_offset_us(feed.name, every_us=self._every_us)
        ceiling = max(policy.max_delay_seconds, feed.every_seconds * _RETRY_SHARE)
        self._backoff = Backoff(policy.first_delay_seconds, ceiling)
        self.wait_seconds = 0.0

    async def run(self) -> None:
        now = now_us()
        due = self._slot_after(now) if self._is_patient else now
        while True:
            await self._sleep_until(due)
            body = await self.ask()
            if body is not None:
                self._receiver.put(self._feed.name, body)
            due = self._next_due_us(now_us(), has_failed=body is None)

    async def ask(self) -> bytes | None:
        """Ask once; None, a status at an incident's beginning and ``wait_seconds`` when there is no answer."""
        held_seconds = self._limiter.paused_seconds()
        if held_seconds > 0.0 and not self._is_failing:
            self._turn(FeedState.POLL_FAILED, f"held back for {held_seconds:.0f} s: the venue said later")
        try:
            body = await self._answer()
        except PollError as error:
            self.wait_seconds = max(self._backoff.next_delay_seconds(jitter()), error.wait_seconds)
            if not self._is_failing:
                self._turn(FeedState.POLL_FAILED, error.reason)
            return None
        if self._is_failing:
            self._turn(FeedState.POLL_ANSWERED, f"after {self._backoff.failures} failed")
        self._backoff.reset()
        self._health.note(self._feed.name, is_failing=False)
        return body

    async def _answer(self) -> bytes:
        body = await poll_once(self._feed, self._client, self._limiter, policy=self._policy)
        if objection := self._objection(body):
            self._receiver.put(self._feed.name, body)
            raise PollError(objection, code=_OK)
        return body

    def _turn(self, state: FeedState, reason: str) -> None:
        """Begin or end an incident."""
        self._is_failing = state is FeedState.POLL_FAILED
        self._receiver.status(self._feed.name, POLL_CONNECTION, state, reason)
        log = _log.warning if self._is_failing else _log.info
        log(state.value, feed=self._feed.name, reason=reason)
        self._health.note(self._feed.name, is_failing=self._is_failing)

    def _slot_after(self, time_us: int) -> int:
        return next_slot_us(time_us, every_us=self._every_us, offset_us=self._offset_us)

    def _next_due_us(self, now: int, *, has_failed: bool) -> int:
        if not has_failed:
            return self._slot_after(now)
        retry_us = now + round(self.wait_seconds * 1_000_000)
        return self._slot_after(retry_us) if self._is_patient else retry_us

    async def _sleep_until(self, due_us: int) -> None:
        """Sleep until the wall clock says so; when it was set back meanwhile, no longer than what was to wait at first."""
        start = monotonic_seconds()
        planned = remaining = (due_us - now_us()) / 1_000_000
        while remaining > 0.0 and monotonic_seconds() - start < planned:
            await asyncio.sleep(min(remaining, _PATIENCE_SECONDS))
            remaining = (due_us - now_us()) / 1_000_000


async def _get(feed: PollFeed, client: httpx.AsyncClient, limiter: RateLimiter, policy: ReconnectPolicy) -> bytes:
    """Return the body of an answer with code 200; raise for every other."""
    async with client.stream("GET", feed.url, headers=dict(feed.headers), timeout=feed.timeout_seconds) as response:
        if response.status_code != _OK:
            excerpt = await _read_at_most(response, _EXCERPT_BYTES)
            raise _refusal(response, excerpt[:_EXCERPT_BYTES], limiter, policy)
        body = await _read_at_most(response, MAX_BODY_BYTES)
    if len(body) > MAX_BODY_BYTES:
        raise PollError(f"answer larger than {MAX_BODY_BYTES} bytes", code=_OK)
    return body


async def _read_at_most(response: httpx.Response, limit: int) -> bytes:
    """Read the body, but stop once it is longer than ``limit``; what is returned may be longer by one chunk."""
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.aiter_bytes():
        chunks.append(chunk)
        length += len(chunk)
        if length > limit:
            break
    return b"".join(chunks)


def _refusal(response: httpx.Response, excerpt: bytes, limiter: RateLimiter, policy: ReconnectPolicy) -> PollError:
    code = response.status_code
    wait = 0.0
    if code in BUSY_CODES:
        wait = retry_after_seconds(response.headers.get("Retry-After"), now_us=now_us()) or 0.0
        limiter.pause_until(monotonic_seconds() + wait)
    elif code in BLOCKED_CODES:
        wait = policy.blocked_delay_seconds
    return PollError(refusal_words(code, response.reason_phrase, excerpt), code=code, wait_seconds=wait)
