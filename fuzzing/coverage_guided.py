"""The parsers, fuzzed by what their code does: atheris watches which branches an input takes and follows the new ones.

It runs in a process of its own, for libFuzzer ends the process that it ran in. Its inputs are a feed's name, a line feed and
a frame; half of the mutations are libFuzzer's own, half those that know JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzzing.target import Tally, Target

MISSING = (
    "atheris is not installed (it has no build for this machine's Python, or the lock file was not installed): "
    "the parsers are fuzzed without watching their code."
)

_MOST_BYTES = 8_000
"""Of an input: more than twice the longest fixture."""

_JSON_SHARE = 0.7  # of the mutations; the others are libFuzzer's own, which mostly make what is no JSON at all
_REPORT_SECONDS = 5.0
_NEVER_SECONDS = 1e9


def is_available() -> bool:
    """Say whether atheris can be imported."""
    return importlib.util.find_spec("atheris") is not None


def run(targets: Sequence[Target], *, seed: int, seconds: float | None, frames: int | None) -> dict[str, Tally]:
    """Fuzz the parsers and return what became of each. Crashes are saved and reported where they happen."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "report.json"
        plan = {"names": [target.name for target in targets], "seed": seed, "seconds": seconds, "frames": frames}
        command = [sys.executable, "-m", "fuzzing.coverage_guided", json.dumps(plan), str(said)]
        ended = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if not said.exists():
            sys.exit(f"{ended.stderr[-3_000:]}\nthe fuzzer ended by itself, with exit code {ended.returncode}")
        return {name: _tally(each) for name, each in json.loads(said.read_text()).items()}


def _tally(said: dict[str, Any]) -> Tally:
    return Tally(said["frames"], said["refused"], said["crashed"], set(said["kinds"]))


def _fuzz(plan: dict[str, Any], report_file: Path) -> None:
    import atheris  # noqa: PLC0415 - optional

    with atheris.instrument_imports(include=["connectors.sources", "market"]):
        from connectors.clock import monotonic_seconds  # noqa: PLC0415 - the same
        from fuzzing.corpus import seeds_of  # noqa: PLC0415 - the same
        from fuzzing.frames import FrameSource, frame_targets  # noqa: PLC0415 - imported to be watched
        from fuzzing.report import line_of, report  # noqa: PLC0415 - the same
        from fuzzing.run import Job  # noqa: PLC0415 - the same

    jobs = {target.name: Job(target, plan["seed"]) for target in frame_targets() if target.name in plan["names"]}
    mutators = {name: FrameSource(name.partition("/")[2], random.Random(plan["seed"])) for name in jobs}
    names = list(jobs)
    began = shown = monotonic_seconds()
    until = began + (plan["seconds"] or _NEVER_SECONDS)
    most = plan["frames"] or sys.maxsize
    count = 0

    def job_of(data: bytes) -> tuple[Job, bytes]:
        name, _, payload = data.partition(b"\n")
        job = jobs.get(name.decode("latin-1"))
        return (jobs[names[len(data) % len(names)]], data) if job is None else (job, payload)

    def take(data: bytes) -> None:
        nonlocal count, shown
        job, payload = job_of(data)
        job.take(payload, report)
        count += 1
        now = monotonic_seconds()
        if now - shown >= _REPORT_SECONDS:
            shown = now
            print(line_of("so far", [job.tally for job in jobs.values()], now - began), flush=True)
        if count >= most or now >= until:
            tallies = {name: job.tally for name, job in jobs.items()}
            said = {
                name: {"frames": each.frames, "refused": each.refused, "crashed": each.crashed, "kinds": sorted(each.kinds)}
                for name, each in tallies.items()
            }
            report_file.write_text(json.dumps(said))
            os._exit(0)  # libFuzzer would exit here anyway, after writing to the corpus

    def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
        chance = random.Random(seed)
        job, payload = job_of(data)
        is_json = chance.random() < _JSON_SHARE
        changed: bytes = mutators[job.target.name].mutated(payload, seed) if is_json else atheris.Mutate(payload, most_bytes)
        return (f"{job.target.name}\n".encode() + changed)[:most_bytes]

    with tempfile.TemporaryDirectory() as corpus:
        for number, name in enumerate(names):
            for place, seed in enumerate(seeds_of(name.partition("/")[2])):
                (Path(corpus) / f"{number}-{place}").write_bytes(f"{name}\n".encode() + seed)
        arguments = [
            f"-seed={plan['seed']}",
            f"-max_len={_MOST_BYTES}",
            "-timeout=60",
            "-verbosity=0",
            "-mutate_depth=1",
            corpus,
        ]
        atheris.Setup([sys.argv[0], *arguments], take, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(json.loads(sys.argv[1]), Path(sys.argv[2]))
