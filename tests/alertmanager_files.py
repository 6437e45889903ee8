"""deploy/alertmanager filled in with secrets of the tests' own, as start.sh does it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "deploy" / "alertmanager"

SECRETS = {
    "pagerduty-routing-key": "a-routing-key",
    "telegram-bot-token": "123:a-bot-token",
    "telegram-chat-id": "-100123",
    "discord-webhook-url": "http://127.0.0.1:1/discord",
    "slack-webhook-url": "http://127.0.0.1:1/slack",
    "mail-smarthost": "127.0.0.1:25",
    "mail-from": "watch@example.org",
    "mail-to": "people@example.org",
    "mail-username": "watch",
    "mail-password": "a-mail-password",
    "webhook-url": "http://127.0.0.1:1/webhook",
    "watchdog-url": "http://127.0.0.1:1/watchdog",
}


def write_secrets(folder: Path, secrets: Mapping[str, str] = SECRETS) -> Path:
    """Write each into a file of its name, with the newline that editors leave."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in secrets.items():
        (folder / name).write_text(f"{value}\n", encoding="utf-8")
    return folder


def rendered(target: Path, secrets: Path) -> subprocess.CompletedProcess[str]:
    """Have start.sh write the configuration to a file."""
    return subprocess.run(
        [FOLDER / "start.sh", "--render", target],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SECRETS": str(secrets)},
    )
