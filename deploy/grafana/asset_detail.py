"""Asset detail: one asset's score taken apart, so that a reader sees what raised it and what is missing."""

from __future__ import annotations

from panels import (
    ONE_ASSET,
    SEVERITIES,
    SEVERITY_STEPS,
    SHORT_RUN,
    THIRD,
    Dashboard,
    Panel,
    Query,
    Row,
    Threshold,
    one,
    stat,
)


def _of_asset(metric: str, *labels: str, more: str = "") -> str:
    by = ", ".join(("asset", *labels))
    return f'max by ({by}) (cascadewatch_{metric}{{asset="$asset"{more}}})'


ASSET_DETAIL = Dashboard(
    uid="cascadewatch-asset",
    title="cascadewatch: Asset detail",
    description="One asset: its scores taken apart, its windows, its leverage.",
    variables=(ONE_ASSET,),
    rows=(
        Row(
            "$asset now",
            (
                stat(
                    "Severity",
                    "By the newest score.",
                    "short",
                    one(_of_asset("severity"), "{{asset}}"),
                    minimum=0,
                    maximum=3,
                    thresholds=SEVERITY_STEPS,
                    runbooks=("LiquidationRisk",),
                    names=SEVERITIES,
                ),
                stat(
                    "Mark price",
                    "USD per coin, weighted by open interest over venues.",
                    "currencyUSD",
                    one(_of_asset("mark_price_usd"), "{{asset}}"),
                ),
                stat(
                    "Age of the newest score",
                    "Seconds. A quiet asset has a new score only when something changes.",
                    "s",
                    one(f"time() - {_of_asset('score_timestamp_seconds')}", "{{asset}}"),
                    minimum=0,
                    runbooks=("ScoresTooSlow",),
                ),
                stat(
                    "Inputs missing",
                    "What the newest score did without; the row in the table scores names them.",
                    "short",
                    one(_of_asset("missing_inputs"), "{{asset}}"),
                    minimum=0,
                    thresholds=(Threshold(1, "yellow"),),
                    runbooks=("SourceStale",),
                ),
            ),
        ),
        Row(
            "Scores",
            (
                Panel(
                    "Liquidation Risk by component",
                    "Points: funding and open interest up to 30 each, long/short ratio and liquidations up to 20 each. A "
                    "component without input has no line.",
                    "short",
                    one(_of_asset("liquidation_risk_component", "component", more=', scheme="absolute"'), "{{component}}"),
                    minimum=0,
                    maximum=100,
                    stacked=True,
                ),
                Panel(
                    "Cascade Score",
                    "0 to 10 by side.",
                    "short",
                    one(_of_asset("cascade_score", "position_side"), "{{position_side}}"),
                    minimum=0,
                    maximum=10,
                ),
                Panel(
                    "Components of the Cascade Score",
                    "0 to 1 each, those that have an input.",
                    "short",
                    one(_of_asset("cascade_component_ratio", "position_side", "component"), "{{position_side}} {{component}}"),
                    minimum=0,
                    maximum=1,
                ),
                Panel(
                    "Cascade runs",
                    "1 while a cascade of that side runs.",
                    "short",
                    one(
                        _of_asset("cascade_running", "position_side"),
                        "{{position_side}}",
                        may_be_empty="no cascade has begun within two hours",
                    ),
                    minimum=0,
                    maximum=1,
                    runbooks=("LiquidationCascade",),
                ),
            ),
        ),
        Row(
            "Liquidations",
            (
                Panel(
                    "USD by window and side",
                    "Sums over the last 10 s to the last hour.",
                    "currencyUSD",
                    one(_of_asset("window_liquidated_usd", "position_side", "window"), "{{position_side}} {{window}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Number by window and side",
                    "Liquidations in each window.",
                    "short",
                    one(_of_asset("window_liquidations", "position_side", "window"), "{{position_side}} {{window}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Too late for any window",
                    "Liquidations whose venue told of them too late; they are in the table all the same.",
                    "short",
                    one(_of_asset("late_liquidations_total", "position_side"), "{{position_side}}"),
                    width=THIRD,
                    minimum=0,
                ),
            ),
        ),
        Row(
            "Leverage",
            (
                Panel(
                    "Open interest",
                    "USD, one side, over the venues that are known.",
                    "currencyUSD",
                    one(_of_asset("open_interest_usd"), "{{asset}}"),
                    width=THIRD,
                ),
                Panel(
                    "Funding per 8 hours",
                    "Positive: longs pay shorts.",
                    "percentunit",
                    one(_of_asset("funding_rate_8h_ratio"), "{{asset}}"),
                    width=THIRD,
                ),
                Panel(
                    "Long/short ratio",
                    "Accounts long per account short.",
                    "short",
                    one(_of_asset("long_short_ratio"), "{{asset}}"),
                    width=THIRD,
                ),
                Panel(
                    "Changes of price and open interest",
                    "Over 5 minutes, an hour, a day; open interest in coins.",
                    "percentunit",
                    (
                        Query(_of_asset("price_change_ratio", "window"), "price {{window}}", may_be_empty=SHORT_RUN),
                        Query(
                            _of_asset("open_interest_change_ratio", "window"),
                            "open interest {{window}}",
                            may_be_empty=SHORT_RUN,
                        ),
                    ),
                ),
                Panel(
                    "Change of funding",
                    "Difference of the rate per 8 hours.",
                    "percentunit",
                    one(_of_asset("funding_change_8h_ratio", "window"), "{{window}}", may_be_empty=SHORT_RUN),
                ),
            ),
        ),
    ),
)
"""Where an alert's link leads."""
