"""When could a feed not see? From what became of connections and polls to rows of ``gaps``: missing data is never quiet.

The law: a connection slot is either up, or has exactly one open gap; the row is written when the gap closes.

A feed may need several connections for all its symbols. Each is a slot, watched by itself: while one is away, its symbols are
not seen. A planned successor carries its predecessor's name and ``#`` with the next number (``1``, ``1#2``, ``1#3``); while
either is up, the slot is. A feed that is expected and was never connected is one slot without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from market.events import Gap, Liquidation
from market.feeds import (
    INSTRUMENTS_CHANNEL,
    LIQUIDATIONS_CHANNEL,
    NO_LONGER_WANTED,
    LiquidationConnections,
    OpenGap,
    channel_of,
    liquidations_feed,
    venue_of,
)
from market.parameters import Parameters
from market.raw import Cause, FeedState, FeedStatus, Tick
from operators.machine import Handler

MAX_WATCHED = 10_000
"""Connection slots, and polls that fail. Hundreds is much; beyond it new ones pass unwatched."""

NOT_RUNNING = "process was not running"
NOT_CONNECTED_YET = "not connected yet"
_AWAITED = ""  # name of the slot of a feed that was never connected

_BLIND_AFTER_US = 5_000_000
"""The clock ticks twenty times a second: where it is silent for longer, nobody was listening to the venues either."""


class _Slot(msgspec.Struct, array_like=True):
    """One connection slot.

    Attributes:
        labels: Connections known to be up: one, or two while a successor takes over. None, without a gap: up, label unknown.
        gap_from_us: Begin of the open gap; ``None``: the slot is up, or awaited.
        is_doubtful: The gap is the process's own; an event shows that the connection survived it.
        awaited_from_us: Since when the feed is expected, while it was never connected.
    """

    feed: str
    name: str
    labels: list[str]
    gap_from_us: int | None = None
    reason: str = ""
    is_doubtful: bool = False
    awaited_from_us: int | None = None

    def open_gap(self) -> OpenGap | None:
        """Return since when nothing is seen here, and why; ``None`` while the slot is up."""
        if self.gap_from_us is not None:
            return OpenGap(self.gap_from_us, self.reason)
        return None if self.awaited_from_us is None else OpenGap(self.awaited_from_us, NOT_CONNECTED_YET, is_first=True)


class _State(msgspec.Struct, array_like=True):
    """All that is saved.

    Attributes:
        heard_us: Newest tick or status.
        failing: Begin and reason by polled feed.
        unnamed: Liquidation feeds from before the last start that were not yet expected anew.
        is_naming: Some were, since the last tick.
    """

    heard_us: int | None = None
    slots: list[_Slot] = msgspec.field(default_factory=list)
    failing: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)
    unnamed: set[str] = msgspec.field(default_factory=set)
    is_naming: bool = False


_STATE = msgspec.msgpack.Decoder(_State)


class FeedWatch:
    """Turn statuses into gaps. Everything passes on, but for what the process says of its start, which ends here.

    A slot's gap begins with the status that left it without a connection (the first refusal, where there never was one), or,
    where that connection had fallen silent before, with the last that came over it. It ends when one is CONNECTED, or when
    its symbols are spread over the feed's other slots and it is no longer wanted. A poll's lasts from POLL_FAILED to
    POLL_ANSWERED.

    Ticks or statuses more than five seconds apart mean that the process was not running, or stood still: every slot that was
    up has a gap from the earlier of the two until it is CONNECTED again or, should the connection have survived, until the
    venue's next liquidation. Gaps of polls end there, for the new process reports a failing poll anew.

    A process that has just started says so: what was up when another was last heard has a gap until it is CONNECTED again,
    however short the time between them. It also says which feeds are EXPECTED; the gaps of a former run's liquidation feeds
    that are not among them end with the next tick, and the feeds are forgotten.

    Until an expected feed is first connected it has no gap, unless the list of its contracts cannot be had: from then on it
    has one. When the open gaps of liquidation feeds change, :class:`LiquidationConnections` says so, last of all.

    Repeated statuses change nothing. Bound: ``MAX_WATCHED``.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new. No parameter concerns it."""
        del parameters
        saved = _State() if state is None else _STATE.decode(cast("bytes", state))
        self._heard_us = saved.heard_us
        self._slots = {(slot.feed, slot.name): slot for slot in saved.slots}
        self._failing = saved.failing
        self._unnamed = saved.unnamed
        self._is_naming = saved.is_naming
        self._doubtful_venues = self._find_doubtful_venues()
        self._told = self._find_open_gaps()

    def handlers(self) -> Mapping[type, Handler]:
        """Own statuses and ticks; liquidations only show that a feed is alive."""
        return {FeedStatus: self.on_status, Tick: self.on_tick, Liquidation: self.on_liquidation}

    def on_tick(self, tick: Tick) -> Iterable[object]:
        """Notice that nobody was listening, and what is no longer expected."""
        now_us = tick.cause.receive_time_us
        if not self._is_naming and self._heard_us is not None and now_us <= self._heard_us + _BLIND_AFTER_US:
            self._heard_us = now_us
            return (tick,)
        gaps = self._notice(tick.cause)
        if self._is_naming:
            gaps += self._forget_unnamed(tick.cause)
        return (tick, *gaps, *self._tell(tick.cause))

    def on_status(self, status: FeedStatus) -> Iterable[object]:
        """Open or close the gap of what the status speaks of; the status goes on before the gap."""
        state, cause = status.state, status.cause
        if state is FeedState.STARTED:
            return (*self._started(cause), *self._tell(cause))
        gaps = self._notice(cause)
        if state is FeedState.EXPECTED:
            self._expect(status)
            return (*gaps, *self._tell(cause))
        if state is FeedState.CONNECTED:
            gaps += self._connected(status)
        elif state is FeedState.POLL_FAILED:
            self._failed(status)
        elif state is FeedState.POLL_ANSWERED:
            gaps += self._answered(cause, status.feed)
        else:
            gaps += self._lost(status)
        return (status, *gaps, *self._tell(cause))

    def on_liquidation(self, liquidation: Liquidation) -> Iterable[object]:
        """Close what was doubtful: the connection has survived."""
        if liquidation.venue not in self._doubtful_venues:
            return (liquidation,)
        doubtful = [slot for slot in self._slots.values() if slot.is_doubtful and venue_of(slot.feed) == liquidation.venue]
        gaps = [self._close(liquidation.cause, slot) for slot in doubtful]
        self._doubtful_venues.discard(liquidation.venue)
        return (liquidation, *gaps, *self._tell(liquidation.cause))

    def snapshot(self) -> object:
        """Return the state as bytes."""
        slots = list(self._slots.values())
        return msgspec.msgpack.encode(_State(self._heard_us, slots, self._failing, self._unnamed, self._is_naming))

    def is_idle(self) -> bool:
        """Never: forgetting what is connected would hide the next loss."""
        return False

    def _notice(self, cause: Cause) -> list[Gap]:
        """Take note of the time; after a silence of the clock nobody has seen anything, but connections may have survived."""
        heard_us, self._heard_us = self._heard_us, cause.receive_time_us
        if heard_us is None or cause.receive_time_us <= heard_us + _BLIND_AFTER_US:
            return []
        return self._blind(cause, heard_us, may_survive=True)

    def _started(self, cause: Cause) -> list[Gap]:
        heard_us, self._heard_us = self._heard_us, cause.receive_time_us
        self._unnamed = {slot.feed for slot in self._slots.values() if _is_of_liquidations(slot.feed)}
        self._is_naming = False
        return [] if heard_us is None else self._blind(cause, heard_us, may_survive=False)

    def _expect(self, status: FeedStatus) -> None:
        self._is_naming = True
        self._unnamed.discard(status.feed)
        is_known = any(slot.feed == status.feed for slot in self._slots.values())
        if not is_known and self._has_room():
            awaited = _Slot(status.feed, _AWAITED, [], awaited_from_us=status.cause.receive_time_us)
            self._slots[status.feed, _AWAITED] = awaited

    def _forget_unnamed(self, cause: Cause) -> list[Gap]:
        """End the gaps of feeds that the process does not expect any more."""
        self._is_naming = False
        ended = [slot for slot in self._slots.values() if slot.feed in self._unnamed]
        self._unnamed = set()
        return [gap for slot in ended for gap in self._remove(cause, slot)]

    def _blind(self, cause: Cause, from_us: int, *, may_survive: bool) -> list[Gap]:
        """Open the gaps of every slot and return those of polls, which end now."""
        for slot in self._slots.values():
            if slot.open_gap() is None:
                _open(slot, from_us, NOT_RUNNING)
                slot.is_doubtful = _is_of_liquidations(slot.feed)
            slot.is_doubtful = slot.is_doubtful and may_survive
        self._doubtful_venues = self._find_doubtful_venues()
        return [gap for feed in list(self._failing) for gap in self._answered(cause, feed)]

    def _connected(self, status: FeedStatus) -> list[Gap]:
        slot = self._slot(status)
        if slot is None:
            return []
        if status.connection == slot.name:
            slot.labels = [slot.name]  # the first of its line: what came before it is gone
        elif status.connection not in slot.labels:
            slot.labels = [*slot.labels[-1:], status.connection]
        for other in self._slots.values():
            if other.feed == slot.feed:
                other.is_doubtful = False  # connections are being made: each will speak for itself
        self._doubtful_venues = self._find_doubtful_venues()
        return [] if slot.gap_from_us is None else [self._close(status.cause, slot)]

    def _lost(self, status: FeedStatus) -> list[Gap]:
        slot = self._slot(status)
        if slot is None:
            return []
        slot.labels = [label for label in slot.labels if label != status.connection]
        if status.reason == NO_LONGER_WANTED and len([each for each in self._slots.values() if each.feed == slot.feed]) > 1:
            return self._remove(status.cause, slot)
        if not slot.labels and slot.gap_from_us is None:
            now_us = status.cause.receive_time_us
            _open(slot, min(now_us, now_us if status.seen_until_us is None else status.seen_until_us), status.reason)
        return []

    def _failed(self, status: FeedStatus) -> None:
        if status.feed in self._failing or self._has_room():
            self._failing.setdefault(status.feed, (status.cause.receive_time_us, status.reason))
        awaited = self._slots.get((liquidations_feed(venue_of(status.feed)), _AWAITED))
        if awaited is not None and awaited.gap_from_us is None and channel_of(status.feed) == INSTRUMENTS_CHANNEL:
            _open(awaited, status.cause.receive_time_us, f"no list of contracts: {status.reason}")

    def _answered(self, cause: Cause, feed: str) -> list[Gap]:
        if feed not in self._failing:
            return []
        from_us, reason = self._failing.pop(feed)
        return [_gap(cause, feed, from_us, reason)]

    def _close(self, cause: Cause, slot: _Slot) -> Gap:
        gap = _gap(cause, slot.feed, cast("int", slot.gap_from_us), slot.reason)
        slot.gap_from_us, slot.reason, slot.is_doubtful = None, "", False
        return gap

    def _remove(self, cause: Cause, slot: _Slot) -> list[Gap]:
        """Watch a slot no longer; return its gap, if one was open."""
        del self._slots[slot.feed, slot.name]
        return [] if slot.gap_from_us is None else [self._close(cause, slot)]

    def _slot(self, status: FeedStatus) -> _Slot | None:
        """Return the slot that a connection fills; ``None`` when it is new and there is no room."""
        name = status.connection.partition("#")[0]
        key = (status.feed, name)
        slot = self._slots.get(key)
        if slot is not None:
            return slot
        awaited = self._slots.pop((status.feed, _AWAITED), None)
        if awaited is not None:  # the first connection of its feed
            awaited.name, awaited.awaited_from_us = name, None
            self._slots[key] = awaited
        elif self._has_room():
            self._slots[key] = _Slot(status.feed, name, [])
        return self._slots.get(key)

    def _has_room(self) -> bool:
        return len(self._slots) + len(self._failing) < MAX_WATCHED

    def _find_doubtful_venues(self) -> set[str]:
        return {venue_of(slot.feed) for slot in self._slots.values() if slot.is_doubtful}

    def _tell(self, cause: Cause) -> tuple[LiquidationConnections, ...]:
        """Say which liquidation feeds have an open gap, if that has changed."""
        found = self._find_open_gaps()
        if found == self._told:
            return ()
        self._told = found
        return (LiquidationConnections(cause, found),)

    def _find_open_gaps(self) -> dict[str, OpenGap | None]:
        """Return the open gap of every venue's liquidation feed; of several connections', the one that began first."""
        gaps: dict[str, OpenGap | None] = {}
        for slot in self._slots.values():
            if _is_of_liquidations(slot.feed):
                venue, gap = venue_of(slot.feed), slot.open_gap()
                known = gaps.get(venue)
                gaps[venue] = known if gap is None or (known is not None and known.from_us <= gap.from_us) else gap
        return gaps


def _open(slot: _Slot, from_us: int, reason: str) -> None:
    slot.labels, slot.gap_from_us, slot.reason = [], from_us, reason


def _gap(cause: Cause, feed: str, from_us: int, reason: str) -> Gap:
    # The end never lies before the begin, even should the clock have stepped back in between.
    to_us = max(from_us, cause.receive_time_us)
    return Gap(cause=cause, venue=venue_of(feed), feed=feed, from_time_us=from_us, to_time_us=to_us, reason=reason)


def _is_of_liquidations(feed: str) -> bool:
    return channel_of(feed) == LIQUIDATIONS_CHANNEL
