"""The live view: what a person sees in the terminal while the flow runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from market.events import Gap
from market.feeds import Sight
from market.readings import WINDOWS_S, AlertChange, CascadePhase, CascadeTransition, DerivativesReading, Score, Severity
from views.board import BoardReading, VenueState

_CALL_WINDOW = WINDOWS_S.index(90)
_MOST_ASSETS = 14
_QUIET_SECONDS = 60.0
_COLOUR = {
    Severity.CRITICAL: "bold white on red",
    Severity.WARNING: "bold yellow",
    Severity.INFO: "cyan",
    Severity.NONE: "dim",
}


def render(
    reading: BoardReading, *, now_us: int, rows_written: Mapping[str, int], places: Mapping[str, str]
) -> RenderableType:
    """Return the whole view.

    Args:
        reading: What is known.
        now_us: For ages.
        rows_written: Rows committed per table.
        places: Where things are: tables, metrics, journal.
    """
    return Group(
        _assets(reading, now_us),
        _venues(reading, now_us),
        _news(reading),
        _foot(reading, rows_written, places),
    )


def usd(micros: int | None) -> str:
    """Return micro-USD as people say it: 1.25 M."""
    if micros is None:
        return "–"
    amount = micros / 1_000_000
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(amount) >= unit:
            return f"{amount / unit:.2f} {name}"
    return f"{amount:.0f}"


def _assets(reading: BoardReading, now_us: int) -> Table:
    table = Table(title="Liquidations and scores", title_justify="left", expand=True, pad_edge=False)
    for name in ("asset", "long 90 s", "short 90 s", "price", "OI 5 min", "funding 8 h", "L/S"):
        table.add_column(name, justify="left" if name == "asset" else "right")
    for name in ("risk", "cascade", "pressure", "difficulty ×", "severity", "age", "not known"):
        table.add_column(name, justify="right" if name in {"risk", "cascade", "pressure", "difficulty ×", "age"} else "left")
    newest = sorted(reading.scores.values(), key=_weight, reverse=True)
    for score in newest[:_MOST_ASSETS]:
        table.add_row(*_asset_row(score, now_us))
    if len(newest) > _MOST_ASSETS:
        table.caption = f"and {len(newest) - _MOST_ASSETS} quieter assets, all in the table scores"
    return table


def _weight(score: Score) -> tuple[int, int, int]:
    sums = _sums(score)
    return (score.risk.total, sum(amount or 0 for amount in sums), score.cause.receive_time_us)


def _sums(score: Score) -> tuple[int | None, int | None]:
    if score.windows is None:
        return None, None
    return score.windows.long.usd_micros[_CALL_WINDOW], score.windows.short.usd_micros[_CALL_WINDOW]


def _asset_row(score: Score, now_us: int) -> list[str | Text]:
    long_micros, short_micros = _sums(score)
    cascade = max((side.score for side in (score.cascade_long, score.cascade_short) if side.score is not None), default=None)
    return [
        Text(score.asset, style="bold"),
        usd(long_micros),
        usd(short_micros),
        *_leverage(score.derivatives),
        str(score.risk.total),
        _number(cascade, ".1f"),
        _number(score.pressure.pressure if score.pressure else None, "+d"),
        _number(score.miners.fits["expanding"].multiple if score.miners and "expanding" in score.miners.fits else None, ".2f"),
        Text(score.severity.value, style=_COLOUR[score.severity]),
        f"{max(0, now_us - score.cause.receive_time_us) / 1e6:.0f} s",
        Text(_not_known(score.missing_inputs), style="dim"),
    ]


def _not_known(missing_inputs: Sequence[str]) -> str:
    """Return the inputs as said in a narrow column: venues of one input together, and not at all where it is missing whole."""
    whole = [name for name in missing_inputs if ":" not in name]
    parts: dict[str, list[str]] = {}
    for name, _, venue in (name.partition(":") for name in missing_inputs if ":" in name):
        parts.setdefault(name, []).append(venue)
    return ", ".join(whole + [f"{name} of {' '.join(venues)}" for name, venues in parts.items() if name not in whole])


def _leverage(reading: DerivativesReading | None) -> list[str]:
    if reading is None:
        return ["–"] * 4
    funding_percent = None if reading.funding_rate_8h is None else reading.funding_rate_8h * 100
    return [
        _number(reading.mark_price, ",.6g"),
        _number(reading.open_interest_changes_percent[0], "+.2f", " %"),
        _number(funding_percent, "+.4f", " %"),
        _number(reading.long_short_ratio, ".2f"),
    ]


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def _venues(reading: BoardReading, now_us: int) -> Table:
    table = Table(title="Feeds", title_justify="left", expand=True, pad_edge=False)
    for name in ("source", "state", "liquidations", "lag", "last"):
        table.add_column(name)
    for name, state in sorted(reading.venues.items()):
        table.add_row(name, _state(state, now_us), *_pace(state, now_us))
    return table


def _state(state: VenueState, now_us: int) -> Text:
    if state.sight is not None and state.sight.sight is Sight.SILENT:
        seconds = max(0, now_us - state.sight.since_us) / 1e6
        return Text(f"connected, silent for {seconds:.0f} s while others are not", style="bold red")
    troubles = {label: trouble for label, trouble in state.connections.items() if trouble}
    if troubles:
        label, trouble = next(iter(troubles.items()))
        more = f" (+{len(troubles) - 1} more)" if len(troubles) > 1 else ""
        return Text(f"{label}: {trouble}{more}", style="red")
    if state.sight is not None and state.sight.sight is Sight.BLIND:
        return Text(state.sight.reason, style="red")
    if state.last_event_us is not None and now_us - state.last_event_us > _QUIET_SECONDS * 1e6:
        return Text("connected, quiet", style="yellow")
    return Text("connected", style="green")


def _pace(state: VenueState, now_us: int) -> list[str]:
    if state.last_event_us is None:
        return ["–", "–", "–"]
    lag = f"{(state.lag_us or 0) / 1e6:.2f} s"
    return [f"{state.liquidations:,}", lag, f"{max(0, now_us - state.last_event_us) / 1e6:.0f} s ago"]


def _news(reading: BoardReading) -> Panel:
    lines = [_sentence(event) for event in reversed(reading.news)] or [Text("no cascade, alert or gap yet", style="dim")]
    return Panel(Group(*lines), title="News", title_align="left")


def _sentence(event: CascadeTransition | AlertChange | Gap) -> Text:
    clock = datetime.fromtimestamp(event.cause.receive_time_us / 1e6, tz=timezone.utc).strftime("%H:%M:%S")
    if isinstance(event, CascadeTransition):
        style = "bold red" if event.phase is CascadePhase.BEGAN else "green"
        words = (
            f"{event.asset} {event.position_side.value.lower()} cascade {event.phase.value}: {usd(event.window_micros)} USD "
            f"in 90 s, {usd(event.total_micros)} in all, {event.total_count} liquidations on {', '.join(event.venues)}"
        )
        return Text(f"{clock}  {words}", style=style)
    if isinstance(event, AlertChange):
        return Text(f"{clock}  {event.asset} alert {event.state.value}: {event.reason}", style=_COLOUR[event.severity])
    seconds = (event.to_time_us - event.from_time_us) / 1e6
    return Text(f"{clock}  {event.feed} saw nothing for {seconds:.1f} s: {event.reason}", style="yellow")


def _foot(reading: BoardReading, rows_written: Mapping[str, int], places: Mapping[str, str]) -> Text:
    written = ", ".join(f"{table} {rows:,}" for table, rows in sorted(rows_written.items())) or "none yet"
    dead = ", ".join(f"{kind} {count}" for kind, count in reading.dead_letters.most_common(3)) or "none"
    where = "   ".join(f"{name}: {place}" for name, place in places.items())
    return Text(f"rows written: {written}\ndead letters: {dead}\n{where}", style="dim")
