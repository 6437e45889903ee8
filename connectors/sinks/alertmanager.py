"""Alerts pushed to Alertmanager's API, from a thread for each: the way that takes no scrape and no rule.

The law: what is pushed is the newest state of each alert, never a history. What fires is said again before Alertmanager would
believe it to be over; what cannot be delivered waits, is tried again and replaced by what is newer. So the queue is as bounded
as the alerts are, one Alertmanager that is away costs the others nothing, and the flow is never held up.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import structlog

from connectors import clock
from connectors.backoff import Backoff
from connectors.secrets import SECRETS
from connectors.sinks.alert_words import Alert, Identity, Links, annotations_of, labels_of
from connectors.sinks.firing import FiringAlerts

TIMEOUT_SECONDS = 5.0
RESENDS_WITHIN_LIFE = 4
"""An alert that is not said again lives for so many resends: three may fail before Alertmanager believes it to be over."""

MAX_BATCH_ALERTS = 200
_FIRST_DELAY_SECONDS = 0.5
_MAX_DELAY_SECONDS = 10.0  # what has come back is told soon: that is what it is for
_MAX_EXCERPT_CHARACTERS = 200
_LOOK_AGAIN_SECONDS = 0.25  # whether the flow has come far enough for what is held back
_JOIN_SECONDS = 1.0
_MICROS = 1_000_000

_log = structlog.get_logger(__name__)


class CredentialsError(Exception):
    """A file with credentials cannot be read; the message names the setting."""


@dataclass(frozen=True)
class Credentials:
    """How to sign in: nothing, a bearer token, or a user with a password. Files are read for each push."""

    username: str | None = None
    password_file: Path | None = None
    bearer_token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """Return what a request carries.

        Raises:
            CredentialsError: A file cannot be read, or holds no token.
        """
        if self.bearer_token_file is not None:
            token = _secret(self.bearer_token_file, "alertmanager.bearer_token_file")
            if not (token.isascii() and token.isprintable()):  # a header could not carry it
                raise CredentialsError(
                    f"alertmanager.bearer_token_file: {self.bearer_token_file} holds no token: one line of ASCII"
                )
            return {"Authorization": f"Bearer {token}"}
        if self.username is not None and self.password_file is not None:
            password = _secret(self.password_file, "alertmanager.password_file")
            request = httpx.Request("POST", "http://any")
            signed = next(httpx.BasicAuth(self.username, password).auth_flow(request))
            SECRETS.know([signed.headers["Authorization"].partition(" ")[2]])
            return {"Authorization": signed.headers["Authorization"]}
        return {}


@dataclass(frozen=True)
class PushPolicy:
    """When what is said.

    Attributes:
        resend_seconds: What fires is said again so often.
        max_age_seconds: A change older than this, read again after a restart say, is not said before the flow has caught up.
    """

    resend_seconds: float = 60.0
    max_age_seconds: float = 60.0


class PushObserver(Protocol):
    """Told how pushes fare, by the pushing threads."""

    def alerts_pushed(self, alertmanager: str, count: int) -> None:
        """So many alerts were taken."""

    def alert_push_failed(self, alertmanager: str, error: str) -> None:
        """A push failed and will be tried again."""

    def alerts_unsent(self, alertmanager: str, since_us: int | None) -> None:
        """The oldest change that is not taken yet is from then; ``None``: all are."""


class AlertmanagerPusher:
    """Keeps one Alertmanager told of what fires."""

    def __init__(
        self,
        url: str,
        firing: FiringAlerts,
        observer: PushObserver,
        *,
        policy: PushPolicy,
        credentials: Credentials,
        links: Links,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Describe it; :meth:`start` begins."""
        self.name = name_of(url)
        self._url = f"{url}/api/v2/alerts"
        self._firing = firing
        self._observer = observer
        self._policy = policy
        self._credentials = credentials
        self._links = links
        self._ssl_context = ssl_context
        self._delivered: dict[Identity, int] = {}
        self._resend_at = 0.0
        self._started_us = clock.now_us()
        self._backoff = Backoff(_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"alertmanager {self.name}", daemon=True)

    def start(self) -> None:
        """Push from a thread of its own until closed."""
        self._observer.alerts_unsent(self.name, None)
        self._thread.start()

    def ask_to_end(self) -> None:
        """End after the push that goes on. What still fires is not said to be over: a restart carries on."""
        self._closed.set()

    def close(self) -> None:
        """End, and wait for that."""
        self.ask_to_end()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        with httpx.Client(verify=self._ssl_context or True, timeout=TIMEOUT_SECONDS) as client:
            while not self._closed.is_set():
                version = self._firing.version
                wait_seconds = self._push_due(client)
                if self._backoff.failures:
                    self._closed.wait(wait_seconds)
                else:
                    self._wait(version, wait_seconds)

    def _wait(self, version: int, seconds: float) -> None:
        """Wait for a change in short turns: a close is not one."""
        until = clock.monotonic_seconds() + seconds
        while not self._closed.is_set() and self._firing.version == version and clock.monotonic_seconds() < until:
            self._firing.wait(version, min(_LOOK_AGAIN_SECONDS, until - clock.monotonic_seconds()))

    def _push_due(self, client: httpx.Client) -> float:
        """Push what is due; return how long there may be nothing to do."""
        now_us = clock.now_us()
        alerts = self._firing.alerts()
        self._forget_gone(alerts)
        unsent = self._unsent(alerts)
        due = [alert for alert in unsent if self._may_be_said(alert, now_us)]
        is_resend = clock.monotonic_seconds() >= self._resend_at
        if is_resend:
            sent = {alert.identity for alert in due}
            due += [
                alert
                for alert in alerts
                if alert.ends_us is None and alert.identity not in sent and self._may_be_said(alert, now_us)
            ]
        self._tell_of(unsent)
        for begin in range(0, len(due), MAX_BATCH_ALERTS):
            batch = due[begin : begin + MAX_BATCH_ALERTS]
            if not self._post(client, batch, now_us):
                return self._backoff.next_delay_seconds(clock.jitter())
            self._delivered.update({alert.identity: alert.version for alert in batch})
        if due:
            self._recovered()
            self._tell_of(self._unsent(unsent))
        if is_resend:
            self._resend_at = clock.monotonic_seconds() + self._policy.resend_seconds
        if len(due) < len(unsent):
            return _LOOK_AGAIN_SECONDS
        return self._resend_at - clock.monotonic_seconds()

    def _unsent(self, alerts: Sequence[Alert]) -> list[Alert]:
        return [alert for alert in alerts if self._delivered.get(alert.identity, 0) < alert.version]

    def _tell_of(self, unsent: Sequence[Alert]) -> None:
        since_us = min((max(alert.changed_us, self._started_us) for alert in unsent), default=None)
        self._observer.alerts_unsent(self.name, since_us)

    def _may_be_said(self, alert: Alert, now_us: int) -> bool:
        """Say whether a change is new, or the flow has caught up: else it may be over, a few frames further on."""
        oldest_us = now_us - round(self._policy.max_age_seconds * _MICROS)
        return alert.changed_us >= oldest_us or self._firing.newest_us >= oldest_us

    def _forget_gone(self, alerts: Sequence[Alert]) -> None:
        if len(self._delivered) > len(alerts):
            known = {alert.identity for alert in alerts}
            self._delivered = {identity: version for identity, version in self._delivered.items() if identity in known}

    def _post(self, client: httpx.Client, alerts: Sequence[Alert], now_us: int) -> bool:
        try:
            body = [self._posted(alert, now_us) for alert in alerts]
            answer = client.post(self._url, json=body, headers=self._credentials.headers())
        except CredentialsError as error:
            return self._failed("CredentialsError", str(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._failed(type(error).__name__, str(error))
        if not answer.is_success:
            words = " ".join(SECRETS.clean(answer.text).split())[:_MAX_EXCERPT_CHARACTERS]
            return self._failed(f"HTTP {answer.status_code}", words or answer.reason_phrase)
        self._observer.alerts_pushed(self.name, len(alerts))
        return True

    def _posted(self, alert: Alert, now_us: int) -> dict[str, Any]:
        life_us = round(RESENDS_WITHIN_LIFE * self._policy.resend_seconds * _MICROS)
        score = self._firing.score_of(alert.asset)
        told = annotations_of(alert, score, self._links)
        return {
            "labels": labels_of(alert),
            "annotations": told,
            "startsAt": _as_text(alert.starts_us),
            "endsAt": _as_text(now_us + life_us if alert.ends_us is None else alert.ends_us),
            **({"generatorURL": told["dashboard_url"]} if "dashboard_url" in told else {}),
        }

    def _failed(self, error: str, words: str) -> bool:
        self._observer.alert_push_failed(self.name, error)
        if not self._backoff.failures:
            _log.warning(
                "alerts_not_pushed",
                alertmanager=self.name,
                error=SECRETS.clean(f"{error}: {words}"),
                remedy="tried again until it works; cascadewatch doctor checks alertmanager.urls and the credentials",
            )
        return False

    def _recovered(self) -> None:
        if self._backoff.failures:
            _log.info("alerts_pushed_again", alertmanager=self.name, failures=self._backoff.failures)
        self._backoff.reset()


def name_of(url: str) -> str:
    """Return host and port of an Alertmanager: what metrics and logs call it."""
    parts = urlsplit(url)
    return parts.hostname or "" if parts.port is None else f"{parts.hostname}:{parts.port}"


def _secret(path: Path, setting: str) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{setting}: {path} cannot be read: {error}; name a file that this process may read") from error
    SECRETS.know([secret])
    return secret


def _as_text(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / _MICROS, timezone.utc).isoformat(timespec="microseconds")
