"""Against a real HTTP server on loopback: when a poll asks, and what becomes of every kind of answer."""

import asyncio
import contextlib
import gzip
import itertools
import time

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from loopback import http_client, serving, until
from property_examples import UNICODE

from connectors.sources import polling
from connectors.sources.feed import PollFeed, RateLimit
from connectors.sources.polling import (
    PollError,
    RateLimiter,
    next_slot_us,
    poll_once,
    poll_until_answered,
    run_poll,
    run_poll_with_fallback,
    slot_offset_us,
)
from connectors.sources.reconnecting import ReconnectPolicy
from market.raw import FeedState

FAST = ReconnectPolicy(first_delay_seconds=0.02, max_delay_seconds=0.1, blocked_delay_seconds=0.5)
FAILED, ANSWERED = FeedState.POLL_FAILED, FeedState.POLL_ANSWERED


class Recorder:
    """A receiver that remembers."""

    def __init__(self):
        self.frames = []
        self.times = []
        self.statuses = []

    def put(self, feed, payload):
        self.frames.append((feed, payload))
        self.times.append(time.time())

    def status(self, feed, connection, state, reason):
        assert connection == "poll"
        self.statuses.append((feed, state, reason))


class Venue:
    """An HTTP server that answers with whatever ``answer`` makes of a request, and remembers when it was asked."""

    def __init__(self, answer):
        self._answer = answer
        self.asked = []

    def serving(self):
        """Yields the server's base URL."""
        return serving(web.get("/{path:.*}", self._handle))

    async def _handle(self, request):
        self.asked.append((request.path, time.time()))
        response = self._answer(request)
        return await response if asyncio.iscoroutine(response) else response

    def times(self, path="/data"):
        return [at for asked, at in self.asked if asked == path]


@contextlib.asynccontextmanager
async def cancelled_after(job):
    task = asyncio.ensure_future(job)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stall(seconds):
    """Keep the whole event loop from running."""
    time.sleep(seconds)


def feed_at(url, **fields):
    return PollFeed(**{"name": "venue/data", "url": f"{url}/data", "every_seconds": 0.1, **fields})


def generous():
    return RateLimiter(RateLimit(weight=1000, per_seconds=1.0))


def ask_once(answer, **fields):
    """Return what ``poll_once`` gives for one answer of the server, or the error it raises."""

    async def scenario():
        async with Venue(answer).serving() as url, http_client() as client:
            try:
                return await poll_once(feed_at(url, **fields), client, generous(), policy=FAST)
            except PollError as error:
                return (error.code, error.reason, error.wait_seconds)

    return asyncio.run(scenario())


@given(
    now=st.integers(0, 4 * 10**15),
    every=st.integers(1, 10**11),
    share=st.floats(0.0, 1.0, exclude_max=True),
)
def test_the_next_slot_is_the_first_one_after_now(now, every, share):
    offset = int(every * share)

    slot = next_slot_us(now, every_us=every, offset_us=offset)

    assert now < slot <= now + every
    assert slot % every == offset % every


@given(name=st.text(UNICODE), every=st.integers(10, 10**11))
def test_a_feeds_offset_lies_in_the_first_tenth_and_never_changes(name, every):
    assert 0 <= slot_offset_us(name, every_us=every) <= every / 10
    assert slot_offset_us(name, every_us=every) == slot_offset_us(name, every_us=every)


def test_feeds_of_one_venue_do_not_all_ask_at_once():
    offsets = {slot_offset_us(f"okx/depth/{symbol}", every_us=10_000_000) for symbol in ("BTC", "ETH", "SOL", "XRP")}

    assert len(offsets) == 4


@pytest.mark.slow
def test_answers_come_at_the_feeds_places_on_the_clock():
    async def scenario():
        venue, receiver = Venue(lambda _request: web.Response(text="{}")), Recorder()
        async with venue.serving() as url, http_client() as client:
            feed = feed_at(url, every_seconds=0.5)
            async with cancelled_after(run_poll(feed, client, generous(), receiver)):
                await until(lambda: len(receiver.frames) == 3)
        return venue.times(), receiver

    times, receiver = asyncio.run(scenario())

    offset = slot_offset_us("venue/data", every_us=500_000) / 1_000_000
    slots = [divmod(at - offset, 0.5) for at in times]
    assert [number - slots[0][0] for number, _late in slots] == [0, 1, 2]
    assert all(late < 0.4 for _number, late in slots)
    assert receiver.frames == [("venue/data", b"{}")] * 3
    assert receiver.statuses == []


@pytest.mark.slow
def test_slots_missed_in_a_stall_are_not_made_up_for():
    async def scenario():
        venue = Venue(lambda _request: web.Response(text="{}"))
        async with venue.serving() as url, http_client() as client:
            async with cancelled_after(run_poll(feed_at(url), client, generous(), Recorder())):
                await until(lambda: len(venue.asked) == 2)
                stall(0.55)
                stalled_until = time.time()
                await asyncio.sleep(0.35)
            return [at for at in venue.times() if at >= stalled_until], stalled_until

    times, stalled_until = asyncio.run(scenario())

    assert 3 <= len(times) <= 5
    assert all(later - earlier > 0.03 for earlier, later in itertools.pairwise(times[1:]))
    assert times[0] - stalled_until < 0.1


@pytest.mark.slow
def test_an_answer_slower_than_the_period_costs_slots_not_a_queue():
    async def scenario():
        async def slow(_request):
            await asyncio.sleep(0.15)
            return web.Response(text="{}")

        venue = Venue(slow)
        async with venue.serving() as url, http_client() as client:
            async with cancelled_after(run_poll(feed_at(url), client, generous(), Recorder())):
                await asyncio.sleep(0.9)
            return len(venue.asked)

    assert 3 <= asyncio.run(scenario()) <= 5


def test_a_poll_of_a_long_period_asks_at_once_and_retries_between_its_places():
    async def scenario():
        answers = [web.Response(status=500), web.Response(status=500), web.Response(text="{}")]
        venue, receiver = Venue(lambda _request: answers.pop(0)), Recorder()
        async with venue.serving() as url, http_client() as client:
            feed = feed_at(url, every_seconds=3600.0)
            policy = ReconnectPolicy(first_delay_seconds=0.02)
            async with cancelled_after(run_poll(feed, client, generous(), receiver, policy=policy)):
                await until(lambda: receiver.frames)
        return receiver

    receiver = asyncio.run(scenario())

    assert receiver.frames == [("venue/data", b"{}")]
    assert receiver.statuses == [
        ("venue/data", FAILED, "HTTP 500 Internal Server Error"),
        ("venue/data", ANSWERED, "after 2 failed"),
    ]


def test_the_feeds_headers_are_sent():
    body = ask_once(lambda request: web.Response(text=request.headers["X-Origin"]), headers={"X-Origin": "here"})

    assert body == b"here"


def test_a_compressed_answer_is_unpacked():
    packed = gzip.compress(b'{"a":1}')

    body = ask_once(lambda _request: web.Response(body=packed, headers={"Content-Encoding": "gzip"}))

    assert body == b'{"a":1}'


def test_an_html_500_is_refused_with_code_and_words():
    page = "<html>\n<body>" + "x" * 5000

    refused = ask_once(lambda _request: web.Response(status=500, text=page, content_type="text/html"))

    assert refused == (500, "HTTP 500 Internal Server Error: <html> <body>" + "x" * 187, 0.0)


def test_a_redirect_or_an_empty_answer_is_no_answer():
    assert ask_once(lambda _request: web.Response(status=204)) == (204, "HTTP 204 No Content", 0.0)
    moved = web.Response(status=302, headers={"Location": "/login"})
    assert ask_once(lambda _request: moved) == (302, "HTTP 302 Found", 0.0)


def test_where_we_are_blocked_the_waits_are_long():
    assert ask_once(lambda _request: web.Response(status=451, text="not from there")) == (
        451,
        "HTTP 451 Unavailable For Legal Reasons (blocked here?): not from there",
        0.5,
    )


def test_an_answer_that_takes_too_long_is_given_up():
    async def slow(_request):
        await asyncio.sleep(1.0)
        return web.Response()

    assert ask_once(slow, timeout_seconds=0.1) == (None, "no answer within 0.1 s", 0.0)


def test_an_answer_that_trickles_is_given_up_too():
    async def trickle(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    assert ask_once(trickle, timeout_seconds=0.2) == (None, "no answer within 0.2 s", 0.0)


def test_a_body_that_is_cut_short_is_no_answer():
    async def truncated(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"half":')
        request.transport.close()
        return response

    code, reason, wait = ask_once(truncated)

    assert (code, wait) == (None, 0.0)
    assert reason.startswith("RemoteProtocolError: ")


def test_a_body_over_the_limit_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(polling, "MAX_BODY_BYTES", 1000)

    assert ask_once(lambda _request: web.Response(body=b"x" * 1000)) == b"x" * 1000
    assert ask_once(lambda _request: web.Response(body=b"x" * 1001)) == (200, "answer larger than 1000 bytes", 0.0)


def test_nobody_listening_is_no_answer():
    async def scenario():
        async with Venue(lambda _request: web.Response()).serving() as url:
            pass
        async with http_client() as client:
            with pytest.raises(PollError, match="ConnectError") as caught:
                await poll_once(feed_at(f"{url}?key=secret"), client, generous())
        return caught.value.reason

    assert "secret" not in asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("code", [418, 429, 503])
def test_retry_after_holds_back_every_poll_of_the_venue(code):
    async def scenario():
        def answer(request):
            if request.path == "/busy":
                return web.Response(status=code, headers={"Retry-After": "1"})
            return web.Response(text="{}")

        venue, limiter = Venue(answer), generous()
        async with venue.serving() as url, http_client() as client:
            busy = PollFeed(name="venue/busy", url=f"{url}/busy", every_seconds=60.0)
            with pytest.raises(PollError):
                await poll_once(busy, client, limiter)
            start = time.monotonic()
            await poll_once(feed_at(url), client, limiter)
            return time.monotonic() - start

    assert 0.9 <= asyncio.run(scenario()) < 2.0


@pytest.mark.slow
def test_after_429_the_poll_itself_waits_as_long_as_the_venue_says():
    async def scenario():
        def answer(_request):
            return web.Response(status=429, headers={"Retry-After": "1"}) if len(venue.asked) == 1 else web.Response(text="{}")

        venue, receiver = Venue(answer), Recorder()
        async with venue.serving() as url, http_client() as client:
            async with cancelled_after(run_poll(feed_at(url), client, generous(), receiver, policy=FAST)):
                await until(lambda: receiver.frames)
            return venue.times(), receiver.statuses

    times, statuses = asyncio.run(scenario())

    assert times[1] - times[0] >= 1.0
    assert statuses == [
        ("venue/data", FAILED, "HTTP 429 Too Many Requests"),
        ("venue/data", ANSWERED, "after 1 failed"),
    ]


@pytest.mark.slow
def test_polls_that_the_venue_holds_back_say_so_until_they_are_answered():
    async def scenario():
        venue, receiver, limiter = Venue(lambda _request: web.Response(text="{}")), Recorder(), generous()
        async with venue.serving() as url, http_client() as client:
            job = run_poll(feed_at(url, every_seconds=0.2), client, limiter, receiver, policy=FAST)
            async with cancelled_after(job):
                await until(lambda: receiver.frames)
                limiter.pause_until(time.monotonic() + 1.0)
                asked = len(venue.asked)
                await until(lambda: len(venue.asked) > asked)
                await until(lambda: len(receiver.statuses) == 2)
                await until(lambda: len(venue.asked) > asked + 2)
        return receiver.statuses

    statuses = asyncio.run(scenario())

    assert statuses == [
        ("venue/data", FAILED, "held back for 1 s: the venue said later"),
        ("venue/data", ANSWERED, "after 0 failed"),
    ]


@pytest.mark.parametrize("unreadable", [b"<html>", b'{"half":[1,2', b"", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_a_frame_and_a_failure_and_asked_for_again(unreadable):
    async def scenario():
        answers = [unreadable]
        receiver = Recorder()
        async with (
            Venue(lambda _request: web.Response(body=answers.pop(0) if answers else b"{}")).serving() as url,
            http_client() as client,
            cancelled_after(run_poll(feed_at(url, every_seconds=86_400.0), client, generous(), receiver, policy=FAST)),
        ):
            await until(lambda: len(receiver.frames) == 2)
        return receiver

    receiver = asyncio.run(scenario())

    assert receiver.frames == [("venue/data", unreadable), ("venue/data", b"{}")]
    assert [(state, reason[:7]) for _feed, state, reason in receiver.statuses] == [(FAILED, "no JSON"), (ANSWERED, "after 1")]


def test_an_incident_is_reported_once_and_so_is_its_end():
    async def scenario():
        codes = [200, 500, 502, 451, 200, 200, 500, 200]

        def answer(_request):
            return web.Response(status=codes.pop(0) if codes else 200, text='"body"')

        receiver = Recorder()
        policy = ReconnectPolicy(first_delay_seconds=0.001, max_delay_seconds=0.002, blocked_delay_seconds=0.01)
        async with Venue(answer).serving() as url, http_client() as client:
            feed = feed_at(url, every_seconds=0.03)
            async with cancelled_after(run_poll(feed, client, generous(), receiver, policy=policy)):
                await until(lambda: len(receiver.frames) >= 5)
        return receiver.statuses

    assert asyncio.run(scenario()) == [
        ("venue/data", FAILED, 'HTTP 500 Internal Server Error: "body"'),
        ("venue/data", ANSWERED, "after 3 failed"),
        ("venue/data", FAILED, 'HTTP 500 Internal Server Error: "body"'),
        ("venue/data", ANSWERED, "after 1 failed"),
    ]


def test_polls_of_one_venue_share_its_rate_limit():
    async def scenario():
        venue = Venue(lambda _request: web.Response(text="{}"))
        limiter = RateLimiter(RateLimit(weight=4, per_seconds=0.4))
        async with venue.serving() as url, http_client() as client:
            feeds = [feed_at(url, name=f"venue/data/{number}", weight=2.0) for number in range(3)]
            start = time.monotonic()
            await asyncio.gather(*(poll_once(feed, client, limiter) for feed in feeds))
            return time.monotonic() - start

    assert asyncio.run(scenario()) >= 0.8


def test_asking_until_there_is_an_answer_returns_it_and_puts_nothing():
    async def scenario():
        answers = [web.Response(status=500, text="not yet"), web.Response(text='"here"')]
        receiver = Recorder()
        async with Venue(lambda _request: answers.pop(0)).serving() as url, http_client() as client:
            body = await poll_until_answered(feed_at(url), client, generous(), receiver, policy=FAST)
        return body, receiver

    body, receiver = asyncio.run(scenario())

    assert (body, receiver.frames) == (b'"here"', [])
    assert receiver.statuses == [
        ("venue/data", FAILED, "HTTP 500 Internal Server Error: not yet"),
        ("venue/data", ANSWERED, "after 1 failed"),
    ]


def test_the_fallback_is_asked_while_the_first_source_fails_and_only_then():
    async def scenario():
        is_down = asyncio.Event()

        def answer(request):
            code = 500 if request.path == "/first" and is_down.is_set() else 200
            return web.json_response(request.path, status=code)

        venue, receiver = Venue(answer), Recorder()
        async with venue.serving() as url, http_client() as client:
            first = PollFeed(name="first/data", url=f"{url}/first", every_seconds=0.05)
            second = PollFeed(name="second/data", url=f"{url}/second", every_seconds=0.05)
            job = run_poll_with_fallback([first], [second], client, generous(), receiver, policy=FAST)
            async with cancelled_after(job):
                await until(lambda: len(venue.times("/first")) >= 3)
                asked_before = len(venue.times("/second"))
                is_down.set()
                await until(lambda: len(venue.times("/second")) >= 2)
                is_down.clear()
                await until(lambda: len(receiver.statuses) == 2)
                await asyncio.sleep(0.05)
                asked_at_recovery = len(venue.times("/second"))
                await asyncio.sleep(0.2)
                asked_after = len(venue.times("/second"))
        return asked_before, asked_after - asked_at_recovery, receiver

    asked_before, asked_after, receiver = asyncio.run(scenario())

    assert (asked_before, asked_after) == (0, 0)
    assert [(feed, state) for feed, state, _reason in receiver.statuses] == [("first/data", FAILED), ("first/data", ANSWERED)]
    assert ("second/data", b'"/second"') in receiver.frames


def test_without_a_fallback_the_first_source_is_asked_on():
    async def scenario():
        codes = [500, 200]
        receiver = Recorder()
        async with (
            Venue(lambda _request: web.Response(status=codes.pop(0) if codes else 200, text="{}")).serving() as url,
            http_client() as client,
            cancelled_after(run_poll_with_fallback([feed_at(url)], [], client, generous(), receiver, policy=FAST)),
        ):
            await until(lambda: len(receiver.frames) == 2)
        return [state for _feed, state, _reason in receiver.statuses]

    assert asyncio.run(scenario()) == [FAILED, ANSWERED]


def test_what_the_receiver_raises_ends_all_polls():
    class Full(Recorder):
        def put(self, feed, payload):
            raise OSError("disk full")

    async def scenario():
        async with Venue(lambda _request: web.Response(text="{}")).serving() as url, http_client() as client:
            job = run_poll_with_fallback([feed_at(url)], [feed_at(url)], client, generous(), Full())
            with pytest.raises(OSError, match="disk full"):
                await asyncio.wait_for(job, 2.0)

    asyncio.run(scenario())
