"""How many events a key may send: a token bucket each, told in the RateLimit fields of the IETF draft."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from producers.collector.keyring import Client
from producers.collector.problems import ProblemError

WINDOW_S = 10
"""A bucket holds the events of so many seconds: a burst that long is welcome."""

POLICY = "events"


class Bucket:
    """A token bucket. A request is let in while it is not empty and takes a token an event, below zero if need be.

    So no batch is too large to pass, the rate holds on average, and what was taken at once delays what follows.
    """

    def __init__(self, rate_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate_per_s, clock
        self._capacity = rate_per_s * WINDOW_S
        self._tokens, self._at_s = float(self._capacity), clock()

    def require(self) -> None:
        """Raises ProblemError 429 while the bucket is empty."""
        if self._left() >= 1:
            return
        wait_s = math.ceil((1 - self._tokens) / self._rate)
        detail = f"This key may send {self._rate} events a second: send again in {wait_s} s."
        raise ProblemError(429, detail, Retry_After=str(wait_s))

    def take(self, events: int) -> None:
        """Takes a token an event."""
        self._tokens = self._left() - events

    def headers(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit, as draft-ietf-httpapi-ratelimit-headers-11 writes them."""
        left = self._left()
        full_in_s = math.ceil((self._capacity - left) / self._rate)
        return {
            "RateLimit-Policy": f'"{POLICY}";q={self._capacity};qu="events";w={WINDOW_S}',
            "RateLimit": f'"{POLICY}";r={max(0, math.floor(left))};t={full_in_s}',
        }

    def _left(self) -> float:
        now_s = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return self._tokens


class Limits:
    """A bucket for each key."""

    def __init__(self, rate_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate_per_s, clock
        self._buckets: dict[Client, Bucket] = {}

    def of(self, client: Client) -> Bucket:
        """The bucket of a key; its own rate comes before that of the settings."""
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = Bucket(client.rate_per_s or self._rate, self._clock)
        return bucket
