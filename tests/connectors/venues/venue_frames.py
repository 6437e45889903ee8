"""The vocabulary of the venues' tests: frames, fixtures, and what no parser may do whatever it is handed."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st
from property_examples import UNICODE

from connectors.sources.frame import Frame, FrameError
from market.raw import Cause, RawInstrument, RawRefusal

RECEIVED_US = 1_791_565_700_000_000
CAUSE = Cause("0", 7, RECEIVED_US)

_FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name):
    return (_FIXTURES / name).read_bytes()


def fixtures_of(folder):
    return {f"{folder}/{path.name}" for path in (_FIXTURES / folder).iterdir()}


def frame(feed, payload):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return Frame(feed, payload, CAUSE)


def refusal(error, reason):
    return RawRefusal(CAUSE, error, reason)


def read_or_refuse(parse, feed, payload):
    """Any bytes give events or raise ``FrameError``; anything else fails the test that calls this."""
    try:
        events = parse(Frame(feed, payload, CAUSE))
    except FrameError:
        return
    assert isinstance(events, list)
    assert all(event.cause == CAUSE for event in events)
    for event in events:
        if not isinstance(event, (RawInstrument, RawRefusal)):
            assert 0 <= event.event_time_us < 2**63


HOSTILE_PAYLOADS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 200_000,
    b'{"data":' * 100_000,
    b'{"x":' + b"[" * 200_000,
    b"\xff\xfe",
    b'{"e":"\xff"}',
    b'{"topic":"\xff","op":"\xff","event":"\xff","code":"\xff"}',
    b'{"e":"forceOrder","o":{"s":"A","S":"SELL","ap":"1","z":"1","T":' + b"9" * 5000 + b"}}",
    b'{"retCode":0,"retMsg":"OK","time":1e400,"result":{}}',
    b'{"retCode":0,"retMsg":"OK","time":1}',
    b'{"code":"0"}',
    b'{"code":"0","data":{}}',
    b'"\\ud800"',
]

_ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(UNICODE, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(UNICODE, max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw, names):
    """One fixture with one place in it dropped, doubled or replaced, or cut off somewhere."""
    payload = fixture(draw(st.sampled_from(sorted(names))))
    if not payload.startswith((b"{", b"[")) or draw(st.booleans()):
        return payload[: draw(st.integers(0, len(payload)))]
    return json.dumps(_mutate(draw, json.loads(payload))).encode()


def _mutate(draw, value):
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 5)) == 0:
        return draw(_ANY_JSON)
    key = draw(st.sampled_from(sorted(value))) if isinstance(value, dict) else draw(st.integers(0, len(value) - 1))
    changed = value.copy()
    action = draw(st.sampled_from(["descend", "descend", "descend", "drop", "double"]))
    if action == "drop":
        del changed[key]
    elif action == "double" and isinstance(changed, list):
        changed.append(changed[key])
    else:
        changed[key] = _mutate(draw, changed[key])
    return changed
