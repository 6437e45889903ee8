"""The settings of an object store, as docs/object-store.md gives them, against a real S3 server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable
from s3_server import s3_server

from connectors.sinks.delta_tables import DeltaTables, DeltaTablesError
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import DEAD_LETTERS
from flows.settings import load_settings
from market.raw import Cause, DeadLetter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOON_US = 1_763_726_400_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def variables(server, **more):
    """The environment of a process of ours, without the settings of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CASCADEWATCH_", "AWS_"))}
    return {**inherited, "CASCADEWATCH_SINK__TABLES_URI": server.uri("tables"), **more}


def in_variable(server, _folder):
    return {"CASCADEWATCH_SINK__STORAGE_OPTIONS": json.dumps(server.storage_options())}


def in_file(server, folder):
    lines = [f'{name} = "{value}"' for name, value in server.storage_options().items()]
    config = folder / "cascadewatch.toml"
    config.write_text("\n".join(["[sink.storage_options]", *lines]))
    return {"CASCADEWATCH_CONFIG": str(config)}


def in_vendors_variables(server, _folder):
    return server.storage_options()


@pytest.mark.parametrize("given", [in_variable, in_file, in_vendors_variables])
def test_an_object_store_is_reached_with_its_key_in_a_variable_a_file_or_the_vendors_variables(server, tmp_path, given):
    tables = DeltaTables(server.uri("tables"), server.storage_options(), tables=(DEAD_LETTERS,))
    tables.open()
    last = tables.committed("dead_letters", "0")
    for sequence in range(last + 1, last + 6):
        letter = DeadLetter(Cause("0", sequence, NOON_US), "okx/liquidations", "okx", "MalformedFrameError", "no JSON", b"x")
        rows = to_arrow(DEAD_LETTERS, [letter])
        tables.commit("dead_letters", rows, highs_of(rows))

    done = subprocess.run(
        [sys.executable, "-m", "cascadewatch", "maintain"],
        cwd=ROOT,
        env=variables(server, **given(server, tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    table = DeltaTable(server.uri("tables/dead_letters"), storage_options=server.storage_options())
    assert len(table.file_uris()) == 1
    assert table.to_pyarrow_table().num_rows == last + 5
    assert "secret-of-the-tests" not in done.stdout + done.stderr


def test_a_store_that_refuses_the_key_is_named_with_the_settings_to_look_at(server):
    options = server.storage_options() | {"AWS_SECRET_ACCESS_KEY": "another-secret"}

    with pytest.raises(DeltaTablesError, match=r"(?s)cannot open the table s3://tests/.*sink.storage_options") as refusal:
        DeltaTables(server.uri("refused"), options).open()
    assert "another-secret" not in str(refusal.value)


def test_the_settings_hand_storage_options_on_as_they_are(server):
    settings = load_settings({"sink": {"storage_options": server.storage_options()}})

    assert settings.storage_options() == server.storage_options()
