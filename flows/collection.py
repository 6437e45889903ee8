"""All that the settings ask to receive, as data for the transports."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from connectors.sources.chain.addresses import exchange_addresses
from connectors.sources.chain.ethereum import ethereum_feed
from connectors.sources.collector import Collection, MiningFeeds
from connectors.sources.feed import Endpoints, PollFeed
from connectors.sources.jsonrpc import ChainFeed
from connectors.sources.registry import MINING, VENUES
from flows.settings import MiningSource, Settings, SettingsError


def collection_of(settings: Settings) -> Collection:
    """Return all that the settings ask to receive."""
    venues = [(VENUES[name], _endpoints(settings, name)) for name in settings.venues]
    return Collection(
        venues=venues,
        watched_assets=frozenset(settings.parameters.watch.watched_assets),
        owns=settings.own_shard.owns,
        chain=_chain(settings),
        mining=_mining(settings),
        ssl_context=ssl_context_of(settings),
    )


def ssl_context_of(settings: Settings) -> ssl.SSLContext | None:
    """Return what trusts the settings' private certificate authority; ``None`` without one.

    Raises:
        SettingsError: The file holds no certificate.
    """
    return None if settings.ca_file is None else _trusting(settings.ca_file)


def _endpoints(settings: Settings, venue: str) -> Endpoints:
    replaced = settings.endpoints.get(venue)
    return VENUES[venue].endpoints if replaced is None else Endpoints(replaced.rest_url, replaced.websocket_url)


def _trusting(ca_file: Path) -> ssl.SSLContext:
    """Trust a private certificate authority besides the system's.

    Raises:
        SettingsError: The file holds no certificate.
    """
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # ssl.SSLError is one
        words = f"{ca_file}: {error.strerror or error}"
        raise SettingsError(f"ca_file {words}; it must name a PEM file with the authority's certificate") from error
    return context


def _chain(settings: Settings) -> ChainFeed | None:
    chain = settings.chain
    if chain.url is None:
        return None
    return ethereum_feed(
        chain.url.get_secret_value(),
        exchange_addresses(),
        confirmations=chain.confirmations,
        poll_seconds=chain.poll_seconds,
        lookback_blocks=chain.lookback_blocks,
    )


def _mining(settings: Settings) -> MiningFeeds | None:
    def polls(name: MiningSource | None) -> Sequence[PollFeed]:
        if name is None:
            return ()
        return MINING[name].polls(settings.mining.base_urls.get(name, MINING[name].base_url))

    return MiningFeeds(polls(settings.mining.source), polls(settings.mining.fallback)) if settings.mining.source else None
