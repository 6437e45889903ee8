"""The flow as a Bytewax cluster on loopback: the tables of one process, whatever the number of processes and whoever dies."""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flow_runs import (
    START_SECONDS,
    STOP_SECONDS,
    Program,
    count_of,
    differences,
    journal_of,
    last_emitted,
    pause,
    program,
    repeated,
    replay,
    rows_of,
    simulator,
    tables_of,
    wait_until,
    watching,
)

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

RECOVERY_PARTITIONS = 3
EASY_CASCADES = {"PARAMETERS__CASCADE__WINDOW_USD": 200_000}
ENDS_WITHIN_SECONDS = 20.0
PATIENCE_SECONDS = 12.0
CODES_OF_A_BROKEN_CLUSTER = {1, -signal.SIGABRT}  # Bytewax panics, and sometimes once more while it cleans up
PORTS = range(20_000, 29_000)  # below those that the system gives to connections
METRICS_PORT = 29_000 + secrets.randbelow(1_000)


@dataclass
class Ran:
    """A data directory, and how processes ended: exit codes by what was done."""

    data: Path
    codes: dict[str, list[int]] = field(default_factory=dict)


def free_addresses(count: int) -> str:
    addresses: list[str] = []
    while len(addresses) < count:
        port = secrets.choice(PORTS)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0 and f"127.0.0.1:{port}" not in addresses:
                addresses.append(f"127.0.0.1:{port}")
    return ";".join(addresses)


def command(data: Path, *options: object) -> list[str]:
    recovery = str(data / "recovery")
    return ["-m", "bytewax.run", "flows.cascade:live()", "-r", recovery, "-s", "1", "-b", "0", *map(str, options)]


@contextmanager
def cluster(data: Path, count: int, environment: dict[str, str]) -> Iterator[list[Program]]:
    """Run a cluster of so many processes until its first new rows, and while the context lasts."""
    addresses = free_addresses(count)
    rows = count_of(data, "liquidations")
    with ExitStack() as around:
        runs = []
        for number in range(count):
            scaling = ["-i", number, "-a", addresses] if count > 1 else []
            log = data.parent / f"process-{number}.log"
            own = environment if number else {**environment, "CASCADEWATCH_METRICS__PORT": str(METRICS_PORT)}
            runs.append(around.enter_context(program(command(data, *scaling), own, log)))
        wait_until(lambda: count_of(data, "liquidations") > rows, what="new rows", program=runs[0], seconds=2 * START_SECONDS)
        yield runs


def stop(runs: list[Program]) -> list[int]:
    for run in runs:
        run.process.terminate()
    return [run.wait(2 * STOP_SECONDS) for run in runs]


def is_ready() -> bool:
    """Say whether process 0 sees every venue."""
    answer = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/readyz", trust_env=False, timeout=5)
    return answer.status_code == 200


def environment_of(market: object, data: Path) -> dict[str, str]:
    settings = {"CHAIN__LOOKBACK_BLOCKS": 40, "CLUSTER_PATIENCE_SECONDS": PATIENCE_SECONDS, **EASY_CASCADES}
    return watching(market, DATA_DIR=data, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run one process, then three of which one is killed, three again, two of which the first is killed, and two again."""
    result = Ran(tmp_path_factory.mktemp("cluster") / "data")
    data = result.data
    (data / "recovery").mkdir(parents=True)
    with simulator("long-cascade", "--speed", "3") as market:
        environment = environment_of(market, data)
        make = ["-m", "bytewax.recovery", str(data / "recovery"), str(RECOVERY_PARTITIONS)]
        with program(make, environment, data.with_suffix(".log")) as made:
            assert made.wait(START_SECONDS) == 0, made.words()
        for count, victim in ((1, None), (3, 2), (3, None), (2, 0), (2, None)):
            with cluster(data, count, environment) as runs:
                pause(2)
                if victim is None:
                    result.codes[f"{count} stopped"] = stop(runs)
                else:
                    runs[victim].kill()
                    others = [run for run in runs if run is not runs[victim]]
                    result.codes[f"{victim} of {count} killed"] = [run.wait(ENDS_WITHIN_SECONDS) for run in others]
    return result


def test_the_tables_are_those_of_one_process_over_the_same_frames(ran: Ran, tmp_path: Path) -> None:
    replay(journal_of(ran.data), tmp_path / "replay", "--last", last_emitted(ran.data), **EASY_CASCADES)

    tables = tables_of(ran.data)
    for name in ("liquidations", "scores", "derivatives", "gaps", "miner_days"):
        assert tables[name], name
    assert differences(tables, tables_of(tmp_path / "replay")) == {}
    assert repeated(ran.data) == {}


def test_when_one_process_dies_all_end_soon_and_say_that_it_was_no_clean_end(ran: Ran) -> None:
    for done, others in (("2 of 3 killed", 2), ("0 of 2 killed", 1)):
        assert len(ran.codes[done]) == others
        assert set(ran.codes[done]) <= CODES_OF_A_BROKEN_CLUSTER


def test_a_cluster_that_is_stopped_ends_cleanly_everywhere(ran: Ran) -> None:
    assert ran.codes["1 stopped"] == [0]
    assert ran.codes["3 stopped"] == [0, 0, 0]
    assert ran.codes["2 stopped"] == [0, 0]


def test_all_that_is_to_be_kept_is_with_process_0(ran: Ran) -> None:
    for number in (1, 2):
        assert {path.name for path in (ran.data / f"process-{number}").iterdir()} - {"firing.json"} == {"lock"}
    assert {row["feed_partition"] for row in rows_of(ran.data, "liquidations")} == {"0"}


def test_processes_that_stand_still_or_never_come_do_not_keep_the_others_for_ever(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "recovery").mkdir(parents=True)
    with simulator("long-cascade", "--speed", "3") as market:
        environment = environment_of(market, data)
        make = ["-m", "bytewax.recovery", str(data / "recovery"), "1"]
        with program(make, environment, tmp_path / "made.log") as made:
            assert made.wait(START_SECONDS) == 0, made.words()
        lonely = command(data, "-i", 0, "-a", free_addresses(2))
        with program(lonely, environment, tmp_path / "lonely.log") as run:
            assert run.wait(START_SECONDS + PATIENCE_SECONDS) == 75, run.words()
            assert "cluster_stalled" in run.words()
        with cluster(data, 2, environment) as runs:
            wait_until(is_ready, what="readiness", program=runs[0])
            runs[1].process.send_signal(signal.SIGSTOP)
            assert runs[0].wait(PATIENCE_SECONDS + ENDS_WITHIN_SECONDS) == 75, runs[0].words()
            runs[1].process.send_signal(signal.SIGCONT)
            assert runs[1].wait(ENDS_WITHIN_SECONDS) in CODES_OF_A_BROKEN_CLUSTER | {75}, runs[1].words()
