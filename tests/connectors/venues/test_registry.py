import pytest

from connectors.sources.frame import UnknownFrameError
from connectors.sources.registry import VENUES, parser_of
from connectors.sources.venues import binance, bybit, okx
from market.raw import Cause, ContractKind, RawInstrument


def test_every_venue_is_registered_under_its_id():
    assert {venue_id: venue.id for venue_id, venue in VENUES.items()} == {
        "binance-usdm": "binance-usdm",
        "bybit-linear": "bybit-linear",
        "bybit-inverse": "bybit-inverse",
        "okx": "okx",
    }


@pytest.mark.parametrize("venue_id", VENUES)
def test_every_venue_reads_the_channels_that_all_must_have(venue_id):
    assert {"instruments", "liquidations"} <= set(VENUES[venue_id].parsers)


@pytest.mark.parametrize(
    ("feed", "parser"),
    [
        ("binance-usdm/liquidations", binance.parse_liquidations),
        ("binance-usdm/depth/BTCUSDT", binance.parse_depth),
        ("bybit-linear/tickers/BTC/USDT", bybit.parse_tickers),
        ("bybit-inverse/liquidations", bybit.parse_liquidations),
        ("okx/instruments/SWAP", okx.parse_instruments),
    ],
)
def test_the_channel_of_a_feed_selects_its_parser(feed, parser):
    assert parser_of(feed) is parser


def test_a_parser_is_looked_up_once_for_each_feed():
    parser_of.cache_clear()

    parser_of("okx/liquidations")
    parser_of("okx/liquidations")

    assert (parser_of.cache_info().hits, parser_of.cache_info().misses) == (1, 1)


@pytest.mark.parametrize("feed", ["", "okx", "okx/", "okx/funerals", "mtgox/liquidations", "/liquidations"])
def test_a_feed_that_nobody_speaks_is_unknown(feed):
    with pytest.raises(UnknownFrameError, match="no parser for the feed"):
        parser_of(feed)


@pytest.mark.parametrize("venue_id", VENUES)
def test_every_feed_of_a_venue_has_a_parser_and_every_poll_a_name_of_its_own(venue_id):
    venue = VENUES[venue_id]
    kind = ContractKind.INVERSE
    watched = [RawInstrument(Cause("0", 1, 1), venue_id, "BTC-USD", "BTC", "USD", "BTC", kind, "1", is_perpetual=True)]
    polls = [*venue.instrument_polls(venue.endpoints), *venue.polls(venue.endpoints, watched)]
    names = [poll.name for poll in polls]

    assert len(set(names)) == len(names)
    assert all(parser_of(feed.name) for feed in [*polls, *venue.websockets(venue.endpoints, watched)])
    assert {venue.parsers[name.split("/")[1]] for name in names} == set(venue.parsers.values()) - {
        venue.parsers["liquidations"],
    }
