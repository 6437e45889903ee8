"""Structured log lines: an event name and its fields, as JSON. No secret is in any of them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from connectors.secrets import SECRETS

# Without the values of local variables, which a traceback would show by default: settings and URLs are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure_logs(level: str, *, to_file: Path | None) -> None:
    """Send log lines of ``level`` and above to standard error, or to a file while the terminal shows the live view."""
    # Libraries that log on their own behalf may name URLs with keys in them: only their warnings are let through.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_CleanFormatter(handler.formatter))
    if to_file is not None:
        to_file.parent.mkdir(parents=True, exist_ok=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _TRACEBACKS,
            structlog.processors.JSONRenderer(serializer=_clean_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(
            file=sys.stderr if to_file is None else to_file.open("a", encoding="utf-8")
        ),
        cache_logger_on_first_use=False,
    )


def show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without secrets: an error's words may hold what it was about."""
    sys.stderr.write(SECRETS.clean("".join(traceback.format_exception(kind, error, trace))))


def _clean_json(event: Any, default: Callable[[Any], Any], **options: Any) -> str:
    return json.dumps(_clean(event), default=lambda value: _clean(default(value)), **options)


def _clean(value: Any) -> Any:
    """Return the value with every text in it cleaned: before they are escaped, for then some secrets read otherwise."""
    if isinstance(value, str):
        return SECRETS.clean(value)
    if isinstance(value, dict):
        return {_clean(name): _clean(inner) for name, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list | tuple) else value


class _CleanFormatter(logging.Formatter):
    """Formats as another does, and cleans."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return SECRETS.clean(self._inner.format(record))
