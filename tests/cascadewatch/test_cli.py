import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cascadewatch.cli import app
from connectors.sinks.delta_tables import DeltaTables
from connectors.sinks.sequences import highs_of
from connectors.sinks.table_columns import to_arrow
from connectors.sinks.tables import CASCADES, DEAD_LETTERS, LIQUIDATIONS, SCORES, TABLES
from market.events import Liquidation
from market.raw import Cause, Completeness, DeadLetter, PositionSide
from market.readings import AbsoluteRisk, CascadePhase, CascadeScore, CascadeTransition, Score, Severity

FIXTURES = Path(__file__).parents[1] / "connectors" / "venues" / "fixtures"
NOON_US = 1_763_726_400_000_000  # 2025-11-21 12:00:00 UTC

COMMANDS = ("run", "replay", "drain", "shards", "begin-anew", "tables", "query", "maintain", "doctor", "parse", "miners")


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in os.environ:
        if name.startswith("CASCADEWATCH_"):
            monkeypatch.delenv(name)


def said(*arguments, given=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)


def words(text):
    """Text without the frames that are drawn around it, its line breaks and its colours."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃╭╮╰╯─]", " ", text).split())


def refusal(*arguments, code=1):
    """What is said on standard error when a command is refused."""
    result = said(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return words(result.stderr)


def fixture(name):
    return FIXTURES / name


def cause(sequence):
    return Cause("0", sequence, NOON_US + sequence)


def liquidation(sequence):
    return Liquidation(
        cause=cause(sequence),
        venue="okx",
        symbol="BTC-USDT-SWAP",
        asset="BTC",
        position_side=PositionSide.LONG,
        price=100_000.5,
        base_quantity=0.01,
        notional_micros=1_000_005_000,
        completeness=Completeness.SAMPLED,
        event_time_us=NOON_US - 250_000,
    )


def events():
    cascade = CascadeTransition(
        cause(7), "BTC-LONG-0-7", "BTC", PositionSide.LONG, CascadePhase.BEGAN, NOON_US, 6, 6, 6, 5, ("bybit-linear", "okx")
    )
    side = CascadeScore(None, 0.0, {}, ("size",))
    known = dict.fromkeys(("windows", "derivatives", "pressure", "miners"))
    return {
        LIQUIDATIONS: [liquidation(sequence) for sequence in range(1, 4)],
        CASCADES: [cascade],
        DEAD_LETTERS: [DeadLetter(cause(8), "okx/ticker", "okx", "UnknownFrameError", "said [/red]", b'{"a":"\xc3\xa9"}')],
        SCORES: [
            Score(
                cause=cause(9),
                asset="BTC",
                **known,
                risk=AbsoluteRisk(0, None, None, None, 0),
                cascade_long=side,
                cascade_short=side,
                severity=Severity.NONE,
                pressure_waived=True,
                missing_inputs=("pressure", "miners"),
                parameter_version="0123456789ab",
            )
        ],
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tables = DeltaTables(str(folder / "tables"))
    tables.open()
    for table, rows in events().items():
        batch = to_arrow(table, rows)
        tables.commit(table.name, batch, highs_of(batch))
    return folder


def answer(data, sql, output):
    result = said("query", sql, "--data", data, "--output", output)
    assert result.exit_code == 0, result.output
    return result.stdout


# Help


def test_every_command_is_tested_here():
    assert tuple(typer.main.get_command(app).commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = said(command, "--help")

    assert result.exit_code == 0
    assert f"Usage: root {command} " in words(result.stdout)
    assert result.stderr == ""


def test_without_arguments_the_commands_are_listed():
    result = said()

    assert all(f" {command} " in words(result.output) for command in COMMANDS)
    assert "Traceback" not in result.output


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["parse"], "Missing argument"),
        (["parse", "okx", "/no/such/file"], "'/no/such/file': No such file or directory"),
        (["query"], "Missing argument"),
        (["query", "SELECT 1", "--output", "xml"], "'xml' is not one of 'table', 'csv', 'json'"),
        (["query", "SELECT 1", "--nonsense"], "No such option: --nonsense"),
        (["miners", "--date", "2022-02-08"], "Missing option '--history'"),
        (["miners", "--history", "x.csv"], "Missing option '--date'"),
        (["replay", "journal.db"], "Missing option '--data'"),
        (["run", "--simulate", "--seconds", "0"], "Invalid value for '--seconds'"),
        (["run", "--simulate", "--seconds", "soon"], "Invalid value for '--seconds'"),
        (["run", "--simulate", "--seed", "x"], "Invalid value for '--seed'"),
    ],
)
def test_arguments_that_cannot_be_understood_end_with_code_2_and_say_which(arguments, sentence):
    assert sentence in refusal(*arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "say either --simulate (a market on this machine) or --live (the real exchanges)"),
        (["run", "--simulate", "--live"], "say either --simulate (a market on this machine) or --live (the real exchanges)"),
        (
            ["run", "--simulate", "--scenario", "panic"],
            "unknown --scenario 'panic'; allowed: long-cascade, calm, short-squeeze, burst, single-print",
        ),
        (["parse", "ftx"], "unknown venue 'ftx'; allowed: binance-usdm, bybit-linear, bybit-inverse, okx"),
        (["tables", "--schema", "prices"], f"there is no table 'prices'; there are {', '.join(each.name for each in TABLES)}"),
        (["miners", "--history", "/x.csv", "--date", "2022-02-08"], "/x.csv cannot be used: No such file or directory"),
        (["miners", "--history", "/x.csv", "--date", "today"], "--date 'today' is not a day written as YYYY-MM-DD"),
    ],
)
def test_arguments_that_make_no_sense_end_with_code_1_and_one_sentence(arguments, sentence):
    assert refusal(*arguments) == f"cascadewatch: {sentence}"


def test_a_file_of_instruments_that_cannot_be_read_is_named(tmp_path):
    absent = tmp_path / "absent.json"

    assert refusal("parse", "okx", "--instruments", absent) == f"cascadewatch: {absent}: No such file or directory"
    assert refusal("parse", "okx", "--instruments", tmp_path) == f"cascadewatch: {tmp_path}: Is a directory"


def test_a_directory_without_tables_is_named(tmp_path):
    sentence = f"cascadewatch: there are no tables at {tmp_path}/tables; give the directory of a run with --data"

    assert refusal("tables", "--data", tmp_path) == sentence
    assert refusal("query", "SELECT 1", "--data", tmp_path) == sentence


def test_the_directory_that_is_replayed_is_not_written_to(data):
    sentence = f"cascadewatch: --data {data} holds what is to be replayed; give a new directory"

    assert refusal("replay", data, "--data", data) == sentence
    assert refusal("replay", data / "journal" / "0.db", "--data", data) == sentence


def test_a_wrong_setting_stops_every_command_with_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("CASCADEWATCH_METRICS__PORT", "many")

    refused = refusal("tables", "--data", tmp_path)

    assert refused.startswith("cascadewatch: wrong settings: metrics.port: ")
    assert "'many'" in refused


# parse


def parsed(*arguments, given=None):
    result = said("parse", *arguments, given=given)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


SHORT = {
    "venue": "binance-usdm",
    "symbol": "BTCUSDT",
    "asset": "BTC",
    "position_side": "SHORT",
    "price": 4706.04,
    "base_quantity": 0.014,
    "notional_usd": 65.88456,
    "event_time": "2020-03-13T00:23:51.421000+00:00",
}
BINANCE_SHORT = "binance/liquidation_of_a_short.json"


def test_a_file_of_frames_gives_one_line_each(tmp_path):
    frames = tmp_path / "frames.jsonl"
    frame = fixture(BINANCE_SHORT).read_bytes().strip()
    frames.write_bytes(b"\n".join([frame, b"", b"nonsense", b'{"result":null,"id":1}', b"  " + frame + b"\r"]))

    lines, _ = parsed("binance-usdm", frames)

    assert [line.get("error", line.get("events")) for line in lines] == [[SHORT], "MalformedFrameError", [], [SHORT]]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_without_a_file_standard_input_is_read(arguments):
    lines, _ = parsed("binance-usdm", *arguments, given=fixture(BINANCE_SHORT).read_bytes())

    assert lines == [{"events": [SHORT]}]


def test_no_frames_give_no_lines():
    assert parsed("okx", given=b"\n\n")[0] == []


def test_it_says_when_contracts_are_read_off_their_symbols_and_when_they_cannot_be():
    listed = ["--instruments", fixture("binance/exchange_info.json")]

    assert parsed("binance-usdm", given=b"")[1] == (
        "no --instruments: contracts are read off their symbols, which a live run never does\n"
    )
    assert parsed("okx", given=b"")[1] == "no --instruments: okx counts in contracts, so every symbol is unknown\n"
    assert "no --instruments" not in parsed("binance-usdm", *listed, given=b"")[1]


def test_several_lists_of_instruments_can_be_given_and_what_is_wrong_with_one_is_told():
    frame = fixture("okx/liquidation.json").read_text().replace("1791565600771", "1760000000000")
    lists = ["okx/instruments_futures.json", "okx/error.json", "okx/instruments_swap.json"]

    lines, problems = parsed("okx", *(part for name in lists for part in ("--instruments", fixture(name))), given=frame)

    assert [event["notional_usd"] for event in lines[0]["events"]] == [7067.06235]
    assert "--instruments: 60012: Invalid request\n" in problems


# miners


def test_the_miners_of_a_day_are_printed_as_json(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("date,price_usd,difficulty\n2022-06-20,17800,30.28e12\n")

    result = said("miners", "--history", path, "--date", "2022-06-20")
    answered = json.loads(result.stdout)

    assert result.exit_code == 0
    assert list(answered) == ["day", "price_usd", "difficulty", "hashprice_usd_per_ph_day", "fits"]
    assert answered["fits"]["glassnode_2022"]["multiple"] == pytest.approx(1, abs=0.01)


def test_a_history_that_cannot_be_used_is_one_sentence(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("date,price\n2022-06-20,17800\n")

    assert refusal("miners", "--history", path, "--date", "2022-06-20") == (
        f"cascadewatch: {path} lacks the column price_usd, difficulty; it needs date, price_usd, difficulty"
    )


# tables and query


def test_the_tables_are_listed_with_their_sizes(data):
    result = said("tables", "--data", data)

    listed = {line.split()[1]: line.split("│")[2:6] for line in result.stdout.splitlines() if line.startswith("│ ")}

    assert result.exit_code == 0
    assert list(listed) == [each.name for each in TABLES]
    assert [cell.strip() for cell in listed["liquidations"][:2]] == ["3", "1"]
    assert [cell.strip() for cell in listed["gaps"]] == ["0", "0", "0", "0"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_tables_columns_are_printed_with_their_meaning(table):
    result = said("tables", "--schema", table.name)
    lines = result.stdout.splitlines()

    assert result.exit_code == 0
    assert words(lines[0]) == f"{table.name}: {table.comment}"
    for field in table.schema:
        line = next(line for line in lines if line.startswith(f"│ {field.name} "))
        assert field.metadata[b"comment"].decode() in words(line)


def test_an_answer_is_a_table_by_default(data):
    result = said("query", "SELECT venue, count(*) AS n FROM liquidations GROUP BY venue", "--data", data)

    assert [words(line) for line in result.stdout.splitlines() if line[0] in "┃│"] == ["venue n", "okx 3"]


def test_an_answer_as_json_is_one_object_per_line(data):
    sql = "SELECT cascade_id, venues, receive_time, date, total_usd FROM cascades"

    assert [json.loads(line) for line in answer(data, sql, "json").splitlines()] == [
        {
            "cascade_id": "BTC-LONG-0-7",
            "venues": ["bybit-linear", "okx"],
            "receive_time": "2025-11-21T12:00:00.000007Z",
            "date": "2025-11-21",
            "total_usd": 6e-06,
        }
    ]


def test_an_answer_as_csv_is_complete(data):
    sql = "SELECT receive_time, symbol, price, sequence, NULL AS nothing, true AS yes FROM liquidations ORDER BY 1 LIMIT 1"

    assert list(csv.reader(answer(data, sql, "csv").splitlines())) == [
        ["receive_time", "symbol", "price", "sequence", "nothing", "yes"],
        ["2025-11-21T12:00:00.000001Z", "BTC-USDT-SWAP", "100000.5", "1", "", "true"],
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_every_table_can_be_printed_whole_in_every_way(data, table, output):
    rows = len(events().get(table, ()))
    printed = answer(data, f"SELECT * FROM {table.name}", output).splitlines()  # noqa: S608 - our own names

    if output == "json":
        assert [len(json.loads(line)) for line in printed] == [len(table.schema)] * rows
    elif output == "csv":
        assert [len(line) for line in csv.reader(printed)] == [len(table.schema)] * (rows + 1)
    else:
        assert printed


def test_lists_maps_and_bytes_are_shown_as_what_they_are(data):
    sql = "SELECT venues, reason, payload FROM cascades CROSS JOIN dead_letters"
    expected = ['["bybit-linear","okx"]', "said [/red]", '{"a":"é"}']

    assert list(csv.reader(answer(data, sql, "csv").splitlines()))[1] == expected
    assert [cell.strip() for cell in answer(data, sql, "table").splitlines()[3].strip("│").split("│")] == expected


def test_two_columns_of_one_name_keep_their_places(data):
    sql = "SELECT c.sequence, d.sequence, d.venue FROM cascades AS c CROSS JOIN dead_letters AS d"

    assert answer(data, sql, "csv").splitlines()[1] == "7,8,okx"


def test_a_row_of_very_many_columns_is_shown_upright(data):
    printed = answer(data, "SELECT * FROM scores", "table").splitlines()

    assert words(printed[1]) == "row 1"
    assert [line for line in printed if line.startswith("│ severity ")] == [line for line in printed if "│ none " in line]


def test_a_long_answer_is_cut_and_says_so(data):
    many = "SELECT * FROM generate_series(1, 1500)"
    cut = said("query", many, "--data", data)
    wide = said("query", "SELECT s.* FROM scores AS s CROSS JOIN generate_series(1, 1500)", "--data", data)

    assert len([line for line in cut.stdout.splitlines() if line.startswith("│ ")]) == 200
    assert cut.stderr == "the first 200 of 1,500 rows; --output csv gives all\n"
    assert wide.stderr == "the first 4 of 1,500 rows; --output csv gives all\n"
    assert len(answer(data, many, "csv").splitlines()) == 1_501


def test_an_acting_statement_is_refused_in_words(data):
    refused = refusal("query", "DROP TABLE liquidations", "--data", data)

    assert refused.startswith("cascadewatch: SQL error: ParserError")
    assert refused.endswith("Only one SELECT is answered here: the tables are read-only.")


# As a program


def program(*arguments, **options):
    command = [sys.executable, "-m", "cascadewatch", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CASCADEWATCH_")}
    environment["CASCADEWATCH_METRICS__PORT"] = "0"
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment, **options)


@pytest.mark.slow
def test_the_program_ends_with_a_sentence_not_a_traceback(tmp_path):
    ended = program("tables", "--data", tmp_path)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"cascadewatch: there are no tables at {tmp_path}/tables; give the directory of a run with --data\n"


@pytest.mark.slow
def test_a_journal_that_is_not_there_is_not_made(tmp_path):
    ended = program("replay", tmp_path / "0.db", "--data", tmp_path / "new")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"cascadewatch: there is no journal {tmp_path / '0.db'}\n"
    assert not (tmp_path / "0.db").exists()


@pytest.mark.slow
def test_a_simulated_run_and_the_replay_of_its_journal_leave_the_same_tables(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"

    ran = program("run", "--simulate", "--seconds", "6", "--data", first)
    drained = program("drain", "--data", first)  # what it journaled while it stopped is in no table before its next run
    assert drained.returncode == 0, drained.stderr
    replayed = program("replay", first / "journal" / "0.db", "--data", second)

    assert (ran.returncode, replayed.returncode) == (0, 0), ran.stderr + replayed.stderr
    assert re.search(r"^rows written: .*derivatives [\d,]+.*\ntables: ", ran.stdout, re.MULTILINE)
    assert rows_in(second) == rows_in(first)
    assert rows_in(first)["scores"]


def rows_in(folder):
    return {table.name: sorted(answer(folder, f"SELECT * FROM {table.name}", "csv").splitlines()[1:]) for table in TABLES}  # noqa: S608 - our own names
