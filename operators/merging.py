"""States for somebody else: what shards that ran side by side knew becomes what the next ones begin with.

The law: merging equal states gives that state; and whatever one of them knew that another could not know is in the result.
Each shard had connections of its own, and polled for its own assets only; what all of them read alike (chain, mining) is the
first one's, because it wrote the rows.

States are in the order of the shards. They end where sequence numbers end that are never given out again, so none of them
holds a frame that goes on.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar, cast

import msgspec

from market.contracts import ContractRecord
from market.parameters import Parameters
from operators.duplicates import _BEFORE_ANY, _HEAD, _PART, Duplicates, _Head, _Key
from operators.feed_watch import _STATE as _WATCH_STATE
from operators.feed_watch import FeedWatch, _Slot
from operators.feed_watch import _State as _WatchState
from operators.heartbeats import _STATE as _HEARTBEATS_STATE
from operators.heartbeats import Heartbeats
from operators.heartbeats import _State as _HeartbeatsState
from operators.miners import Miners
from operators.normalise import _CONTRACTS, _POLLED, Normalise, Polled, _PolledState
from operators.scores import Scores
from operators.silence import Silence
from operators.stablecoins import Stablecoins

K = TypeVar("K")
V = TypeVar("V")


def merged(machines: Sequence[str], shards: Sequence[Sequence[object]], parameters: Parameters) -> tuple[object, ...]:
    """Return the states with which each of the next shards begins.

    Args:
        machines: Class names, in the order of a chain's states. Each needs a rule below.
        shards: Every shard's states of that chain; at least one shard.
        parameters: For the bounds.
    """
    by_machine = zip(machines, zip(*shards, strict=True), strict=True)
    return tuple(_RULES[machine](states, parameters) for machine, states in by_machine)


def renamed(
    machines: Sequence[str], states: Sequence[object], parameters: Parameters, *, partition: str
) -> tuple[object, ...]:
    """Return an asset's states as those of a flow whose only feed partition is called ``partition``.

    Args:
        machines: Class names, in the order of the states.
        states: Of a flow that had one feed partition too.
        parameters: Of the machines.
        partition: What it is called from now on.
    """
    by_machine = zip(machines, states, strict=True)
    return tuple(
        _scores(state, parameters, partition) if machine == Scores.__name__ else state for machine, state in by_machine
    )


def _scores(state: object, parameters: Parameters, partition: str) -> object:
    """Remember under the new name what can be seen: the old one would not be heard of again, and be believed for ever."""
    scores = Scores(parameters, state)
    known = scores._known  # noqa: SLF001 - as everything here, it knows what a machine saves
    if known.feeds:
        known.feeds = {partition: next(iter(known.feeds.values()))}
    return scores.snapshot()


def _duplicates(states: Sequence[object], parameters: Parameters) -> object:
    """Remember every liquidation that any shard has seen, the newest of them where there are too many."""
    counts: dict[str, int] = {}
    by_second: dict[int, dict[_Key, None]] = {}
    bucket_end_us = 0
    for state in states:
        head_bytes, parts = cast("tuple[bytes, tuple[bytes, ...]]", state)
        head = _HEAD.decode(head_bytes)
        bucket_end_us = max(bucket_end_us, head.bucket_end_us)
        counts = _newest(counts, head.counts, key=int)
        groups = list(chain.from_iterable(_PART.decode(zlib.decompress(part)) for part in parts))
        forgotten = sum(len(keys) for _end_us, keys in groups) - head.keys
        for end_us, keys in groups:
            by_second.setdefault(end_us, {}).update(dict.fromkeys(keys[max(0, forgotten) :]))
            forgotten -= len(keys)
    return _encoded_duplicates(by_second, bucket_end_us, counts, parameters.duplicates.max_keys)


def _encoded_duplicates(
    by_second: Mapping[int, Mapping[_Key, None]], bucket_end_us: int, counts: dict[str, int], max_keys: int
) -> object:
    seen: dict[_Key, int] = {}
    for end_us in sorted(by_second):
        for key in by_second[end_us]:
            seen.setdefault(key, end_us)  # shards may have met it in neighbouring seconds: the earlier one counts
    kept = list(seen.items())[-max_keys:]
    groups: list[tuple[int, list[_Key]]] = []
    for key, end_us in kept:
        if not groups or groups[-1][0] != end_us:
            groups.append((end_us, []))
        groups[-1][1].append(key)
    head = _Head(bucket_end_us, len(kept), _BEFORE_ANY, 0, _BEFORE_ANY, [], counts)
    return msgspec.msgpack.encode(head), ((zlib.compress(msgspec.msgpack.encode(groups), 1),) if groups else ())


def _normalise(states: Sequence[object], _parameters: Parameters) -> object:
    """Know every contract, and what any shard last heard of it."""
    contracts: dict[tuple[str, ...], ContractRecord] = {}
    merged_polled = _PolledState([], {}, {})
    polled: dict[tuple[str, str], Polled] = {}
    for state in states:
        contract_bytes, polled_bytes = cast("tuple[bytes, bytes]", state)
        for record in _CONTRACTS.decode(zlib.decompress(contract_bytes)):
            contracts.setdefault(record[:2], record)
        heard = _POLLED.decode(polled_bytes)
        for venue, symbol, of in heard.polled:
            polled[venue, symbol] = _newer(polled.get((venue, symbol)), of)
        merged_polled.coin_marks = _newest(merged_polled.coin_marks, heard.coin_marks, key=lambda mark: mark[1])
        merged_polled.clock_skew_counts = _newest(merged_polled.clock_skew_counts, heard.clock_skew_counts, key=int)
    merged_polled.polled = [(venue, symbol, of) for (venue, symbol), of in polled.items()]
    contract_bytes = zlib.compress(msgspec.msgpack.encode(list(contracts.values())), 1)
    return contract_bytes, msgspec.msgpack.encode(merged_polled)


def _newer(known: Polled | None, other: Polled) -> Polled:
    """Return the polled values with the newer mark; the funding interval of either, where that one has none."""
    if known is None:
        return other
    newer, older = (other, known) if other.mark_time_us > known.mark_time_us else (known, other)
    interval_hours = newer.funding_interval_hours
    return msgspec.structs.replace(
        newer, funding_interval_hours=older.funding_interval_hours if interval_hours is None else interval_hours
    )


def _feed_watch(states: Sequence[object], _parameters: Parameters) -> object:
    """Be blind since the first of the shards was: what any of them did not see is seen by nobody any more."""
    watches = [_WATCH_STATE.decode(cast("bytes", state)) for state in states]
    heard_us = _earliest(watch.heard_us for watch in watches)
    slots: dict[tuple[str, str], _Slot] = {}
    failing: dict[str, tuple[int, str]] = {}
    for watch in watches:
        for slot in watch.slots:
            key = (slot.feed, slot.name)
            slots[key] = _blinder(slots.get(key), slot, heard_us)
        for feed, trouble in watch.failing.items():
            failing[feed] = min(failing.get(feed, trouble), trouble)
    unnamed = set().union(*(watch.unnamed for watch in watches))
    merged_watch: _WatchState = msgspec.structs.replace(
        watches[0], heard_us=heard_us, slots=list(slots.values()), failing=failing, unnamed=unnamed
    )
    return msgspec.msgpack.encode(merged_watch)


def _blinder(known: _Slot | None, slot: _Slot, heard_us: int | None) -> _Slot:
    """Return the slot whose gap begins first; where only one of them has a gap, nobody has seen it for as long as anybody."""
    if known is None or known == slot:
        return slot
    gaps = [each for each in (known, slot) if each.gap_from_us is not None]
    if not gaps:
        return known
    first = min(gaps, key=lambda each: cast("int", each.gap_from_us))
    if len(gaps) == 1 and heard_us is not None and heard_us < cast("int", first.gap_from_us):
        return msgspec.structs.replace(first, gap_from_us=heard_us)
    return first


def _heartbeats(states: Sequence[object], _parameters: Parameters) -> object:
    """Keep every asset awake that any shard kept awake."""
    beats = [_HEARTBEATS_STATE.decode(cast("bytes", state)) for state in states]
    active: dict[str, int] = {}
    for beat in beats:
        active = _newest(active, beat.active, key=int)
    pressures = [beat.pressure for beat in beats if beat.pressure is not None]
    days = [beat.miners for beat in beats if beat.miners is not None]
    merged_beats: _HeartbeatsState = msgspec.structs.replace(
        beats[0],
        active=active,
        pressure=max(pressures, key=lambda each: each.cause.receive_time_us, default=None),
        miners=max(days, key=lambda each: (each.day, each.cause.receive_time_us), default=None),
    )
    return msgspec.msgpack.encode(merged_beats)


def _newest(known: Mapping[K, V], other: Mapping[K, V], *, key: Callable[[V], int]) -> dict[K, V]:
    """Return the union; of two values the one that ``key`` puts higher."""
    result = dict(known)
    for name, value in other.items():
        if name not in result or key(value) > key(result[name]):
            result[name] = value
    return result


def _earliest(times_us: Iterable[int | None]) -> int | None:
    return min((time_us for time_us in times_us if time_us is not None), default=None)


def _first(states: Sequence[object], _parameters: Parameters) -> object:
    """Know what the first shard knew: it read the same as the others, and wrote the rows of it."""
    return states[0]


_RULES: Mapping[str, Callable[[Sequence[object], Parameters], object]] = {
    Duplicates.__name__: _duplicates,
    Normalise.__name__: _normalise,
    Stablecoins.__name__: _first,
    Miners.__name__: _first,
    FeedWatch.__name__: _feed_watch,
    Silence.__name__: _first,  # each shard's own ears, and as good as any other's
    Heartbeats.__name__: _heartbeats,
}
