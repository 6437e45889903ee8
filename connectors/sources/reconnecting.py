"""When connections are opened again, and what to make of a refusal: data and arithmetic, no clock and no chance inside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from connectors.secrets import SECRETS

MAX_RETRY_AFTER_SECONDS = 3 * 86_400.0
"""The longest ban that Binance's REST documentation names; a longer demand is cut to it."""

BLOCKED_CODES = frozenset({401, 403, 451})
"""HTTP codes that a quick retry does not heal: from here, or as who we are, the venue does not serve us."""

BUSY_CODES = frozenset({418, 429, 503})
"""HTTP codes with which venues say "later", and with Retry-After how much later. Binance bans with 418."""

MAX_EXCERPT_CHARACTERS = 200
"""Enough of an answer to tell a venue's own words from a proxy's page."""


@dataclass(frozen=True)
class ReconnectPolicy:
    """How a transport opens, watches and reopens what it reads. The defaults suit every venue in the reference.

    Attributes:
        first_delay_seconds: No retry comes sooner: at one a second a connection stays under 300 per 5 minutes.
        max_delay_seconds: The waits double until they may be so long.
        blocked_delay_seconds: Wait after a code of ``BLOCKED_CODES``.
        stable_after_seconds: A connection that lived so long starts the waits afresh.
        open_timeout_seconds: For address look-up, TCP, TLS and handshake together.
        close_timeout_seconds: For the closing handshake; then the socket is cut.
        ping_every_seconds: Protocol pings; their pongs tell a quiet connection from a dead one.
        replace_share: The successor opens after this share of the lifetime, or up to ``replace_spread`` earlier.
        replace_spread: Spreads the successors of connections opened at the same moment, as a share of the lifetime.
        overlap_seconds: Both connections are read for so long, since no venue says when a subscription takes effect.
    """

    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    blocked_delay_seconds: float = 300.0
    stable_after_seconds: float = 60.0
    open_timeout_seconds: float = 10.0
    close_timeout_seconds: float = 1.0
    ping_every_seconds: float = 20.0
    replace_share: float = 0.95
    replace_spread: float = 0.05
    overlap_seconds: float = 5.0

    def replace_after_seconds(self, lifetime_seconds: float, *, jitter: float) -> float:
        """Return the age at which a connection's successor is opened; ``jitter`` in [0, 1) makes it earlier."""
        return lifetime_seconds * (self.replace_share - self.replace_spread * jitter)


def retry_after_seconds(header: str | None, *, now_us: int) -> float | None:
    """Read a Retry-After header (RFC 9110 §10.2.3: seconds, or an HTTP date).

    Returns:
        Seconds from ``now_us`` (microseconds since the epoch), 0 to ``MAX_RETRY_AFTER_SECONDS``; None without a header or
        with one that is neither form.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError, IndexError):  # which one depends on how wrong the text is
        return None
    if date.tzinfo is None:  # "-0000": UTC of unstated origin
        date = date.replace(tzinfo=timezone.utc)
    return min(max(date.timestamp() - now_us / 1_000_000, 0.0), MAX_RETRY_AFTER_SECONDS)


def refusal_words(code: int, phrase: str, body: bytes) -> str:
    """Return one line for people: the HTTP code and phrase, a hint where the code gives one, the beginning of the answer."""
    text = SECRETS.clean(body.decode(errors="replace"))  # before it is cut: servers repeat what they were asked
    excerpt = " ".join(text[: 4 * MAX_EXCERPT_CHARACTERS].split())[:MAX_EXCERPT_CHARACTERS]
    hint = " (blocked here?)" if code in BLOCKED_CODES else ""
    return f"HTTP {code} {SECRETS.clean(phrase)}".rstrip() + hint + (f": {excerpt}" if excerpt else "")
