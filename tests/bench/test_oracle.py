"""The batch oracle of the benches catches what an engine may do wrong."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import polars as pl
import pytest

from bench import oracle
from bench.cluster import Row
from bench.generator import Log, Shape, generate
from schemas.codec import Codec
from tests.oracle import Oracle

MINUTE = 60_000
SHAPE = Shape(3_000, minutes=3, tracks=40, users=60)


@pytest.fixture(scope="module")
def log() -> Log:
    return generate(SHAPE)


@pytest.fixture(scope="module")
def decoded(log: Log) -> list[dict[str, Any]]:
    codec = Codec("listening_event")
    return [codec.decode(value) for value in log.values(0, log.frame.height)]


def rows_of(wanted: pl.DataFrame) -> list[Row]:
    """An output without mistakes."""
    return [
        Row(f"{window}/{track}".encode(), struct.pack(">6q", *counts), 0)
        for window, track, *counts in wanted.iter_rows()
    ]


def test_generated_bytes_hold_the_columns(log: Log, decoded: list[dict[str, Any]]) -> None:
    """What the oracle counts are columns; fastavro reads the same values from the bytes that engines get."""
    for event, row in zip(decoded, log.frame.iter_rows(named=True), strict=True):
        assert round(event["timestamp"].timestamp() * 1000) == row["timestamp"]
        assert {name: event[name] for name in row if name not in ("timestamp", "partition")} == {
            name: value for name, value in row.items() if name not in ("timestamp", "partition")
        }


def test_same_seed_same_bytes() -> None:
    """A log can be made again, and another seed makes another."""
    one, two = (generate(SHAPE).values(0, 500) for _ in range(2))
    assert one == two
    assert generate(Shape(3_000, minutes=3, tracks=40, users=60, seed=8)).values(0, 500) != one


def test_right_output_is_right(log: Log) -> None:
    """An output with all rows is taken, in any order, told twice, or told in parts that add up."""
    wanted = oracle.simple(log, MINUTE)
    rows = rows_of(wanted)
    assert oracle.problem_of_simple(rows, wanted) is None
    assert oracle.problem_of_simple([*reversed(rows), *rows[:50]], wanted) is None
    key, counts = rows[0].key, struct.unpack(">6q", rows[0].value)
    halves = [Row(key + b"/0", struct.pack(">6q", *(c // 2 for c in counts)), 0)]
    halves.append(Row(key + b"/1", struct.pack(">6q", *(c - c // 2 for c in counts)), 0))
    assert oracle.problem_of_simple([*halves, *rows[1:]], wanted) is None


@pytest.mark.parametrize("mistake", ["lost row", "lost event", "doubled event", "wrong sum", "extra row", "nothing"])
def test_wrong_output_is_caught(log: Log, mistake: str) -> None:
    """One event too many or too few anywhere is told, and so is every other difference."""
    wanted = oracle.simple(log, MINUTE)
    rows = rows_of(wanted)
    counts = list(struct.unpack(">6q", rows[7].value))
    match mistake:
        case "lost row":
            del rows[7]
        case "extra row":
            rows.append(Row(b"0/nobody", rows[7].value, 0))
        case "nothing":
            rows = []
        case _:
            place, more = {"lost event": (0, -1), "doubled event": (1, 1), "wrong sum": (5, 1)}[mistake]
            counts[place] += more
            rows[7] = Row(rows[7].key, struct.pack(">6q", *counts), 0)
    assert oracle.problem_of_simple(rows, wanted) is not None


def test_row_told_twice_with_different_values_is_caught(log: Log) -> None:
    """A window that was final and changed afterwards was not final."""
    wanted = oracle.simple(log, MINUTE)
    rows = rows_of(wanted)
    early = Row(rows[3].key, struct.pack(">6q", 0, 0, 0, 0, 0, 0), 0)
    assert "different values" in str(oracle.problem_of_simple([early, *rows], wanted))


def test_closing_events_are_no_results(log: Log) -> None:
    """The events that close the last windows are not asked for, and are not held against an engine that tells them."""
    wanted = oracle.simple(log, MINUTE)
    end = Row(b"1700000640000/end:7", struct.pack(">6q", 1, 0, 0, 0, 0, 0), 0)
    assert wanted.filter(pl.col("track_id").str.starts_with("end:")).is_empty()
    assert oracle.problem_of_simple([*rows_of(wanted), end], wanted) is None


def test_product_oracle_agrees_with_the_oracle_in_plain_python(log: Log, decoded: list[dict[str, Any]]) -> None:
    """Two oracles, written in two ways, count the same windows."""
    plain = Oracle()
    partitions = log.frame["partition"].to_list()
    for partition in range(SHAPE.partitions):
        events = itertools.compress(decoded, (p == partition for p in partitions))
        plain.read({**e, "timestamp": round(e["timestamp"].timestamp() * 1000)} for e in events)
    last = SHAPE.start_ms + SHAPE.minutes * MINUTE
    wanted = {
        (window, scope, "default", kind, platform, country, version, track): tuple(counts)
        for window, scope, kind, platform, country, version, track, *counts in oracle.product(log, MINUTE).iter_rows()
    }
    assert {key: counts for key, counts in plain.counts().items() if key[0] < last} == wanted
    assert not plain.late
