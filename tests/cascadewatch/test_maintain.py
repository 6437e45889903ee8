import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from cascadewatch.maintain import _in_units, maintain_tables
from connectors.clock import now_us
from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.maintenance import MaintenanceError
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import CASCADES, DEAD_LETTERS
from flows.settings import Settings, SettingsError, load_settings
from market.raw import Cause, DeadLetter

ROOT = Path(__file__).parents[2]
DAY_US = 86_400_000_000


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in os.environ:
        if name.startswith("CASCADEWATCH_"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path):
    """A run's tables: ten letters over two days in as many files."""
    tables = DeltaTables(str(tmp_path / "tables"), tables=(DEAD_LETTERS, CASCADES))
    tables.open()
    for sequence in range(1, 11):
        cause = Cause("0", sequence, now_us() - (5 * DAY_US if sequence <= 4 else 0))
        rows = to_arrow(DEAD_LETTERS, [DeadLetter(cause, "okx/liquidations", "okx", "MalformedFrameError", "no JSON", b"x")])
        tables.commit("dead_letters", rows, highs_of(rows))
    return settings_of(tmp_path)


def settings_of(data_dir, **maintenance) -> Settings:
    return load_settings({"data_dir": data_dir, "maintenance": maintenance})


def maintain(settings, *names, is_dry_run=False, is_forced=False):
    return maintain_tables(settings, names, is_dry_run=is_dry_run, is_forced=is_forced)


def cells(output, table):
    """The cells of a table's row."""
    [row] = [line for line in output.splitlines() if line.startswith(f"│ {table} ")]
    return [cell.strip() for cell in row.strip("│").split("│")]


def letters(settings):
    return DeltaTable(f"{settings.tables_uri}/dead_letters")


def test_every_table_that_is_there_is_maintained_and_shown_before_and_after(settings, capsys):
    assert maintain(settings)

    output = capsys.readouterr().out
    assert f"Maintenance of the tables at {settings.tables_uri}" in output
    assert cells(output, "dead_letters")[:6] == ["dead_letters", "0", "10", "0", "0", "10 → 2"]
    assert cells(output, "cascades")[:6] == ["cascades", "0", "0", "0", "0", "0 → 0"]
    assert "liquidations" not in output
    assert len(letters(settings).file_uris()) == 2


def test_a_dry_run_says_so_and_changes_nothing(settings, tmp_path, capsys):
    assert maintain(settings_of(tmp_path, retention_days={"dead_letters": 2}), is_dry_run=True)

    output = capsys.readouterr().out
    assert "What maintenance would do to the tables" in output
    assert cells(output, "dead_letters")[:6] == ["dead_letters", "4", "6", "0", "0", "10"]
    assert letters(settings).version() == 10


def test_expired_days_go_as_the_settings_say(settings, tmp_path, capsys):
    assert maintain(settings_of(tmp_path, retention_days={"dead_letters": 2}))

    assert cells(capsys.readouterr().out, "dead_letters")[1] == "4"
    assert letters(settings).to_pyarrow_table().num_rows == 6


def test_only_the_tables_that_are_named_are_touched(settings, capsys):
    assert maintain(settings, "cascades")

    assert "dead_letters" not in capsys.readouterr().out
    assert letters(settings).version() == 10


def test_a_table_that_fails_does_not_hold_up_the_others(settings, capsys):
    log = Path(settings.tables_uri, "cascades", "_delta_log", "00000000000000000000.json")
    log.write_text("torn")

    assert not maintain(settings)

    said = capsys.readouterr()
    assert said.err.startswith("cascades: ")
    assert cells(said.out, "dead_letters")[2] == "10"


def test_an_unknown_table_is_refused(settings):
    with pytest.raises(SettingsError, match="unknown --table trades; allowed: liquidations, "):
        maintain(settings, "cascades", "trades")


def test_a_place_without_tables_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=f"there are no tables at {tmp_path}/tables; give the directory of a run"):
        maintain(settings_of(tmp_path))


def test_less_than_the_floor_is_refused_unless_forced(settings, tmp_path):
    at_once = settings_of(tmp_path, vacuum_retention_hours=0)

    with pytest.raises(MaintenanceError, match=r"maintenance\.vacuum_retention_hours = 0 "):
        maintain(at_once)
    assert letters(settings).version() == 10

    assert maintain(at_once, is_forced=True)
    assert len(list(Path(settings.tables_uri, "dead_letters").glob("date=*/*"))) == 2


@pytest.mark.parametrize(
    ("maintenance", "line"),
    [
        ({"retention_days": {"trades": 3}}, r"retention_days: unknown table trades; allowed: liquidations, "),
        ({"retention_days": {"scores": 0}}, r"retention_days.scores: should be greater than or equal to 1 \(value: 0\)"),
        ({"vacuum_retention_hours": -1}, r"vacuum_retention_hours: should be greater than or equal to 0 \(value: -1\)"),
        ({"target_file_bytes": 1}, r"target_file_bytes: should be greater than or equal to 1048576 \(value: 1\)"),
    ],
)
def test_settings_without_sense_are_refused_by_name(maintenance, line):
    with pytest.raises(SettingsError, match=rf"maintenance\.{line}"):
        load_settings({"maintenance": maintenance})


def test_retention_comes_from_a_variable(monkeypatch):
    monkeypatch.setenv("CASCADEWATCH_MAINTENANCE__RETENTION_DAYS", '{"scores": 30, "book_depth": 7}')

    assert load_settings().maintenance.retention_days == {"scores": 30, "book_depth": 7}


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (1_234_567, "1.2 MB"), (5 * 10**15, "5000.0 TB")]
)
def test_sizes_are_in_units(size_bytes, words):
    assert _in_units(size_bytes) == words


@pytest.mark.slow
def test_the_command_ends_with_0_when_all_is_done_and_1_when_something_failed(settings, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "cascadewatch", "maintain", "--data", str(tmp_path), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    dry, unknown = run("--dry-run"), run("--table", "trades")
    assert (dry.returncode, letters(settings).version()) == (0, 10)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert re.match(r"cascadewatch: unknown --table trades; allowed: ", unknown.stderr)

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 → 2" in done.stdout

    for path in Path(settings.tables_uri, "cascades", "_delta_log").iterdir():
        path.write_text("torn")
    assert run("--table", "cascades").returncode == 1
