"""Runs every transport of a process: venues, chain, mining. What comes in goes to the inbox.

Each venue on its own: its contracts are fetched before anything is subscribed, so that no liquidation meets an unknown symbol,
and again every hour; what a changed list changes (a new symbol to subscribe) is started before its predecessor is ended.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx

from connectors.sources.feed import Endpoints, PollFeed, RateLimit, Venue, WebSocketFeed
from connectors.sources.frame import Frame, FrameError
from connectors.sources.inbox import Inbox
from connectors.sources.jsonrpc import ChainFeed, follow_chain
from connectors.sources.polling import RateLimiter, poll_until_answered, run_poll, run_poll_with_fallback
from connectors.sources.websocket import REPLACED, run_websocket
from market.contracts import split_multiplier
from market.feeds import INSTRUMENTS_CHANNEL, NO_LONGER_WANTED, liquidations_feed
from market.raw import Cause, ContractKind, FeedState, RawInstrument

PROCESS = "process"
"""Whose start is a status too: a process that was killed could not say that its connections were lost."""

_OVERLAP_SECONDS = 5.0  # until the successor's subscription has surely taken effect; what both bring is de-duplicated
_REFRESH_SECONDS = 3600.0  # new contracts are announced days ahead; an hour late costs only dead letters
_MAX_PAGES = 100  # of a list of contracts: a thousand times a hundred, where venues have one or two
_WATCHED_QUOTES = frozenset({"USDT", "USDC", "USD"})
_NOWHERE = Cause("", 0, 0)  # instruments are read twice: here to know what to subscribe, in the flow for the contract table


@dataclass(frozen=True)
class MiningFeeds:
    """Polls of one mining source, and of another that is asked while the first fails."""

    polls: Sequence[PollFeed]
    fallback: Sequence[PollFeed] = ()


@dataclass(frozen=True)
class Collection:
    """All that one process receives.

    Attributes:
        owns: Says of an asset whether this process wants its contracts, where a venue allows to choose.
    """

    venues: Sequence[tuple[Venue, Endpoints]]
    watched_assets: frozenset[str]
    owns: Callable[[str], bool] = lambda _asset: True
    chain: ChainFeed | None = None
    mining: MiningFeeds | None = None
    ssl_context: ssl.SSLContext | None = None
    mining_limit: RateLimit = field(default_factory=lambda: RateLimit(10, 60.0))


async def collect(collection: Collection, inbox: Inbox) -> None:
    """Receive until cancelled. A transport's own failure is a status and a retry; only a bug ends this."""
    inbox.status(PROCESS, PROCESS, FeedState.STARTED, "process started")
    for venue, _endpoints in collection.venues:
        inbox.status(liquidations_feed(venue.id), "", FeedState.EXPECTED, "")
    direct = dict.fromkeys(("all://127.0.0.1", "all://localhost"))  # no proxy stands before this machine itself
    async with httpx.AsyncClient(verify=collection.ssl_context or True, mounts=direct) as client:
        jobs: list[Coroutine[Any, Any, None]] = [
            _Desk(venue, endpoints, collection, client, inbox).run() for venue, endpoints in collection.venues
        ]
        if collection.chain is not None:
            jobs.append(follow_chain(collection.chain, client, inbox, newest=inbox.newest_of(collection.chain.name)))
        if collection.mining is not None:
            limiter = RateLimiter(collection.mining_limit)
            jobs.append(run_poll_with_fallback(collection.mining.polls, collection.mining.fallback, client, limiter, inbox))
        await _run_all(jobs)


class _Desk:
    """One venue's transports."""

    def __init__(
        self, venue: Venue, endpoints: Endpoints, collection: Collection, client: httpx.AsyncClient, inbox: Inbox
    ) -> None:
        self._venue = venue
        self._endpoints = endpoints
        self._collection = collection
        self._client = client
        self._inbox = inbox
        self._limiter = RateLimiter(venue.rate_limit)
        self._running: dict[WebSocketFeed | PollFeed, asyncio.Task[None]] = {}
        self._versions: Counter[tuple[str, str]] = Counter()  # of what each connection subscribes

    async def run(self) -> None:
        """Fetch the contracts, then receive; look again every hour."""
        try:
            while True:
                self._start(await self._instruments())
                await self._watch(_REFRESH_SECONDS)
        finally:
            await _cancel_all(self._running.values())

    async def _instruments(self) -> list[RawInstrument]:
        instruments: list[RawInstrument] = []
        for first_page in self._venue.instrument_polls(self._endpoints):
            page = first_page
            for _ in range(_MAX_PAGES):
                objection = partial(self._objection, page.name, may_be_empty=bool(instruments))
                body = await poll_until_answered(page, self._client, self._limiter, self._inbox, objection=objection)
                self._inbox.put(page.name, body)
                instruments += self._read(page.name, body)
                following = self._venue.next_instrument_page(page, body)
                if following is None:
                    break
                page = following
        return instruments

    def _objection(self, feed: str, body: bytes, *, may_be_empty: bool) -> str:
        """Say why a body is no list of contracts. Going on with it would end every subscription until the next look."""
        try:
            is_empty = not self._read(feed, body)
        except FrameError as error:  # the same frame becomes a dead letter in the flow, where it is counted
            return str(error)
        return "it names no contract" if is_empty and not may_be_empty else ""

    def _read(self, feed: str, body: bytes) -> list[RawInstrument]:
        events = self._venue.parsers[INSTRUMENTS_CHANNEL](Frame(feed, body, _NOWHERE))
        return [event for event in events if isinstance(event, RawInstrument)]

    def _start(self, instruments: list[RawInstrument]) -> None:
        # Where contracts are subscribed one by one and none is ours, one all the same: to know whether the venue is there.
        ours = [item for item in instruments if self._collection.owns(_asset_of(item.base))] or instruments[:1]
        settled_in = {_asset_of(item.settle) for item in ours if item.kind is ContractKind.QUANTO}
        watched = [item for item in instruments if self._is_watched(item, settled_in)]
        wanted: list[WebSocketFeed | PollFeed] = [
            *self._venue.websockets(self._endpoints, ours),
            *self._venue.polls(self._endpoints, watched),
        ]
        for feed in wanted:
            if feed not in self._running:
                self._running[feed] = asyncio.ensure_future(self._transport(feed))
        places = {_place(feed) for feed in wanted}
        for feed in set(self._running) - set(wanted):
            end = self._replaced if _place(feed) in places else self._given_up
            asyncio.get_running_loop().call_later(_OVERLAP_SECONDS, end, feed, self._running.pop(feed))

    def _replaced(self, _feed: WebSocketFeed | PollFeed, transport: asyncio.Task[None]) -> None:
        transport.cancel(REPLACED)

    def _given_up(self, feed: WebSocketFeed | PollFeed, transport: asyncio.Task[None]) -> None:
        """End what nothing takes the place of, and say so: should its connection be away, nobody else would."""
        transport.cancel(NO_LONGER_WANTED)
        if isinstance(feed, WebSocketFeed):
            self._inbox.status(feed.name, feed.connection, FeedState.LOST, NO_LONGER_WANTED)

    def _transport(self, feed: WebSocketFeed | PollFeed) -> Coroutine[Any, Any, None]:
        if isinstance(feed, WebSocketFeed):
            return run_websocket(self._labelled(feed), self._inbox, ssl_context=self._collection.ssl_context)
        return run_poll(feed, self._client, self._limiter, self._inbox)

    def _labelled(self, feed: WebSocketFeed) -> WebSocketFeed:
        """Name a successor after its predecessor, which still runs for a while: the two are told apart by what follows #."""
        self._versions[_place(feed)] += 1
        version = self._versions[_place(feed)]
        return feed if version == 1 else replace(feed, connection=f"{feed.connection}#v{version}")

    def _is_watched(self, instrument: RawInstrument, settled_in: set[str]) -> bool:
        """Say whether a contract is polled: one of ours, or one by whose price ours are settled."""
        asset = _asset_of(instrument.base)
        return (
            (self._collection.owns(asset) or asset in settled_in)
            and asset in self._collection.watched_assets
            and instrument.is_perpetual
            and (instrument.quote in _WATCHED_QUOTES or instrument.kind is ContractKind.INVERSE)
        )

    async def _watch(self, seconds: float) -> None:
        """Wait so long; a transport that ends by a bug ends everything, loudly."""
        done, _running = await asyncio.wait(self._running.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _asset_of(currency: str) -> str:
    asset, _multiplier = split_multiplier(currency)
    return asset


def _place(feed: WebSocketFeed | PollFeed) -> tuple[str, str]:
    """Return what stays the same when the symbols of a connection change."""
    return feed.name, feed.connection if isinstance(feed, WebSocketFeed) else ""


async def _run_all(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run until one fails or all are cancelled; then end all."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel_all(tasks)


async def _cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
