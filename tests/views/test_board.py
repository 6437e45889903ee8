from __future__ import annotations

from collections import Counter

from view_events import alert, at, cascade, cause, dead_letter, feeds, gap, liquidation, score, status

from market.feeds import FeedSight, Sight
from market.raw import FeedState, Tick
from market.readings import CascadePhase
from views.board import Board, BoardReading, VenueState


def board(*events):
    followed = Board()
    followed.observe(events)
    return followed


def connections(*statuses):
    return {name: venue.connections for name, venue in board(*statuses).read().venues.items()}


def test_an_empty_board_knows_nothing():
    assert Board().read() == BoardReading(scores={}, venues={}, news=[], dead_letters=Counter(), newest_us=0)


def test_a_venue_is_known_by_its_newest_liquidation():
    reading = board(liquidation(1, delay_s=0.5), liquidation(3, delay_s=0.2), liquidation(2, "bybit-linear")).read()

    assert reading.venues == {
        "okx": VenueState({}, liquidations=2, lag_us=200_000, last_event_us=at(3)),
        "bybit-linear": VenueState({}, liquidations=1, lag_us=250_000, last_event_us=at(2)),
    }


def test_what_can_be_seen_of_a_venue_is_what_was_said_last():
    reading = board(liquidation(1), feeds(2, okx=Sight.SILENT, gate=Sight.BLIND), feeds(3, okx=Sight.SEEING)).read()

    assert {name: venue.sight for name, venue in reading.venues.items()} == {
        "okx": FeedSight(Sight.SEEING, at(3), ""),
        "gate": FeedSight(Sight.BLIND, at(2), "silent: connected, and …"),
    }
    assert reading.venues["okx"].liquidations == 1


def test_the_newest_score_of_each_asset_is_kept():
    older, newer, other = score(at_s=1), score(at_s=2, risk=40), score("ETH", at_s=1)

    assert board(older, other, newer).read().scores == {"BTC": newer, "ETH": other}


def test_a_connection_is_trouble_until_it_is_up_again():
    lost = status(FeedState.LOST, reason="no data for 60 s")
    refused = status(FeedState.REFUSED, connection="2", reason="HTTP 451")

    assert connections(status(), lost, refused) == {
        "okx": {"okx/liquidations 1": "lost: no data for 60 s", "okx/liquidations 2": "refused: HTTP 451"}
    }
    assert connections(lost, status()) == {"okx": {"okx/liquidations 1": ""}}


def test_a_poll_that_failed_is_trouble_until_it_answers():
    failed = status(FeedState.POLL_FAILED, feed="ethereum/logs", connection="poll", reason="HTTP 429")
    answered = status(FeedState.POLL_ANSWERED, feed="ethereum/logs", connection="poll", reason="")

    assert connections(failed) == {"ethereum": {"ethereum/logs poll": "poll_failed: HTTP 429"}}
    assert connections(failed, answered) == {"ethereum": {"ethereum/logs poll": ""}}


def test_a_connection_that_was_replaced_is_forgotten_and_no_trouble():
    replaced = status(FeedState.LOST, reason="replaced")

    assert connections(status(), status(connection="1b"), replaced, replaced) == {"okx": {"okx/liquidations 1b": ""}}


def test_the_last_eight_news_are_kept_in_order():
    news = [cascade(), *(gap(at_s) for at_s in range(5)), alert(6), cascade(CascadePhase.ENDED, 7), gap(8)]

    assert board(*news).read().news == news[1:]


def test_dead_letters_are_counted_by_venue_and_kind():
    letters = [dead_letter(), dead_letter(), dead_letter("bybit-linear"), dead_letter("", "MalformedFrameError")]

    assert board(*letters).read().dead_letters == Counter(
        {"okx: UnknownSymbolError": 2, "bybit-linear: UnknownSymbolError": 1, "MalformedFrameError": 1}
    )


def test_the_newest_moment_is_the_newest_of_any_event():
    assert board(liquidation(5), Tick(cause(7)), score(at_s=6)).read().newest_us == at(7)


def test_a_reading_does_not_change_with_what_comes_after_it():
    followed = board(score(), status(), liquidation(), cascade(), dead_letter())
    before, again = followed.read(), followed.read()

    followed.observe([score(risk=9), status(FeedState.LOST), liquidation(9), gap(9), dead_letter(), score("ETH")])

    assert before == again
    assert followed.read() != before
