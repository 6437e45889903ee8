"""SIGTERM ends a run in order within ten seconds, at any moment of its life and as the first process of a container too."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    STOP_SECONDS,
    Program,
    Simulator,
    count_of,
    differences,
    journal_of,
    last_emitted,
    live,
    pause,
    program,
    repeated,
    replay,
    simulator,
    tables_of,
    wait_until,
    watching,
    write_busy_journal,
)
from patched_runs import COMMITS_FAIL, COMMITS_HANG, patched

pytestmark = pytest.mark.slow

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
LOWEST_SPOOL_LIMIT = 1024**2


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    with simulator("long-cascade", "--speed", "4") as running:
        yield running


def in_a_container(arguments: list[str]) -> list[str]:
    """Return the arguments of a program whose process is the first of its namespace, as a container's is."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process namespace can be made here: unshare is missing, or not allowed")
    become = "import os, sys; os.execvp(sys.argv[1], [*sys.argv[1:-1], sys.executable, *eval(sys.argv[-1])])"
    return ["-c", become, *command, repr(arguments)]


def only_child_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def has_handler(pid: int, number: signal.Signals) -> bool:
    """Say whether a process handles a signal itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [caught] = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")]
    return bool(caught >> (number - 1) & 1)


@contextmanager
def timed_stop(run: Program, what: str, seconds: float = STOP_SECONDS) -> Iterator[None]:
    """Fail when the program has not ended within so long after what is done here."""
    began = time.monotonic()
    yield
    run.wait(seconds + 1.0)  # this process, too, may have to wait for the processor
    took = time.monotonic() - began
    assert took < seconds + 1.0, f"{what}: {took} s"


def test_a_run_that_is_stopped_and_started_again_has_the_rows_of_one_that_never_stopped(
    market: Simulator, tmp_path: Path
) -> None:
    data, log = tmp_path / "data", tmp_path / "data.log"
    environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=0.5)
    starts = [in_a_container(live(data)), live(data)]
    for arguments in starts:
        reached, rows = last_emitted(data), count_of(data, "scores")
        with program(arguments, environment, log) as run:
            wait_until(lambda: last_emitted(data) > reached, what="progress", program=run)  # noqa: B023 - called here
            wait_until(lambda: count_of(data, "scores") > rows, what="a row", program=run)  # noqa: B023 - called here
            child = only_child_of(run.process.pid)
            with timed_stop(run, "a stop"):
                os.kill(child or run.process.pid, signal.SIGTERM)
            assert run.process.returncode == 0, run.words()
            assert (child is not None) == ("unshare" in str(arguments))
        assert list((data / "spool").rglob("*.arrow")) == []

    replay(journal_of(data), tmp_path / "replay", "--last", last_emitted(data))
    assert differences(tables_of(data), tables_of(tmp_path / "replay")) == {}
    assert repeated(data) == {}


@pytest.mark.parametrize("is_first_process", [False, True], ids=["as any process", "as the first process"])
def test_a_program_that_is_still_loading_ends_at_once(tmp_path: Path, is_first_process: bool) -> None:
    arguments = live(tmp_path / "data")
    with program(in_a_container(arguments) if is_first_process else arguments, {}, tmp_path / "log") as run:
        pid = run.process.pid
        if is_first_process:
            wait_until(
                lambda: only_child_of(run.process.pid) is not None,
                what="the first process",
                program=run,
            )
            pid = only_child_of(run.process.pid) or 0
        wait_until(lambda: has_handler(pid, signal.SIGTERM), what="an ear for signals", program=run)
        with timed_stop(run, "a stop", seconds=4.0):
            os.kill(pid, signal.SIGTERM)
        assert run.process.returncode == TERMINATED, run.words()
    assert not (tmp_path / "data").exists()


def test_a_run_that_waits_for_its_store_before_it_has_begun_ends_at_once(market: Simulator, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and never answers
        options = f'{{"AWS_ENDPOINT_URL": "http://127.0.0.1:{silent.getsockname()[1]}", "AWS_ALLOW_HTTP": "true", '
        options += '"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r"}'
        environment = watching(market, SINK__TABLES_URI="s3://tests/tables", SINK__STORAGE_OPTIONS=options)
        with program(live(tmp_path / "data"), environment, tmp_path / "log") as run:
            silent.settimeout(START_SECONDS)
            asking, _address = silent.accept()
            with asking:
                pause(1.0)
                with timed_stop(run, "a stop", seconds=4.0):
                    run.process.send_signal(signal.SIGTERM)
            assert run.process.returncode == 0, run.words()
            assert '"phase": "starting"' in run.words()


def test_a_stop_does_not_wait_for_a_commit_that_hangs_and_the_rows_are_in_the_spool(market: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=0.5)
    with program(patched(COMMITS_HANG, live(data)), environment, tmp_path / "log") as run:
        wait_until(lambda: any((data / "spool").rglob("*.arrow")), what="a file in the spool", program=run)
        with timed_stop(run, "a stop"):
            for _ in range(3):  # one is enough; some supervisors send several
                run.process.send_signal(signal.SIGTERM)
                pause(0.3)
        assert run.process.returncode == 0, run.words()
        assert "rows_left_in_spool" in run.words()
    assert count_of(data, "scores") == 0

    with program(["-m", "cascadewatch", "drain", "--data", str(data)], environment, tmp_path / "log") as draining:
        assert draining.wait(START_SECONDS) == 0, draining.words()
    replay(journal_of(data), tmp_path / "replay")
    assert differences(tables_of(data), tables_of(tmp_path / "replay")) == {}
    assert repeated(data) == {}


def test_a_second_interrupt_ends_a_run_at_once(market: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=0.5)
    with program(patched(COMMITS_HANG, live(data)), environment, tmp_path / "log") as run:
        wait_until(lambda: any((data / "spool").rglob("*.arrow")), what="a file in the spool", program=run)
        run.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping" in run.words(), what="the stop", program=run)
        with timed_stop(run, "a stop", seconds=3.0):
            run.process.send_signal(signal.SIGINT)
        assert run.process.returncode == INTERRUPTED, run.words()


def test_a_run_that_waits_for_room_in_its_spool_stops_in_time_and_loses_nothing(market: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "journal").mkdir(parents=True)
    write_busy_journal(journal_of(data), seconds=200, per_second=60)  # more rows than the spool has room for
    environment = watching(
        market,
        CHAIN__URL=None,
        EPOCH_SECONDS=0.2,
        JOURNAL__RETENTION_SECONDS=10**9,  # the busy market was years ago
        SINK__SPOOL_LIMIT_BYTES=LOWEST_SPOOL_LIMIT,
    )
    with program(patched(COMMITS_FAIL, live(data)), environment, tmp_path / "log") as run:
        wait_until(
            lambda: spooled_bytes(data) > LOWEST_SPOOL_LIMIT / 2,
            what="a spool that fills",
            program=run,
        )
        wait_until(lambda: has_come_to_rest(data), what="a flow that waits", program=run)
        with timed_stop(run, "a stop"):
            run.process.send_signal(signal.SIGTERM)
        assert run.process.returncode == 0, run.words()

    reached = last_emitted(data)
    with program(live(data), environment, tmp_path / "log") as run:
        wait_until(lambda: last_emitted(data) > reached, what="progress", program=run)
        assert run.stop() == 0, run.words()
    replay(journal_of(data), tmp_path / "replay", "--last", last_emitted(data))
    assert differences(tables_of(data), tables_of(tmp_path / "replay")) == {}
    assert repeated(data) == {}


def spooled_bytes(data: Path) -> int:
    return sum(path.stat().st_size for path in (data / "spool").rglob("*.arrow"))


def has_come_to_rest(data: Path) -> bool:
    before = spooled_bytes(data)
    pause(1.5)
    return spooled_bytes(data) == before
