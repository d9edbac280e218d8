"""The job's own reader of columns gives the rows of the worker's Wire, and hands over what is not plain."""

from __future__ import annotations

import time

import polars as pl
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from bench.generator import Shape, generate
from bench.jobs.crossfade_job import COLUMNS
from bench.jobs.cursor import CursorWire
from schemas.codec import Codec
from stream_processors.transport.records import BatchRecords, EventBatch
from stream_processors.wire import Wire

CODEC = Codec("listening_event")
TYPES = ["play", "pause", "skip", "like", "share"]
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def batch(*record_batches: list[Record], codec: int = 0) -> EventBatch:
    """Record batches as a broker sends them."""
    raw, base = b"", 0
    for records in record_batches:
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
        for i, (key, value, headers) in enumerate(records):
            builder.append(i, 1_700_000_000_000 + i, key, value, headers)
        built = bytes(builder.build())
        raw += base.to_bytes(8, "big") + built[8:]
        base += len(records)
    return EventBatch("t", 0, list(BatchRecords(None, raw, [], 0, None, None, True, 0)._unpack_records()))


def plain(first: int, last: int, shape: Shape | None = None) -> list[Record]:
    """Records of the generator."""
    log = generate(shape or Shape(300, tracks=20, users=30))
    users = log.frame["user_id"].to_list()
    return [(users[i].encode(), value, []) for i, value in enumerate(log.values(first, last), start=first)]


def wanted(events: EventBatch) -> pl.DataFrame:
    """What Wire reads."""
    return (
        Wire(CODEC)
        .read(events)
        .frame.select(
            pl.col("timestamp").to_physical(),
            "track_id",
            pl.col("event_type").cast(pl.String).cast(pl.Enum(TYPES)).to_physical().cast(pl.Int64),
            pl.col("ms_played").cast(pl.Int64).fill_null(0),
            "_offset",
        )
    )


@pytest.mark.parametrize("codec", [0, 3])
def test_plain_records(codec: int) -> None:
    """Several record batches in one pass."""
    events = batch(plain(0, 100), plain(100, 220), codec=codec)
    assert CursorWire(CODEC, COLUMNS).read(events).equals(wanted(events))


def test_every_field_given_and_long_texts() -> None:
    """No field is null, some are longer than a length of one byte can say, and numbers have every width."""
    records = []
    for i in range(50):
        event = {
            "event_id": f"{i}", "event_type": TYPES[i % 5], "user_id": "u", "track_id": "t" * (1 + i * 7),
            "timestamp": 10 ** (i % 13), "platform": "p" * 9_000, "location": "ö" * i, "session_id": "s", "device": "",
            "country": "DE", "position_ms": 2 ** (i % 31), "ms_played": -(2 ** (i % 31)), "reason_start": "a",
            "reason_end": "b", "shuffle": True, "offline": False, "incognito": i % 2 == 0, "app_version": "1",
            "sent_at": 5, "track_name": "n", "artist_name": "a", "album_name": "b", "duration_ms": 1, "isrc": "i",
            "tenant": "default", "source": "s", "received_at": 1,
        }  # fmt: skip
        records.append((b"k", CODEC.encode(event), []))
    events = batch(records)
    assert CursorWire(CODEC, COLUMNS).read(events).equals(wanted(events))


@pytest.mark.parametrize("odd", ["truncated", "longer", "no value", "no key", "headers", "garbage", "no UTF-8"])
def test_what_is_not_plain_goes_to_wire(odd: str) -> None:
    """A record of another kind neither changes nor hides its neighbours."""
    records = plain(0, 60)
    key, value, _ = records[30]
    assert value is not None
    records[30] = {
        "truncated": (key, value[:-4], []),
        "longer": (key, value + b"\0\0", []),
        "no value": (key, None, []),
        "no key": (None, value, []),
        "headers": (key, value, [("trace", b"1")]),
        "garbage": (key, b"{}", []),
        "no UTF-8": (key, value.replace(b"spotify:track", b"spotify\xfftrack"), []),
    }[odd]
    events = batch(plain(60, 90), records, plain(90, 120))
    found = CursorWire(CODEC, COLUMNS).read(events)
    assert found.equals(wanted(events))
    assert found.height >= 119


def test_truncated_beside_longer_one_is_not_taken_for_two_events() -> None:
    """Bytes that one record lacks and the next one has too many do not add up to two healthy records."""
    records = plain(0, 60)
    (key, value, _), (other, more, _) = records[10], records[11]
    assert value is not None
    assert more is not None
    records[10], records[11] = (key, value[:-3], []), (other, value[-3:] + more, [])
    events = batch(records)
    found = CursorWire(CODEC, COLUMNS).read(events)
    assert found.equals(wanted(events))
    assert found.height == 58


def test_quicker_than_one_by_one() -> None:
    """Against fastavro in the same run, by CPU time: a slower machine slows both."""
    events = batch(plain(0, 4_000, Shape(4_000)))
    values = [value for _, value, _ in plain(0, 4_000, Shape(4_000)) if value is not None]
    reader, ratios = CursorWire(CODEC, COLUMNS), []
    for _ in range(5):
        began = time.process_time()
        for value in values:
            CODEC.decode(value)
        between = time.process_time()
        reader.read(events)
        ratios.append((between - began) / max(time.process_time() - between, 1e-6))
    assert sorted(ratios)[2] > 3
