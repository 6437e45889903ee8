"""Drop liquidations that a venue delivers twice: overlapping connections at a reconnect, a first push that repeats the past.

The law: of n equal prints in one frame all n are liquidations; of equal prints in several frames, as many are as the frame
with the most of them had. A frame is told from another by its sequence.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, cast

import msgspec

from market.parameters import Parameters
from market.raw import PositionSide, RawLiquidation
from operators.machine import Handler

_BUCKET_US = 1_000_000
"""Keys are forgotten by whole seconds of receive time: one comparison per event, instead of one time per key."""

_LONG = PositionSide.LONG  # looked up once: on 3.11 a member costs as much as the rest of the key; so does its hash

_BEFORE_ANY = -1  # stands for the sequence of a frame that is over: no frame to come has it

_Key = tuple[Any, ...]
"""(venue, symbol, event time, is long, price, contract quantity); and, from a frame's second equal print on, its number."""


class _Head(msgspec.Struct, array_like=True):
    """The small part of the state.

    Attributes:
        bucket_end_us: End of the second that is being filled.
        keys: Remembered: so many of the newest in the saved parts.
        sequence: Frame that brought the newest key.
        frame_keys: So many of the newest keys came with it.
        repeats_sequence: Frame that last showed a key already known.
        repeats: Those keys, with the number of times that this frame has shown them.
        counts: Dropped so far, by venue.
    """

    bucket_end_us: int
    keys: int
    sequence: int
    frame_keys: int
    repeats_sequence: int
    repeats: list[tuple[_Key, int]]
    counts: dict[str, int]


_HEAD = msgspec.msgpack.Decoder(_Head)
_PART = msgspec.msgpack.Decoder(list[tuple[int, list[_Key]]])


class Duplicates:
    """Pass each liquidation on once, and consume its repeats.

    A repeat is recognised for ``horizon_us`` of receive time, and up to a second longer. Bound: ``max_keys``; beyond it the
    oldest are forgotten first, and their repeats would pass. Disorder changes nothing: the key holds the venue's own time.

    The state is saved in parts, each with the keys of a second or less: a snapshot encodes only what is newer than the last.
    """

    def __init__(self, parameters: Parameters, state: object | None = None) -> None:
        """Build from a snapshot, or new."""
        self._horizon_us = parameters.duplicates.horizon_us
        self._max_keys = parameters.duplicates.max_keys
        self._seen: dict[_Key, int] = {}  # with the sequence of the frame that brought it
        self._buckets: deque[tuple[int, deque[_Key]]] = deque()  # by end of the second, oldest first
        self._append = deque[_Key]().append  # of the newest bucket
        self._bucket_end_us = 0
        self._repeats_sequence = _BEFORE_ANY
        self._repeats: dict[_Key, int] = {}
        self._dropped_keys = 0
        self._saved_keys = 0
        self._parts: deque[tuple[int, bytes]] = deque()  # number of keys, and they
        self.counts: dict[str, int] = {}
        if state is not None:
            head, parts = cast("tuple[bytes, tuple[bytes, ...]]", state)
            self._restore(_HEAD.decode(head), parts)

    def handlers(self) -> Mapping[type, Handler]:
        """Own raw liquidations."""
        return {RawLiquidation: self.on_liquidation}

    def on_liquidation(self, item: RawLiquidation) -> Iterable[object]:
        """Return the liquidation, or nothing when it was seen before."""
        cause = item.cause
        if cause.receive_time_us >= self._bucket_end_us:
            self._begin_bucket(cause.receive_time_us)
        key = (
            item.venue,
            item.symbol,
            item.event_time_us,
            item.position_side is _LONG,
            item.price,
            item.contract_quantity,
        )
        seen = self._seen
        known = len(seen)
        first_sequence = seen.setdefault(key, cause.sequence)
        if len(seen) == known:
            return self._on_known(item, key, first_sequence)
        self._append(key)
        if known >= self._max_keys:
            self._drop_oldest()
        return (item,)

    def snapshot(self) -> object:
        """Return the state in parts, of which only the newest is made now."""
        self._save_new_keys()
        newest = self._newest_keys(1)
        sequence = self._seen[newest[0][1][0]] if newest else _BEFORE_ANY
        head = _Head(
            bucket_end_us=self._bucket_end_us,
            keys=len(self._seen),
            sequence=sequence,
            frame_keys=self._keys_of_frame(sequence),
            repeats_sequence=self._repeats_sequence,
            repeats=list(self._repeats.items()),
            counts=self.counts,
        )
        return msgspec.msgpack.encode(head), tuple(part for _keys, part in self._parts)

    def is_idle(self) -> bool:
        """Never: forgetting would let repeats pass."""
        return False

    def _on_known(self, item: RawLiquidation, key: _Key, first_sequence: int) -> Iterable[object]:
        """Tell a second equal print of one frame from the same print in another frame."""
        sequence = item.cause.sequence
        if sequence != self._repeats_sequence:
            self._repeats_sequence = sequence
            self._repeats = {}
        number = self._repeats.get(key, 1 if first_sequence == sequence else 0)
        self._repeats[key] = number + 1
        numbered_key = (*key, number)
        if number and numbered_key not in self._seen:
            self._seen[numbered_key] = sequence
            self._append(numbered_key)
            if len(self._seen) > self._max_keys:
                self._drop_oldest()
            return (item,)
        self.counts[item.venue] = self.counts.get(item.venue, 0) + 1
        return ()

    def _begin_bucket(self, receive_time_us: int) -> None:
        forgotten_us = receive_time_us - self._horizon_us
        while self._buckets and self._buckets[0][0] <= forgotten_us:
            _end_us, keys = self._buckets.popleft()
            self._dropped_keys += len(keys)
            for key in keys:
                del self._seen[key]
        self._bucket_end_us = (receive_time_us // _BUCKET_US + 1) * _BUCKET_US
        self._save_new_keys()  # each second, so that the end of an epoch has little to encode
        self._open_bucket(self._bucket_end_us)

    def _open_bucket(self, end_us: int) -> None:
        keys: deque[_Key] = deque()
        self._buckets.append((end_us, keys))
        self._append = keys.append

    def _drop_oldest(self) -> None:
        while not self._buckets[0][1]:
            self._buckets.popleft()
        del self._seen[self._buckets[0][1].popleft()]
        self._dropped_keys += 1

    def _newest_keys(self, count: int) -> list[tuple[int, list[_Key]]]:
        """Return so many of the newest keys, oldest first, by bucket."""
        groups: list[tuple[int, list[_Key]]] = []
        for end_us, keys in reversed(self._buckets):
            if count <= 0:
                break
            if keys:
                group = list(islice(reversed(keys), count))
                count -= len(group)
                groups.append((end_us, group[::-1]))
        return groups[::-1]

    def _keys_of_frame(self, sequence: int) -> int:
        """Count the newest keys that this frame brought."""
        count = 0
        for _end_us, keys in reversed(self._buckets):
            for key in reversed(keys):
                if self._seen[key] != sequence:
                    return count
                count += 1
        return count

    def _save_new_keys(self) -> None:
        added_keys = self._dropped_keys + len(self._seen)
        new_keys = min(added_keys - self._saved_keys, len(self._seen))
        if new_keys:
            encoded = msgspec.msgpack.encode(self._newest_keys(new_keys))
            self._parts.append((new_keys, zlib.compress(encoded, 1)))
        self._saved_keys = added_keys
        in_parts = sum(keys for keys, _part in self._parts)
        while self._parts and in_parts - self._parts[0][0] >= len(self._seen):
            in_parts -= self._parts.popleft()[0]

    def _restore(self, head: _Head, parts: Iterable[bytes]) -> None:
        groups = []
        for part in parts:
            part_groups = _PART.decode(zlib.decompress(part))
            self._parts.append((sum(len(keys) for _end_us, keys in part_groups), part))
            groups += part_groups
        forgotten = sum(keys for keys, _part in self._parts) - head.keys
        for end_us, keys in groups:
            if not self._buckets or self._buckets[-1][0] != end_us:
                self._open_bucket(end_us)
            for key in keys[forgotten:] if forgotten > 0 else keys:
                self._seen[key] = _BEFORE_ANY
                self._append(key)
            forgotten -= len(keys)
        for _end_us, keys in self._newest_keys(head.frame_keys):
            self._seen.update(dict.fromkeys(keys, head.sequence))
        if not self._buckets or self._buckets[-1][0] != head.bucket_end_us:
            self._open_bucket(head.bucket_end_us)
        self._bucket_end_us = head.bucket_end_us
        self._repeats_sequence = head.repeats_sequence
        self._repeats = dict(head.repeats)
        self._saved_keys = head.keys
        self.counts = head.counts
