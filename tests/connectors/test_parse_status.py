"""The process's own frames: what became of connections and polls."""

import msgspec
import pytest

from connectors.sources.frame import STATUS_FEED, Frame
from connectors.sources.inbox import StatusPayload
from connectors.sources.parse import parse
from market.raw import Cause, DeadLetter, FeedState, FeedStatus

CAUSE = Cause("0", 7, 1_791_565_700_000_000)


def test_a_status_is_read_as_it_was_written():
    written = StatusPayload("okx/liquidations", "all", FeedState.LOST, "stale")

    events = parse(Frame(STATUS_FEED, msgspec.json.encode(written), CAUSE))

    assert events == [FeedStatus(CAUSE, "okx/liquidations", "all", FeedState.LOST, "stale")]


def test_a_status_may_say_until_when_a_connection_saw():
    written = StatusPayload("okx/liquidations", "all", FeedState.LOST, "stale", 1_791_565_699_000_000)

    events = parse(Frame(STATUS_FEED, msgspec.json.encode(written), CAUSE))

    assert events == [FeedStatus(CAUSE, "okx/liquidations", "all", FeedState.LOST, "stale", 1_791_565_699_000_000)]


NEVER = b'{"feed":"a/b","connection":"1","state":"lost","reason":"","seen_until_us":-1}'


@pytest.mark.parametrize("payload", [NEVER, b"", b"{}", b'{"feed":"\x9d"}', b'{"x":' + b'{"a":' * 3_000, b'{"feed":1}'])
def test_what_is_no_status_is_malformed_and_kept_whole(payload):
    (letter,) = parse(Frame(STATUS_FEED, payload, CAUSE))

    assert isinstance(letter, DeadLetter)
    assert (letter.venue, letter.error, letter.payload) == ("status", "MalformedFrameError", payload)
