"""Severity: how much a score should disturb (scores §3). All comparisons are strict."""

from __future__ import annotations

from typing import NamedTuple

from market.parameters import SeverityThresholds
from market.readings import Severity


class SeverityVerdict(NamedTuple):
    """A severity, and whether it was reached without knowing the pressure."""

    severity: Severity
    pressure_waived: bool


def assess_severity(*, risk: int, pressure: int | None, thresholds: SeverityThresholds) -> SeverityVerdict:
    """Return the highest severity whose conditions hold.

    Without a pressure (no chain source, or a stale one) its condition is waived and the verdict says so: an alarm that
    cannot be checked is still an alarm.
    """
    for severity in (Severity.CRITICAL, Severity.WARNING, Severity.INFO):
        is_risky = risk > risk_threshold(severity, thresholds)
        if is_risky and is_pressure_low_enough(severity, pressure, thresholds):
            return SeverityVerdict(severity, pressure is None)
    return SeverityVerdict(Severity.NONE, pressure is None)


def risk_threshold(severity: Severity, thresholds: SeverityThresholds) -> int:
    """Return the risk above which ``severity`` begins; for ``NONE`` a number that every risk is above."""
    if severity is Severity.CRITICAL:
        return thresholds.critical_risk
    if severity is Severity.WARNING:
        return thresholds.warning_risk
    return thresholds.info_risk if severity is Severity.INFO else -1


def is_pressure_low_enough(severity: Severity, pressure: int | None, thresholds: SeverityThresholds) -> bool:
    """Say whether ``severity`` is possible with this pressure; always, when it has no such condition or none is known."""
    if pressure is None:
        return True
    if severity is Severity.CRITICAL:
        return pressure < thresholds.critical_pressure
    if severity is Severity.WARNING:
        return pressure < thresholds.warning_pressure
    return True
