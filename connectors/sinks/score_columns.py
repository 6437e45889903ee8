"""The columns of ``scores``: everything known of an asset at one moment, flattened.

Look-backs are named as people say them (``5m``, ``1h``, ``24h``) where they follow a price, and in seconds where they are
sums of liquidations.
"""

from __future__ import annotations

from collections.abc import Callable

from connectors.sinks.table_columns import (
    Column,
    Derive,
    count,
    day,
    flag,
    number,
    numbers_by_name,
    place_by_name,
    shares_by_name,
    text,
    texts,
    time,
    usd,
)
from market.events import Pressure
from market.readings import DELTA_WINDOWS_S, WINDOWS_S, SideWindows

_MICROS = 1_000_000
_AT_10_S = WINDOWS_S.index(10)
_AT_90_S = WINDOWS_S.index(90)
_DELTA_LABELS = {300: "5m", 3600: "1h", 86_400: "24h"}


def _full_share(side: SideWindows) -> float | None:
    total = side.usd_micros[_AT_90_S]
    return side.full_micros / total if total else None


def _fall_from_peak(side: SideWindows) -> float | None:
    return 1.0 - side.usd_micros[_AT_90_S] / side.peak_micros if side.peak_micros else None


def _per_second(seconds: int) -> Callable[[int], float]:
    units = _MICROS * seconds

    def usd_per_second(micros: int) -> float:
        return micros / units

    return usd_per_second


def _side_columns(side: str) -> tuple[Column, ...]:
    at = f"windows.{side}"
    who = f"{side.upper()} positions"
    windows = list(enumerate(WINDOWS_S))
    in_10_s, in_90_s = f"{at}.usd_micros[{_AT_10_S}]", f"{at}.usd_micros[{_AT_90_S}]"
    return (
        *(usd(f"{side}_usd_{s}s", f"USD of {who} liquidated in the last {s} s", f"{at}.usd_micros[{i}]") for i, s in windows),
        *(
            count(f"{side}_count_{s}s", f"Number of liquidations of {who} in the last {s} s", f"{at}.counts[{i}]")
            for i, s in windows
        ),
        *(
            usd(
                f"{side}_largest_usd_{s}s",
                f"Largest single liquidation of {who} in the last {s} s, in USD; 0 without one",
                f"{at}.largest_micros[{i}]",
            )
            for i, s in windows
        ),
        count(
            f"{side}_venues_90s", f"Number of venues with a liquidation of {who} in the last 90 s", f"{at}.venue_micros", len
        ),
        shares_by_name(
            f"{side}_venue_shares_90s", "Share of each venue in the 90-second sum; fractions", f"{at}.venue_micros"
        ),
        number(
            f"{side}_full_share_90s",
            "Share of that sum from venues that publish every liquidation; fraction, null while it is 0",
            at,
            _full_share,
        ),
        number(f"{side}_usd_per_second_10s", f"USD of {who} liquidated per second, over 10 s", in_10_s, _per_second(10)),
        number(f"{side}_usd_per_second_90s", f"USD of {who} liquidated per second, over 90 s", in_90_s, _per_second(90)),
        usd(f"{side}_peak_usd_90s", "Largest 90-second sum since it was last zero, in USD", f"{at}.peak_micros"),
        number(
            f"{side}_fall_from_peak",
            "How far the 90-second sum is below that peak; fraction, 0 at the peak",
            at,
            _fall_from_peak,
        ),
        count(
            f"{side}_late_count",
            f"Number of liquidations of {who} so far that came too late for any window",
            f"{at}.late_count",
        ),
    )


def _missing_venues(missing: dict[str, tuple[str, ...]]) -> list[str]:
    return [f"{name}:{venue}" for name in sorted(missing) for venue in missing[name]]


def _change_columns(index: int, label: str) -> tuple[Column, ...]:
    interest, funding = "open_interest_changes_percent", "funding_changes"
    by_venue = f"by venue, over {label}; absent where unknown"
    return (
        number(
            f"price_change_{label}_percent",
            f"Change of mark_price over {label}, in percent",
            f"derivatives.price_changes_percent[{index}]",
        ),
        number(
            f"open_interest_change_{label}_percent",
            f"Change of open interest in coins over {label}, in percent, over the venues that know both ends",
            f"derivatives.{interest}[{index}]",
        ),
        place_by_name(
            f"venue_open_interest_change_{label}_percent",
            f"Change of open interest in coins, in percent, {by_venue}",
            f"derivatives.venue_{interest}",
            index,
        ),
        number(
            f"funding_change_{label}",
            f"Difference of funding_rate_8h over {label}; fraction",
            f"derivatives.{funding}[{index}]",
        ),
        place_by_name(
            f"venue_funding_change_{label}",
            f"Difference of funding_rate_8h, as a fraction, {by_venue}",
            f"derivatives.venue_{funding}",
            index,
        ),
    )


_DERIVATIVES_COLUMNS = (
    number("mark_price", "USD per coin, weighted by open interest over venues", "derivatives.mark_price"),
    number("open_interest_base", "Coins, one side, summed over the venues known", "derivatives.open_interest_base"),
    number("open_interest_usd", "USD, one side, summed over the venues known", "derivatives.open_interest_usd"),
    number(
        "funding_rate_8h",
        "Fraction per 8 hours, weighted by open interest; positive: longs pay",
        "derivatives.funding_rate_8h",
    ),
    number("long_short_ratio", "Accounts long per account short, weighted by open interest", "derivatives.long_short_ratio"),
    *(column for index, s in enumerate(DELTA_WINDOWS_S) for column in _change_columns(index, _DELTA_LABELS[s])),
    texts("derivatives_missing", "Inputs that a venue did not give, as input:venue", "derivatives.missing", _missing_venues),
    time("derivatives_oldest_time", "Oldest value that entered; UTC", "derivatives.oldest_input_time_us"),
)

_RISK_COLUMNS = (
    count("risk_absolute", "Liquidation Risk by absolute thresholds, 0 to 100; missing inputs add nothing", "risk.total"),
    count("risk_absolute_funding", "Points for the funding rate, 0 to 30", "risk.funding"),
    count("risk_absolute_open_interest", "Points for open interest against price, 0 to 30", "risk.open_interest"),
    count("risk_absolute_long_short_ratio", "Points for the long/short ratio, 0 to 20", "risk.long_short_ratio"),
    count("risk_absolute_liquidations", "Points for USD liquidated in 300 s, 0 to 20", "risk.liquidations"),
)


def _cascade_columns(side: str) -> tuple[Column, ...]:
    at = f"cascade_{side}"
    who = f"{side.upper()} positions"
    return (
        number(f"cascade_score_{side}", f"Cascade Score of {who}, 0 to 10", f"{at}.score"),
        number(f"cascade_dominance_{side}", f"How far {who} dominate, 0 to 1", f"{at}.dominance"),
        numbers_by_name(f"cascade_components_{side}", "Each component that has an input, by name, 0 to 1", f"{at}.components"),
        texts(f"cascade_missing_{side}", "Components without an input", f"{at}.missing"),
    )


_FLOWS = {
    "inflow": "USD that reached exchanges",
    "outflow": "USD that left exchanges",
    "mint": "USD minted",
    "burn": "USD burned",
    "inflow_spot": "USD that reached spot exchanges",
    "outflow_spot": "USD that left spot exchanges",
    "inflow_derivatives": "USD that reached derivatives exchanges",
    "outflow_derivatives": "USD that left derivatives exchanges",
}


def _sum_of(field: str) -> Derive:
    """Return what takes one sum; that of a chain of which no block has been read is unknown, not zero."""

    def sum_of(pressure: Pressure) -> int | None:
        return getattr(pressure, field) if pressure.covered_to_us else None

    return sum_of


_PRESSURE_COLUMNS = (
    count("stablecoin_pressure", "−100 to 100; positive: accumulation. Market-wide", "pressure.pressure"),
    *(
        usd(f"stablecoin_{name}_usd", f"{what} in the look-back, large transfers only", "pressure", _sum_of(f"{name}_micros"))
        for name, what in _FLOWS.items()
    ),
    time("stablecoin_covered_from", "Every block since this block time was read; UTC", "pressure", _sum_of("covered_from_us")),
    time("stablecoin_covered_to", "Block time of the newest block read; UTC", "pressure", _sum_of("covered_to_us")),
)

_MINER_COLUMNS = (
    day("miner_day", "UTC day of the miner values", "miners.day"),
    number(
        "difficulty_multiple_expanding",
        "BTC price divided by modelled production cost: a ratio",
        "miners.fits[expanding].multiple",
    ),
    number("difficulty_multiple_rolling_3y", "The same ratio, fitted on 3 years", "miners.fits[rolling_3y].multiple"),
    number(
        "difficulty_multiple_glassnode_2022", "The same ratio, with frozen constants", "miners.fits[glassnode_2022].multiple"
    ),
    text("miner_status", "Of expanding: selling_at_a_loss, watch or comfortable", "miners.fits[expanding].status"),
    number("hashprice_usd_per_ph_day", "USD that a PH/s earns in a day", "miners.hashprice_usd_per_ph_day"),
)

SCORE_COLUMNS: tuple[Column, ...] = (
    time("as_of", "What was known at this moment is in the row: the same as receive_time", "cause.receive_time_us"),
    text("asset", "The coin, such as BTC"),
    text("severity", "none, info, warning or critical"),
    flag("pressure_waived", "Severity was judged without Stablecoin Pressure, because it was not known"),
    *_RISK_COLUMNS,
    *_cascade_columns("long"),
    *_cascade_columns("short"),
    *_side_columns("long"),
    *_side_columns("short"),
    *_DERIVATIVES_COLUMNS,
    *_PRESSURE_COLUMNS,
    *_MINER_COLUMNS,
    flag(
        "liquidations_are_floors",
        "Liquidations of a venue are missing in the last 300 s: sums are floors, and what is made of them",
    ),
    texts("missing_inputs", "Inputs without which the row was made; liquidations:VENUE is without that venue's, in part"),
    text("parameter_version", "Changes with any parameter of any score"),
)
