"""Against real servers with TLS on loopback: one setting makes a private authority trusted by every transport."""

import asyncio
import json
import ssl

import pytest
import trustme
from aiohttp import web
from loopback import until

from connectors.sources.collector import collect
from flows.collection import collection_of
from flows.settings import Settings, SettingsError
from market.raw import FeedState

LISTED = {"symbol": "BTCUSDT", "contractType": "PERPETUAL", "status": "TRADING"}
CONTRACTS = {"symbols": [{**LISTED, "baseAsset": "BTC", "quoteAsset": "USDT", "marginAsset": "USDT"}]}
BLOCK = {"hash": "0xa", "parentHash": "0xb", "timestamp": "0x65546ac3"}

WEBSOCKET, REST, CHAIN, MINING = "binance-usdm/liquidations", "binance-usdm/instruments", "ethereum/logs", "mempool/price"


class Receiver:
    def __init__(self):
        self.frames = {}
        self.refusals = {}

    def put(self, feed, payload):
        self.frames[feed] = payload

    def newest_of(self, feed):
        """There was no process before this one."""
        return iter(())

    def status(self, feed, connection, state, reason, *, seen_until_us=None):
        if state in {FeedState.POLL_FAILED, FeedState.LOST, FeedState.REFUSED} and reason != "stopped":
            self.refusals[feed] = reason


async def everything(request):
    """Speak Binance's lists and stream, a node's JSON-RPC and a mining source's prices, whatever the address."""
    if request.method == "POST":
        calls = await request.json()
        said = [{"id": call["id"], "result": answer(call)} for call in (calls if isinstance(calls, list) else [calls])]
        return web.json_response(said if isinstance(calls, list) else said[0])
    if request.headers.get("Upgrade"):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await asyncio.sleep(30)
        return socket
    if request.path.endswith("/exchangeInfo"):
        return web.json_response(CONTRACTS)
    return web.json_response({"time": 1_704_110_400, "USD": 1})


def answer(call):
    if call["method"] == "eth_blockNumber":
        return "0x20"
    return {**BLOCK, "number": call["params"][0]} if call["method"] == "eth_getBlockByNumber" else []


def meet(authority, settings_of, *, named="127.0.0.1"):
    """What a process with these settings receives from servers whose certificate ``authority`` signed for ``named``."""

    async def scenario():
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(named).configure_cert(tls)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", everything)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        receiver = Receiver()
        settings = settings_of(f"127.0.0.1:{runner.addresses[0][1]}")
        collecting = asyncio.ensure_future(collect(collection_of(settings), receiver))
        try:
            await until(
                lambda: {WEBSOCKET, CHAIN, MINING} <= set(receiver.frames) or len(receiver.refusals) >= 3, seconds=20.0
            )
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            await runner.cleanup()
        return receiver

    return asyncio.run(scenario())


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def settings_with(tmp_path):
    def with_ca(ca_file):
        def at(place):
            return Settings(
                data_dir=tmp_path,
                venues=("binance-usdm",),
                endpoints={"binance-usdm": {"rest_url": f"https://{place}", "websocket_url": f"wss://{place}"}},
                chain={"url": f"https://{place}/ethereum", "lookback_blocks": 2},
                mining={"base_urls": {"mempool": f"https://{place}"}},
                ca_file=ca_file,
            )

        return at

    return with_ca


@pytest.mark.slow
def test_with_the_authority_sockets_polls_chain_and_mining_are_all_spoken_to(authority, settings_with, tmp_path):
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))

    receiver = meet(authority, settings_with(file))

    assert receiver.refusals == {}
    assert receiver.frames[WEBSOCKET] == b"hello"
    assert json.loads(receiver.frames[REST]) == CONTRACTS
    assert json.loads(receiver.frames[CHAIN])["chain"] == "ethereum"
    assert json.loads(receiver.frames[MINING])["USD"] == 1


@pytest.mark.slow
def test_without_it_nothing_is_believed(authority, settings_with):
    receiver = meet(authority, settings_with(None))

    assert receiver.frames == {}
    assert {REST, CHAIN, MINING} <= set(receiver.refusals)
    assert all("CERTIFICATE_VERIFY_FAILED" in reason for reason in receiver.refusals.values())


@pytest.mark.slow
def test_another_private_authority_does_not_do(authority, settings_with, tmp_path):
    file = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(str(file))

    receiver = meet(authority, settings_with(file))

    assert receiver.frames == {}
    assert all("CERTIFICATE_VERIFY_FAILED" in reason for reason in receiver.refusals.values())


@pytest.mark.slow
def test_a_certificate_for_another_host_is_not_believed_even_from_the_authority(authority, settings_with, tmp_path):
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))

    receiver = meet(authority, settings_with(file), named="venue.example")

    assert receiver.frames == {}
    assert all("mismatch" in reason for reason in receiver.refusals.values()), receiver.refusals


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_stops_the_start_by_name(settings_with, tmp_path, content):
    file = tmp_path / "authority.pem"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match=r"^ca_file .*authority\.pem: .*must name a PEM file"):
        collection_of(settings_with(file)("a.example"))


def test_so_does_a_file_that_is_not_there(settings_with, tmp_path):
    with pytest.raises(SettingsError, match=r"^ca_file .*No such file"):
        collection_of(settings_with(tmp_path / "nowhere.pem")("a.example"))
