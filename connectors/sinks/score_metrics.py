"""What the newest score of each asset, the pressure and the miner day say, as samples of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from connectors.sinks import metric_list as m
from market.events import MinerDay, Pressure
from market.readings import DELTA_WINDOWS_S, WINDOWS_S, CascadeScore, DerivativesReading, Score, Severity, SideWindows

Samples = Iterable[tuple[tuple[str, ...], float | None]]
"""Label values, in the metric's order, and the value; None where it is not known."""

_MICROS = 1_000_000
_PERCENT = 100
_WINDOWS = tuple(f"{seconds}s" for seconds in WINDOWS_S)
_DELTA_WINDOWS = tuple(f"{seconds}s" for seconds in DELTA_WINDOWS_S)
_LEVELS = {Severity.NONE: 0, Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}


def _sides(score: Score) -> list[tuple[str, SideWindows]]:
    return [] if score.windows is None else [("LONG", score.windows.long), ("SHORT", score.windows.short)]


def _cascades(score: Score) -> list[tuple[str, CascadeScore]]:
    return [("LONG", score.cascade_long), ("SHORT", score.cascade_short)]


def _risk_components(score: Score) -> Samples:
    return [((score.asset, "absolute", component), value) for component, value in score.risk.points().items()]


def _cascade_components(score: Score) -> Samples:
    return [
        ((score.asset, side, component), x)
        for side, cascade in _cascades(score)
        for component, x in cascade.components.items()
    ]


def _window_usd(score: Score) -> Samples:
    return [
        ((score.asset, side, window), micros / _MICROS)
        for side, windows in _sides(score)
        for window, micros in zip(_WINDOWS, windows.usd_micros, strict=True)
    ]


def _window_counts(score: Score) -> Samples:
    return [
        ((score.asset, side, window), count)
        for side, windows in _sides(score)
        for window, count in zip(_WINDOWS, windows.counts, strict=True)
    ]


def _of_derivatives(read: Callable[[DerivativesReading], float | None]) -> Callable[[Score], Samples]:
    def samples(score: Score) -> Samples:
        return [] if score.derivatives is None else [((score.asset,), read(score.derivatives))]

    return samples


def _changes(read: Callable[[DerivativesReading], tuple[float | None, ...]], unit: float = 1) -> Callable[[Score], Samples]:
    def samples(score: Score) -> Iterator[tuple[tuple[str, ...], float | None]]:
        if score.derivatives is not None:
            for window, change in zip(_DELTA_WINDOWS, read(score.derivatives), strict=True):
                yield (score.asset, window), None if change is None else change / unit

    return samples


def _one(read: Callable[[Score], float]) -> Callable[[Score], Samples]:
    def samples(score: Score) -> Samples:
        return [((score.asset,), read(score))]

    return samples


SCORE_METRICS: tuple[tuple[m.Metric, Callable[[Score], Samples]], ...] = (
    (m.SCORE_TIMESTAMP, _one(lambda score: score.cause.receive_time_us / _MICROS)),
    (m.RISK, lambda score: [((score.asset, "absolute"), score.risk.total)]),
    (m.RISK_COMPONENT, _risk_components),
    (m.SEVERITY, _one(lambda score: _LEVELS[score.severity])),
    (m.PRESSURE_WAIVED, _one(lambda score: int(score.pressure_waived))),
    (m.MISSING_INPUTS, _one(lambda score: len(score.missing_inputs))),
    (m.CASCADE_SCORE, lambda score: [((score.asset, side), cascade.score) for side, cascade in _cascades(score)]),
    (m.CASCADE_COMPONENT, _cascade_components),
    (m.WINDOW_USD, _window_usd),
    (m.WINDOW_COUNT, _window_counts),
    (m.LATE, lambda score: [((score.asset, side), windows.late_count) for side, windows in _sides(score)]),
    (m.MARK_PRICE, _of_derivatives(lambda reading: reading.mark_price)),
    (m.PRICE_CHANGE, _changes(lambda reading: reading.price_changes_percent, _PERCENT)),
    (m.OPEN_INTEREST_COINS, _of_derivatives(lambda reading: reading.open_interest_base)),
    (m.OPEN_INTEREST_USD, _of_derivatives(lambda reading: reading.open_interest_usd)),
    (m.OPEN_INTEREST_CHANGE, _changes(lambda reading: reading.open_interest_changes_percent, _PERCENT)),
    (m.FUNDING_RATE, _of_derivatives(lambda reading: reading.funding_rate_8h)),
    (m.FUNDING_CHANGE, _changes(lambda reading: reading.funding_changes)),
    (m.LONG_SHORT_RATIO, _of_derivatives(lambda reading: reading.long_short_ratio)),
)


def _flows(pressure: Pressure) -> Samples:
    if not pressure.covered_to_us:
        return []  # no block has been read: the sums are unknown, not zero
    flows = ("inflow", "outflow", "mint", "burn")
    return [((flow,), getattr(pressure, f"{flow}_micros") / _MICROS) for flow in flows]


PRESSURE_METRICS: tuple[tuple[m.Metric, Callable[[Pressure], Samples]], ...] = (
    (m.PRESSURE, lambda pressure: [((), pressure.pressure)]),
    (m.STABLECOIN_FLOW, _flows),
    (m.CHAIN_TIMESTAMP, lambda pressure: [((), pressure.covered_to_us / _MICROS if pressure.covered_to_us else None)]),
)

MINER_METRICS: tuple[tuple[m.Metric, Callable[[MinerDay], Samples]], ...] = (
    (m.DIFFICULTY_MULTIPLE, lambda miners: [((name,), fit.multiple) for name, fit in miners.fits.items()]),
    (m.HASHPRICE, lambda miners: [((), miners.hashprice_usd_per_ph_day)]),
    (m.MINER_DAY_TIMESTAMP, lambda miners: [((), miners.cause.receive_time_us / _MICROS)]),
)
