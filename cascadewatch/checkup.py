"""What a check of ``cascadewatch doctor`` found, and the words that hide secrets in it."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from connectors.secrets import Secrets
from flows.settings import Settings, secrets_of

_URL_PART = re.compile(r"[/?&=:@#]+")


class Level(enum.Enum):
    """How much a finding matters to a live run."""

    OK = "ok"
    WARNING = "warning"  # the run works, and something is missing or will go wrong
    FAILED = "failed"  # the run does not start, or lacks what the settings ask for


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: Of what was looked at.
        seen: What there is.
        advice: What to do about it; empty when nothing is to be done.
    """

    name: str
    level: Level
    seen: str
    advice: str = ""


def place_of(url: str) -> str:
    """Return scheme, host and port of a URL, and nothing that may be a key."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "(no host)", parts.port
    except ValueError:
        return "(no URL)"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


def without_secrets(text: str, settings: Settings) -> str:
    """Return what somebody else said, with every part of the chain's URL and every storage option blanked out."""
    secrets = [option.get_secret_value() for option in settings.sink.storage_options.values()]
    if settings.chain.url is not None:
        url = settings.chain.url.get_secret_value()
        user, _, place = url.partition("://")[2].rpartition("@")
        _host, *rest = _URL_PART.split(place)
        secrets += [url, *_URL_PART.split(user), *rest]
    hidden = Secrets()
    hidden.know([*secrets, *secrets_of(settings)])
    return hidden.clean(text)
