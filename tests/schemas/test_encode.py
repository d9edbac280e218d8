"""Frames become Avro and Kafka record batches column by column, byte for byte as row by row."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import polars as pl
import pyarrow as pa
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import record_batch
from schemas.codec import Codec
from schemas.encode import columns, encode
from schemas.record_batch import BATCH_BYTES, record_batches, stamped

PLAY = Codec("play")
LETTER = Codec("dead_letter")
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=70),
    "bytes": st.binary(max_size=200),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "double": st.floats(allow_nan=False),
}


def value_of(avro_type: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro_type, list):
        return st.none() | value_of(next(t for t in avro_type if t != "null"))
    if isinstance(avro_type, dict):
        if avro_type["type"] == "enum":
            return st.sampled_from(avro_type["symbols"])
        return st.integers(0, 253_402_300_799_999)
    return _VALUES[avro_type]


def rows_of(codec: Codec) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries({f["name"]: value_of(f["type"]) for f in codec.fields}), max_size=12)


_POLARS = {"string": pl.String, "bytes": pl.Binary, "int": pl.Int32, "long": pl.Int64, "boolean": pl.Boolean}


def frame_of(codec: Codec, rows: list[dict[str, Any]]) -> pl.DataFrame:
    columns = {}
    for field in codec.fields:
        kind = field["type"]
        kind = next(t for t in kind if t != "null") if isinstance(kind, list) else kind
        dtype = pl.String if isinstance(kind, dict) and kind["type"] == "enum" else pl.Int64
        dtype = _POLARS.get(kind, pl.Float64) if isinstance(kind, str) else dtype
        columns[field["name"]] = pl.Series([row[field["name"]] for row in rows], dtype=dtype)
    return pl.DataFrame(columns)


@pytest.mark.parametrize("codec", [PLAY, LETTER, Codec("listening_event")], ids=lambda codec: codec.name)
@given(st.data())
@settings(deadline=None)
def test_columns_are_encoded_as_rows_are(codec: Codec, data: st.DataObject) -> None:
    """Every type, null and length gives the bytes that fastavro gives."""
    rows = data.draw(rows_of(codec))
    assert encode(codec, frame_of(codec, rows)).to_pylist() == [codec.encode(row) for row in rows]


@pytest.mark.parametrize("codec", [PLAY, LETTER], ids=lambda codec: codec.name)
@given(data=st.data(), batch_bytes=st.integers(100, 2_000))
@settings(deadline=None)
def test_values_are_written_straight_into_records(codec: Codec, data: st.DataObject, batch_bytes: int) -> None:
    """However the rows are cut into batches, and where the keys are a part of a larger array."""
    rows = data.draw(rows_of(codec).filter(bool))
    keys = [b"%d" % i for i in range(len(rows))]
    column = pa.array([b"before", *keys], pa.large_binary())[1:]
    with patch.object(record_batch, "BATCH_BYTES", batch_bytes):
        batches = list(record_batches(column, columns(codec, frame_of(codec, rows)), 1))
        assert batches == list(record_batches(column, encode(codec, frame_of(codec, rows)), 1))
    found = [(record.key, record.value) for batch, _ in batches for record in DefaultRecordBatch(batch)]
    assert found == list(zip(keys, map(codec.encode, rows), strict=True))


def test_keys_for_other_rows_are_refused() -> None:
    """A kernel would write beside its memory."""
    one, two = (pa.array([b"x"] * rows, pa.large_binary()) for rows in (1, 2))
    for keys, values in ((one, two), (two, one)):
        with pytest.raises(ValueError, match="rows"):
            list(record_batches(keys, values, 1))


def test_a_column_that_is_not_there_is_null() -> None:
    """A frame need not carry the optional fields that it has nothing to say about."""
    row = {f["name"]: "x" if f["type"] == "string" else None for f in LETTER.fields}
    row |= {"payload": b"", "failed_at": 1}
    frame = frame_of(LETTER, [row]).drop("event_id", "topic", "partition", "offset", "record_key")
    assert encode(LETTER, frame).to_pylist() == [LETTER.encode(row)]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["DE", "日本", ""])], ids=str)
def test_codes_are_encoded_as_their_texts(kind: Any) -> None:
    """Texts may come as codes, in required fields and in others."""
    row = {f["name"]: "x" if f["type"] == "string" else None for f in LETTER.fields} | {"payload": b"", "failed_at": 1}
    rows = [{**row, "tenant": text, "event_id": text or None} for text in ("DE", "", "日本", "DE")]
    coded = frame_of(LETTER, rows).with_columns(pl.col("tenant", "event_id").cast(kind))
    assert encode(LETTER, coded).to_pylist() == [LETTER.encode(row) for row in rows]


pairs = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=300)), min_size=1, max_size=40)


@given(pairs, st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1))
@settings(deadline=None)
def test_a_record_batch_is_what_kafka_clients_read(
    rows: list[tuple[bytes, bytes]], time_ms: int, producer: int, epoch: int, sequence: int
) -> None:
    """Aiokafka finds the records, the checksum and the producer's state in a batch made from columns."""
    keys, values = (pa.array(list(column), pa.large_binary()) for column in zip(*rows, strict=True))
    ((data, records),) = record_batches(keys, values, time_ms)
    batch = DefaultRecordBatch(stamped(data, producer, epoch, sequence))
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (producer, epoch, sequence)
    found = [(record.key, record.value) for record in batch]
    assert (found, records) == (rows, len(rows))
    assert batch.first_timestamp == batch.max_timestamp == time_ms


def test_many_rows_become_several_batches() -> None:
    """No batch is much larger than what a request takes, and the rows keep their order."""
    rows = 3_000
    values = pa.array([bytes([i % 251]) * 1_000 for i in range(rows)], pa.large_binary())
    keys = pa.array([b"%d" % i for i in range(rows)], pa.large_binary())
    batches = list(record_batches(keys, values, 1))
    assert len(batches) == -(-values.nbytes // BATCH_BYTES)
    found = [(record.key, record.value) for data, _ in batches for record in DefaultRecordBatch(data)]
    assert found == list(zip(keys.to_pylist(), values.to_pylist(), strict=True))
    offsets = [record.offset for data, _ in batches for record in DefaultRecordBatch(data)]
    assert offsets == [i for _, records in batches for i in range(records)]
