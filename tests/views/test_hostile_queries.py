"""SQL that wants more than to read the tables: every way that we know of, in the dialects that people try."""

import pytest
from deltalake import QueryBuilder, write_deltalake
from pyarrow import table
from view_events import liquidation

from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import LIQUIDATIONS
from views.queries import QueryError, open_tables, query

HIDDEN = "0123456789abcdef-hidden"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data directory with one table, and beside it what must not be read: files of every kind and another Delta table."""
    folder = tmp_path_factory.mktemp("machine")
    tables = DeltaTables(str(folder / "data" / "tables"), tables=(LIQUIDATIONS,))
    tables.open()
    rows = to_arrow(LIQUIDATIONS, [liquidation()])
    tables.commit(LIQUIDATIONS.name, rows, highs_of(rows))
    for name in ("secret.csv", "secret.json", "secret.txt"):
        (folder / name).write_text(f'{{"word": "{HIDDEN}"}}\n')
    write_deltalake(str(folder / "other"), table({"word": [HIDDEN]}))
    return folder


@pytest.fixture(scope="module")
def tables(place):
    return open_tables(str(place / "data" / "tables"))


def files_below(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


READING = [
    "SELECT * FROM '{path}'",
    'SELECT * FROM "{path}"',
    "SELECT * FROM `{path}`",
    "SELECT * FROM 'file://{path}'",
    "SELECT * FROM read_csv('{path}')",
    "SELECT * FROM read_csv_auto('{path}')",
    "SELECT * FROM read_json('{path}')",
    "SELECT * FROM read_parquet('{path}')",
    "SELECT * FROM read_text('{path}')",
    "SELECT * FROM read_blob('{path}')",
    "SELECT * FROM parquet_metadata('{path}')",
    "SELECT * FROM delta_scan('{path}')",
    "SELECT * FROM glob('{path}')",
    "SELECT * FROM csv_scan('{path}')",
    "SELECT pg_read_file('{path}')",
    "SELECT load_file('{path}')",
    "SELECT readfile('{path}')",
    "SELECT (SELECT * FROM '{path}')",
    "SELECT * FROM liquidations UNION ALL SELECT * FROM '{path}'",
    "SELECT * FROM liquidations WHERE venue IN (SELECT * FROM '{path}')",
    "WITH x AS (SELECT * FROM '{path}') SELECT * FROM x",
    "EXPLAIN SELECT * FROM '{path}'",
    "VALUES (pg_read_file('{path}'))",
]

ACTING = [
    "COPY liquidations TO '{path}'",
    "COPY (SELECT 1) TO '{path}' (FORMAT csv)",
    "COPY liquidations FROM '{path}'",
    "INSERT INTO liquidations VALUES (1)",
    "INSERT OVERWRITE liquidations SELECT * FROM liquidations",
    "REPLACE INTO liquidations VALUES (1)",
    "ATTACH '{path}' AS other",
    "ATTACH DATABASE '{path}' AS other",
    "DETACH other",
    "USE other",
    "EXPORT DATABASE '{path}'",
    "IMPORT DATABASE '{path}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{path}'",
    "CREATE EXTENSION plpython3u",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{path}'",
    "CREATE UNBOUNDED EXTERNAL TABLE x STORED AS CSV LOCATION '{path}'",
    "CREATE EXTERNAL TABLE x STORED AS DELTATABLE LOCATION '{path}'",
    "CREATE TEMPORARY TABLE x AS SELECT 1",
    "CREATE SCHEMA x",
    "ALTER TABLE liquidations RENAME TO x",
    "ALTER TABLE liquidations SET TBLPROPERTIES ('a' = 'b')",
    "PRAGMA database_list",
    "PRAGMA writable_schema = 1",
    "SET datafusion.catalog.information_schema = true",
    "RESET datafusion.execution.batch_size",
    "EXECUTE x",
    "DEALLOCATE x",
    "CALL system.runtime()",
    "DO $$ BEGIN END $$",
    "GRANT ALL ON liquidations TO public",
    "VACUUM liquidations",
    "OPTIMIZE liquidations",
    "RESTORE TABLE liquidations TO VERSION AS OF 0",
    "MSCK REPAIR TABLE liquidations",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "KILL 1",
    "UNLOAD (SELECT 1) TO '{path}'",
    "SELECT 1 INTO OUTFILE '{path}'",
    "FROM liquidations SELECT 1; COPY (SELECT 1) TO '{path}'",
    "SELECT 1 -- \n; COPY (SELECT 1) TO '{path}'",
    "SELECT ')' ); COPY (SELECT 1) TO '{path}'; SELECT ('",
    "SELECT 1 $$); COPY (SELECT 1) TO '{path}' --$$",
    "SELECT 1)) UNION ALL (SELECT 1 WHERE EXISTS (COPY (SELECT 1) TO '{path}'",
]


def refused(sql, tables):
    try:
        rows = query(sql, tables).to_pylist()
    except QueryError as error:
        return HIDDEN not in str(error)
    return HIDDEN not in str(rows) and not any("word" in row for row in rows)


@pytest.mark.parametrize("sql", READING)
@pytest.mark.parametrize("name", ["secret.csv", "secret.json", "secret.txt", "other"])
def test_no_file_outside_the_tables_is_read(place, tables, sql, name):
    assert refused(sql.format(path=place / name), tables)


@pytest.mark.parametrize("sql", ACTING)
def test_nothing_is_written_created_loaded_or_set(place, tables, sql):
    before = files_below(place)

    with pytest.raises(QueryError):
        query(sql.format(path=place / "written"), tables)

    assert files_below(place) == before
    assert query("SELECT count(*) AS n FROM liquidations", tables).to_pylist() == [{"n": 1}]


def test_what_is_set_or_made_in_one_question_is_not_there_in_the_next(tables):
    """Each question has an engine of its own, so that nothing could outlive it even if it were let through."""
    for sql in ("CREATE VIEW x AS SELECT 1", "CREATE TABLE x AS SELECT 1"):
        with pytest.raises(QueryError):
            query(sql, tables)

    with pytest.raises(QueryError, match="not found"):
        query("SELECT * FROM x", tables)


def test_the_engine_lists_no_tables_but_ours(tables):
    with pytest.raises(QueryError):
        query("SELECT * FROM information_schema.df_settings", tables)

    functions = QueryBuilder()  # should an upgrade bring a function that reads files, this says so
    for name in ("read_csv", "read_parquet", "read_json", "delta_scan", "read_blob", "glob"):
        with pytest.raises(Exception, match=name):
            functions.execute(f"SELECT * FROM {name}('/')").read_all()  # noqa: S608 - names of ours
