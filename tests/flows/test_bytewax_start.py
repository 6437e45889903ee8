"""The flow under the tools of Bytewax itself: ``python -m bytewax.run`` with settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    count_of,
    differences,
    journal_of,
    last_emitted,
    live,
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

pytestmark = pytest.mark.slow

WATCHED_SECONDS = 3.0


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of a run that Bytewax started, and that the command line then carried on."""
    data = tmp_path_factory.mktemp("bytewax") / "data"
    recovery, log = data / "recovery", data.with_suffix(".log")
    recovery.mkdir(parents=True)
    run_by_bytewax = ["-m", "bytewax.run", "flows.cascade:live()", "-r", str(recovery), "-s", "1", "-b", "0"]
    with simulator("long-cascade", "--speed", "4") as market:
        environment = watching(market, CHAIN__URL=None, DATA_DIR=data)
        with program(["-m", "bytewax.recovery", str(recovery), "1"], environment, log) as made:
            assert made.wait(START_SECONDS) == 0, made.words()
        with program(run_by_bytewax, environment, log) as run:
            wait_until(lambda: count_of(data, "liquidations") > 0, what="a row", program=run)
            pause(WATCHED_SECONDS)
            assert run.stop() == 0, run.words()
        tables = tables_of(data)
        assert tables["liquidations"]
        assert tables["scores"]
        assert list((data / "spool").rglob("*.arrow")) == []
        reached = last_emitted(data)
        with program(live(data), environment, log) as run:
            wait_until(lambda: last_emitted(data) > reached, what="progress", program=run)
            pause(WATCHED_SECONDS / 2)
            assert run.stop() == 0, run.words()
    return data


def test_a_run_that_bytewax_started_is_carried_on_by_the_command_line(started: Path, tmp_path: Path) -> None:
    replay(journal_of(started), tmp_path / "replay", "--last", last_emitted(started))

    assert differences(tables_of(started), tables_of(tmp_path / "replay")) == {}
    assert repeated(started) == {}
    assert rows_of(started, "dead_letters") == []


def test_what_holds_its_data_directory_is_refused_by_bytewax_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_by_bytewax = ["-m", "bytewax.run", "flows.cascade:live()"]
    with simulator("calm") as market:
        environment = watching(market, CHAIN__URL=None, DATA_DIR=data)
        with program(live(data), environment, tmp_path / "first.log") as first:
            wait_until(lambda: last_emitted(data) > 0, what="a frame", program=first)
            with program(run_by_bytewax, environment, tmp_path / "second.log") as second:
                assert second.wait(START_SECONDS) != 0
                assert "another process uses the data directory" in second.words()
            assert first.is_running()
            assert first.stop() == 0, first.words()
