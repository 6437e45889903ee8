"""mempool.space's and blockchain.com's answers about Bitcoin's difficulty, price and fees, over a simulated history.

Written from mempool.space's REST reference and blockchain.com's Charts & Statistics API, traps included: difficulty comes as
adjustments at the one and as daily means at the other; prices are weekly in the early years, then daily, then hourly, newest
first; sums are strings; large numbers are written as 1.2E14.

==========================================  ===========================================
``/mempool``                                base URL of mempool.space
``/blockchain-com``                         base URL of blockchain.com's charts
==========================================  ===========================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from aiohttp import web

from simulator.bitcoin_history import (
    BLOCK_SECONDS,
    DAY_SECONDS,
    EPOCH_BLOCKS,
    Adjustment,
    BitcoinHistory,
    Day,
    drawn,
    height_at,
    seconds_of,
    subsidy,
    supply,
)

_INTERVAL_DAYS = {
    "24h": 1, "3d": 3, "1w": 7, "1m": 30, "3m": 91, "6m": 182, "1y": 365, "2y": 730, "3y": 1095, "4y": 1461,
}  # fmt: skip
_TIMESPAN = re.compile(r"([1-9][0-9]{0,5})(minute|hour|day|week|month|year)s?")
_TIMESPAN_DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25}
_SAMPLED_POINTS = 1_500
_EXCHANGE_RATES = {"EUR": 0.92, "GBP": 0.78, "CAD": 1.36, "CHF": 0.89, "AUD": 1.53, "JPY": 149.48}
_DAILY_PRICE_DAYS, _HOURLY_PRICE_DAYS = 720, 30  # before that prices are weekly
_MAX_REWARD_BLOCKS = 2_016
_TRANSACTIONS_PER_BLOCK = 3_000
_HASHES = 2.0**32  # per unit of difficulty


class SimulatedMining:
    """Both sites."""

    def __init__(
        self,
        seed: int,
        today: date,
        *,
        price: Callable[[], float] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Draw the history.

        Args:
            seed: Decides everything.
            today: Last day of the history; later days are added as the clock reaches them.
            price: Gives the market's BTC price in USD now; the history is led to what it says first.
            clock: Unix seconds; noon of ``today`` for ever if not given.
        """
        self._seed = seed
        self._today = today
        self._price = price
        self._known_price = None if price is None else (today, price())
        self._clock = clock or (lambda: float(seconds_of(today) + DAY_SECONDS // 2))
        self._history = self._draw()

    @property
    def history(self) -> BitcoinHistory:
        """The days up to today, which ends in the price of now."""
        clock_day = datetime.fromtimestamp(self._clock(), tz=timezone.utc).date()
        if clock_day > self._today:
            self._today = clock_day
            self._history = self._draw()
        return self._history

    def price_now(self) -> float:
        """Return the current price in USD."""
        return self._history.price_at(self._clock()) if self._price is None else self._price()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of both sites."""
        mempool = "/mempool/api/v1"
        return [
            web.get(f"{mempool}/mining/hashrate/{{interval}}", self._hashrate),
            web.get(f"{mempool}/mining/hashrate", self._hashrate),
            web.get(f"{mempool}/mining/reward-stats/{{blocks}}", self._reward_stats),
            web.get(f"{mempool}/difficulty-adjustment", self._difficulty_adjustment),
            web.get(f"{mempool}/prices", self._prices),
            web.get(f"{mempool}/historical-price", self._historical_price),
            web.get("/blockchain-com/charts/{name}", self._chart),
        ]

    def _draw(self) -> BitcoinHistory:
        return drawn(self._seed, self._today, self._known_price)

    async def _hashrate(self, request: web.Request) -> web.Response:
        now, history = self._clock(), self.history
        days = _INTERVAL_DAYS.get(request.match_info.get("interval", ""))  # anything else means all
        since = now - days * DAY_SECONDS if days is not None else 0.0
        difficulty = history.difficulty_at(now)
        return _express(
            {
                "hashrates": [
                    {"timestamp": seconds_of(day.date), "avgHashrate": _hashes_per_second(day.difficulty)}
                    for day in history.days
                    if since <= seconds_of(day.date) <= now
                ],
                "difficulty": [_adjustment(item) for item in history.adjustments if since <= item.time_s <= now],
                "currentHashrate": _hashes_per_second(difficulty),
                "currentDifficulty": difficulty,
            }
        )

    async def _reward_stats(self, request: web.Request) -> web.Response:
        text = request.match_info["blocks"]
        if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > _MAX_REWARD_BLOCKS:
            return web.Response(status=500)
        last = int(height_at(self._clock()))
        heights = range(last - int(text) + 1, last + 1)
        fees = sum(self._history.fees_satoshi(height) for height in heights)
        return _express(
            {
                "startBlock": heights[0],
                "endBlock": last,
                "totalReward": str(fees + sum(round(subsidy(height) * 1e8) for height in heights)),
                "totalFee": str(fees),
                "totalTx": str(len(heights) * _TRANSACTIONS_PER_BLOCK),
            }
        )

    async def _difficulty_adjustment(self, _: web.Request) -> web.Response:
        now = self._clock()
        height = int(height_at(now))
        in_force = [item for item in self.history.adjustments if item.time_s <= now][-1]
        done = height % EPOCH_BLOCKS
        passed = now - in_force.time_s
        mean = passed / done if done else float(BLOCK_SECONDS)
        remaining_ms = (EPOCH_BLOCKS - done) * int(mean * 1000)
        return _express(
            {
                "progressPercent": done / EPOCH_BLOCKS * 100,
                "difficultyChange": (BLOCK_SECONDS / mean - 1) * 100,
                "estimatedRetargetDate": int(now * 1000) + remaining_ms,
                "remainingBlocks": EPOCH_BLOCKS - done,
                "remainingTime": remaining_ms,
                "previousRetarget": (in_force.ratio - 1) * 100,
                "previousTime": in_force.time_s,
                "nextRetargetHeight": height - done + EPOCH_BLOCKS,
                "timeAvg": int(mean * 1000),
                "adjustedTimeAvg": int(mean * 1000),
                "timeOffset": 0,
                "expectedBlocks": passed / BLOCK_SECONDS,
            }
        )

    async def _prices(self, _: web.Request) -> web.Response:
        now = self._clock()
        return _express(_in_currencies(int(now) // 60 * 60, round(self.price_now())))

    async def _historical_price(self, request: web.Request) -> web.Response:
        currency, before = request.query.get("currency"), request.query.get("timestamp")
        if currency is not None and currency not in {"USD", *_EXCHANGE_RATES}:
            return web.Response(content_type="application/json")  # the site sends nothing at all
        rows = self._price_rows()
        if before is not None and before.isdigit():
            rows = [row for row in rows if row["time"] <= int(before)][:1]
        if currency is not None:
            rows = [{"time": row["time"], currency: row[currency], "USD": row["USD"]} for row in rows]
        rates = {f"USD{name}": rate for name, rate in _EXCHANGE_RATES.items()}
        return _express({"prices": rows, "exchangeRates": rates})

    def _price_rows(self) -> list[dict[str, Any]]:
        """Return the price history, newest first: weekly, then daily, then hourly."""
        history, now = self.history, int(self._clock())
        first = seconds_of(history.days[0].date)
        daily, hourly = (
            now // DAY_SECONDS * DAY_SECONDS - days * DAY_SECONDS for days in (_DAILY_PRICE_DAYS, _HOURLY_PRICE_DAYS)
        )
        times = [
            *range(first + DAY_SECONDS, daily, 7 * DAY_SECONDS),
            *range(daily, hourly, DAY_SECONDS),
            *range(hourly, now, 3600),
        ]
        rows = [_in_currencies(time_s, _as_stored(history.price_at(time_s))) for time_s in times if time_s > first]
        return rows[::-1]

    async def _chart(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _CHARTS:
            missing = {"status": "not-found", "name": name}
            return web.json_response(missing, status=404)
        if refused := {"rollingAverage", "start"} & set(request.query):
            raise web.HTTPBadRequest(text=f"not simulated: {', '.join(sorted(refused))}")
        now = self._clock()
        title, unit, value_of = _CHARTS[name]
        since = now - _days_of(request.query.get("timespan", "1year")) * DAY_SECONDS
        days = [day for day in self.history.days if since <= seconds_of(day.date) <= now]
        if request.query.get("sampled", "true") != "false" and len(days) > _SAMPLED_POINTS:
            days = days[:: -(-len(days) // _SAMPLED_POINTS)]
        points = [(seconds_of(day.date), value_of(self._history, day)) for day in days]
        if request.query.get("format", "json") == "csv":
            lines = (f"{datetime.fromtimestamp(x, tz=timezone.utc):%Y-%m-%d %H:%M:%S},{y!r}\n" for x, y in points)
            return web.Response(text="".join(lines), content_type="text/csv", charset="ascii")
        return _chart_json(title, unit, points)


def _days_of(timespan: str) -> float:
    """Read a chart's time-span; all of the past for ``all``."""
    if timespan == "all":
        return 1e6
    match = _TIMESPAN.fullmatch(timespan)
    if match is None:
        raise web.HTTPBadRequest(text=f"not a timespan: {timespan}")
    return int(match[1]) * _TIMESPAN_DAYS[match[2]]


def _day_end_height(day: Day) -> int:
    return int(height_at(seconds_of(day.date) + DAY_SECONDS))


def _fees_btc(history: BitcoinHistory, day: Day) -> float:
    """Return a day's fees, taking the ones of a few of its blocks for all of them."""
    last = _day_end_height(day)
    blocks = last - int(height_at(seconds_of(day.date)))
    some = range(last - 5, last + 1)
    return blocks * sum(history.fees_satoshi(height) for height in some) / len(some) / 1e8


_CHARTS: dict[str, tuple[str, str, Callable[[BitcoinHistory, Day], float]]] = {
    "difficulty": ("Difficulty", "Difficulty", lambda _, day: day.difficulty),
    "market-price": ("Market Price (USD)", "USD", lambda _, day: round(day.price_usd, 2)),
    "hash-rate": ("Hash Rate", "Hash Rate TH/s", lambda _, day: _hashes_per_second(day.difficulty) / 1e12),
    "total-bitcoins": ("Bitcoins in circulation", "BTC", lambda _, day: supply(_day_end_height(day))),
    "transaction-fees": ("Total Transaction Fees (BTC)", "BTC", _fees_btc),
}


def _chart_json(title: str, unit: str, points: Iterable[tuple[int, float]]) -> web.Response:
    values = ",".join(f'{{"x":{x},"y":{_java_number(y)}}}' for x, y in points)
    head = json.dumps({"status": "ok", "name": title, "unit": unit, "period": "day", "description": title})
    body = f'{head[:-1]}, "values": [{values}]}}'
    return web.Response(body=body.encode(), content_type="application/json")


def _java_number(value: float) -> str:
    """Print a number as the site does: 14627700 is 1.46277E7."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:  # noqa: PLR2004 - where Java changes to powers of ten
        return repr(float(value))
    exact = Decimal(repr(float(value))).normalize()
    exponent = exact.adjusted()
    mantissa = exact.scaleb(-exponent)
    return f"{mantissa:f}E{exponent}" if "." in f"{mantissa:f}" else f"{mantissa:f}.0E{exponent}"


def _hashes_per_second(difficulty: float) -> int:
    return int(difficulty * _HASHES / BLOCK_SECONDS)


def _adjustment(item: Adjustment) -> dict[str, Any]:
    return {"time": item.time_s, "height": item.height, "difficulty": item.difficulty, "adjustment": round(item.ratio, 6)}


def _as_stored(price_usd: float) -> float:
    """Round as the site does: whole dollars, but the cents of the early years kept."""
    return round(price_usd) if price_usd >= 1_000 else round(price_usd, 5)  # noqa: PLR2004 - any early year's price


def _in_currencies(time_s: int, usd: float) -> dict[str, Any]:
    return {"time": time_s, "USD": usd, **{name: round(usd * rate) for name, rate in _EXCHANGE_RATES.items()}}


def _express(answer: object) -> web.Response:
    return web.Response(text=json.dumps(answer, separators=(",", ":")), content_type="application/json", charset="utf-8")
