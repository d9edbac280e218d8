"""Record batches as columns: the same as fastavro record by record, and a broken record never touches a neighbour."""

from __future__ import annotations

import io
import random
from typing import Any

import fastavro
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import metrics
from schemas.codec import Codec, schema
from schemas.event_time import WATERMARK_KEY
from schemas.reasons import Reason
from schemas.writers import Prefix, Writers
from stream_processors import framing
from stream_processors.transport.records import BatchRecords, EventBatch
from stream_processors.wire import Wire
from tests.stream_processors.logs import START_MS, events

SINGLE, CONFLUENT = Codec("listening_event"), Codec("listening_event", registry_id=7)
COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def batch(
    groups: list[list[Record]], *, compression: int = 0, start: int = 0, base: int = 0, append_ms: int | None = None
) -> EventBatch:
    """An EventBatch as a fetch would bring it: one record batch per group; `append_ms`: stamped by the broker."""
    raw, at = b"", base
    for group in groups:
        builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 1 << 24)
        for i, (key, value, headers) in enumerate(group):
            builder.append(i, START_MS + i, key, value, headers)
        data = bytearray(builder.build())
        data[0:8] = at.to_bytes(8, "big")
        if append_ms is not None:
            data[22] |= 8
            data[35:43] = append_ms.to_bytes(8, "big")
            data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
        raw, at = raw + bytes(data), at + len(group)
    records = BatchRecords(None, raw, [], start, None, None, True, 0)
    return EventBatch("listening-events", 0, list(records))


def rows(decoded: Any) -> list[dict[str, Any]]:
    frame = decoded.frame
    assert frame["_offset"].is_sorted()
    return frame.drop("_offset", "_time").to_dicts()  # type: ignore[no-any-return]


def plain(values: list[bytes]) -> list[Record]:
    return [(b"user", value, []) for value in values]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("codec", [SINGLE, CONFLUENT], ids=["single-object", "confluent"])
@given(groups=st.lists(st.lists(events, min_size=1, max_size=8), min_size=1, max_size=3))
@settings(max_examples=10, deadline=None)
def test_columns_equal_fastavro(compression: str, codec: Codec, groups: list[list[dict[str, Any]]]) -> None:
    """Every event comes out of the fast path as fastavro reads it, in all compressions and both wire formats."""
    values = [[codec.encode(event) for event in group] for group in groups]
    read = Wire(codec).read(batch([plain(group) for group in values], compression=COMPRESSIONS[compression]))
    assert read.singly == 0
    assert rows(read) == [codec.decode(value) for group in values for value in group]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@given(groups=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2_000), st.booleans()), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_batches_that_pack_unlike_one_another_are_read_whole(
    compression: str, groups: list[tuple[int, int, bool]]
) -> None:
    """Room is reckoned from the first record batch: one that packs a hundred times better or worse loses nothing."""
    values = [
        [(random.Random(i).randbytes(size) if mixed else b"a" * size) for i in range(count)]
        for count, size, mixed in groups
    ]
    found = framing.records(batch([plain(some) for some in values], compression=COMPRESSIONS[compression]).parts)
    every = found.values(np.arange(len(found.offsets)))
    assert [bytes(every[i]) for i in range(len(found.offsets))] == [value for some in values for value in some]


@pytest.mark.parametrize("append_ms", [None, START_MS + 99], ids=["CreateTime", "LogAppendTime"])
@pytest.mark.parametrize("junk", [[], [b"junk"]], ids=["healthy", "beside junk"])
def test_the_time_of_a_row_is_that_of_its_kafka_record(junk: list[bytes], append_ms: int | None) -> None:
    """The timestamp is the producer's, or the broker's where it stamps, also beside a broken record."""
    good = SINGLE.encode(EVENT)
    groups = [plain([good, good]), plain([good, *junk])]
    read = Wire(SINGLE).read(batch(groups, append_ms=append_ms))
    assert len(read.bad) == len(junk)
    expected = [START_MS, START_MS + 1, START_MS] if append_ms is None else [append_ms] * 3
    assert read.frame["_time"].to_list() == expected
    assert read.frame.schema == Wire(SINGLE).empty().schema


def test_a_reader_of_confluent_format_reads_single_objects_too() -> None:
    """Records of clients with and without a registry may stand in one topic."""
    event = {**EVENT, "event_id": "e2"}
    read = Wire(CONFLUENT).read(batch([plain([SINGLE.encode(EVENT)]), plain([CONFLUENT.encode(event)])]))
    assert [row["event_id"] for row in rows(read)] == ["e1", "e2"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("what", ["headers", "null key"])
def test_headers_and_null_keys_cost_the_columns_nothing(what: str, compression: str) -> None:
    """A batch with tracing headers or null keys is read in columns like any other."""
    before = {path: counted(path) for path in ("columns", "singly")}
    headers = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("empty", b"")]
    record: Record = (
        None if what == "null key" else b"u" * 300,
        SINGLE.encode(EVENT),
        headers if what == "headers" else [],
    )
    plain_one: Record = (b"u", SINGLE.encode({**EVENT, "location": "x" * 10_000}), [])
    read = Wire(SINGLE).read(batch([[record, plain_one], [plain_one, record]], compression=COMPRESSIONS[compression]))
    assert (read.frame["_offset"].to_list(), read.singly, read.bad) == ([0, 1, 2, 3], 0, [])
    assert read.frame["_time"].to_list() == [START_MS, START_MS + 1] * 2
    assert rows(read) == [SINGLE.decode(value) for _, value, _ in (record, plain_one, plain_one, record) if value]
    gained = {path: counted(path) - count for path, count in before.items()}
    assert gained == {"columns": 4, "singly": 0}


def counted(path: str) -> float:
    return float(metrics.WIRE_RECORDS.labels(path)._value.get())


def test_the_key_of_a_dead_letter_is_that_of_its_record() -> None:
    """Beside a null key and headers, every bad record keeps its own key, value and time."""
    good = SINGLE.encode(EVENT)
    group: list[Record] = [(None, good[:-1], [("h", b"1")]), (b"", b"x", []), (b"key", None, []), (b"k" * 70, good, [])]
    read = Wire(SINGLE).read(batch([group]))
    assert [(bad.offset, bad.time_ms - START_MS, bad.key, bad.value, bad.error.reason) for bad in read.bad] == [
        (0, 0, None, good[:-1], Reason.BROKEN_RECORD),
        (1, 1, b"", b"x", Reason.UNKNOWN_SCHEMA),
        (2, 2, b"key", b"", Reason.BROKEN_RECORD),
    ]
    assert rows(read) == [SINGLE.decode(good)]


def written(avro: dict[str, Any], record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(avro), record)
    return Prefix.single_object(avro).data + out.getvalue()


OURS = schema("listening_event")
OLD = {**OURS, "fields": [field for field in OURS["fields"] if field["name"] not in ("isrc", "session_id")]}
NEW = {**OURS, "fields": [*OURS["fields"], {"name": "mood", "type": ["null", "string"], "default": None}][::-1]}


def evolved(known_from: dict[int, int] | None = None) -> Codec:
    """A codec that knows older and newer clients."""
    writers = Writers(OURS, 7)
    for avro in (OLD, NEW):
        writers.add(Prefix.single_object(avro), avro, "test", known_from)
    return Codec("listening_event", writers=writers)


@given(st.lists(st.tuples(events, st.sampled_from(["ours", "old", "new", "confluent", "unknown", "cut"])), max_size=20))
@settings(max_examples=60, deadline=None)
def test_clients_of_all_ages_share_a_record_batch(entries: list[tuple[dict[str, Any], str]]) -> None:
    """Any mixture of schema fingerprints in one batch is read by its own schemas, in order; none touches another."""
    codec, values = evolved(), []
    for entry, writer in entries:
        event = {**entry, "mood": "calm", "session_id": "s", "isrc": "i"}
        value = {
            "ours": SINGLE.encode(event),
            "old": written(OLD, event),
            "new": written(NEW, event),
            "confluent": CONFLUENT.encode(event),
            "unknown": b"\xc3\x01unknown!" + SINGLE.encode(event)[10:],
            "cut": written(NEW, event)[:-1],
        }
        values.append(value[writer])
    read = Wire(codec).read(batch([plain(values)] if values else []) if values else EventBatch("t", 0, []))
    healthy = [i for i, (_, writer) in enumerate(entries) if writer not in ("unknown", "cut")]
    assert read.frame["_offset"].to_list() == healthy
    assert rows(read) == [codec.decode(values[i]) for i in healthy]
    assert {row["isrc"] for i, row in zip(healthy, rows(read), strict=True) if entries[i][1] == "old"} <= {None}
    assert [(bad.offset, bad.error.reason) for bad in read.bad] == [
        (i, Reason.UNKNOWN_SCHEMA if writer == "unknown" else Reason.BROKEN_RECORD)
        for i, (_, writer) in enumerate(entries)
        if writer in ("unknown", "cut")
    ]


def test_a_batch_of_old_clients_alone_is_read_in_columns() -> None:
    """A topic whose clients have all the same older schema costs no more than ours."""
    event = {**EVENT, "session_id": "s"}
    read = Wire(evolved()).read(batch([plain([written(OLD, event)] * 5)]))
    assert (read.singly, len(rows(read)), rows(read)[0]["session_id"]) == (0, 5, None)


def test_a_registered_schema_counts_from_an_offset_on() -> None:
    """What stood before is refused by every reader and every replay, however late it reads."""
    value = written(NEW, {**EVENT, "mood": "calm"})
    for wire in (Wire(evolved({0: 3})), Wire(evolved({1: 9}))):
        read = wire.read(batch([plain([value] * 3)], base=2))
        expected = [(2, Reason.UNKNOWN_SCHEMA)] if wire.read(batch([plain([value])], base=2)).bad else []
        assert [(bad.offset, bad.error.reason) for bad in read.bad] == expected
        assert read.frame["_offset"].to_list() == [2, 3, 4][len(expected) :]


def test_a_truncated_record_beside_one_with_extra_bytes_changes_no_neighbour() -> None:
    """Lengths are checked exactly, so bytes missing in one record and left over in the next are both found."""
    good = SINGLE.encode(EVENT)
    values = [good, good[:-3], good + good[-3:], b"", b"\xc3\x01junk", good]
    read = Wire(SINGLE).read(batch([plain(values)]))
    assert read.frame["_offset"].to_list() == [0, 5]
    reasons = [(bad.offset, bad.error.reason, bad.value) for bad in read.bad]
    assert reasons == [
        (1, Reason.BROKEN_RECORD, good[:-3]),
        (2, Reason.BROKEN_RECORD, good + good[-3:]),
        (3, Reason.UNKNOWN_SCHEMA, b""),
        (4, Reason.UNKNOWN_SCHEMA, b"\xc3\x01junk"),
    ]


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutated_bytes_are_dead_or_proven_valid(data: st.DataObject) -> None:
    """A flipped or cut value is refused, or is to the byte what fastavro writes again; neighbours stay as they are."""
    good = SINGLE.encode(FULL)
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255)) if data.draw(st.booleans()) else mutated[place] ^ 1 << place % 8
    value = bytes(mutated[: data.draw(st.integers(1, len(mutated)))]) if data.draw(st.booleans()) else bytes(mutated)
    expected = proven(value)
    for headers in ([], [("h", b"1")]):
        read = Wire(SINGLE).read(batch([[(b"k", one, headers) for one in (good, value, good)]]))
        healthy = SINGLE.decode(good)
        assert rows(read) == [healthy, *expected, healthy]
        assert len(read.bad) == 1 - len(expected)


def proven(value: bytes) -> list[dict[str, Any]]:
    """The record of a value, when writing it again gives the same bytes."""
    parsed, body = fastavro.parse_schema(OURS), io.BytesIO(value[10:])
    try:
        record = fastavro.schemaless_reader(body, parsed, None)
    except Exception:
        return []
    is_int = all(record[name] is None or abs(record[name] + 0.5) < 2**31 for name in ("ms_played", "position_ms"))
    return [record] if written(OURS, record) == value and is_int else []


def body(**changes: bytes) -> bytes:
    """FULL with the bytes of some fields exchanged."""
    out = SINGLE.prefixes[0].data
    for field in OURS["fields"]:
        one = io.BytesIO()
        avro = {"type": "record", "name": "R", "fields": [field]}
        fastavro.schemaless_writer(one, fastavro.parse_schema(avro), {field["name"]: FULL.get(field["name"])})
        out += changes.get(field["name"], one.getvalue())
    return out


@pytest.mark.parametrize("path", ["plain", "headers", "codec"])
@pytest.mark.parametrize(
    "changes",
    [
        {"location": b"\x04\x0aKoeln"},
        {"location": b"\x01\x0aKoeln"},
        {"location": b"\x82\x00\x0aKoeln"},
        {"album_name": b"\x03"},
        {"shuffle": b"\x02\x02"},
        {"shuffle": b"\x02\xff"},
        {"event_type": b"\x01"},
        {"event_type": b"\x0a"},
        {"event_type": b"\x80\x00"},
        {"ms_played": b"\x02\x80\x80\x80\x80\x10"},
        {"ms_played": b"\x02\x80\x80\x80\x80\x80\x80\x01"},
        {"ms_played": b"\x02\x82\x80\x00"},
        {"ms_played": b"\x02" + b"\xff" * 10 + b"\x01"},
        {"timestamp": b"\xff" * 9 + b"\x7f"},
        {"timestamp": b"\xff" * 9 + b"\x01"},
        {"timestamp": b"\x80" * 11 + b"\x00"},
        {"track_id": b"\x04\xff\xfe"},
        {"track_id": b"\x01"},
        {"track_id": b"\xfe\xff\xff\xff\x0fx"},
    ],
    ids=str,
)
def test_what_no_encoder_writes_is_broken_on_every_path(changes: dict[str, bytes], path: str) -> None:
    """Union branches, booleans, enums and numbers that Avro does not know are caught, whoever would let them pass."""
    good, value = SINGLE.encode(FULL), body(**changes)
    assert body() == good
    values = [good, value, good]
    if path == "codec":
        columns = SINGLE.columns(values)
        assert (columns.index.tolist(), [i for i, _ in columns.bad]) == ([0, 2], [1])
        return
    headers = [("h", b"1")] if path == "headers" else []
    read = Wire(SINGLE).read(batch([[(b"k", one, headers) for one in values]]))
    assert read.frame["_offset"].to_list() == [0, 2]
    assert [(bad.offset, bad.error.reason, bad.value) for bad in read.bad] == [(1, Reason.BROKEN_RECORD, value)]


def test_watermark_records_are_control() -> None:
    """A watermark record is told apart with its stream time, and the events around it are read in columns."""
    mark: Record = (WATERMARK_KEY, None, [])
    good = plain([SINGLE.encode(EVENT)])
    read = Wire(SINGLE).read(batch([good, [mark], good]))
    assert (read.watermarks, len(rows(read)), read.singly) == ([(1, START_MS)], 2, 0)


def test_a_seek_into_a_batch_leaves_out_what_stands_before() -> None:
    """Offsets below the one asked for are not handed out."""
    good = SINGLE.encode(EVENT)
    for values in ([good] * 4, [good, good, b"junk", good]):
        read = Wire(SINGLE).read(batch([plain(values)], start=12, base=10))
        assert [*read.frame["_offset"].to_list(), *(bad.offset for bad in read.bad)] in ([12, 13], [13, 12])


def test_broken_records_among_healthy_ones_are_judged_alone() -> None:
    """A broken record costs its neighbours nothing, and none of them is silently judged one by one with it."""
    good, before = SINGLE.encode(EVENT), counted("singly")
    values = [good, good[:-1], good, body(event_type=b"\x0a")] * 1_000
    read = Wire(SINGLE).read(batch([plain(values)]))
    assert ([bad.offset % 4 for bad in read.bad], read.frame.height) == ([1, 3] * 1_000, 2_000)
    assert counted("singly") - before == 2_000


EVENT: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "ann",
    "track_id": "t1",
    "timestamp": START_MS,
    "platform": "custom",
    "location": "Köln",
    "tenant": "default",
    "source": "replay",
    "received_at": START_MS,
}
FULL: dict[str, Any] = {
    **EVENT,
    "session_id": "s1",
    "device": "mobile",
    "country": "DE",
    "position_ms": 70,
    "ms_played": 200_000,
    "shuffle": True,
    "offline": False,
    "sent_at": START_MS - 1,
    "track_name": "Blues " * 20,
}
