"""``cascadewatch shards`` and ``drain``: who has which share, and what is to be done."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from cascadewatch.cli import app
from connectors.sinks.shard_ledger import ShardLedger, ShardStatus, Tenure
from market.shards import Shard

NOON_US = 1_767_182_400_000_000  # 2025-12-31 12:00:00 UTC


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in ("CASCADEWATCH_SHARD", "CASCADEWATCH_DATA_DIR", "CASCADEWATCH_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def said(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments):
    result = said(*arguments)
    assert result.exit_code == 1, result.output
    return " ".join(result.stderr.split())


def rows(output):
    """Return the cells of what is shown as a table."""
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def begun(tmp_path, *statuses):
    ledger = ShardLedger(str(tmp_path / "tables"))
    for index, status in enumerate(statuses):
        shard = Shard(index, 3)
        tenure = Tenure(
            generation=2, shard=shard, status=status, partition=f"{index}of3g2", next_sequence=1, begun_us=NOON_US + index
        )
        ledger.write(ledger.read(), tenure)
    return ledger


def test_where_the_market_is_not_divided_that_is_said(tmp_path):
    result = said("shards", "--data", tmp_path)

    assert result.exit_code == 0
    assert result.stdout == f"no shards at {tmp_path}/tables: the market is not divided\n"


def test_every_shard_is_listed_also_one_that_never_came(tmp_path):
    begun(tmp_path, ShardStatus.RUNNING, ShardStatus.DRAINED)

    result = said("shards", "--data", tmp_path)

    assert re.search(r"Shards of .*tables, generation 2 ", " ".join(result.stdout.split()))
    assert rows(result.stdout) == [
        ["0/3", "begun: runs, or was killed", "0of3g2", "2025-12-31 12:00:00 UTC"],
        ["1/3", "handed over", "1of3g2", "2025-12-31 12:00:00 UTC"],
        ["2/3", "never started", "", ""],
    ]


def test_a_lost_volume_is_given_up(tmp_path):
    ledger = begun(tmp_path, ShardStatus.RUNNING)

    result = said("shards", "--data", tmp_path, "--give-up", "0/3")

    assert result.exit_code == 0, result.output
    assert rows(result.stdout)[0][1] == "given up"
    assert ledger.read().newest[0].status is ShardStatus.GIVEN_UP


def test_what_cannot_be_given_up_is_said(tmp_path):
    begun(tmp_path, ShardStatus.DRAINED)

    assert "shard 0/3 has handed over: nothing of it is lost" in refusal("shards", "--data", tmp_path, "--give-up", "0/3")
    assert "--give-up 3/3: a shard is i/n with i from 0" in refusal("shards", "--data", tmp_path, "--give-up", "3/3")


def test_there_must_be_something_to_drain(tmp_path, monkeypatch):
    assert "nothing has run with the data directory" in refusal("drain", "--data", tmp_path / "new")

    monkeypatch.setenv("CASCADEWATCH_SHARD", "0/2")
    assert "there is no shard 0/2 at present; `cascadewatch shards`" in refusal("drain", "--data", tmp_path / "new")


def test_a_replay_of_another_shards_journal_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADEWATCH_SHARD", "0/2")

    words = refusal("replay", tmp_path / "1of2g1.db", "--data", tmp_path / "new")

    assert "this journal was recorded by shard 1/2, and is replayed as such: unset CASCADEWATCH_SHARD" in words
