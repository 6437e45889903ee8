"""Which share of the assets a process has: a pure function of an asset's name, the same on every machine and in every version.

The owner of an asset among n shards is the number that the first eight hexadecimal digits of the SHA-256 of its name (UTF-8)
spell, modulo n. With three shards BTC belongs to shard 2: ``int(hashlib.sha256(b"BTC").hexdigest()[:8], 16) % 3``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

MAX_SHARDS = 64
"""More than there are assets worth a process of their own."""

_SPELLING = re.compile(r"(0|[1-9][0-9]?)/([1-9][0-9]?)")
_DIGITS = 8  # 32 bits: the same in every language, and as even as a hash can be


class ShardError(ValueError):
    """No shard is spelt like that."""


@dataclass(frozen=True, order=True)
class Shard:
    """One of ``count`` shards, numbered from 0. Spelt ``1/3``."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read what :meth:`__str__` wrote.

        Raises:
            ShardError: Not a number, a slash and how many there are, or a number that there is not.
        """
        found = _SPELLING.fullmatch(text)
        if found is None or not int(found[1]) < int(found[2]) <= MAX_SHARDS:
            raise ShardError(f"a shard is i/n with i from 0 to n - 1 and n up to {MAX_SHARDS}, such as 0/3")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """Return its spelling."""
        return f"{self.index}/{self.count}"

    @property
    def is_whole(self) -> bool:
        """Whether it has every asset."""
        return self.count == 1

    @property
    def is_first(self) -> bool:
        """Whether what concerns no asset is its to write."""
        return self.index == 0

    def owns(self, asset: str) -> bool:
        """Say whether an asset is its own."""
        return owner_of(asset, self.count) == self.index


WHOLE = Shard(0, 1)
"""The only shard of a process that has the whole market."""


@lru_cache(maxsize=20_000)
def owner_of(asset: str, count: int) -> int:
    """Return the index of the shard, of so many, to which an asset belongs."""
    digest = hashlib.sha256(asset.encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[:_DIGITS], 16) % count
