"""The time of a device whose clock is wrong, by the time at which it says that it sent the event."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.collector.clock import TOLERANCE_MS, repaired
from producers.event import ClientEvent, from_json
from schemas.reasons import FUTURE_MAX_MS, BadRecordError

NOW = 1_790_000_000_000
HOUR = 3_600_000
TIMES = st.integers(1, 2**42)
SKEWS = st.integers(-(2**40), 2**40)


def event(timestamp: int, sent_at: int | None) -> ClientEvent:
    told = {
        "event_id": "e",
        "event_type": "play",
        "user_id": "u",
        "track_id": "t",
        "platform": "p",
        "timestamp": timestamp,
        "sent_at": sent_at,
        "device_timestamp": 17,
    }
    return from_json(json.dumps(told).encode(), NOW, repaired)


@given(TIMES, TIMES, SKEWS)
def test_a_wrong_clock_moves_the_time_by_its_skew(timestamp: int, sent_at: int, skew: int) -> None:
    """Corrected less device time is received_at less sent_at; within the tolerance nothing is corrected."""
    corrected, device = repaired(timestamp, sent_at, sent_at + skew)
    if abs(skew) <= TOLERANCE_MS:
        assert (corrected, device) == (timestamp, None)
    else:
        assert device == timestamp
        assert corrected - timestamp == skew


@given(TIMES, st.integers(0, 10**10), SKEWS)
def test_what_was_long_ago_stays_long_ago(sent_at: int, age: int, skew: int) -> None:
    """An event told hours after it happened is as long before its receipt, by whatever clock the device has."""
    received_at = sent_at + skew
    corrected, _ = repaired(sent_at - age, sent_at, received_at)
    assert abs((received_at - corrected) - age) <= TOLERANCE_MS


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "kept", "device"),
    [
        (NOW - 5_000, None, NOW - 5_000, None),
        (NOW - 5_000, NOW - 4_000, NOW - 5_000, None),
        (NOW - 5 * HOUR, NOW - 10_000, NOW - 5 * HOUR, None),
        (NOW + 26 * HOUR, NOW + 26 * HOUR, NOW, NOW + 26 * HOUR),
        (NOW - 30 * HOUR, NOW - 28 * HOUR, NOW - 2 * HOUR, NOW - 30 * HOUR),
        (100_000, 160_000, NOW - 60_000, 100_000),
    ],
)
def test_the_repaired_time_is_kept_and_judged(
    timestamp: int, sent_at: int | None, kept: int, device: int | None
) -> None:
    """Devices fast, slow, or woken up in 1970, and offline uploads; a client cannot tell a repair itself."""
    found = event(timestamp, sent_at)
    assert (found.timestamp, found.device_timestamp) == (kept, device)


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "reason"),
    [
        (NOW + FUTURE_MAX_MS + 1, None, "future_timestamp"),
        (NOW, NOW - 2 * HOUR, "future_timestamp"),
        (5, NOW + HOUR, "bad_timestamp"),
        (NOW, 253_402_300_800_000, "bad_timestamp"),
        (253_402_300_800_000, 253_402_300_799_999, "bad_timestamp"),
    ],
)
def test_an_impossible_repaired_time_is_refused(timestamp: int, sent_at: int | None, reason: str) -> None:
    """The rules are judged on the repaired time: neither the future, nor before 1970, nor beyond the year 9999."""
    with pytest.raises(BadRecordError) as caught:
        event(timestamp, sent_at)
    assert caught.value.reason.value == reason
