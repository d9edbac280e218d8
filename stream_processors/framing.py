"""Where key and value of each Kafka record stand.

A v2 record is: length, attributes (one byte), timestamp delta, offset delta, key length, key, value length, value,
headers (KIP-98); all numbers are zigzag varints, and a length of -1 means null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka.errors import CorruptRecordException

from schemas.kernel import kernel
from schemas.layout import Values
from schemas.texts import Bytes, Ints, run_of
from schemas.walk import varint
from stream_processors.transport.records import RecordBatch

_OFFSET, _TIME, _KEY, _KEY_BYTES, _VALUE, _VALUE_BYTES = range(6)
"""In the order of Records."""
_ROOM_MAX_BYTES = 24 << 20
"""Reckoned from a first batch of which little is known: four megabytes that were fetched seldom hold more."""


@dataclass(frozen=True)
class Records:
    """The records of some batches, in the order of the log. A length of -1 means null."""

    payload: memoryview
    offsets: Ints
    times_ms: Ints
    key_starts: Ints
    key_lengths: Ints
    value_starts: Ints
    value_lengths: Ints

    def key(self, i: int) -> bytes | None:
        """The key of a record."""
        start, length = int(self.key_starts[i]), int(self.key_lengths[i])
        return None if length < 0 else bytes(self.payload[start : start + length])

    def values(self, rows: Ints) -> Values:
        """The values of some records that have one."""
        starts = self.value_starts[rows]
        return Values(self.payload, starts, starts + self.value_lengths[rows])


def records(parts: Sequence[RecordBatch]) -> Records:
    """Finds the records; raises CorruptRecordException where lengths contradict one another (no broker takes that)."""
    found = np.empty((6, sum(part.count for part in parts)), np.int64)
    payload, end, row = np.empty(0, np.uint8), 0, 0
    packed_bytes = sum(len(part.whole) for part in parts)
    for part in parts:
        some = np.frombuffer(part.payload(), np.uint8)
        start, end = end, end + len(some)
        if end > len(payload):
            reckoned = start + int(1.1 * packed_bytes * len(some) / len(part.whole))
            payload = _longer(payload[:start], max(2 * end, min(reckoned, _ROOM_MAX_BYTES)))
        payload[start:end] = some
        packed_bytes -= len(part.whole)
        time_ms, per_delta = (part.first_ms, 1) if part.append_ms is None else (part.append_ms, 0)
        first, row = row, row + part.count
        if not _frame(run_of(payload.data), start, end, found, first, row, part.base, time_ms, per_delta):
            raise CorruptRecordException(f"the records of the batch at offset {part.base} do not fill it")
    payload.resize(end, refcheck=False)
    return Records(payload.data, *found)


def _longer(run: Bytes, size: int) -> Bytes:
    """A run that grows by itself would be copied each time that another thread has taken the memory behind it."""
    longer = np.empty(size, np.uint8)
    longer[: len(run)] = run
    return longer


@kernel
def _frame(
    data: Bytes, at: int, stop: int, found: Ints, row: int, last: int, base: int, time_ms: int, per_delta: int
) -> bool:
    """Fills the columns `row` to `last` with the records that stand from `at` to `stop`; whether they do."""
    while row < last:
        size, at = varint(data, at, stop)
        if at < 0 or size < 1 or size > stop - at:
            return False
        end = at + size
        delta, at = varint(data, at + 1, end)
        if at < 0:
            return False
        found[_TIME, row] = time_ms + delta * per_delta
        delta, at = varint(data, at, end)
        found[_OFFSET, row] = base + delta
        for place in (_KEY, _VALUE):
            if at < 0:
                return False
            size, at = varint(data, at, end)
            if at < 0 or size < -1 or size > end - at:
                return False
            found[place, row], found[place + 1, row] = at, size
            if size > 0:
                at += size
        at, row = end, row + 1
    return at == stop
