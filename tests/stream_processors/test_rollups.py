"""Windows of 5 minutes, an hour and a day are the sum of the minutes in them, each told once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event_time import Windows
from stream_processors import rollups
from stream_processors.merge import MergeState, Part
from stream_processors.partition import PartitionState
from stream_processors.rollups import SIZES_MS
from stream_processors.sketch import estimate, sketches
from tests.oracle import COUNTS, DIMENSIONS, Oracle
from tests.stream_processors.logs import START_MS, decoded, events

CLOCKWORK = Windows(60_000, 10_000)
DAYS_LATER_MS = START_MS + 5 * 86_400_000
far_apart = st.tuples(events, st.sampled_from([0, 300_000, 7_000_000, 90_000_000, 180_000_000])).map(
    lambda pair: {**pair[0], "timestamp": pair[0]["timestamp"] + pair[1], "arrival_ms": 1 << 60}
)
logs = st.lists(far_apart, max_size=40)


@pytest.fixture(autouse=True, scope="module")
def _added_up_often() -> Iterator[None]:
    """Closed windows are added up before their larger window ends, as they are in a day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "_PARTS_MAX", 2)
        yield


@given(st.lists(logs, min_size=2, max_size=2), st.integers(1, 7), st.booleans())
@settings(max_examples=80, deadline=None)
def test_larger_windows_equal_the_oracle(log: list[list[Any]], step: int, restart: bool) -> None:
    """Counts are exact, users of few are right, however the logs are cut and the workers restarted."""
    merge, final, oracle = MergeState(CLOCKWORK, 2), [], Oracle()
    people: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
    for partition, entries in enumerate(log):
        own = [*({**e, "user_id": f"{e['user_id']}{partition}"} for e in entries), DAYS_LATER_MS]
        oracle.read(own)
        state = PartitionState(CLOCKWORK, 10**12, 10**12)
        for at in range(0, len(own), step):
            piece = own[at : at + step]
            result = state.add(decoded(piece, at), at + len(piece))
            rows, _ = merge.add(Part.decode(Part(partition, state.clock, result.closed).encode()))
            final.append(rows)
            if restart:
                segments = {name: segment.data() for name, segment in state.segments().items()}
                state = PartitionState(CLOCKWORK, 10**12, 10**12, state.header(), segments)
                segments = {name: segment.data() for name, segment in merge.segments().items()}
                merge = MergeState(CLOCKWORK, 2, merge.header(), segments)
    for key, names in oracle.users.items():
        for size_ms in SIZES_MS:
            people[size_ms, key[0] // size_ms * size_ms, *key[1:]] |= names
    expected: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for key, counts in oracle.counts().items():
        for size_ms in SIZES_MS:
            whole = (size_ms, key[0] // size_ms * size_ms, *key[1:])
            expected[whole] = [a + b for a, b in zip(expected[whole], counts, strict=True)]
            expected[whole][COUNTS.index("users")] = len(people[whole])
    found = {}
    for row in pl.concat(final).filter(pl.col("size_ms") > CLOCKWORK.window_ms).iter_rows(named=True):
        row["users"] = estimate(sketches(pl.Series([row["coupons"]], dtype=pl.List(pl.UInt32)))[0])
        key = (row["size_ms"], row["window"], *(row[name] for name in DIMENSIONS))
        assert key not in found
        found[key] = [row[name] for name in COUNTS]
    assert found == dict(expected)
