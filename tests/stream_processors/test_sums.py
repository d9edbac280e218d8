"""Numbers of 32 bits in the events, sums of 64 in the windows."""

from __future__ import annotations

from typing import Any

from tests.stream_processors.logs import START_MS
from tests.stream_processors.test_partition import run

MEDIA_MAX_MS = 604_800_000


def test_sums_above_32_bits_do_not_wrap() -> None:
    """Trap 6: polars adds Int32 up with silent wrap-around; forty weeks of listening are more than that holds."""
    entries: list[Any] = [
        {
            "event_id": f"e{i}",
            "event_type": "pause",
            "user_id": "ann",
            "track_id": "t1",
            "timestamp": START_MS,
            "platform": "custom",
            "ms_played": MEDIA_MAX_MS,
            "tenant": "default",
            "source": "replay",
            "received_at": START_MS,
        }
        for i in range(40)
    ]
    windows, _, _ = run(entries, [7, 23])
    assert {number for counts in windows.values() for number in counts if number > 1_000} == {40 * MEDIA_MAX_MS}
