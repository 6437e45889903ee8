"""What is known right now, for a person at a terminal: the newest score per asset, every feed's state, counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from market.events import Gap, Liquidation
from market.feeds import FeedSight, LiquidationFeeds
from market.raw import DeadLetter, FeedState, FeedStatus
from market.readings import AlertChange, CascadeTransition, Score

_NEWS_KEPT = 8
_UP = frozenset({FeedState.CONNECTED, FeedState.POLL_ANSWERED})


@dataclass
class VenueState:
    """One venue's feeds.

    Attributes:
        connections: Reason of the trouble per connection, or an empty string while it is up.
        lag_us: Receive time less event time of the newest liquidation.
        last_event_us: Receive time of the newest liquidation.
        sight: What can be seen of its liquidations, once that is known.
    """

    connections: dict[str, str] = field(default_factory=dict)
    liquidations: int = 0
    lag_us: int | None = None
    last_event_us: int | None = None
    sight: FeedSight | None = None


class Board:
    """Follow the stream of events and remember the newest of each kind. Safe to read from another thread."""

    def __init__(self) -> None:
        """Know nothing."""
        self._lock = threading.Lock()
        self.scores: dict[str, Score] = {}
        self.venues: dict[str, VenueState] = {}
        self.news: list[CascadeTransition | AlertChange | Gap] = []
        self.dead_letters: Counter[str] = Counter()
        self.newest_us = 0

    def observe(self, events: Iterable[Any]) -> None:
        """Take what the flow derived, in order. The flow's thread."""
        with self._lock:
            for event in events:
                self._observe_one(event)

    def read(self) -> BoardReading:
        """Return a copy that does not change. Any thread."""
        with self._lock:
            return BoardReading(
                scores=dict(self.scores),
                venues={name: replace(state, connections=dict(state.connections)) for name, state in self.venues.items()},
                news=list(self.news),
                dead_letters=Counter(self.dead_letters),
                newest_us=self.newest_us,
            )

    def _observe_one(self, event: Any) -> None:
        kind = type(event)
        if kind is Liquidation:
            venue = self.venues.setdefault(event.venue, VenueState())
            venue.liquidations += 1
            venue.last_event_us = event.cause.receive_time_us
            venue.lag_us = event.cause.receive_time_us - event.event_time_us
        elif kind is Score:
            self.scores[event.asset] = event
        elif kind is FeedStatus:
            self._observe_status(event)
        elif kind is LiquidationFeeds:
            self._observe_feeds(event)
        elif kind in {CascadeTransition, AlertChange, Gap}:
            self.news = [*self.news, event][-_NEWS_KEPT:]
        elif kind is DeadLetter:
            self.dead_letters[f"{event.venue}: {event.error}" if event.venue else event.error] += 1
        self.newest_us = max(self.newest_us, event.cause.receive_time_us)

    def _observe_feeds(self, feeds: LiquidationFeeds) -> None:
        for venue, sight in feeds.sights.items():
            self.venues.setdefault(venue, VenueState()).sight = sight

    def _observe_status(self, status: FeedStatus) -> None:
        venue = self.venues.setdefault(status.feed.partition("/")[0], VenueState())
        label = f"{status.feed} {status.connection}"
        if status.state is FeedState.LOST and status.reason == "replaced":
            venue.connections.pop(label, None)
        else:
            venue.connections[label] = "" if status.state in _UP else f"{status.state.value}: {status.reason}"


@dataclass(frozen=True)
class BoardReading:
    """A moment of a :class:`Board`."""

    scores: dict[str, Score]
    venues: dict[str, VenueState]
    news: list[CascadeTransition | AlertChange | Gap]
    dead_letters: Counter[str]
    newest_us: int
