"""Runs of the real programs, for the tests in this folder, and what may be compared with what.

A run stops reading when it is asked to stop (docs/adr/0002): frames that were journaled after that moment are in no table
until the next run. So the tables of a stopped run are those of a replay up to :func:`last_emitted`: the source's saved state
is the next frame to emit, and a clean stop makes the state of the very last epoch durable. A killed run has no such frame: it
is compared after it was started again and stopped. A replay of the whole journal has more rows, all of them of later frames.

Rows are compared as text, which tells apart what ``==`` does not (0.0 and -0.0) and holds NaN equal to itself.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from deltalake import DeltaTable

from connectors.sinks.tables import TABLES
from connectors.sources.frame import CLOCK_FEED
from connectors.sources.journal import FrameRow, Journal

ROOT = Path(__file__).parents[2]
VENUES = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
SETTINGS_PREFIX = "CASCADEWATCH_"

START_SECONDS = 120.0
"""Programs import for a second or two; on a busy machine for half a minute."""

STOP_SECONDS = 10.0
"""What an orchestrator grants at least between SIGTERM and SIGKILL."""

Tables = dict[str, list[str]]
"""By table, every row as text, in order."""

IDENTITY = {
    "liquidations": ("venue", "symbol", "position_side", "event_time", "price", "base_quantity"),
    "derivatives": ("venue", "symbol"),
    "book_depth": ("venue", "symbol"),
    "stablecoin_transfers": ("transaction_hash", "log_index", "removed"),  # a re-organised chain takes back and brings again
    "miner_days": ("day",),
    "scores": ("asset",),
    "cascades": ("asset", "position_side", "phase"),
    "alerts": ("asset",),
    "gaps": ("feed", "from_time"),
    "dead_letters": ("reason", "payload"),
}
"""What tells the rows of one frame apart. The simulator never lets two liquidations of one moment look the same."""


class Program:
    """A program of this project in a process of its own. What it says goes to a file."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        """Start Python with these arguments; settings of the caller's environment are not handed on."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}
        self.log = log
        with log.open("ab") as lines:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=subprocess.STDOUT,
            )

    def wait(self, seconds: float) -> int:
        """Return the exit code. A program that does not end in time is killed, and the test fails."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {seconds} s: {self.words()}") from None

    def stop(self) -> int:
        """Ask it to end as an orchestrator would; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Let it die without a word."""
        self.process.kill()
        self.process.wait()

    def words(self) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-3_000:]

    def is_running(self) -> bool:
        """Say whether it has not ended yet."""
        return self.process.poll() is None


@contextmanager
def program(arguments: list[str], environment: Mapping[str, str], log: Path) -> Iterator[Program]:
    """Run a program while the context lasts."""
    running = Program(arguments, environment, log)
    try:
        yield running
    finally:
        running.kill()


class Simulator:
    """The simulated market's controls and truth."""

    def __init__(self, url: str) -> None:
        """Talk to the simulator at this URL."""
        self.url = url
        # Without certificates, which take longer to load than any answer; and no connection outlives its answer.
        self._client = httpx.Client(
            verify=False,  # noqa: S501 - plain HTTP on loopback
            trust_env=False,
            timeout=START_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, path: str) -> Any:
        """Read one of its pages."""
        return self._answer(self._client.get(f"{self.url}{path}"))

    def post(self, path: str) -> Any:
        """Use one of its controls."""
        return self._answer(self._client.post(f"{self.url}{path}"))

    def scenario_seconds(self) -> float:
        """Return how far the story has come."""
        return float(self.get("/control/state")["scenario_seconds"])

    @staticmethod
    def _answer(answer: httpx.Response) -> Any:
        answer.raise_for_status()
        return answer.json()


@contextmanager
def simulator(scenario: str, *options: str, seed: int = 1) -> Iterator[Simulator]:
    """Run the simulator while the context lasts. It ends by itself, too, should this process die."""
    command = [sys.executable, "-m", "simulator", "--parent-pipe", "--scenario", scenario, "--seed", str(seed), *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the simulator did not start: exit code {process.wait()}"
            yield Simulator(json.loads(line)["url"])
        finally:
            process.kill()


def watching(market: Simulator, **settings: object) -> dict[str, str]:
    """Return the environment of a run that watches this market and keeps its whole journal.

    ``settings`` win; one of ``None`` leaves a setting at its default.
    """
    socket_url = market.url.replace("http", "ws", 1)
    endpoints = {name: {"rest_url": f"{market.url}/{name}", "websocket_url": f"{socket_url}/{name}"} for name in VENUES}
    names = {
        "ENDPOINTS": json.dumps(endpoints),
        "CHAIN__URL": f"{market.url}/ethereum",
        "CHAIN__POLL_SECONDS": 1,
        "MINING__BASE_URLS": json.dumps({"mempool": f"{market.url}/mempool"}),
        "JOURNAL__RETENTION_SECONDS": 86_400,
        "SINK__COMMIT_INTERVAL_SECONDS": 0.5,
    }
    return settings_environment(**{**names, **settings})


def settings_environment(**settings: object) -> dict[str, str]:
    """Return settings as environment variables. The metrics' port is any free one."""
    given = {"METRICS__PORT": 0, **settings}
    return {f"{SETTINGS_PREFIX}{name}": str(value) for name, value in given.items() if value is not None}


def live(data: Path) -> list[str]:
    """Return the arguments of a run that watches what its environment names."""
    return ["-m", "cascadewatch", "run", "--live", "--data", str(data)]


def replay(journal: Path, data: Path, *options: object, **settings: object) -> None:
    """Replay a journal into new tables."""
    with program(replaying(journal, data, *options), settings_environment(**settings), data.with_suffix(".log")) as run:
        code = run.wait(START_SECONDS + 30)
        assert code == 0, run.words()


def replaying(journal: Path, data: Path, *options: object) -> list[str]:
    """Return the arguments of a replay."""
    return ["-m", "cascadewatch", "replay", str(journal), "--data", str(data), *map(str, options)]


_DYING = """
import os, runpy, signal, sys
from importlib import import_module

module, owner, name, moment, count = sys.argv[1:6]
sys.argv[1:] = sys.argv[7:]
place = getattr(import_module(module), owner)
call = getattr(place, name)
left = int(count)

def dying(*arguments, **options):
    global left
    left -= 1
    if left == 0 and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = call(*arguments, **options)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(place, name, dying)
runpy.run_module("cascadewatch", run_name="__main__")
"""


def dying(where: tuple[str, str, str, str], count: int, arguments: list[str]) -> list[str]:
    """Return the arguments of a program that dies before or after the so-many-th call of a method, at once and for good.

    Args:
        where: Module, class, method, and ``before`` or ``after``.
        count: 1 is the first call.
        arguments: Of the program when it need not die.
    """
    _dash_m, *rest = arguments
    return ["-c", _DYING, *where, str(count), *rest]


def journal_of(data: Path) -> Path:
    """Return where a run keeps its journal."""
    return data / "journal" / "0.db"


def instruments_frame(receive_time_us: int) -> FrameRow:
    """Return a list of contracts: BTCUSDT and ETHUSDT of Bybit, counted in coins."""
    usual = {"contractType": "LinearPerpetual", "quoteCoin": "USDT", "settleCoin": "USDT"}
    contracts = [{"symbol": f"{coin}USDT", "baseCoin": coin, **usual} for coin in ("BTC", "ETH")]
    body = {"retCode": 0, "retMsg": "OK", "time": receive_time_us // 1_000, "result": {"list": contracts}}
    return "bybit-linear/instruments", json.dumps(body).encode(), receive_time_us


def liquidation_frame(receive_time_us: int, *items: Mapping[str, object]) -> FrameRow:
    """Return a message of Bybit's: liquidations of a BTC long of one coin at 50,000 USD, 100 ms ago, unless told otherwise."""
    usual = {"T": receive_time_us // 1_000 - 100, "s": "BTCUSDT", "S": "Buy", "v": "1", "p": "50000"}
    message = {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": receive_time_us // 1_000}
    return (
        "bybit-linear/liquidations",
        json.dumps({**message, "data": [{**usual, **item} for item in items or ({},)]}).encode(),
        receive_time_us,
    )


def tick_frame(receive_time_us: int) -> FrameRow:
    """Return what the clock says at a whole second."""
    return CLOCK_FEED, b"", receive_time_us


def write_busy_journal(path: Path, *, seconds: int, per_second: int, unreadable_bytes: int = 0) -> int:
    """Record a busy market that never was; return the number of its last frame.

    Args:
        path: A journal that may be new.
        seconds: How long it lasted.
        per_second: Frames, a tick among them.
        unreadable_bytes: Size of the last frame of each second, which makes a dead letter; 0 for one like the others.
    """
    journal = Journal(path)
    begin_us = 1_700_000_000_000_000
    journal.append([instruments_frame(begin_us)])
    for second in range(seconds):
        at_us = begin_us + second * 1_000_000
        rows = [tick_frame(at_us)]
        for number in range(1, per_second):
            coin, side = "BTC" if number % 3 else "ETH", "Buy" if number % 4 else "Sell"
            item = {"s": f"{coin}USDT", "S": side, "v": f"0.{number:03}", "p": str(40_000 + second)}
            rows.append(liquidation_frame(at_us + number * (1_000_000 // per_second), item))
        if unreadable_bytes:
            feed, _payload, received_us = rows.pop()
            rows.append((feed, b"?" * unreadable_bytes, received_us))
        journal.append(rows)
    journal.close()
    return 1 + seconds * per_second


def last_journaled(data: Path) -> int:
    """Return the number of the newest frame in a run's journal; 0 when there is none yet."""
    return _asked(journal_of(data), "SELECT max(sequence) FROM frames") or 0


def last_emitted(data: Path) -> int:
    """Return the number of the last frame that a run, or a replay, emitted and made durable; 0 when none.

    Bytewax keeps the source's state, the next frame to emit, in one of the files ``recovery/part-….sqlite3``.
    """
    newest = "SELECT ser_change FROM snaps WHERE step_id = 'cascadewatch.frames' ORDER BY snap_epoch DESC LIMIT 1"
    states = [_asked(part, newest) for part in (data / "recovery").glob("part-*.sqlite3")]
    return max((int(pickle.loads(state)) - 1 for state in states if state is not None), default=0)  # noqa: S301 - our own


def payloads(data: Path, feed: str, *, last: int) -> list[Any]:
    """Return what a feed brought up to frame ``last``, read as JSON."""
    with closing(sqlite3.connect(journal_of(data))) as opened:
        rows = opened.execute("SELECT payload FROM frames WHERE feed = ? AND sequence <= ? ORDER BY sequence", (feed, last))
        return [json.loads(payload) for (payload,) in rows]


def _asked(database: Path, question: str) -> Any:
    """Return one value of a database that somebody else may be writing, or is about to make."""
    if not database.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as opened:
            row = opened.execute(question).fetchone()
    except sqlite3.OperationalError:
        return None  # it has no tables yet
    return None if row is None else row[0]


def rows_of(data: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of one of a run's tables; none before it is made."""
    folder = data / "tables" / name
    return DeltaTable(str(folder)).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(str(folder)) else []


def count_of(data: Path, name: str) -> int:
    """Return how many rows one of a run's tables has; none before it is made."""
    folder = str(data / "tables" / name)
    return int(DeltaTable(folder).count()) if DeltaTable.is_deltatable(folder) else 0


def tables_of(data: Path, *, last: int | None = None) -> Tables:
    """Return all that a run's tables hold, up to frame ``last`` where given, in an order that depends on the rows alone."""
    tables: Tables = {}
    for table in TABLES:
        rows = [row for row in rows_of(data, table.name) if last is None or row["sequence"] <= last]
        rows.sort(key=lambda row: (row["feed_partition"], row["sequence"], repr(row)))
        tables[table.name] = [repr(row) for row in rows]
    return tables


def differences(one: Tables, other: Tables) -> dict[str, dict[str, Any]]:
    """Return what either has that the other has not, by table: numbers of rows and the first few. Empty when equal."""
    found: dict[str, dict[str, Any]] = {}
    for name in one.keys() | other.keys():
        if one.get(name) != other.get(name):
            mine, theirs = Counter(one.get(name, [])), Counter(other.get(name, []))
            only_one, only_other = list((mine - theirs).elements()), list((theirs - mine).elements())
            found[name] = {"counts": (len(only_one), len(only_other)), "one": only_one[:3], "other": only_other[:3]}
    return found


def repeated(data: Path) -> dict[str, list[Any]]:
    """Return the rows of a run's tables that tell of one thing twice, by table: their place and identity."""
    found: dict[str, list[Any]] = {}
    for name, columns in IDENTITY.items():
        counts = Counter(tuple(row[key] for key in ("feed_partition", "sequence", *columns)) for row in rows_of(data, name))
        if twice := [key for key, count in counts.items() if count > 1]:
            found[name] = twice
    return found


def wait_until(
    is_so: Callable[[], bool], *, what: str, seconds: float = START_SECONDS, program: Program | None = None
) -> None:
    """Wait until something is so; fail when it takes too long, or when the program that should bring it about has ended."""
    deadline = time.monotonic() + seconds
    while not is_so():
        words = "" if program is None else f": {program.words()}"
        assert program is None or program.is_running(), f"ended before {what}{words}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}{words}"
        pause(0.1)


def pause(seconds: float) -> None:
    """Let the programs under test go on for so long."""
    threading.Event().wait(seconds)
