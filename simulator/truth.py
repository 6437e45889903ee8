"""What really happened: every liquidation, what its venue published of it, and whom that reached.

Amounts are exact: prices and quantities are integers times the venue's own steps, the notional is rounded half-even to
micro-USD per event, and sums are sums of those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from simulator.instruments import BINANCE, VENUES
from simulator.market import Liquidation
from simulator.positions import SIDES

_MICROS = Decimal(1_000_000)
_PRECISION = 50  # digits; far above any product of a price, a quantity and a contract size
_COIN_STEP = Decimal("0.000000000001")  # inverse contracts' coins are a quotient: rounded here
_KEPT = 500_000  # events remembered one by one; sums never forget


@dataclass
class Record:
    """One liquidation and what became of it.

    Attributes:
        number: Running number, from 1, over all venues.
        event_time_ms: When it happened, on the venue's clock.
        price: As the venue publishes it: the mean fill on Binance, the bankruptcy price elsewhere; in the venue's unit.
        contract_quantity: As the venue publishes it.
        base_quantity: Coins, a thousand per unit of ``1000PEPE``.
        notional_micros: Face value in micro-USD; one USDT counts as one USD.
        sent_ms: When the venue published it; ``None`` while waiting, and for ever when throttled away.
        receivers: Connections that were subscribed at that moment.
    """

    number: int
    liquidation: Liquidation
    event_time_ms: int
    price: Decimal
    contract_quantity: Decimal
    base_quantity: Decimal
    notional_micros: int
    sent_ms: int | None = None
    receivers: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the record with decimals as text."""
        instrument = self.liquidation.instrument
        return {
            "id": self.number,
            "venue": instrument.venue,
            "symbol": instrument.symbol,
            "asset": instrument.asset,
            "position_side": self.liquidation.position_side,
            "price": f"{self.price:f}",
            "contract_quantity": f"{self.contract_quantity:f}",
            "base_quantity": f"{self.base_quantity:f}",
            "notional_usd": _usd(self.notional_micros),
            "event_time_ms": self.event_time_ms,
            "published": self.sent_ms is not None,
            "sent_ms": self.sent_ms,
            "receivers": self.receivers,
        }


@dataclass
class Tally:
    """Count and sum."""

    count: int = 0
    notional_micros: int = 0

    def add(self, record: Record) -> None:
        """Count one more."""
        self.count += 1
        self.notional_micros += record.notional_micros

    def to_json(self) -> dict[str, object]:
        """Return both, the sum as decimal text."""
        return {"count": self.count, "notional_usd": _usd(self.notional_micros)}


def _tallies() -> dict[str, Tally]:
    return {side: Tally() for side in SIDES}


@dataclass
class VenueTruth:
    """One venue's sums by side: all, those published, and those that reached somebody."""

    all: dict[str, Tally] = field(default_factory=_tallies)
    published: dict[str, Tally] = field(default_factory=_tallies)
    delivered: dict[str, Tally] = field(default_factory=_tallies)
    first_subscribed_ms: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the sums."""
        kinds = {"all": self.all, "published": self.published, "delivered": self.delivered}
        sums = {kind: {side: tally.to_json() for side, tally in sides.items()} for kind, sides in kinds.items()}
        return {"first_subscribed_ms": self.first_subscribed_ms, **sums}


class Truth:
    """The ledger."""

    def __init__(self) -> None:
        """Begin empty."""
        self._records: deque[Record] = deque(maxlen=_KEPT)
        self._count = 0
        self.venues = {venue: VenueTruth() for venue in VENUES}

    @property
    def forgotten(self) -> int:
        """How many of the oldest events are no longer listed, though still in the sums."""
        return self._count - len(self._records)

    def happened(self, liquidation: Liquidation, event_time_ms: int) -> Record:
        """Enter a liquidation."""
        self._count += 1
        record = make_record(self._count, liquidation, event_time_ms)
        self._records.append(record)
        self.venues[liquidation.instrument.venue].all[liquidation.position_side].add(record)
        return record

    def was_published(self, record: Record, sent_ms: int, receivers: int) -> None:
        """Enter that the venue published it, to so many connections."""
        record.sent_ms, record.receivers = sent_ms, receivers
        venue = self.venues[record.liquidation.instrument.venue]
        side = record.liquidation.position_side
        venue.published[side].add(record)
        if receivers:
            venue.delivered[side].add(record)

    def was_subscribed(self, venue: str, now_ms: int) -> None:
        """Enter a subscription; the first one counts."""
        if self.venues[venue].first_subscribed_ms is None:
            self.venues[venue].first_subscribed_ms = now_ms

    def records(self, *, venue: str | None = None, only_published: bool = False) -> Iterator[Record]:
        """Return the remembered events in order."""
        for record in self._records:
            is_wanted = venue in {None, record.liquidation.instrument.venue}
            if is_wanted and (record.sent_ms is not None or not only_published):
                yield record


def make_record(number: int, liquidation: Liquidation, event_time_ms: int) -> Record:
    """Work out a liquidation's exact figures."""
    instrument = liquidation.instrument
    price = liquidation.bankruptcy_ticks * instrument.tick
    if instrument.venue == BINANCE:
        price = Decimal(liquidation.average_units).scaleb(-instrument.price_decimals)
    contracts = liquidation.lots * instrument.lot
    with localcontext() as context:
        context.prec = _PRECISION
        face = contracts * instrument.contract_size
        if instrument.is_inverse:
            notional, coins = face, (face / price).quantize(_COIN_STEP, ROUND_HALF_EVEN)
        else:
            notional, coins = face * price, face * instrument.coins_per_base
        micros = int((notional * _MICROS).quantize(Decimal(1), ROUND_HALF_EVEN))
    return Record(number, liquidation, event_time_ms, price, contracts, coins, micros)


def _usd(micros: int) -> str:
    return f"{Decimal(micros).scaleb(-6):f}"
