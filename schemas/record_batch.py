"""Kafka record batches (format v2) made from columns of keys and values, without a Python object per record."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import cramjam
import numpy as np
import pyarrow as pa
from aiokafka.record.util import calc_crc32c

from schemas.cells import Cells
from schemas.encode import joined, sizes

BATCH_BYTES = 1 << 20
"""A batch holds about so many bytes before compression: one request of the producer, and one read of a consumer."""

_ZSTD = 4
_HEADER = struct.Struct(">qiibIhiqqqhii")


def record_batches(keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, time_ms: int) -> Iterator[tuple[bytes, int]]:
    """(record batch, its number of records) for all rows in their order; every record carries the time `time_ms`.

    The producer's id, epoch and sequence are left empty: see `stamped`.
    """
    rows = len(values)
    if not rows:
        return
    keys = keys.cast(pa.large_binary())
    row_bytes = max(1, (values.nbytes + keys.nbytes) // rows)
    step = max(1, BATCH_BYTES // row_bytes)
    for at in range(0, rows, step):
        yield _record_batch(keys[at : at + step], values[at : at + step], time_ms), min(step, rows - at)


def stamped(batch: bytes, producer_id: int, epoch: int, sequence: int) -> bytes:
    """The batch with the producer's state, which the broker needs to refuse a repeated batch."""
    fields = list(_HEADER.unpack_from(batch))
    fields[9:12] = [producer_id, epoch, sequence]
    return _with_crc(fields, batch[_HEADER.size :])


def _record_batch(keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, time_ms: int) -> bytes:
    rows = len(values)
    key_bytes, value_bytes = sizes(keys), sizes(values)
    attributes_and_time = Cells.constant(b"\0\0", rows)
    delta, key_size, value_size = map(Cells.varints, (np.arange(rows, dtype=np.int64), key_bytes, value_bytes))
    no_headers = Cells.constant(b"\0", rows)
    size = 3 + delta.size + key_size.size + key_bytes + value_size.size + value_bytes
    body = [attributes_and_time, delta, key_size, keys, value_size, values, no_headers]
    records = joined([Cells.varints(size), *body])
    payload = cramjam.zstd.compress(_data(records), level=1)
    fields = [0, 0, -1, 2, 0, _ZSTD, rows - 1, time_ms, time_ms, -1, -1, -1, rows]
    return _with_crc(fields, bytes(payload))


def _with_crc(fields: list[int], payload: bytes) -> bytes:
    """Length and checksum cover what stands behind them."""
    fields[1] = _HEADER.size - 12 + len(payload)
    rest = struct.pack(">hiqqqhii", *fields[5:]) + payload
    fields[4] = calc_crc32c(rest)
    return _HEADER.pack(*fields) + payload


def _data(records: pa.LargeBinaryArray) -> Any:
    offsets = np.frombuffer(records.buffers()[1], np.int64, len(records) + 1, records.offset * 8)
    return memoryview(records.buffers()[2])[offsets[0] : offsets[-1]]
