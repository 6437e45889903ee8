"""SLO: 99.5 % of scores are made within 5 s of their frame, over 30 days; how much of the allowance is used, and how fast."""

from __future__ import annotations

from panels import INSTANCE, THIRD, WHOLE, Dashboard, Panel, Query, Row, Threshold, one, stat

OBJECTIVE = 0.995
ALLOWANCE = "0.005"
WINDOW = "30d"
_SCORES = 'signal="score", instance=~"$instance"'
_WITHIN = f'{_SCORES}, le="5.0"'
_ALL = "cascadewatch_signal_seconds_count"
_BUCKET = "cascadewatch_signal_seconds_bucket"


def _late(window: str) -> str:
    """Return the share of scores in the window that took longer than 5 s."""
    return f"(1 - sum(rate({_BUCKET}{{{_WITHIN}}}[{window}])) / sum(rate({_ALL}{{{_SCORES}}}[{window}])))"


def _burn(window: str) -> Query:
    return Query(f"{_late(window)} / {ALLOWANCE}", window)


SLO = Dashboard(
    uid="cascadewatch-slo",
    title="cascadewatch: SLO",
    description="The pipeline's own objective: 99.5 % of scores within 5 s of the frame that caused them.",
    variables=(INSTANCE,),
    rows=(
        Row(
            "Objective: 99.5 % of scores within 5 s",
            (
                stat(
                    "Within 5 s, over 30 days",
                    "Share of scores made within 5 s of the receipt of their frame, in the days that Prometheus keeps.",
                    "percentunit",
                    one(f"1 - {_late(WINDOW)}", "within 5 s"),
                    height=6,
                    maximum=1,
                    thresholds=(Threshold(OBJECTIVE, "green"),),
                    runbooks=("ScoresTooSlow",),
                ),
                stat(
                    "Allowance left, over 30 days",
                    "1: nothing used of the 0.5 % that may be late. Below 0 the objective is missed.",
                    "percentunit",
                    one(f"1 - {_late(WINDOW)} / {ALLOWANCE}", "left"),
                    height=6,
                    maximum=1,
                    thresholds=(Threshold(0, "orange"), Threshold(0.5, "green")),
                    runbooks=("ScoresTooSlow",),
                ),
                stat(
                    "Scores in 30 days",
                    "What the shares are of.",
                    "short",
                    one(f"sum(increase({_ALL}{{{_SCORES}}}[{WINDOW}]))", "scores"),
                    height=6,
                    minimum=0,
                ),
                stat(
                    "Instances up",
                    "Of those that Prometheus knows.",
                    "percentunit",
                    one('avg(up{job="cascadewatch", instance=~"$instance"})', "up"),
                    height=6,
                    minimum=0,
                    maximum=1,
                    thresholds=(Threshold(1, "green"),),
                    runbooks=("ProcessDown",),
                ),
                Panel(
                    "Burn rate",
                    "How many times faster than allowed the allowance is used, over several windows; 1 uses it up in 30 days. "
                    "Alerts want a long and a short window above their limit.",
                    "short",
                    tuple(map(_burn, ("5m", "30m", "1h", "6h", "3d"))),
                    width=WHOLE,
                    minimum=0,
                    thresholds=(Threshold(1, "yellow"), Threshold(6, "orange"), Threshold(14.4, "red")),
                    runbooks=("ScoresTooSlow",),
                ),
            ),
        ),
        Row(
            "From frame to signal",
            (
                Panel(
                    "Frame to liquidation",
                    "From the receipt of a frame to the liquidation at the flow's last step. The goal is 5 ms for 99 %.",
                    "s",
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, sum by (le) "
                            f'(rate({_BUCKET}{{signal="liquidation", instance=~"$instance"}}[$__rate_interval])))',
                            name,
                        )
                        for quantile, name in ((0.5, "50 %"), (0.99, "99 %"), (0.999, "99.9 %"))
                    ),
                    width=THIRD,
                    minimum=0,
                ),
                Panel(
                    "Frame to score",
                    "The same for scores, whose frames are ticks as well.",
                    "s",
                    tuple(
                        Query(
                            f"histogram_quantile({quantile}, sum by (le) (rate({_BUCKET}{{{_SCORES}}}[$__rate_interval])))",
                            name,
                        )
                        for quantile, name in ((0.5, "50 %"), (0.99, "99 %"), (0.999, "99.9 %"))
                    ),
                    width=THIRD,
                    minimum=0,
                    runbooks=("ScoresTooSlow",),
                ),
                Panel(
                    "Scores per second",
                    "By instance.",
                    "short",
                    one(f"sum by (instance) (rate({_ALL}{{{_SCORES}}}[$__rate_interval]))", "{{instance}}"),
                    width=THIRD,
                    minimum=0,
                ),
            ),
        ),
    ),
)
"""How the pipeline keeps its promise."""
