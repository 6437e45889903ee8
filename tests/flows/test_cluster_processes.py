"""What a process of a cluster does that touches nothing outside."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from connectors.clock import utc_now
from connectors.sinks.health import HealthState
from connectors.sources.source import StopSignal
from flows.cluster import ALONE, ClusterError, NothingToRead, Position, Pulse, WrittenElsewhere, end_when_stalled, position
from flows.runtime import Runtime
from flows.settings import Settings

ROOT = Path(__file__).parents[2]


def test_process_0_alone_touches_the_outside() -> None:
    assert [Position(process, 3).is_outside for process in range(3)] == [True, False, False]
    assert ALONE.is_outside
    assert ALONE.is_alone
    assert not Position(0, 2).is_alone


def test_a_process_that_bytewax_did_not_start_is_alone() -> None:
    assert position() == ALONE


ASKING = "from flows.cluster import position; from bytewax.dataflow import Dataflow; print(position()); raise SystemExit"


def asked(folder: Path, *arguments: str) -> str:
    """Return what a process that Bytewax has started says of its place."""
    (folder / "asking.py").write_text(f"def flow():\n    {ASKING.replace('; ', chr(10) + '    ')}\n")
    command = [sys.executable, "-m", "bytewax.run", "asking:flow()", *arguments]
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_process_finds_its_place_where_bytewax_does(tmp_path: Path) -> None:
    assert "Position(process=2, processes=3)" in asked(tmp_path, "-i", "2", "-a", "h0:1;h1:1;h2:1")
    assert "Position(process=0, processes=1)" in asked(tmp_path)
    assert "ClusterError: -w: one worker per process" in asked(tmp_path, "-w", "2")


def test_a_process_that_receives_nothing_has_no_partition_that_could_be_missed_later() -> None:
    source = NothingToRead()

    assert source.list_parts() == []
    with pytest.raises(ClusterError, match="process 0 reads 0, no other does"):
        source.build_part("frames", "0", None)


def test_a_pulse_shows_that_the_flow_moves_until_it_is_asked_to_stop() -> None:
    stop, health = StopSignal(), HealthState(max_batch_age_seconds=0.05)
    part = Pulse(stop, health).build("pulse", 1, 3)
    threading.Event().wait(0.1)
    assert health.unhealthy() != []

    assert part.next_batch() == []
    assert health.unhealthy() == []
    assert 0 < (part.next_awake() - utc_now()).total_seconds() < 0.5

    stop.ask()
    with pytest.raises(StopIteration):
        part.next_batch()


def test_rows_are_never_written_here() -> None:
    sink = WrittenElsewhere()

    assert sink.list_parts() == []
    assert sink.part_fn("rows") == 0
    with pytest.raises(ClusterError, match="process 0 writes rows"):
        sink.build_part("tables", "rows", None)


def test_a_flow_that_stands_still_ends_its_process() -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    end_when_stalled(HealthState(), 0.05, end)

    assert ended.wait(10)
    assert codes == [75]


def test_shards_and_a_cluster_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="either shards, each of one process, or a cluster"):
        Runtime(Settings(data_dir=tmp_path, shard="0/2"), position=Position(0, 2))
