"""Frame on the socket → row in the sink: percentiles at several rates, beside a bare reader of the same socket.

A second process serves Binance frames over a real WebSocket and writes down when it sent each one; the flow under test is the
whole one (transport, journal, parse, both steps, sink with spool and Delta tables).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.outputs import FixedPartitionedSink
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.recorded_market import Load, frames
from connectors.sinks.delta import DeltaSink, Reached
from connectors.sources.feed import WebSocketFeed
from connectors.sources.inbox import Inbox
from connectors.sources.source import FrameSource, Retention, StopSignal
from connectors.sources.websocket import run_websocket
from flows.runtime import Runtime
from flows.settings import Settings
from market.events import Liquidation

_SETTLE_SECONDS = 1.5
_WARM_UP_SECONDS = 3.0
_LONG_SECONDS = 0.005
_FEED = "binance-usdm/liquidations"


Milliseconds = NDArray[np.float64]


def measure(data_dir: Path, rate: int, seconds: float) -> tuple[Milliseconds, Milliseconds]:
    """Return latencies in milliseconds through the flow, and of a bare reader of the same load.

    What is sent in the first seconds is left out: contracts are read and every asset's state is made then.
    """
    bare = _latencies(rate, seconds, lambda port, count: asyncio.run(_read_bare(port, count)))
    return through_flow(data_dir, rate, seconds), bare


def through_flow(data_dir: Path, rate: int, seconds: float, *, retention: Retention | None = None) -> Milliseconds:
    """Return latencies in milliseconds through the flow alone."""
    kept = retention or Retention()
    return _latencies(rate, seconds, lambda port, count: _read_through_flow(data_dir, port, count, kept))


def _latencies(rate: int, seconds: float, read: Callable[[int, int], Sequence[float]]) -> Milliseconds:
    warm_up = int(rate * _WARM_UP_SECONDS)
    count = int(rate * seconds) + warm_up
    sent = multiprocessing.RawArray("d", count)
    arrived = _with_server(rate, count, sent, lambda port: read(port, count))
    latencies_ms: Milliseconds = (np.array(arrived) - np.frombuffer(sent)[: len(arrived)]) * 1e3
    return latencies_ms[warm_up:]


def _with_server(rate: int, count: int, sent: Any, read: Any) -> Sequence[float]:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(theirs, rate, count, sent), daemon=True)
    server.start()
    try:
        return read(ours.recv())
    finally:
        server.terminate()
        server.join()


def _serve(pipe: Connection, rate: int, count: int, sent: Any) -> None:
    payloads = [row[1].decode() for row in frames(Load(count * 5 + 10)) if row[0] == _FEED][:count]

    async def send(socket: ServerConnection) -> None:
        await asyncio.sleep(_SETTLE_SECONDS)
        start = time.monotonic()
        for number, text in enumerate(payloads):
            due = start + number / rate
            ahead = due - time.monotonic()
            if ahead > _LONG_SECONDS:
                await asyncio.sleep(ahead - _LONG_SECONDS)
            # The loop's own sleep is a millisecond coarse; spinning would take one of the cores from the flow.
            time.sleep(max(0.0, due - time.monotonic()))  # noqa: ASYNC251 - nothing else is to be done here
            sent[number] = time.monotonic()
            await socket.send(_stamped(text))
        await asyncio.sleep(60)

    async def main() -> None:
        async with serve(send, "127.0.0.1", 0, compression=None) as server:
            pipe.send(next(iter(server.sockets)).getsockname()[1])
            await asyncio.sleep(3600)

    asyncio.run(main())


def _stamped(text: str) -> str:
    """Return the frame with an event time of now, so that it enters the windows as a live one does."""
    head, _, _old = text.rpartition('"T":')
    return f'{head}"T":{time.time_ns() // 1_000_000 - 500}}}}}'


async def _read_bare(port: int, count: int) -> list[float]:
    arrived: list[float] = []
    async with connect(f"ws://127.0.0.1:{port}", compression=None, max_queue=None) as socket:
        async for _message in socket:
            arrived.append(time.monotonic())
            if len(arrived) == count:
                break
    return arrived


class _TimedSink(FixedPartitionedSink[Any, Reached]):
    """The real sink, with a clock at its door."""

    def __init__(self, inner: DeltaSink, stop: StopSignal, count: int) -> None:
        self._inner = inner
        self._stop = stop
        self._count = count
        self.arrived: list[float] = []
        self.open = inner.open
        self.drain = inner.drain
        self.last_error = None

    def list_parts(self) -> list[str]:
        return self._inner.list_parts()

    def part_fn(self, item_key: str) -> int:
        return self._inner.part_fn(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Reached | None) -> Any:
        part = self._inner.build_part(step_id, for_part, resume_state)
        write_batch = part.write_batch

        def timed(values: list[list[Any]]) -> None:
            now = time.monotonic()
            self.arrived.extend(now for events in values for event in events if type(event) is Liquidation)
            if len(self.arrived) >= self._count:
                self._stop.ask()
            write_batch(values)

        part.write_batch = timed  # type: ignore[method-assign]  # the clock at the door
        return part


def _read_through_flow(data_dir: Path, port: int, count: int, retention: Retention) -> list[float]:
    settings = Settings(data_dir=data_dir, metrics={"port": 0})
    instruments = [row for row in frames(Load(1)) if row[0].endswith("/instruments")]

    async def collect(inbox: Inbox) -> None:
        for feed, payload, _time in instruments:
            inbox.put(feed, payload)
        await run_websocket(WebSocketFeed(_FEED, "1", f"ws://127.0.0.1:{port}"), inbox)

    with Runtime(settings) as runtime:
        tables = _TimedSink(runtime.tables_sink(), runtime.stop, count)
        source = FrameSource(
            partition="0",
            journal_path=data_dir / "0.db",
            collect=collect,
            committed=lambda: 0,
            stop=runtime.stop,
            retention=retention,
            observer=runtime.metrics,
        )
        runtime.run(source, tables)  # type: ignore[arg-type]  # has what run() calls of a DeltaSink
        return tables.arrived
