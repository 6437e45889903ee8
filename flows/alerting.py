"""What one live process tells the Alertmanagers of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from connectors.sinks.alert_words import Links
from connectors.sinks.alertmanager import AlertmanagerPusher, Credentials, PushObserver, PushPolicy
from connectors.sinks.firing import FiringAlerts
from flows.collection import ssl_context_of
from flows.settings import Settings

FILE_NAME = "firing.json"
"""In the home of a process: what fires, for the next start."""


@contextmanager
def alerting(settings: Settings, firing: FiringAlerts, observer: PushObserver, home: Path, partition: str) -> Iterator[None]:
    """Remember what fires in the process's home, and push it while the context lasts.

    Raises:
        SettingsError: ``ca_file`` holds no certificate.
    """
    with ExitStack() as around:
        firing.keep(home / FILE_NAME, partition)
        around.callback(firing.close)
        pushers = pushers_of(settings, firing, observer)
        for pusher in pushers:
            pusher.start()
            around.callback(pusher.close)
        for pusher in pushers:
            around.callback(pusher.ask_to_end)  # all at once: each may be in the middle of a push
        yield


def pushers_of(settings: Settings, firing: FiringAlerts, observer: PushObserver) -> list[AlertmanagerPusher]:
    """Return one for each Alertmanager; nothing runs yet."""
    where = settings.alertmanager
    ssl_context = ssl_context_of(settings) if where.urls else None
    return [
        AlertmanagerPusher(
            url,
            firing,
            observer,
            policy=PushPolicy(where.resend_seconds, where.max_age_seconds),
            credentials=credentials_of(settings),
            links=Links(where.runbooks_url, where.dashboard_url),
            ssl_context=ssl_context,
        )
        for url in where.urls
    ]


def credentials_of(settings: Settings) -> Credentials:
    """Return how to sign in at an Alertmanager."""
    where = settings.alertmanager
    return Credentials(where.username, where.password_file, where.bearer_token_file)
