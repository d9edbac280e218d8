"""One partition against the batch oracle, for any log and any cut of it."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event_time import Windows
from stream_processors.partition import PartitionState
from tests.oracle import COUNTS, DIMENSIONS, Oracle
from tests.stream_processors.logs import START_MS, chunked, decoded, logs

CLOCKWORK = Windows(60_000, 10_000)
END_MS = START_MS + 10_000_000
TIMEOUT_MS = 100_000_000
GAP_MS = 1_800_000


def run(entries: list[Any], cuts: list[int], *, restart: bool = False) -> tuple[dict[Any, Any], dict[str, Any], int]:
    """Windows, plays and late rows of a log that ends with a watermark past everything."""
    state = PartitionState(CLOCKWORK, TIMEOUT_MS, GAP_MS)
    closed, plays = [], []
    for piece, first in chunked([*entries, END_MS], cuts):
        result = state.add(decoded(piece, first), first + len(piece))
        closed.append(result.closed)
        plays += [*result.plays.to_dicts(), *state.settle().plays.to_dicts()]
        if restart:
            segments = {name: segment.data() for name, segment in state.segments().items()}
            state = PartitionState(CLOCKWORK, TIMEOUT_MS, GAP_MS, state.header(), segments)
    rows = pl.concat(closed).filter(pl.col("scope") != "listener", pl.col("size_ms") == CLOCKWORK.window_ms)
    windows = {
        (row["window"], *(row[name] for name in DIMENSIONS)): tuple(row[name] for name in COUNTS)
        for row in rows.iter_rows(named=True)
    }
    assert len(windows) == rows.height
    return windows, {play["play_id"]: play for play in plays}, state.late


@given(logs, st.lists(st.integers(0, 100), max_size=6))
@settings(max_examples=150, deadline=None)
def test_windows_equal_the_batch_oracle(entries: list[Any], cuts: list[int]) -> None:
    """Counts, distinct users and late rows of every window are those of the oracle, however the log is cut."""
    windows, _, late = run(entries, cuts)
    oracle = Oracle().read([*entries, END_MS])
    assert windows == oracle.counts()
    assert late == len(oracle.late)


@given(logs, st.lists(st.integers(0, 100), max_size=6))
@settings(max_examples=100, deadline=None)
def test_plays_equal_the_batch_oracle(entries: list[Any], cuts: list[int]) -> None:
    """Each play is found once, with the oracle's end and length, however the log is cut."""
    _, plays, _ = run(entries, cuts)
    found = {name: {key: play[key] for key in ("ended_by", "ms_played")} for name, play in plays.items()}
    assert found == Oracle(play_timeout_ms=TIMEOUT_MS).read([*entries, END_MS]).plays


@given(logs, st.lists(st.integers(0, 100), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_restart_from_the_snapshot_changes_nothing(entries: list[Any], cuts: list[int]) -> None:
    """State written and read again after every batch gives the same results."""
    assert run(entries, cuts, restart=True) == run(entries, [])


@given(logs, st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_rows_below_the_state_are_not_counted_again(entries: list[Any], back: int) -> None:
    """A replay that starts below the snapshot's offset changes nothing."""
    once = PartitionState(CLOCKWORK, TIMEOUT_MS, GAP_MS)
    once.add(decoded(entries, 0), len(entries))
    again = max(0, len(entries) - back)
    before = once.header()
    once.add(decoded(entries[again:], again), len(entries))
    assert once.header() == before


def test_an_open_play_times_out() -> None:
    """A play without an end is closed by time-out, heard for an unknown time, counted as 0."""
    event = {
        "event_id": "e1",
        "event_type": "play",
        "user_id": "ann",
        "track_id": "t1",
        "timestamp": START_MS,
        "platform": "custom",
        "duration_ms": 180_000,
        "tenant": "default",
        "source": "replay",
        "received_at": START_MS,
    }
    state = PartitionState(CLOCKWORK, 3_600_000, GAP_MS)
    assert state.add(decoded([event, START_MS + 3_599_999], 0), 2).plays.is_empty()
    assert state.settle().plays.is_empty()
    (play,) = state.add(decoded([START_MS + 3_600_000], 2), 3).plays.to_dicts()
    assert (play["ended_by"], play["ms_played"], play["is_stream"]) == ("timeout", 0, False)
