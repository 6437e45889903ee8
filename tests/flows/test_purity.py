"""The tables are a pure function of the frames: live, replayed, in short epochs and in long ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow_runs import (
    START_SECONDS,
    STOP_SECONDS,
    differences,
    journal_of,
    last_emitted,
    last_journaled,
    program,
    replay,
    rows_of,
    settings_environment,
    tables_of,
)

pytestmark = pytest.mark.slow

WATCHED_SECONDS = 15


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of a run that watched a simulated market, and ended by itself."""
    data = tmp_path_factory.mktemp("purity") / "live"
    command = ["-m", "cascadewatch", "run", "--simulate", "--scenario", "long-cascade", "--seed", "5", "--data", str(data)]
    with program([*command, "--seconds", str(WATCHED_SECONDS)], settings_environment(), data.with_suffix(".log")) as run:
        code = run.wait(WATCHED_SECONDS + START_SECONDS + STOP_SECONDS)
        assert code == 0, run.words()
    return data


def test_a_replay_in_short_epochs_gives_the_tables_of_the_run(watched: Path, tmp_path: Path) -> None:
    replay(journal_of(watched), tmp_path / "short", "--last", last_emitted(watched), EPOCH_SECONDS=0.2)

    assert differences(tables_of(watched), tables_of(tmp_path / "short")) == {}


def test_a_replay_of_all_in_one_epoch_differs_by_later_frames_only(watched: Path, tmp_path: Path) -> None:
    replay(journal_of(watched), tmp_path / "long", EPOCH_SECONDS=3)

    assert last_emitted(tmp_path / "long") == last_journaled(watched)
    assert differences(tables_of(watched), tables_of(tmp_path / "long", last=last_emitted(watched))) == {}


def test_the_run_that_was_replayed_had_something_to_say(watched: Path) -> None:
    for name in ("liquidations", "derivatives", "book_depth", "scores", "alerts"):
        assert rows_of(watched, name), name
