"""What properties are tried on: as many examples as their test says, in the fast profile a share of that; and any text."""

from hypothesis import settings
from hypothesis import strategies as st

UNICODE = st.characters(exclude_categories=["Cs"])
"""All that UTF-8 can say. It is also the default, but that is asked of the codec first: eight seconds in a fresh checkout."""

_USUAL = 100  # what Hypothesis tries unless told otherwise; a profile that says less means the same share of every count
_LEAST = 5


def examples(full: int) -> int:
    return min(full, max(_LEAST, full * settings.default.max_examples // _USUAL))
