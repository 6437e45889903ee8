import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.sources.frame import Frame, FrameError, MalformedFrameError
from connectors.sources.parse import parse
from connectors.sources.recorded import (
    DERIVATIVES_FEED,
    LIQUIDATIONS_FEED,
    RECORDED,
    RecordedDerivatives,
    RecordedLiquidation,
    micros_of,
    parse_derivatives,
    parse_liquidation,
)
from connectors.sources.registry import parser_of
from market.events import Derivatives, Liquidation
from market.raw import Cause, Completeness, DeadLetter, PositionSide

CAUSE = Cause("replay", 7, 1_700_000_001_000_000)

LIQUIDATION = RecordedLiquidation(
    venue="okx",
    symbol="BTC-USDT-SWAP",
    asset="BTC",
    position_side=PositionSide.LONG,
    price=37_001.2,
    base_quantity=0.15,
    notional_usd=5_550.18,
    completeness=Completeness.SAMPLED,
    event_time_us=1_700_000_000_123_456,
)

DERIVATIVES = RecordedDerivatives(
    venue="bybit-linear",
    symbol="ETHUSDT",
    asset="ETH",
    event_time_us=1_700_000_000_123_456,
    mark_price=2_010.5,
    index_price=None,
    open_interest_base=600_000.25,
    open_interest_usd=None,
    funding_rate=0.0001,
    funding_interval_hours=4.0,
    funding_rate_8h=0.0002,
    long_short_ratio=None,
)


def frame(feed, row):
    return Frame(feed, row if isinstance(row, bytes) else msgspec.json.encode(row), CAUSE)


def test_a_row_of_liquidations_is_the_liquidation_that_it_was():
    said = msgspec.structs.asdict(LIQUIDATION)
    del said["notional_usd"]

    assert parse_liquidation(frame(LIQUIDATIONS_FEED, LIQUIDATION)) == [
        Liquidation(cause=CAUSE, notional_micros=5_550_180_000, **said)
    ]


def test_a_row_of_derivatives_is_what_the_poll_said_and_nothing_it_did_not():
    assert parse_derivatives(frame(DERIVATIVES_FEED, DERIVATIVES)) == [
        Derivatives(cause=CAUSE, **msgspec.structs.asdict(DERIVATIVES))
    ]


def test_the_registry_knows_both_feeds():
    assert parser_of(LIQUIDATIONS_FEED) is RECORDED.parsers["liquidations"]
    assert parser_of(DERIVATIVES_FEED) is RECORDED.parsers["derivatives"]


@given(micros=st.integers(0, 2**32 * 10**6 - 1))
@example(micros=2**32 * 10**6 - 1)
def test_below_4_29_billion_usd_the_notional_comes_back_exactly(micros):
    assert micros_of(micros / 1e6) == micros


@given(micros=st.integers(2**32 * 10**6, 10**16))
def test_above_it_the_notional_is_off_by_one_micro_usd_at_most(micros):
    assert abs(micros_of(micros / 1e6) - micros) <= 1


@given(price=st.floats(allow_nan=False, allow_infinity=False), quantity=st.floats(0, 1e300))
def test_prices_and_quantities_come_back_to_the_last_bit(price, quantity):
    row = msgspec.structs.replace(LIQUIDATION, price=price, base_quantity=quantity)

    (event,) = parse_liquidation(frame(LIQUIDATIONS_FEED, row))

    assert (event.price, event.base_quantity) == (price, quantity)


def test_a_liquidation_without_its_notional_becomes_a_dead_letter():
    payload = msgspec.json.encode({**msgspec.to_builtins(LIQUIDATION), "notional_usd": None})

    (letter,) = parse(frame(LIQUIDATIONS_FEED, payload))

    assert isinstance(letter, DeadLetter)
    assert (letter.venue, letter.error, letter.payload) == ("recorded", "MalformedFrameError", payload)


def test_a_notional_beyond_counting_is_refused():
    with pytest.raises(MalformedFrameError, match="notional_usd"):
        parse_liquidation(frame(LIQUIDATIONS_FEED, msgspec.structs.replace(LIQUIDATION, notional_usd=1e305)))


@pytest.mark.parametrize("time_us", [-1, 253_402_300_800_000_000, 2**63, 2**64])
def test_a_time_that_no_table_can_hold_is_refused(time_us):
    for feed, parser, row in (
        (LIQUIDATIONS_FEED, parse_liquidation, LIQUIDATION),
        (DERIVATIVES_FEED, parse_derivatives, DERIVATIVES),
    ):
        with pytest.raises(MalformedFrameError, match="event_time_us"):
            parser(frame(feed, {**msgspec.to_builtins(row), "event_time_us": time_us}))


@given(payload=st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(payload):
    for feed, parser in ((LIQUIDATIONS_FEED, parse_liquidation), (DERIVATIVES_FEED, parse_derivatives)):
        try:
            parser(frame(feed, payload))
        except FrameError:
            continue
