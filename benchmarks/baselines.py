"""What the flow is measured against: the loops that people write first, over the same frames."""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

_WINDOW_MS = 90_000

Print = tuple[str, int, float]
"""Market and side, event time in milliseconds, USD."""


def prints(frames: Iterable[tuple[str, bytes]]) -> Iterator[Print]:
    """Read liquidations from frames as a first script would: json, floats, no checks, no contract table."""
    for feed, payload in frames:
        if feed == "binance-usdm/liquidations":
            order = json.loads(payload)["o"]
            yield f"{order['s']}{order['S']}", order["T"], float(order["z"]) * float(order["ap"])
        elif feed == "bybit-linear/liquidations":
            for item in json.loads(payload)["data"]:
                yield f"{item['s']}{item['S']}", item["T"], float(item["v"]) * float(item["p"])
        elif feed == "okx/liquidations":
            for contract in json.loads(payload)["data"]:
                for item in contract["details"]:
                    market = f"{contract['instId']}{item['posSide']}"
                    yield market, int(item["ts"]), float(item["sz"]) * 0.1 * float(item["bkPx"])


def summed_anew(frames: Iterable[tuple[str, bytes]]) -> tuple[int, float]:
    """Keep a deque per market and sum it again for each event; return events and seconds."""
    started, count = time.perf_counter(), 0
    windows: dict[str, deque[tuple[int, float]]] = defaultdict(deque)
    for market, time_ms, usd in prints(frames):
        window = windows[market]
        window.append((time_ms, usd))
        while window[0][0] <= time_ms - _WINDOW_MS:
            window.popleft()
        sum(amount for _time, amount in window)
        count += 1
    return count, time.perf_counter() - started


def summed_incrementally(frames: Iterable[tuple[str, bytes]]) -> tuple[int, float]:
    """Keep a deque and a running sum per market; return events and seconds."""
    started, count = time.perf_counter(), 0
    windows: dict[str, deque[tuple[int, float]]] = defaultdict(deque)
    sums: dict[str, float] = defaultdict(float)
    for market, time_ms, usd in prints(frames):
        window = windows[market]
        window.append((time_ms, usd))
        sums[market] += usd
        while window[0][0] <= time_ms - _WINDOW_MS:
            sums[market] -= window.popleft()[1]
        count += 1
    return count, time.perf_counter() - started
