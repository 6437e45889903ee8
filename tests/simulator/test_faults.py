"""What goes wrong on demand, as a client sees it: octet by octet where a client's own library would hide it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import json
import struct
import time
from collections import Counter
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from simulated_client import get, post, serving

from simulator.answer_faults import TOO_WIDE
from simulator.ethereum import SimulatedEthereum
from simulator.instruments import VENUES, universe
from simulator.market import Market
from simulator.scenarios import SCENARIOS
from simulator.socket_faults import GARBAGE

pytestmark = pytest.mark.slow

BUSY = replace(
    SCENARIOS["burst"],
    volley=replace(SCENARIOS["burst"].volley, at=0.1, count=6_000, lasts=60.0),
    long_fuel=0.2,
    short_fuel=0.2,
)
PATH = "/bybit-linear/v5/public/linear"
SUBSCRIBE = json.dumps({"op": "subscribe", "args": [f"allLiquidation.{coin}USDT" for coin in ("BTC", "ETH", "SOL", "XRP")]})
TICKERS = "/bybit-linear/v5/market/tickers?category=linear&symbol=BTCUSDT"


@dataclass
class Frame:
    """As it came: the first octet with the opcode and the reserved bits, and the payload."""

    first: int
    payload: bytes

    @property
    def is_event(self):
        return b'"allLiquidation' in self.payload and self.first == 0x81


class Wire:
    """A WebSocket without a library: every octet that the server sends."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def frame(self, seconds=10.0):
        """Return the next frame; raises what the stream raises."""
        return await asyncio.wait_for(self._frame(), seconds)

    async def _frame(self):
        first, length = await self.reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return Frame(first, await self.reader.readexactly(length))

    async def event(self):
        """Return the next frame that is an event of the venue."""
        while not (frame := await self.frame()).is_event:
            pass
        return frame

    async def until(self, is_it):
        """Return the frames up to the first one that is so, included."""
        frames = [await self.frame()]
        while not is_it(frames[-1]):
            frames.append(await self.frame())
        return frames

    async def rest(self, seconds):
        """Return what comes within so long, or until the end."""
        octets, end = b"", time.monotonic() + seconds
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            while chunk := await asyncio.wait_for(self.reader.read(1 << 16), end - time.monotonic()):
                octets += chunk
        return octets

    def send(self, opcode, payload):
        self.writer.write(bytes([0x80 | opcode, 0x80 | len(payload)] if len(payload) < 126 else [0x80 | opcode, 0xFE]))
        if len(payload) >= 126:
            self.writer.write(struct.pack("!H", len(payload)))
        self.writer.write(bytes(4) + payload)  # a mask of zeros masks nothing


@contextlib.asynccontextmanager
async def wired(url, *, reads_answer=True):
    """Open a socket by hand and subscribe to four symbols of Bybit. What is repeated may come before the answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    wire = Wire(reader, writer)
    wire.send(1, SUBSCRIBE.encode())
    if reads_answer:
        assert b'"success":true' in (await wire.frame()).payload
    try:
        yield wire
    finally:
        writer.transport.abort()


def playing(scene, scenario=BUSY, **options):
    """Play a scene with a simulation, its URL and a client session; return what it returns."""

    async def play():
        async with serving(scenario, **options) as (simulation, url, session):
            return await asyncio.wait_for(scene(simulation, url, session), 60)

    return asyncio.run(play())


def on_the_wire(scene):
    """Play a scene with a socket opened by hand and a function that begins a fault of its venue."""

    async def play(_simulation, url, session):
        async def begin(query):
            return await post(session, url, f"/control/faults/bybit-linear?{query}")

        async with wired(url) as wire:
            await wire.event()
            return await scene(wire, begin, lambda: published(url, session))

    return playing(play)


async def published(url, session):
    """Return what Bybit published so far, by whether it reached anybody."""
    body = await get(session, url, "/truth?venue=bybit-linear&published=true")
    told = {"allLiquidation." + record["symbol"] for record in body["venues"]["bybit-linear"]}
    assert told
    records = [r for r in body["venues"]["bybit-linear"] if f"allLiquidation.{r['symbol']}" in SUBSCRIBE]
    return [r for r in records if r["receivers"]], [r for r in records if not r["receivers"]]


def identities(frames):
    """Return symbol, time, quantity and price of every liquidation in these frames."""
    items = [item for frame in frames if frame.is_event for item in json.loads(frame.payload)["data"]]
    return Counter((item["s"], item["T"], item["v"], item["p"]) for item in items)


def record_identities(records):
    return Counter((r["symbol"], r["event_time_ms"], r["contract_quantity"], r["price"]) for r in records)


# Connections.


def test_a_dropped_connection_ends_with_a_reset_after_everything_that_counts_as_delivered():
    async def scene(simulation, url, session):
        async with wired(url) as wire:
            frames = [await wire.event()]
            dropping = asyncio.ensure_future(post(session, url, "/control/faults/bybit-linear?kind=drop"))
            with pytest.raises(ConnectionResetError):
                while True:
                    frames.append(await wire.frame())
            deed = await dropping
            delivered, _others = await published(url, session)
        return deed, frames, delivered

    deed, frames, delivered = playing(scene)

    assert (deed["kind"], deed["connections"], deed["payloads"]) == ("drop", 1, [])
    assert identities(frames) == record_identities(delivered)


def test_a_mute_connection_stays_open_and_answers_nothing():
    async def scene(wire, begin, truth):
        await begin("kind=mute")
        delivered, _others = await truth()
        await wire.rest(0.2)  # what was under way
        wire.send(9, b"are you there?")
        wire.send(1, b'{"op":"ping"}')
        silence = await wire.rest(1.2)
        later, others = await truth()
        return silence, len(later) - len(delivered), others, wire.reader.at_eof()

    silence, more_delivered, others, is_closed = on_the_wire(scene)

    assert (silence, more_delivered, is_closed) == (b"", 0, False)
    assert others  # what happened meanwhile reached nobody


@pytest.mark.parametrize(("kind", "closes"), [("half", False), ("half-close", True)])
def test_of_a_half_frame_the_second_half_never_comes(kind, closes):
    async def scene(wire, begin, _truth):
        beginning = asyncio.ensure_future(begin(f"kind={kind}"))
        octets = await wire.rest(1.0)
        await beginning
        return octets, wire.reader.at_eof()

    octets, is_closed = on_the_wire(scene)

    half = octets[octets.rindex(b'{"half') - 4 :]
    (length,) = struct.unpack("!H", half[2:4])
    assert half[:2] == b"\x81\x7e"
    assert 0 < len(half) - 4 < length
    assert is_closed is closes


def test_garbage_comes_between_the_venues_own_frames_and_is_remembered_by_size_and_hash():
    async def scene(wire, begin, _truth):
        deed = await begin(f"kind=garbage&times={len(GARBAGE)}")
        frames = await wire.until(lambda frame: frame.payload == GARBAGE[-1])
        return deed, frames, await wire.event()

    deed, frames, event = on_the_wire(scene)

    assert [frame.payload for frame in frames if frame.payload in GARBAGE] == list(GARBAGE)
    assert {frame.first for frame in frames} == {0x81}
    assert deed["payloads"] == [{"bytes": len(each), "sha256": hashlib.sha256(each).hexdigest()} for each in GARBAGE]
    assert event.is_event


def test_gzipped_events_are_binary_and_count_as_delivered_to_nobody():
    async def scene(wire, begin, truth):
        await begin("kind=gzip&times=2")
        frames = await wire.until(lambda frame: frame.first == 0x82)
        frames += await wire.until(lambda frame: frame.first == 0x82)
        await wire.event()
        _delivered, others = await truth()
        return [frame for frame in frames if frame.first == 0x82], others

    zipped, others = on_the_wire(scene)

    frames = [Frame(0x81, gzip.decompress(frame.payload)) for frame in zipped]
    assert identities(frames) == record_identities(others)


def test_a_frame_that_claims_to_be_deflated_is_the_last():
    async def scene(wire, begin, _truth):
        await begin("kind=deflate")
        frames = await wire.until(lambda frame: frame.first == 0xC1)
        return frames, await wire.rest(0.8)

    frames, rest = on_the_wire(scene)

    assert frames[-1].payload.endswith(b"does not inflate")
    assert rest == b""


@pytest.mark.parametrize("is_last", [False, True])
def test_a_big_frame_has_the_size_asked_for(is_last):
    async def scene(wire, begin, _truth):
        deed = await begin(f"kind=big&bytes=300000&last={str(is_last).lower()}")
        frames = await wire.until(lambda frame: len(frame.payload) == 300_000)
        return deed, frames[-1], await wire.rest(0.8)

    deed, frame, rest = on_the_wire(scene)

    assert json.loads(frame.payload).keys() == {"filler"}
    assert deed["payloads"] == [{"bytes": 300_000, "sha256": hashlib.sha256(frame.payload).hexdigest()}]
    assert (rest == b"") is is_last


def test_frames_that_trickle_are_whole_at_last():
    async def scene(wire, begin, truth):
        await begin("kind=trickle&seconds=5")
        frames, times = [], [time.monotonic()]
        for _ in range(4):  # the first ones may have been under way
            frames.append(await wire.event())
            times.append(time.monotonic())
        return frames, max(later - earlier for earlier, later in itertools.pairwise(times)), (await truth())[0]

    frames, longest, delivered = on_the_wire(scene)

    assert longest > 0.2
    assert identities(frames) <= record_identities(delivered)


def test_shuffled_events_all_come_in_another_order():
    async def scene(wire, begin, _truth):
        await begin("kind=shuffle&seconds=3")
        frames = [await wire.event() for _ in range(12)]
        return [json.loads(frame.payload)["ts"] for frame in frames]

    times = on_the_wire(scene)

    assert times != sorted(times)


def test_who_subscribes_again_is_told_once_more_what_was_told_before():
    async def scene(_simulation, url, session):
        async with wired(url) as wire:
            await post(session, url, "/control/faults/bybit-linear?kind=repeat&seconds=30")
            first = [await wire.event() for _ in range(5)]
            await post(session, url, "/control/faults/bybit-linear?kind=drop")
        async with wired(url, reads_answer=False) as wire:
            again = [await wire.event() for _ in range(5)]
        return first, again

    first, again = playing(scene)

    assert [frame.payload for frame in again] == [frame.payload for frame in first]


# Venues.


def test_a_flood_is_in_one_millisecond_one_message_each_and_all_of_it_is_in_the_truth():
    async def scene(_simulation, url, session):
        async with wired(url) as wire:
            await post(session, url, "/control/faults/bybit-linear?kind=flood&count=600")
            frames = []
            while len(frames) < 200:  # of the four symbols subscribed
                frames.append(await wire.event())
            delivered, others = await published(url, session)
        return frames, delivered, others

    frames, delivered, others = playing(scene, SCENARIOS["single-print"])

    assert identities(frames) == record_identities(delivered)
    assert len(identities(frames)) == 200
    assert others == []
    assert len({record["event_time_ms"] for record in delivered}) == 1


@pytest.mark.parametrize("venue", VENUES)
def test_a_flood_changes_nothing_of_the_story(venue):
    def story(*, is_flooded):
        market = Market(universe(1_700_000_000_000), SCENARIOS["calm"], seed=3)
        steps = []
        for step in range(600):
            steps.append(market.step())
            if is_flooded and step == 100:
                crowd = market.crowd(venue, 1_000)
        if is_flooded:
            assert len({(each.instrument.symbol, each.lots, each.bankruptcy_ticks) for each in crowd}) == 1_000
        return steps

    assert story(is_flooded=True) == story(is_flooded=False)


@pytest.mark.parametrize("ahead_s", [7_200, -300])
def test_a_wrong_clock_is_in_every_event_and_in_the_truth(ahead_s):
    async def scene(wire, begin, truth):
        await begin(f"kind=clock&ahead={ahead_s}")
        right_ms = time.time() * 1_000
        event = await wire.event()
        while abs(json.loads(event.payload)["ts"] - right_ms) < 100_000:
            event = await wire.event()
        return json.loads(event.payload)["ts"] - right_ms, identities([event]), record_identities((await truth())[0])

    ahead_ms, identity, delivered = on_the_wire(scene)

    assert ahead_ms == pytest.approx(ahead_s * 1_000, abs=20_000)
    assert identity <= delivered


# Answers.


@dataclass
class Answer:
    """What a client of HTTP got: code, headers, body, or the name of what went wrong."""

    code: int = 0
    headers: dict = None
    body: bytes = b""
    error: str = ""


async def ask(session, url, path=TICKERS, seconds=1.0):
    try:
        async with session.get(url + path, timeout=aiohttp.ClientTimeout(total=seconds)) as response:
            headers = dict(response.headers)
            return Answer(response.status, headers, await response.read())
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        return Answer(error=type(error).__name__)


def asked(query, *, times=1, seconds=1.0):
    """Return what a client gets so many times after a fault has begun at Bybit, and the log of its requests."""

    async def scene(_simulation, url, session):
        await post(session, url, f"/control/faults/bybit-linear?{query}")
        answers = [await ask(session, url, seconds=seconds) for _ in range(times)]
        return answers, await get(session, url, "/control/requests/bybit-linear")

    return playing(scene)


@pytest.mark.parametrize("code", [418, 429, 451, 500])
def test_a_refusal_has_its_code_and_says_in_seconds_how_long_to_wait(code):
    (answer,), _requests = asked(f"kind=refuse&code={code}&retry_after=12")

    assert (answer.code, answer.headers["Retry-After"]) == (code, "12")
    assert (b"html" in answer.body) is (code == 500)


def test_a_refusal_may_say_as_a_date_how_long_to_wait():
    before = time.time()

    (answer,), _requests = asked("kind=refuse&code=429&retry_after=12&date=true")

    assert 12 <= parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() - before < 15


def test_a_fault_is_given_so_many_times_to_paths_that_hold_a_word_and_every_request_is_noted():
    async def scene(_simulation, url, session):
        await post(session, url, "/control/faults/bybit-linear?kind=refuse&path=tickers&times=2")
        other = await ask(session, url, TICKERS.replace("tickers", "orderbook"))
        answers = [await ask(session, url) for _ in range(3)]
        return other, answers, await get(session, url, "/control/requests/bybit-linear")

    other, answers, requests = playing(scene)

    assert [other.code, *(answer.code for answer in answers)] == [200, 500, 500, 200]
    assert [(request["path"], request["fault"]) for request in requests] == [
        (TICKERS.replace("tickers", "orderbook"), ""),
        (TICKERS, "refuse"),
        (TICKERS, "refuse"),
        (TICKERS, ""),
    ]
    assert all(abs(request["at_ms"] / 1_000 - time.time()) < 60 for request in requests)


def test_a_fault_lasts_so_long_or_until_it_is_ended():
    async def scene(_simulation, url, session):
        await post(session, url, "/control/faults/bybit-linear?kind=refuse&seconds=0.5")
        first = await ask(session, url)
        await asyncio.sleep(0.6)
        second = await ask(session, url)
        await post(session, url, "/control/faults/bybit-linear?kind=refuse")
        third = await ask(session, url)
        async with session.delete(f"{url}/control/faults/bybit-linear"):
            pass
        return [answer.code for answer in (first, second, third, await ask(session, url))]

    assert playing(scene) == [500, 200, 500, 200]


def test_answers_go_wrong_in_every_way_that_there_is():
    kinds = ("slow&delay=0.3", "silence", "html", "truncated", "cut", "endless", "endless-slow", "not-gzip")
    (right,), _requests = asked("kind=clock&ahead=0", seconds=10)

    answers = {kind.partition("&")[0]: asked(f"kind={kind}&times=1")[0][0] for kind in kinds}

    assert right.code == answers["slow"].code == answers["html"].code == answers["truncated"].code == 200
    assert json.loads(answers["slow"].body).keys() == json.loads(right.body).keys()
    assert answers["html"].body.startswith(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"."):
        json.loads(answers["truncated"].body)
    assert abs(len(answers["truncated"].body) * 2 - len(right.body)) < 20
    assert {kind: answer.error for kind, answer in answers.items() if answer.error} == {
        "silence": "TimeoutError",
        "cut": "ClientPayloadError",
        "endless": "TimeoutError",
        "endless-slow": "TimeoutError",
        "not-gzip": "ClientPayloadError",
    }


def test_a_handshake_is_a_request_too():
    async def scene(_simulation, url, session):
        await post(session, url, "/control/faults/bybit-linear?kind=refuse&code=429&path=v5/public&times=1")
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            await session.ws_connect(url + PATH)
        async with wired(url):
            return await get(session, url, "/control/requests/bybit-linear")

    assert [request["fault"] for request in playing(scene)] == ["refuse", ""]


def call(method, *params, number=1):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def logs(first, last):
    return call("eth_getLogs", {"fromBlock": hex(first), "toBlock": hex(last)})


def test_a_node_caps_its_range():
    async def play():
        async with serving(SCENARIOS["calm"]) as (simulation, _url, session):
            node = SimulatedEthereum(1)
            simulation.mount(node)
            async with simulation.serve() as url:
                await post(session, url, "/control/faults/ethereum?kind=range-cap&blocks=10")
                last = node.chain.head - 5
                answers = []
                for _ in TOO_WIDE:
                    async with session.post(f"{url}/ethereum", json=logs(last - 10, last)) as answer:
                        answers.append((answer.status, (await answer.json())["error"]))
                async with session.post(f"{url}/ethereum", json=[call("eth_chainId"), logs(last - 9, last)]) as answer:
                    granted = await answer.json()
                async with session.post(f"{url}/ethereum", json=[logs(last - 10, last)]) as answer:
                    return answers, granted, await answer.json()

    answers, granted, batch = asyncio.run(play())

    assert [(status, error["code"], error["message"]) for status, error in answers] == list(TOO_WIDE)
    assert [sorted(answer) for answer in granted] == [["id", "jsonrpc", "result"]] * 2
    assert batch[0]["error"]["message"] == TOO_WIDE[0][2]


# Controls.


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mtgox?kind=drop", "unknown place mtgox"),
        ("okx?kind=lightning", "unknown kind 'lightning'"),
        ("okx", "unknown kind ''"),
        ("ethereum?kind=flood", "unknown kind 'flood', or not of this place"),
        ("okx?kind=big&bytes=many", "bytes: 'many' is not a number"),
    ],
)
def test_what_is_no_fault_is_refused_with_what_is(path, words):
    async def scene(_simulation, url, session):
        async with session.post(f"{url}/control/faults/{path}") as answer:
            return answer.status, await answer.text(), await get(session, url, "/control/faults")

    status, text, deeds = playing(scene)

    assert (status, deeds) == (400, [])
    assert text.startswith(words)


def test_what_was_done_can_be_read():
    async def scene(_simulation, url, session):
        for query in itertools.islice(itertools.cycle(["kind=drop", "kind=html"]), 3):
            await post(session, url, f"/control/faults/okx?{query}")
        return await get(session, url, "/control/faults")

    deeds = playing(scene)

    assert [(deed["place"], deed["kind"], deed["connections"]) for deed in deeds] == [
        ("okx", "drop", 0),
        ("okx", "html", 0),
        ("okx", "drop", 0),
    ]
