"""The command line: reads arguments, calls one function per command, turns errors into one sentence and exit code 1."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import typer

from cascadewatch import answers
from cascadewatch.demo import SCENARIOS, DemoError
from cascadewatch.doctor import examine
from cascadewatch.logs import show_uncaught
from cascadewatch.maintain import maintain_tables, yield_to_others
from cascadewatch.miner_history import HistoryError, read_miner_day
from cascadewatch.parse_frames import FrameReader
from cascadewatch.running import finish, replay_journal, replay_table, run_live, run_simulated
from cascadewatch.shard_answers import print_shards
from connectors.secrets import SECRETS
from connectors.sinks.delta_tables import DeltaTablesError
from connectors.sinks.health import HealthServerError
from connectors.sinks.spool import SpoolError
from connectors.sources.journal import JournalError
from connectors.sources.registry import VENUES
from flows.anew import AnewError, begin_anew
from flows.recovery_store import RecoveryStoreError
from flows.runtime import DataDirectoryError
from flows.settings import Settings, SettingsError, load_settings
from flows.shard_rules import ShardsError
from views.queries import QueryError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Watch perpetual-futures markets for liquidation cascades, and say what is known and what is not.",
    epilog="Settings come from CASCADEWATCH_… variables or a TOML file named by CASCADEWATCH_CONFIG; see docs/settings.md.",
)

_EXPECTED = (
    AnewError,
    DataDirectoryError,
    DeltaTablesError,
    DemoError,
    FileNotFoundError,
    HealthServerError,
    HistoryError,
    IsADirectoryError,
    JournalError,
    NotADirectoryError,
    PermissionError,
    QueryError,
    RecoveryStoreError,
    SettingsError,
    ShardsError,
    SpoolError,
)

P = ParamSpec("P")
R = TypeVar("R")

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Directory of journal, spool, recovery and tables. Default: ./data")
]


def _in_one_sentence(command: Callable[P, R]) -> Callable[P, R]:
    """Show what a person can do something about as its message alone."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _EXPECTED as error:
            words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            typer.secho(SECRETS.clean(f"cascadewatch: {words}"), fg="red", err=True)
            raise typer.Exit(1) from error
        except BrokenPipeError as error:  # the reader of a pipe has seen enough
            sys.stderr.close()
            raise typer.Exit(0) from error

    return run


def _settings(data: Path | None, **overrides: Any) -> Settings:
    return load_settings({**({"data_dir": data} if data is not None else {}), **overrides})


@app.command()
@_in_one_sentence
def run(
    *,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="A seeded market on loopback; needs no key, no internet.")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="The real exchanges.")] = False,
    scenario: Annotated[str, typer.Option(help=f"With --simulate: {', '.join(SCENARIOS)}.")] = SCENARIOS[0],
    seed: Annotated[int, typer.Option(help="With --simulate: another seed, another market.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=1, help="End by itself after so long.")] = None,
    data: DataOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Log lines, also in a terminal.")] = False,
) -> None:
    """Watch a market: receive, score, write tables, serve metrics.

    In a terminal it shows a live view, elsewhere it logs JSON lines. Ctrl-C or SIGTERM ends it cleanly; started again with the
    same --data it carries on where it was.

    Examples: [bold]cascadewatch run --simulate --scenario short-squeeze --seconds 60[/],
    [bold]cascadewatch run --live --data /var/lib/cascadewatch[/]
    """
    if simulate == live:
        raise SettingsError("say either --simulate (a market on this machine) or --live (the real exchanges)")
    if simulate and scenario not in SCENARIOS:
        raise SettingsError(f"unknown --scenario {scenario!r}; allowed: {', '.join(SCENARIOS)}")
    is_terminal = sys.stdout.isatty() and not plain
    settings = _settings(data)
    if live:
        run_live(settings, seconds=seconds, is_terminal=is_terminal)
    else:
        run_simulated(settings, scenario=scenario, seed=seed, seconds=seconds, is_terminal=is_terminal)


@app.command()
@_in_one_sentence
def replay(
    source: Annotated[Path, typer.Argument(help="A journal (…/journal/0.db) or the directory of a run's tables.")],
    *,
    data: Annotated[Path, typer.Option("--data", help="Where the new tables go; must not be the directory replayed.")],
    last: Annotated[int | None, typer.Option(help="Stop after this frame of a journal.")] = None,
) -> None:
    """Run recorded frames, or the liquidations and derivatives of recorded tables, through the same flow into new tables.

    A journal gives exactly the tables that the run gave. Tables give the same liquidations, with scores from them alone.
    """
    settings = _settings(data)
    if source.is_dir():
        replay_table(settings, source)
    else:
        replay_journal(settings, source, last=last)


@app.command()
@_in_one_sentence
def drain(*, data: DataOption = None) -> None:
    """Finish what a stopped or killed run has left: its journal, its spool; then let the number of shards change.

    Nothing is received. Run it with the CASCADEWATCH_SHARD and --data of that run; without CASCADEWATCH_SHARD for an undivided
    one. A shard that is stopped while its store answers does this by itself. See docs/scaling.md.
    """
    finish(_settings(data))


@app.command()
@_in_one_sentence
def shards(
    *,
    data: DataOption = None,
    give_up: Annotated[
        str | None, typer.Option(help="Declare the volume of this shard, such as 1/3, lost: its assets begin anew.")
    ] = None,
) -> None:
    """List the shards that divide the assets of these tables: who runs, who has handed over."""
    print_shards(_settings(data), give_up)


@app.command("begin-anew")
@_in_one_sentence
def anew(*, data: DataOption = None) -> None:
    """Go on with the same tables when journal or saved state are lost or damaged: the last resort.

    Both are put aside, below the data directory; what they held and no table has is given up. The next run begins with new
    windows behind the newest row, and a row of gaps says since when nothing was seen. Transfers of the last
    chain.lookback_blocks are read and written again. Rows in the spool are committed first.
    """
    done = begin_anew(_settings(data))
    since = f"{datetime.fromtimestamp(done.blind_since_us / 1e6, tz=timezone.utc):%Y-%m-%d %H:%M:%S}"
    typer.echo(f"put aside in {done.aside}; the next run begins with frame {done.first_frame}, blind since {since} UTC")


@app.command()
@_in_one_sentence
def tables(
    *,
    data: DataOption = None,
    schema: Annotated[str | None, typer.Option(help="Print this table's columns, types and units.")] = None,
    view: Annotated[str | None, typer.Option(help="Print the SQL of this view for a common question.")] = None,
) -> None:
    """List the tables: rows, files, sizes, newest version. With --schema one table's columns, with --view a view's SQL."""
    if schema is not None:
        answers.print_schema(schema)
    elif view is not None:
        answers.print_view(view)
    else:
        answers.print_tables(_settings(data))


@app.command()
@_in_one_sentence
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT, in DataFusion's SQL.")],
    *,
    data: DataOption = None,
    output: Annotated[Literal["table", "csv", "json"], typer.Option(help="json: one object per line.")] = "table",
) -> None:
    """Ask the tables, read-only. There are views for common questions, too; see docs/recipes.md.

    Examples: [bold]cascadewatch query "SELECT venue, position_side, sum(notional_usd) FROM liquidations GROUP BY 1, 2"[/],
    [bold]cascadewatch query "SELECT * FROM cascades_by_day"[/]
    """
    answers.print_answer(_settings(data), sql, output)


@app.command()
@_in_one_sentence
def maintain(
    *,
    data: DataOption = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also with less than an hour of old versions: only while nothing uses the tables.")
    ] = False,
) -> None:
    """Keep the tables small and quick, also beside a running flow: expired days, small files, old versions, old log entries.

    What is kept is in the settings below maintenance; by default every row is. Exit code 0: done, or left to another process
    that did the same; 1: a table failed, the others are done; run it again.
    """
    yield_to_others()
    if not maintain_tables(_settings(data), table or (), is_dry_run=dry_run, is_forced=force):
        raise typer.Exit(1)


@app.command()
@_in_one_sentence
def doctor(*, data: DataOption = None) -> None:
    """Check all that a live run needs (endpoints, clock, disk, tables, port) and say what to do about what is wrong."""
    if not examine(_settings(data)):
        raise typer.Exit(1)


@app.command()
@_in_one_sentence
def parse(
    venue: Annotated[str, typer.Argument(help=", ".join(VENUES))],
    # Typer takes the default as text and opens what it names, which its types do not say.
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="One frame per line; - reads standard input.")] = "-",  # type: ignore[assignment]
    *,
    instruments: Annotated[
        list[Path] | None, typer.Option(help="The venue's own answer that lists its contracts; may be given again.")
    ] = None,
) -> None:
    """Show what the parser makes of a venue's liquidation frames: one JSON line per frame.

    [bold]{"events": […]}[/], or [bold]{"refused": reason, "error": class}[/]. Events have venue, symbol, asset, position_side
    (the side that was open), price (USD per coin), base_quantity (coins), notional_usd and event_time.
    """
    if venue not in VENUES:
        raise SettingsError(f"unknown venue {venue!r}; allowed: {', '.join(VENUES)}")
    reader = FrameReader(venue, [path.read_bytes() for path in instruments or ()])
    for problem in reader.problems:
        typer.echo(f"--instruments: {problem}", err=True)
    if reader.is_spelling_contracts:
        typer.echo("no --instruments: contracts are read off their symbols, which a live run never does", err=True)
    elif not instruments:
        typer.echo(f"no --instruments: {venue} counts in contracts, so every symbol is unknown", err=True)
    for line in file:
        if line.strip():
            typer.echo(json.dumps(reader.read(line.strip())))


@app.command()
@_in_one_sentence
def miners(
    *,
    history: Annotated[Path, typer.Option(help="CSV with the columns date, price_usd, difficulty.")],
    date: Annotated[str, typer.Option(help="YYYY-MM-DD; nothing after it is looked at.")],
) -> None:
    """Compute the Difficulty Multiple and the hashprice of a day from a file of daily values, as JSON."""
    typer.echo(json.dumps(read_miner_day(history, date), indent=2))


def main() -> None:
    """Run the command line."""
    sys.excepthook = show_uncaught
    app()
