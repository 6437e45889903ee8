"""Cascade Score, 0…10, of one position side (scores §5): 10 × dominance × Σ w·x over the components that have an input.

The weights of the components present are rescaled to sum to one. That alone would let a print of 1,000 USD, all on one side
and all within ten seconds, score as high as a rout; so a side whose 90-second sum is below ``floor_usd`` scores zero, whatever
its components say (they are still published).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from market.parameters import CascadeScoreParameters
from market.readings import CascadeScore

_MICROS = 1_000_000
_EVEN_SHARE = 0.5  # scores §5: no dominance at half of both sides' sum …
_DOMINANCE_RANGE = 0.15  # … and full dominance at 65 %
_SPEED_UNIT = 3  # scores §5: full speed when the last 10 s are three times as fast as the last 90 s
_SHORT_S = 10
_LONG_S = 90


def cascade_score(
    *,
    components: Mapping[str, float | None],
    side_dominance: float,
    window_micros: int,
    parameters: CascadeScoreParameters,
) -> CascadeScore:
    """Weigh a side's components.

    Args:
        components: x per component, each in [0, 1]; ``None`` or absent where it has no input.
        side_dominance: From :func:`dominance`.
        window_micros: The side's 90-second sum in micro-USD, compared with ``floor_usd``.
        parameters: Names, weights and the floor. A component without a weight, or with zero, is published and counts nothing.

    Returns:
        A score of ``None`` when no component with a weight has an input.
    """
    present = {name: x for name, x in components.items() if x is not None}
    missing = tuple(name for name in parameters.weights if name not in present)
    weights = {name: weight for name, weight in parameters.weights.items() if name in present}
    total_weight = sum(weights.values())
    score: float | None
    if total_weight <= 0:
        score = None
    elif window_micros < parameters.floor_usd * _MICROS:
        score = 0.0
    else:
        mean = sum(weight * present[name] for name, weight in weights.items()) / total_weight
        score = 10 * side_dominance * clip(mean)
    return CascadeScore(score, side_dominance, present, missing)


def dominance(*, side_micros: int, both_sides_micros: int) -> float:
    """Return 0 for a side with half of both sides' 90-second sum or less, 1 from 65 % on; 0 when there is nothing."""
    if both_sides_micros <= 0:
        return 0.0
    return clip((side_micros / both_sides_micros - _EVEN_SHARE) / _DOMINANCE_RANGE)


def speed(*, micros_10s: int, micros_90s: int) -> float:
    """Return how much of three times the 90-second rate the 10-second rate reaches; 0 when nothing was liquidated."""
    if micros_90s <= 0:
        return 0.0
    return clip(micros_10s * _LONG_S / (_SPEED_UNIT * _SHORT_S * micros_90s))


def breadth(venue_micros: Collection[int]) -> float:
    """Return 1 − Herfindahl index of the venues' shares, scaled by n/(n − 1): equal shares give 1, a single venue 0.

    Venues without a sum do not count. Integers up to the one division, so equal shares give exactly 1.
    """
    active = [micros for micros in venue_micros if micros > 0]
    venues = len(active)
    if venues < 2:  # noqa: PLR2004 - breadth needs two
        return 0.0
    square_of_sum = sum(active) ** 2
    sum_of_squares = sum(micros * micros for micros in active)
    return (square_of_sum - sum_of_squares) * venues / (square_of_sum * (venues - 1))


def clip(x: float) -> float:
    """Return ``x`` held within [0, 1]."""
    return min(1.0, max(0.0, x))
