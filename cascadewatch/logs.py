"""Structured log lines: an event name and its fields, as JSON."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import structlog


def configure_logs(level: str, *, to_file: Path | None) -> None:
    """Send log lines of ``level`` and above to standard error, or to a file while the terminal shows the live view."""
    # Libraries that log on their own behalf may name URLs with keys in them: only their warnings are let through.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    if to_file is not None:
        to_file.parent.mkdir(parents=True, exist_ok=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(
            file=sys.stderr if to_file is None else to_file.open("a", encoding="utf-8")
        ),
        cache_logger_on_first_use=False,
    )
