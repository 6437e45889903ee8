"""A venue that connects, acknowledges, answers pings, and says nothing: as the simulator imitates it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest
from simulated_client import Tape, exchange, get, post, serving, socket

from simulator.scenarios import SCENARIOS

BUSY = replace(
    SCENARIOS["burst"],
    volley=replace(SCENARIOS["burst"].volley, at=0.1, count=2_000, lasts=60.0),
    long_fuel=0.2,
    short_fuel=0.2,
)
SUBSCRIBE = {
    "binance-usdm": ("/market/ws", {"method": "SUBSCRIBE", "params": ["!forceOrder@arr"], "id": 1}),
    "bybit-linear": ("/v5/public/linear", {"op": "subscribe", "args": ["allLiquidation.BTCUSDT"]}),
    "bybit-inverse": ("/v5/public/inverse", {"op": "subscribe", "args": ["allLiquidation.BTCUSD"]}),
    "okx": ("/ws/v5/public", {"op": "subscribe", "args": [{"channel": "liquidation-orders", "instType": "SWAP"}]}),
}


def against(scenario, scene, **options):
    """Play a scene: a coroutine function of URL and session, against a fresh simulation."""

    async def play():
        async with serving(scenario, **options) as (_, url, session):
            await scene(url, session)

    asyncio.run(play())


async def heard(tape, *venues, more_than):
    """Wait until every one of these venues has sent more frames than it had."""

    async def all_of_them():
        while any(len(tape.frames[venue]) <= more_than[venue] for venue in venues):  # noqa: ASYNC110 - a tape has no event
            await asyncio.sleep(0.05)

    await asyncio.wait_for(all_of_them(), 20)


@pytest.mark.parametrize("venue", sorted(SUBSCRIBE))
def test_a_retired_venue_accepts_and_acknowledges_as_ever_and_answers_pings(venue):
    path, request = SUBSCRIBE[venue]

    async def scene(url, session):
        answers = []
        for retired in (False, True):
            await post(session, url, f"/control/{'retire' if retired else 'revive'}?venue={venue}")
            async with socket(session, url, f"/{venue}{path}") as connection:
                (answer,) = await exchange(connection, request)
                answers.append({name: value for name, value in answer.items() if name not in {"conn_id", "connId"}})
                await connection.ping()
                if venue == "okx":
                    assert await exchange(connection, "ping") == ["pong"]
        assert answers[0] == answers[1]

    against(SCENARIOS["calm"], scene)


@pytest.mark.slow
def test_a_retired_venue_says_nothing_until_it_is_revived_while_the_others_speak():
    async def scene(url, session):
        async with Tape(session, url).rolling() as tape:
            await heard(tape, "okx", "bybit-linear", more_than=dict.fromkeys(tape.frames, 0))
            assert tape.frames["binance-usdm"] == []

            state = await post(session, url, "/control/retire?venue=okx")
            assert state["retired"] == ["binance-usdm", "okx"]
            await asyncio.sleep(0.2)  # what was queued before
            before = {venue: len(frames) for venue, frames in tape.frames.items()}
            await post(session, url, "/control/revive?venue=binance-usdm")
            await heard(tape, "binance-usdm", "bybit-linear", more_than=before)
            assert len(tape.frames["okx"]) == before["okx"]

            assert (await post(session, url, "/control/revive?venue=okx"))["retired"] == []
            await heard(tape, "okx", more_than=before)

    against(BUSY, scene, retired=["binance-usdm"])


def test_a_venue_that_there_is_not_cannot_be_retired():
    async def scene(url, session):
        for control in ("retire?venue=mtgox", "retire", "revive?venue=mtgox"):
            async with session.post(f"{url}/control/{control}") as answer:
                assert answer.status == 400
                assert (await answer.text()).startswith("unknown venue")
        assert (await get(session, url, "/control/state"))["retired"] == []

    against(SCENARIOS["calm"], scene)


@pytest.mark.slow
def test_the_command_line_names_the_venues_that_can_be_retired():
    refused = subprocess.run(
        [sys.executable, "-m", "simulator", "--retire", "mtgox"], capture_output=True, text=True, check=False
    )

    assert refused.returncode == 2
    assert "choose from" in refused.stderr
    assert "binance-usdm" in refused.stderr
