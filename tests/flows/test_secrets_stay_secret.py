"""The real program with a planted key wherever a secret can be set, against servers that repeat all that they are asked.

Afterwards everything that it said, wrote and served is searched.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from deltalake import DeltaTable
from flow_runs import VENUES, live, program, settings_environment, simulator

from connectors.sinks.tables import TABLES

pytestmark = pytest.mark.slow

MARK = "9f8e7d6c5b"
"""In every planted key, so that one search finds them all."""

HEADER = base64.b64encode(f"user-{MARK}:password-{MARK}".encode()).decode()
"""As user and password are sent."""


def tells(said):
    """Say whether a text or bytes hold a planted key."""
    text = said.decode("latin-1") if isinstance(said, bytes) else said
    return MARK in text or HEADER in text


def planted(name):
    return f"{name}-{MARK}"


class _Gossip(BaseHTTPRequestHandler):
    """Answers every request with an error that repeats its path, its headers and the user that it names."""

    def log_message(self, *_args):
        pass

    def _tell(self):
        length = int(self.headers.get("Content-Length") or 0)
        asked = self.rfile.read(length).decode(errors="replace")
        user = base64.b64decode((self.headers.get("Authorization") or "").removeprefix("Basic ")).decode(errors="replace")
        signed = self.headers.get("Authorization", "")
        words = f"Cannot {self.command} {self.path} for {user} {signed}"
        self.server.heard.append(f"{words} {asked}")
        if "jsonrpc" in asked:
            calls = json.loads(asked)
            ids = [call["id"] for call in calls] if isinstance(calls, list) else [calls["id"]]
            body = json.dumps([{"jsonrpc": "2.0", "id": each, "error": {"code": -32000, "message": words}} for each in ids])
            self._answer(200, body)
        else:
            self._answer(403, f"<Error><Code>InvalidAccessKeyId</Code><Message>{words}</Message></Error>")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _tell  # noqa: N815 - the library's names

    def _answer(self, code, body):
        content = body.encode()
        self.send_response(code, f"refused {self.path}"[:200])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def gossip():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gossip)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def settings_with_secrets(market, place):
    """Every setting that can hold a secret does; one venue is the simulator, so that there is something to write."""
    socket_url = market.url.replace("http", "ws", 1)
    user = f"{planted('user')}:{planted('password')}"
    endpoints = {name: {"rest_url": f"http://{user}@{place}/x", "websocket_url": f"ws://{user}@{place}/x"} for name in VENUES}
    endpoints["okx"] = {
        "rest_url": f"{market.url.replace('://', f'://{user}@')}/okx",
        "websocket_url": f"{socket_url.replace('://', f'://{user}@')}/okx",
    }
    # The list of contracts is had, so that the socket is tried too, where it is repeated.
    endpoints["binance-usdm"]["rest_url"] = f"{market.url}/binance-usdm"
    return settings_environment(
        ENDPOINTS=json.dumps(endpoints),
        CHAIN__URL=f"http://{user}@{place}/v3/{planted('chainkey')}?apikey={planted('chainquery')}",
        CHAIN__POLL_SECONDS=1,
        MINING__BASE_URLS=json.dumps(
            {
                "mempool": f"http://{user}@{place}/{planted('mining')}",
                "coin-metrics": f"http://{place}/v4?api_key={planted('fallback')}",
            }
        ),
        MINING__FALLBACK="coin-metrics",
        SINK__STORAGE_OPTIONS=json.dumps(
            {"AWS_SECRET_ACCESS_KEY": planted("storage"), "AWS_ACCESS_KEY_ID": planted("AKIA"), "AWS_REGION": "eu-west-1"}
        ),
        SINK__COMMIT_INTERVAL_SECONDS=0.5,
        LOG_LEVEL="debug",
    )


def found_in(folder):
    """Return every place below a folder where the mark is: in files as they are, in the journal's frames, in tables' rows."""
    places = [str(path) for path in folder.rglob("*") if path.is_file() and tells(path.read_bytes())]
    for journal in folder.rglob("journal/*.db"):
        with closing(sqlite3.connect(journal)) as frames:
            for feed, payload in frames.execute("SELECT feed, payload FROM frames"):
                if tells(payload):
                    places.append(f"{feed}: {payload[:300]!r}")
    for table in TABLES:
        path = folder / "tables" / table.name
        if (path / "_delta_log").is_dir():
            places += [f"{table.name}: {row}" for row in DeltaTable(path).to_pyarrow_table().to_pylist() if tells(repr(row))]
    return places


def port_of(log):
    for line in log.read_text(errors="replace").splitlines():
        if '"metrics":' in line:
            return json.loads(line)["metrics"].removesuffix("/metrics")
    return None


def test_no_planted_key_is_in_anything_that_a_run_says_writes_or_serves(tmp_path):
    data, log = tmp_path / "data", tmp_path / "log"
    with simulator("calm") as market, gossip() as (server, place):
        environment = settings_with_secrets(market, place)
        with program(live(data), environment, log) as run:
            pages = []
            deadline = time.monotonic() + 60
            names = ("chainkey", "mining", "user")
            while time.monotonic() < deadline:
                time.sleep(0.5)
                if (url := port_of(log)) and all(any(planted(name) in each for each in server.heard) for name in names):
                    time.sleep(3)
                    pages = [httpx.get(f"{url}{path}", timeout=10).text for path in ("/metrics", "/healthz", "/readyz")]
                    break
            run.stop()
        with program(["-m", "cascadewatch", "doctor", "--data", str(data)], environment, tmp_path / "doctor") as doctor:
            doctor.wait(60)

    words = log.read_text(errors="replace")
    assert len(pages) == 3, words[-3_000:]
    assert "cascadewatch_frames_received_total" in pages[0]
    assert [page for page in pages if tells(page)] == []
    assert [line for line in words.splitlines() if tells(line)] == []
    assert "poll_failed" in words  # the failures were told, in other words
    assert [line for line in (tmp_path / "doctor").read_text().splitlines() if tells(line)] == []
    assert "HTTP 403 refused /…" in (tmp_path / "doctor").read_text()
    assert found_in(data) == []
    with closing(sqlite3.connect(data / "journal" / "0.db")) as frames:
        told = [row for (row,) in frames.execute("SELECT CAST(payload AS TEXT) FROM frames WHERE feed = 'status'")]
    assert any("Cannot" in each and "…" in each for each in told)  # a server's words are there, without the secrets


def test_no_planted_key_is_in_what_is_said_of_a_store_that_refuses(tmp_path):
    with gossip() as (server, place):
        environment = settings_environment(
            VENUES="okx",
            MINING__SOURCE="none",
            SINK__TABLES_URI="s3://bucket/tables",
            SINK__STORAGE_OPTIONS=json.dumps(
                {
                    "AWS_ENDPOINT_URL": f"http://{place}",
                    "AWS_ALLOW_HTTP": "true",
                    "AWS_REGION": "eu-west-1",
                    "AWS_ACCESS_KEY_ID": planted("AKIA"),
                    "AWS_SECRET_ACCESS_KEY": planted("storage"),
                    "max_retries": "0",
                }
            ),
        )
        said = {}
        for name, arguments in {
            "run": ["run", "--live", "--seconds", "3", "--data", str(tmp_path / "data")],
            "tables": ["tables", "--data", str(tmp_path / "data")],
            "query": ["query", "SELECT 1", "--data", str(tmp_path / "data")],
            "doctor": ["doctor", "--data", str(tmp_path / "data")],
        }.items():
            log = tmp_path / name
            with program(["-m", "cascadewatch", *arguments], environment, log) as running:
                running.wait(60)
            said[name] = log.read_text(errors="replace")

    assert any(planted("AKIA") in each for each in server.heard)  # the store was asked, and repeated who asked
    assert [line for words in said.values() for line in words.splitlines() if tells(line)] == []
    assert "InvalidAccessKeyId" in said["tables"]
    assert found_in(tmp_path) == []
