"""The simulator's columns: byte for byte what a door writes, in the partition in which every client puts it."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.collector.clock import TOLERANCE_MS
from producers.encoder import EventEncoder
from producers.event import from_object
from producers.identity import Pseudonyms
from producers.location import Precision
from producers.simulator.__main__ import main
from producers.simulator.rows import ROW, joined, taken
from producers.simulator.scenario import NAMES, load
from producers.simulator.sending import Sending, partitions_of
from producers.simulator.stream import Plan, Stream
from schemas.codec import Codec
from schemas.encode import encode

START = 1_790_000_000_000
NOW = START + 86_400_000
CODEC = Codec("listening_event")
PSEUDONYMS = Pseudonyms(b"secret")


def stream_of(name: str, seed: int) -> Stream:
    return Stream(Plan(name, load(name), seed, 400, START, 4_000))


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1 << 40), precision=st.sampled_from(["city", "none", "told"]))
@settings(max_examples=5, deadline=None)
def test_columns_are_what_the_door_writes(name: str, seed: int, precision: Precision) -> None:
    """For every healthy event, the bytes made in columns are those of the rules and encoder of every other way in.

    `device_timestamp` is set beside the rules: a client cannot tell it.
    """
    stream = stream_of(name, seed)
    door: Any = SimpleNamespace(partitions=4, codec=CODEC)
    sending = Sending(stream, door, PSEUDONYMS, "radio", precision)
    encoder = EventEncoder(CODEC, "radio", "simulator", PSEUDONYMS.of, precision)
    for rows in stream.batches():
        healthy = taken(rows, rows["fault"] == 0)
        events = [from_object(item, NOW) for item in stream.items(healthy)]
        for event, device in zip(events, stream.teller.batch(healthy)["device_timestamp"].to_pylist(), strict=True):
            event.device_timestamp = device
        singly = [encoder.encode(event, NOW)[1] for event in events]
        assert any(event.user_id is None for event in events) or len(events) < 1_000
        assert encode(CODEC, sending.columns(healthy, NOW)).to_pylist() == singly


@given(st.integers(1, 40), st.data(), st.integers(1, 64))
def test_partitions_are_those_of_every_client(width: int, data: st.DataObject, partitions: int) -> None:
    """Murmur2 over all keys at once is what aiokafka and the Java client compute for each."""
    keys = data.draw(st.lists(st.text("0123456789abcdef-", min_size=width, max_size=width), max_size=50))
    found = partitions_of(pa.array(keys, pa.large_string()), partitions).tolist()
    assert found == [(murmur2(key.encode()) & 0x7FFFFFFF) % partitions for key in keys]


def test_rows_are_moved_as_numpy_moves_them() -> None:
    """Taking and joining rows as words keeps every field."""
    rows = np.zeros(100, ROW)
    for name in ROW.names or ():
        rows[name] = np.random.default_rng(1).integers(0, 2, 100)
    mask = np.array([random.Random(1).random() < 0.5 for _ in range(100)])
    assert taken(rows, mask).tolist() == rows[mask].tolist()
    assert joined([rows[:10], taken(rows, np.arange(5, 1, -1))]).tolist() == [
        *rows[:10].tolist(),
        *rows[5:1:-1].tolist(),
    ]


def test_a_wrong_clock_is_repaired_and_told() -> None:
    """`timestamp` is the true time; the device's own stands beside it, and in `sent_at`, when it is clearly wrong."""
    stream = stream_of("spotify", 1)
    rows = joined(list(stream.batches()))
    batch = stream.teller.batch(rows)
    skew = rows["skew"].astype(np.int64)
    wrong = np.abs(skew) > TOLERANCE_MS
    assert 0.005 < wrong.mean() < 0.05
    told = batch["device_timestamp"].is_valid().to_numpy(zero_copy_only=False)
    assert (told == wrong).all()
    assert (batch["timestamp"].to_numpy() == rows["at"] + np.where(wrong, 0, skew)).all()
    assert (batch["device_timestamp"].filter(pa.array(wrong)).to_numpy() == (rows["at"] + skew)[wrong]).all()
    assert (batch["sent_at"].to_numpy() == rows["arrival"] + skew).all()


def test_the_truth_is_written(tmp_path: Path) -> None:
    """Every track with its hidden scene, as JSON lines that anybody can read."""
    out, truth = tmp_path / "events.jsonl", tmp_path / "truth.jsonl"
    arguments = ["--scenario", "custom", "--events", "100", "--seed", "3"]
    assert main([*arguments, "--output", str(out), "--truth", str(truth)]) == 0
    assert len(out.read_bytes().splitlines()) == 100
    assert len(truth.read_text().splitlines()) == load("custom").tracks
