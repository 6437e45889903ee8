"""Kill the real program again and again, at random and at every delicate moment, and count what that changed.

``python tests/flows/kill_campaign.py --kills 100 --seed 7`` (``make test-faults``). In rounds: a simulated market, a run that
is killed so many times and then stopped, and an undisturbed replay of the very frames that it journaled. Its journal is
trimmed all the while; a witness in the killed process keeps every frame for the replay.

The last line has the totals. Exit code 1 when anything was lost, doubled or wrong.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow_runs import (
    IDENTITY,
    START_SECONDS,
    Program,
    Simulator,
    journal_of,
    last_emitted,
    last_journaled,
    live,
    pause,
    program,
    repeated,
    replay,
    rows_of,
    simulator,
    wait_until,
    watching,
)

KILLS_PER_ROUND = 10
LONGEST_LIFE_SECONDS = 2.0
RETENTION_SECONDS = 2
DELICATE_SECONDS = 20.0  # a moment that does not come within so long is killed at random instead
SPEED = 2
SCENARIOS = ("long-cascade", "short-squeeze", "burst", "calm")
EASY_CASCADES = {"PARAMETERS__CASCADE__WINDOW_USD": 200_000}  # so that some begin, and run while the process is killed

MOMENTS = (
    "connectors.sources.journal Journal append after",
    "connectors.sources.journal Journal trim before",
    "connectors.sources.journal Journal trim after",
    "connectors.sources.journal Journal checkpoint before",
    "connectors.sources.journal Journal checkpoint after",
    "connectors.sources.source FramePartition snapshot before",
    "connectors.sources.source FramePartition snapshot after",
    "operators.machine MachineChain snapshot after",
    "connectors.sinks.delta RowsPartition snapshot before",
    "connectors.sinks.delta RowsPartition snapshot after",
    "connectors.sinks.spool Spool write before",
    "connectors.sinks.spool Spool write after",
    "connectors.sinks.spool Spool remove before",
    "connectors.sinks.spool Spool remove after",
    "connectors.sinks.delta_tables DeltaTables commit before",
    "connectors.sinks.delta_tables DeltaTables commit after",
    "sql BEGIN before",
    "sql DELETE after",  # within the transaction that trims
    "sql UPDATE after",
    "sql INSERT after",  # within the transaction that appends
)

# Runs in the process under test. The witness writes a frame down after the journal has it, and catches up at the start.
_UNDER_TEST = """
import os, runpy, signal, sqlite3, sys
from importlib import import_module
from pathlib import Path

witness_path, moment, count = sys.argv[1:4]
sys.argv[1:] = sys.argv[5:]
left = int(count)

def dying(call, when):
    def wrapped(*arguments, **options):
        global left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

journals = import_module("connectors.sources.journal")
Journal, connect = journals.Journal, journals._connect
begin, append = Journal.__init__, Journal.append
witness = []

def begin_with_witness(self, path):
    begin(self, path)
    other = connect(Path(witness_path))
    other.executescript(journals._SCHEMA)
    (newest,) = other.execute("SELECT coalesce(max(sequence), 0) FROM frames").fetchone()
    other.execute("ATTACH ? AS own", (str(path),))
    other.execute("INSERT INTO frames SELECT * FROM own.frames WHERE sequence > ?", (newest,))
    other.execute("DETACH own")
    other.close()
    witness.append(sqlite3.connect(witness_path, isolation_level=None, check_same_thread=False, timeout=10))

def append_with_witness(self, rows):
    first = append(self, rows)
    numbered = [
        (number, feed, at, payload, journals._checksum(number, feed, payload, at))
        for number, (feed, payload, at) in enumerate(rows, start=first)
    ]
    witness[0].execute("BEGIN")
    witness[0].executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?)", numbered)
    witness[0].execute("COMMIT")
    return first

Journal.__init__, Journal.append = begin_with_witness, append_with_witness

if moment.startswith("sql "):
    _sql, verb, when = moment.split()
    class Connection(sqlite3.Connection):
        def execute(self, text, *rest):
            call = super().execute
            return (dying(call, when) if text.startswith(verb) else call)(text, *rest)
        def executemany(self, text, *rest):
            call = super().executemany
            return (dying(call, when) if text.startswith(verb) else call)(text, *rest)
    opened = sqlite3.connect
    def own_connections(path, *rest, **options):
        is_own = str(path) != witness_path and str(path).endswith(".db")
        return opened(path, *rest, **options, **({"factory": Connection} if is_own else {}))
    journals.sqlite3.connect = own_connections
elif moment:
    module, owner, name, when = moment.split()
    place = getattr(import_module(module), owner)
    setattr(place, name, dying(getattr(place, name), when))
runpy.run_module("cascadewatch", run_name="__main__")
"""


@dataclass
class Totals:
    """What a campaign found. Rows are told apart by the frame that caused them and what they speak of."""

    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    untrimmed: int = 0
    examples: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the totals in one line."""
        return (
            f"kills {self.kills}, rows {self.rows}, lost {self.lost}, doubled {self.doubled}, wrong {self.wrong}, "
            f"untrimmed {self.untrimmed}"
        )

    def is_clean(self) -> bool:
        """Say whether nothing was found."""
        return not (self.lost or self.doubled or self.wrong or self.untrimmed)


def campaign(kills: int, seed: int, folder: Path) -> Totals:
    """Kill so many times, in rounds, each with a market and a data directory of its own."""
    chance = random.Random(seed)  # noqa: S311 - moments, no secrets
    totals = Totals()
    began = time.monotonic()
    while totals.kills < kills:
        data = folder / f"round-{totals.kills}"
        scenario = chance.choice(SCENARIOS)
        _round(data, scenario, min(KILLS_PER_ROUND, kills - totals.kills), chance, totals)
        print(f"{time.monotonic() - began:5.0f} s  {scenario:13}  {totals.line()}", flush=True)  # noqa: T201 - progress
    return totals


def _round(data: Path, scenario: str, kills: int, chance: random.Random, totals: Totals) -> None:
    data.mkdir(parents=True)
    run_data, witness = data / "run", data / "witness" / "0.db"
    witness.parent.mkdir()
    with simulator(scenario, "--speed", str(SPEED), seed=chance.randrange(1_000)) as market:
        environment = watching(
            market,
            EPOCH_SECONDS=0.2,
            SINK__COMMIT_INTERVAL_SECONDS=0.2,
            JOURNAL__RETENTION_SECONDS=RETENTION_SECONDS,
            **EASY_CASCADES,
        )
        for _ in range(kills):
            moment = chance.choice(MOMENTS) if chance.random() < 0.6 else ""
            _one_life(run_data, witness, environment, moment, chance)
            totals.kills += 1
            totals.moments[moment or "at random"] += 1
        _last_life(run_data, witness, environment, market)
    _compare(run_data, witness, totals)


def _one_life(data: Path, witness: Path, environment: Mapping[str, str], moment: str, chance: random.Random) -> None:
    """Run until the moment comes, or for a random while."""
    before = last_journaled(data)
    count = chance.randint(1, 12) if moment else 0
    with _under_test(data, witness, environment, moment, count) as run:
        if moment and _died(run, DELICATE_SECONDS):
            assert run.process.returncode == -signal.SIGKILL, run.words()
            return
        wait_until(lambda: last_journaled(data) > before, what="a frame in the journal", program=run)
        pause(chance.uniform(0.0, LONGEST_LIFE_SECONDS))
        assert run.is_running() or run.process.returncode == -signal.SIGKILL, run.words()
        run.kill()


def _last_life(data: Path, witness: Path, environment: Mapping[str, str], market: Simulator) -> None:
    """Run long enough to see something, and stop cleanly."""
    before, came = last_emitted(data), market.scenario_seconds()
    with _under_test(data, witness, environment, "", 0) as run:
        wait_until(lambda: last_emitted(data) > before, what="a frame in the tables", program=run)
        wait_until(lambda: market.scenario_seconds() > came + 10, what="some more of the market", program=run)
        code = run.stop()
        assert code == 0, run.words()


@contextmanager
def _under_test(data: Path, witness: Path, environment: Mapping[str, str], moment: str, count: int) -> Iterator[Program]:
    _dash_m, *rest = live(data)
    arguments = ["-c", _UNDER_TEST, str(witness), moment, str(count), *rest]
    with program(arguments, environment, data.with_suffix(".log")) as run:
        yield run


def _died(run: Program, seconds: float) -> bool:
    deadline = time.monotonic() + seconds + START_SECONDS / 3
    while run.is_running() and time.monotonic() < deadline:
        pause(0.05)
    return not run.is_running()


def _compare(data: Path, witness: Path, totals: Totals) -> None:
    """Compare with an undisturbed replay of the same frames, and look whether what is not needed any more was let go."""
    undisturbed = data.parent / "undisturbed"
    replay(witness, undisturbed, "--last", last_emitted(data), **EASY_CASCADES)
    for name, columns in IDENTITY.items():
        mine, theirs = (_by_identity(folder, name, columns) for folder in (data, undisturbed))
        totals.rows += len(theirs)
        lost, extra = theirs.keys() - mine.keys(), mine.keys() - theirs.keys()
        wrong = {key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]}
        totals.lost += len(lost)
        totals.wrong += len(extra) + len(wrong)
        totals.examples += [f"{name}: lost {key}" for key in sorted(lost, key=repr)[:3]]
        totals.examples += [f"{name}: wrong {key}" for key in sorted(extra | wrong, key=repr)[:3]]
    for name, keys in repeated(data).items():
        totals.doubled += len(keys)
        totals.examples += [f"{name}: twice {key}" for key in keys[:3]]
    totals.untrimmed += _untrimmed(data, totals)


def _by_identity(data: Path, name: str, columns: tuple[str, ...]) -> dict[tuple[Any, ...], list[str]]:
    rows: dict[tuple[Any, ...], list[str]] = {}
    for row in rows_of(data, name):
        key = tuple(row[column] for column in ("feed_partition", "sequence", *columns))
        rows.setdefault(key, []).append(repr(row))
    return rows


def _untrimmed(data: Path, totals: Totals) -> int:
    """Count what should be gone: frames beyond the retention, states of epochs long over, files left in the spool."""
    with closing(sqlite3.connect(journal_of(data))) as opened:
        frames, seconds = opened.execute(
            "SELECT count(*), (max(receive_time_us) - min(receive_time_us)) / 1e6 FROM frames"
        ).fetchone()
    with closing(sqlite3.connect(data / "recovery" / "part-0.sqlite3")) as opened:
        states, keys = opened.execute("SELECT count(*), count(DISTINCT step_id || state_key) FROM snaps").fetchone()
    spooled = list((data / "spool").rglob("*.arrow")) + list((data / "spool").rglob("*.tmp"))
    found = {
        f"journal: {frames} frames over {seconds:.0f} s": seconds > 10 * RETENTION_SECONDS,
        f"recovery store: {states} states of {keys} keys": states > 4 * keys,
        f"spool: {len(spooled)} files": bool(spooled),
    }
    totals.examples += [what for what, is_so in found.items() if is_so]
    return sum(found.values())


def main() -> int:
    """Run a campaign as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many times to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed kills at the same moments (default: random)")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)  # noqa: T201 - what repeats it
    with tempfile.TemporaryDirectory(prefix="kill-campaign-") as folder:
        totals = campaign(arguments.kills, seed, Path(folder))
    for moment, count in sorted(totals.moments.items()):
        print(f"  {count:4} × {moment}")  # noqa: T201 - the result
    for example in totals.examples:
        print(f"  {example}")  # noqa: T201 - the result
    print(totals.line())  # noqa: T201 - the result
    return 0 if totals.is_clean() else 1


if __name__ == "__main__":
    sys.exit(main())
