"""What the page on scaling says is what the code does."""

import re
from pathlib import Path

from typer.main import get_command

from cascadewatch.cli import app
from connectors.sinks.metric_list import METRICS
from flows.settings import Settings
from market.shards import owner_of

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_its_example_of_an_owner_is_right():
    (name, count, owner) = re.search(r'sha256\(b"(\w+)"\).* % (\d+)\)\'\s+# (\d+)', PAGE).groups()

    assert owner_of(name, int(count)) == int(owner)


def test_every_metric_in_its_queries_exists():
    assert set(re.findall(r"\bcascadewatch_[a-z_]+", PAGE)) <= {metric.name for metric in METRICS}


def test_every_command_and_variable_that_it_names_exists():
    variables = {name.split("__")[0].lower() for name in re.findall(r"CASCADEWATCH_([A-Z_]+)", PAGE)}

    assert set(re.findall(r"`?cascadewatch ([a-z]+)\b", PAGE)) <= set(get_command(app).commands)
    assert variables <= set(Settings.model_fields)
