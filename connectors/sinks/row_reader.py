"""From an event to a tuple of its table's values, by one function made for that table.

A score has over a hundred columns, some five levels deep: a function written out for exactly these costs a quarter of a getter
per cell, and an event's row does not depend on its neighbours. So the function is put together as source, once per table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

RowReader = Callable[[Any], tuple[Any, ...]]
"""Takes an event and returns a value per column."""

_STEP = re.compile(r"(?P<attribute>\w+)|\[(?P<place>\d+)\]|\[(?P<key>\w+)\]")


class Cell(NamedTuple):
    """Where a value is and what becomes of it.

    Attributes:
        path: From the event on: attributes joined by dots, ``[2]`` for a place in a tuple, ``[name]`` for a key of a dict;
            empty for the event itself. Whatever is missing on the way makes the value None.
        derive: Makes the value of what is there, unless that is None; None to take it as it is.
    """

    path: str
    derive: Callable[[Any], Any] | None


def row_reader(name: str, cells: Iterable[Cell]) -> RowReader:
    """Write and compile the function. Its paths are this program's own, never input."""
    writer = _Writer()
    values = [writer.value_of(cell) for cell in cells]
    lines = [f"def {name}(event):", *writer.lines, f"    return ({''.join(f'{value}, ' for value in values)})"]
    names: dict[str, Any] = dict(writer.names)
    exec(compile("\n".join(lines), f"<rows of {name}>", "exec"), names)  # noqa: S102 - the source is made of constants
    reader: RowReader = names[name]
    return reader


class _Writer:
    """Source in the making: a local variable for everything that has parts."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Callable[[Any], Any]] = {}
        self._locals = {"": "event"}

    def value_of(self, cell: Cell) -> str:
        """Return the expression of one column."""
        steps = list(_STEP.finditer(cell.path))
        if not steps:
            return self._derived("event", cell)
        whole = self._local("", steps[:-1])
        part = _part_of(whole, steps[-1])
        if whole != "event":
            part = f"(None if {whole} is None else {part})"
        return self._derived(part, cell)

    def _local(self, path: str, steps: list[re.Match[str]]) -> str:
        """Return the variable that holds what is at the end of the steps."""
        for step in steps:
            whole = self._locals[path]
            path += f".{step[0]}"
            if path not in self._locals:
                name = self._locals[path] = f"part_{len(self._locals)}"
                guard = "" if whole == "event" else f"None if {whole} is None else "
                self.lines.append(f"    {name} = {guard}{_part_of(whole, step)}")
        return self._locals[path]

    def _derived(self, value: str, cell: Cell) -> str:
        if cell.derive is None:
            return value
        name = f"derive_{len(self.names)}"
        self.names[name] = cell.derive
        return f"(None if (value := {value}) is None else {name}(value))"


def _part_of(whole: str, step: re.Match[str]) -> str:
    if step["place"]:
        return f"{whole}[{step['place']}]"
    return f"{whole}.get({step['key']!r})" if step["key"] else f"{whole}.{step['attribute']}"
