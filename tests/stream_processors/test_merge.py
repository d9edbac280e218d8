"""Parts of partitions become final windows once, whatever order and repetition they come in."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event_time import Windows
from stream_processors.merge import MergeState, Part
from stream_processors.partition import PartitionState
from tests.oracle import COUNTS, DIMENSIONS, Oracle
from tests.stream_processors.logs import START_MS, chunked, decoded, logs

CLOCKWORK = Windows(60_000, 10_000)
END_MS = START_MS + 10_000_000


def parts_of(partition: int, entries: list[Any], cuts: list[int]) -> list[Part]:
    """What one partition tells; users of different partitions differ, as they do in Kafka."""
    own = [e if isinstance(e, int) else {**e, "user_id": f"{e['user_id']}{partition}"} for e in entries]
    state, told = PartitionState(CLOCKWORK, 10**9, 10**9), []
    for piece, first in chunked([*own, END_MS], cuts):
        result = state.add(decoded(piece, first), first + len(piece))
        told.append(Part(partition, state.clock, result.closed))
    return told


@given(st.lists(logs, min_size=3, max_size=3), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=80, deadline=None)
def test_final_windows_equal_the_oracle_over_all_partitions(log: list[list[Any]], random: Any, restart: bool) -> None:
    """Three partitions, interleaved and told again at will: each window final once, with the oracle's counts."""
    queues = [parts_of(p, entries, [random.randrange(50) for _ in range(4)]) for p, entries in enumerate(log)]
    merge, final = MergeState(CLOCKWORK, 3), []
    told: defaultdict[int, list[Part]] = defaultdict(list)
    while any(queues):
        p = random.choice([i for i, queue in enumerate(queues) if queue])
        part = queues[p].pop(0)
        again = [random.choice(told[p])] if told[p] and random.random() < 0.3 else []
        for one in [*again, part]:
            rows, _ = merge.add(Part.decode(one.encode()))
            final.append(rows)
        told[p].append(part)
        if restart:
            segments = {name: segment.data() for name, segment in merge.segments().items()}
            merge = MergeState(CLOCKWORK, 3, merge.header(), segments)
    rows = pl.concat(final).filter(pl.col("size_ms") == CLOCKWORK.window_ms)
    windows = {
        (row["window"], *(row[name] for name in DIMENSIONS)): tuple(row[name] for name in COUNTS)
        for row in rows.iter_rows(named=True)
    }
    oracle = Oracle()
    for p, entries in enumerate(log):
        oracle.read([e if isinstance(e, int) else {**e, "user_id": f"{e['user_id']}{p}"} for e in [*entries, END_MS]])
    assert len(windows) == rows.height
    assert windows == oracle.counts()


def test_nothing_is_final_before_every_partition_has_told_its_time() -> None:
    """The watermark is the least over all partitions; one that is silent holds it back."""
    merge = MergeState(CLOCKWORK, 2)
    part = parts_of(0, [], [])[0]
    assert merge.add(part)[0].is_empty()
    assert merge.watermark_clock == 0
    merge.add(Part(1, START_MS, part.rows))
    assert merge.watermark_clock == START_MS


def test_parts_of_a_partition_that_is_ahead_wait_as_the_bytes_that_came() -> None:
    """Snapshots and restarts encode nothing of them again, and frames would take ten times the memory."""
    merge = MergeState(CLOCKWORK, 2)
    event = {"event_id": "e", "event_type": "play", "timestamp": START_MS, "platform": "custom", "track_id": "t"}
    event |= {"tenant": "default", "source": "simulator", "received_at": START_MS, "user_id": "u"}
    told = [Part.decode(part.encode()) for part in parts_of(0, [event], [1])]
    came = [part.sent for part in told if part.rows.height]
    for part in told:
        merge.add(part)
    for _ in ("as it is", "after a restart"):
        segments = {name: one.data() for name, one in merge.segments().items()}
        waiting = [data for name, data in segments.items() if name.startswith("waiting/")]
        assert came
        assert all(a is b for a, b in zip(came, waiting, strict=True))
        merge = MergeState(CLOCKWORK, 2, merge.header(), segments)
