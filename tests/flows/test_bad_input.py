"""Bad input costs nothing but itself: one dead letter with the reason, a count, and the flow goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from bytewax.testing import TestingSink, TestingSource, run_main
from flow_runs import instruments_frame, liquidation_frame, tick_frame

from connectors.sinks.metrics import Metrics, MetricsSink
from connectors.sources.chain.addresses import exchange_addresses
from connectors.sources.frame import Frame
from connectors.sources.journal import FrameRow
from flows.cascade import build
from market.events import Liquidation
from market.parameters import Parameters
from market.raw import Cause, DeadLetter

pytestmark = pytest.mark.slow

NOON_US = 1_700_000_000_000_000
SECOND_US = 1_000_000
BAD_AT_US = NOON_US + 2 * SECOND_US
FEED = "bybit-linear/liquidations"


def bytes_frame(feed: str, payload: bytes) -> FrameRow:
    return feed, payload, BAD_AT_US


def json_frame(feed: str, body: object) -> FrameRow:
    return bytes_frame(feed, json.dumps(body).encode())


def bad_item(item: Mapping[str, object]) -> FrameRow:
    return liquidation_frame(BAD_AT_US, item)


BAD_FRAMES: dict[str, tuple[FrameRow, str]] = {
    "no JSON": (bytes_frame(FEED, b"<html>502 Bad Gateway</html>"), "MalformedFrameError"),
    "nothing": (bytes_frame(FEED, b""), "MalformedFrameError"),
    "half a message": (bytes_frame(FEED, b'{"topic":"allLiquidation.BTCUSDT","type":"sna'), "MalformedFrameError"),
    "no text": (bytes_frame(FEED, b"\xff\xfe\x00"), "MalformedFrameError"),
    "nesting without end": (bytes_frame(FEED, b'{"data":' + 100_000 * b"["), "MalformedFrameError"),
    "a list for a number": (bad_item({"T": []}), "MalformedFrameError"),
    "a time before there was one": (bad_item({"T": -1}), "MalformedFrameError"),
    "another topic": (json_frame(FEED, {"topic": "tickers.BTCUSDT", "type": "snapshot"}), "UnknownFrameError"),
    "no side that there is": (bad_item({"S": "Sideways"}), "UnknownFrameError"),
    "a refused subscription": (
        json_frame(FEED, {"success": False, "ret_msg": "error:handler not found", "op": "subscribe"}),
        "RefusedFrameError",
    ),
    "an unknown symbol": (bad_item({"s": "NOPEUSDT"}), "UnknownSymbolError"),
    "a negative quantity": (bad_item({"v": "-1"}), "AbsurdValueError"),
    "a quantity of zero": (bad_item({"v": "0"}), "AbsurdValueError"),
    "an absurd quantity": (bad_item({"v": "1000000"}), "AbsurdValueError"),
    "a quantity that is none": (bad_item({"v": "NaN"}), "AbsurdValueError"),
    "a quantity without end": (bad_item({"v": "9" * 5_000}), "AbsurdValueError"),
    "a negative price": (bad_item({"p": "-50000"}), "AbsurdValueError"),
    "an infinite price": (bad_item({"p": "Infinity"}), "AbsurdValueError"),
    "a time from the future": (bad_item({"T": BAD_AT_US // 1_000 + 61_000}), "FutureTimeError"),
    "an unknown feed": (bytes_frame("nobody/liquidations", b"{}"), "UnknownFrameError"),
    "an unknown channel": (bytes_frame("bybit-linear/gossip", b"{}"), "UnknownFrameError"),
    "a feed without a name": (bytes_frame("", b"{}"), "UnknownFrameError"),
    "a status that is none": (bytes_frame("status", b"{"), "MalformedFrameError"),
    "a status of no kind": (
        json_frame("status", {"feed": FEED, "connection": "1", "state": "bored", "reason": ""}),
        "MalformedFrameError",
    ),
    "a list of no contracts": (json_frame("bybit-linear/instruments", {"retCode": 0}), "MalformedFrameError"),
    "a refused list of contracts": (
        json_frame("bybit-linear/instruments", {"retCode": 10006, "retMsg": "Too many visits!", "time": 1}),
        "RefusedFrameError",
    ),
    "a chain that is none": (bytes_frame("ethereum/logs", b"[]"), "MalformedFrameError"),
    "another chain": (
        json_frame("ethereum/logs", {"chain": "dogechain", "from_block": 1, "to_block": 1, "timestamps": {}, "logs": []}),
        "UnknownFrameError",
    ),
    "a difficulty that is none": (bytes_frame("mempool/difficulty", b"null"), "MalformedFrameError"),
}


def around(*bad: FrameRow) -> list[FrameRow]:
    """Return good frames with bad ones between them: BTC at 50,000 USD before each of them, and after the last."""
    rows = [instruments_frame(NOON_US), tick_frame(NOON_US)]
    for number, row in enumerate(bad):
        rows += [good(number), row]
    return [*rows, good(len(bad)), tick_frame(BAD_AT_US + SECOND_US)]


def good(number: int) -> FrameRow:
    return liquidation_frame(BAD_AT_US, {"v": f"0.{number + 1:03}"})


def rows_and_counts(rows: list[FrameRow], *, batch_size: int = 1_000) -> tuple[list[Any], Counter[str]]:
    """Run frames through the flow; return every event that is a row, in order, and the metrics' dead letters by class."""
    frames = [Frame(feed, payload, Cause("0", number, at_us)) for number, (feed, payload, at_us) in enumerate(rows, start=1)]
    bunches: list[tuple[str, list[Any]]] = []
    metrics = Metrics()
    run_main(
        build(
            TestingSource(frames, batch_size),
            tables=TestingSink(bunches),
            metrics=MetricsSink(metrics.observe_batch),
            parameters=Parameters(),
            addresses=exchange_addresses(),
        )
    )
    events = [event for _key, bunch in bunches for event in bunch]
    counts: Counter[str] = Counter()
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "cascadewatch_dead_letters_total":
                counts[sample.labels["error"]] += int(sample.value)
    return sorted(events, key=lambda event: (event.cause.sequence, repr(event))), counts


def of_type(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_one_dead_letter_and_its_neighbours_are_rows(name: str) -> None:
    row, error = BAD_FRAMES[name]

    events, counts = rows_and_counts(around(row))

    (letter,) = of_type(DeadLetter, events)
    assert (letter.error, letter.cause.sequence, letter.feed) == (error, 4, row[0])
    assert letter.venue == row[0].partition("/")[0]
    assert letter.reason
    assert counts == {error: 1}
    assert [liquidation.base_quantity for liquidation in of_type(Liquidation, events)] == [0.001, 0.002]


def test_a_frame_that_cannot_be_read_is_kept_whole() -> None:
    for row, error in BAD_FRAMES.values():
        if error.endswith("FrameError"):
            (letter,) = of_type(DeadLetter, rows_and_counts(around(row))[0])
            assert letter.payload == row[1]


def test_one_bad_item_among_good_ones_costs_itself_alone() -> None:
    row = liquidation_frame(BAD_AT_US, {"v": "0.5"}, {"v": "0.6", "S": "Sideways"}, {"v": "-0.7"}, {"v": "0.8"})

    events, counts = rows_and_counts(around(row))

    assert counts == {"UnknownFrameError": 1, "AbsurdValueError": 1}
    assert [liquidation.base_quantity for liquidation in of_type(Liquidation, events)] == [0.001, 0.5, 0.8, 0.002]


def test_a_time_a_little_ahead_is_the_receive_time() -> None:
    events, counts = rows_and_counts(around(bad_item({"T": BAD_AT_US // 1_000 + 59_000, "v": "0.5"})))

    assert counts == {}
    (ahead,) = (liquidation for liquidation in of_type(Liquidation, events) if liquidation.base_quantity == 0.5)
    assert ahead.event_time_us == BAD_AT_US


def test_all_of_it_at_once_gives_the_same_rows_in_every_batch_size() -> None:
    rows = around(*(row for row, _error in BAD_FRAMES.values()))
    expected, counts = rows_and_counts(rows)

    assert counts == Counter(error for _row, error in BAD_FRAMES.values())
    assert len(of_type(Liquidation, expected)) == len(BAD_FRAMES) + 1
    for batch_size in (1, 2, 3, 7, 50):
        assert rows_and_counts(rows, batch_size=batch_size) == (expected, counts)
