import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import clock
from connectors.sources.feed import RateLimit
from connectors.sources.rate_limit import RateLimiter, TokenBucket

TWENTY_PER_TWO_SECONDS = RateLimit(weight=20, per_seconds=2.0)


def test_half_the_limit_may_be_spent_at_once():
    bucket = TokenBucket(TWENTY_PER_TWO_SECONDS)
    for _ in range(10):
        assert bucket.wait_seconds(1, 100.0) == 0.0
        bucket.take(1, 100.0)

    assert bucket.wait_seconds(1, 100.0) == pytest.approx(0.2)


def test_the_other_half_refills_over_the_period():
    bucket = TokenBucket(TWENTY_PER_TWO_SECONDS)
    bucket.take(10, 100.0)

    assert bucket.wait_seconds(10, 101.0) == pytest.approx(1.0)
    assert bucket.wait_seconds(10, 102.0) == 0.0
    assert bucket.wait_seconds(10, 1000.0) == 0.0


def test_a_call_heavier_than_the_bucket_waits_for_a_full_one_and_leaves_a_debt():
    bucket = TokenBucket(TWENTY_PER_TWO_SECONDS)
    assert bucket.wait_seconds(15, 0.0) == 0.0
    bucket.take(15, 0.0)

    assert bucket.wait_seconds(1, 0.0) == pytest.approx(1.2)


def test_a_pause_holds_everything_back_and_is_never_shortened():
    bucket = TokenBucket(TWENTY_PER_TWO_SECONDS)
    bucket.pause_until(50.0)
    bucket.pause_until(20.0)

    assert [bucket.wait_seconds(1, now) for now in (0.0, 49.0, 50.0)] == [50.0, 1.0, 0.0]


def test_a_clock_that_falls_refills_nothing():
    bucket = TokenBucket(TWENTY_PER_TWO_SECONDS)
    bucket.take(10, 100.0)

    assert bucket.wait_seconds(1, 90.0) == pytest.approx(0.2)


@given(
    calls=st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 10)), max_size=60),
)
def test_no_stretch_of_the_period_sees_more_than_the_limit(calls):
    bucket = TokenBucket(TWENTY_PER_TWO_SECONDS)
    now, granted = 0.0, []
    for pause, weight in calls:
        now += pause
        while (wait := bucket.wait_seconds(weight, now)) > 0.0:
            now += max(wait, 1e-9)
        bucket.take(weight, now)
        granted.append((now, weight))

    for start, _weight in granted:
        assert sum(weight for time, weight in granted if start <= time < start + 2.0) <= 20 + 1e-6


def test_waiting_calls_are_served_in_order_of_arrival():
    served = []

    async def scenario():
        limiter = RateLimiter(RateLimit(weight=2, per_seconds=0.02))

        async def call(name, weight):
            await limiter.acquire(weight)
            served.append(name)

        await asyncio.gather(*(call(name, weight) for name, weight in [("a", 1), ("b", 2), ("c", 1), ("d", 1)]))

    asyncio.run(scenario())

    assert served == ["a", "b", "c", "d"]


def test_a_pause_also_holds_back_who_already_waits():
    async def scenario():
        limiter = RateLimiter(RateLimit(weight=2, per_seconds=0.1))
        await limiter.acquire(1)
        start = clock.monotonic_seconds()
        waiting = asyncio.ensure_future(limiter.acquire(1))
        await asyncio.sleep(0)
        limiter.pause_until(start + 0.3)
        await waiting
        return clock.monotonic_seconds() - start

    assert asyncio.run(scenario()) >= 0.3


def test_who_gives_up_waiting_lets_the_next_one_in():
    async def scenario():
        limiter = RateLimiter(RateLimit(weight=2, per_seconds=0.1))
        await limiter.acquire(1)
        impatient = asyncio.ensure_future(limiter.acquire(1))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait_for(limiter.acquire(1), 1.0)
        return impatient.cancelled()

    assert asyncio.run(scenario())
