import asyncio
import contextlib
import fcntl
import io
import socket
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from aiohttp import web
from deltalake import write_deltalake
from loopback import serving
from rich.console import Console

from cascadewatch import checkup_network
from cascadewatch.checkup import Check, Level, place_of, without_secrets
from cascadewatch.checkup_local import (
    check_data_directory,
    check_disk,
    check_journal,
    check_lock,
    check_port,
    check_silence,
    check_versions,
    local_checks,
)
from cascadewatch.checkup_network import network_checks
from cascadewatch.checkup_tables import check_tables
from cascadewatch.demo import simulated_endpoints, simulated_market
from cascadewatch.doctor import examine
from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import GAPS, TABLES
from connectors.sources.journal import Journal
from flows.runtime import held
from flows.settings import Settings
from flows.shard_rules import Mark
from flows.shards import MARK_NAME, home_of
from market.events import Gap
from market.raw import Cause
from market.shards import Shard

KEY = "0123456789abcdef0123456789abcdef"
BINANCE_FIXTURES = Path(__file__).parents[1] / "connectors" / "venues" / "fixtures" / "binance"


def settings_of(tmp_path, **overrides):
    return Settings(**{"data_dir": tmp_path, "metrics": {"port": 0}, "mining": {"source": None}, **overrides})


def examined(settings):
    output = io.StringIO()
    is_fit = examine(settings, Console(file=output, width=300))
    return is_fit, output.getvalue()


# This machine


@pytest.mark.parametrize(
    ("python", "bytewax", "level"),
    [
        ((3, 12, 4), "0.21.1", Level.OK),
        ((3, 10, 0), "0.21.1", Level.OK),
        ((3, 13, 0), "0.21.1", Level.FAILED),
        ((3, 9, 9), "0.21.1", Level.FAILED),
        ((3, 11, 1), "0.22.0", Level.WARNING),
    ],
)
def test_the_versions_are_those_that_were_measured(python, bytewax, level):
    assert check_versions(python, bytewax).level is level


def test_a_data_directory_still_to_be_made_is_judged_by_the_one_above_and_not_made(tmp_path):
    wanted = tmp_path / "a" / "b"

    check = check_data_directory(wanted)

    assert check == Check("data directory", Level.OK, f"{wanted} is writable, will be made at the first start")
    assert not wanted.exists()


def test_a_data_directory_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")

    check = check_data_directory(tmp_path / "file")

    assert (check.level, check.seen) == (Level.FAILED, f"{tmp_path / 'file'} cannot be written: Not a directory")


def test_little_room_is_a_warning(tmp_path, monkeypatch):
    assert check_disk(tmp_path).seen.endswith("GiB free")

    monkeypatch.setattr("cascadewatch.checkup_local._LEAST_FREE_BYTES", 2**80)

    assert check_disk(tmp_path).level is Level.WARNING


def test_with_one_or_two_venues_no_silence_can_be_told_and_that_is_a_warning():
    assert check_silence(("okx", "binance-usdm", "bybit-linear")) == Check(
        "silent feeds", Level.OK, "can be told from quiet ones: 3 venues are watched"
    )

    check = check_silence(("okx", "binance-usdm"))
    assert (check.level, check.advice) == (Level.WARNING, "add to venues, so that there are more than 2")
    assert "with okx, binance-usdm alone" in check.seen
    assert check_silence(("okx",)).level is Level.WARNING


def test_a_directory_that_a_run_holds_is_in_use_until_it_lets_go(tmp_path):
    assert check_lock(tmp_path).seen == "none has used the data directory yet"
    with held(tmp_path):
        assert check_lock(tmp_path).level is Level.FAILED

    assert check_lock(tmp_path) == Check("other processes", Level.OK, "none uses the data directory")


def test_looking_at_the_lock_does_not_hold_it(tmp_path):
    with held(tmp_path):
        pass
    check_lock(tmp_path)

    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def journal_in(tmp_path):
    (tmp_path / "journal").mkdir(exist_ok=True)
    return Journal(tmp_path / "journal" / "0.db")


def test_the_journal_says_which_frames_it_has(tmp_path):
    assert check_journal(tmp_path / "journal" / "0.db").seen == "none yet"
    journal = journal_in(tmp_path)
    journal.append([("okx/liquidations", b"", 0)] * 12)
    journal.trim(5)

    assert check_journal(tmp_path / "journal" / "0.db").seen.startswith("frames 5 to 12, ")


def test_an_empty_journal_says_which_number_comes_next(tmp_path):
    journal_in(tmp_path).close()

    assert check_journal(tmp_path / "journal" / "0.db").seen.startswith("no frames, 1 comes next")


def test_a_damaged_journal_fails(tmp_path):
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "0.db").write_bytes(b"not a database, but long enough to be looked at" * 100)

    assert check_journal(tmp_path / "journal" / "0.db").level is Level.FAILED


def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        check = check_port(settings_of(tmp_path, metrics={"port": port}))

    assert check.level is Level.FAILED
    assert str(port) in check.seen


def test_a_free_port_is_free_again_after_it_was_tried(tmp_path):
    settings = settings_of(tmp_path)

    assert check_port(settings) == Check("metrics port", Level.OK, "any free one on 127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    settings = settings_of(tmp_path, metrics={"port": port})
    assert [check_port(settings).level for _ in range(2)] == [Level.OK, Level.OK]


def test_looking_changes_nothing(tmp_path):
    list(local_checks(settings_of(tmp_path / "data")))

    assert list(tmp_path.iterdir()) == []


# Tables


def with_tables(tmp_path, *, up_to):
    tables = DeltaTables(str(tmp_path / "tables"))
    tables.open()
    rows = to_arrow(GAPS, [Gap(Cause("0", up_to, 1_760_000_000_000_000), "okx", "okx/liquidations", 1, 2, "lost")])
    tables.commit("gaps", rows, highs_of(rows))


def test_no_tables_are_fine_and_are_not_made(tmp_path):
    check = check_tables(settings_of(tmp_path))

    assert check == Check("tables", Level.OK, f"none yet at {tmp_path / 'tables'}")
    assert list(tmp_path.iterdir()) == []


def test_tables_with_their_journal_are_fine(tmp_path):
    with_tables(tmp_path, up_to=3)
    journal_in(tmp_path).append([("clock", b"", 0)] * 3)

    assert check_tables(settings_of(tmp_path)).seen.startswith(f"{len(TABLES)} of {len(TABLES)} at ")


def test_tables_ahead_of_the_journal_fail(tmp_path):
    with_tables(tmp_path, up_to=4)
    assert "the journal ends at 0" in check_tables(settings_of(tmp_path)).seen
    journal_in(tmp_path).append([("clock", b"", 0)] * 3)

    check = check_tables(settings_of(tmp_path))

    assert check.level is Level.FAILED
    assert "they hold frames up to 4, but the journal ends at 3" in check.seen


def test_a_table_with_other_columns_fails(tmp_path):
    write_deltalake(str(tmp_path / "tables" / "alerts"), pa.table({"a": [1]}))

    check = check_tables(settings_of(tmp_path))

    assert check.level is Level.FAILED
    assert "tables/alerts has other columns" in check.seen


def test_an_object_store_is_not_written_to_and_that_is_said():
    assert "not tried here" in checkup_network.check_tables.__globals__["_seen"]("s3://bucket/prefix", 0)


# Secrets


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"https://mainnet.example.com/v3/{KEY}", "https://mainnet.example.com"),
        (f"http://user:{KEY}@127.0.0.1:8545/?key={KEY}", "http://127.0.0.1:8545"),
        (f"http://[::1]:8545/{KEY}", "http://[::1]:8545"),
        (f"http://host:{KEY}/", "(no URL)"),
        (KEY, "://(no host)"),
    ],
)
def test_a_place_has_no_key_in_it(url, place):
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url", [f"https://h.example/v3/{KEY}", f"https://me:{KEY}@h.example", f"https://h.example/?apikey={KEY}"]
)
def test_what_others_say_is_printed_without_our_secrets(tmp_path, url):
    settings = settings_of(tmp_path, chain={"url": url}, sink={"storage_options": {"secret": "tooth-fairy", "ssl": "true"}})

    shown = without_secrets(f"key {KEY} of {url} is not true, nor tooth-fairy", settings)

    assert KEY not in shown
    assert "tooth-fairy" not in shown
    assert shown.startswith("key … of ")
    assert "is not true" in shown


# The outside


@contextlib.contextmanager
def served(*routes):
    """Serve routes on loopback from a thread; give the URL."""
    loop, server = asyncio.new_event_loop(), contextlib.AsyncExitStack()
    url = loop.run_until_complete(server.enter_async_context(serving(*routes)))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def binance_at(url):
    return {
        "venues": ("binance-usdm",),
        "endpoints": {"binance-usdm": {"rest_url": url, "websocket_url": url.replace("http", "ws")}},
    }


def answering(body=b"", status=200, **headers):
    async def answer(_request):
        return web.Response(body=body, status=status, headers=headers)

    return answer


def exchange_info(*, seconds_ago=0.0, **headers):
    """Contracts with a ``Date`` of so long before they are asked for."""
    body = (BINANCE_FIXTURES / "exchange_info.json").read_bytes()

    async def answer(_request):
        date = format_datetime(datetime.now(timezone.utc) - timedelta(seconds=seconds_ago), usegmt=True)
        return web.Response(body=body, headers={"Date": date, **headers})

    return web.get("/fapi/v1/exchangeInfo", answer)


async def accept(request):
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    await connection.receive()
    return connection


SOCKETS = web.get("/{path:.*}", accept)


def checks_by_name(settings):
    return {check.name: check for check in network_checks(settings)}


def test_a_venue_that_answers_is_fine(tmp_path):
    with served(exchange_info(), SOCKETS) as url:
        checks = checks_by_name(settings_of(tmp_path, **binance_at(url)))

    assert [checks[name].level for name in ("binance-usdm REST", "binance-usdm socket")] == [Level.OK, Level.OK]
    assert checks["binance-usdm REST"].seen.startswith(f"{url}: ")
    assert "contracts in " in checks["binance-usdm REST"].seen
    assert "all symbols take 1 of them" in checks["binance-usdm socket"].seen


@pytest.mark.parametrize(("ahead_s", "level"), [(-30, Level.WARNING), (0, Level.OK), (30, Level.WARNING)])
def test_a_clock_that_is_wrong_is_a_warning(tmp_path, ahead_s, level):
    with served(exchange_info(seconds_ago=ahead_s), SOCKETS) as url:
        check = checks_by_name(settings_of(tmp_path, **binance_at(url)))["binance-usdm REST"]

    assert check.level is level
    assert ("time server" in check.advice) is (level is Level.WARNING)


def test_an_answer_out_of_a_cache_does_not_make_the_clock_wrong(tmp_path):
    with served(exchange_info(seconds_ago=30, Age="30"), SOCKETS) as url:
        check = checks_by_name(settings_of(tmp_path, **binance_at(url)))["binance-usdm REST"]

    assert check.level is Level.OK


@pytest.mark.parametrize("status", [403, 451])
def test_a_venue_that_blocks_the_place_gets_the_hint(tmp_path, status):
    with served(web.get("/{path:.*}", answering(b"restricted location", status))) as url:
        checks = checks_by_name(settings_of(tmp_path, **binance_at(url)))

    for name in ("binance-usdm REST", "binance-usdm socket"):
        assert checks[name].level is Level.FAILED
        assert f"HTTP {status}" in checks[name].seen
        assert checks[name].advice.startswith("the venue blocks this place")


def test_a_venue_that_has_enough_of_us_says_so(tmp_path):
    with served(web.get("/{path:.*}", answering(b"", 429))) as url:
        check = checks_by_name(settings_of(tmp_path, **binance_at(url)))["binance-usdm REST"]

    assert check.advice.startswith("asked too often")


def test_an_answer_without_contracts_fails(tmp_path):
    with served(web.get("/fapi/v1/exchangeInfo", answering(b"<html>hello</html>")), SOCKETS) as url:
        check = checks_by_name(settings_of(tmp_path, **binance_at(url)))["binance-usdm REST"]

    assert check.level is Level.FAILED
    assert "no contract could be read" in check.seen


def test_a_venue_that_never_answers_fails_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup_network, "ANSWER_SECONDS", 0.2)

    async def sleep(_request):
        await asyncio.sleep(3)

    with served(web.get("/{path:.*}", sleep)) as url:
        checks = checks_by_name(settings_of(tmp_path, **binance_at(url)))

    assert checks["binance-usdm REST"].seen == f"{url}: no answer within 0.2 s"
    assert checks["binance-usdm socket"].level is Level.FAILED


def test_all_together_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup_network, "TOTAL_SECONDS", 0.2)

    async def sleep(_request):
        await asyncio.sleep(3)

    with served(web.get("/{path:.*}", sleep)) as url:
        checks = checks_by_name(settings_of(tmp_path, **binance_at(url)))

    assert checks["binance-usdm"].seen == "no answer within 0.2 s"


def test_where_nobody_listens_the_reason_is_given(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    checks = checks_by_name(settings_of(tmp_path, **binance_at(url)))

    assert checks["binance-usdm REST"].level is checks["binance-usdm socket"].level is Level.FAILED
    assert "check name service" in checks["binance-usdm REST"].advice


def test_without_a_chain_and_a_mining_source_the_scores_that_will_be_missing_are_named(tmp_path):
    with served(exchange_info(), SOCKETS) as url:
        checks = checks_by_name(settings_of(tmp_path, **binance_at(url)))

    assert "Stablecoin Pressure" in checks["chain"].seen
    assert "Difficulty Multiple" in checks["mining"].seen
    assert checks["chain"].level is checks["mining"].level is Level.WARNING


def test_a_node_that_repeats_the_key_does_not_get_it_printed(tmp_path):
    refusal = b'{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"invalid key ' + KEY.encode() + b'"}}'
    with served(web.post("/{path:.*}", answering(refusal)), exchange_info(), SOCKETS) as url:
        chain = {"url": f"{url}/v3/{KEY}"}
        is_fit, output = examined(settings_of(tmp_path, chain=chain, **binance_at(url)))

    assert not is_fit
    assert f"failed   chain                  {url}: the node says -32000: invalid key …" in output
    assert KEY not in output


def test_a_node_that_wants_another_key_is_told_from_one_that_is_away(tmp_path):
    with served(web.post("/{path:.*}", answering(b"", 401)), exchange_info(), SOCKETS) as url:
        check = checks_by_name(settings_of(tmp_path, chain={"url": f"{url}/{KEY}"}, **binance_at(url)))["chain"]

    assert (check.seen, check.advice) == (f"{url}: HTTP 401", "check chain.url and the key in it")


@pytest.mark.parametrize(("body", "status"), [(b"{}", 200), (b"", 500)])
def test_a_mining_source_that_says_something_else_fails_and_its_fallback_is_asked(tmp_path, body, status):
    with served(web.get("/mining/{path:.*}", answering(body, status)), exchange_info(), SOCKETS) as url:
        places = {"mempool": f"{url}/mining", "coin-metrics": f"{url}/mining"}
        mining = {"source": "mempool", "fallback": "coin-metrics", "base_urls": places}
        checks = checks_by_name(settings_of(tmp_path, mining=mining, **binance_at(url)))

    assert checks["mining"].level is checks["mining fallback"].level is Level.FAILED


def test_a_certificate_authority_that_is_no_file_is_one_failed_check(tmp_path):
    checks = network_checks(settings_of(tmp_path, ca_file=tmp_path / "missing.pem"))

    assert [(check.name, check.level) for check in checks] == [("ca_file", Level.FAILED)]


def test_a_check_that_breaks_is_reported_without_its_words(tmp_path, monkeypatch):
    def broken(_settings):
        raise RuntimeError(KEY)

    monkeypatch.setattr(checkup_network, "check_tables", broken)
    with served(exchange_info(), SOCKETS) as url:
        _is_fit, output = examined(settings_of(tmp_path, **binance_at(url)))

    assert "RuntimeError in the check itself" in output
    assert KEY not in output


def test_a_node_and_a_mining_source_that_answer_are_fine(tmp_path):
    head = web.post("/v3/{path:.*}", answering(b'{"jsonrpc":"2.0","id":0,"result":"0x1406f40"}'))
    prices = web.get("/api/v1/prices", answering(b'{"time":1760000000,"USD":121000}'))
    with served(head, prices, exchange_info(), SOCKETS) as url:
        mining = {"source": "mempool", "base_urls": {"mempool": url}}
        is_fit, output = examined(settings_of(tmp_path, chain={"url": f"{url}/v3/{KEY}"}, mining=mining, **binance_at(url)))

    assert is_fit, output
    assert f"ok       chain                  {url}: the newest block is 21,000,000\n" in output
    assert f"ok       mining                 {url}: mempool/price could be read\n" in output
    assert KEY not in output


@pytest.mark.slow
def test_the_simulated_venues_have_all_that_a_run_needs(tmp_path):
    venues = ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
    with simulated_market("calm", 1) as url:
        is_fit, output = examined(settings_of(tmp_path, endpoints=simulated_endpoints(url, venues)["endpoints"]))

    assert is_fit, output
    levels = [line.split()[0] for line in output.splitlines()]
    assert levels == ["ok"] * (7 + 1 + 2 * len(venues)) + ["warning"] * 2  # no chain, no mining


def test_a_shard_is_looked_at_where_it_keeps_its_own(tmp_path):
    home = home_of(tmp_path, Shard(1, 3))
    (home / "journal").mkdir(parents=True)
    mark = Mark(2, "1/3", "1of3g2", 0)
    (home / MARK_NAME).write_bytes(msgspec.json.encode(mark))
    journal = Journal(home / "journal" / "1of3g2.db")
    journal.append([("clock", b"", 1)])
    journal.close()

    with held(home):
        seen = {check.name: check for check in local_checks(settings_of(tmp_path, shard="1/3"))}

    assert seen["journal"].seen.startswith("frames 1 to 1, ")
    assert seen["other processes"] == Check(
        "other processes", Level.FAILED, f"one uses {home}", "stop it first, or choose another directory with --data"
    )
