"""The token bucket of a key, and what it tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.collector.keyring import Client
from producers.collector.problems import ProblemError
from producers.collector.rate import WINDOW_S, Bucket, Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_empty_bucket_says_when_to_come_again() -> None:
    """A request that empties the bucket passes; the next is told to wait for exactly as long as it takes."""
    clock = Clock()
    bucket = Bucket(10, clock)
    assert bucket.headers() == {
        "RateLimit-Policy": '"events";q=100;qu="events";w=10',
        "RateLimit": '"events";r=100;t=0',
    }
    bucket.require()
    bucket.take(119)
    assert bucket.headers()["RateLimit"] == '"events";r=0;t=12'
    with pytest.raises(ProblemError) as caught:
        bucket.require()
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "2"})
    clock.now += 1.9
    with pytest.raises(ProblemError):
        bucket.require()
    clock.now += 0.1
    bucket.require()


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5000)), max_size=50))
def test_the_rate_holds(rate: int, requests: list[tuple[float, int]]) -> None:
    """Whatever is sent and when: never more than a full bucket, what has flowed in, and the last request."""
    clock = Clock()
    bucket, taken, last = Bucket(rate, clock), 0, 0
    for pause, events in requests:
        clock.now += pause
        try:
            bucket.require()
        except ProblemError:
            continue
        bucket.take(events)
        taken, last = taken + events, events
    assert taken - last <= rate * (WINDOW_S + clock.now) + 1


def test_each_key_has_its_own_bucket() -> None:
    """A key's own rate comes before that of the settings, and one key's burst is not another's."""
    limits = Limits(5, Clock())
    limits.of(Client("a", id="1")).take(50)
    with pytest.raises(ProblemError):
        limits.of(Client("a", id="1")).require()
    limits.of(Client("a", id="2")).require()
    assert "q=20;" in limits.of(Client("a", id="3", rate_per_s=2)).headers()["RateLimit-Policy"]
