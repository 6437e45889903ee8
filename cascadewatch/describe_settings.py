"""Writes docs/settings.md from the settings themselves: ``python -m cascadewatch.describe_settings > docs/settings.md``."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from flows.parameter_rules import rule_of
from flows.settings import CONFIG_VARIABLE, ENV_PREFIX, EndpointSettings, Settings

_HEAD = f"""# Settings

Everything is set by environment variables, by a TOML file that `{CONFIG_VARIABLE}` names, or both; the environment wins. A
variable is `{ENV_PREFIX}` and the key in capitals, its parts joined by two underscores: `{ENV_PREFIX}METRICS__PORT=9500` is

```toml
[metrics]
port = 9500
```

Lists are JSON or separated by commas, tables are JSON: `{ENV_PREFIX}VENUES=okx,bybit-linear`,
`{ENV_PREFIX}ENDPOINTS='{{"okx": {{"rest_url": "https://…", "websocket_url": "wss://…"}}}}'`. An empty variable says nothing.
Settings are read once, at the start. One that is unknown or wrong stops the start with a line that names it; secrets are in no
message. `cascadewatch doctor` tries out what they lead to.

This page is generated: `python -m cascadewatch.describe_settings > docs/settings.md`.
"""

_PARAMETERS_HEAD = """
# Parameters

Every number that a score depends on. They are settings like the others, `CASCADEWATCH_PARAMETERS__CASCADE__WINDOW_USD=1000000`
or `[parameters.cascade]` in the file, and take effect at the next start, also on what the run before it remembers. Each row in
`scores` carries twelve digits that change with any of them. Names end in units: `_us` are microseconds.
"""

_COLUMNS = "\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n"
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", SecretStr: "text, secret"}
_BOUNDS = (("ge", "from"), ("gt", "above"), ("le", "up to"))
_SOURCE_NOTE = re.compile(r" \((?:scores|design) §[^)]*\)")  # where a formula was fixed says nothing to who sets it
_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")


def markdown() -> str:
    """Return the page."""
    return _HEAD + "".join(_general()) + "".join(_sections()) + _PARAMETERS_HEAD + "".join(_parameters())


def _general() -> Iterator[str]:
    yield "\n## General\n" + _COLUMNS
    for name, field in Settings.model_fields.items():
        if not _is_section(field.annotation) and name != "parameters":
            yield _setting_row(name, field)


def _sections() -> Iterator[str]:
    for section, field in Settings.model_fields.items():
        if _is_section(field.annotation):
            yield from _section(section, field.annotation)
    yield from _section("endpoints.VENUE", EndpointSettings)


def _section(prefix: str, section: Any) -> Iterator[str]:
    yield f"\n## {prefix}\n\n{_as_markdown(inspect.getdoc(section) or '')}\n{_COLUMNS}"
    for name, field in section.model_fields.items():
        yield _setting_row(f"{prefix}.{name}", field)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _setting_row(key: str, field: FieldInfo) -> str:
    default = "(must be given)" if field.is_required() else _value(field.get_default(call_default_factory=True))
    bounds = {name: getattr(item, name) for item in field.metadata for name, _word in _BOUNDS if hasattr(item, name)}
    allowed = " ".join(f"{word} {_value(bounds[name])}" for name, word in _BOUNDS if name in bounds)
    return _row(key, _type(field.annotation), default, allowed or _choices(field.annotation), field.description or "")


def _row(key: str, *cells: str) -> str:
    return f"| `{key}` | {' | '.join(map(_as_markdown, cells))} |\n"


def _as_markdown(docstring: str) -> str:
    return docstring.replace("``", "`")


def _type(annotation: Any) -> str:
    if annotation in _TYPES:
        return _TYPES[annotation]
    origin, arguments = get_origin(annotation), [each for each in get_args(annotation) if each not in {type(None), ...}]
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return "text"
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(dict.fromkeys(map(_type, arguments)))
    if origin is tuple:
        return f"list of {_plural(_type(arguments[0]))}"
    if origin is dict:
        return "table" if _is_section(arguments[1]) else f"table of {_plural(_type(arguments[1]))}"
    raise TypeError(f"no words for the type {annotation!r}")


def _plural(words: str) -> str:
    noun, comma, rest = words.partition(",")
    return f"{noun}s{comma}{rest}"


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is typing.Literal:
        return ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in {typing.Union, types.UnionType} and type(None) in get_args(annotation):
        return _choices(get_args(annotation)[0])
    return ""


def _value(value: Any) -> str:
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(each)}" for name, each in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parameters() -> Iterator[str]:
    defaults = Settings.model_fields["parameters"].default
    for section in dataclasses.fields(defaults):
        values = getattr(defaults, section.name)
        text, meanings = _documented(type(values))
        hints = get_type_hints(type(values))
        yield f"\n## parameters.{section.name}\n\n{_as_markdown(text)}\n{_COLUMNS}"
        for field in dataclasses.fields(values):
            key, default = f"parameters.{section.name}.{field.name}", _value(getattr(values, field.name))
            yield _row(key, _type(hints[field.name]), default, rule_of(field.name).says, meanings[field.name])


def _documented(section: type) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of its class, and of each field below ``Attributes:``."""
    text, _, attributes = (inspect.getdoc(section) or "").partition("\n\nAttributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(attributes).splitlines():
        begun = _ATTRIBUTE.match(line)
        if begun is not None:
            name, meanings[begun[1]] = begun[1], begun[2]
        else:
            meanings[name] += f" {line.strip()}"
    return _SOURCE_NOTE.sub("", text), {key: _SOURCE_NOTE.sub("", words) for key, words in meanings.items()}


if __name__ == "__main__":
    sys.stdout.write(markdown())
