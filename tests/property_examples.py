"""How often a property is tried: as often as its test says, and in the fast profile a share of that."""

from hypothesis import settings

_USUAL = 100  # what Hypothesis tries unless told otherwise; a profile that says less means the same share of every count
_LEAST = 5


def examples(full: int) -> int:
    return min(full, max(_LEAST, full * settings.default.max_examples // _USUAL))
