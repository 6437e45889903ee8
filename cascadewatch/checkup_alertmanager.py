"""Whether every Alertmanager of the settings can be reached and takes the credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from cascadewatch.checkup import Check, Level, place_of
from connectors.sinks.alertmanager import Credentials, CredentialsError
from flows.alerting import credentials_of
from flows.settings import Settings

_OK = 200
_SIGN_IN_CODES = frozenset({401, 403})


async def check_alertmanagers(settings: Settings, client: httpx.AsyncClient) -> Sequence[Check]:
    """Ask each for its status, which needs the same credentials as a push and changes nothing; none where none is set."""
    credentials = credentials_of(settings)
    return await asyncio.gather(*(_check(url, credentials, client) for url in settings.alertmanager.urls))


async def _check(url: str, credentials: Credentials, client: httpx.AsyncClient) -> Check:
    name, place = "alertmanager", place_of(url)
    advice = "check alertmanager.urls, firewall, proxy and, where there is a private certificate authority, ca_file"
    try:
        answer = await client.get(f"{url}/api/v2/status", headers=credentials.headers())
    except CredentialsError as error:
        return Check(name, Level.FAILED, f"{place}: {error}", "correct the file, or leave the setting out")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Check(name, Level.FAILED, f"{place}: {type(error).__name__}: {error}", advice)
    if answer.status_code in _SIGN_IN_CODES:
        advice = "check alertmanager.username and password_file, or bearer_token_file"
        return Check(name, Level.FAILED, f"{place}: HTTP {answer.status_code} {answer.reason_phrase}", advice)
    version = _version(answer)
    if version is None:
        seen = f"{place}: HTTP {answer.status_code}, which is no status of an Alertmanager"
        return Check(name, Level.FAILED, seen, "give its base URL, with the path prefix where it has one")
    return Check(name, Level.OK, f"{place}: version {version}")


def _version(answer: httpx.Response) -> str | None:
    if answer.status_code != _OK:
        return None
    try:
        return str(answer.json()["versionInfo"]["version"])
    except (ValueError, KeyError, TypeError):
        return None
