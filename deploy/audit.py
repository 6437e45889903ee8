"""Ask a database of known vulnerabilities about every package that the lock files name. ``make audit``.

pip-audit answers "No known vulnerabilities found", with exit code 0, also where the database knows none of the packages or
could not be asked at all. That is no audit, and is said so here: exit code 0 means that every package was looked up, 1 that
one has a known vulnerability, 2 that the audit could not be done.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LOCK_FILES = ("requirements.lock", "requirements-dev.lock", "deploy/image/build-requirements.lock")

CLEAN, VULNERABLE, NOT_DONE = 0, 1, 2

_MOST_SECONDS = 300
_SHOWN = 5


def verdict(packages: Iterable[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit code and what to say of pip-audit's list of packages."""
    packages = list(packages)
    skipped = [package for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    lines = sorted(set(found))
    if skipped or not packages:
        names = ", ".join(str(package["name"]) for package in skipped[:_SHOWN]) + (" …" if len(skipped) > _SHOWN else "")
        lines.append(
            f"audit: could not be done for {len(skipped)} of {len(packages)} packages ({names or 'none was asked about'}): "
            "the database of vulnerabilities could not be reached or does not know them; run it where it can be reached"
        )
    elif not found:
        lines.append(f"audit: {len(packages)} packages looked up, none has a known vulnerability")
    return (VULNERABLE if found else NOT_DONE if skipped or not packages else CLEAN), lines


def report_on(lock_file: Path) -> list[dict[str, Any]]:
    """Return what pip-audit says of each package; nothing when it could not ask."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "report.json"
        options = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json", f"--output={said}"]
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock_file), *options]
        try:
            ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_MOST_SECONDS)
            packages: list[dict[str, Any]] = json.loads(said.read_text())["dependencies"]
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            words = ended.stderr.strip().splitlines()[-1:] if isinstance(error, FileNotFoundError) else [str(error)]
            print(*words, file=sys.stderr)
            return []
        return packages


def main() -> int:
    """Audit every lock file and return the worst exit code: a vulnerability, then what could not be asked."""
    codes = []
    for name in LOCK_FILES:
        code, lines = verdict(report_on(Path(name)))
        print(*(f"{name}: {line}" for line in lines), sep="\n", flush=True)
        codes.append(code)
    return VULNERABLE if VULNERABLE in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
