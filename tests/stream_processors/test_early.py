"""Early results: what open windows say so far, on request, beside final ones that stay what they are."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event_time import Windows
from stream_processors.merge import MergeState, Part
from stream_processors.partition import PartitionState
from tests.oracle import COUNTS, DIMENSIONS, Oracle
from tests.stream_processors.logs import START_MS, decoded, logs

CLOCKWORK = Windows(60_000, 10_000)


def counted(rows: pl.DataFrame) -> dict[Any, Any]:
    return {
        (row["window"], *(row[name] for name in DIMENSIONS)): tuple(row[name] for name in COUNTS)
        for row in rows.iter_rows(named=True)
    }


@given(st.lists(logs, min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_early_and_final_results_together_are_all_that_is_known(log: list[list[Any]]) -> None:
    """Right after the last event, final and early windows are those of the oracle; none stands in both."""
    merge, oracle, final = MergeState(CLOCKWORK, 2), Oracle(), []
    states = [PartitionState(CLOCKWORK, 10**12, 10**12) for _ in log]
    for partition, entries in enumerate(log):
        own = [
            START_MS,
            *(e if isinstance(e, int) else {**e, "user_id": f"{e['user_id']}{partition}"} for e in entries),
        ]
        oracle.read(own)
        result = states[partition].add(decoded(own, 0), len(own))
        early = states[partition].early()
        final.append(merge.add(Part(partition, states[partition].clock, result.closed))[0])
        final.append(merge.add(Part.decode(Part(partition, states[partition].clock, early, early=True).encode()))[0])
    first = counted(pl.concat(final).filter(pl.col("size_ms") == CLOCKWORK.window_ms))
    second = counted(merge.early())
    assert not first.keys() & second.keys()
    assert {**first, **second} == oracle.counts()
    assert merge.early().is_empty()


def test_early_results_are_no_part_of_the_state() -> None:
    """A snapshot is the same with and without them, so that they never change a final result."""
    merge = MergeState(CLOCKWORK, 1)
    before = merge.header(), list(merge.segments())
    rows = PartitionState(CLOCKWORK, 10**12, 10**12).early()
    merge.add(Part(0, START_MS, rows, early=True))
    assert (merge.header(), list(merge.segments())) == before
