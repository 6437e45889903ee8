"""Market overview: is the market close to a cascade, in one, or past it? Shards' samples are joined; each asset has one."""

from __future__ import annotations

from panels import (
    ASSET,
    SEVERITIES,
    SEVERITY_STEPS,
    SHORT_RUN,
    THIRD,
    VENUE,
    WHOLE,
    Dashboard,
    Panel,
    Query,
    Row,
    Threshold,
    one,
    stat,
)

_RISK_STEPS = (Threshold(30, "yellow"), Threshold(50, "orange"), Threshold(70, "red"))

MARKET = Dashboard(
    uid="cascadewatch-market",
    title="cascadewatch: Market overview",
    description="How close the watched assets are to a liquidation cascade, and on what evidence.",
    variables=(ASSET, VENUE),
    rows=(
        Row(
            "Now",
            (
                stat(
                    "Worst severity",
                    "The highest severity of the chosen assets, by their newest scores.",
                    "short",
                    one('max(cascadewatch_severity{asset=~"$asset"})', "severity"),
                    minimum=0,
                    maximum=3,
                    thresholds=SEVERITY_STEPS,
                    runbooks=("LiquidationRisk",),
                    names=SEVERITIES,
                ),
                stat(
                    "Running cascades",
                    "Cascades that have begun and not ended, over the chosen assets and both sides.",
                    "short",
                    one(
                        'sum(cascadewatch_cascade_running{asset=~"$asset"})',
                        "cascades",
                        may_be_empty="no cascade has begun within two hours",
                    ),
                    minimum=0,
                    thresholds=(Threshold(1, "red"),),
                    runbooks=("LiquidationCascade",),
                ),
                stat(
                    "Stablecoin Pressure",
                    "−100 to 100; positive: USDT and USDC gather on exchanges. Market-wide. Missing until blocks of the whole "
                    "look-back have been read, and while the chain is stale.",
                    "short",
                    one(
                        "max(cascadewatch_stablecoin_pressure)",
                        "pressure",
                        may_be_empty="no chain endpoint, or its look-back has not been read yet",
                    ),
                    minimum=-100,
                    maximum=100,
                ),
                stat(
                    "Hashprice",
                    "USD that a PH/s of mining earns in a day.",
                    "currencyUSD",
                    one("max(cascadewatch_hashprice_usd_per_ph_day)", "USD per PH/s and day"),
                    minimum=0,
                ),
            ),
        ),
        Row(
            "Risk",
            (
                Panel(
                    "Liquidation Risk",
                    "0 to 100 per asset, by absolute thresholds. From 30 info, 50 warning, 70 critical, together with "
                    "Stablecoin Pressure. An input that is missing adds nothing: see “Inputs missing”.",
                    "short",
                    one('max by (asset) (cascadewatch_liquidation_risk{asset=~"$asset", scheme="absolute"})', "{{asset}}"),
                    minimum=0,
                    maximum=100,
                    thresholds=_RISK_STEPS,
                    runbooks=("LiquidationRisk",),
                ),
                Panel(
                    "Cascade Score",
                    "0 to 10 per asset and side: how one-sided, how fast and on how many venues liquidations are now.",
                    "short",
                    one(
                        'max by (asset, position_side) (cascadewatch_cascade_score{asset=~"$asset"})',
                        "{{asset}} {{position_side}}",
                    ),
                    minimum=0,
                    maximum=10,
                ),
                Panel(
                    "Inputs missing",
                    "Inputs that the newest score of each asset did without. A score with many of them missing says little.",
                    "short",
                    one('max by (asset) (cascadewatch_missing_inputs{asset=~"$asset"})', "{{asset}}"),
                    minimum=0,
                    runbooks=("SourceStale",),
                ),
                Panel(
                    "Alert that fires",
                    "0 none, 1 info, 2 warning, 3 critical: severity after hysteresis, hold and cool-down. What is pushed.",
                    "short",
                    one(
                        'max by (asset) (cascadewatch_alert_severity{asset=~"$asset"})',
                        "{{asset}}",
                        may_be_empty="no alert has changed since the process began",
                    ),
                    minimum=0,
                    maximum=3,
                    names=SEVERITIES,
                ),
            ),
        ),
        Row(
            "Liquidations",
            (
                Panel(
                    "90-second sums by side",
                    "USD liquidated in the last 90 s per asset and side: what a cascade is called by. Sums are floors: "
                    "Binance and OKX publish at most one per contract and second.",
                    "currencyUSD",
                    one(
                        'max by (asset, position_side) (cascadewatch_window_liquidated_usd{asset=~"$asset", window="90s"})',
                        "{{asset}} {{position_side}}",
                    ),
                    minimum=0,
                    runbooks=("LiquidationCascade",),
                ),
                Panel(
                    "USD per minute by venue and side",
                    "All assets. LONG is the side that was open: it is closed by a sell.",
                    "currencyUSD",
                    one(
                        "60 * sum by (venue, position_side) "
                        '(rate(cascadewatch_liquidated_usd_total{venue=~"$venue"}[$__rate_interval]))',
                        "{{venue}} {{position_side}}",
                    ),
                    minimum=0,
                    stacked=True,
                ),
                Panel(
                    "Liquidations per minute by venue and side",
                    "Number of them, all assets.",
                    "short",
                    one(
                        "60 * sum by (venue, position_side) "
                        '(rate(cascadewatch_liquidations_total{venue=~"$venue"}[$__rate_interval]))',
                        "{{venue}} {{position_side}}",
                    ),
                    minimum=0,
                    stacked=True,
                    width=WHOLE,
                ),
            ),
        ),
        Row(
            "Leverage",
            (
                Panel(
                    "Funding per 8 hours",
                    "Weighted by open interest. Positive: longs pay shorts, so longs are crowded.",
                    "percentunit",
                    one('max by (asset) (cascadewatch_funding_rate_8h_ratio{asset=~"$asset"})', "{{asset}}"),
                    width=THIRD,
                ),
                Panel(
                    "Open interest",
                    "USD, one side, summed over the venues that are known.",
                    "currencyUSD",
                    one('max by (asset) (cascadewatch_open_interest_usd{asset=~"$asset"})', "{{asset}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Long/short ratio",
                    "Accounts long per account short, weighted by open interest.",
                    "short",
                    one('max by (asset) (cascadewatch_long_short_ratio{asset=~"$asset"})', "{{asset}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Change of open interest over 5 minutes",
                    "In coins. Falling with the price: positions are being closed by force.",
                    "percentunit",
                    one(
                        'max by (asset) (cascadewatch_open_interest_change_ratio{asset=~"$asset", window="300s"})',
                        "{{asset}}",
                        may_be_empty=SHORT_RUN,
                    ),
                ),
                Panel(
                    "Change of the mark price over 5 minutes",
                    "Weighted by open interest over venues.",
                    "percentunit",
                    one(
                        'max by (asset) (cascadewatch_price_change_ratio{asset=~"$asset", window="300s"})',
                        "{{asset}}",
                        may_be_empty=SHORT_RUN,
                    ),
                ),
            ),
        ),
        Row(
            "Slow data",
            (
                Panel(
                    "Stablecoin flows",
                    "USD of large transfers in the look-back of 4 hours: to and from exchanges, minted, burnt.",
                    "currencyUSD",
                    one("max by (flow) (cascadewatch_stablecoin_flow_usd)", "{{flow}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Difficulty Multiple",
                    "BTC price divided by the modelled cost of mining it, by three fits. Below 1 miners sell at a loss.",
                    "short",
                    one("max by (fit) (cascadewatch_difficulty_multiple)", "{{fit}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Age of slow data",
                    "Since the newest block, and since mining data were received.",
                    "s",
                    (
                        Query("time() - max(cascadewatch_chain_block_timestamp_seconds)", "newest block"),
                        Query("time() - max(cascadewatch_miner_day_timestamp_seconds)", "mining"),
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("SourceStale",),
                ),
            ),
        ),
    ),
)
"""The first thing to look at."""
