"""What something could not bear: made small, and kept where the tests find it."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from connectors.clock import monotonic_seconds
from fuzzing.corpus import TESTS
from fuzzing.target import Crash, Target

CRASHES = TESTS / "fuzzing" / "crashes"
"""A folder per target, a file per input. All of them are taken again by every ``make test``."""

_SMALLER_SECONDS = 10.0


def crash_of(target: Target, data: bytes, error: Exception) -> Crash:
    """Return what happened; crashes at one place of the code are one."""
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1]
    return Crash(target.name, f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}", data)


def made_smaller(target: Target, crash: Crash) -> Crash:
    """Return the same crash from as little input as is found in some seconds."""
    until = monotonic_seconds() + _SMALLER_SECONDS
    glue = b"\n" if target.are_lines else b""
    parts = crash.data.splitlines() if target.are_lines else [crash.data[at : at + 1] for at in range(len(crash.data))]
    size = max(1, len(parts) // 2)
    while size and monotonic_seconds() < until:
        for shorter in _without_some(parts, size):
            if _crash(target, glue.join(shorter)) == crash.error:
                parts = shorter
                break
            if monotonic_seconds() >= until:
                break
        else:
            size //= 2
    return Crash(crash.target, crash.error, glue.join(parts))


def _without_some(parts: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(parts), size):
        yield parts[:start] + parts[start + size :]


def _crash(target: Target, data: bytes) -> str:
    try:
        target.take(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return crash_of(target, data, error).error
    return ""


def saved(crash: Crash, folder: Path = CRASHES) -> Path:
    """Write the input to a file of its own and return it."""
    path = folder / crash.target / hashlib.sha256(crash.data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(crash.data)
    return path


def kept(folder: Path = CRASHES) -> dict[str, Path]:
    """Return every kept input by target and name."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
