"""One run of the real program through everything that a network and the venues behind it may do, and what was true of it.

The venues' stories run side by side. All times are the program's own but one: a connection counts as dead after 20 s without a
word instead of 60. Fewer assets are polled and less of the chain is read at the start than usual: that is work alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from flow_runs import (
    VENUES,
    Program,
    Simulator,
    count_of,
    journal_of,
    last_emitted,
    live,
    pause,
    payloads,
    program,
    replaying,
    settings_environment,
    simulator,
    wait_until,
    watching,
)
from patched_runs import connections_dead_after, patched
from prometheus_client.parser import text_string_to_metric_families

BINANCE, LINEAR, INVERSE, OKX = VENUES
FLOOD = 22_558
"""Liquidations in one millisecond: the most that were seen, on 2025-10-10."""

BIG_BYTES, TOO_BIG_BYTES = 10_000_000, 17_000_000
AHEAD_S, BEHIND_S = 7_200, -300
RETRY_AFTER_S = 14
"""Longer than the period of any poll that is meant: whoever does not wait is caught by its next place on the clock."""

DEAD_AFTER_S = 20.0
SETTINGS = {"EPOCH_SECONDS": 1, "CHAIN__LOOKBACK_BLOCKS": 300, "PARAMETERS__WATCH__WATCHED_ASSETS": "BTC,ETH"}
CAPPED_BLOCKS, DEPTH, DEPTH_WHILE_DOWN = 60, 8, 12
SPEED = 3
PATIENCE_S = 120.0
QUIET_S = 20.0  # epochs of a second and a commit of tens of thousands of rows are over by then
FIRST_FAULTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (OKX, "html", {"path": "instruments", "times": 1}),
    (OKX, "truncated", {"path": "instruments", "times": 1}),
    (INVERSE, "refuse", {"path": "instruments", "times": 1}),
    (LINEAR, "refuse", {"path": "v5/public", "times": 1, "code": 429, "retry_after": 6}),
    (BINANCE, "silence", {"path": "market/ws", "times": 1}),
    (INVERSE, "truncated", {"path": "account-ratio", "times": 1}),
    ("mempool", "truncated", {"path": "historical-price", "times": 1}),
    ("ethereum", "range-cap", {"blocks": CAPPED_BLOCKS}),
)
"""What is wrong from the first moment on."""


@dataclass
class Story:
    """A run and what is known of it.

    Attributes:
        resident_bytes: The most memory that it had used, at moments.
        flood_ms: When the flood was.
        metrics: Samples by name and labels, at the end of the first run.
        last: Its last frame that made rows.
        chain: What the chain says of the blocks that were read.
    """

    market: Simulator
    data: Path
    resident_bytes: dict[str, int] = field(default_factory=dict)
    flood_ms: int = 0
    metrics: dict[tuple[str, ...], float] = field(default_factory=dict)
    last: int = 0
    published: list[dict[str, Any]] = field(default_factory=list)
    first_subscribed_ms: dict[str, int] = field(default_factory=dict)
    deeds: list[dict[str, Any]] = field(default_factory=list)
    requests: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    chain: dict[str, Any] = field(default_factory=dict)
    run: Program | None = None

    @property
    def replayed(self) -> Path:
        """Where a replay of the first run's frames wrote its tables."""
        return self.data.with_name("replay")

    def begin(self, place: str, kind: str, **parameters: Any) -> dict[str, Any]:
        """Begin a fault."""
        deed: dict[str, Any] = self.market.post(f"/control/faults/{place}?{urlencode({'kind': kind, **parameters})}")
        return deed

    def begin_on_connection(self, venue: str, kind: str, **parameters: Any) -> None:
        """Begin a fault of a connection, once there is one, and when it has brought something."""
        self.until(lambda: self.listeners(venue) > 0, f"somebody listens to {venue}")
        before = self.delivered(venue)
        self.until(lambda: self.delivered(venue) > before, f"{venue} says something")
        assert self.begin(venue, kind, **parameters)["connections"] == 1

    def listeners(self, venue: str) -> int:
        return int(self.market.get("/control/state")["listeners"][venue])

    def delivered(self, venue: str) -> int:
        sides = self.market.get("/truth/summary")["venues"][venue]["delivered"]
        return sum(int(tally["count"]) for tally in sides.values())

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        wait_until(is_so, what=what, seconds=PATIENCE_S, program=self.run)

    def note_memory(self, moment: str) -> None:
        assert self.run is not None
        status = Path(f"/proc/{self.run.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        self.resident_bytes[moment] = int(line.split()[1]) * 1024


def tell(data: Path, log: Path) -> Story:
    """Live through all of it. The program runs twice; beside the second run a replay goes over the frames of the first."""
    with simulator("calm", "--speed", str(SPEED)) as market:
        story = Story(market, data)
        for place, kind, parameters in FIRST_FAULTS:
            story.begin(place, kind, **parameters)
        environment = watching(market, **SETTINGS)
        _first_run(story, environment, log)
        market.post(f"/ethereum/control/reorganise?depth={DEPTH_WHILE_DOWN}")
        replay = replaying(journal_of(data), story.replayed, "--last", story.last)
        parameters = {name: value for name, value in SETTINGS.items() if name.startswith("PARAMETERS")}
        with program(replay, settings_environment(EPOCH_SECONDS=0.3, **parameters), log.with_suffix(".replay.log")) as run:
            _second_run(story, environment, log)
            assert run.wait(PATIENCE_S) == 0, run.words()
        return story


def _first_run(story: Story, environment: dict[str, str], log: Path) -> None:
    arguments = patched(connections_dead_after(DEAD_AFTER_S), live(story.data))
    with program(arguments, environment, log) as run, ThreadPoolExecutor(8) as pool:
        story.run = run
        acts = (_at_binance, _at_bybit_linear, _at_bybit_inverse, _at_okx, _on_chain)
        for act in [pool.submit(act, story) for act in acts]:
            act.result()
        story.market.post("/control/stop-liquidations")
        _learn_truth(story)
        _until_settled(story, sum(is_row(record) for record in story.published))
        story.metrics = _metrics(run)
        story.note_memory("at the end")
        assert run.stop() == 0, run.words()
        story.last = last_emitted(story.data)


def _until_settled(story: Story, expected: int) -> None:
    """Wait until as many liquidations are in the table as should be, or no more come: the tests then say which are missing."""
    count, since = 0, time.monotonic()
    while count < expected and time.monotonic() < since + QUIET_S:
        pause(0.5)
        last, count = count, count_of(story.data, "liquidations")
        if count > last:
            since = time.monotonic()
    pause(1.0)  # what must not be there has time to come


def _second_run(story: Story, environment: dict[str, str], log: Path) -> None:
    market = story.market

    def read_to() -> int:
        frames = payloads(story.data, "ethereum/logs", last=last_emitted(story.data))
        return max((int(frame["to_block"]) for frame in frames[story_frames:]), default=0)

    story_frames = len(payloads(story.data, "ethereum/logs", last=story.last))
    head = _head(story)
    with program(live(story.data), environment, log) as run:
        wait_until(lambda: read_to() >= head - 3, what="the chain read anew", seconds=PATIENCE_S, program=run)
        assert run.stop() == 0, run.words()
    blocks = payloads(story.data, "ethereum/logs", last=last_emitted(story.data))
    first, last = min(frame["from_block"] for frame in blocks), max(frame["to_block"] for frame in blocks)
    story.chain = market.get(f"/ethereum/truth?from={first}&to={last}")


def _learn_truth(story: Story) -> None:
    market = story.market
    story.published = [each for records in market.get("/truth?published=true")["venues"].values() for each in records]
    venues = market.get("/truth/summary")["venues"]
    story.first_subscribed_ms = {venue: told["first_subscribed_ms"] for venue, told in venues.items()}
    story.deeds = market.get("/control/faults")
    story.requests = {place: market.get(f"/control/requests/{place}") for place in (*VENUES, "ethereum", "mempool")}


def is_row(record: dict[str, Any]) -> bool:
    """Say whether a liquidation that was published should be a row: it arrived, and not from more than a minute ahead."""
    return bool(record["receivers"]) and not is_from_the_future(record)


def is_from_the_future(record: dict[str, Any]) -> bool:
    """Say whether the venue dated it more than a minute after it was sent."""
    return bool(record["event_time_ms"] - record["sent_ms"] > 60_000)


def _at_binance(story: Story) -> None:
    on_connection = story.begin_on_connection
    on_connection(BINANCE, "garbage", times=5)
    on_connection(BINANCE, "gzip", times=2)
    story.until(lambda: _gzipped(story) == 2, "two events in gzip")
    story.begin(BINANCE, "refuse", path="depth", code=429, retry_after=RETRY_AFTER_S, times=1)
    story.note_memory("before the big frame")
    on_connection(BINANCE, "big", bytes=BIG_BYTES)
    pause(3.0)
    story.note_memory("after the big frame")
    on_connection(BINANCE, "trickle", seconds=3)
    pause(3.0)
    on_connection(BINANCE, "shuffle", seconds=4)
    pause(4.0)
    for ahead in (AHEAD_S, BEHIND_S):
        before = story.delivered(BINANCE)
        story.begin(BINANCE, "clock", ahead=ahead)
        story.until(lambda before=before: story.delivered(BINANCE) >= before + 6, "a few events of that clock")
    story.begin(BINANCE, "clock", ahead=0)
    on_connection(BINANCE, "deflate")
    story.until(lambda: story.listeners(BINANCE) == 0, "the loss of a connection that does not inflate")
    on_connection(BINANCE, "big", bytes=TOO_BIG_BYTES, last="true")
    story.until(lambda: story.listeners(BINANCE) == 0, "the loss of a connection that said too much")
    story.until(lambda: story.listeners(BINANCE) == 1, "the connection after it")
    story.note_memory("after the frame that is too big")
    on_connection(BINANCE, "drop")
    _until_heard(story, BINANCE)


def _gzipped(story: Story) -> int:
    (deed,) = (deed for deed in story.market.get("/control/faults") if deed["kind"] == "gzip")
    return len(deed["payloads"])


def _at_bybit_linear(story: Story) -> None:
    story.begin(LINEAR, "refuse", path="tickers", code=451)
    story.begin(LINEAR, "refuse", path="orderbook", code=500, times=3)
    story.begin_on_connection(LINEAR, "half-close")
    _until_heard(story, LINEAR)
    story.begin(LINEAR, "repeat", seconds=60)
    pause(4.0)
    story.begin_on_connection(LINEAR, "drop")
    _until_heard(story, LINEAR)
    story.note_memory("before the flood")
    story.begin(LINEAR, "flood", count=FLOOD)
    story.until(lambda: count_of(story.data, "liquidations") >= FLOOD, "the flood in the table")
    story.note_memory("after the flood")


def _at_bybit_inverse(story: Story) -> None:
    story.begin(INVERSE, "not-gzip", path="orderbook", times=1)
    story.begin_on_connection(INVERSE, "half")
    pause(12.0)  # until every poll was asked once
    story.begin(INVERSE, "refuse", path="tickers", code=418, retry_after=RETRY_AFTER_S, date="true", times=1)
    _until_heard(story, INVERSE)


def _at_okx(story: Story) -> None:
    story.begin(OKX, "endless", path="market/books", times=1)
    story.begin(OKX, "endless-slow", path="index-tickers", times=1)
    story.begin(OKX, "slow", path="mark-price", delay=3, times=4)
    story.begin(OKX, "cut", path="funding-rate", times=1)
    story.begin(OKX, "html", path="open-interest", times=1)
    story.begin_on_connection(OKX, "mute")
    _until_heard(story, OKX)


def _on_chain(story: Story) -> None:
    story.until(lambda: _read_blocks(story) > 0, "the chain read to its head")
    story.market.post(f"/ethereum/control/reorganise?depth={DEPTH}")


def _read_blocks(story: Story) -> int:
    """Return the newest block read, once reading has caught up with the chain."""
    last = last_emitted(story.data)
    frames = payloads(story.data, "ethereum/logs", last=last) if last else []
    newest = max((int(frame["to_block"]) for frame in frames), default=0)
    return newest if newest >= _head(story) - 4 else 0


def _head(story: Story) -> int:
    return int(story.market.get("/ethereum/truth?from=999999999")["to_block"])


def _until_heard(story: Story, venue: str) -> None:
    """Wait until a venue is heard again."""
    before = story.delivered(venue)
    story.until(lambda: story.listeners(venue) > 0 and story.delivered(venue) > before, f"{venue} heard again")


def _metrics(run: Program) -> dict[tuple[str, ...], float]:
    """Return the samples that a run serves, by name and the values of their labels, in the order of the labels' names."""
    started = [line for line in run.log.read_text(errors="replace").splitlines() if '"event": "started"' in line]
    url = started[-1].partition('"metrics": "')[2].partition('"')[0]
    page = httpx.get(url, trust_env=False, timeout=PATIENCE_S).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {
        (each.name.removeprefix("cascadewatch_"), *(text for _name, text in sorted(each.labels.items()))): each.value
        for each in samples
    }
