"""Write the operator's PrometheusRule from the rules in ``deploy/prometheus/rules``, or with ``--check`` compare it with them.

The rules are kept in one place; this only wraps them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "prometheus" / "rules"
TARGET = Path(__file__).parent / "components" / "operator" / "prometheus-rule.yaml"
COMMAND = "python deploy/kubernetes/prometheus_rule.py"
HEADER = f"# Generated from deploy/prometheus/rules: {COMMAND}\n"
WIDTH = 10_000  # expressions stay on their lines


class _Dumper(yaml.SafeDumper):
    """Writes what several rules share where each of them is: the operator's resources are read by people, too."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's
        return True


def resource() -> dict[str, Any]:
    """Return the resource with the groups of all files, in the order of their names."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "cascadewatch"},
        "spec": {"groups": groups},
    }


def text() -> str:
    """Return the file."""
    return HEADER + yaml.dump(resource(), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)


def main() -> int:
    """Write it, or compare."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text())
        return 0
    if TARGET.is_file() and TARGET.read_text() == text():
        return 0
    print(f"{TARGET} is not what the rules say now: {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
