"""Fuzz: ``python -m fuzzing [--seconds S] [--frames N] [--seed N] [--only NAME …] [--engine coverage|mutator]``.

Every parser is handed frames made wrong: events or ``FrameError`` may come of them. The whole flow is handed sequences of such
frames, the machines sequences of extreme events; and what else reads the words of others, its input: answers over HTTP, a
chain's node, ``cascadewatch parse`` and ``miners``, settings. Nothing may raise.

The parsers are fuzzed by coverage (atheris) where that is installed; everything else, and everything where it is not, by a
mutator that knows JSON and keeps what brought a new answer. An input that crashes is made small and written to
``tests/fuzzing/crashes``, where the tests take it again for ever. Exit code 1 when anything crashed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping

from connectors.clock import monotonic_seconds
from fuzzing import coverage_guided
from fuzzing.report import line_of, report
from fuzzing.run import Job, run
from fuzzing.target import Tally, Target
from fuzzing.targets import PARSERS, TARGETS

_PROGRESS_SECONDS = 5.0
_DEFAULT_SECONDS = 60.0
_REST_SHARE = 20
"""Everything but the parsers gets one frame of so many: a frame through the whole flow costs as much more."""


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzzing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="stop after so long; 60 when --frames is not given either")
    parser.add_argument(
        "--frames", type=int, help="stop after so many frames in all parsers together, and their share elsewhere"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same inputs")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="targets whose names begin so; see --list")
    parser.add_argument("--engine", choices=["auto", "coverage", "mutator"], default="auto", help="for the parsers")
    parser.add_argument("--list", action="store_true", help="print the targets' names")
    options = parser.parse_args()
    targets = [target for name, target in TARGETS.items() if name.startswith(tuple(options.only))]
    if options.list or not targets:
        print(*(target.name for target in targets or TARGETS.values()), sep="\n")
        sys.exit(0 if options.list else "no target has a name that begins so: these are there")
    seconds = options.seconds if options.seconds or options.frames else _DEFAULT_SECONDS
    sys.exit(_fuzz(targets, options.seed, seconds, options.frames, options.engine))


def _fuzz(targets: list[Target], seed: int, seconds: float | None, frames: int | None, engine: str) -> int:
    began = monotonic_seconds()
    parsers = [target for target in targets if target.name.startswith(PARSERS)]
    rest = [target for target in targets if target not in parsers]
    tallies: dict[str, Tally] = {}
    if parsers and _is_by_coverage(engine):
        share = None if seconds is None else seconds * (0.6 if rest else 1.0)
        tallies |= coverage_guided.run(parsers, seed=seed, seconds=share, frames=frames)
    elif parsers:
        share = None if seconds is None else seconds * (0.6 if rest else 1.0)
        tallies |= _mutate(parsers, seed, share, frames and -(-frames // len(parsers)))
    if rest:
        left = None if seconds is None else max(1.0, seconds - (monotonic_seconds() - began))
        tallies |= _mutate(rest, seed, left, frames and max(1, frames // _REST_SHARE // len(rest)))
    return _totals(tallies, seed, monotonic_seconds() - began)


def _is_by_coverage(engine: str) -> bool:
    if engine == "mutator":
        return False
    if coverage_guided.is_available():
        return True
    print(coverage_guided.MISSING, flush=True)
    if engine == "coverage":
        sys.exit(1)
    return False


def _mutate(targets: Iterable[Target], seed: int, seconds: float | None, frames: int | None) -> dict[str, Tally]:
    jobs = [Job(target, seed) for target in targets]
    shown = began = monotonic_seconds()

    def on_slice() -> None:
        nonlocal shown
        if monotonic_seconds() - shown >= _PROGRESS_SECONDS:
            shown = monotonic_seconds()
            print(line_of("so far", [job.tally for job in jobs], shown - began), flush=True)

    run(jobs, seconds=seconds, frames=frames, on_crash=report, on_slice=on_slice)
    return {job.target.name: job.tally for job in jobs}


def _totals(tallies: Mapping[str, Tally], seed: int, seconds: float) -> int:
    print("\n| target | frames | refused | parsed | crashed |\n|---|---|---|---|---|")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.frames:,} | {tally.refused:,} | {tally.parsed:,} | {tally.crashed:,} |")
    print()
    print(line_of(f"fuzz, seed {seed}", tallies.values(), seconds))
    return int(any(tally.crashed for tally in tallies.values()))


if __name__ == "__main__":
    main()
