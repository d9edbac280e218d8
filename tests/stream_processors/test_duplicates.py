"""Recent ids: exact within the horizon, bounded beyond it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.duplicates import HORIZON_IDS, HORIZON_MS, RecentIds


def restarted(recent: RecentIds) -> RecentIds:
    return RecentIds({name: segment.data() for name, segment in recent.segments().items()})


@given(st.lists(st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 50), max_size=20), max_size=10), st.booleans())
@settings(deadline=None)
def test_an_id_is_fresh_once(batches: list[list[int]], restart: bool) -> None:
    """Within the horizon, the first sight of an id is fresh and every later one is not, restarts or not."""
    recent, seen = RecentIds(), set[int]()
    for batch in batches:
        expected = [one not in seen and not seen.add(one) for one in batch]  # type: ignore[func-returns-value]
        assert recent.fresh(np.array(batch, np.uint64), 0).tolist() == expected
        recent = restarted(recent) if restart else recent


def test_many_ids_that_fall_on_one_place_are_told_apart() -> None:
    """Ids that begin at one place of the table are found one behind the other."""
    golden_inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    ids = np.array([i * golden_inverse % 2**64 for i in range(1, 500)], np.uint64)
    recent = RecentIds()
    assert recent.fresh(ids, 0).all()
    assert not recent.fresh(ids[::-1].copy(), 0).any()


def test_memory_is_bounded_and_the_oldest_are_forgotten() -> None:
    """At least half a million ids are known, and at most twice as many are kept."""
    recent = RecentIds()
    for first in range(1, 3 * HORIZON_IDS, 50_000):
        recent.fresh(np.arange(first, first + 50_000, dtype=np.uint64), 0)
        assert len(recent) <= 2 * HORIZON_IDS + 100_000
    newest = first + 50_000
    assert not recent.fresh(np.arange(newest - HORIZON_IDS, newest, dtype=np.uint64), 0).any()
    assert recent.fresh(np.array([1], np.uint64), 0).all()


def test_an_hour_after_its_arrival_an_id_is_forgotten_at_the_next_but_one_change() -> None:
    """An id is known for an hour, and for two at the most."""
    recent, one = RecentIds(), np.array([1], np.uint64)
    recent.fresh(one, 0)
    assert not recent.fresh(one, HORIZON_MS)
    recent.fresh(np.array([2], np.uint64), 2 * HORIZON_MS)
    assert recent.fresh(one, 2 * HORIZON_MS)


def test_a_snapshot_shares_the_memory_of_the_ids() -> None:
    """Ids that are not written again are not copied again: the state is the bytes that the snapshot holds."""
    recent = RecentIds()
    recent.fresh(np.arange(1, 100_000, dtype=np.uint64), 0)
    before = {name: segment.data() for name, segment in recent.segments().items()}
    recent.fresh(np.array([100_000], np.uint64), 0)
    after = {name: segment.data() for name, segment in recent.segments().items()}
    assert [after[name] is data for name, data in before.items()] == [True, True, True, False]
