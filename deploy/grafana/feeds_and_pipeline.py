"""Feeds and pipeline: does it see, and does what it sees reach the tables and the people?"""

from __future__ import annotations

from panels import INSTANCE, THIRD, VENUE, Dashboard, Panel, Query, Row, Threshold, one, stat

_OF = 'instance=~"$instance"'
_FEED = f'venue=~"$venue", {_OF}'
_CHANNEL = f'channel!="", {_FEED}'  # neither the clock's ticks nor the program's own statuses

PIPELINE = Dashboard(
    uid="cascadewatch-pipeline",
    title="cascadewatch: Feeds and pipeline",
    description="Connections, polls, gaps; journal, spool, commits; pushes. By instance: a shard, where there are several.",
    variables=(INSTANCE, VENUE),
    rows=(
        Row(
            "Now",
            (
                stat(
                    "Feeds that cannot see",
                    "Feeds with a connection away, and feeds that are connected and silent though others are not.",
                    "short",
                    (
                        Query(f"sum(cascadewatch_feed_blind{{{_FEED}}})", "blind"),
                        Query(
                            f"sum(cascadewatch_feed_silent{{{_FEED}}})",
                            "silent",
                            may_be_empty="silence cannot be told before the feeds are known, nor with fewer than three venues",
                        ),
                    ),
                    thresholds=(Threshold(1, "red"),),
                    runbooks=("FeedDown", "FeedSilent"),
                ),
                stat(
                    "Polls that fail",
                    "Polls whose last attempt failed.",
                    "short",
                    one(
                        f"sum(cascadewatch_feed_polls_failing{{{_FEED}}})",
                        "polls",
                        may_be_empty="no poll has failed since the process began",
                    ),
                    thresholds=(Threshold(1, "orange"),),
                    runbooks=("SourceStale",),
                ),
                stat(
                    "Since the flow's last batch",
                    "A flow that stands still for half a minute is not healthy, unless it waits for room in the spool.",
                    "s",
                    one(f"time() - cascadewatch_batch_timestamp_seconds{{{_OF}}}", "{{instance}}"),
                    thresholds=(Threshold(30, "red"),),
                    runbooks=("FlowStalled",),
                ),
                stat(
                    "Spool is full",
                    "1 while the flow waits for room: nothing is lost, scores are late.",
                    "short",
                    one(f"cascadewatch_spool_blocked{{{_OF}}}", "{{instance}}"),
                    thresholds=(Threshold(1, "red"),),
                    runbooks=("SpoolBlocked",),
                ),
            ),
        ),
        Row(
            "Feeds",
            (
                Panel(
                    "Frames per second",
                    "Journaled, by venue and channel, without the clock's ticks.",
                    "short",
                    one(
                        f"sum by (venue, channel) (rate(cascadewatch_frames_received_total{{{_CHANNEL}}}[$__rate_interval]))",
                        "{{venue}} {{channel}}",
                    ),
                    minimum=0,
                    stacked=True,
                ),
                Panel(
                    "Bytes per second",
                    "Payload of frames journaled, by venue.",
                    "Bps",
                    one(f"sum by (venue) (rate(cascadewatch_frame_bytes_total{{{_FEED}}}[$__rate_interval]))", "{{venue}}"),
                    minimum=0,
                    stacked=True,
                ),
                Panel(
                    "Connections",
                    "Connections that are up, by feed.",
                    "short",
                    one(f"cascadewatch_feed_connections{{{_FEED}}}", "{{instance}} {{venue}} {{channel}}"),
                    width=THIRD,
                    minimum=0,
                    runbooks=("FeedDown",),
                ),
                Panel(
                    "Since the last liquidation",
                    "Seconds, by venue. Beside it the quiet after which the feed would count as silent.",
                    "s",
                    (
                        Query(f"time() - cascadewatch_liquidation_timestamp_seconds{{{_FEED}}}", "{{venue}}"),
                        Query(
                            f"cascadewatch_feed_silent_after_seconds{{{_FEED}}}",
                            "{{venue}} silent after",
                            may_be_empty="the usual quiet of a feed is known after 20 liquidations over an hour",
                        ),
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("FeedSilent",),
                ),
                Panel(
                    "Age of the newest frame",
                    "Seconds, by feed. Polls come at their own intervals.",
                    "s",
                    one(
                        f"time() - max by (venue, channel) (cascadewatch_frame_timestamp_seconds{{{_CHANNEL}}})",
                        "{{venue}} {{channel}}",
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("SourceStale",),
                ),
                Panel(
                    "Changes of connections and polls",
                    "Connected, lost, refused; polls failed and answered: in five minutes, by state.",
                    "short",
                    one(
                        f"sum by (venue, state) (increase(cascadewatch_feed_changes_total{{{_FEED}}}[5m]))",
                        "{{venue}} {{state}}",
                    ),
                    width=THIRD,
                    minimum=0,
                    stacked=True,
                ),
                Panel(
                    "Gaps",
                    "Seconds of gaps that ended within the hour before, by venue.",
                    "s",
                    one(
                        f"sum by (venue) (increase(cascadewatch_gap_seconds_total{{{_FEED}}}[1h]))",
                        "{{venue}}",
                        may_be_empty="no feed has had a gap since the process began",
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("FeedDown",),
                ),
                Panel(
                    "Dead letters",
                    "Frames, or items of them, that could not be used, in an hour, by venue and class of error.",
                    "short",
                    one(
                        f"sum by (venue, error) (increase(cascadewatch_dead_letters_total{{{_FEED}}}[1h]))",
                        "{{venue}} {{error}}",
                        may_be_empty="every frame could be used since the process began",
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("DeadLetters",),
                ),
            ),
        ),
        Row(
            "From the journal to the tables",
            (
                Panel(
                    "Frames waiting",
                    "Journaled and not yet in the flow.",
                    "short",
                    one(f"cascadewatch_queue_frames{{{_OF}}}", "{{instance}}"),
                    width=THIRD,
                    minimum=0,
                    runbooks=("ScoresTooSlow",),
                ),
                Panel(
                    "Journal and spool",
                    "Bytes on the local disk.",
                    "bytes",
                    (
                        Query(f"cascadewatch_journal_bytes{{{_OF}}}", "journal {{instance}}"),
                        Query(f"cascadewatch_spool_bytes{{{_OF}}}", "spool {{instance}}"),
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("SpoolGrowing",),
                ),
                Panel(
                    "Frames in the journal",
                    "Kept for journal.retention_seconds.",
                    "short",
                    one(f"cascadewatch_journal_frames{{{_OF}}}", "{{instance}}"),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Rows committed per minute",
                    "By table.",
                    "short",
                    one(
                        f"60 * sum by (table) (rate(cascadewatch_rows_committed_total{{{_OF}}}[$__rate_interval]))",
                        "{{table}}",
                    ),
                    minimum=0,
                    stacked=True,
                ),
                Panel(
                    "Rows spooled and not committed",
                    "Since the process began. It grows while the store is away.",
                    "short",
                    one(
                        f"sum by (table) (cascadewatch_rows_spooled_total{{{_OF}}}) "
                        f"- (sum by (table) (cascadewatch_rows_committed_total{{{_OF}}}) "
                        f"or 0 * sum by (table) (cascadewatch_rows_spooled_total{{{_OF}}}))",
                        "{{table}}",
                    ),
                    runbooks=("SpoolGrowing",),
                ),
                Panel(
                    "Duration of commits, 95 %",
                    "Seconds, by table. An object store takes some tenths; unmaintained tables get slower with each commit.",
                    "s",
                    one(
                        "histogram_quantile(0.95, sum by (table, le) "
                        f"(rate(cascadewatch_commit_seconds_bucket{{{_OF}}}[$__rate_interval])))",
                        "{{table}}",
                    ),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Since the last commit",
                    "Seconds, by table. A table without new rows has no new commits.",
                    "s",
                    one(f"time() - max by (table) (cascadewatch_commit_timestamp_seconds{{{_OF}}})", "{{table}}"),
                    width=THIRD,
                    minimum=0,
                    runbooks=("CommitStale",),
                ),
                Panel(
                    "Failed commits",
                    "In five minutes, by table and class of error. They are tried again; nothing is lost.",
                    "short",
                    one(
                        f"sum by (table, error) (increase(cascadewatch_commit_failures_total{{{_OF}}}[5m]))",
                        "{{table}} {{error}}",
                        may_be_empty="no commit has failed since the process began",
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("CommitStale",),
                ),
            ),
        ),
        Row(
            "Alerts and process",
            (
                Panel(
                    "Alerts pushed per minute",
                    "Taken by each Alertmanager, those said again too; and pushes that failed.",
                    "short",
                    (
                        Query(
                            f"60 * sum by (alertmanager) (rate(cascadewatch_alerts_pushed_total{{{_OF}}}[$__rate_interval]))",
                            "{{alertmanager}}",
                            may_be_empty="no Alertmanager in the settings, or nothing failed",
                        ),
                        Query(
                            "60 * sum by (alertmanager, error) "
                            f"(rate(cascadewatch_alert_push_failures_total{{{_OF}}}[$__rate_interval]))",
                            "{{alertmanager}} {{error}}",
                            may_be_empty="no Alertmanager in the settings, or nothing failed",
                        ),
                    ),
                    minimum=0,
                    runbooks=("AlertsUndelivered",),
                ),
                Panel(
                    "Process is up",
                    "1 while Prometheus reaches it.",
                    "short",
                    one('up{job="cascadewatch", instance=~"$instance"}', "{{instance}}"),
                    minimum=0,
                    maximum=1,
                    runbooks=("ProcessDown",),
                ),
            ),
        ),
    ),
)
"""Where to look when something is missing."""
