"""Who speaks which feed: one line per venue and per other source. The first part of a feed's name is the key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from connectors.sources.chain.ethereum import ETHEREUM
from connectors.sources.feed import Parser, Venue
from connectors.sources.frame import UnknownFrameError
from connectors.sources.mining.blockchain_com import BLOCKCHAIN_COM
from connectors.sources.mining.coin_metrics import COIN_METRICS
from connectors.sources.mining.daily import MiningSource
from connectors.sources.mining.mempool import MEMPOOL
from connectors.sources.recorded import RECORDED
from connectors.sources.venues.binance import BINANCE_USDM
from connectors.sources.venues.bybit import BYBIT_INVERSE, BYBIT_LINEAR
from connectors.sources.venues.okx import OKX


class Source(Protocol):
    """Whatever reads frames: a venue, a chain, a mining API."""

    @property
    def parsers(self) -> Mapping[str, Parser]:
        """By channel, the second part of a feed's name."""


VENUES: Mapping[str, Venue] = {
    "binance-usdm": BINANCE_USDM,
    "bybit-linear": BYBIT_LINEAR,
    "bybit-inverse": BYBIT_INVERSE,
    "okx": OKX,
}

MINING: Mapping[str, MiningSource] = {source.id: source for source in (MEMPOOL, BLOCKCHAIN_COM, COIN_METRICS)}

_SOURCES: Mapping[str, Source] = {
    **VENUES,
    ETHEREUM.id: ETHEREUM,
    **MINING,
    "recorded": RECORDED,
}


@lru_cache(maxsize=4096)  # feeds of a process: some per watched contract
def parser_of(feed: str) -> Parser:
    """Return what reads the frames of a feed.

    Raises:
        UnknownFrameError: No source has such a channel: a journal of another version, say.
    """
    source_id, _, channel_and_subject = feed.partition("/")
    source = _SOURCES.get(source_id)
    channel = channel_and_subject.partition("/")[0]
    parser = None if source is None else source.parsers.get(channel)
    if parser is None:
        raise UnknownFrameError(f"no parser for the feed {feed!r}")
    return parser
