"""Who can reach the HTTP server: it has no authentication, so by default nobody but this machine's loopback address."""

import socket

import pytest
from prometheus_client import CollectorRegistry

from connectors.sinks.health import HealthServer, HealthState
from flows.settings import load_settings

ELSEWHERE = "127.0.0.2"  # another address of this machine: loopback is a network of sixteen million


def is_answered(address, port):
    with socket.socket() as client:
        client.settimeout(5.0)
        return client.connect_ex((address, port)) == 0


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"CASCADEWATCH_METRICS__{name}", value)
        where = load_settings().metrics
        server = HealthServer(CollectorRegistry(), HealthState(), host=where.host, port=where.port)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def test_by_default_only_the_loopback_address_is_bound(serve):
    server = serve(PORT="0")

    assert is_answered("127.0.0.1", server.port)
    assert not is_answered(ELSEWHERE, server.port)


def test_a_setting_widens_it(serve):
    server = serve(PORT="0", HOST="0.0.0.0")  # noqa: S104 - that is what is tested

    assert is_answered("127.0.0.1", server.port)
    assert is_answered(ELSEWHERE, server.port)
