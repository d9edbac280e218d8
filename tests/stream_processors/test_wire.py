"""Record batches as columns: the same as fastavro record by record, and a broken record never touches a neighbour."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.reasons import BadRecordError, Reason
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
        builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 1 << 20)
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
    assert read.slow_batches == 0
    assert rows(read) == [codec.decode(value) for group in values for value in group]


@pytest.mark.parametrize("append_ms", [None, START_MS + 99], ids=["CreateTime", "LogAppendTime"])
@pytest.mark.parametrize("path", ["columnar", "slow"])
def test_the_time_of_a_row_is_that_of_its_kafka_record(path: str, append_ms: int | None) -> None:
    """The timestamp is the producer's, or the broker's where it stamps, on either path."""
    good = SINGLE.encode(EVENT)
    groups = [plain([good, good]), plain([good, *([b"junk"] if path == "slow" else [])])]
    read = Wire(SINGLE).read(batch(groups, append_ms=append_ms))
    assert bool(read.slow_batches) == (path == "slow")
    expected = [START_MS, START_MS + 1, START_MS] if append_ms is None else [append_ms] * 3
    assert read.frame["_time"].to_list() == expected
    assert read.frame.schema == Wire(SINGLE).empty().schema


def test_a_reader_of_confluent_format_reads_single_objects_too() -> None:
    """Records of clients with and without a registry may stand in one topic."""
    event = {**EVENT, "event_id": "e2"}
    read = Wire(CONFLUENT).read(batch([plain([SINGLE.encode(EVENT)]), plain([CONFLUENT.encode(event)])]))
    assert [row["event_id"] for row in rows(read)] == ["e1", "e2"]


@pytest.mark.parametrize("what", ["headers", "null key"])
def test_headers_and_null_keys_take_the_slow_path(what: str) -> None:
    """A batch with tracing headers or null keys is read record by record and loses nothing."""
    record: Record = (
        None if what == "null key" else b"u",
        SINGLE.encode(EVENT),
        [("trace", b"1")] * (what == "headers"),
    )
    read = Wire(SINGLE).read(batch([[record, (b"u", SINGLE.encode(EVENT), [])]]))
    assert (len(rows(read)), read.slow_batches, read.bad) == (2, 1, [])


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
@settings(max_examples=150, deadline=None)
def test_mutated_bytes_are_dead_or_proven_valid(data: st.DataObject) -> None:
    """A flipped or cut value is either refused or is what fastavro reads; healthy neighbours stay as they are."""
    good = SINGLE.encode(EVENT)
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    value = bytes(mutated[: data.draw(st.integers(0, len(mutated)))])
    read = Wire(SINGLE).read(batch([plain([good, value, good])]))
    try:
        expected = [SINGLE.decode(value)]
    except BadRecordError:
        expected = []
    healthy = SINGLE.decode(good)
    assert rows(read) == [healthy, *expected, healthy]
    assert len(read.bad) == 1 - len(expected)


def test_watermark_records_are_control_and_cost_the_others_no_speed() -> None:
    """A watermark record is told apart with its stream time, and the events around it stay on the fast path."""
    mark: Record = (WATERMARK_KEY, None, [])
    good = plain([SINGLE.encode(EVENT)])
    read = Wire(SINGLE).read(batch([good, [mark], good]))
    assert (read.watermarks, len(rows(read)), read.slow_batches) == ([(1, START_MS)], 2, 0)


def test_a_seek_into_a_batch_leaves_out_what_stands_before() -> None:
    """Offsets below the one asked for are not handed out, on either path."""
    good = SINGLE.encode(EVENT)
    for values in ([good] * 4, [good, good, b"junk", good]):
        read = Wire(SINGLE).read(batch([plain(values)], start=12, base=10))
        assert [*read.frame["_offset"].to_list(), *(bad.offset for bad in read.bad)] in ([12, 13], [13, 12])


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
