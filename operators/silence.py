"""Which connected feeds are silent, and what of the venues' liquidations can be seen at all. Wants sequence order.

The law: a feed is silent when it is connected, has brought no liquidation for longer than its own usual quiet, and at least
two other venues have brought some in that time. Its connection's pongs are fresh, for a transport ends one whose pongs fail.
Once silent, only a liquidation of its own shows that it is alive: a new connection to the same deaf endpoint does not.

Usual quiet is the longest quiet that the feed came back from, of which half is forgotten in a week; twice that is allowed. A
maximum, since liquidations come in bursts: of 20,000 gaps in a bad hour nearly all are milliseconds, and hardly a quantile of
them would not call the calm after it silence. A quiet that was called silence teaches no more than what was allowed, and so
doubles that: what was only quiet is soon believed, and hours of silence do not hide the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from market.events import Gap, Liquidation
from market.feeds import FeedSight, LiquidationConnections, LiquidationFeeds, OpenGap, Sight, liquidations_feed
from market.parameters import Parameters
from market.raw import Cause, Tick
from operators.machine import Handler

MAX_VENUES = 100
"""Venues watched; further ones pass unwatched. The venue reference names some twenty."""

OTHER_VENUES = 2
"""So many others must bring liquidations before a feed's quiet is its own, and not the market's."""

VIEW_US = 300_000_000
"""The longest look-back over liquidations that a component of a score is made of (scores §1): so long a gap stays in view."""

_SECOND_US = 1_000_000  # venues are judged so often, and shorter quiet teaches nothing
_MINUTE_US = 60_000_000  # a usual quiet that changes a little is told so often at most
_ALLOWED = 2  # times the usual quiet


class _Feed(msgspec.Struct, array_like=True):
    """One venue's liquidation feed.

    Attributes:
        gap: Of its connections, while one is away.
        since_us: When it was last connected.
        heard_us: Newest liquidation; 0 before the first.
        events: Liquidations so far.
        counted: Of these, those that are in the total.
        watched_us: From the first to the last liquidation of every time that it was connected, but for the present one.
        longest_us: The quiet that taught most, when it was learnt.
        longest_at_us: When that was.
        total_at: Liquidations of all venues in the second of its newest, or when it was connected.
        suspicion: What was seen when it fell silent; empty once it was heard again.
        silent: The silence that goes on.
        unseen_until_us: End of the last gap or silence.
    """

    venue: str
    gap: OpenGap | None
    since_us: int
    heard_us: int = 0
    events: int = 0
    counted: int = 0
    watched_us: int = 0
    longest_us: int = 0
    longest_at_us: int = 0
    total_at: int = 0
    suspicion: str = ""
    silent: OpenGap | None = None
    unseen_until_us: int | None = None

    def sight(self) -> FeedSight:
        """Return what it shows."""
        if self.gap is not None:
            return FeedSight(Sight.BLIND, self.gap.from_us, self.gap.reason)
        if self.silent is not None:
            return FeedSight(Sight.SILENT, self.silent.from_us, self.silent.reason)
        return FeedSight(Sight.SEEING, self.since_us, "")


class _State(msgspec.Struct, array_like=True):
    """All that is saved. ``total``: liquidations of all venues. ``told``: what was said last."""

    feeds: list[_Feed] = msgspec.field(default_factory=list)
    total: int = 0
    judged_us: int = 0
    told: LiquidationFeeds | None = None


_STATE = msgspec.msgpack.Decoder(_State)


class Silence:
    """Tell silent feeds from quiet ones; say what can be seen of liquidations. Everything passes but what connections say.

    A silence is seen at a tick, and begins with the feed's last liquidation, or with its connection. It ends with its next
    liquidation, or where a gap of its connections begins: then there is one row of ``gaps``. Meanwhile, and whenever anything
    else changes, :class:`LiquidationFeeds` tells of it: before the tick that showed it, so that the tick's scores know.

    Before a feed's usual quiet is known it is silent only after ``learn_us``, when the others have brought
    ``min_other_events``: an endpoint that was deaf from the first moment on is found, a venue with few liquidations is not
    suspected. With fewer than two other venues in sight nothing can be told, and nothing is.

    A feed that nobody expected or connected is not watched: recorded rows come without connections.
    Bound: ``MAX_VENUES``.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        saved = _State() if state is None else _STATE.decode(cast("bytes", state))
        self._parameters = parameters.silence
        self._feeds = {feed.venue: feed for feed in saved.feeds}
        self._total = saved.total
        self._judged_us = saved.judged_us
        self._told = saved.told

    def handlers(self) -> Mapping[type, Handler]:
        """Own what connections say, liquidations and ticks."""
        return {LiquidationConnections: self.on_connections, Liquidation: self.on_liquidation, Tick: self.on_tick}

    def on_connections(self, connections: LiquidationConnections) -> Iterable[object]:
        """Take over which feeds have an open gap; return what became of silences, and what can be seen now."""
        cause = connections.cause
        self._count()
        outputs: list[object] = []
        for venue in sorted(self._feeds.keys() - connections.gaps.keys()):
            outputs += self._end_silence(cause, self._feeds.pop(venue), cause.receive_time_us)
        for venue, gap in connections.gaps.items():
            if venue not in self._feeds and len(self._feeds) < MAX_VENUES:
                self._feeds[venue] = _Feed(venue, OpenGap(cause.receive_time_us, "", is_first=True), cause.receive_time_us)
            if venue in self._feeds:
                outputs += self._connected(cause, self._feeds[venue], gap)
        return (*outputs, *self._tell(cause))

    def on_liquidation(self, liquidation: Liquidation) -> Iterable[object]:
        """Note that the feed is alive; learn from the quiet before."""
        feed = self._feeds.get(liquidation.venue)
        if feed is None:
            return (liquidation,)
        now_us, heard_us = liquidation.cause.receive_time_us, feed.heard_us
        feed.heard_us = now_us
        feed.events += 1
        if now_us <= heard_us + _SECOND_US:  # nothing that was heard so lately is silent
            return (liquidation,)
        return (liquidation, *self._heard(liquidation.cause, feed, now_us - max(heard_us, feed.since_us)))

    def on_tick(self, tick: Tick) -> Iterable[object]:
        """Once a second, look who is silent."""
        cause = tick.cause
        if not self._feeds or cause.receive_time_us < self._judged_us + _SECOND_US:
            return (tick,)
        self._judged_us = cause.receive_time_us // _SECOND_US * _SECOND_US
        self._count()
        for feed in self._feeds.values():
            if feed.gap is None and feed.silent is None:
                self._judge(feed, cause.receive_time_us)
        return (*self._tell(cause), tick)

    def snapshot(self) -> object:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(_State(list(self._feeds.values()), self._total, self._judged_us, self._told))

    def is_idle(self) -> bool:
        """Never: what is usual takes days to learn."""
        return False

    def _count(self) -> None:
        """Bring the total up to date."""
        self._total += sum(feed.events - feed.counted for feed in self._feeds.values())
        for feed in self._feeds.values():
            if feed.counted < feed.events:
                feed.counted, feed.total_at = feed.events, self._total

    def _connected(self, cause: Cause, feed: _Feed, gap: OpenGap | None) -> list[Gap]:
        """Take over a feed's open gap; what was silent before it is suspected after it."""
        before, feed.gap = feed.gap, gap
        now_us = cause.receive_time_us
        if before is None and gap is not None:
            feed.watched_us += max(0, feed.heard_us - feed.since_us)
            return self._end_silence(cause, feed, gap.from_us)
        if before is not None and gap is None:
            feed.since_us = now_us
            feed.total_at = self._total
            if not before.is_first:
                feed.unseen_until_us = now_us
            if feed.suspicion:
                feed.silent = OpenGap(now_us, feed.suspicion)
        return []

    def _heard(self, cause: Cause, feed: _Feed, quiet_us: int) -> Iterable[object]:
        """Learn from a quiet that is over, and end the silence, if it was one."""
        if feed.gap is None:
            self._learn(feed, quiet_us, cause.receive_time_us)
        feed.suspicion = ""
        ended = self._end_silence(cause, feed, cause.receive_time_us)
        return (*ended, *self._tell(cause)) if ended else ()

    def _end_silence(self, cause: Cause, feed: _Feed, to_us: int) -> list[Gap]:
        if feed.silent is None:
            return []
        (from_us, reason), feed.silent = (feed.silent.from_us, feed.silent.reason), None
        feed.unseen_until_us = to_us = max(from_us, to_us)
        return [Gap(cause, feed.venue, liquidations_feed(feed.venue), from_us, to_us, reason)]

    def _learn(self, feed: _Feed, quiet_us: int, now_us: int) -> None:
        taught_us = min(quiet_us, self._silent_after_us(feed, now_us))
        if taught_us >= self._usual_us(feed, now_us):
            feed.longest_us, feed.longest_at_us = taught_us, now_us

    def _judge(self, feed: _Feed, now_us: int) -> None:
        from_us = max(feed.heard_us, feed.since_us)
        quiet_us, is_known = now_us - from_us, self._is_known(feed)
        if quiet_us <= self._silent_after_us(feed, now_us):
            return
        others = sum(other.heard_us > from_us for other in self._feeds.values())  # its own newest is not after itself
        brought = max(others, self._total - feed.total_at)
        if others >= OTHER_VENUES and (is_known or brought >= self._parameters.min_other_events):
            usual = f"at most {self._usual_us(feed, now_us) / 1e6:.0f} s" if is_known else "not known yet"
            feed.suspicion = (
                f"silent: connected, and no liquidation in {quiet_us / 1e6:.0f} s, while {others} other venues had {brought}; "
                f"usual quiet: {usual}"
            )
            feed.silent = OpenGap(from_us, feed.suspicion)

    def _is_known(self, feed: _Feed) -> bool:
        """Say whether the feed, which is connected, has been heard often and long enough to know its usual quiet."""
        watched_us = feed.watched_us + max(0, feed.heard_us - feed.since_us)
        return feed.events >= self._parameters.min_events and watched_us >= self._parameters.learn_us

    def _silent_after_us(self, feed: _Feed, now_us: int) -> int:
        """Return the quiet after which a feed is silent, if others are not."""
        least_us = max(self._parameters.min_quiet_us, _SECOND_US)
        if not self._is_known(feed):
            least_us = max(least_us, self._parameters.learn_us)
        return max(least_us, _ALLOWED * self._usual_us(feed, now_us))

    def _usual_us(self, feed: _Feed, now_us: int) -> int:
        return faded(feed.longest_us, now_us - feed.longest_at_us, half_life_us=self._parameters.half_life_us)

    def _tell(self, cause: Cause) -> tuple[LiquidationFeeds, ...]:
        """Say what can be seen, if that has changed since it was last said."""
        now_us, told = cause.receive_time_us, self._told
        in_order = [self._feeds[venue] for venue in sorted(self._feeds)]
        sights = {feed.venue: feed.sight() for feed in in_order}
        missing = tuple(
            feed.venue
            for feed in in_order
            if sights[feed.venue].sight is not Sight.SEEING
            or (feed.unseen_until_us is not None and now_us < feed.unseen_until_us + VIEW_US)
        )
        is_old = told is None or told.sights != sights or told.missing != missing
        if not is_old and told is not None and now_us < told.cause.receive_time_us + _MINUTE_US:
            return ()
        silent_after_us = self._silences_us(in_order, now_us)
        if not is_old and told is not None and told.silent_after_us == silent_after_us:
            return ()
        self._told = LiquidationFeeds(cause, sights, missing, silent_after_us)
        return (self._told,)

    def _silences_us(self, feeds: list[_Feed], now_us: int) -> dict[str, int]:
        """Return after what quiet each feed is silent, in whole seconds, rounded up, where that can be told."""
        seeing = {feed.venue for feed in feeds if feed.sight().sight is Sight.SEEING}
        return {
            feed.venue: -(-self._silent_after_us(feed, now_us) // _SECOND_US) * _SECOND_US
            for feed in feeds
            if feed.gap is None and len(seeing - {feed.venue}) >= OTHER_VENUES
        }


def faded(value: int, age_us: int, *, half_life_us: int) -> int:
    """Return what is left of a value after so long: half of it after each half-life, evenly less in between.

    In whole numbers: an exponential would differ in its last digit from machine to machine, and tables with it.
    """
    halvings, rest_us = divmod(max(0, age_us), half_life_us)
    return (value >> halvings) * (2 * half_life_us - rest_us) // (2 * half_life_us)
