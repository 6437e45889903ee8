import dataclasses
import re
from pathlib import Path

import pytest

from cascadewatch.describe_settings import _type, markdown
from flows.settings import Settings
from market.parameters import Parameters

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def keys_of(page):
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def test_the_settings_page_is_what_the_settings_say():
    page = PAGE.read_text(encoding="utf-8")

    assert page == markdown(), "regenerate it: python -m cascadewatch.describe_settings > docs/settings.md"


def test_every_setting_and_every_parameter_is_on_the_page_once():
    keys = keys_of(markdown())

    assert len(keys) == len(set(keys))
    for name, field in Settings.model_fields.items():
        if name == "parameters":
            continue
        members = getattr(field.annotation, "model_fields", None)
        assert {name} <= set(keys) if members is None else {f"{name}.{member}" for member in members} <= set(keys)
    for section in dataclasses.fields(Parameters):
        for field in dataclasses.fields(getattr(Parameters(), section.name)):
            assert f"parameters.{section.name}.{field.name}" in keys


def test_every_row_has_a_type_a_default_and_a_meaning():
    rows = [line.strip("|").split(" | ") for line in markdown().splitlines() if line.startswith("| `")]

    for key, kind, default, _allowed, meaning in rows:
        assert kind.strip(), key
        assert default.strip(), key
        assert meaning.strip(), key


def test_a_type_without_words_is_refused():
    with pytest.raises(TypeError, match="complex"):
        _type(complex)
