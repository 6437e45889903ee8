"""Bitcoin's mining days: daily difficulty and price merged from polls, the three fits and hashprice of each day.

A day enters when it has a price and a difficulty. Where a source tells difficulty only when it changes, or a day late, the
last known one is carried forward. What a poll says of a day before that day is over may be corrected until a poll after its
end says it again, for a week at most; then it stays: a day that was used is never revised.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from market.contracts import AbsurdValueError, ContractError, FutureTimeError, not_negative
from market.difficulty import DifficultyModel, DifficultyReading
from market.events import MinerDay
from market.hashprice import (
    GENESIS_NUMBER,
    block_height,
    break_even_usd,
    day_number,
    hashprice_usd_per_ph_day,
    subsidy_btc,
)
from market.parameters import Parameters
from market.raw import Cause, DeadLetter, RawMiningFees, RawMiningHistory, Tick
from operators.machine import Handler

MAX_DAYS = 20_000
"""Days remembered, counted from the first block: until October 2063. Later ones are dead letters."""

_CORRECTION_DAYS = 7  # for so long after its end a day's running values wait for the final ones
_CARRY_DAYS = 31  # difficulty changes about every 14 days; one that is older than this has gone stale
_MAX_FEES_BTC = 1000  # per block: 25 times the most that the dearest block of the 2024 halving earned; satoshis are above
_MIN_VALUE = 1e-12  # the first prices, of 2009, were some 1e-3 USD; no difficulty was ever below 1
_DAY_US = 86_400_000_000

_Number = lru_cache(maxsize=MAX_DAYS)(day_number)  # histories repeat the same days with every poll


class _Entered(NamedTuple):
    """A day with both values, ``at`` days after the first block; ``is_fixed`` when neither can change any more."""

    at: int
    price_usd: float
    difficulty: float
    is_fixed: bool


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """What was last emitted of a day."""

    price_usd: float
    difficulty: float
    fees: float | None
    days_before: int
    is_final: bool


_OPEN, _SETTLED, _CARRIED = 0, 1, 2  # told while the day ran; told after its end; not told, but used


class _Series:
    """A value per day since the first block and what became of it; 0 where unknown."""

    def __init__(self, values: bytes = b"", flags: bytes = b"") -> None:
        self.values = array("d", values)
        self.flags = bytearray(flags)

    def put(self, index: int, value: float, flag: int) -> bool:
        """Store a value, and say whether anything changed."""
        missing = index + 1 - len(self.values)
        if missing > 0:
            self.values.frombytes(bytes(8 * missing))
            self.flags.extend(bytes(missing))
        is_news = self.values[index] != value or self.flags[index] != flag
        self.values[index], self.flags[index] = value, flag
        return is_news

    def at(self, index: int) -> tuple[float, int]:
        """Return value and flag."""
        return (self.values[index], self.flags[index]) if index < len(self.values) else (0.0, _OPEN)

    def part(self, start: int, end: int | None) -> tuple[bytes, bytes]:
        """Return the days from ``start`` up to but not including ``end``."""
        return self.values[start:end].tobytes(), bytes(self.flags[start:end])


class _Part(msgspec.Struct, array_like=True):
    """Days from one index up to another, both series."""

    price: tuple[bytes, bytes]
    difficulty: tuple[bytes, bytes]


class _Recent(msgspec.Struct, array_like=True):
    """The part of the state that changes with a poll."""

    days: _Part
    first_price: int = MAX_DAYS
    last_fixed: int = -1
    emit_from: int | None = None
    told: dict[int, _Told] = {}
    fees: dict[int, float] = {}
    today: int = -1


_PART = msgspec.msgpack.Decoder(_Part)
_RECENT = msgspec.msgpack.Decoder(_Recent)


class Miners:
    """Follow Bitcoin's days, and emit a :class:`MinerDay` when one appears or its values change, once per poll at most.

    The first history emits its last closed day and the running one; days before are in the fits only. A day is final in
    the first history poll after its end, or a day later by the clock where no poll comes; should that poll not yet carry
    the day's own values, one more final row follows with the one that does. A day's fees are those of the last poll made
    on it, so days before the machine ran have none.

    State: two numbers and two flags a day, at most :data:`MAX_DAYS`; what cannot change any more is encoded once.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Start without a day, or with what :meth:`snapshot` returned."""
        self._parameters = parameters.miners
        self._max_clock_skew_us = parameters.contracts.max_clock_skew_us
        self._price, self._difficulty = _Series(), _Series()
        self._model = DifficultyModel()
        self._recent = _Recent(_Part((b"", b""), (b"", b"")))
        self._fixed_bytes: bytes | None = None
        self._recent_bytes: bytes | None = None
        if isinstance(state, tuple):
            self._restore(*state)

    def _restore(self, fixed_bytes: bytes, recent_bytes: bytes) -> None:
        fixed = _PART.decode(zlib.decompress(fixed_bytes))
        self._recent = _RECENT.decode(zlib.decompress(recent_bytes))
        days = self._recent.days
        self._price = _Series(fixed.price[0] + days.price[0], fixed.price[1] + days.price[1])
        self._difficulty = _Series(fixed.difficulty[0] + days.difficulty[0], fixed.difficulty[1] + days.difficulty[1])
        self._fixed_bytes, self._recent_bytes = fixed_bytes, recent_bytes
        for index in range(self._recent.first_price, self._recent.last_fixed + 1):
            price_usd, difficulty = self._price.at(index)[0], self._difficulty.at(index)[0]
            if price_usd and difficulty:
                self._model.add(index + GENESIS_NUMBER, price_usd, difficulty)

    def handlers(self) -> Mapping[type, Handler]:
        """Listen to polls and the clock; all of them go on to the next machine."""
        return {RawMiningHistory: self._on_history, RawMiningFees: self._on_fees, Tick: self._on_tick}

    def snapshot(self) -> object:
        """Return the days that cannot change any more and all the rest, each as compressed bytes."""
        cut = self._recent.last_fixed + 1
        if self._fixed_bytes is None:
            fixed = _Part(self._price.part(0, cut), self._difficulty.part(0, cut))
            self._fixed_bytes = zlib.compress(msgspec.msgpack.encode(fixed), 1)
        if self._recent_bytes is None:
            self._recent.days = _Part(self._price.part(cut, None), self._difficulty.part(cut, None))
            self._recent_bytes = zlib.compress(msgspec.msgpack.encode(self._recent), 1)
        return self._fixed_bytes, self._recent_bytes

    def is_idle(self) -> bool:
        """The history is always needed."""
        return False

    def _on_history(self, raw: RawMiningHistory) -> list[object]:
        refused: list[tuple[str, str]] = []
        first_error: ContractError | None = None
        oldest_changed = MAX_DAYS
        for series, rows in ((self._difficulty, raw.difficulty), (self._price, raw.price_usd)):
            for day, text in rows:
                try:
                    oldest_changed = min(oldest_changed, self._take(series, day, text, raw.cause))
                except ContractError as error:
                    first_error = first_error or error
                    refused.append((day, text))
        letters = [_dead_letter(raw, "history", first_error, refused)] if first_error is not None else []
        return [raw, *letters, *self._follow(raw.cause, closes_yesterday=True, oldest_changed=oldest_changed)]

    def _on_fees(self, raw: RawMiningFees) -> list[object]:
        try:
            fees = float(not_negative(raw.mean_fees_btc_per_block, "mean fees"))
            if fees > _MAX_FEES_BTC:
                raise AbsurdValueError(f"mean fees are absurdly large: {raw.mean_fees_btc_per_block} BTC per block")
        except ContractError as error:
            return [raw, _dead_letter(raw, "fees", error, raw)]
        self._recent.fees[_index_of(raw.cause)] = fees
        self._recent_bytes = None
        return [raw, *self._follow(raw.cause)]

    def _on_tick(self, tick: Tick) -> Iterable[object]:
        if _index_of(tick.cause) == self._recent.today:
            return (tick,)
        return [tick, *self._follow(tick.cause)]

    def _take(self, series: _Series, day: str, text: str, cause: Cause) -> int:
        """Store one value, and return its day's index if that changed anything, :data:`MAX_DAYS` if not."""
        try:
            index = _Number(day) - GENESIS_NUMBER
        except ValueError as error:
            raise AbsurdValueError(f"not a day written as YYYY-MM-DD: {day[:20]!r}") from error
        if index >= 0 and series.at(index)[1] != _OPEN:
            return MAX_DAYS
        if not 0 <= index < MAX_DAYS:
            raise AbsurdValueError(f"{day} is not one of the {MAX_DAYS} days from the first block on")
        if (index + GENESIS_NUMBER) * _DAY_US > cause.receive_time_us + self._max_clock_skew_us:
            raise FutureTimeError(f"{day} has not begun")
        value = float(not_negative(text, f"value of {day}"))
        if 0 < value < _MIN_VALUE:
            raise AbsurdValueError(f"value of {day} is absurdly small: {text}")
        if value == 0 or not series.put(index, value, _SETTLED if index < _index_of(cause) else _OPEN):
            return MAX_DAYS
        if series is self._price:
            self._recent.first_price = min(self._recent.first_price, index)
        return index

    def _follow(self, cause: Cause, *, closes_yesterday: bool = False, oldest_changed: int = MAX_DAYS) -> list[MinerDay]:
        """Take days that are fixed by now into the model, and return what is new."""
        recent, today = self._recent, _index_of(cause)
        recent.today = today
        recent.fees = {index: fees for index, fees in recent.fees.items() if index >= today - _CORRECTION_DAYS}
        self._recent_bytes = None
        if oldest_changed <= recent.last_fixed:  # an older day came to light: all later fits change
            self._model, recent.last_fixed, self._fixed_bytes = DifficultyModel(), -1, None
        entered = list(self._entered(today))
        if not entered:
            return []
        if recent.emit_from is None:
            recent.emit_from = max((day.at for day in entered if day.at < today), default=today - 1)
        told = self._news(entered, recent.emit_from, closed_before=today if closes_yesterday else today - 1)
        rows = [self._row(cause, reading, told[index]) for index, reading in self._readings(entered, told)]
        recent.emit_from = max(recent.emit_from, recent.last_fixed + 1)
        recent.told = {index: of for index, of in (recent.told | told).items() if index >= recent.emit_from}
        return rows

    def _entered(self, today: int) -> Iterator[_Entered]:
        """Yield the days after the last fixed one that have both values; fixed ones come first."""
        start = max(self._recent.last_fixed + 1, self._recent.first_price)
        known, known_at = 0.0, -_CARRY_DAYS - 1
        is_fixed = True
        for index in range(max(0, start - _CARRY_DAYS), len(self._price.values)):
            difficulty, flag = self._difficulty.at(index)
            if difficulty and flag != _CARRIED:
                known, known_at = difficulty, index
            price_usd, price_flag = self._price.at(index)
            difficulty = difficulty or (known if index - known_at <= _CARRY_DAYS else 0.0)
            if index >= start and price_usd and difficulty:
                is_settled = _OPEN not in {price_flag, flag}
                is_fixed = is_fixed and (is_settled or index < today - _CORRECTION_DAYS)
                yield _Entered(index, price_usd, difficulty, is_fixed)

    def _news(self, entered: list[_Entered], emit_from: int, *, closed_before: int) -> dict[int, _Told]:
        """Return what is to be told, by index: days never told, or told otherwise."""
        news = {}
        for days_before, day in enumerate(entered, start=self._model.days):
            if day.at < emit_from:
                continue
            before = self._recent.told.get(day.at)
            is_final = day.at < closed_before or (before is not None and before.is_final)
            told = _Told(day.price_usd, day.difficulty, self._recent.fees.get(day.at), days_before, is_final)
            if told != before:
                news[day.at] = told
        return news

    def _readings(self, entered: list[_Entered], told: dict[int, _Told]) -> Iterator[tuple[int, DifficultyReading]]:
        """Add every day to the model, those not fixed to a copy of it, and yield what the fits say of days to be told."""
        model = self._model
        last_told = max(told, default=-1)
        for day in entered:
            if day.is_fixed:
                self._fix(day)
            elif day.at > last_told:
                return
            elif model is self._model:
                model = model.copy()
            model.add(day.at + GENESIS_NUMBER, day.price_usd, day.difficulty)
            if day.at in told:
                yield day.at, model.reading()

    def _fix(self, day: _Entered) -> None:
        for series, value in ((self._price, day.price_usd), (self._difficulty, day.difficulty)):
            if series.at(day.at)[1] == _OPEN:
                series.put(day.at, value, _SETTLED if series.at(day.at)[0] else _CARRIED)
        self._recent.last_fixed = day.at
        self._fixed_bytes = None

    def _row(self, cause: Cause, reading: DifficultyReading, told: _Told) -> MinerDay:
        btc_per_block = subsidy_btc(block_height(day_number(reading.day))) + (told.fees or 0.0)
        return MinerDay(
            cause=cause,
            day=reading.day,
            price_usd=reading.price_usd,
            difficulty=reading.difficulty,
            mean_fees_btc_per_block=told.fees,
            hashprice_usd_per_ph_day=hashprice_usd_per_ph_day(
                difficulty=reading.difficulty, price_usd=reading.price_usd, btc_per_block=btc_per_block
            ),
            break_even_usd={
                f"{efficiency:g}": break_even_usd(
                    efficiency_j_per_th=efficiency,
                    electricity_usd_per_kwh=self._parameters.electricity_usd_per_kwh,
                    difficulty=reading.difficulty,
                    btc_per_block=btc_per_block,
                )
                for efficiency in self._parameters.fleet_efficiencies_j_per_th
            },
            fits=reading.fits,
            is_final=told.is_final,
        )


def _index_of(cause: Cause) -> int:
    """Return the UTC day of a receive time, counted from the first block's."""
    return cause.receive_time_us // _DAY_US - GENESIS_NUMBER


def _dead_letter(raw: RawMiningHistory | RawMiningFees, channel: str, error: ContractError, payload: object) -> DeadLetter:
    return DeadLetter(
        cause=raw.cause,
        feed=f"{raw.source}/{channel}",
        venue=raw.source,
        error=type(error).__name__,
        reason=error.reason,
        payload=msgspec.json.encode(payload),
    )
