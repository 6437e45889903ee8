"""Answers in the shapes that the operators' documentation shows; the figures are made up."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE

from connectors.sources.feed import PollFeed
from connectors.sources.frame import Frame, FrameError, MalformedFrameError, RefusedFrameError
from connectors.sources.mining.blockchain_com import BLOCKCHAIN_COM
from connectors.sources.mining.coin_metrics import COIN_METRICS
from connectors.sources.mining.daily import MiningSource
from connectors.sources.mining.mempool import MEMPOOL
from market.raw import Cause, RawEvent, RawMiningFees, RawMiningHistory

CAUSE = Cause("main", 3, 1_700_000_100_000_000)
SOURCES = {source.id: source for source in (MEMPOOL, BLOCKCHAIN_COM, COIN_METRICS)}
FEEDS = [f"{source.id}/{channel}" for source in SOURCES.values() for channel in source.parsers]
NOON = 1_704_110_400  # 2024-01-01 12:00 UTC
DAY = 86_400


def parse(feed: str, payload: str | bytes) -> list[RawEvent]:
    source, _, channel = feed.partition("/")
    text = payload.encode() if isinstance(payload, str) else payload
    return SOURCES[source].parsers[channel](Frame(feed, text, CAUSE))


def difficulty(source: str, *days: tuple[str, str]) -> list[RawEvent]:
    return [RawMiningHistory(CAUSE, source, difficulty=days)]


def price(source: str, *days: tuple[str, str]) -> list[RawEvent]:
    return [RawMiningHistory(CAUSE, source, price_usd=days)]


SAYINGS: dict[str, tuple[str, str, list[RawEvent]]] = {
    "mempool's adjustments, to the last digit": (
        "mempool/difficulty",
        f"""{{"hashrates": [{{"timestamp": {NOON}, "avgHashrate": 5.1e20}}], "currentHashrate": 5.2e20,
        "difficulty": [{{"time": {NOON}, "height": 824544, "difficulty": 73197634206448.34, "adjustment": 1.0165}},
                       {{"time": {NOON + 14 * DAY}, "height": 826560, "difficulty": 70343519904866.80, "height": 1}}]}}""",
        difficulty("mempool", ("2024-01-01", "73197634206448.34"), ("2024-01-15", "70343519904866.80")),
    ),
    "mempool's prices, newest first: of a day's the last": (
        "mempool/price-history",
        f"""{{"prices": [{{"time": {NOON + DAY}, "USD": 45000, "EUR": 41000}}, {{"time": {NOON + 3600}, "USD": 44172.07}},
                        {{"time": {NOON}, "USD": 44001}}], "exchangeRates": {{"USDEUR": 0.91}}}}""",
        price("mempool", ("2024-01-01", "44172.07"), ("2024-01-02", "45000")),
    ),
    "mempool's marks for prices not known are left out": (
        "mempool/price-history",
        f'{{"prices": [{{"time": {NOON}, "USD": 44001}}, {{"time": 0, "USD": 0}}, {{"time": {DAY}, "USD": -1}}]}}',
        price("mempool", ("2024-01-01", "44001")),
    ),
    "mempool's current price": (
        "mempool/price",
        f'{{"time": {NOON}, "USD": 43753, "EUR": 40545, "JPY": 6227990}}',
        price("mempool", ("2024-01-01", "43753")),
    ),
    "mempool's current price when it knows none": ("mempool/price", f'{{"time": {NOON}, "USD": -1}}', []),
    "mempool's fees, from satoshi in all to BTC per block": (
        "mempool/fees",
        '{"startBlock": 823786, "endBlock": 823929, "totalReward": 91458310000, "totalFee": 1458310000, "totalTx": 553210}',
        [RawMiningFees(CAUSE, "mempool", "0.101271527778", 144)],
    ),
    "mempool's fees when its database sums in text": (
        "mempool/fees",
        '{"startBlock": 0, "endBlock": 143, "totalReward": "7", "totalFee": "14400000000", "totalTx": "1"}',
        [RawMiningFees(CAUSE, "mempool", "1", 144)],
    ),
    "blockchain.com's difficulty, with the exponent it writes": (
        "blockchain-com/difficulty",
        f"""{{"status": "ok", "name": "Difficulty", "unit": "Difficulty", "period": "day",
        "values": [{{"x": 1230940800, "y": 0.0}}, {{"x": {NOON}, "y": 7.2006146478567E13}}]}}""",
        difficulty("blockchain-com", ("2024-01-01", "7.2006146478567E13")),
    ),
    "blockchain.com's prices": (
        "blockchain-com/price-history",
        f'{{"status": "ok", "values": [{{"x": {NOON}, "y": 42265.19}}]}}',
        price("blockchain-com", ("2024-01-01", "42265.19")),
    ),
    "blockchain.com's fees: the newest day's over 144 blocks": (
        "blockchain-com/fees",
        f'{{"status": "ok", "values": [{{"x": {NOON}, "y": 99}}, {{"x": {NOON + DAY}, "y": 144.72}}]}}',
        [RawMiningFees(CAUSE, "blockchain-com", "1.005", 144)],
    ),
    "a chart without values": ("blockchain-com/fees", '{"status": "ok", "values": []}', []),
    "Coin Metrics' days, some values not yet known": (
        "coin-metrics/history",
        """{"data": [{"asset": "btc", "time": "2024-01-01T00:00:00.000000000Z",
                     "PriceUSD": "44172.0712345", "DiffMean": "72006146478567.1"},
                    {"asset": "btc", "time": "2024-01-02T00:00:00.000000000Z", "PriceUSD": null, "DiffMean": "73000000000000"},
                    {"asset": "btc", "time": "2009-01-04T00:00:00.000000000Z", "DiffMean": "0"}],
            "next_page_token": "x", "next_page_url": "https://example.org"}""",
        [
            RawMiningHistory(
                CAUSE,
                "coin-metrics",
                difficulty=(("2024-01-01", "72006146478567.1"), ("2024-01-02", "73000000000000")),
                price_usd=(("2024-01-01", "44172.0712345"),),
            )
        ],
    ),
    "Coin Metrics' fees: of the newest day that has them": (
        "coin-metrics/fees",
        """{"data": [{"asset": "btc", "time": "2024-01-01T00:00:00.000000000Z", "FeeTotNtv": "30.3", "BlkCnt": "150"},
                    {"asset": "btc", "time": "2024-01-02T00:00:00.000000000Z", "FeeTotNtv": null, "BlkCnt": "3"}]}""",
        [RawMiningFees(CAUSE, "coin-metrics", "0.202", 150)],
    ),
    "Coin Metrics without fees": ("coin-metrics/fees", '{"data": []}', []),
    "no days at all": ("coin-metrics/history", '{"data": []}', []),
}


@pytest.mark.parametrize("saying", SAYINGS)
def test_each_answer_says_exactly_its_values_as_text(saying: str) -> None:
    feed, payload, events = SAYINGS[saying]

    assert parse(feed, payload) == events


MALFORMED = {
    "mempool/difficulty": '{"difficulty": [{"time": 1, "difficulty": null}]}',
    "mempool/price-history": '{"prices": [{"time": 253402300800, "USD": 1}]}',
    "mempool/price": '{"time": 1, "USD": "a lot"}',
    "mempool/fees": '{"startBlock": 144, "endBlock": 143, "totalFee": 1}',
    "blockchain-com/difficulty": '{"status": "ok", "values": [{"x": 1, "y": [1]}]}',
    "blockchain-com/price-history": '{"status": "ok", "values": [{"x": -1, "y": 1}]}',
    "blockchain-com/fees": '{"status": "ok", "values": [{"x": 1, "y": "-"}]}',
    "coin-metrics/history": '{"data": [{"time": "2024-01-01", "PriceUSD": "1"}]}',
    "coin-metrics/fees": '{"data": [{"time": "2024-01-01T00:00:00Z", "FeeTotNtv": "1", "BlkCnt": "many"}]}',
}


@pytest.mark.parametrize("feed", FEEDS)
def test_what_a_source_does_not_speak_is_malformed(feed: str) -> None:
    for payload in (MALFORMED[feed], "", "[]", "<html>", "[" * 100_000, b'{"time": 1, "USD": "\xff"}'):
        with pytest.raises(MalformedFrameError):
            parse(feed, payload)


@pytest.mark.parametrize("digits", [31, 10_000])
def test_a_number_longer_than_any_that_was_seen_is_malformed(digits: int) -> None:
    for feed, payload in (
        ("mempool/price", f'{{"time": {NOON}, "USD": {"9" * digits}}}'),
        ("mempool/fees", f'{{"startBlock": 0, "endBlock": {"9" * digits}, "totalFee": 1}}'),
    ):
        with pytest.raises(MalformedFrameError):
            parse(feed, payload)


def test_no_blocks_have_no_mean() -> None:
    with pytest.raises(MalformedFrameError):
        parse("coin-metrics/fees", '{"data": [{"time": "2024-01-01T00:00:00Z", "FeeTotNtv": "1", "BlkCnt": "0"}]}')


def test_a_chart_that_says_error_is_refused() -> None:
    with pytest.raises(RefusedFrameError, match="not-found"):
        parse("blockchain-com/difficulty", '{"status": "not-found", "error": "no such chart"}')


NUMBERS = st.integers() | st.floats(allow_nan=False) | st.text(UNICODE, max_size=20) | st.none()
JSON = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["time", "USD", "difficulty", "prices", "values", "x", "y", "data", "PriceUSD"]), inner
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("feed", FEEDS)
@given(payload=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(feed: str, payload: bytes) -> None:
    with contextlib.suppress(FrameError):
        parse(feed, payload)


WRAPPERS: dict[str, Callable[[str], str]] = {
    "mempool/price": lambda literal: f'{{"time": {NOON}, "USD": {literal}}}',
    "blockchain-com/price-history": lambda literal: f'{{"values": [{{"x": {NOON}, "y": {literal}}}]}}',
    "coin-metrics/history": lambda literal: f'{{"data": [{{"time": "2024-01-01T00:00:00Z", "PriceUSD": "{literal}"}}]}}',
}


@pytest.mark.parametrize("feed", WRAPPERS)
@given(number=st.decimals(min_value="0.00000001", max_value=10**25, allow_nan=False, places=8))
def test_a_number_keeps_every_digit_it_came_with(feed: str, number: object) -> None:
    literal = f"{number:f}"

    assert parse(feed, WRAPPERS[feed](literal)) == price(feed.partition("/")[0], ("2024-01-01", literal))


@given(st.lists(st.tuples(st.integers(0, 40 * DAY), st.integers(1, 9)), min_size=1, unique_by=lambda point: point[0]))
def test_the_order_of_an_answer_means_nothing(points: list[tuple[int, int]]) -> None:
    def read(ordered: list[tuple[int, int]]) -> list[RawEvent]:
        return parse("mempool/price-history", json.dumps({"prices": [{"time": at, "USD": usd} for at, usd in ordered]}))

    assert read(points) == read(sorted(points)) == read(sorted(points, reverse=True))


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_every_poll_has_a_parser_and_asks_the_base_it_is_given(source: MiningSource) -> None:
    polls = source.polls("http://127.0.0.1:1")

    assert [poll.name for poll in polls] == [f"{source.id}/{channel}" for channel in source.parsers]
    assert all(poll.url.startswith("http://127.0.0.1:1/") for poll in polls)
    assert min(poll.every_seconds for poll in polls) >= 60
    assert not source.base_url.endswith("/")


def test_mempool_is_asked_for_its_price_once_a_minute() -> None:
    poll = {feed.name: feed for feed in MEMPOOL.polls(MEMPOOL.base_url)}["mempool/price"]

    assert poll == PollFeed("mempool/price", "https://mempool.space/api/v1/prices", 60.0)
