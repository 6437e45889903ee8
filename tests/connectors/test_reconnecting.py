from datetime import datetime, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import UNICODE

from connectors.sources.reconnecting import (
    MAX_RETRY_AFTER_SECONDS,
    ReconnectPolicy,
    refusal_words,
    retry_after_seconds,
)

NOON_US = 1_700_000_000_000_000


def test_the_successor_opens_at_95_percent_of_the_lifetime_or_up_to_5_percent_earlier():
    policy = ReconnectPolicy()

    assert policy.replace_after_seconds(1000.0, jitter=0.0) == 950.0
    assert policy.replace_after_seconds(1000.0, jitter=1.0) == pytest.approx(900.0)


def test_retry_after_in_seconds():
    assert retry_after_seconds(" 17 ", now_us=NOON_US) == 17.0


def test_retry_after_as_a_date():
    in_90_seconds = format_datetime(datetime.fromtimestamp(1_700_000_090, timezone.utc), usegmt=True)

    assert retry_after_seconds(in_90_seconds, now_us=NOON_US) == 90.0


def test_a_retry_after_date_without_a_zone_is_utc():
    assert retry_after_seconds("Tue, 14 Nov 2023 22:14:50 -0000", now_us=NOON_US) == 90.0


def test_a_retry_after_date_that_has_passed_is_now():
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT", now_us=NOON_US) == 0.0


def test_a_retry_after_beyond_the_longest_ban_is_cut():
    assert retry_after_seconds("9" * 400, now_us=NOON_US) == MAX_RETRY_AFTER_SECONDS
    assert retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT", now_us=NOON_US) == MAX_RETRY_AFTER_SECONDS


def test_no_retry_after_or_one_that_is_neither_form_says_nothing():
    assert [retry_after_seconds(text, now_us=NOON_US) for text in (None, "", "soon", "-3", "1.5", "²")] == [None] * 6


@given(text=st.text(UNICODE))
def test_any_retry_after_text_gives_a_bounded_wait_or_none(text):
    wait = retry_after_seconds(text, now_us=NOON_US)

    assert wait is None or 0.0 <= wait <= MAX_RETRY_AFTER_SECONDS


@given(
    day=st.integers(-1, 40),
    year=st.integers(0, 10**25),
    hour=st.integers(-1, 30),
    zone=st.sampled_from(["GMT", "+9999", "-0000", "+99999999999999999999", ""]),
)
def test_any_date_like_retry_after_gives_a_bounded_wait_or_none(day, year, hour, zone):
    wait = retry_after_seconds(f"Tue, {day} Nov {year} {hour}:14:50 {zone}", now_us=NOON_US)

    assert wait is None or 0.0 <= wait <= MAX_RETRY_AFTER_SECONDS


def test_a_refusal_is_put_in_one_line():
    assert refusal_words(500, "Internal Server Error", b"<html>\n  <h1>Oops</h1>\n</html>") == (
        "HTTP 500 Internal Server Error: <html> <h1>Oops</h1> </html>"
    )


def test_a_refusal_without_phrase_and_body_is_its_code():
    assert refusal_words(502, "", b"") == "HTTP 502"


def test_a_refusal_for_where_we_are_says_so_and_its_words_are_cut():
    assert refusal_words(451, "", b"\xff" + b"x" * 999) == "HTTP 451 (blocked here?): \N{REPLACEMENT CHARACTER}" + "x" * 199
