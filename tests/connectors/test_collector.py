"""One venue's transports against a real server on loopback: contracts first, and again when the list has changed."""

import asyncio
import json
import time

import pytest
from aiohttp import web
from loopback import serving

from connectors.sources import collector
from connectors.sources.collector import Collection, collect
from connectors.sources.feed import Endpoints, PollFeed, RateLimit, WebSocketFeed
from connectors.sources.frame import MalformedFrameError
from market.raw import Cause, ContractKind, FeedState, RawInstrument


class Venue:
    """Lists coins as JSON, pages of two; one connection for all of them; polls what is watched."""

    id = "venue"
    rate_limit = RateLimit(1_000, 1.0)

    @property
    def parsers(self):
        return {"instruments": self.parse_instruments}

    def parse_instruments(self, frame):
        try:
            coins = json.loads(frame.payload)["coins"]
        except (ValueError, KeyError) as error:
            raise MalformedFrameError(str(error)) from error
        return [
            RawInstrument(Cause("", 0, 0), "venue", coin, coin, "USDT", "USDT", ContractKind.LINEAR, "1", is_perpetual=True)
            for coin in coins
        ]

    def instrument_polls(self, endpoints):
        return [PollFeed("venue/instruments", f"{endpoints.rest_url}/instruments?page=0", 3600.0)]

    def next_instrument_page(self, poll, payload):
        more = json.loads(payload).get("next") if payload.startswith(b"{") else None
        return None if more is None else PollFeed(poll.name, poll.url.replace("page=0", f"page={more}"), poll.every_seconds)

    def websockets(self, endpoints, instruments):
        symbols = ",".join(sorted(instrument.symbol for instrument in instruments))
        feeds = [WebSocketFeed("venue/liquidations", "1", f"{endpoints.websocket_url}/ws?symbols={symbols}")]
        if "MORE" in symbols:
            feeds.append(WebSocketFeed("venue/liquidations", "2", f"{endpoints.websocket_url}/ws?symbols=MORE"))
        return feeds

    def polls(self, endpoints, watched):
        return [PollFeed(f"venue/mark/{item.symbol}", f"{endpoints.rest_url}/mark?{item.symbol}", 60.0) for item in watched]


class Inbox:
    def __init__(self):
        self.log = []
        self.statuses = []

    def put(self, feed, payload):
        self.log.append((feed, payload.decode()))

    def status(self, feed, connection, state, reason, *, seen_until_us=None):
        self.log.append((feed, state))
        self.statuses.append((feed, connection, state, reason))

    def places(self, entry):
        return [place for place, logged in enumerate(self.log) if logged == entry]


def receive(pages, *, until, seconds=8.0):
    """What comes in from a venue that lists ``pages``, until the log satisfies ``until``."""
    inbox, open_sockets = Inbox(), []

    async def instruments(request):
        return web.Response(text=pages[int(request.query["page"])]())

    async def mark(request):
        return web.json_response(request.query_string)

    async def stream(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        open_sockets.append(request.query["symbols"])
        inbox.log.append(("open", list(open_sockets)))
        async for _message in socket:
            pass
        open_sockets.remove(request.query["symbols"])
        return socket

    async def main():
        async with serving(web.get("/instruments", instruments), web.get("/mark", mark), web.get("/ws", stream)) as url:
            collection = Collection([(Venue(), Endpoints(url, url.replace("http", "ws")))], frozenset({"BTC"}))
            running = asyncio.ensure_future(collect(collection, inbox))
            end = time.monotonic() + seconds
            while not until(inbox) and time.monotonic() < end and not running.done():  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.02)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert until(inbox), inbox.log
    return inbox


def test_contracts_of_every_page_are_there_before_anything_is_subscribed_and_only_watched_ones_are_polled():
    pages = [lambda: '{"coins": ["BTC", "ETH"], "next": 1}', lambda: '{"coins": ["PEPE"]}']

    inbox = receive(pages, until=lambda inbox: inbox.places(("venue/mark/BTC", '"BTC"')))

    listed = inbox.places(("venue/instruments", '{"coins": ["PEPE"]}'))
    opened = inbox.places(("open", ["BTC,ETH,PEPE"]))
    assert listed[0] < opened[0]
    assert not [entry for entry in inbox.log if entry[0] in {"venue/mark/ETH", "venue/mark/PEPE"}]


@pytest.mark.slow
def test_a_changed_list_is_subscribed_before_the_old_subscription_ends(monkeypatch):
    monkeypatch.setattr(collector, "_REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(collector, "_OVERLAP_SECONDS", 0.3)
    answers = iter(['{"coins": ["BTC"]}'])
    pages = [lambda: next(answers, '{"coins": ["BTC", "NEW"]}')]

    def both_were_open_and_one_was_lost(inbox):
        return inbox.places(("open", ["BTC", "BTC,NEW"])) and inbox.places(("venue/liquidations", FeedState.LOST))

    inbox = receive(pages, until=both_were_open_and_one_was_lost)

    connected = inbox.places(("venue/liquidations", FeedState.CONNECTED))
    assert connected[1] < inbox.places(("venue/liquidations", FeedState.LOST))[0]
    assert inbox.statuses[2:5] == [
        ("venue/liquidations", "1", FeedState.CONNECTED, "subscribed"),
        ("venue/liquidations", "1#v2", FeedState.CONNECTED, "subscribed"),
        ("venue/liquidations", "1", FeedState.LOST, "replaced"),
    ]


@pytest.mark.slow
def test_a_connection_that_a_changed_list_does_without_is_no_longer_wanted(monkeypatch):
    monkeypatch.setattr(collector, "_REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(collector, "_OVERLAP_SECONDS", 0.3)
    answers = iter(['{"coins": ["BTC", "MORE"]}'])
    pages = [lambda: next(answers, '{"coins": ["BTC"]}')]
    ended = ("venue/liquidations", "2", FeedState.LOST, "no longer wanted")

    inbox = receive(pages, until=lambda inbox: inbox.statuses.count(ended) == 2)

    assert ("venue/liquidations", "1", FeedState.LOST, "replaced") in inbox.statuses


def test_a_start_says_so_and_which_feeds_are_expected_before_anything_else():
    inbox = receive([lambda: '{"coins": ["BTC"]}'], until=lambda inbox: inbox.places(("open", ["BTC"])))

    assert inbox.statuses[:2] == [
        ("process", "process", FeedState.STARTED, "process started"),
        ("venue/liquidations", "", FeedState.EXPECTED, ""),
    ]


@pytest.mark.parametrize("unreadable", ["<html>", '{"coins": ["BTC", "ET', '{"refused": 10006}', '{"coins": []}'])
def test_a_list_that_cannot_be_read_is_a_frame_and_a_failure_and_asked_for_again_before_anything_is_subscribed(unreadable):
    answers = iter([unreadable, unreadable])
    pages = [lambda: next(answers, '{"coins": ["BTC"]}')]

    inbox = receive(pages, until=lambda inbox: inbox.places(("open", ["BTC"])))

    assert len(inbox.places(("venue/instruments", unreadable))) == 2
    assert [status[:3] for status in inbox.statuses[2:4]] == [
        ("venue/instruments", "poll", FeedState.POLL_FAILED),
        ("venue/instruments", "poll", FeedState.POLL_ANSWERED),
    ]
    assert inbox.places(("open", ["BTC"]))[0] > inbox.places(("venue/instruments", '{"coins": ["BTC"]}'))[0]


def test_a_later_page_may_be_empty():
    pages = [lambda: '{"coins": ["BTC"], "next": 1}', lambda: '{"coins": []}']

    inbox = receive(pages, until=lambda inbox: inbox.places(("open", ["BTC"])))

    assert [status[2] for status in inbox.statuses[:2]] == [FeedState.STARTED, FeedState.EXPECTED]
    assert FeedState.POLL_FAILED not in {status[2] for status in inbox.statuses}


def test_pages_without_end_are_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(collector, "_MAX_PAGES", 3)

    inbox = receive(
        [lambda: '{"coins": ["BTC"], "next": 0}'], until=lambda inbox: inbox.places(("open", ["BTC,BTC,BTC"])), seconds=8.0
    )

    assert len(inbox.places(("venue/instruments", '{"coins": ["BTC"], "next": 0}'))) == 3


@pytest.mark.slow
def test_a_list_that_cannot_be_read_an_hour_later_ends_no_subscription(monkeypatch):
    monkeypatch.setattr(collector, "_REFRESH_SECONDS", 0.3)
    monkeypatch.setattr(collector, "_OVERLAP_SECONDS", 0.05)
    answers = iter(['{"coins": ["BTC"]}', "<html>", "<html>"])
    pages = [lambda: next(answers, '{"coins": ["BTC", "NEW"]}')]

    inbox = receive(pages, until=lambda inbox: ("venue/liquidations", "1", FeedState.LOST, "replaced") in inbox.statuses)

    assert len(inbox.places(("venue/instruments", "<html>"))) == 2
    assert ("open", []) not in inbox.log
    opened = inbox.places(("open", ["BTC", "BTC,NEW"]))
    assert opened[0] < inbox.places(("venue/liquidations", FeedState.LOST))[0]
