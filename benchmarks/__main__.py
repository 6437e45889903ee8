"""Measure: ``python -m benchmarks [NAME …] [--scale X]`` with latency, strain, replay, memory, startup, maintenance; or all.

Every figure stands beside a baseline measured in the same run: machines are noisy, ratios less so. Writes Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.baselines import summed_anew, summed_incrementally
from benchmarks.latency import measure
from benchmarks.maintenance import grow
from benchmarks.recorded_market import Load, frames, write_journal
from benchmarks.replay import Replayed, replay
from benchmarks.strain import RATE, strains
from connectors.sinks.tables import LIQUIDATIONS, SCORES

_PERCENTILES = (50.0, 99.0, 99.9)
_BUSY_HOUR_EVENTS = 72_000  # twenty a second for an hour, with 72,000 ticks
_NAIVE_FRAMES = 130_000  # about 216,000 events, 108 s of the load: its windows are full for the last of them


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *_BENCHMARKS], help="which; all when none is named")
    parser.add_argument("--scale", type=float, default=1.0, help="of the load; 0.1 takes about a minute")
    parser.add_argument("--replay-once", nargs=2, metavar=("JOURNAL", "DATA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay_once:
        _replay_once(*map(Path, options.replay_once))
        return
    for name in options.names or _BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        _BENCHMARKS[name](options.scale)


def latency(scale: float) -> None:
    """Frame on the socket → row in the sink."""
    print("| frames/s | path | p50 ms | p99 ms | p99.9 ms | p99 ÷ bare reader's p99 |\n|---|---|---|---|---|---|")
    for rate in (100, 2_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            through, bare = measure(Path(folder), rate, max(3.0, 20 * scale))
        bare_p99 = float(np.percentile(bare, 99.0))
        for path, sample in (("bare reader", bare), ("whole flow", through)):
            shown = [float(np.percentile(sample, percentile)) for percentile in _PERCENTILES]
            print(
                f"| {rate:,} | {path} | {shown[0]:.2f} | {shown[1]:.2f} | {shown[2]:.2f} | {shown[1] / bare_p99:.1f} |",
                flush=True,
            )


def strain(scale: float) -> None:
    """Frame on the socket → row in the sink while something else goes on."""
    print(f"| meanwhile, at {RATE:,} frames/s | p50 ms | p99 ms | p99.9 ms | p99 ÷ usual p99 |\n|---|---|---|---|---|")
    usual_p99 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for words, sample in strains(Path(folder), max(5.0, 60 * scale)):
            shown = [float(np.percentile(sample, percentile)) for percentile in _PERCENTILES]
            usual_p99 = usual_p99 or shown[1]
            print(
                f"| {words} | {shown[0]:.2f} | {shown[1]:.2f} | {shown[2]:.2f} | {shown[1] / usual_p99:.2f} |",
                flush=True,
            )


def replay_speed(scale: float) -> None:
    """Replay through the whole flow, tables written, against the two naive loops over the same frames."""
    load = Load(int(1_000_000 * scale))
    recorded = [(feed, payload) for feed, payload, _time in frames(load)]
    count, seconds = summed_incrementally(recorded)
    incremental = count / seconds
    count, seconds = summed_anew(recorded[:_NAIVE_FRAMES])
    anew = count / seconds
    del recorded
    with tempfile.TemporaryDirectory() as folder:
        result = _in_process(load, Path(folder))
    flow = load.events / result.cpu_seconds
    print("| path | events/s on one core | ÷ naive loop | ÷ incremental loop |\n|---|---|---|---|")
    for name, speed in (
        (f"naive loop: JSON, one deque per market, summed again for each event (first {count:,} events)", anew),
        ("the same with an incremental sum (whole load)", incremental),
        ("whole flow: journal, checks, all machines, tables and metrics", flow),
    ):
        print(f"| {name} | {speed:,.0f} | {speed / anew:.2f} | {speed / incremental:.2f} |")
    print(f"\n{load.events:,} events in {result.seconds:.1f} s, {result.cpu_seconds:.1f} s of processor time")
    print(f"rows: {json.dumps(result.rows)}")


def memory(scale: float) -> None:
    """Peak resident memory after so many events."""
    print("| events | peak RSS MB | ÷ first |\n|---|---|---|")
    first = 0
    for events in (1_000_000, 5_000_000, 10_000_000):
        with tempfile.TemporaryDirectory() as folder:
            peak = _in_process(Load(int(events * scale)), Path(folder)).peak_rss_bytes
        first = first or peak
        print(f"| {int(events * scale):,} | {peak / 1e6:.0f} | {peak / first:.2f} |", flush=True)


def startup(scale: float) -> None:
    """Start-up with nothing, and with an hour in the journal: with the state that came of it, and without any."""
    load = Load(int(_BUSY_HOUR_EVENTS * scale), per_second=_BUSY_HOUR_EVENTS // 3_600)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import cascadewatch.cli"], check=True)
        imports = time.perf_counter() - started
        simulated = ("run", "--simulate", "--scenario", "calm", "--seconds", "1")
        fresh = _timed(Path(folder) / "fresh", *simulated)
        behind = Path(folder) / "behind"
        (behind / "journal").mkdir(parents=True)
        write_journal(behind / "journal" / "0.db", load)
        rebuilt = _timed(behind, "drain")
        resumed = _timed(behind, *simulated)
    print("| what | seconds | ÷ fresh start |\n|---|---|---|")
    for words, seconds in (
        ("importing the program", imports),
        ("fresh start to a clean end, simulated market, `--seconds 1` included", fresh),
        (f"the same with an hour in the journal ({load.events:,} events, 60 assets), not trimmed, and its state", resumed),
        ("that hour read again from its first frame, without a state, and committed (`drain`)", rebuilt),
    ):
        print(f"| {words} | {seconds:.2f} | {seconds / fresh:.2f} |")


def maintenance(scale: float) -> None:
    """Commit latency and read time by number of versions: never maintained, and maintained beside the writer."""
    print("| table | maintained | versions | commit p50 ms | p99 ms | processor ms | open ms | read ms | files | entries |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    places = [max(10, int(versions * scale)) for versions in (100, 1_000, 5_000)]
    every = max(10, int(150 * scale))  # so that the commits measured at the later places have one beside them
    for table in (LIQUIDATIONS, SCORES):
        for words, maintained_every in (("never", None), (f"every {every} commits", every)):
            with tempfile.TemporaryDirectory() as folder:
                for place in grow(Path(folder), table, places, maintained_every=maintained_every):
                    print(
                        f"| {table.name} | {words} | {place.versions:,} | {place.percentile(50.0):.1f} | "
                        f"{place.percentile(99.0):.1f} | {place.commit_cpu_ms:.1f} | {place.open_ms:.1f} | "
                        f"{place.read_ms:.0f} | {place.files:,} | {place.entries:,} |",
                        flush=True,
                    )


def _timed(data: Path, *arguments: str) -> float:
    command = [sys.executable, "-m", "cascadewatch", *arguments, "--data", str(data)]
    all_kept = {"CASCADEWATCH_METRICS__PORT": "0", "CASCADEWATCH_JOURNAL__RETENTION_SECONDS": "1e9"}
    started = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **all_kept}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _in_process(load: Load, folder: Path) -> Replayed:
    """Replay in a process of its own, so that memory is its own too."""
    journal = folder / "journal" / "0.db"
    journal.parent.mkdir()
    write_journal(journal, load)
    command = [sys.executable, "-m", "benchmarks", "--replay-once", str(journal), str(folder / "out")]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return Replayed(**json.loads(answer))


def _replay_once(journal: Path, data_dir: Path) -> None:
    result = replay(journal, data_dir)
    print(json.dumps(result.__dict__))


_BENCHMARKS: dict[str, Callable[[float], None]] = {
    "latency": latency,
    "strain": strain,
    "replay": replay_speed,
    "memory": memory,
    "startup": startup,
    "maintenance": maintenance,
}

if __name__ == "__main__":
    main()
