"""Every metric, declared once: name, kind, meaning and labels. Documentation is generated from this list.

Base units throughout: USD, seconds, bytes, ratios. Times are ``…_timestamp_seconds``, so that PromQL subtracts. Labels come
from closed sets only; assets are the newest few hundred. What is not known has no sample; it is never zero.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class MetricKind(str, enum.Enum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """One metric as it appears on the page, ``_total`` included."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"cascadewatch_{name}", MetricKind.COUNTER, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"cascadewatch_{name}", MetricKind.GAUGE, meaning, labels)


def _histogram(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"cascadewatch_{name}", MetricKind.HISTOGRAM, meaning, labels)


# What happened in the market.
LIQUIDATIONS = _counter("liquidations_total", "Liquidations", "venue", "position_side")
LIQUIDATED_USD = _counter("liquidated_usd_total", "Face value of liquidations in USD", "venue", "position_side")
CASCADE_STEPS = _counter("cascade_steps_total", "Steps of cascades: began, ended", "asset", "position_side", "phase")
ALERT_CHANGES = _counter("alert_changes_total", "Changes of alerts, by the severity they changed to", "severity", "state")

# What is known of each asset now.
SCORE_TIMESTAMP = _gauge("score_timestamp_seconds", "Moment of the newest score", "asset")
RISK = _gauge("liquidation_risk", "Liquidation Risk, 0 to 100", "asset", "scheme")
RISK_COMPONENT = _gauge("liquidation_risk_component", "Points of one component of it", "asset", "scheme", "component")
SEVERITY = _gauge("severity", "0 none, 1 info, 2 warning, 3 critical", "asset")
PRESSURE_WAIVED = _gauge("pressure_waived", "1 while severity is judged without Stablecoin Pressure", "asset")
MISSING_INPUTS = _gauge("missing_inputs", "Number of inputs that the newest score did without", "asset")
CASCADE_SCORE = _gauge("cascade_score", "Cascade Score, 0 to 10", "asset", "position_side")
CASCADE_COMPONENT = _gauge("cascade_component_ratio", "x of one component of it", "asset", "position_side", "component")
WINDOW_USD = _gauge("window_liquidated_usd", "USD liquidated in the window", "asset", "position_side", "window")
WINDOW_COUNT = _gauge("window_liquidations", "Liquidations in the window", "asset", "position_side", "window")
LATE = _counter("late_liquidations_total", "Liquidations too late for any window", "asset", "position_side")
MARK_PRICE = _gauge("mark_price_usd", "USD per coin", "asset")
PRICE_CHANGE = _gauge("price_change_ratio", "Change of the mark price", "asset", "window")
OPEN_INTEREST_COINS = _gauge("open_interest_coins", "Open interest, one side", "asset")
OPEN_INTEREST_USD = _gauge("open_interest_usd", "Open interest in USD, one side", "asset")
OPEN_INTEREST_CHANGE = _gauge("open_interest_change_ratio", "Change of open interest in coins", "asset", "window")
FUNDING_RATE = _gauge("funding_rate_8h_ratio", "Funding per 8 hours; positive: longs pay", "asset")
FUNDING_CHANGE = _gauge("funding_change_8h_ratio", "Difference of it", "asset", "window")
LONG_SHORT_RATIO = _gauge("long_short_ratio", "Accounts long per account short", "asset")

# What is known of the whole market now.
PRESSURE = _gauge("stablecoin_pressure", "Stablecoin Pressure, −100 to 100; positive: accumulation")
STABLECOIN_FLOW = _gauge("stablecoin_flow_usd", "USD moved in the look-back", "flow")
CHAIN_TIMESTAMP = _gauge("chain_block_timestamp_seconds", "Block time of the newest block read")
DIFFICULTY_MULTIPLE = _gauge("difficulty_multiple", "BTC price per modelled production cost", "fit")
HASHPRICE = _gauge("hashprice_usd_per_ph_day", "USD that a PH/s earns in a day")
MINER_DAY_TIMESTAMP = _gauge("miner_day_timestamp_seconds", "When the newest miner values were received")

# What fires, with hysteresis, hold and cool-down: the rules go by it, and so does what is pushed.
ALERT_SEVERITY = _gauge("alert_severity", "Severity of the alert that fires: 0 none, 1 info, 2 warning, 3 critical", "asset")
CASCADE_RUNNING = _gauge("cascade_running", "1 while a cascade runs, 0 for two hours after", "asset", "position_side")

# How the sources fare.
FRAMES = _counter("frames_received_total", "Frames journaled", "venue", "channel")
FRAME_BYTES = _counter("frame_bytes_total", "Payload of frames journaled", "venue", "channel")
FRAME_TIMESTAMP = _gauge("frame_timestamp_seconds", "When the newest frame was journaled", "venue", "channel")
CONNECTIONS = _gauge("feed_connections", "Connections that are up", "venue", "channel")
POLLS_FAILING = _gauge("feed_polls_failing", "Polls whose last attempt failed", "venue", "channel")
FEED_CHANGES = _counter("feed_changes_total", "Connections and polls that changed their state", "venue", "channel", "state")
FEED_BLIND = _gauge("feed_blind", "1 while a connection of the feed is away, which is a gap", "venue", "channel")
FEED_SILENT = _gauge(
    "feed_silent",
    "1 while the feed is connected and says nothing, though other venues do; absent where that cannot be told",
    "venue",
    "channel",
)
FEED_UNSEEN_TIMESTAMP = _gauge(
    "feed_unseen_timestamp_seconds", "Begin of the gap or silence that goes on; absent without one", "venue", "channel"
)
FEED_SILENT_AFTER = _gauge(
    "feed_silent_after_seconds",
    "Quiet after which the feed counts as silent; absent where that cannot be told",
    "venue",
    "channel",
)
LIQUIDATION_TIMESTAMP = _gauge("liquidation_timestamp_seconds", "When the newest liquidation was received", "venue")
EVENT_LAG = _gauge(
    "event_lag_seconds",
    "From the venue's time of the newest liquidation to its receipt; 0 also where the venue's clock is ahead of ours",
    "venue",
)
DEAD_LETTERS = _counter("dead_letters_total", "Frames, or items of them, that could not be used", "venue", "error")
GAPS = _counter("gaps_total", "Intervals that a feed could not see", "venue")
GAP_SECONDS = _counter("gap_seconds_total", "Length of those intervals", "venue")
QUEUE_FRAMES = _gauge("queue_frames", "Frames journaled and not yet in the flow")
JOURNAL_BYTES = _gauge("journal_bytes", "Size of the journal")
JOURNAL_FRAMES = _gauge("journal_frames", "Frames in the journal")
SIGNAL_SECONDS = _histogram(
    "signal_seconds", "From the receipt of a frame to its signal at the last step, live frames only", "signal"
)
BATCH_TIMESTAMP = _gauge("batch_timestamp_seconds", "When the flow last handed on a batch")

SHARDS = _gauge("shards", "Shards among which the assets are divided; 1 where they are not")

# How the sink fares.
ROWS_SPOOLED = _counter("rows_spooled_total", "Rows made durable on the local disk", "table")
ROWS_COMMITTED = _counter("rows_committed_total", "Rows appended to Delta tables", "table")
SPOOL_BYTES = _gauge("spool_bytes", "Size of the spool")
SPOOL_BLOCKED = _gauge("spool_blocked", "1 while the spool is full and the flow waits")
COMMIT_SECONDS = _histogram("commit_seconds", "Duration of commits; its count is their number", "table")
COMMIT_FAILURES = _counter("commit_failures_total", "Commits that failed and are tried again", "table", "error")
COMMIT_TIMESTAMP = _gauge("commit_timestamp_seconds", "When a table was last committed to", "table")

# How the alerts fare that are pushed.
ALERTS_PUSHED = _counter("alerts_pushed_total", "Alerts that an Alertmanager has taken, those said again too", "alertmanager")
ALERT_PUSH_FAILURES = _counter("alert_push_failures_total", "Pushes that failed and are tried again", "alertmanager", "error")
ALERT_UNSENT_TIMESTAMP = _gauge(
    "alert_unsent_timestamp_seconds",
    "When the oldest change of an alert that is not delivered yet was made; 0 while there is none",
    "alertmanager",
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in this order."""
