"""What ``make audit`` makes of pip-audit's answers: an audit that was not done never passes."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def looked_up(name, *vulnerabilities):
    return {"name": name, "version": "1.0", "vulns": [{"id": each, "fix_versions": ["1.1"]} for each in vulnerabilities]}


SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found and could not be audited: numpy (2.2)"}


def test_packages_that_were_all_looked_up_and_are_clean_pass(audit):
    assert audit.verdict([looked_up("numpy"), looked_up("httpx")]) == (
        audit.CLEAN,
        ["audit: 2 packages looked up, none has a known vulnerability"],
    )


def test_a_known_vulnerability_is_named_with_its_remedy_and_fails(audit):
    assert audit.verdict([looked_up("numpy", "PYSEC-1"), looked_up("httpx")]) == (
        audit.VULNERABLE,
        ["numpy 1.0: PYSEC-1, mended in 1.1"],
    )


@pytest.mark.parametrize("packages", [[], [SKIPPED], [looked_up("httpx"), SKIPPED]])
def test_what_could_not_be_looked_up_does_not_pass(audit, packages):
    code, (line,) = audit.verdict(packages)

    assert code == audit.NOT_DONE
    assert line.startswith(f"audit: could not be done for {packages.count(SKIPPED)} of {len(packages)} packages (")


def test_a_vulnerability_is_worse_than_what_could_not_be_looked_up(audit):
    code, lines = audit.verdict([looked_up("httpx", "PYSEC-2"), SKIPPED])

    assert code == audit.VULNERABLE
    assert len(lines) == 2
