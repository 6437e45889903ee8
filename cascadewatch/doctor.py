"""``cascadewatch doctor``: checks all that a live run needs, and says what to do about what is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from cascadewatch.checkup import Check, Level
from cascadewatch.checkup_local import local_checks
from cascadewatch.checkup_network import network_checks
from connectors.secrets import SECRETS
from flows.settings import Settings

_COLOUR = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "bold red"}


def examine(settings: Settings, console: Console | None = None) -> bool:
    """Print one line per check: its level, what was seen, what to do. Takes some 11 s at most and changes nothing.

    Returns:
        Whether a live run has all that the settings ask for; warnings do not count.
    """
    console = console or Console()
    checks = _print(local_checks(settings), console)
    with console.status("asking venues, chain, mining and the tables' store"):
        found = network_checks(settings)
    checks += _print(found, console)
    return all(check.level is not Level.FAILED for check in checks)


def _print(checks: Iterable[Check], console: Console) -> list[Check]:
    printed = []
    for check in checks:
        line = Text(f"{check.level.value:<8} ", _COLOUR[check.level])
        line.append(f"{check.name:<22} ", "bold")
        line.append(SECRETS.clean(" ".join(check.seen.split())), "default")
        if check.advice:
            line.append(f" → {SECRETS.clean(check.advice)}", "cyan")
        console.print(line, soft_wrap=True)
        printed.append(check)
    return printed
