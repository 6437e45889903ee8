from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sink_events import cause, liquidation

from connectors import clock
from connectors.sinks.health import HealthServer, HealthServerError, HealthState
from connectors.sinks.metrics import Metrics
from market.feeds import FeedSight, LiquidationFeeds, Sight
from market.raw import FeedState, FeedStatus

FEED = "okx/liquidations"


class Clock:
    """A clock that stands until it is moved on."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(clock, "monotonic_seconds", stopped)
    return stopped


@pytest.fixture
def state(stopped_clock: Clock) -> HealthState:
    return HealthState(max_batch_age_seconds=15.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics, state: HealthState) -> Iterator[HealthServer]:
    server = HealthServer(metrics.registry, state)
    server.start()
    yield server
    server.close()


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - loopback
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def get_json(server: HealthServer, path: str) -> tuple[int, dict[str, Any]]:
    status, body = get(server, path)
    return status, json.loads(body)


def status(connection: str, state: FeedState, feed: str = FEED) -> FeedStatus:
    return FeedStatus(cause(), feed, connection, state, "")


def test_the_metrics_page_is_served(server: HealthServer, metrics: Metrics) -> None:
    metrics.observe(liquidation())

    code, body = get(server, "/metrics")

    names = {family.name for family in text_string_to_metric_families(body)}
    assert code == 200
    assert "cascadewatch_liquidations" in names


def test_a_flow_that_moves_is_healthy(server: HealthServer, state: HealthState, stopped_clock: Clock) -> None:
    stopped_clock.seconds += 100
    state.batch_handed_on()
    stopped_clock.seconds += 15

    assert get_json(server, "/healthz") == (200, {"healthy": True, "reasons": [], "last_batch_age_seconds": 15.0})


def test_a_flow_that_does_not_move_is_not_healthy_and_not_ready(server: HealthServer, stopped_clock: Clock) -> None:
    stopped_clock.seconds += 15.5

    reasons = ["the last batch was 16 s ago, allowed are 15 s"]
    assert get_json(server, "/healthz") == (503, {"healthy": False, "reasons": reasons, "last_batch_age_seconds": 15.5})
    assert get_json(server, "/readyz") == (503, {"ready": False, "reasons": reasons, "commit_errors": {}})


def test_a_flow_that_waits_for_room_is_not_ready_but_healthy_for_a_restart_would_not_help(
    server: HealthServer, state: HealthState, stopped_clock: Clock
) -> None:
    state.spool_blocked(is_blocked=True)
    stopped_clock.seconds += 20

    reasons = ["the spool is full and the store does not take its rows: frames are journaled, the flow waits"]
    assert get_json(server, "/readyz") == (503, {"ready": False, "reasons": reasons, "commit_errors": {}})
    assert get_json(server, "/healthz") == (200, {"healthy": True, "reasons": [], "last_batch_age_seconds": 20.0})


def test_a_flow_that_has_waited_for_room_has_its_time_for_the_next_batch(state: HealthState, stopped_clock: Clock) -> None:
    state.spool_blocked(is_blocked=True)
    stopped_clock.seconds += 20
    state.spool_blocked(is_blocked=False)
    assert (state.unhealthy(), state.not_ready()) == ([], [])

    stopped_clock.seconds += 15.5
    assert state.unhealthy() == ["the last batch was 16 s ago, allowed are 15 s"]


def test_ready_without_feeds_to_wait_for(server: HealthServer) -> None:
    assert get_json(server, "/readyz") == (200, {"ready": True, "reasons": [], "commit_errors": {}})


def test_ready_when_every_feed_has_a_connection(server: HealthServer, state: HealthState) -> None:
    state.expect_feeds([FEED, "bybit-linear/liquidations"])
    state.observe_batch([status("0#1", FeedState.CONNECTED), liquidation()])

    assert get_json(server, "/readyz") == (
        503,
        {"ready": False, "reasons": ["feed bybit-linear/liquidations is not connected"], "commit_errors": {}},
    )

    state.observe_batch([status("0#1", FeedState.CONNECTED, "bybit-linear/liquidations")])
    assert get(server, "/readyz")[0] == 200


def test_a_connection_that_is_replaced_leaves_no_moment_unready(state: HealthState) -> None:
    state.expect_feeds([FEED])

    readiness = []
    for event in (
        status("0#1", FeedState.CONNECTED),
        status("0#2", FeedState.CONNECTED),
        status("0#1", FeedState.LOST),
        status("0#3", FeedState.REFUSED),
        status("0#2", FeedState.LOST),
    ):
        state.observe_batch([event])
        readiness.append(state.not_ready())

    assert readiness == [[], [], [], [], [f"feed {FEED} is not connected"]]


def test_a_feed_that_is_connected_and_silent_makes_unready_until_it_is_heard_again(state: HealthState) -> None:
    state.expect_feeds([FEED])
    silent = {"okx": FeedSight(Sight.SILENT, 0, "silent: connected, and …"), "gate": FeedSight(Sight.SEEING, 0, "")}
    heard = {"okx": FeedSight(Sight.SEEING, 0, ""), "gate": FeedSight(Sight.BLIND, 0, "closed")}

    state.observe_batch([status("0#1", FeedState.CONNECTED), LiquidationFeeds(cause(), silent, ("okx",), {})])
    assert state.not_ready() == ["feed okx/liquidations is silent: connected, and …"]

    state.observe_batch([LiquidationFeeds(cause(), heard, ("gate",), {})])
    assert state.not_ready() == []


def test_a_poll_that_fails_does_not_make_unready(state: HealthState) -> None:
    state.expect_feeds([FEED])
    state.observe_batch([status("0#1", FeedState.CONNECTED), status("poll", FeedState.POLL_FAILED)])

    assert state.not_ready() == []


def test_unready_while_the_journal_cannot_be_written(state: HealthState) -> None:
    state.journal_failed("no space left on device")
    assert state.not_ready() == ["the journal cannot be written: no space left on device"]

    state.journal_works()
    assert state.not_ready() == []


def test_a_store_that_is_away_is_reported_and_does_not_make_unready(server: HealthServer, state: HealthState) -> None:
    state.rows_spooled("scores", 3)
    state.spool_bytes(1024)
    state.commit_failed("scores", "OSError", "unreachable")
    assert get_json(server, "/readyz") == (
        200,
        {"ready": True, "reasons": [], "commit_errors": {"scores": "OSError: unreachable"}},
    )

    state.committed("scores", 3, 0.1)
    assert state.commit_errors() == {}


def test_other_paths_are_not_found(server: HealthServer) -> None:
    assert get_json(server, "/") == (404, {"error": "there are /metrics, /healthz and /readyz"})


def test_nothing_can_be_written(server: HealthServer) -> None:
    assert get(server, "/healthz", "POST")[0] == 405
    assert get(server, "/metrics", "POST")[0] == 405


def test_a_port_that_is_taken_names_the_setting(server: HealthServer, metrics: Metrics, state: HealthState) -> None:
    second = HealthServer(metrics.registry, state, port=server.port)

    with pytest.raises(HealthServerError, match=rf"^metrics\.port: {server.port} on 127\.0\.0\.1 is taken by another program"):
        second.start()


def test_an_address_that_is_not_ours_names_the_setting(metrics: Metrics, state: HealthState) -> None:
    with pytest.raises(HealthServerError, match=r"^metrics\.host, metrics\.port: cannot listen on 192\.0\.2\.1:"):
        HealthServer(metrics.registry, state, host="192.0.2.1").start()


def test_it_listens_on_loopback_unless_told_otherwise(server: HealthServer) -> None:
    assert server._server is not None
    assert server._server.server_address[0] == "127.0.0.1"


def test_closing_frees_the_port(metrics: Metrics, state: HealthState) -> None:
    first = HealthServer(metrics.registry, state)
    first.start()
    port = first.port
    first.close()
    first.close()

    again = HealthServer(metrics.registry, state, port=port)
    again.start()

    assert get(again, "/healthz")[0] == 200
    again.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_can_listen_on_ipv6(metrics: Metrics, state: HealthState) -> None:
    server = HealthServer(metrics.registry, state, host="::1")
    server.start()

    with socket.create_connection(("::1", server.port), timeout=5):
        pass

    server.close()
