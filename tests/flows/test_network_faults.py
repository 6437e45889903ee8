"""Whatever the network and the venues do: the tables hold what arrived and say what did not, and nobody else suffers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flow_runs import VENUES, differences, payloads, repeated, rows_of, tables_of
from liquidation_identity import record_identity, row_identity
from network_story import (
    BIG_BYTES,
    BINANCE,
    CAPPED_BLOCKS,
    DEAD_AFTER_S,
    FLOOD,
    INVERSE,
    LINEAR,
    OKX,
    RETRY_AFTER_S,
    Story,
    is_from_the_future,
    is_row,
    tell,
)

from operators.feed_watch import NOT_RUNNING

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
IN_FLIGHT_S = 5.0  # requests that had left before the refusal was read; a machine may be busy
GARBAGE_FRAMES = 5


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Return what was told; told again, once, where the machine was so busy that the program stood still for seconds."""
    for _ in range(2):
        folder = tmp_path_factory.mktemp("network")
        told = tell(folder / "live", folder / "live.log")
        if NOT_RUNNING not in {row["reason"] for row in rows(told, "gaps")}:
            break
    return told


def rows(story: Story, table: str) -> list[dict[str, Any]]:
    """Return what the first run wrote, oldest frame first; the second one is about the chain alone."""
    return [row for row in all_rows(story.data, table) if row["sequence"] <= story.last]


@cache
def all_rows(data: Path, table: str) -> list[dict[str, Any]]:
    return sorted(rows_of(data, table), key=lambda row: row["sequence"])


def gaps(story: Story, feed: str) -> list[dict[str, Any]]:
    return [row for row in rows(story, "gaps") if row["feed"] == feed]


def reasons(story: Story, feed: str) -> list[str]:
    return [row["reason"] for row in gaps(story, feed)]


# Liquidations.


@pytest.mark.parametrize("venue", VENUES)
def test_what_arrived_is_a_row_once_and_nothing_else_is(story: Story, venue: str) -> None:
    arrived = [record for record in story.published if record["venue"] == venue and is_row(record)]
    liquidations = [row for row in rows(story, "liquidations") if row["venue"] == venue]

    assert arrived
    assert Counter(map(row_identity, liquidations)) == Counter(map(record_identity, arrived))
    for side in ("LONG", "SHORT"):
        truth = sum(Decimal(record["notional_usd"]) for record in arrived if record["position_side"] == side)
        told = sum(row["notional_usd"] for row in liquidations if row["position_side"] == side)
        assert told == pytest.approx(float(truth), abs=0.005)


def test_a_flood_in_one_millisecond_is_there_whole(story: Story) -> None:
    flood = Counter(row["event_time"] for row in rows(story, "liquidations") if row["venue"] == LINEAR).most_common(1)

    assert flood[0][1] == FLOOD


def test_what_a_venue_says_once_more_after_a_reconnect_came_twice_and_counts_once(story: Story) -> None:
    feed = f"{LINEAR}/liquidations"
    items = Counter(
        (item["s"], item["T"], item["v"], item["p"])
        for message in payloads(story.data, feed, last=story.last)
        for item in message.get("data", ())
    )

    assert max(items.values()) == 2
    assert repeated(story.data) == {}


@pytest.mark.parametrize("venue", VENUES)
def test_what_did_not_arrive_lies_in_a_gap(story: Story, venue: str) -> None:
    lost = [
        record
        for record in story.published
        if record["venue"] == venue and not record["receivers"] and record["sent_ms"] > story.first_subscribed_ms[venue]
    ]
    unseen = gaps(story, f"{venue}/liquidations")
    outside = [record for record in lost if not any(is_within(record["sent_ms"], row) for row in unseen)]

    assert lost
    assert len(outside) == (2 if venue == BINANCE else 0)  # in gzip: dead letters, not a gap


def is_within(time_ms: float, row: dict[str, Any]) -> bool:
    """Say whether a gap covers a moment. What ends a connection takes its time to arrive."""
    from_ms, to_ms = (row[name].timestamp() * 1_000 for name in ("from_time", "to_time"))
    return bool(from_ms - 3_000 <= time_ms <= to_ms + 100)


def test_every_connection_that_ended_has_its_gap_with_the_reason(story: Story) -> None:
    found = {venue: [reason[:22] for reason in reasons(story, f"{venue}/liquidations")] for venue in VENUES}

    assert found == {
        BINANCE: ["cannot connect: timed ", "closed by us: 1002 res", "closed by us: 1009 fra", "broken: [Errno 104] Co"],
        LINEAR: ["HTTP 429 Too Many Requ", "broken: stream ends af", "broken: [Errno 104] Co"],
        INVERSE: ["no list of contracts: ", "stale: nothing receive"],
        OKX: ["no list of contracts: ", "stale: nothing receive"],
    }


@pytest.mark.parametrize("venue", [INVERSE, OKX])
def test_the_gap_of_a_connection_that_fell_silent_is_as_long_as_the_silence(story: Story, venue: str) -> None:
    (row,) = (row for row in gaps(story, f"{venue}/liquidations") if row["reason"].startswith("stale"))

    assert (row["to_time"] - row["from_time"]).total_seconds() > DEAD_AFTER_S


@pytest.mark.parametrize("venue", VENUES)
def test_what_goes_wrong_at_one_venue_makes_no_other_late(story: Story, venue: str) -> None:
    received_ms = {row_identity(row): row["receive_time"].timestamp() * 1_000 for row in rows(story, "liquidations")}
    own_ms = [
        deed["at_ms"] for deed in story.deeds if deed["place"] == venue and deed["kind"] in {"trickle", "shuffle", "flood"}
    ]
    delays_ms = sorted(
        received_ms[record_identity(record)] - record["sent_ms"]
        for record in story.published
        if record["venue"] == venue
        and is_row(record)
        and not any(at_ms - 500 < record["sent_ms"] < at_ms + 10_000 for at_ms in own_ms)
    )

    assert delays_ms[len(delays_ms) // 2] < 1_000
    assert delays_ms[-1] < 10_000


# What could not be read.


def test_every_frame_that_cannot_be_read_is_a_dead_letter_whole_and_counted(story: Story) -> None:
    letters = rows(story, "dead_letters")
    sent = Counter(payload["sha256"] for deed in story.deeds for payload in deed["payloads"] if payload["bytes"] <= BIG_BYTES)
    of_sockets = [row for row in letters if row["feed"] == f"{BINANCE}/liquidations" and row["error"] != "FutureTimeError"]

    assert Counter(hashlib.sha256(row["payload"]).hexdigest() for row in of_sockets) == sent
    assert len(of_sockets) == GARBAGE_FRAMES + 2 + 1
    assert max(len(row["payload"]) for row in of_sockets) == BIG_BYTES
    assert all(row["reason"] for row in letters)
    counted = {labels[1:]: count for labels, count in story.metrics.items() if labels[0] == "dead_letters_total"}
    assert counted == Counter((row["error"], row["venue"]) for row in letters)


def test_an_answer_that_cannot_be_read_is_a_dead_letter_a_gap_and_asked_for_again(story: Story) -> None:
    letters = [row for row in rows(story, "dead_letters") if not row["feed"].endswith("/liquidations")]

    assert Counter("/".join(row["feed"].split("/")[:2]) for row in letters) == {
        f"{OKX}/instruments": 2,  # a page of HTML, and truncated
        f"{OKX}/open-interest": 1,
        f"{INVERSE}/long-short-ratio": 1,
        "mempool/price-history": 1,
    }
    for row in letters:
        assert row["error"] == "MalformedFrameError"
        assert not is_json(row["payload"])
        assert [gap for gap in gaps(story, row["feed"]) if is_within(row["receive_time"].timestamp() * 1_000, gap)]


def is_json(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True


def test_what_is_dated_hours_ahead_is_a_dead_letter_and_minutes_behind_a_row(story: Story) -> None:
    ahead = [record for record in story.published if record["receivers"] and is_from_the_future(record)]
    behind = [record for record in story.published if is_row(record) and record["sent_ms"] - record["event_time_ms"] > 200_000]
    refused = [row for row in rows(story, "dead_letters") if row["error"] == "FutureTimeError"]

    assert ahead
    assert behind
    assert len(refused) == len(ahead)
    assert {json.loads(row["payload"])["event_time_us"] // 1_000 for row in refused} == {r["event_time_ms"] for r in ahead}
    assert Counter(map(record_identity, behind)) <= Counter(map(row_identity, rows(story, "liquidations")))


# Requests.


def requests(story: Story, venue: str, path: str = "") -> list[dict[str, Any]]:
    return [request for request in story.requests[venue] if path in request["path"]]


def is_handshake(request: dict[str, Any]) -> bool:
    return any(path in request["path"] for path in ("/market/ws/", "/v5/public/linear", "/v5/public/inverse", "/ws/v5/"))


@pytest.mark.parametrize(("venue", "path"), [(BINANCE, "depth"), (INVERSE, "tickers")])
def test_who_is_told_to_come_later_comes_later(story: Story, venue: str, path: str) -> None:
    (refused,) = (request for request in requests(story, venue, path) if request["fault"] == "refuse")
    waits_s = [
        (request["at_ms"] - refused["at_ms"]) / 1_000
        for request in story.requests[venue]
        if request["at_ms"] > refused["at_ms"] and not is_handshake(request)
    ]

    assert [wait_s for wait_s in waits_s if IN_FLIGHT_S < wait_s < RETRY_AFTER_S - 0.1] == []
    assert any(RETRY_AFTER_S <= wait_s < RETRY_AFTER_S + 15 for wait_s in waits_s)


@pytest.mark.parametrize(("venue", "words"), [(BINANCE, "HTTP 429"), (INVERSE, "HTTP 418")])
def test_the_poll_that_was_refused_and_those_held_back_have_gaps(story: Story, venue: str, words: str) -> None:
    rest = [row for row in rows(story, "gaps") if row["venue"] == venue and not row["feed"].endswith("/liquidations")]
    refused = [row for row in rest if row["reason"].startswith(words)]
    held = [row for row in rest if row["reason"].startswith("held back")]

    assert len(refused) == 1
    assert held
    for row in refused + held:
        assert (row["to_time"] - row["from_time"]).total_seconds() > 1


def test_a_handshake_that_is_told_to_come_later_comes_later(story: Story) -> None:
    first, second, *_others = requests(story, LINEAR, "v5/public")

    assert first["fault"] == "refuse"
    assert second["at_ms"] - first["at_ms"] >= 6_000


def test_where_we_are_blocked_we_ask_no_more_and_say_so(story: Story) -> None:
    asked = Counter(request["path"] for request in requests(story, LINEAR, "tickers"))

    assert set(asked.values()) == {1}
    assert story.metrics["feed_polls_failing", "tickers", LINEAR] == len(asked)
    assert gaps(story, f"{LINEAR}/tickers/BTCUSDT") == []  # it goes on


def test_nobody_asks_again_in_a_tight_loop(story: Story) -> None:
    for venue in VENUES:
        by_path: dict[str, list[dict[str, Any]]] = {}
        for request in story.requests[venue]:
            by_path.setdefault(request["path"], []).append(request)
        for path, asked in by_path.items():
            for earlier, later in pairwise(asked):
                if earlier["fault"]:
                    assert later["at_ms"] - earlier["at_ms"] >= 450, path
        assert len([request for request in story.requests[venue] if is_handshake(request)]) <= 8, venue


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        (f"{LINEAR}/depth", "HTTP 500 Internal Server Error: <!DOCTYPE html> "),
        (f"{OKX}/depth", ("answer larger than 33554432 bytes", "no answer within 10 s")),  # whichever comes first
        (f"{OKX}/index-price", "no answer within 10 s"),
        (f"{OKX}/funding-rate", "RemoteProtocolError: "),
        (f"{INVERSE}/depth", "DecodingError: "),
    ],
)
def test_an_answer_that_does_not_come_right_is_a_gap_that_ends(story: Story, feed: str, words: str | tuple[str, ...]) -> None:
    found = [row for row in rows(story, "gaps") if row["feed"].startswith(f"{feed}/") and row["reason"].startswith(words)]

    assert found
    assert all(row["to_time"] > row["from_time"] for row in found)


def test_an_answer_that_is_slow_is_an_answer(story: Story) -> None:
    slow = [request for request in requests(story, OKX, "mark-price") if request["fault"] == "slow"]

    assert slow
    assert [row for row in rows(story, "gaps") if row["feed"].startswith(f"{OKX}/mark-price")] == []


def test_memory_stays_bounded(story: Story) -> None:
    used = {moment: size // MEGABYTE for moment, size in story.resident_bytes.items()}

    assert used["after the big frame"] - used["before the big frame"] < 200, used
    assert used["after the frame that is too big"] - used["after the big frame"] < 200, used
    assert used["at the end"] < 800, used


# The chain.


def test_a_node_that_caps_its_range_in_any_words_is_read_in_smaller_steps_without_an_incident(story: Story) -> None:
    frames = payloads(story.data, "ethereum/logs", last=story.last)
    refused = [request for request in story.requests["ethereum"] if request["fault"] == "range-cap"]

    assert len(refused) >= 4
    assert max(frame["to_block"] - frame["from_block"] + 1 for frame in frames) <= CAPPED_BLOCKS
    assert set(reasons(story, "ethereum/logs")) <= {"the chain was re-organised while it was read"}


def test_what_a_reorganisation_took_away_is_taken_back_also_while_nobody_ran(story: Story) -> None:
    transfers = all_rows(story.data, "stablecoin_transfers")
    removed = [row for row in transfers if row["removed"]]

    assert [row for row in removed if row["sequence"] <= story.last]
    assert [row for row in removed if row["sequence"] > story.last]
    sums, events = Counter(dict.fromkeys(("inflow", "outflow", "internal", "mint", "burn"), 0)), 0
    for row in transfers:
        sign = -1 if row["removed"] else 1
        sums[row["kind"]] += sign * round(row["amount_usd"] * 1_000_000)
        events += sign
    assert dict(sums) == {kind: story.chain[f"{kind}_micros"] for kind in sums}
    assert events == story.chain["events"]


# All of it.


def test_the_frames_of_all_this_give_the_same_tables_again(story: Story) -> None:
    assert differences(tables_of(story.data, last=story.last), tables_of(story.replayed)) == {}
