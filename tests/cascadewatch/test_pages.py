"""What the pages say is what the code does."""

import re
from pathlib import Path

from typer.main import get_command

from cascadewatch.cli import app
from cascadewatch.demo import SCENARIOS
from cascadewatch.describe_metrics import markdown
from connectors.sinks.tables import TABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_metrics_page_is_the_list_of_metrics():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert page == markdown(), "regenerate it: python -m cascadewatch.describe_metrics > docs/metrics.md"


def test_every_table_is_in_the_readme_and_no_other():
    below = README.split("| table | one row per |")[1].split("\n\n")[0]

    assert set(re.findall(r"`([a-z_]+)`", below)) == {table.name for table in TABLES}


def test_every_command_that_the_readme_names_exists():
    commands = set(re.findall(r"cascadewatch ([a-z]+)\b", "\n".join(re.findall(r"```(.*?)```", README, re.DOTALL))))

    assert commands <= set(get_command(app).commands)
    assert {"run", "tables", "query", "doctor"} <= commands


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_every_scenario_is_in_the_readme():
    assert all(scenario in README for scenario in SCENARIOS)


def test_every_page_that_the_readme_links_to_exists():
    assert all((ROOT / link).exists() for link in re.findall(r"\]\((?!http)([^)#]+)\)", README))
