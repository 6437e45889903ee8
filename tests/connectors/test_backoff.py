from hypothesis import given
from hypothesis import strategies as st

from connectors.backoff import Backoff


def test_without_jitter_every_wait_is_the_floor():
    backoff = Backoff(0.5, 30.0)

    assert [backoff.next_delay_seconds(0.0) for _ in range(4)] == [0.5, 0.5, 0.5, 0.5]


def test_with_most_jitter_the_waits_double_up_to_the_ceiling():
    backoff = Backoff(0.5, 30.0)

    assert [backoff.next_delay_seconds(1.0) for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_after_a_reset_the_waits_begin_afresh():
    backoff = Backoff(0.5, 30.0)
    for _ in range(5):
        backoff.next_delay_seconds(1.0)

    backoff.reset()

    assert (backoff.failures, backoff.next_delay_seconds(1.0)) == (0, 1.0)


@given(
    first=st.floats(0.001, 100.0),
    longest=st.floats(0.001, 1e6),
    jitters=st.lists(st.floats(0.0, 1.0, exclude_max=True), max_size=100),
)
def test_a_wait_is_never_under_the_floor_nor_above_the_ceiling(first, longest, jitters):
    backoff = Backoff(first, longest)

    waits = [backoff.next_delay_seconds(jitter) for jitter in jitters]

    assert all(min(first, longest) <= wait <= longest * (1 + 1e-12) for wait in waits)


def test_thousands_of_failures_do_not_overflow():
    assert Backoff(0.5, 30.0, failures=100_000).next_delay_seconds(0.5) == 15.25
