"""What a live run needs of the outside: venues, chain, mining, the tables' store. Everything is asked at the same time."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from cascadewatch.checkup import Check, Level, place_of, without_secrets
from cascadewatch.checkup_alertmanager import check_alertmanagers
from cascadewatch.checkup_tables import check_tables
from connectors.clock import monotonic_seconds, now_us
from connectors.sources.collector import Collection
from connectors.sources.feed import Endpoints, PollFeed, Venue
from connectors.sources.frame import Frame, FrameError
from connectors.sources.jsonrpc_node import Call, Node, NodeError, quantity
from connectors.sources.reconnecting import BUSY_CODES, refusal_words
from connectors.sources.registry import parser_of
from flows.collection import collection_of
from flows.settings import Settings, SettingsError
from market.feeds import INSTRUMENTS_CHANNEL
from market.raw import Cause, RawInstrument, RawRefusal

ANSWER_SECONDS = 5.0
"""For one answer, address look-up included."""

TOTAL_SECONDS = 11.0
"""For everything: a venue is asked for two answers, one after the other."""

MOST_SKEW_SECONDS = 2.0
"""Event times further in the future than a venue's own delay would be clamped, and lateness be judged wrongly."""

_OK = 200
_HIDDEN_CODES = frozenset({403, 451})
_NOWHERE = Cause("", 0, 0)
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_ELSEWHERE = "the venue blocks this place or address: run it where the venue serves you"
_REACH = "check name service, firewall, proxy and, where there is a private certificate authority, ca_file"

_Job = tuple[str, Coroutine[Any, Any, Sequence[Check]]]


def network_checks(settings: Settings) -> list[Check]:
    """Ask everything outside that the settings name; what has not answered in time has failed."""
    try:
        collection = collection_of(settings)
    except SettingsError as error:
        return [Check("ca_file", Level.FAILED, str(error), "correct ca_file, or leave it out")]
    return asyncio.run(_ask_all(settings, collection))


async def _ask_all(settings: Settings, collection: Collection) -> list[Check]:
    async with httpx.AsyncClient(
        verify=collection.ssl_context or True, follow_redirects=False, timeout=ANSWER_SECONDS
    ) as client:
        jobs: list[_Job] = [("tables", _tables(settings))]
        jobs += [(venue.id, _venue(venue, where, client, collection.ssl_context)) for venue, where in collection.venues]
        jobs += [("chain", _chain(settings, collection, client)), ("mining", _mining(collection, client))]
        jobs += [("alertmanager", check_alertmanagers(settings, client))]
        tasks = [asyncio.ensure_future(job) for _name, job in jobs]
        await asyncio.wait(tasks, timeout=TOTAL_SECONDS)
        checks: list[Check] = []
        for (name, _job), task in zip(jobs, tasks, strict=True):
            if not task.done():
                task.cancel()
                checks.append(Check(name, Level.FAILED, f"no answer within {TOTAL_SECONDS:g} s", _REACH))
            elif (bug := task.exception()) is not None:  # its words may hold a key
                advice = "this check is broken, which says nothing about the run: please report it"
                checks.append(Check(name, Level.WARNING, f"{type(bug).__name__} in the check itself", advice))
            else:
                checks += task.result()
        await asyncio.gather(*tasks, return_exceptions=True)
        return checks


async def _tables(settings: Settings) -> Sequence[Check]:
    return [await _in_thread(lambda: check_tables(settings))]


async def _in_thread(ask: Callable[[], Check]) -> Check:
    """Wait for what blocks. Its thread is a daemon: a store that does not answer must not keep the process alive."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Check] = loop.create_future()

    def settle(check: Check | None, error: Exception | None) -> None:
        if answer.cancelled():
            return
        if check is not None:
            answer.set_result(check)
        elif error is not None:
            answer.set_exception(error)

    def run() -> None:
        check, failure = None, None
        try:
            check = ask()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, check, failure)

    threading.Thread(target=run, name="tables check", daemon=True).start()
    return await answer


async def _venue(
    venue: Venue, endpoints: Endpoints, client: httpx.AsyncClient, ssl_context: ssl.SSLContext | None
) -> Sequence[Check]:
    """Fetch the contracts as a run would, then open the socket that they lead to."""
    checks, instruments = [], []
    for poll in venue.instrument_polls(endpoints):
        check, listed = await _instruments(venue, poll, client)
        checks.append(check)
        instruments += listed
    worst = next(check for level in (Level.FAILED, Level.WARNING, Level.OK) for check in checks if check.level is level)
    if worst.level is not Level.FAILED and len(checks) > 1:
        worst = Check(
            worst.name, worst.level, f"{len(instruments)} contracts in {len(checks)} lists; {worst.seen}", worst.advice
        )
    return [worst, await _socket(venue, endpoints, instruments, ssl_context)]


async def _instruments(venue: Venue, poll: PollFeed, client: httpx.AsyncClient) -> tuple[Check, list[RawInstrument]]:
    name = f"{venue.id} REST"
    place = place_of(poll.url)
    began_us, began = now_us(), monotonic_seconds()
    try:
        response = await asyncio.wait_for(client.get(poll.url, headers=dict(poll.headers)), ANSWER_SECONDS)
    except (asyncio.TimeoutError, httpx.TimeoutException):
        return Check(name, Level.FAILED, f"{place}: no answer within {ANSWER_SECONDS:g} s", _REACH), []
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Check(name, Level.FAILED, f"{place}: {type(error).__name__}: {error}", _REACH), []
    took = monotonic_seconds() - began
    if response.status_code != _OK:
        words = refusal_words(response.status_code, response.reason_phrase, response.content)
        return Check(name, Level.FAILED, f"{place}: {words}", _advice_for(response.status_code)), []
    instruments, refused = _read(venue, poll.name, response.content)
    if not instruments:
        advice = "if endpoints is set, check it; otherwise the venue has changed its answer: look for a newer version"
        return Check(name, Level.FAILED, f"{place}: no contract could be read: {refused or 'the list is empty'}", advice), []
    skew = _skew_seconds(response.headers, middle_us=began_us + int(took * 500_000))
    clock = "no Date header, so the clock was not compared" if skew is None else f"clock {skew:+.1f} s"
    seen = f"{place}: {len(instruments)} contracts in {took * 1000:.0f} ms, {clock}"
    if refused:
        seen += f"; some were refused: {refused}"
    if skew is not None and abs(skew) > MOST_SKEW_SECONDS:
        return Check(
            name, Level.WARNING, seen, "set this machine's clock by a time server (chrony, systemd-timesyncd)"
        ), instruments
    return Check(name, Level.OK, seen), instruments


def _read(venue: Venue, feed: str, body: bytes) -> tuple[list[RawInstrument], str]:
    """Return the contracts, and the first refusal's reason."""
    try:
        events = venue.parsers[INSTRUMENTS_CHANNEL](Frame(feed, body, _NOWHERE))
    except FrameError as error:
        return [], str(error)
    refused = next((event.reason for event in events if isinstance(event, RawRefusal)), "")
    return [event for event in events if isinstance(event, RawInstrument)], refused


def _skew_seconds(headers: httpx.Headers, *, middle_us: int) -> float | None:
    """Return how far our clock is ahead of the answer's: half a second uncertain, since a Date has whole seconds."""
    try:
        date = parsedate_to_datetime(headers["Date"])
        age = float(headers.get("Age", "0"))  # of an answer out of a cache, since its Date
    except (KeyError, TypeError, ValueError):
        return None
    return middle_us / 1_000_000 - (date.timestamp() + 0.5 + age)


async def _socket(
    venue: Venue, endpoints: Endpoints, instruments: Sequence[RawInstrument], ssl_context: ssl.SSLContext | None
) -> Check:
    name = f"{venue.id} socket"
    feeds = venue.websockets(endpoints, instruments)
    if not feeds:
        return Check(name, Level.WARNING, "not tried: without contracts there is nothing to subscribe", "see the line above")
    url = feeds[0].url
    place = place_of(url)
    began = monotonic_seconds()
    try:
        async with connect(
            url,
            ssl=(ssl_context or True) if url.startswith("wss:") else None,
            proxy=None if urlsplit(url).hostname in _LOOPBACK_HOSTS else True,
            open_timeout=ANSWER_SECONDS,
            close_timeout=1.0,
        ):
            took = monotonic_seconds() - began
    except InvalidStatus as error:
        answer = error.response
        words = refusal_words(answer.status_code, answer.reason_phrase, bytes(answer.body or b""))
        return Check(name, Level.FAILED, f"{place}: {words}", _advice_for(answer.status_code))
    except (asyncio.TimeoutError, OSError, InvalidHandshake, InvalidURI) as error:
        return Check(name, Level.FAILED, f"{place}: cannot connect: {str(error) or type(error).__name__}", _REACH)
    return Check(name, Level.OK, f"{place}: open in {took * 1000:.0f} ms; all symbols take {len(feeds)} of them")


def _advice_for(code: int) -> str:
    if code in _HIDDEN_CODES:
        return _ELSEWHERE
    if code in BUSY_CODES:
        return "asked too often from this address: wait some minutes, and see who else asks from here"
    return "if endpoints is set, check it; otherwise try again later"


async def _chain(settings: Settings, collection: Collection, client: httpx.AsyncClient) -> Sequence[Check]:
    if collection.chain is None:
        advice = "set chain.url to an Ethereum JSON-RPC endpoint, or do without"
        return [Check("chain", Level.WARNING, "not configured: Stablecoin Pressure will be missing from scores", advice)]
    place = place_of(collection.chain.url)
    node = Node(client, collection.chain.url, timeout_seconds=ANSWER_SECONDS, max_batch_requests=1)
    try:
        (head,) = await node.ask([Call("eth_blockNumber", [])])
        block = quantity(head)
    except NodeError as error:
        advice = "check chain.url and the key in it" if error.is_blocked else f"check chain.url; {_REACH}"
        return [Check("chain", Level.FAILED, f"{place}: {without_secrets(error.reason, settings)}", advice)]
    return [Check("chain", Level.OK, f"{place}: the newest block is {block:,}")]


async def _mining(collection: Collection, client: httpx.AsyncClient) -> Sequence[Check]:
    if collection.mining is None:
        seen = "no source: the Difficulty Multiple will be missing from scores"
        return [Check("mining", Level.WARNING, seen, "set mining.source, or do without")]
    asked = [("mining", collection.mining.polls), ("mining fallback", collection.mining.fallback)]
    return await asyncio.gather(*(_mining_source(name, polls, client) for name, polls in asked if polls))


async def _mining_source(name: str, polls: Sequence[PollFeed], client: httpx.AsyncClient) -> Check:
    """Ask for what changes most often, which is the smallest answer."""
    poll = min(polls, key=lambda each: each.every_seconds)
    place = place_of(poll.url)
    advice = f"set mining.fallback or mining.base_urls; {_REACH}"
    try:
        response = await asyncio.wait_for(client.get(poll.url, headers=dict(poll.headers)), ANSWER_SECONDS)
        if response.status_code != _OK:
            words = refusal_words(response.status_code, response.reason_phrase, response.content)
            return Check(name, Level.FAILED, f"{place}: {words}", advice)
        parser_of(poll.name)(Frame(poll.name, response.content, _NOWHERE))
    except (asyncio.TimeoutError, httpx.TimeoutException):
        return Check(name, Level.FAILED, f"{place}: no answer within {ANSWER_SECONDS:g} s", advice)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Check(name, Level.FAILED, f"{place}: {type(error).__name__}: {error}", advice)
    except FrameError as error:
        return Check(name, Level.FAILED, f"{place}: not what it should say: {error}", advice)
    return Check(name, Level.OK, f"{place}: {poll.name} could be read")
