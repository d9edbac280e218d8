"""Kafka record batches (format v2) made from columns of keys and values, without a Python object per record."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import google_crc32c
import numpy as np
import pyarrow as pa

from schemas.packing import Bytes, Column, Fixed, Places, Texts, Varints, measured, packed

BATCH_BYTES = 1 << 20
"""A batch holds about so many bytes before compression: one request of the producer, and one read of a consumer."""

_ZSTD = 4
_COMPRESSION = pa.Codec("zstd", compression_level=1)
_HEADER = struct.Struct(">qiibIhiqqqhii")
_NO_ATTRIBUTES_AND_TIME, _NO_HEADERS = b"\0\0", b"\0"


def record_batches(
    keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray | Sequence[Column], time_ms: int
) -> Iterator[tuple[bytes, int]]:
    """(record batch, its number of records) for all rows in their order; every record carries the time `time_ms`.

    The columns of values are written straight into the records. The producer's id, epoch and sequence are left empty:
    see `stamped`.
    """
    rows = len(keys)
    if not rows:
        return
    key = Texts.of(keys)
    value, value_bytes = _value(values, rows)
    step = max(1, BATCH_BYTES * rows // int((measured([key], rows) + value_bytes).sum()))
    before = [Fixed.constant(_NO_ATTRIBUTES_AND_TIME, rows), Varints.of(np.arange(rows) % step), key]
    after = [Fixed.constant(_NO_HEADERS, rows)]
    record_bytes = measured([*before, *after], rows) + value_bytes
    record = [length := Varints.of(record_bytes.view(np.int64)), *before, *value, *after]
    sizes = measured([length], rows) + record_bytes
    for at in range(0, rows, step):
        count = min(step, rows - at)
        yield record_batch(packed(record, sizes[at : at + count], at), count, time_ms), count


def record_batch(records: Bytes, count: int, time_ms: int) -> bytes:
    """A batch of finished records that stand one behind the other, with offsets from 0 on and no time of their own."""
    fields = [0, 0, -1, 2, 0, _ZSTD, count - 1, time_ms, time_ms, -1, -1, -1, count]
    return _with_crc(fields, _COMPRESSION.compress(records, asbytes=True))


def _value(values: pa.LargeBinaryArray | Sequence[Column], rows: int) -> tuple[list[Column], Places]:
    """What makes up the values behind their lengths, and the bytes that it takes in each row."""
    if isinstance(values, pa.Array):
        texts = Texts.of(values)
        return [texts], measured([texts], rows)
    value_bytes = measured(values, rows)
    length = Varints.of(value_bytes.view(np.int64))
    return [length, *values], measured([length], rows) + value_bytes


def stamped(batch: bytes, producer_id: int, epoch: int, sequence: int) -> bytes:
    """The batch with the producer's state, which the broker needs to refuse a repeated batch."""
    fields = list(_HEADER.unpack_from(batch))
    fields[9:12] = [producer_id, epoch, sequence]
    return _with_crc(fields, batch[_HEADER.size :])


def _with_crc(fields: list[int], payload: bytes) -> bytes:
    """Length and checksum cover what stands behind them."""
    fields[1] = _HEADER.size - 12 + len(payload)
    told = struct.pack(">hiqqqhii", *fields[5:])
    fields[4] = google_crc32c.extend(google_crc32c.value(told), payload)
    return _HEADER.pack(*fields) + payload
