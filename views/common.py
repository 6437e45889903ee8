"""Views for common questions, in SQL that DataFusion, DuckDB and Spark read alike: ``views/sql/NAME.sql``.

The first line of a file says what a row is. A view needs no clock: "the last hour" is the hour before the newest row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FOLDER = "sql"
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class View:
    """One question with a name.

    Attributes:
        comment: What its rows are.
        sql: One SELECT over tables.
    """

    name: str
    comment: str
    sql: str


@cache
def common_views() -> tuple[View, ...]:
    """Return all of them, by name."""
    folder = files("views") / _FOLDER
    return tuple(
        _view(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    )


def views_named_in(sql: str) -> tuple[View, ...]:
    """Return the views whose names stand in a statement: only these are worth making for it."""
    words = set(_WORDS.findall(sql.lower()))
    return tuple(view for view in common_views() if view.name in words)


def _view(name: str, text: str) -> View:
    comment, _, sql = text.partition("\n")
    return View(name, comment.removeprefix("--").strip(), sql.strip())
