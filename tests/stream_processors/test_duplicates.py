"""Recent ids: exact within the horizon, bounded beyond it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_processors import duplicates
from stream_processors.duplicates import HORIZON_IDS, RecentIds


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=10))
def test_an_id_is_fresh_once(batches: list[list[int]]) -> None:
    """Within the horizon, the first sight of an id is fresh and every later one is not."""
    recent, seen = RecentIds(), set()
    for batch in batches:
        expected = [one not in seen and not seen.add(one) for one in batch]
        assert recent.fresh(np.array(batch, np.uint64)).tolist() == expected


def test_memory_is_bounded_and_the_oldest_are_forgotten() -> None:
    """Past a million ids the oldest segments go."""
    recent = RecentIds()
    for first in range(0, HORIZON_IDS + 200_000, 50_000):
        recent.fresh(np.arange(first, first + 50_000, dtype=np.uint64))
    assert sum(map(len, recent.segments)) <= HORIZON_IDS + duplicates._SEGMENT_IDS
    assert recent.fresh(np.array([0, HORIZON_IDS + 199_999], np.uint64)).tolist() == [True, False]
