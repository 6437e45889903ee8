"""A small campaign: the real program killed at random and at delicate moments (`make test-faults` runs a large one)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from kill_campaign import campaign

KILLS = 5


@pytest.mark.slow
def test_a_campaign_of_kills_loses_nothing_doubles_nothing_and_gets_nothing_wrong(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", secrets.randbits(32)))
    print(f"KILL_SEED={seed}")  # noqa: T201 - shown when something fails

    totals = campaign(KILLS, seed, tmp_path)

    assert totals.rows > 0
    assert totals.is_clean(), (totals.line(), totals.examples)
