"""What a run says while it runs."""

from __future__ import annotations

from collections.abc import Iterable

from fuzzing.crashes import made_smaller, saved
from fuzzing.target import Crash, Tally, Target


def report(target: Target, crash: Crash) -> None:
    """Make a crash small, save it and say so."""
    path = saved(made_smaller(target, crash))
    print(f"CRASH in {target.name}: {crash.error}; kept as {path}", flush=True)


def line_of(name: str, tallies: Iterable[Tally], seconds: float) -> str:
    """Return the sums of several targets on one line."""
    tallies = list(tallies)
    frames = sum(tally.frames for tally in tallies)
    return (
        f"{name}: {frames:,} frames in {seconds:.0f} s, {frames / max(seconds, 1e-9):,.0f}/s: "
        f"{sum(tally.refused for tally in tallies):,} refused, {sum(tally.parsed for tally in tallies):,} parsed, "
        f"{sum(tally.crashed for tally in tallies):,} crashed; {sum(len(tally.kinds) for tally in tallies):,} kinds of answer"
    )
