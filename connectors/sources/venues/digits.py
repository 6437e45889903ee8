"""Exact arithmetic on decimal text.

Prices and quantities stay a venue's text until :mod:`market.contracts` reads them. Here and there, though, a venue states our
term as a product or a quotient of two of its own; integers do that without rounding where no rounding is due.
"""

from __future__ import annotations

import re

from connectors.sources.frame import MalformedFrameError

_PLAIN = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))?", re.ASCII)  # longer than any number that a venue has shown


def product(left: str, right: str) -> str:
    """Return ``left × right``, exactly.

    Raises:
        MalformedFrameError: One of them is not a plain, unsigned decimal.
    """
    left_digits, left_places = _split(left)
    right_digits, right_places = _split(right)
    return _join(left_digits * right_digits, left_places + right_places)


def quotient(left: str, right: str, *, places: int) -> str:
    """Return ``left ÷ right``, rounded half up to ``places`` decimals.

    Raises:
        MalformedFrameError: One of them is not a plain, unsigned decimal, or ``right`` is zero.
    """
    left_digits, left_places = _split(left)
    right_digits, right_places = _split(right)
    if right_digits == 0:
        raise MalformedFrameError(f"{left!r} divided by {right!r}")
    numerator = left_digits * 10 ** (right_places + places)
    denominator = right_digits * 10**left_places
    return _join((2 * numerator + denominator) // (2 * denominator), places)


def _split(text: str) -> tuple[int, int]:
    """Return all digits as one integer, and how many of them are decimals."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise MalformedFrameError(f"not a plain decimal: {text[:80]!r}")
    whole, decimals = match.group(1), match.group(2) or ""
    return int(whole + decimals), len(decimals)


def _join(digits: int, places: int) -> str:
    text = str(digits).zfill(places + 1)
    if places == 0:
        return text
    return f"{text[:-places]}.{text[-places:]}".rstrip("0").rstrip(".")
