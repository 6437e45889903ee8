"""What an alert says: labels, which tell alerts apart and route them, and annotations, which people read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec

from market.raw import PositionSide
from market.readings import WINDOWS_S, AlertChange, CascadePhase, CascadeTransition, Score, Severity

RISK = "LiquidationRisk"
CASCADE = "LiquidationCascade"
FAMILY = "market"

RUNBOOKS = "deploy/runbooks"
"""Where the runbooks are in the repository; a link without a base, which the templates of Alertmanager can put before it."""

_MICROS = 1_000_000
_IN_90_S = WINDOWS_S.index(90)
_WORDS = {PositionSide.LONG: "longs", PositionSide.SHORT: "shorts"}
_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))


Identity = tuple[str, str, str, str]
"""Name, asset, position side, severity: what labels tell apart."""


class Alert(msgspec.Struct, frozen=True, gc=False):
    """One alert in its newest state.

    Attributes:
        position_side: LONG or SHORT; empty where the alert has none.
        starts_us: Receive time of the frame that began it.
        ends_us: Of the frame that ended it; ``None`` while it fires.
        partition: Feed partition of the frame that last changed it, with ``sequence`` and ``changed_us``, its receive time.
        summary: A line.
        words: The sentence that explains it.
        version: Grows with every change in this process.
    """

    name: str
    asset: str
    position_side: str
    severity: str
    starts_us: int
    ends_us: int | None
    partition: str
    sequence: int
    changed_us: int
    summary: str
    words: str
    version: int = 0

    @property
    def identity(self) -> Identity:
        """What tells it apart."""
        return self.name, self.asset, self.position_side, self.severity


@dataclass(frozen=True)
class Links:
    """Where people go from an alert.

    Attributes:
        runbooks_url: Of the folder with the runbooks; without it links name the place in the repository.
        dashboard_url: Of the asset's dashboard, ``{asset}`` standing for the asset; ``None`` without one.
    """

    runbooks_url: str | None = None
    dashboard_url: str | None = None


def labels_of(alert: Alert) -> dict[str, str]:
    """Return the labels, the same as the rules of ``deploy/prometheus`` give: so one alert comes by both ways."""
    found = {"alertname": alert.name, "asset": alert.asset, "family": FAMILY, "severity": alert.severity}
    return {**found, "position_side": alert.position_side} if alert.position_side else found


def risk_words(change: AlertChange) -> tuple[str, str]:
    """Return a summary and the sentence that explains a change of an asset's alert."""
    if change.severity is Severity.NONE:
        return f"{change.asset}: Liquidation Risk is down to {change.risk}", f"{change.reason}."
    return f"{change.asset}: Liquidation Risk {change.risk} of 100, {change.severity.value}", f"{change.reason}."


def cascade_words(step: CascadeTransition) -> tuple[str, str]:
    """Return a summary and the sentence that explains a step of a cascade."""
    longs = _WORDS[step.position_side]
    began = _clock_time(step.began_time_us)
    venues = ", ".join(step.venues)
    if step.phase is CascadePhase.ENDED:
        summary = f"{step.asset}: the cascade of {longs} is over, {usd(step.total_micros)} in all"
        words = f"The cascade of {step.asset} {longs} that began at {began} UTC has ended: {usd(step.total_micros)} in "
        return summary, f"{words}{step.total_count:,} liquidations on {venues}; at its peak {usd(step.peak_micros)} in 90 s."
    summary = f"{step.asset}: a cascade of {longs}, {usd(step.window_micros)} in 90 s on {_venues(len(step.venues))}"
    words = f"A cascade of {step.asset} {longs} began at {began} UTC: {usd(step.window_micros)} in 90 s, "
    return summary, f"{words}{step.total_count:,} liquidations on {venues}."


def annotations_of(alert: Alert, score: Score | None, links: Links) -> dict[str, str]:
    """Return what people read.

    Args:
        alert: What is told.
        score: The asset's newest: sums and missing inputs are said as of it.
        links: Where people go from here.
    """
    told = {
        "summary": alert.summary,
        "description": " ".join([alert.words, *_standing(alert.name, score)]),
        "runbook_url": f"{links.runbooks_url or RUNBOOKS}/{alert.name}.md",
        "frame": f"{alert.partition}/{alert.sequence}",
    }
    missing = () if score is None else score.missing_inputs
    if missing:
        told["degraded"] = f"without {spelled(missing)}"
    if links.dashboard_url is not None:
        told["dashboard_url"] = links.dashboard_url.replace("{asset}", alert.asset)
    return told


def spelled(missing: Sequence[str]) -> str:
    """Return names of inputs as words: ``long_short_ratio, liquidations:okx`` is "long short ratio, liquidations of okx"."""
    return ", ".join(name.replace(":", " of ").replace("_", " ") for name in missing)


def usd(micros: int) -> str:
    """Return an amount for people: 12.3 M USD."""
    amount = micros / _MICROS
    for size, unit in _UNITS:
        if amount >= size:
            return f"{amount / size:.1f} {unit} USD"
    return f"{amount:.0f} USD"


def _standing(name: str, score: Score | None) -> list[str]:
    """Say how the asset stands as of its newest score; a cascade also what its risk is, which a risk has said already."""
    if score is None:
        return []
    said = []
    if name == CASCADE:
        said.append(f"Liquidation Risk is {score.risk.total} of 100{_components(score)}.")
    if score.windows is not None:
        floor = "at least " if score.liquidations_are_floors else ""
        long, short = (usd(side.usd_micros[_IN_90_S]) for side in (score.windows.long, score.windows.short))
        said.append(f"Liquidated in the last 90 s: {floor}{long} of longs and {floor}{short} of shorts.")
    if score.missing_inputs:
        said.append(f"Not known: {spelled(score.missing_inputs)}.")
    return said


def _components(score: Score) -> str:
    raising = ", ".join(f"{name} {value}" for name, value in score.risk.raised_by())
    return f" ({raising})" if raising else ""


def _venues(count: int) -> str:
    return "1 venue" if count == 1 else f"{count} venues"


def _clock_time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / _MICROS, timezone.utc).strftime("%H:%M:%S")
