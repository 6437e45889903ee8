"""What is wrong with settings: one line per key, which never holds a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

from connectors.secrets import without_secrets_of_url
from flows.parameter_rules import ParametersError

_SECRETS = (("chain", "url"), ("sink", "storage_options"))
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})

_Place = Sequence[str]


def lines_of(error: ValidationError, settings: type[BaseModel]) -> list[str]:
    """Return one line per wrong key: the key, what is allowed, and the value where it can be shown."""
    lines: list[str] = []
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ParametersError):
            lines += cause.lines
        else:
            lines.append(_line(item, settings))
    return lines


def _line(item: Mapping[str, Any], settings: type[BaseModel]) -> str:
    place = [str(part) for part in item["loc"] if part != "[key]"]
    key = ".".join(place)
    if item["type"] in _UNKNOWN:
        return f"{key}: there is no such setting; allowed: {', '.join(_names_at(settings, place[:-1]))}"
    words = item["msg"].removeprefix("Value error, ").replace("Input should", "should")
    value = item["input"]
    if item["type"] == "missing":
        return f"{key}: is missing"
    if _may_be_secret(place) or not isinstance(value, str | int | float):
        return f"{key}: {words} (value not shown)"
    shown = without_secrets_of_url(value) if isinstance(value, str) else value
    return f"{key}: {words} (value: {shown!r})"


def _may_be_secret(place: _Place) -> bool:
    """Say whether a value there is a secret, holds one, or is part of one."""
    return any(all(a == b for a, b in zip(place, secret, strict=False)) for secret in _SECRETS)


def _names_at(kind: Any, place: _Place) -> list[str]:
    for part in place:
        kind = _member(kind, part)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return sorted(kind.model_fields)
    return sorted(field.name for field in dataclasses.fields(kind))


def _member(kind: Any, name: str) -> Any:
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields[name].annotation
    return get_type_hints(kind)[name]
