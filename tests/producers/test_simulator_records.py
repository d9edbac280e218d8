"""The simulator's records: byte for byte what a door writes, in the partition in which every client puts it."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.collector.clock import TOLERANCE_MS
from producers.encoder import EventEncoder
from producers.event import from_object
from producers.identity import Pseudonyms
from producers.location import Precision
from producers.simulator import records
from producers.simulator.__main__ import main
from producers.simulator.rows import ROW, Rows, joined, taken
from producers.simulator.scenario import NAMES, Scenario, load
from producers.simulator.sending import Sending, partitions_of
from producers.simulator.stream import Plan, Stream
from schemas.codec import Codec
from schemas.ready_batch import ReadyBatch

START = 1_790_000_000_000
NOW = START + 86_400_000
CODEC = Codec("listening_event")
PSEUDONYMS = Pseudonyms(b"secret")


LONG = "A name of sixty-four characters that is as long as one may be -"


def scenario_of(name: str) -> Scenario:
    if name != LONG:
        return load(name)
    custom = load("custom")
    places = {code: place.model_copy(update={"cities": [LONG]}) for code, place in custom.countries.items()}
    client = custom.client.model_copy(update={"track_id_prefix": LONG, "track_id_characters": 64, "isrc": True})
    told = {"platform": LONG, "countries": places, "devices": {LONG: 1.0, "tv": 1.0}, "app_versions": {LONG: 1.0}}
    return custom.model_copy(update={**told, "client": client})


def stream_of(name: str, seed: int) -> Stream:
    return Stream(Plan(name, scenario_of(name), seed, 400, START, 4_000))


def sending_of(stream: Stream, precision: Precision = "city") -> Sending:
    door: Any = SimpleNamespace(partitions=4, codec=CODEC)
    return Sending(stream, door, PSEUDONYMS, "radio", precision)


def records_of(batches: list[ReadyBatch]) -> list[tuple[bytes, bytes]]:
    """Key and value of each record, as a Kafka client reads them."""
    found = []
    for ready in batches:
        batch = DefaultRecordBatch(ready._build())
        assert batch.validate_crc()
        records = list(batch)
        assert [record.offset for record in records] == list(range(ready.record_count()))
        found += [(record.key, record.value) for record in records]
    return found


def device_timestamps(rows: Rows) -> list[int | None]:
    """What a wrong clock said, which no client can tell."""
    skew = rows["skew"].astype(np.int64)
    wrong = np.abs(skew) > TOLERANCE_MS
    return [at if is_wrong else None for at, is_wrong in zip((rows["at"] + skew).tolist(), wrong, strict=True)]


@pytest.mark.parametrize("name", [*NAMES, LONG])
@given(
    seed=st.integers(0, 1 << 40),
    precision=st.sampled_from(["city", "none", "told"]),
    batch_bytes=st.sampled_from([1_000, 50_000, 1 << 20]),
)
@settings(max_examples=3, deadline=None)
def test_records_are_what_the_door_writes(name: str, seed: int, precision: Precision, batch_bytes: int) -> None:
    """For every healthy event, key and value made in bulk are those of the rules and encoder of every other way in.

    However the events are cut into batches. `device_timestamp` is set beside the rules.
    """
    stream = stream_of(name, seed)
    sending = sending_of(stream, precision)
    encoder = EventEncoder(CODEC, "radio", "simulator", PSEUDONYMS.of, precision)
    for rows in stream.batches():
        healthy = taken(rows, rows["fault"] == 0)
        events = [from_object(item, NOW) for item in stream.items(healthy)]
        for event, device in zip(events, device_timestamps(healthy), strict=True):
            event.device_timestamp = device
        assert any(event.user_id is None for event in events) or len(events) < 1_000
        with patch.object(records, "BATCH_BYTES", batch_bytes):
            batches = sending.batches(healthy, NOW)
        assert len(batches) >= len(events) * 150 // (batch_bytes + 150)
        assert records_of(batches) == [encoder.encode(event, NOW) for event in events]


@given(st.integers(1, 40), st.data(), st.integers(1, 64))
def test_partitions_are_those_of_every_client(width: int, data: st.DataObject, partitions: int) -> None:
    """Murmur2 over all keys at once is what aiokafka and the Java client compute for each."""
    keys = data.draw(st.lists(st.text("0123456789abcdef-", min_size=width, max_size=width), max_size=50))
    characters = np.frombuffer("".join(keys).encode(), np.uint8).reshape(len(keys), width)
    found = partitions_of(characters, partitions).tolist()
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
    batches = sending_of(stream).batches(rows, NOW)
    told = CODEC.columns([value for _, value in records_of(batches)]).frame
    skew = rows["skew"].astype(np.int64)
    wrong = np.abs(skew) > TOLERANCE_MS
    assert 0.005 < wrong.mean() < 0.05
    assert told["device_timestamp"].dt.epoch("ms").to_list() == device_timestamps(rows)
    assert (told["timestamp"].dt.epoch("ms").to_numpy() == rows["at"] + np.where(wrong, 0, skew)).all()
    assert (told["sent_at"].dt.epoch("ms").to_numpy() == rows["arrival"] + skew).all()


def test_the_truth_is_written(tmp_path: Path) -> None:
    """Every track with its hidden scene, as JSON lines that anybody can read."""
    out, truth = tmp_path / "events.jsonl", tmp_path / "truth.jsonl"
    arguments = ["--scenario", "custom", "--events", "100", "--seed", "3"]
    assert main([*arguments, "--output", str(out), "--truth", str(truth)]) == 0
    assert len(out.read_bytes().splitlines()) == 100
    assert len(truth.read_text().splitlines()) == load("custom").tracks
