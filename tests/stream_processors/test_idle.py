"""Idle partitions are moved on by watermark records, and only they."""

from __future__ import annotations

from schemas.event_time import Windows
from stream_processors.idle import Idle

T = 1_700_000_040_000
HOUR_MS = 3_600_000


def idle(partitions: int = 3) -> Idle:
    return Idle(Windows(60_000, 10_000), list(range(partitions)), 5_000, HOUR_MS, now_ms=T)


def test_a_partition_without_events_follows_the_slowest_active_one() -> None:
    """Partition 2 has never seen an event; after the idle time it is taken to the time that 0 and 1 have reached."""
    watch = idle()
    watch.saw({0: T + 200_000, 1: T + 100_000}, T)
    assert watch.due(T + 4_999) == {}
    watch.saw({0: T + 300_000, 1: T + 150_000}, T + 4_999)
    assert watch.due(T + 5_000) == {2: T + 150_000}
    assert watch.due(T + 5_001) == {}


def test_time_goes_on_with_the_wall_clock_when_all_are_quiet() -> None:
    """The last windows close one minute and the grace after the last event, and a record is written once a window."""
    watch = idle(1)
    watch.saw({0: T}, T)
    assert watch.due(T + 9_000) == {}
    assert watch.due(T + 10_000) == {0: T + 10_000}
    assert watch.due(T + 69_999) == {}
    assert watch.due(T + 70_000) == {0: T + 70_000}


def test_time_stops_after_the_horizon() -> None:
    """A pipeline that stays quiet for days writes no watermark record a minute for ever."""
    watch = idle(1)
    watch.saw({0: T}, T)
    assert watch.due(T + 50 * HOUR_MS) == {0: T + HOUR_MS}
    assert watch.due(T + 90 * HOUR_MS) == {}


def test_the_echo_of_a_watermark_record_is_no_movement() -> None:
    """A partition that only reports the time it was moved to stays idle."""
    watch = idle(1)
    watch.saw({0: T}, T)
    (target,) = watch.due(T + 70_000).values()
    watch.saw({0: target}, T + 71_000)
    assert watch.due(T + 130_000) == {0: T + 130_000}


def test_nothing_is_written_before_the_first_event() -> None:
    """Without any event there is no time to go on from."""
    assert idle().due(T + HOUR_MS) == {}
