"""Liquidation Risk, scheme ``absolute`` (scores §1): the well-known thresholds, 0…100 per asset.

A missing input gives the component ``None``; it adds nothing to the total, and no input is ever guessed.
"""

from __future__ import annotations

from market.readings import AbsoluteRisk

_LIQUIDATION_FLOOR_MICROS = 10_000_000 * 1_000_000  # scores §1: 10 M USD in 300 s
_LIQUIDATION_UNIT_MICROS = 5_000_000 * 1_000_000  # scores §1: one point per 5 M USD
_MAX_TOTAL = 100

_EXACT_DIGITS = 9
"""The decimals that count. Binary floats put 10·(2.3 − 1) at 12.999999999999998 and 105/100 − 1 above 5 %; nine digits lie
far below anything a venue publishes and far above such errors."""


def absolute_risk(
    *,
    funding_rate_8h: float | None,
    open_interest_change_percent: float | None,
    price_change_percent: float | None,
    long_short_ratio: float | None,
    liquidations_micros: int | None,
) -> AbsoluteRisk:
    """Return the total and its components.

    Args:
        funding_rate_8h: Fraction per 8 hours; its sign does not matter.
        open_interest_change_percent: Over the same 5 minutes as ``price_change_percent``.
        price_change_percent: Signed.
        long_short_ratio: Longs per short.
        liquidations_micros: Micro-USD in the last 300 s, both sides together.
    """
    funding = None if funding_rate_8h is None else funding_points(funding_rate_8h)
    open_interest = (
        None
        if open_interest_change_percent is None or price_change_percent is None
        else open_interest_points(
            open_interest_change_percent=open_interest_change_percent,
            price_change_percent=price_change_percent,
        )
    )
    ratio = None if long_short_ratio is None else long_short_ratio_points(long_short_ratio)
    liquidations = None if liquidations_micros is None else liquidation_points(liquidations_micros)
    total = (funding or 0) + (open_interest or 0) + (ratio or 0) + (liquidations or 0)
    return AbsoluteRisk(min(_MAX_TOTAL, total), funding, open_interest, ratio, liquidations)


def funding_points(funding_rate_8h: float) -> int:
    """Return 0, 10, 20 or 30: below 0.01 %, 0.05 %, 0.1 % per 8 hours, or not; by absolute value."""
    rate = round(abs(funding_rate_8h), _EXACT_DIGITS + 3)  # a fraction: three more digits than a percentage needs
    if rate < 0.0001:  # noqa: PLR2004 - the thresholds are the formula (scores §1)
        return 0
    if rate < 0.0005:  # noqa: PLR2004 - the same
        return 10
    if rate < 0.001:  # noqa: PLR2004 - the same
        return 20
    return 30


def open_interest_points(*, open_interest_change_percent: float, price_change_percent: float) -> int:
    """Return 0…30: open interest that grows by more than 5 % on a flat price, or by more than 10 % on any."""
    growth = round(open_interest_change_percent, _EXACT_DIGITS)
    if growth > 5 and round(abs(price_change_percent), _EXACT_DIGITS) < 2:  # noqa: PLR2004 - the formula (scores §1)
        return _points(3 * growth, at_most=30)
    if growth > 10:  # noqa: PLR2004 - the same
        return _points(2 * growth, at_most=30)
    return 0


def long_short_ratio_points(long_short_ratio: float) -> int:
    """Return 0…20: more than two longs per short, or two shorts per long. A ratio of zero is all short."""
    ratio = long_short_ratio
    if ratio > 2:  # noqa: PLR2004 - the formula (scores §1)
        return _points(10 * (ratio - 1), at_most=20)
    if ratio < 0.5:  # noqa: PLR2004 - the same
        return _points(10 * (1 / ratio - 1), at_most=20) if ratio > 0 else 20
    return 0


def liquidation_points(liquidations_micros: int) -> int:
    """Return 0…20: a point per 5 M USD, once above 10 M USD. Exact: integers throughout."""
    if liquidations_micros <= _LIQUIDATION_FLOOR_MICROS:
        return 0
    return min(20, liquidations_micros // _LIQUIDATION_UNIT_MICROS)


def _points(exact: float, *, at_most: int) -> int:
    """Cut a fraction of a point off. The limit comes first: a ratio next to zero makes ``exact`` infinite."""
    return int(round(min(float(at_most), exact), _EXACT_DIGITS))
