"""Shards that share nothing but the tables, in an object store; and one that was killed, whose work is finished without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from flow_runs import (
    START_SECONDS,
    last_emitted,
    last_journaled,
    live,
    program,
    replay,
    replaying,
    rows_of,
    settings_environment,
    simulator,
    wait_until,
    watching,
    write_busy_journal,
)
from s3_server import s3_server

from connectors.sources.journal import Journal

pytestmark = pytest.mark.slow

REPLAY_SECONDS = START_SECONDS + 60
COMPARED = ("liquidations", "scores", "cascades", "alerts")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def replay_apart(shard: str, journal: Path, volume: Path, store: Any, *, last: int | None = None) -> None:
    """Replay as one shard that has a volume of its own."""
    environment = settings_environment(
        SHARD=shard,
        SINK__TABLES_URI=store.uri("apart"),
        SINK__STORAGE_OPTIONS=json.dumps(store.storage_options()),
    )
    options = [] if last is None else ["--last", last]
    with program(replaying(journal, volume, *options), environment, volume.with_suffix(".log")) as run:
        assert run.wait(REPLAY_SECONDS) == 0, run.words()


def described(rows: list[dict[str, Any]]) -> list[str]:
    """Rows without what names the shard that wrote them."""
    return sorted(repr({**row, "feed_partition": None, "cascade_id": None}) for row in rows)


def test_states_travel_through_the_object_store_to_volumes_that_never_met(store, tmp_path: Path) -> None:
    journal, whole = tmp_path / "0.db", tmp_path / "whole"
    last = write_busy_journal(journal, seconds=40, per_second=20)
    replay(journal, whole)

    for index in range(2):
        replay_apart(f"{index}/2", journal, tmp_path / f"old-{index}", store, last=last // 2)
    for index in range(3):
        replay_apart(f"{index}/3", journal, tmp_path / f"new-{index}", store)

    for name in COMPARED:
        table = DeltaTable(f"{store.uri('apart')}/{name}", storage_options=store.storage_options())
        assert described(table.to_pyarrow_table().to_pylist()) == described(rows_of(whole, name)), name


def test_what_a_killed_shard_has_left_is_finished_without_the_market(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "killed.log"
    with simulator("long-cascade", "--speed", "4") as market:
        environment = watching(market, CHAIN__URL=None, EPOCH_SECONDS=2)
        with program(live(data), environment, log) as run:
            wait_until(lambda: len(rows_of(data, "liquidations")) > 20, what="liquidations", program=run)
            run.kill()
    journaled = last_journaled(data)

    with program(["-m", "cascadewatch", "drain", "--data", str(data)], environment, log) as run:
        assert run.wait(REPLAY_SECONDS) == 0, run.words()

    assert last_emitted(data) == journaled == last_journaled(data)
    replay(data / "journal" / "0.db", tmp_path / "again")
    for name in (*COMPARED, "derivatives", "gaps"):
        assert described(rows_of(data, name)) == described(rows_of(tmp_path / "again", name)), name


def test_a_shard_that_is_drained_twice_is_drained(tmp_path: Path) -> None:
    journal, data = tmp_path / "0.db", tmp_path / "data"
    write_busy_journal(journal, seconds=2, per_second=20)
    environment = settings_environment(SHARD="0/2")
    for command in (replaying(journal, data), *[["-m", "cascadewatch", "drain", "--data", str(data)]] * 2):
        with program(command, environment, tmp_path / "twice.log") as run:
            assert run.wait(REPLAY_SECONDS) == 0, run.words()

    assert len(rows_of(data, "liquidations")) > 0
    opened = Journal(journal)
    assert last_emitted(data / "shard-0-of-2") == opened.next_sequence - 1
    opened.close()
