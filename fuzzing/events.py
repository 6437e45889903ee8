"""Sequences of events that no parser would refuse, and that no market has seen: the machines must take them all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from fuzzing.flow import FlowInProcess
from fuzzing.frames import RECEIVED_US
from fuzzing.target import Answer, Target
from market import raw as r
from market.events import Derivatives, Liquidation

_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(r.RawInstrument, r.RawLiquidation, r.RawDerivatives, r.RawBookDepth, r.RawTokenEvent, r.ChainProgress),
        *(r.RawMiningHistory, r.RawMiningFees, r.FeedStatus, r.Tick, r.RawRefusal, r.DeadLetter, Liquidation, Derivatives),
    )
}
_RESTART = "restart"
_BUNCH = 30

_VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
_SYMBOLS = ("BTCUSDT", "1000PEPEUSDT", "QUANTO", "ETHUSD", "")
_BASES = (
    "BTC",
    "ETH",
    "1000PEPE",
    "PEPE1000",
    "1" + "0" * 17 + "X",
    "1" + "0" * 40 + "X",
    "1" + "0" * 5_000 + "X",
    "1MBABY",
    "",
)
_NUMBERS = (
    *("0", "1", "-1", "0.5", "100000", "99999.9", "1e17", "999999999999999999", "1e18", "1e-17", "1e-18", "1.1e-18", "1e-320"),
    *("1e-999", "5e-324", "-0", "-1e-300", "0.0000000000000000000000000000000000000001", "", "x", "1e999", ".5", "5."),
)
# What measuring can give: between 10^-18 and 10^18, times or through a multiplier or a price.
_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-18, 1e-30, 1e-36, 1e17, 1e18, 1e36, 100_000.0, 2.0001, 0.4999)
_AMOUNTS = (0, 1, 999_999, 10**6, 10**12, 5 * 10**12, 10**16, 10**18)
_STEPS_US = (0, 0, 1, 1_000, 999_999, 1_000_000, 1_000_000, 5_000_001, 60_000_000, 90_000_000, 3_600_000_000, 86_400_000_000)
_BACK_US = (0, 0, 0, 1, 1_000_000, 10_000_000, 10_000_001, 90_000_000, 3_600_000_000, 10**15, -1, -60_000_000, -60_000_001)
_DAYS = (
    "2009-01-02",
    "2009-01-03",
    "2020-01-01",
    "2026-10-09",
    "2026-10-10",
    "2026-10-11",
    "2063-10-05",
    "9999-12-31",
    "",
    "x",
)
_FEEDS = ("okx/liquidations", "bybit-linear/liquidations", "okx/depth/BTC", "process", "", "/", "a/b/c#2")
_CONNECTIONS = ("1", "1#2", "1#3", "all", "", "#", "poll")


class EventSource:
    """Sequences of events, one a line."""

    def __init__(self, chance: random.Random) -> None:
        """Take the chance."""
        self._chance = chance
        self._makers: tuple[Callable[[r.Cause], Any], ...] = (
            *(self._instrument, self._liquidation, self._derivatives, self._book, self._token, self._progress),
            *(self._history, self._fees, self._status, r.Tick, r.Tick, r.Tick, self._measured, self._measured, self._polled),
        )

    def make(self) -> bytes:
        """Return up to three hundred events, by few makers: so that some things come together often."""
        chance = self._chance
        makers = [*chance.sample(self._makers, 4), r.Tick]
        now_us = RECEIVED_US
        lines = []
        for sequence in range(1, chance.randrange(2, 300)):
            now_us += chance.choice(_STEPS_US)
            if chance.random() < 0.02:  # noqa: PLR2004 - a few restarts
                lines.append(b'["restart",null]')
                continue
            event = chance.choice(makers)(r.Cause("0", sequence, now_us))
            lines.append(msgspec.json.encode([type(event).__name__, event]))
        return b"\n".join(lines)

    def keep(self, data: bytes, answer: Answer) -> None:
        """Nothing: sequences are made anew each time."""

    def _time_us(self, cause: r.Cause) -> int:
        return max(0, cause.receive_time_us - self._chance.choice(_BACK_US))

    def _text_or_none(self) -> str | None:
        return self._chance.choice([None, *_NUMBERS])

    def _number(self) -> str:
        return self._chance.choice(_NUMBERS)

    def _instrument(self, cause: r.Cause) -> r.RawInstrument:
        pick = self._chance.choice
        return r.RawInstrument(
            cause=cause,
            venue=pick(_VENUES),
            symbol=pick(_SYMBOLS),
            base=pick(_BASES),
            quote=pick(("USDT", "USD", "usdc", "EUR")),
            settle=pick(_BASES),
            kind=pick(list(r.ContractKind)),
            contract_size=self._number(),
            is_perpetual=pick((True, False)),
            funding_interval_hours=self._text_or_none(),
        )

    def _liquidation(self, cause: r.Cause) -> r.RawLiquidation:
        pick = self._chance.choice
        side, completeness = pick(list(r.PositionSide)), pick(list(r.Completeness))
        texts = self._number(), self._number()
        return r.RawLiquidation(cause, pick(_VENUES), pick(_SYMBOLS), side, *texts, completeness, self._time_us(cause))

    def _derivatives(self, cause: r.Cause) -> r.RawDerivatives:
        texts = [self._text_or_none() for _ in range(8)]
        pick = self._chance.choice
        return r.RawDerivatives(cause, pick(_VENUES), pick(_SYMBOLS), self._time_us(cause), *texts)

    def _book(self, cause: r.Cause) -> r.RawBookDepth:
        pick = self._chance.choice
        bids, asks = (tuple((self._number(), self._number()) for _ in range(pick((0, 1, 2, 3)))) for _ in range(2))
        return r.RawBookDepth(cause, pick(_VENUES), pick(_SYMBOLS), self._time_us(cause), bids, asks)

    def _token(self, cause: r.Cause) -> r.RawTokenEvent:
        pick = self._chance.choice
        addresses = [pick(("", "0x" + "a" * 40, "0x28c6c06298d514db089934071355e5743bf21d60")) for _ in range(2)]
        return r.RawTokenEvent(
            cause=cause,
            chain="ethereum",
            token=pick(("USDT", "USDC")),
            kind=pick(list(r.TokenEventKind)),
            from_address=addresses[0],
            to_address=addresses[1],
            amount_micros=pick(_AMOUNTS),
            block_number=pick((0, 1, 18_571_000, 2**52)),
            block_time_us=min(self._time_us(cause), 253_402_300_799_000_000),
            transaction_hash="0x" + pick("abcdef") * 64,
            log_index=pick((0, 1, 2**52 - 1)),
            is_removed=pick((False, False, True)),
        )

    def _progress(self, cause: r.Cause) -> r.ChainProgress:
        pick = self._chance.choice
        first = pick((0, 1, 18_571_000, 2**52 - 5))
        times = sorted((self._time_us(cause), self._time_us(cause)), reverse=pick((False, False, True)))
        return r.ChainProgress(cause, "ethereum", first, first + pick((0, 1, 5)), *times)

    def _history(self, cause: r.Cause) -> r.RawMiningHistory:
        """A series of days with values of any size, or as good as equal ones: through such points a line is steep."""
        pick = self._chance.choice
        if pick((True, False)):
            days = tuple(f"{year}-{month:02d}-01" for year in range(2010, 2014) for month in range(1, 13))
            flat = pick(("1e12", "1", "1e-300", "5e-324", "999999999999999999"))
            values = [tuple((day, pick((flat, flat, flat, *_NUMBERS))) for day in days) for _ in range(2)]
        else:
            values = [tuple((pick(_DAYS), self._number()) for _ in range(pick((0, 1, 3)))) for _ in range(2)]
        return r.RawMiningHistory(cause, pick(("mempool", "coin-metrics")), *values)

    def _fees(self, cause: r.Cause) -> r.RawMiningFees:
        return r.RawMiningFees(cause, "mempool", self._number(), self._chance.choice((1, 144, 10**30)))

    def _status(self, cause: r.Cause) -> r.FeedStatus:
        pick = self._chance.choice
        return r.FeedStatus(cause, pick(_FEEDS), pick(_CONNECTIONS), pick(list(r.FeedState)), pick(("", "why")))

    def _measured(self, cause: r.Cause) -> Liquidation:
        pick = self._chance.choice
        return Liquidation(
            cause=cause,
            venue=pick((*_VENUES, *(f"venue-{number}" for number in range(60)))),
            symbol=pick(_SYMBOLS),
            asset=pick(("BTC", "ETH", "X")),
            position_side=pick(list(r.PositionSide)),
            price=pick(_FLOATS),
            base_quantity=pick(_FLOATS),
            notional_micros=max(1, pick(_AMOUNTS)),
            completeness=pick(list(r.Completeness)),
            event_time_us=min(self._time_us(cause), cause.receive_time_us),
        )

    def _polled(self, cause: r.Cause) -> Derivatives:
        pick = self._chance.choice

        def number() -> float | None:
            value = pick((None, *_FLOATS))
            return None if value is None else abs(value)

        rate = pick((None, 0.0, 1.0, -1.0, 1e-18, 5e-324, -0.0001))
        return Derivatives(
            cause=cause,
            venue=pick(_VENUES),
            symbol=pick((*_SYMBOLS, *(f"S{number}" for number in range(5)))),
            asset=pick(("BTC", "ETH")),
            event_time_us=min(self._time_us(cause), cause.receive_time_us),
            mark_price=number() or None,
            index_price=number() or None,
            open_interest_base=number(),
            open_interest_usd=number(),
            funding_rate=rate,
            funding_interval_hours=number() or None,
            funding_rate_8h=pick((None, rate, 8e18, -8e18)),
            long_short_ratio=number() or None,
        )


def take_events(data: bytes) -> Answer:
    """Run a sequence of events through every machine.

    Raises:
        Exception: Whatever anything raises: nothing may.
    """
    flow = FlowInProcess()
    count = 0
    bunch: list[Any] = []
    for line in data.splitlines():
        name, event = msgspec.json.decode(line)
        if name != _RESTART:
            bunch.append(msgspec.convert(event, _TYPES[name]))
            count += 1
        if name == _RESTART or len(bunch) == _BUNCH:
            flow.feed(bunch)
            bunch = []
        if name == _RESTART:
            flow.restart()
    flow.feed(bunch)
    flow.restart()
    flow.page()
    return Answer(count, 0, " ".join(sorted(flow.rows)))


MACHINES = Target("machines", EventSource, take_events, are_lines=True)
