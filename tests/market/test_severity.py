import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.parameters import SeverityThresholds
from market.readings import Severity
from market.severity import SeverityVerdict, assess_severity, is_pressure_low_enough, risk_threshold

DEFAULTS = SeverityThresholds()


@pytest.mark.parametrize(
    ("risk", "pressure", "severity"),
    [
        (71, -31, Severity.CRITICAL),
        (70, -31, Severity.WARNING),
        (71, -30, Severity.WARNING),
        (100, -1, Severity.WARNING),
        (51, -1, Severity.WARNING),
        (50, -1, Severity.INFO),
        (51, 0, Severity.INFO),
        (100, 100, Severity.INFO),
        (31, 0, Severity.INFO),
        (30, -100, Severity.NONE),
        (0, 0, Severity.NONE),
    ],
)
def test_all_comparisons_are_strict(risk, pressure, severity):
    assert assess_severity(risk=risk, pressure=pressure, thresholds=DEFAULTS) == SeverityVerdict(
        severity, pressure_waived=False
    )


@pytest.mark.parametrize(
    ("risk", "severity"),
    [(71, Severity.CRITICAL), (70, Severity.WARNING), (50, Severity.INFO), (30, Severity.NONE)],
)
def test_without_a_pressure_its_condition_is_waived_and_that_is_said(risk, severity):
    assert assess_severity(risk=risk, pressure=None, thresholds=DEFAULTS) == SeverityVerdict(severity, pressure_waived=True)


def test_the_thresholds_are_settings():
    thresholds = dataclasses.replace(DEFAULTS, critical_risk=10, critical_pressure=5)

    assert assess_severity(risk=11, pressure=4, thresholds=thresholds).severity is Severity.CRITICAL


def test_a_severity_begins_above_its_risk_and_below_its_pressure():
    assert [risk_threshold(severity, DEFAULTS) for severity in Severity] == [-1, 30, 50, 70]
    assert [is_pressure_low_enough(severity, -1, DEFAULTS) for severity in Severity] == [True, True, True, False]


@given(st.integers(0, 100), st.integers(-100, 100))
def test_without_a_pressure_severity_is_at_least_that_with_any(risk, pressure):
    order = list(Severity)
    known = assess_severity(risk=risk, pressure=pressure, thresholds=DEFAULTS).severity
    waived = assess_severity(risk=risk, pressure=None, thresholds=DEFAULTS).severity

    assert order.index(waived) >= order.index(known)
