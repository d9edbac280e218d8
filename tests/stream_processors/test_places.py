"""Places of keys: any keys in any calls have the place that they had, and are new once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.places import Places


@given(st.lists(st.lists(st.integers(1, 700)), max_size=6), st.sampled_from([1, 1 << 40, (1 << 64) // 701]))
@settings(deadline=None)
def test_places_are_those_of_a_dict(calls: list[list[int]], apart: int) -> None:
    """Each key is new once and keeps its place, which is no other's."""
    places, known = Places(700), dict[int, int]()
    for call in calls:
        found, is_new = places.put(np.array(call, np.uint64) * np.uint64(apart))
        assert sorted(key for key, new in zip(call, is_new, strict=True) if new) == sorted(set(call) - known.keys())
        for key, place in zip(call, found.tolist(), strict=True):
            assert known.setdefault(key, place) == place
    assert len(set(known.values())) == len(known)
