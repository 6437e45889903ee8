"""Where fuzzing begins: the frames that the tests keep, each handed to every parser of its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from connectors.sources.frame import STATUS_FEED
from connectors.sources.registry import _SOURCES as SOURCES
from connectors.sources.registry import MINING, VENUES

TESTS = Path(__file__).parents[1] / "tests"
_FRAMES = TESTS / "connectors"

SUBJECT = "BTCUSDT"
"""What feeds are about, where an answer does not name its symbol: a contract of every venue's fixtures but OKX's."""

_SUBJECTS = {"bybit-inverse": "BTCUSD", "okx": "BTC-USDT-SWAP"}

_FOLDERS: Mapping[str, Path] = {
    "binance-usdm": _FRAMES / "venues/fixtures/binance",
    "bybit-linear": _FRAMES / "venues/fixtures/bybit",
    "bybit-inverse": _FRAMES / "venues/fixtures/bybit",
    "okx": _FRAMES / "venues/fixtures/okx",
    "ethereum": _FRAMES / "chain/fixtures/ethereum",
    **{name: _FRAMES / "mining/fixtures" / name for name in MINING},
    "recorded": _FRAMES / "fixtures/recorded",
    STATUS_FEED: _FRAMES / "fixtures/status",
}
"""By source: its fixtures. A source that is not here has none, and a test fails."""


def feeds() -> list[str]:
    """Return every feed that has a parser, the process's own statuses included."""
    return [STATUS_FEED, *(_feed(source, channel) for source, each in SOURCES.items() for channel in each.parsers)]


def _feed(source: str, channel: str) -> str:
    feed = f"{source}/{channel}"
    return f"{feed}/{_SUBJECTS.get(source, SUBJECT)}" if source in VENUES and channel != "liquidations" else feed


def seeds_of(feed: str) -> list[bytes]:
    """Return the fixtures of a feed's source, by name: those of its other channels are of use as refusals and for parts."""
    return list(_read(_FOLDERS[feed.partition("/")[0]]))


def all_seeds() -> list[bytes]:
    """Return every fixture once."""
    return [payload for folder in dict.fromkeys(_FOLDERS.values()) for payload in _read(folder)]


def _read(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.iterdir()):
        yield path.read_bytes().strip()
