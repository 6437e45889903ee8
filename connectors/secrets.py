"""What must not be said: secrets are made known when settings are read, and blanked out of every word on its way out.

One list per process, on purpose. Whoever words a failure (a venue's refusal, a node's error, a store's) does not know which
setting its parts came from, and servers like to repeat what they were asked: the path, the key, the user.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, unquote_plus

BLANK = "…"

SHORTEST_SECRET = 6
"""Shorter values are words such as "true" or region codes, and would blank out half a sentence."""

_PART = re.compile(r"[/?&=:@#,;]+")
_WORD = re.compile(
    r"[a-z-]{1,15}|v[0-9]+"
)  # what paths are made of: mainnet, bybit-linear, v3; keys are longer or have digits
_NAMES_A_SECRET = re.compile(r"key|secret|token|password|credential|sas|signature", re.IGNORECASE)


class Secrets:
    """Texts that nobody outside may read."""

    def __init__(self) -> None:
        """Know none."""
        self._known: tuple[str, ...] = ()

    def know(self, texts: Iterable[str]) -> None:
        """Learn secrets, as they are and as a URL would spell them; those shorter than :data:`SHORTEST_SECRET` are left."""
        ways = (str, quote, unquote, unquote_plus, lambda text: quote(text, safe=""))
        spelled = {way(text) for text in texts for way in ways}
        known = {text for text in spelled if len(text) >= SHORTEST_SECRET} | set(self._known)
        self._known = tuple(sorted(known, key=lambda text: (-len(text), text)))  # the longest first: one may hold another

    def clean(self, text: str) -> str:
        """Return the text with every secret blanked out. Clean before you cut: half a secret is not found."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, BLANK)
        return text


SECRETS = Secrets()
"""Those of this process."""


def secrets_in_url(url: str) -> set[str]:
    """Return the parts of a URL that may be keys: user and password, and whatever in path or query looks like no word."""
    _scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user = authority.rpartition("@")[0]
    parts = {part for part in _PART.split(rest[len(authority) :]) if part and _WORD.fullmatch(part) is None}
    basic = base64.b64encode(unquote(user).encode()).decode()  # as the header spells it
    return parts | {part for part in [user, *user.split(":", 1), basic] if part}


def secrets_in_options(options: Iterable[tuple[str, str]]) -> set[str]:
    """Return the values whose names say that they are secrets; those of others that hold a URL with one."""
    return {
        secret
        for name, value in options
        for secret in ([value] if _NAMES_A_SECRET.search(name) else secrets_in_url(value) if "://" in value else [])
    }


def without_secrets_of_url(url: str) -> str:
    """Return a URL with its secrets blanked out, however short they are."""
    for secret in sorted(secrets_in_url(url), key=len, reverse=True):
        url = url.replace(secret, BLANK)
    return url
