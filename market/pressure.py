"""Stablecoin Pressure (scores §2), −100…+100: do stablecoins gather (positive) or leave?"""

from __future__ import annotations

from market.parameters import PressureParameters

MICROS_PER_USD = 1_000_000

_TERM_LIMIT = 50  # scores §2: each of the two terms is clipped to ±50, so that their sum lies within ±100


def stablecoin_pressure(
    *,
    inflow_micros: int,
    outflow_micros: int,
    mint_micros: int,
    burn_micros: int,
    parameters: PressureParameters,
) -> int:
    """Return int(clip((outflow − inflow)/2 M, ±50) + clip((mint − burn)/10 M, ±50)), scores §2.

    Sums are micro-USD over the look-back; 2 M and 10 M are ``flow_unit_usd`` and ``supply_unit_usd``. The outer clip to ±100
    needs no step of its own: two terms within ±50 cannot leave it. ``int()`` truncates towards zero: −0.9 is 0, not −1.
    The sign of an inflow is disputed (a sale to come, or dry powder): with ``inflow_is_bearish`` False the flow term is
    turned round.

    Computed in integers over the common denominator, so that no rounding of a float decides about a whole point.
    """
    net_flow = outflow_micros - inflow_micros if parameters.inflow_is_bearish else inflow_micros - outflow_micros
    one_point = parameters.flow_unit_usd * parameters.supply_unit_usd * MICROS_PER_USD
    limit = _TERM_LIMIT * one_point
    flow_term = _clip(net_flow * parameters.supply_unit_usd, limit)
    supply_term = _clip((mint_micros - burn_micros) * parameters.flow_unit_usd, limit)
    return _divide_towards_zero(flow_term + supply_term, one_point)


def _clip(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def _divide_towards_zero(value: int, divisor: int) -> int:
    quotient = abs(value) // divisor
    return quotient if value >= 0 else -quotient
