"""``cascadewatch run`` and ``replay``: one process from settings to a clean end, shown to a person or logged."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
from rich.console import Console
from rich.live import Live

from cascadewatch.demo import simulated_endpoints, simulated_market
from cascadewatch.logs import configure_logs
from connectors.clock import now_us
from connectors.sinks.delta import DeltaSink
from flows.replay import ReplaySource
from flows.runtime import DataDirectoryError, Runtime
from flows.settings import Settings, load_settings
from flows.shards import home_of
from flows.stopping import stopped_by_signals
from views.board import Board
from views.live import render

_REFRESH_SECONDS = 0.5
_LOG_SECONDS = 10.0

_log = structlog.get_logger("cascadewatch")


class _Written:
    """Counts committed rows per table, for the live view and the last word."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    def rows_spooled(self, table: str, rows: int) -> None:
        pass

    def spool_bytes(self, size_bytes: int) -> None:
        pass

    def spool_blocked(self, *, is_blocked: bool) -> None:
        pass

    def committed(self, table: str, rows: int, seconds: float) -> None:  # noqa: ARG002 - the observer's
        self.rows[table] += rows

    def commit_failed(self, table: str, error: str, reason: str) -> None:
        pass


def run_simulated(settings: Settings, *, scenario: str, seed: int, seconds: float | None, is_terminal: bool) -> None:
    """Watch a simulated market that runs beside this process."""
    with simulated_market(scenario, seed) as url:
        settings = load_settings({**settings.model_dump(exclude_unset=True), **simulated_endpoints(url, settings.venues)})
        run_live(settings, seconds=seconds, is_terminal=is_terminal, market=f"simulated market, {scenario}, seed {seed}")


def run_live(settings: Settings, *, seconds: float | None, is_terminal: bool, market: str = "real exchanges") -> None:
    """Watch what the settings name until stopped."""
    home = home_of(settings.data_dir, settings.own_shard)
    configure_logs(settings.log_level, to_file=home / "cascadewatch.log" if is_terminal else None)
    board, written = Board(), _Written()
    with Runtime(settings, observers=[board.observe], sink_observers=[written]) as runtime, ExitStack() as around:
        tables = runtime.tables_sink()
        around.enter_context(stopped_by_signals(runtime, tables))
        if seconds is not None:
            around.enter_context(_stopped_after(seconds, runtime.stop.ask))
        places = _places(settings, home, runtime.metrics_url)
        if is_terminal:
            around.enter_context(_live_view(board, written, {"market": market, **places}))
        else:
            _log.info("started", market=market, **places)
            around.enter_context(_logged(board, written))
        runtime.run(runtime.live_source(tables), tables)
    _last_word(settings, written)


def replay_journal(settings: Settings, path: Path, *, last: int | None) -> None:
    """Run a journal through the flow."""
    _replay(settings, path.resolve().parent.parent, lambda runtime, tables: runtime.journal_replay(path, tables, last=last))


def replay_table(settings: Settings, path: Path) -> None:
    """Run recorded rows through the flow."""
    folder = path / "tables" if (path / "tables").is_dir() else path
    _replay(settings, path.resolve(), lambda runtime, tables: runtime.table_replay(str(folder), tables))


def finish(settings: Settings) -> None:
    """Do what a stopped or killed run has left undone, and hand over."""
    configure_logs(settings.log_level, to_file=None)
    written = _Written()
    with Runtime(_on_a_free_port(settings), sink_observers=[written]) as runtime:
        runtime.finish()
    _last_word(settings, written)


def _replay(settings: Settings, recorded: Path, open_source: Callable[[Runtime, DeltaSink], ReplaySource]) -> None:
    if settings.data_dir.resolve() == recorded:
        raise DataDirectoryError(f"--data {settings.data_dir} holds what is to be replayed; give a new directory")
    configure_logs(settings.log_level, to_file=None)
    written = _Written()
    with Runtime(_on_a_free_port(settings), sink_observers=[written]) as runtime, ExitStack() as around:
        tables = runtime.tables_sink()
        source = open_source(runtime, tables)
        around.enter_context(stopped_by_signals(runtime, tables, source.stop))
        around.enter_context(
            _every(_LOG_SECONDS, lambda: _log.info("replaying", frames=source.emitted, rows=dict(written.rows)))
        )
        runtime.run(source, tables)
        _log.info("replayed", frames=source.emitted)
    _last_word(settings, written)


def _on_a_free_port(settings: Settings) -> Settings:
    """A replay is often made beside a run, which has the port of the settings."""
    return settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"port": 0})})


def _places(settings: Settings, home: Path, metrics_url: str) -> dict[str, str]:
    return {
        "tables": settings.tables_uri,
        "metrics": f"{metrics_url}/metrics",
        "journal": str(home / "journal"),
        "ask": f"cascadewatch tables --data {settings.data_dir}",
    }


def _last_word(settings: Settings, written: _Written) -> None:
    rows = ", ".join(f"{table} {count:,}" for table, count in sorted(written.rows.items())) or "none"
    sys.stdout.write(f"rows written: {rows}\ntables: {settings.tables_uri}\n")


@contextmanager
def _stopped_after(seconds: float, stop: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something again and again in a thread of its own."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            act()

    thread = threading.Thread(target=repeat, name="reporter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _live_view(board: Board, written: _Written, places: dict[str, str]) -> Iterator[None]:
    with Live(console=Console(), screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:

        def show() -> None:
            view = render(board.read(), now_us=now_us(), rows_written=dict(written.rows), places=places)
            live.update(view, refresh=True)

        with _every(_REFRESH_SECONDS, show):
            yield


@contextmanager
def _logged(board: Board, written: _Written) -> Iterator[None]:
    def tell() -> None:
        reading = board.read()
        worst = max(reading.scores.values(), key=lambda score: score.risk.total, default=None)
        _log.info(
            "watching",
            assets=len(reading.scores),
            highest_risk=None if worst is None else f"{worst.asset} {worst.risk.total} {worst.severity.value}",
            liquidations={name: venue.liquidations for name, venue in sorted(reading.venues.items()) if venue.liquidations},
            troubles=[
                f"{label}: {trouble}"
                for venue in reading.venues.values()
                for label, trouble in venue.connections.items()
                if trouble
            ],
            dead_letters=reading.dead_letters.total() if hasattr(reading.dead_letters, "total") else 0,
            rows=dict(written.rows),
        )

    with _every(_LOG_SECONDS, tell):
        yield
