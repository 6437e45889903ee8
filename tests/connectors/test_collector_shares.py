"""What a process asks a venue for that has only a share of the assets."""

import asyncio

from connectors.sources.collector import Collection, _Desk
from connectors.sources.feed import Endpoints, RateLimit
from market.raw import Cause, ContractKind, RawInstrument


def instrument(symbol, base, *, settle="USDT", kind=ContractKind.LINEAR):
    return RawInstrument(Cause("", 0, 0), "venue", symbol, base, "USDT", settle, kind, "1", is_perpetual=True)


BTC, ETH, PEPE = instrument("BTCUSDT", "BTC"), instrument("ETHUSDT", "ETH"), instrument("1000PEPEUSDT", "1000PEPE")
QUANTO = instrument("ETHUSD", "ETH", settle="XBT", kind=ContractKind.QUANTO)


class Venue:
    """Remembers what it was asked to describe; has no feed."""

    id = "venue"
    rate_limit = RateLimit(1_000, 1.0)

    def __init__(self):
        self.subscribed = []
        self.polled = []

    def websockets(self, endpoints, instruments):
        self.subscribed = [item.symbol for item in instruments]
        return []

    def polls(self, endpoints, watched):
        self.polled = [item.symbol for item in watched]
        return []


def asked(instruments, *owned):
    """What is subscribed and what is polled by a process that owns these assets, of these contracts."""
    venue = Venue()
    watched = frozenset({"BTC", "ETH", "PEPE"})
    options = {"owns": owned.__contains__} if owned else {}
    collection = Collection(venues=[(venue, Endpoints("http://x", "ws://x"))], watched_assets=watched, **options)

    async def start():
        _Desk(venue, Endpoints("http://x", "ws://x"), collection, None, None)._start(instruments)

    asyncio.run(start())
    return venue.subscribed, venue.polled


def test_a_process_that_has_the_whole_market_asks_for_every_contract():
    assert asked([BTC, ETH, PEPE]) == (["BTCUSDT", "ETHUSDT", "1000PEPEUSDT"], ["BTCUSDT", "ETHUSDT", "1000PEPEUSDT"])


def test_a_shard_asks_for_the_contracts_of_its_own_assets_whatever_they_count_in():
    assert asked([BTC, ETH, PEPE], "ETH", "PEPE") == (["ETHUSDT", "1000PEPEUSDT"], ["ETHUSDT", "1000PEPEUSDT"])


def test_a_shard_without_a_contract_subscribes_to_one_to_know_whether_the_venue_is_there():
    assert asked([BTC, ETH], "PEPE") == (["BTCUSDT"], [])


def test_a_shard_polls_what_its_own_contracts_are_settled_in_too():
    assert asked([BTC, QUANTO, PEPE], "ETH") == (["ETHUSD"], ["BTCUSDT", "ETHUSD"])


def test_a_venue_that_lists_nothing_is_asked_for_nothing():
    assert asked([], "ETH") == ([], [])
