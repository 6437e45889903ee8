"""Frames made wrong: a fixture with some of its parts dropped, doubled, swapped, or replaced by what nobody expects there.

Most edits keep the JSON well-formed, since a frame that is no JSON at all ends at the first line of every parser. What brought
an answer never seen before is kept and changed further, so the mutator finds its way without looking into the code.
"""

from __future__ import annotations

import gzip
import random
import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

MAX_KEPT = 2_000
MAX_KEPT_BYTES = 20_000
"""Of a frame that is changed further: longer ones only cost time."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.0-9A-Za-z_]+|[\[\]{}:,]|\s+|.', re.DOTALL)

# Numbers at which something ends: types, dates, digits that a float holds, the limits that the parsers themselves set.
_NUMBERS = (
    *(
        "0",
        "-0",
        "1",
        "-1",
        "0.5",
        "1e18",
        "1e-18",
        "1e19",
        "1e-19",
        "999999999999999999",
        "1e308",
        "1e309",
        "1e-400",
        "1e999",
    ),
    *("2147483648", "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
    *("253402300799", "253402300800", "253402300799999", "253402300800000", "-62135596801", "99999999999999", "1e400"),
    *("0x", "0x0", "0x10", "0X1F", "0xffffffffffffffff", "00", "01", "1.", ".1", "1.e1", "1e", "+1", " 1", "1 ", "1_0", "1,0"),
    *(
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "True",
        "١٢٣",
        "１",
        "½",
        "²",
        "1" * 65,
        "9" * 400,
        "0." + "0" * 400 + "1",
    ),
)
_TEXTS = (
    *('""', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u202e"', '"\\n"', '"a/b"', '"#"', '"/"', '"."', '"-"', '"é"'),
    *('"BTC"', '"USDT"', '"USD"', '"1000000PEPE"', '"' + "1" + "0" * 30 + 'X"', '"1' + "0" * 5_000 + 'X"', '"1MBABY"'),
    *('"' + "x" * 300 + '"', '"' + "x" * 70_000 + '"', '"LONG"', '"SELL"', '"Buy"', '"linear"', '"SWAP"', '"PERPETUAL"'),
    *('"2024-02-30"', '"0000-01-01"', '"9999-12-31T23:59:59.999999999Z"', '"0001-01-01T00:00:00+23:59"', '"' + "٣" * 8 + '"'),
)
_VALUES = (
    *("null", "true", "false", "{}", "[]", "[[]]", "[null]", '{"":null}', '[""]', "[0]", '[["1","1"]]', '{"0":0}'),
    *("[" * 50 + "]" * 50, "[" * 5_000, '{"a":' * 2_000, "[" + "0," * 3_000 + "0]", "nul", "undefined", "'x'", "{", "]", ""),
)

_EDITS = (1, 1, 1, 1, 2, 2, 3, 6)
"""Per frame. With many of them no parser gets far."""

_UNDERSTOOD_SHARE = 0.75

_Edit = Callable[["_Parts", int, int], list[str]]


class _Parts:
    """A frame as tokens, and where its values and the keys before them are."""

    def __init__(self, text: str) -> None:
        is_json = text.startswith(("{", "["))  # elsewhere lines have a meaning
        self.tokens = [token for token in _TOKEN.findall(text) if not (is_json and token.isspace())]
        self.values: list[tuple[int, int]] = []
        opened: list[int] = []
        for place, token in enumerate(self.tokens):
            if token in {"{", "["}:
                opened.append(place)
            elif token in {"}", "]"}:
                if opened:
                    self.values.append((opened.pop(), place + 1))
            elif token not in {",", ":"} and not token.isspace() and self.tokens[place + 1 : place + 2] != [":"]:
                self.values.append((place, place + 1))

    def item(self, start: int) -> int:
        """Return where the member or element begins that has its value at ``start``."""
        return start - 2 if start >= 2 and self.tokens[start - 1] == ":" else start  # noqa: PLR2004 - key and colon


class Mutator:
    """Makes wrong frames from right ones. The same seeds and the same chance make the same frames."""

    def __init__(self, understood: Sequence[bytes], refused: Sequence[bytes], chance: random.Random) -> None:
        """Begin with these frames; there must be one at least that is understood."""
        self._chance = chance
        self._understood = [self._parsed(frame) for frame in understood]
        self._refused = [self._parsed(frame) for frame in refused] or self._understood
        self._edits: list[_Edit] = [
            *(self._hostile, self._hostile, self._hostile, self._tweaked, self._tweaked, self._tweaked),
            *(self._foreign, self._dropped, self._repeated, self._wrapped, self._requoted, self._renamed),
        ]

    def keep(self, frame: bytes, *, is_understood: bool) -> None:
        """Change this frame further, too; beyond a bound it takes another's place."""
        if len(frame) > MAX_KEPT_BYTES:
            return
        kept = self._understood if is_understood else self._refused
        if len(kept) < MAX_KEPT:
            kept.append(self._parsed(frame))
        else:
            kept[self._chance.randrange(MAX_KEPT)] = self._parsed(frame)

    def frame(self) -> bytes:
        """Return a wrong frame, or once in a while a right one."""
        parts = self._some_parts()
        return self.changed(parts) if isinstance(parts, _Parts) else self._bytes_changed(parts)

    def _some_parts(self) -> _Parts | bytes:
        return self._chance.choice(self._understood if self._chance.random() < _UNDERSTOOD_SHARE else self._refused)

    def mutated(self, frame: bytes, seed: int | None = None) -> bytes:
        """Return this very frame with something wrong in it; with a ``seed``, the same each time."""
        if seed is not None:
            self._chance.seed(seed)
        parts = self._parsed(frame)
        return self.changed(parts) if isinstance(parts, _Parts) else self._bytes_changed(parts)

    def changed(self, parts: _Parts) -> bytes:
        """Return the frame after a few edits, from its end to its beginning so that places stay true."""
        chance = self._chance
        tokens = list(parts.tokens)
        places = chance.choices(parts.values, k=chance.choice(_EDITS))
        untouched = len(tokens)
        for start, end in sorted(set(places), reverse=True):
            if end <= untouched:
                item = parts.item(start)
                tokens[item:end] = chance.choice(self._edits)(parts, start, end)
                untouched = item
        frame = "".join(tokens).encode("utf-8", "surrogatepass")
        return self._bytes_changed(frame) if chance.random() < 0.15 else frame  # noqa: PLR2004 - most stay JSON

    @staticmethod
    @lru_cache(maxsize=MAX_KEPT)
    def _parsed(frame: bytes) -> _Parts | bytes:
        try:
            parts = _Parts(frame.decode())
        except UnicodeDecodeError:
            return frame
        return parts if parts.values else frame

    # Edits: each returns what stands instead of the member or element whose value is tokens[start:end].

    @staticmethod
    def _key(parts: _Parts, start: int) -> list[str]:
        return parts.tokens[parts.item(start) : start]

    def _hostile(self, parts: _Parts, start: int, end: int) -> list[str]:
        del end
        kind = self._chance.random()
        if kind < 0.6:  # noqa: PLR2004 - numbers do the most harm
            number = self._chance.choice(_NUMBERS)
            is_text = parts.tokens[start].startswith('"') != (self._chance.random() < 0.1)  # noqa: PLR2004 - as it was, mostly
            return [*self._key(parts, start), f'"{number}"' if is_text else number]
        return [*self._key(parts, start), self._chance.choice(_TEXTS if kind < 0.85 else _VALUES)]  # noqa: PLR2004 - the same

    def _tweaked(self, parts: _Parts, start: int, end: int) -> list[str]:
        """Change a character or two of a scalar; of a list or an object, put something at its front."""
        if end - start > 1:
            return [*self._key(parts, start), parts.tokens[start], *self._some_value(), ",", *parts.tokens[start + 1 : end]]
        text = parts.tokens[start]
        quote = '"' if text.startswith('"') else ""
        inner = text.strip('"')
        place = self._chance.randrange(len(inner) + 1)
        inserted = self._chance.choice(["", "-", ".", "0", "9", "e", "E-", "000", " ", "x", "%", "\\", "٣", inner])
        removed = self._chance.choice([0, 0, 1, 2])
        return [*self._key(parts, start), quote + inner[:place] + inserted + inner[place + removed :] + quote]

    def _some_value(self) -> list[str]:
        other = self._some_parts()
        if isinstance(other, bytes):
            return ["0"]
        start, end = self._chance.choice(other.values)
        return other.tokens[start:end]

    def _foreign(self, parts: _Parts, start: int, end: int) -> list[str]:
        del end
        return [*self._key(parts, start), *self._some_value()]

    def _dropped(self, parts: _Parts, start: int, end: int) -> list[str]:
        """Leave it out; of a neighbour's comma two or none may stay, which is no JSON, so put in a harmless one instead."""
        del end
        return ['"_":0'] if self._key(parts, start) else ["null"]

    def _repeated(self, parts: _Parts, start: int, end: int) -> list[str]:
        item = parts.tokens[parts.item(start) : end]
        times = self._chance.choice([1, 1, 2, 40] if len(item) < 200 else [1])  # noqa: PLR2004 - frames stay short
        return item + ([",", *item] * times)

    def _wrapped(self, parts: _Parts, start: int, end: int) -> list[str]:
        left, right = self._chance.choice([("[", "]"), ('{"a":', "}"), ("[[", "]]")])
        return [*self._key(parts, start), left, *parts.tokens[start:end], right]

    def _requoted(self, parts: _Parts, start: int, end: int) -> list[str]:
        """Make a number of a text, a text of a number."""
        text = "".join(parts.tokens[start:end])
        return [*self._key(parts, start), text.strip('"') if text.startswith('"') else f'"{text}"']

    def _renamed(self, parts: _Parts, start: int, end: int) -> list[str]:
        key = self._key(parts, start)
        name = self._chance.choice(['""', '"\\u0000"', '"s"', '"S"', '"data"', '"list"', '"code"', '"msg"', '"1"', '"99e9"'])
        return [name, ":", *parts.tokens[start:end]] if key else parts.tokens[start:end]

    def _bytes_changed(self, frame: bytes) -> bytes:
        """Return the frame cut, doubled, flipped, compressed or in another encoding."""
        chance = self._chance
        place = chance.randrange(len(frame) + 1)
        end = min(len(frame), place + int(chance.expovariate(0.1)))
        return chance.choice(_BYTE_EDITS)(frame, place, end, chance)


_ByteEdit = Callable[[bytes, int, int, random.Random], bytes]


def _cut_off(frame: bytes, place: int, _end: int, _chance: random.Random) -> bytes:
    return frame[:place]


def _cut_out(frame: bytes, place: int, end: int, _chance: random.Random) -> bytes:
    return frame[:place] + frame[end:]


def _with_noise(frame: bytes, place: int, _end: int, chance: random.Random) -> bytes:
    return frame[:place] + chance.randbytes(1 + chance.randrange(4)) + frame[place:]


def _stuttering(frame: bytes, place: int, end: int, chance: random.Random) -> bytes:
    return frame[:place] + frame[place:end] * chance.choice([2, 3, 500]) + frame[end:]


def _packed(frame: bytes, _place: int, _end: int, chance: random.Random) -> bytes:
    """Compress it as nobody announced, now and then without its end."""
    packed = chance.choice([gzip.compress(frame), zlib.compress(frame), zlib.compress(frame)[2:-4]])
    return packed[: len(packed) - chance.choice([0, 0, 3])]


def _encoded(frame: bytes, _place: int, _end: int, chance: random.Random) -> bytes:
    return frame.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-32-le", "utf-8-sig"]))


def _followed(frame: bytes, _place: int, _end: int, chance: random.Random) -> bytes:
    return frame + chance.choice([b"\x00", b"\n" + frame, b" ", b"}", b",", frame])


def _flipped(frame: bytes, _place: int, _end: int, chance: random.Random) -> bytes:
    flipped = bytearray(frame)
    for _ in range(chance.choice([1, 2, 8]) if frame else 0):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


_BYTE_EDITS: tuple[_ByteEdit, ...] = (
    *(_cut_off, _cut_out, _cut_out, _with_noise, _stuttering, _packed, _encoded, _followed, _flipped, _flipped),
)
