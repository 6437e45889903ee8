"""Which parameters make sense. A parameter's name ends in its unit, so its name says which rule it is held to.

The formulas' own sense is :mod:`market.parameters`' business; here is only what no formula survives: a share above one, a
window of no length, weights of which nothing is left.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from market.parameters import CascadeScoreParameters, Parameters


@dataclass(frozen=True)
class Rule:
    """What is allowed, in words and as a test."""

    says: str
    holds: Callable[[Any], bool]


def _between(low: float, high: float, says: str) -> Rule:
    return Rule(says, lambda value: low <= value <= high)


_COMPONENTS = tuple(CascadeScoreParameters().weights)
_ASSET = re.compile(r"[A-Z0-9]{1,20}")
_LONGEST_WINDOW_US = 3_600_000_000  # ticks that end before an asset's windows are empty would leave old sums standing

_ABOVE_ZERO = Rule("above 0", lambda value: 0 < value < math.inf)
_ZERO_OR_MORE = Rule("0 or more", lambda value: 0 <= value < math.inf)
_ONE_OR_MORE = Rule("1 or more", lambda value: value >= 1)
_ANY = Rule("", lambda _value: True)

_RULES = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"active_us", Rule("3600000000 (the longest window) or more", lambda value: value >= _LONGEST_WINDOW_US)),
        (r"(max_clock_skew|allowed_lateness|emit_interval|minimum_hold|cooldown)_us", _ZERO_OR_MORE),
        (r".*_us", _ABOVE_ZERO),
        (r"window_usd|max_notional_usd|.*_unit_usd", _ABOVE_ZERO),
        (r".*_usd|.*_usd_per_kwh", _ZERO_OR_MORE),
        (r".*_share|.*_fraction", _between(0, 1, "0 to 1")),
        (r".*_risk|.*_points", _between(0, 100, "0 to 100")),
        (r".*_pressure", _between(-100, 100, "-100 to 100")),
        (r"min_.*|max_.*", _ONE_OR_MORE),
        (r".*_j_per_th", Rule("each above 0", lambda values: all(0 < value < math.inf for value in values))),
        (r"watched_assets", Rule("coins such as BTC", lambda names: all(_ASSET.fullmatch(name) for name in names))),
        (
            r"weights",
            Rule(
                f"0 or more for each of {', '.join(_COMPONENTS)}, and not all 0",
                lambda weights: (
                    set(weights) <= set(_COMPONENTS)
                    and all(0 <= weight < math.inf for weight in weights.values())
                    and sum(weights.values()) > 0
                ),
            ),
        ),
        (r"inflow_is_bearish", _ANY),
    )
)


class ParametersError(ValueError):
    """Parameters that make no sense.

    Attributes:
        lines: One per key: what is allowed, and the value.
    """

    def __init__(self, lines: list[str]) -> None:
        """Keep the lines."""
        super().__init__("; ".join(lines))
        self.lines = lines


def rule_of(name: str) -> Rule:
    """Return what a parameter is held to.

    Raises:
        LookupError: Its name tells nothing: give it a rule here.
    """
    for pattern, rule in _RULES:
        if pattern.fullmatch(name):
            return rule
    raise LookupError(f"no rule for the parameter {name}")


def sensible(parameters: Parameters) -> Parameters:
    """Return the parameters.

    Raises:
        ParametersError: Some make no sense.
    """
    lines = list(_problems(parameters))
    if lines:
        raise ParametersError(lines)
    return parameters


def _problems(parameters: Parameters) -> Iterator[str]:
    for section in dataclasses.fields(parameters):
        values = getattr(parameters, section.name)
        for each in dataclasses.fields(values):
            value, rule = getattr(values, each.name), rule_of(each.name)
            if not rule.holds(value):
                yield f"parameters.{section.name}.{each.name}: allowed is {rule.says} (value: {value!r})"
    severity = parameters.severity
    if not severity.info_risk <= severity.warning_risk <= severity.critical_risk:
        risks = (severity.info_risk, severity.warning_risk, severity.critical_risk)
        yield f"parameters.severity: info_risk, warning_risk and critical_risk must not fall (values: {risks})"


def spelled_out(value: Any) -> Any:
    """Turn what an environment variable can say of parameters into what their types want.

    Lists are JSON or names between commas. Weights that are not named keep their default.
    """
    if not isinstance(value, Mapping):
        return value
    defaults = Parameters()
    return {name: _section(getattr(defaults, name, None), given) for name, given in value.items()}


def _section(defaults: Any, given: Any) -> Any:
    given = _json(given) if isinstance(given, str) else given
    if not isinstance(given, Mapping):
        return given
    return {name: _field(getattr(defaults, name, None), value) for name, value in given.items()}


def _field(default: Any, value: Any) -> Any:
    if isinstance(default, tuple) and isinstance(value, str):
        return texts_of(value)
    if isinstance(default, dict):
        value = _json(value) if isinstance(value, str) else value
        return {**default, **value} if isinstance(value, Mapping) else value
    return value


def texts_of(text: str) -> Any:
    """Return the texts of a list in one line: JSON, or separated by commas."""
    return _json(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",") if part.strip()]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number too long to be one, lists within lists without end
        return text  # of the wrong type, which is said where types are looked at
