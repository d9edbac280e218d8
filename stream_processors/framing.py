"""Where key and value of each Kafka record stand: for batches with headers, null keys, or several schemas.

A v2 record is: length, attributes (one byte), timestamp delta, offset delta, key length, key, value length, value,
headers (KIP-98); all numbers are zigzag varints, and a length of -1 means null. The lengths are followed one by one,
everything else is read for all records at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from aiokafka.errors import CorruptRecordException

from stream_processors.transport.records import RecordBatch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """The records of some batches, in the order of the log. A length of -1 means null."""

    payload: bytes
    offsets: Ints
    times_ms: Ints
    key_starts: Ints
    key_lengths: Ints
    value_starts: Ints
    value_lengths: Ints

    def key(self, i: int) -> bytes | None:
        """The key of a record."""
        start, length = int(self.key_starts[i]), int(self.key_lengths[i])
        return None if length < 0 else self.payload[start : start + length]

    def values(self, rows: Ints) -> list[bytes]:
        """The values of some records that have one."""
        starts, payload = self.value_starts[rows], self.payload
        ends = starts + self.value_lengths[rows]
        return [payload[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def records(parts: Sequence[RecordBatch]) -> Records:
    """Finds the records; raises CorruptRecordException where lengths contradict one another (no broker takes that)."""
    payload = b"".join(part.payload for part in parts)
    starts, ends = _bounds(parts, payload)
    block = np.frombuffer(payload + b"\0" * 16, np.uint8)  # so that a number that breaks off can be read
    time_deltas, at = _varints(block, starts + 1)
    offset_deltas, at = _varints(block, at)
    key_lengths, key_starts = _varints(block, at)
    value_lengths, value_starts = _varints(block, np.minimum(key_starts + np.maximum(key_lengths, 0), ends))
    if (value_starts + np.maximum(value_lengths, 0) > ends).any() or min(key_lengths.min(), value_lengths.min()) < -1:
        raise CorruptRecordException(f"a record after offset {parts[0].base} is longer than it says")
    return Records(
        payload,
        of_parts(parts, [part.base for part in parts]) + offset_deltas,
        times(parts, time_deltas),
        key_starts,
        key_lengths,
        value_starts,
        value_lengths,
    )


def times(parts: Sequence[RecordBatch], deltas: Ints) -> Ints:
    """The timestamp of each record in milliseconds: the producer's, or the broker's where it stamps."""
    stamps = of_parts(parts, [part.first_ms if part.append_ms is None else part.append_ms for part in parts])
    if any(part.append_ms is not None for part in parts):
        deltas = deltas * of_parts(parts, [int(part.append_ms is None) for part in parts])
    return stamps + deltas


def of_parts(parts: Sequence[RecordBatch], values: Sequence[int]) -> Ints:
    """A value for each batch, repeated for its records."""
    return np.repeat(np.array(values, np.int64), np.array([part.count for part in parts], np.int64))


def first_varint(payload: bytes | memoryview, at: int) -> tuple[int, int]:
    """(number, place after it); raises IndexError where the bytes end."""
    number = shift = 0
    while True:
        byte = payload[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at


def _bounds(parts: Sequence[RecordBatch], payload: bytes) -> tuple[Ints, Ints]:
    """Start (after its length) and end of each record."""
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for part in parts:
        stop = at + len(part.payload)
        try:
            for _ in range(part.count):
                low, high = payload[at], payload[at + 1]
                if low < 0x80:
                    size, at = low >> 1, at + 1
                elif high < 0x80:
                    size, at = (low & 0x7F | high << 7) >> 1, at + 2
                else:
                    size, at = first_varint(payload, at)
                starts.append(at)
                at += size
                ends.append(at)
        except IndexError:
            at = -1
        if at != stop:
            raise CorruptRecordException(f"the records of the batch at offset {part.base} do not fill it")
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _varints(block: npt.NDArray[np.uint8], at: Ints) -> tuple[Ints, Ints]:
    """(numbers, places after them)."""
    byte = block[at]
    number, at = (byte & 0x7F).astype(np.int64), at + 1
    rows = np.flatnonzero(byte >= 0x80)
    for shift in range(7, 70, 7):
        if not len(rows):
            break
        byte = block[at[rows]]
        number[rows] |= (byte & 0x7F).astype(np.int64) << shift
        at[rows] += 1
        rows = rows[byte >= 0x80]
    return (number >> 1 & 0x7FFF_FFFF_FFFF_FFFF) ^ -(number & 1), at
