"""The set of known ids is a set."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from sinks.batch import HORIZON_DAYS, horizons
from sinks.seen import SeenIds, hashes

# few distinct numbers, so that hits are common; the ends of the range, because a search may fall off them
NUMBERS = st.integers(0, 40) | st.sampled_from([2**64 - 1, 2**63, 2**63 - 1])
STEPS = st.lists(st.tuples(st.integers(0, 3), st.lists(NUMBERS, max_size=30)), max_size=30)


def array(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.uint64)


@given(STEPS, st.lists(NUMBERS, max_size=60), st.integers(0, 4))
def test_like_a_python_set(steps: list[tuple[int, list[int]]], asked: list[int], before: int) -> None:
    """Whatever is added in whatever portions, it contains and forgets what a set per day does."""
    seen, oracle = SeenIds(), dict[int, set[int]]()
    for day, numbers in steps:
        seen.add(array(numbers), day)
        oracle.setdefault(day, set()).update(numbers)
    everything = set().union(*oracle.values())
    assert seen.contains(array(asked)).tolist() == [number in everything for number in asked]
    seen.forget(before)
    kept = set().union(*(numbers for day, numbers in oracle.items() if day >= before))
    assert seen.contains(array(asked)).tolist() == [number in kept for number in asked]


def test_runs_stay_few() -> None:
    """Many small portions are merged, so that asking stays cheap, and memory is 8 bytes an id."""
    seen = SeenIds()
    for start in range(0, 100_000, 100):
        seen.add(np.arange(start, start + 100, dtype=np.uint64), 0)
    assert len(seen._days[0]) <= 17
    assert seen.bytes == 800_000


def test_memory_is_bounded_by_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A month of ids costs 8 bytes for each of the days that are not forgotten; no merge takes more than a run."""
    monkeypatch.setattr("sinks.seen.RUN_MAX_IDS", 1000)
    seen = SeenIds()
    for day in range(30):
        for start in range(0, 5000, 250):
            seen.add(np.arange(start, start + 250, dtype=np.uint64) + np.uint64(day << 32), day)
        seen.forget(day - 7)
        assert seen.bytes <= 8 * 5000 * 8
    assert seen.bytes == 8 * 5000 * 8
    assert max(len(run) for runs in seen._days.values() for run in runs) <= 1000


def test_derived_records_are_known_for_longer_than_they_can_come_again() -> None:
    """Ids of events for 7 days, of what is derived from them past Kafka's retention, of compacted topics always."""
    found = horizons(Settings(retention_hours=7 * 24))
    assert found["events"] == HORIZON_DAYS
    assert found["plays"] == found["window_metrics"] >= 9
    assert "tracks" not in found


def test_hashes_tell_keys_apart() -> None:
    """Tenant and id are hashed as two values, null is not the empty text, and equal keys hash alike."""
    rows = pl.DataFrame({"tenant": ["a", "ab", "a", "a", "a"], "id": ["bc", "c", None, "", "bc"]})
    found = hashes(rows, ["tenant", "id"]).tolist()
    assert len(set(found)) == 4
    assert found[0] == found[4]
