"""Repairs the time of an event whose device has a wrong clock, by the time at which it says that it sent the event."""

from __future__ import annotations

TOLERANCE_MS = 10_000
"""A smaller difference is network, batching and queueing, not a wrong clock: correcting it would only add noise."""


def repaired(timestamp_ms: int, sent_at_ms: int, received_at_ms: int) -> tuple[int, int | None]:
    """(time of the event by our clock, the device's own time of it or None when that is right).

    The skew is `received_at` - `sent_at`, both milliseconds since 1970, and moves the time of the event as well: what
    happened two hours before it was sent stays two hours before it was received.
    """
    skew_ms = received_at_ms - sent_at_ms
    if -TOLERANCE_MS <= skew_ms <= TOLERANCE_MS:
        return timestamp_ms, None
    return timestamp_ms + skew_ms, timestamp_ms
