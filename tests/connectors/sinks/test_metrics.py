from __future__ import annotations

from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sink_events import (
    NOON_US,
    cascade_score,
    cause,
    derivatives_reading,
    fit,
    liquidation,
    miner_day,
    pressure,
    score,
    side_windows,
    windows,
)

from connectors.sinks.firing import FiringAlerts
from connectors.sinks.metrics import METRICS, MetricKind, Metrics, MetricsSink
from market.events import AssetMiners, AssetPressure, Gap
from market.feeds import FeedSight, LiquidationFeeds, Sight
from market.raw import DeadLetter, FeedState, FeedStatus, PositionSide, Tick
from market.readings import AbsoluteRisk, AlertChange, AlertState, CascadePhase, CascadeTransition, Severity

USD = 1_000_000
NOON_S = NOON_US / USD
CHANNEL = "liquidations"

Samples = dict[tuple[str, ...], float]


def page(metrics: Metrics) -> dict[str, Samples]:
    """Read the page as Prometheus does: by name, label values in the declared order."""
    labels_of = {metric.name: metric.labels for metric in METRICS}
    samples: dict[str, Samples] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = labels_of.get(sample.name, tuple(sorted(sample.labels)))
            samples.setdefault(sample.name, {})[tuple(sample.labels[label] for label in labels)] = sample.value
    return samples


def after(*events: Any) -> dict[str, Samples]:
    metrics = Metrics()
    metrics.observe_batch(events)
    return page(metrics)


def knowing_score(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "windows": windows(side_windows(90 * USD, 3, late_count=2), side_windows()),
        "derivatives": derivatives_reading(),
        "pressure": pressure(-42),
        "miners": miner_day(),
        "risk": AbsoluteRisk(50, 30, 0, None, 20),
        "cascade_long": cascade_score(6.5, components={"size": 0.8}),
        "severity": Severity.WARNING,
        "pressure_waived": False,
        "missing_inputs": ("long_short_ratio",),
    }
    return score(**(values | changes))


def feeds(*, at_us: int = NOON_US, partition: str = "0", **sights: Sight) -> LiquidationFeeds:
    """Return what can be seen of these venues for a minute; of each the silence can be told, but of those that are blind."""
    return LiquidationFeeds(
        cause(partition=partition),
        {venue: FeedSight(sight, at_us - 60 * USD, "") for venue, sight in sights.items()},
        tuple(venue for venue, sight in sights.items() if sight is not Sight.SEEING),
        {venue: 120 * USD for venue, sight in sights.items() if sight is not Sight.BLIND},
    )


def everything() -> Metrics:
    """Make every metric have a sample."""
    firing = FiringAlerts()
    metrics = Metrics(firing=firing)
    feed = "okx/liquidations"
    change = AlertChange(cause(), "BTC", Severity.INFO, Severity.NONE, AlertState.FIRING, "", 1, 31, None)
    step = CascadeTransition(cause(), "id", "BTC", PositionSide.LONG, CascadePhase.BEGAN, NOON_US, 1, 1, 1, 1, ("okx",))
    firing.observe_batch([change, step])
    metrics.observe_batch(
        [
            liquidation(),
            knowing_score(),
            step,
            change,
            DeadLetter(cause(), feed, "okx", "MalformedFrameError", "", b""),
            Gap(cause(), "okx", feed, NOON_US, NOON_US + USD, ""),
            FeedStatus(cause(), feed, "0", FeedState.CONNECTED, ""),
            FeedStatus(cause(), "okx/depth/BTC", "poll", FeedState.POLL_FAILED, ""),
            feeds(okx=Sight.SILENT),
        ]
    )
    metrics.batch_handed_on()
    metrics.frames_received(feed, 3, 600)
    metrics.queue_depth(5)
    metrics.journal_size(4096, 17)
    metrics.rows_spooled("liquidations", 4)
    metrics.spool_bytes(1024)
    metrics.spool_blocked(is_blocked=False)
    metrics.committed("liquidations", 4, 0.02)
    metrics.commit_failed("scores", "OSError", "unreachable")
    metrics.alerts_pushed("127.0.0.1:9093", 2)
    metrics.alert_push_failed("127.0.0.1:9093", "ConnectError")
    metrics.alerts_unsent("127.0.0.1:9093", NOON_US)
    return metrics


def test_the_page_has_the_declared_metrics_with_their_kinds_labels_and_help_and_no_others() -> None:
    found = {}
    for family in text_string_to_metric_families(generate_latest(everything().registry).decode()):
        if family.name.endswith("_created"):
            continue  # the client's own, beside each counter
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[name] = (family.type, family.documentation, labels)

    assert found == {metric.name: (metric.kind.value, metric.help, set(metric.labels)) for metric in METRICS}


def test_names_have_the_prefix_and_units_at_the_end() -> None:
    for metric in METRICS:
        assert metric.name.startswith("cascadewatch_")
        assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_two_metrics_on_one_registry_are_refused() -> None:
    registry = CollectorRegistry()
    Metrics(registry)

    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Metrics(registry)


def test_liquidations_are_counted_and_summed_exactly_by_venue_and_side() -> None:
    samples = after(
        liquidation(notional_micros=100_000),
        liquidation(notional_micros=200_000),
        liquidation(position_side=PositionSide.SHORT, notional_micros=5 * USD),
        liquidation(venue="okx", notional_micros=7 * USD),
    )

    assert samples["cascadewatch_liquidations_total"] == {
        ("binance-usdm", "LONG"): 2,
        ("binance-usdm", "SHORT"): 1,
        ("okx", "LONG"): 1,
    }
    assert samples["cascadewatch_liquidated_usd_total"] == {
        ("binance-usdm", "LONG"): 0.3,
        ("binance-usdm", "SHORT"): 5.0,
        ("okx", "LONG"): 7.0,
    }


def test_counts_go_on_from_batch_to_batch() -> None:
    metrics = Metrics()

    metrics.observe(liquidation())
    metrics.observe(liquidation())

    assert page(metrics)["cascadewatch_liquidations_total"] == {("binance-usdm", "LONG"): 2}


def test_a_score_is_shown_with_everything_that_is_known() -> None:
    samples = after(knowing_score())

    def of(name: str) -> Samples:
        return samples[f"cascadewatch_{name}"]

    assert of("score_timestamp_seconds") == {("BTC",): NOON_S}
    assert of("liquidation_risk") == {("BTC", "absolute"): 50}
    assert of("liquidation_risk_component") == {
        ("BTC", "absolute", "funding"): 30,
        ("BTC", "absolute", "open_interest"): 0,
        ("BTC", "absolute", "liquidations"): 20,
    }
    assert of("severity") == {("BTC",): 2}
    assert of("pressure_waived") == {("BTC",): 0}
    assert of("missing_inputs") == {("BTC",): 1}
    assert of("cascade_score") == {("BTC", "LONG"): 6.5}
    assert of("cascade_component_ratio") == {("BTC", "LONG", "size"): 0.8}
    assert of("window_liquidated_usd")["BTC", "LONG", "90s"] == 90.0
    assert of("window_liquidations")["BTC", "SHORT", "3600s"] == 0
    assert of("late_liquidations_total") == {("BTC", "LONG"): 2, ("BTC", "SHORT"): 0}
    assert of("mark_price_usd") == {("BTC",): 37_000.0}
    assert of("price_change_ratio") == {("BTC", "300s"): -0.015, ("BTC", "3600s"): -0.025}
    assert of("open_interest_coins") == {("BTC",): 100_000.0}
    assert of("open_interest_usd") == {("BTC",): 3.7e9}
    assert of("open_interest_change_ratio") == {("BTC", "300s"): 0.06, ("BTC", "3600s"): 0.07}
    assert of("funding_rate_8h_ratio") == {("BTC",): 0.0001}
    assert of("funding_change_8h_ratio") == {("BTC", "300s"): 0.00001, ("BTC", "3600s"): -0.00002}
    assert of("long_short_ratio") == {("BTC",): 1.25}
    assert of("stablecoin_pressure") == {(): -42}
    assert of("stablecoin_flow_usd") == {("inflow",): 100e6, ("outflow",): 16e6, ("mint",): 5e6, ("burn",): 1e6}
    assert of("chain_block_timestamp_seconds") == {(): NOON_S - 12}
    assert of("difficulty_multiple") == {("expanding",): 1.2}
    assert of("hashprice_usd_per_ph_day") == {(): 75.5}
    assert of("miner_day_timestamp_seconds") == {(): NOON_S}


def test_what_is_not_known_has_no_sample() -> None:
    samples = after(score())

    about_assets = {name: values for name, values in samples.items() if any("BTC" in labels for labels in values)}
    assert about_assets == {
        "cascadewatch_score_timestamp_seconds": {("BTC",): NOON_S},
        "cascadewatch_liquidation_risk": {("BTC", "absolute"): 0},
        "cascadewatch_severity": {("BTC",): 0},
        "cascadewatch_pressure_waived": {("BTC",): 1},
        "cascadewatch_missing_inputs": {("BTC",): 4},
    }


def test_a_newer_score_takes_the_place_of_the_older() -> None:
    samples = after(knowing_score(), score(2, at_us=NOON_US + USD))

    assert samples["cascadewatch_liquidation_risk"] == {("BTC", "absolute"): 0}
    assert "cascadewatch_mark_price_usd" not in samples
    assert samples["cascadewatch_stablecoin_pressure"] == {(): -42}


def test_beyond_the_limit_the_longest_quiet_asset_is_forgotten() -> None:
    metrics = Metrics(max_assets=2)

    metrics.observe_batch([score(asset="BTC"), score(asset="ETH"), score(asset="BTC"), score(asset="SOL")])

    assert set(page(metrics)["cascadewatch_severity"]) == {("BTC",), ("SOL",)}


def test_pressure_is_the_newest_from_wherever_it_comes() -> None:
    newer = pressure(10, at_us=NOON_US + USD)

    assert after(newer, knowing_score())["cascadewatch_stablecoin_pressure"] == {(): 10}
    assert after(knowing_score(), newer)["cascadewatch_stablecoin_pressure"] == {(): 10}
    assert after(pressure(1), AssetPressure(cause(), "BTC", newer))["cascadewatch_stablecoin_pressure"] == {(): 10}


def test_pressure_that_is_not_known_has_no_sample() -> None:
    samples = after(pressure(5), pressure(None, covered_to_us=0))

    assert {name for name in samples if "stablecoin" in name or "chain" in name} == set()


def test_the_miner_day_is_the_newest_day_and_of_it_the_newest_values() -> None:
    yesterday = miner_day(at_us=NOON_US + 2 * USD, day="2023-11-14", fits={"expanding": fit(multiple=9.9)})
    updated = miner_day(at_us=NOON_US + USD, fits={"expanding": fit(multiple=1.3)})

    samples = after(miner_day(), AssetMiners(cause(), "BTC", updated), yesterday)

    assert samples["cascadewatch_difficulty_multiple"] == {("expanding",): 1.3}


def test_steps_of_cascades_changes_of_alerts_dead_letters_and_gaps_are_counted() -> None:
    samples = page(everything())

    assert samples["cascadewatch_cascade_steps_total"] == {("BTC", "LONG", "began"): 1}
    assert samples["cascadewatch_alert_changes_total"] == {("info", "firing"): 1}
    assert samples["cascadewatch_dead_letters_total"] == {("okx", "MalformedFrameError"): 1}
    assert samples["cascadewatch_gaps_total"] == {("okx",): 1}
    assert samples["cascadewatch_gap_seconds_total"] == {("okx",): 1.0}


def test_connections_overlap_while_one_replaces_another() -> None:
    metrics = Metrics()
    feed = "okx/liquidations"

    def connections(connection: str, state: FeedState) -> float:
        metrics.observe(FeedStatus(cause(), feed, connection, state, ""))
        return page(metrics)["cascadewatch_feed_connections"]["okx", "liquidations"]

    assert connections("0#1", FeedState.REFUSED) == 0
    assert connections("0#1", FeedState.CONNECTED) == 1
    assert connections("0#2", FeedState.CONNECTED) == 2
    assert connections("0#1", FeedState.LOST) == 1
    assert connections("0#2", FeedState.LOST) == 0
    assert page(metrics)["cascadewatch_feed_changes_total"] == {
        ("okx", "liquidations", "refused"): 1,
        ("okx", "liquidations", "connected"): 2,
        ("okx", "liquidations", "lost"): 2,
    }


def test_blind_and_silent_feeds_are_shown_since_when_and_after_what_quiet_they_would_be_silent() -> None:
    samples = after(feeds(okx=Sight.SEEING), feeds(okx=Sight.SILENT, gate=Sight.BLIND, bitmex=Sight.SEEING))

    assert {name: values for name, values in samples.items() if "feed_" in name} == {
        "cascadewatch_feed_blind": {("okx", CHANNEL): 0, ("gate", CHANNEL): 1, ("bitmex", CHANNEL): 0},
        "cascadewatch_feed_silent": {("okx", CHANNEL): 1, ("bitmex", CHANNEL): 0},
        "cascadewatch_feed_unseen_timestamp_seconds": {("okx", CHANNEL): NOON_S - 60, ("gate", CHANNEL): NOON_S - 60},
        "cascadewatch_feed_silent_after_seconds": {("okx", CHANNEL): 120, ("bitmex", CHANNEL): 120},
    }


def test_where_no_silence_can_be_told_there_is_no_sample_of_it_but_of_what_was_found_silent_before() -> None:
    alone = LiquidationFeeds(
        cause(), {"okx": FeedSight(Sight.SEEING, 0, ""), "gate": FeedSight(Sight.SILENT, 0, "")}, ("gate",), {}
    )

    samples = after(alone)

    assert samples["cascadewatch_feed_silent"] == {("gate", CHANNEL): 1}
    assert "cascadewatch_feed_silent_after_seconds" not in samples


def test_a_venue_that_is_not_expected_any_more_is_shown_no_longer_and_partitions_stand_beside_each_other() -> None:
    samples = after(feeds(okx=Sight.SEEING, gate=Sight.SEEING), feeds(okx=Sight.SEEING), feeds(partition="1", htx=Sight.BLIND))

    assert samples["cascadewatch_feed_blind"] == {("okx", CHANNEL): 0, ("htx", CHANNEL): 1}


def test_the_newest_liquidation_of_each_venue_has_its_time() -> None:
    samples = after(liquidation(), liquidation(at_us=NOON_US + 2 * USD), liquidation(venue="okx"))

    assert samples["cascadewatch_liquidation_timestamp_seconds"] == {("binance-usdm",): NOON_S + 2, ("okx",): NOON_S}


def test_the_newest_liquidation_of_each_venue_says_how_late_it_came() -> None:
    samples = after(liquidation(), liquidation(venue="okx", event_time_us=NOON_US - 2 * USD), liquidation(venue="okx"))

    assert samples["cascadewatch_event_lag_seconds"] == {("binance-usdm",): 0.25, ("okx",): 0.25}
    assert after(liquidation(event_time_us=NOON_US))["cascadewatch_event_lag_seconds"] == {("binance-usdm",): 0.0}


def test_polls_of_one_channel_fail_and_answer_each_for_itself() -> None:
    metrics = Metrics()

    def failing(feed: str, state: FeedState) -> float:
        metrics.observe(FeedStatus(cause(), feed, "poll", state, ""))
        return page(metrics)["cascadewatch_feed_polls_failing"]["okx", "depth"]

    assert failing("okx/depth/BTC", FeedState.POLL_FAILED) == 1
    assert failing("okx/depth/ETH", FeedState.POLL_FAILED) == 2
    assert failing("okx/depth/BTC", FeedState.POLL_ANSWERED) == 1


def test_events_of_no_interest_are_passed_over() -> None:
    assert after(Tick(cause())) == after()


def test_frames_are_counted_by_venue_and_channel() -> None:
    metrics = Metrics()

    metrics.frames_received("okx/depth/BTC", 2, 300)
    metrics.frames_received("okx/depth/ETH", 1, 100)
    metrics.frames_received("okx/depth/ETH", 1, 100)
    metrics.frames_received("clock", 1, 0)

    samples = page(metrics)
    assert samples["cascadewatch_frames_received_total"] == {("okx", "depth"): 4, ("clock", ""): 1}
    assert samples["cascadewatch_frame_bytes_total"] == {("okx", "depth"): 500, ("clock", ""): 0}
    assert samples["cascadewatch_frame_timestamp_seconds"]["okx", "depth"] > NOON_S


def test_the_sinks_numbers_are_shown() -> None:
    samples = page(everything())

    assert samples["cascadewatch_rows_spooled_total"] == {("liquidations",): 4}
    assert samples["cascadewatch_rows_committed_total"] == {("liquidations",): 4}
    assert samples["cascadewatch_spool_bytes"] == {(): 1024}
    assert samples["cascadewatch_spool_blocked"] == {(): 0}
    assert samples["cascadewatch_commit_seconds_count"] == {("liquidations",): 1}
    assert samples["cascadewatch_commit_seconds_sum"] == {("liquidations",): 0.02}
    assert samples["cascadewatch_commit_failures_total"] == {("scores", "OSError"): 1}
    assert samples["cascadewatch_commit_timestamp_seconds"]["liquidations",] > NOON_S


def test_what_fires_and_how_pushes_fare_is_shown() -> None:
    samples = page(everything())

    assert samples["cascadewatch_alert_severity"] == {("BTC",): 1}
    assert samples["cascadewatch_cascade_running"] == {("BTC", "LONG"): 1}
    assert samples["cascadewatch_alerts_pushed_total"] == {("127.0.0.1:9093",): 2}
    assert samples["cascadewatch_alert_push_failures_total"] == {("127.0.0.1:9093", "ConnectError"): 1}
    assert samples["cascadewatch_alert_unsent_timestamp_seconds"] == {("127.0.0.1:9093",): NOON_S}


def test_the_sources_numbers_are_shown() -> None:
    samples = page(everything())

    assert samples["cascadewatch_queue_frames"] == {(): 5}
    assert samples["cascadewatch_journal_bytes"] == {(): 4096}
    assert samples["cascadewatch_journal_frames"] == {(): 17}
    assert samples["cascadewatch_batch_timestamp_seconds"][()] > NOON_S


def test_the_sink_hands_events_to_every_observer() -> None:
    metrics = Metrics()
    seen: list[Any] = []
    events = [liquidation(1), liquidation(2)]
    flow = Dataflow("metrics")
    bunches = op.input("events", flow, TestingSource([("BTC", events[:1]), ("ETH", events[1:])]))
    op.output("metrics", bunches, MetricsSink(metrics.observe_batch, seen.extend))

    run_main(flow)

    assert seen == events
    assert page(metrics)["cascadewatch_liquidations_total"] == {("binance-usdm", "LONG"): 2}
