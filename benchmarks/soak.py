"""Run the real program against the simulated market for a long time and watch what might grow.

``python -m benchmarks.soak --minutes 60 --out FOLDER`` (``make soak MINUTES=60``): the first half at high speed, the second
half at the market's own. Every so often it notes memory, open files, threads, the sizes of journal, recovery store and spool,
and the delay of liquidations since the last note. It leaves ``soak.csv``, ``soak.md`` and ``soak.png``.

A half ends well when the program stops with exit code 0 and the memory of its last third is not above that of its second by
more than a tenth. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from simulator.scenarios import DEFAULT_SCENARIO

_HIGH_SPEED = 10
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_NOTES = 60  # in each half
_GROWTH = 1.1
_ROWS = 24  # of the table in soak.md
_MB = 1e6


@dataclass(frozen=True)
class Note:
    """What was seen at one moment. Sizes in MB, delays in milliseconds, rates per second since the note before."""

    speed: float
    minute: float
    rss_mb: float
    open_files: int
    threads: int
    cpu_share: float
    journal_mb: float
    recovery_mb: float
    spool_mb: float
    frames_per_second: float
    liquidations_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    dead_letters: float


def soak(minutes: float, folder: Path, *, scenario: str, seed: int) -> bool:
    """Run both halves; return whether nothing grew."""
    folder.mkdir(parents=True, exist_ok=True)
    notes: list[Note] = []
    is_well = True
    for speed in (_HIGH_SPEED, 1):
        half, code = _half(minutes / 2, speed, scenario, seed)
        notes += half
        _write(folder, notes)
        grew = _grew(half)
        is_well = is_well and code == 0 and not grew
        print(f"speed {speed}: exit code {code}; {grew or 'nothing grew'}", flush=True)
    print(f"soak.csv, soak.md and soak.png are in {folder}")
    return is_well


def _half(minutes: float, speed: float, scenario: str, seed: int) -> tuple[list[Note], int]:
    with tempfile.TemporaryDirectory(prefix="soak-") as place, _simulator(scenario, speed, seed) as market:
        data, log = Path(place) / "data", Path(place) / "log"
        with log.open("wb") as lines:
            run = subprocess.Popen(
                [sys.executable, "-m", "cascadewatch", "run", "--live", "--data", str(data)],
                env={**os.environ, **_settings(market)},
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=subprocess.STDOUT,
            )
            try:
                notes = list(_watch(run, data, _metrics_url(run, log), minutes, speed))
                run.send_signal(signal.SIGTERM)
                code = run.wait(_STOP_SECONDS)
            finally:
                run.kill()
                run.wait()
        if code != 0:
            print(log.read_text(errors="replace")[-3_000:])
        return notes, code


@contextmanager
def _simulator(scenario: str, speed: float, seed: int) -> Iterator[str]:
    command = [sys.executable, "-m", "simulator", "--parent-pipe", "--scenario", scenario]
    command += ["--seed", str(seed), "--speed", str(speed)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


def _settings(url: str) -> dict[str, str]:
    socket_url = url.replace("http", "ws", 1)
    venues = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
    endpoints = {name: {"rest_url": f"{url}/{name}", "websocket_url": f"{socket_url}/{name}"} for name in venues}
    return {
        "CASCADEWATCH_ENDPOINTS": json.dumps(endpoints),
        "CASCADEWATCH_CHAIN__URL": f"{url}/ethereum",
        "CASCADEWATCH_MINING__BASE_URLS": json.dumps({"mempool": f"{url}/mempool"}),
        "CASCADEWATCH_METRICS__PORT": "0",
        "CASCADEWATCH_JOURNAL__RETENTION_SECONDS": "300",
    }


def _metrics_url(run: subprocess.Popen[bytes], log: Path) -> str:
    """Return where the program says that its metrics are."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and run.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            for word in line.replace("=", " ").replace('"', " ").split():
                if word.startswith("http://127.0.0.1:") and "metrics" in line:
                    return word.rstrip("/,").removesuffix("/metrics")
        time.sleep(0.2)
    raise RuntimeError(f"the program did not say where its metrics are: {log.read_text(errors='replace')[-2_000:]}")


def _watch(run: subprocess.Popen[bytes], data: Path, url: str, minutes: float, speed: float) -> Iterator[Note]:
    began = before_at = time.monotonic()
    before, before_cpu = _page(url), _cpu_seconds(run.pid)
    while (now := time.monotonic()) < began + minutes * 60 and run.poll() is None:
        time.sleep(min(minutes * 60 / _NOTES, began + minutes * 60 - now))
        page, cpu, at = _page(url), _cpu_seconds(run.pid), time.monotonic()
        seconds = at - before_at
        note = Note(
            speed=speed,
            minute=(at - began) / 60,
            rss_mb=_status(run.pid)["VmRSS"] / 1e3,
            open_files=len(list(Path(f"/proc/{run.pid}/fd").iterdir())),
            threads=_status(run.pid)["Threads"],
            cpu_share=(cpu - before_cpu) / seconds,
            journal_mb=_size(data / "journal") / _MB,
            recovery_mb=_size(data / "recovery") / _MB,
            spool_mb=_size(data / "spool") / _MB,
            frames_per_second=_grown("cascadewatch_frames_received_total", before, page) / seconds,
            liquidations_per_second=_grown("cascadewatch_liquidations_total", before, page) / seconds,
            p50_ms=_quantile(0.50, before, page),
            p99_ms=_quantile(0.99, before, page),
            dead_letters=_grown("cascadewatch_dead_letters_total", {}, page),
        )
        before, before_cpu, before_at = page, cpu, at
        print(" ".join(f"{name}={_text(value)}" for name, value in asdict(note).items()), flush=True)
        yield note


Page = Mapping[tuple[str, str], float]
"""Samples summed over all labels but ``le``."""


def _page(url: str) -> Page:
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=10).text
    sums: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("signal", "liquidation") == "liquidation":
                key = (sample.name, sample.labels.get("le", ""))
                sums[key] = sums.get(key, 0.0) + sample.value
    return sums


def _grown(name: str, before: Page, page: Page) -> float:
    return page.get((name, ""), 0.0) - before.get((name, ""), 0.0)


def _quantile(share: float, before: Page, page: Page) -> float | None:
    """Return the upper bound of the bucket that holds the quantile, in milliseconds; None when nothing came, or above all."""
    name = "cascadewatch_signal_seconds_bucket"
    counts = {float(le): value - before.get((name, le), 0.0) for (of, le), value in page.items() if of == name}
    total = max(counts.values(), default=0.0)
    bounds = sorted(bound for bound, count in counts.items() if count >= share * total)
    return bounds[0] * 1e3 if total and bounds[0] < float("inf") else None


def _status(pid: int) -> dict[str, int]:
    """Return the whole numbers of ``/proc/<pid>/status``; sizes are in kB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _size(folder: Path) -> int:
    """Return the bytes in a folder whose files come and go."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _grew(notes: Sequence[Note]) -> str:
    """Say what grew from the second third to the last, if anything."""
    third = len(notes) // 3
    if not third:
        return "too few notes to tell"
    middle, last = notes[third : 2 * third], notes[2 * third :]
    grown = []
    for name in ("rss_mb", "open_files", "threads"):
        was, now = (statistics.median(getattr(note, name) for note in part) for part in (middle, last))
        if now > was * _GROWTH:
            grown.append(f"{name} grew from {was:.0f} to {now:.0f}")
    return ", ".join(grown)


def _write(folder: Path, notes: Sequence[Note]) -> None:
    names = [field.name for field in fields(Note)]
    with (folder / "soak.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows([_text(value) for value in asdict(note).values()] for note in notes)
    every = max(1, len(notes) // _ROWS)
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_text(value) for value in asdict(note).values())} |" for note in notes[every - 1 :: every]]
    (folder / "soak.md").write_text("\n".join(lines) + "\n")
    _draw(folder / "soak.png", notes)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _draw(path: Path, notes: Sequence[Note]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only needed here, and slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    groups = ["rss_mb", "p50_ms p99_ms", "journal_mb recovery_mb spool_mb", "open_files threads"]
    groups += ["liquidations_per_second frames_per_second", "cpu_share"]
    speeds = sorted({note.speed for note in notes}, reverse=True)
    figure, rows = plt.subplots(len(groups), len(speeds), figsize=(12, 13), squeeze=False, sharex="col")
    for column, speed in enumerate(speeds):
        half = [note for note in notes if note.speed == speed]
        for row, names in enumerate(groups):
            axes = rows[row][column]
            for name in names.split():
                axes.plot([note.minute for note in half], [getattr(note, name) for note in half], label=name.replace("_", " "))
            axes.set_ylim(bottom=0)
            axes.legend(loc="upper left", fontsize=7)
        rows[0][column].set_title(f"speed {speed:g}")
        rows[-1][column].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> int:
    """Run a soak as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="both halves together (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="where the results go (default: %(default)s)")
    parser.add_argument("--scenario", default=DEFAULT_SCENARIO, help="of the simulator (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulator (default: %(default)s)")
    arguments = parser.parse_args()
    return 0 if soak(arguments.minutes, arguments.out, scenario=arguments.scenario, seed=arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
