from __future__ import annotations

import io

import pytest
from rich.console import Console
from view_events import (
    alert,
    at,
    cascade,
    dead_letter,
    feeds,
    gap,
    liquidation,
    miner_day,
    pressure,
    reading,
    score,
    status,
    windows,
)

from market.feeds import Sight
from market.raw import FeedState
from market.readings import CascadePhase, Severity
from views.board import Board
from views.live import render, usd

PLACES = {"tables": "/data/tables", "metrics": "http://127.0.0.1:9464/metrics"}


def shown(*events, at_s=0.0, rows_written=None):
    """The view's lines after these events, each with its runs of spaces folded into one."""
    board = Board()
    board.observe(events)
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(render(board.read(), now_us=at(at_s), rows_written=rows_written or {}, places=PLACES))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def row_of(name, lines):
    """The cells of the row that begins with a name."""
    (line,) = (line for line in lines if line.startswith((f"│{name} ", f"│ {name} ")))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_with_nothing_known_it_says_so_and_says_where_everything_is():
    lines = shown()

    assert "Liquidations and scores" in lines
    assert "Feeds" in lines
    assert "│ no cascade, alert or gap yet │" in lines
    assert lines[-3:] == [
        "rows written: none yet",
        "dead letters: none",
        "tables: /data/tables metrics: http://127.0.0.1:9464/metrics",
    ]


def test_an_asset_of_which_everything_is_known():
    known = score(
        risk=72,
        severity=Severity.CRITICAL,
        cascades=(7.25, 0.0),
        windows=windows(long_usd=6_250_000, short_usd=12_500),
        derivatives=reading(),
        pressure=pressure(-42),
        miners=miner_day(1.37),
    )

    assert row_of("BTC", shown(known, at_s=3)) == [
        "BTC",
        "6.25 M",
        "12.50 k",
        "97,123.4",
        "+6.25 %",
        "+0.0125 %",
        "2.40",
        "72",
        "7.2",
        "-42",
        "1.37",
        "critical",
        "3 s",
        "",
    ]


def test_an_asset_of_which_nothing_is_known():
    missing = ("funding", "open_interest")

    cells = row_of("ETH", shown(score("ETH", missing_inputs=missing)))

    assert cells == ["ETH", *["–"] * 6, "0", "–", "–", "–", "none", "0 s", "funding, open_interest"]


def test_inputs_that_know_nothing_are_dashes_never_zeros():
    nothing = reading(
        mark_price=None,
        funding_rate_8h=None,
        long_short_ratio=None,
        open_interest_changes_percent=(None, None, None),
    )
    unknown = score(windows=windows(), derivatives=nothing, pressure=pressure(None), miners=miner_day())

    cells = row_of("BTC", shown(unknown))

    assert cells[1:7] == ["0", "0", "–", "–", "–", "–"]
    assert cells[9:11] == ["–", "1.37"]


def test_the_miners_multiple_is_a_dash_until_its_fit_has_a_history():
    miners = miner_day()
    miners.fits.clear()

    assert row_of("BTC", shown(score(miners=miners)))[10] == "–"


def test_the_age_of_a_score_is_never_negative():
    assert row_of("BTC", shown(score(at_s=5), at_s=4.9))[12] == "0 s"


def test_assets_come_by_risk_then_by_their_90_second_sums_and_the_quietest_are_counted():
    scores = [score(f"COIN{number}", risk=number) for number in range(20)]
    busy = score("BUSY", risk=0, windows=windows(long_usd=5))

    lines = shown(busy, *scores)
    assets = [line.split()[0].strip("│") for line in lines if line.startswith(("│COIN", "│BUSY"))]

    assert assets == [f"COIN{number}" for number in range(19, 5, -1)]
    assert "and 7 quieter assets, all in the table scores" in lines
    assert [line.split()[0].strip("│") for line in shown(score("CALM"), busy) if "none" in line][:2] == ["BUSY", "CALM"]


def test_a_feed_that_is_up():
    lines = shown(status(), liquidation(0, delay_s=0.25), at_s=7)

    assert row_of("okx", lines) == ["okx", "connected", "1", "0.25 s", "7 s ago"]


def test_venues_whose_liquidations_are_missing_stand_together_and_not_at_all_where_all_are():
    two = ("pressure", "liquidations:gate", "liquidations:okx")

    def not_known(*names):
        lines = shown(score("ETH", missing_inputs=names))
        rows = lines[: lines.index("Feeds")]
        return " ".join(line.strip("│").split("│")[-1].strip() for line in rows if line.startswith("│")).strip()

    assert not_known(*two) == "pressure, liquidations of gate okx"
    assert not_known("liquidations", *two) == "liquidations, pressure"


def test_a_feed_that_is_connected_and_silent_is_not_called_connected():
    silent = [status(), liquidation(0), feeds(5, okx=Sight.SILENT)]

    assert row_of("okx", shown(*silent, at_s=65))[1] == "connected, silent for 60 s while others are not"
    assert row_of("okx", shown(*silent, feeds(6, okx=Sight.SEEING), at_s=7))[1] == "connected"


def test_a_silent_feed_is_the_worse_trouble_than_a_poll_that_fails():
    failed = status(FeedState.POLL_FAILED, feed="okx/depth/BTC", connection="poll", reason="HTTP 500")

    assert row_of("okx", shown(failed, feeds(0, okx=Sight.SILENT), at_s=1))[1].startswith("connected, silent")


def test_a_feed_that_was_never_connected_says_so():
    assert row_of("okx", shown(feeds(0, "not connected yet", okx=Sight.BLIND)))[1] == "not connected yet"


def test_a_feed_that_has_had_no_liquidation_for_a_minute_is_called_quiet():
    assert row_of("okx", shown(status(), liquidation(0), at_s=60))[1] == "connected"
    assert row_of("okx", shown(status(), liquidation(0), at_s=61))[1] == "connected, quiet"


def test_a_source_without_liquidations_has_no_pace():
    answered = status(FeedState.POLL_ANSWERED, feed="ethereum/logs", connection="poll")

    assert row_of("ethereum", shown(answered, at_s=500)) == ["ethereum", "connected", "–", "–", "–"]


def test_a_feed_in_trouble_shows_the_first_and_counts_the_others():
    lost = status(FeedState.LOST, reason="no data for 60 s")
    refused = status(FeedState.REFUSED, connection="2", reason="HTTP 451")
    fine = status(connection="3")

    assert row_of("okx", shown(lost, fine))[1] == "okx/liquidations 1: lost: no data for 60 s"
    assert row_of("okx", shown(fine, lost, refused))[1] == "okx/liquidations 1: lost: no data for 60 s (+1 more)"


def test_news_are_sentences_newest_first():
    lines = shown(cascade(at_s=1), alert(2), gap(3), cascade(CascadePhase.ENDED, 92))
    cascade_words = "6.25 M USD in 90 s, 7.00 M in all, 12 liquidations on bybit-linear, okx"

    news = [line.strip("│ ") for line in lines if line.startswith("│ 12:")]

    assert news == [
        f"12:01:32 BTC long cascade ended: {cascade_words}",
        "12:00:03 okx/liquidations saw nothing for 4.5 s: connection lost",
        "12:00:02 BTC alert firing: BTC risk 55 (funding 30, liquidations 20)",
        f"12:00:01 BTC long cascade began: {cascade_words}",
    ]


def test_the_foot_says_what_was_written_and_what_could_not_be_used():
    letters = [dead_letter(), dead_letter(), dead_letter("", "MalformedFrameError")]

    lines = shown(*letters, rows_written={"scores": 1_234, "liquidations": 56})

    assert lines[-3:-1] == [
        "rows written: liquidations 56, scores 1,234",
        "dead letters: okx: UnknownSymbolError 2, MalformedFrameError 1",
    ]


def test_words_of_the_outside_are_shown_as_they_are():
    odd = status(FeedState.REFUSED, reason="[/red] said [bold]no")

    assert row_of("okx", shown(odd))[1] == "okx/liquidations 1: refused: [/red] said [bold]no"


@pytest.mark.parametrize(
    ("micros", "said"),
    [
        (None, "–"),
        (0, "0"),
        (999_400_000, "999"),
        (1_000_000_000, "1.00 k"),
        (1_250_000_000_000, "1.25 M"),
        (19_200_000_000_000_000, "19.20 B"),
    ],
)
def test_dollars_are_said_as_people_say_them(micros, said):
    assert usd(micros) == said
