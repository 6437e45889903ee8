"""The words in which a failure is told hold no secret, wherever in them a server repeated one."""

import pytest

from connectors.secrets import SECRETS
from connectors.sinks.health import HealthState
from connectors.sources.jsonrpc_node import NodeError
from connectors.sources.polling import PollError
from connectors.sources.reconnecting import refusal_words

KEY = "4d5e6f-planted-in-reasons"
SECRETS.know([KEY])


@pytest.mark.parametrize("error", [PollError, NodeError])
def test_an_errors_reason_is_clean_before_anybody_reads_it(error):
    failure = error(f"Cannot GET /{KEY}/x")

    assert (failure.reason, str(failure)) == ("Cannot GET /…/x", "Cannot GET /…/x")


@pytest.mark.parametrize("before", range(170, 215, 3))
def test_nothing_of_a_secret_stays_where_a_reason_is_cut(before):
    """Cut first, and half a key would be left that is not recognised any more."""
    said = "x" * before + KEY

    assert KEY[:4] not in NodeError(said).reason
    assert KEY[:4] not in refusal_words(500, "", said.encode())


def test_code_phrase_and_answer_are_clean():
    assert refusal_words(403, f"not {KEY}", f"for {KEY}".encode()) == "HTTP 403 not … (blocked here?): for …"


def test_what_is_served_of_a_commit_that_failed_is_clean():
    state = HealthState()

    state.commit_failed("scores", "OSError", f"no such user {KEY}")

    assert state.commit_errors() == {"scores": "OSError: no such user …"}
