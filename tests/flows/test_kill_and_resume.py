"""Killing a process at any moment changes nothing in the final tables."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    VENUES,
    differences,
    dying,
    journal_of,
    last_emitted,
    last_journaled,
    live,
    pause,
    payloads,
    program,
    repeated,
    replay,
    replaying,
    rows_of,
    settings_environment,
    simulator,
    tables_of,
    wait_until,
    watching,
    write_busy_journal,
)

pytestmark = pytest.mark.slow

KILLS = 4
LONGEST_LIFE_SECONDS = 2.5
STORY_SECONDS = 40  # of the scenario: by then liquidations come by the hundred
SPEED = 2
DELICATE_MOMENTS = (
    ("connectors.sinks.delta", "RowsPartition", "snapshot", "before"),  # the epoch's rows are nowhere
    ("connectors.sinks.delta", "RowsPartition", "snapshot", "after"),  # they are in the spool, the epoch is not durable
    ("connectors.sinks.spool", "Spool", "write", "after"),  # one table's are
    ("connectors.sinks.delta_tables", "DeltaTables", "commit", "before"),  # spooled, in no table
    ("connectors.sinks.delta_tables", "DeltaTables", "commit", "after"),  # in their table, and in the spool still
    ("connectors.sinks.spool", "Spool", "remove", "after"),  # in their table alone
    ("connectors.sinks.delta", "RowsPartition", "snapshot", "after"),  # once more, with all that there is by now
)
EASY_CASCADES = {"PARAMETERS__CASCADE__WINDOW_USD": 200_000}  # so that some begin, and run while the process is killed


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of a run that was killed again and again, then stopped."""
    seed = int(os.environ.get("KILL_SEED", secrets.randbits(32)))
    print(f"KILL_SEED={seed}")  # noqa: T201 - shown when something fails
    moments = random.Random(seed)  # noqa: S311 - moments, no secrets
    data = tmp_path_factory.mktemp("killed") / "live"
    log = data.with_suffix(".log")
    with simulator("long-cascade", "--speed", str(SPEED), seed=seed % 1_000) as market:
        environment = watching(market, EPOCH_SECONDS=0.2, SINK__COMMIT_INTERVAL_SECONDS=0.2, **EASY_CASCADES)
        for number in range(KILLS):
            before = last_journaled(data)
            with program(live(data), environment, log) as run:
                if number:  # the first one may die before it has begun
                    wait_until(lambda: last_journaled(data) > before, what="a frame in the journal", program=run)  # noqa: B023 - called here
                if number == KILLS - 1:  # on a busy machine none would live to be connected, and nothing be missed
                    wait_until(lambda: connected_after(data, before) == set(VENUES), what="connections", program=run)  # noqa: B023 - called here
                pause(moments.uniform(0.0, LONGEST_LIFE_SECONDS))
                assert run.is_running(), run.words()
                run.kill()
        before, journaled = last_emitted(data), last_journaled(data)
        with program(live(data), environment, log) as run:
            wait_until(lambda: last_emitted(data) > before, what="a frame in the tables", program=run)
            wait_until(lambda: connected_after(data, journaled) == set(VENUES), what="connections", program=run)
            wait_until(lambda: market.scenario_seconds() > STORY_SECONDS, what="the cascade", program=run)
            wait_until(lambda: bool(rows_of(data, "cascades")), what="a row that says so", program=run)
            pause(1.0)
            code = run.stop()
            assert code == 0, run.words()
    return data


def connected_after(data: Path, sequence: int) -> set[str]:
    """Return the venues whose feeds were connected after a frame."""
    with closing(sqlite3.connect(f"file:{journal_of(data)}?mode=ro", uri=True)) as opened:
        rows = opened.execute("SELECT payload FROM frames WHERE feed = 'status' AND sequence > ?", (sequence,)).fetchall()
    statuses = [json.loads(payload) for (payload,) in rows]
    return {status["feed"].partition("/")[0] for status in statuses if status["state"] == "connected"}


@pytest.fixture(scope="module")
def undisturbed(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of a replay that nobody disturbed, of what the killed run emitted."""
    data = tmp_path_factory.mktemp("undisturbed") / "replay"
    replay(journal_of(watched), data, "--last", last_emitted(watched), **EASY_CASCADES)
    return data


def test_a_run_that_was_killed_and_started_again_lost_nothing_and_doubled_nothing(watched: Path, undisturbed: Path) -> None:
    assert differences(tables_of(watched), tables_of(undisturbed)) == {}
    assert repeated(watched) == {}


def test_what_a_killed_run_could_not_see_is_a_gap_of_every_feed(watched: Path) -> None:
    statuses = payloads(watched, "status", last=last_emitted(watched))
    connected = Counter(status["feed"] for status in statuses if status["state"] == "connected")
    gaps = [row for row in rows_of(watched, "gaps") if row["feed"] in connected]

    assert {status["feed"] for status in statuses if status["state"] == "lost"} == set()  # nobody could say so
    assert connected.keys() == {f"{venue}/liquidations" for venue in VENUES}
    assert Counter(row["feed"] for row in gaps) == Counter({feed: count - 1 for feed, count in connected.items()})
    assert {row["reason"] for row in gaps} == {"process was not running"}


def test_a_killed_run_refuses_nothing_and_its_cascades_go_on(watched: Path) -> None:
    assert rows_of(watched, "dead_letters") == []
    assert rows_of(watched, "cascades")


def test_a_replay_that_dies_at_every_delicate_moment_gives_the_same_tables(tmp_path: Path) -> None:
    journal, undisturbed, data = tmp_path / "0.db", tmp_path / "undisturbed", tmp_path / "killed"
    last = write_busy_journal(journal, seconds=200, per_second=100)
    replay(journal, undisturbed)
    environment = settings_environment(EPOCH_SECONDS=0.02, SINK__COMMIT_INTERVAL_SECONDS=0.02)
    reached = []
    for where in DELICATE_MOMENTS:
        with program(dying(where, 2, replaying(journal, data)), environment, tmp_path / "killed.log") as run:
            assert run.wait(START_SECONDS) == -signal.SIGKILL, run.words()
        reached.append(last_emitted(data))
    replay(journal, data)

    assert 0 < reached[0] < reached[-1] < last
    assert differences(tables_of(data), tables_of(undisturbed)) == {}
    assert repeated(data) == {}
