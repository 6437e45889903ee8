"""``cascadewatch parse``: what the parsers make of a venue's frames, one line in, one line out. For support and reviewers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from connectors.clock import now_us
from connectors.sources.frame import Frame
from connectors.sources.parse import parse
from market.events import Liquidation
from market.parameters import Parameters
from market.raw import Cause, ContractKind, DeadLetter, RawInstrument, RawLiquidation
from operators.normalise import Normalise

# Where one contract is one coin (or one US dollar) by the venue's rules, the symbol's spelling says all that is needed.
_SPELLINGS = {
    "binance-usdm": (re.compile(r"([A-Z0-9]+?)(USDT|USDC)(?:_\d{6})?"), ContractKind.LINEAR),
    "bybit-linear": (re.compile(r"([A-Z0-9]+?)(USDT)(?:-\d{2}[A-Z]{3}\d{2})?"), ContractKind.LINEAR),
    "bybit-inverse": (re.compile(r"([A-Z0-9]+?)(USD)(?:[A-Z]\d{2})?"), ContractKind.INVERSE),
}


class FrameReader:
    """Reads frames of one venue as the flow does: the venue's parser, then the contract table."""

    def __init__(self, venue: str, instruments: Iterable[bytes] = (), *, received_us: int | None = None) -> None:
        """Fill the contract table.

        Args:
            venue: Its id.
            instruments: The venue's own answers that list its contracts. Without any, contracts are spelled out from the
                symbol where the venue's rules allow it; elsewhere every symbol is unknown.
            received_us: When the frames came; by default now. Event times after it are refused as the flow refuses them.
        """
        self._venue = venue
        self._received_us = received_us
        self._handlers = Normalise(Parameters()).handlers()
        answers = list(instruments)
        self._spelling = None if answers else _SPELLINGS.get(venue)
        self.problems = [
            problem["refused"] for answer in answers for problem in [self._read("instruments", answer)] if "refused" in problem
        ]

    @property
    def is_spelling_contracts(self) -> bool:
        """Say whether contracts are read off their symbols for want of the venue's list."""
        return self._spelling is not None

    def read(self, line: bytes) -> dict[str, Any]:
        """Return the events of one frame, and the first refusal with its class where there was one."""
        return self._read("liquidations", line)

    def _read(self, channel: str, payload: bytes) -> dict[str, Any]:
        received_us = now_us() if self._received_us is None else self._received_us
        frame = Frame(f"{self._venue}/{channel}", payload, Cause("parse", 0, received_us))
        events: list[dict[str, Any]] = []
        refusals: list[DeadLetter] = []
        for item in self._measured(parse(frame)):
            if isinstance(item, Liquidation):
                events.append(_as_json(item))
            elif isinstance(item, DeadLetter):
                refusals.append(item)
        if not refusals:
            return {"events": events}
        refused = {"refused": refusals[0].reason, "error": refusals[0].error}
        return {"events": events, **refused} if events else refused

    def _measured(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, RawLiquidation):
                self._spell(item)
            handler = self._handlers.get(type(item))
            yield from handler(item) if handler is not None else (item,)

    def _spell(self, raw: RawLiquidation) -> None:
        if self._spelling is None:
            return
        pattern, kind = self._spelling
        spelled = pattern.fullmatch(raw.symbol)
        if spelled is not None:
            base, quote = spelled.groups()
            settle = base if kind is ContractKind.INVERSE else quote
            instrument = RawInstrument(
                raw.cause, raw.venue, raw.symbol, base, quote, settle, kind, contract_size="1", is_perpetual=True
            )
            list(self._handlers[RawInstrument](instrument))


def _as_json(event: Liquidation) -> dict[str, Any]:
    return {
        "venue": event.venue,
        "symbol": event.symbol,
        "asset": event.asset,
        "position_side": event.position_side.value,
        "price": event.price,
        "base_quantity": event.base_quantity,
        "notional_usd": event.notional_micros / 1_000_000,
        "event_time": datetime.fromtimestamp(event.event_time_us / 1_000_000, tz=timezone.utc).isoformat(),
    }
