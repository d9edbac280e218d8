"""Lateness is a function of the log alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.event_time import Windows, ahead

WINDOWS = Windows(60_000, 10_000)


@given(st.lists(st.integers(0, 500_000), max_size=50), st.integers(0, 50))
def test_judging_in_two_pieces_is_judging_at_once(timestamps: list[int], cut: int) -> None:
    """Where a log is cut into chunks changes neither what is late nor the clock."""
    whole = np.array(timestamps, np.int64)
    late, before, clock = WINDOWS.judge(whole, 0)
    first, first_before, middle = WINDOWS.judge(whole[:cut], 0)
    second, second_before, last = WINDOWS.judge(whole[cut:], middle)
    assert [*first, *second] == late.tolist()
    assert [*first_before, *second_before] == before.tolist()
    assert last == clock


def test_a_window_takes_events_until_its_grace_is_over() -> None:
    """The event that arrives when stream time is one millisecond before end plus grace is in time; then it is late."""
    for clock, expected in ((69_999, False), (70_000, True)):
        assert WINDOWS.judge(np.array([59_999]), clock)[0].tolist() == [expected]
        assert WINDOWS.judge(np.array([60_000]), clock)[0].tolist() == [False]


def test_a_clock_may_be_an_hour_ahead_of_the_arrival() -> None:
    """One millisecond more is too much; where the broker told no arrival, nothing is judged."""
    hour = 3_600_000
    times = np.array([hour + 5, hour + 6, 0, hour * 99], np.int64)
    assert ahead(times, np.array([5, 5, hour, -1], np.int64)).tolist() == [False, True, False, False]
