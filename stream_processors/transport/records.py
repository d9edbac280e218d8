"""Kafka record batches kept whole: what a fetch response holds, without a Python object per record.

stream_processors/wire.py reads them as columns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cramjam
import google_crc32c
import numpy as np
from aiokafka import codec
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch

_HEAD = struct.Struct(">qiibIhiqqqhii")
_DECOMPRESS = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: lambda payload: memoryview(cramjam.lz4.decompress(payload)),  # aiokafka's copy what they return
    4: lambda payload: memoryview(cramjam.zstd.decompress(payload)),
}
_CHECKED = 21
"""The checksum covers what stands from here on."""
_COMPRESSION, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20


@dataclass(slots=True)
class RecordBatch:
    """One v2 record batch. Offsets of batches without readable records are kept, so that there are no gaps."""

    start: int
    """Offset that the fetch asked for: records below it belong to the past (a seek may land inside a batch)."""
    base: int
    next: int
    count: int
    first_ms: int
    append_ms: int | None
    """Set when the broker stamps the time; otherwise first_ms plus each record's delta."""
    compression: int
    whole: memoryview

    def payload(self) -> bytes | memoryview:
        """The records, unpacked anew at each call: a batch that waits is kept as small as it came."""
        packed = self.whole[_HEAD.size :]
        return _DECOMPRESS[self.compression](packed) if self.compression else packed


class BatchRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's PartitionRecords, yielding RecordBatch; leaves out control batches and aborted transactions."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[RecordBatch]:
        view = memoryview(self._records)
        at, end = 0, len(view)
        while end - at >= _HEAD.size:
            base, length, _, magic, crc, attributes, last, first_ms, max_ms, producer, _, _, count = _HEAD.unpack_from(
                view, at
            )
            stop = at + 12 + length
            if stop > end:
                return  # the broker cuts the last batch of a response
            if magic != 2:
                raise CorruptRecordException(f"record format {magic} on {self._tp}: only v2 is read in columns")
            whole, at = view[at:stop], stop
            if self._check_crcs and google_crc32c.value(np.frombuffer(whole[_CHECKED:], np.uint8)) != crc:
                raise CorruptRecordException(f"invalid CRC on {self._tp} at offset {base}")
            start, self.next_fetch_offset = self.next_fetch_offset, base + last + 1
            if self._is_hidden(whole, base, attributes, producer):
                count = 0
            append_ms = max_ms if attributes & _LOG_APPEND_TIME else None
            compression = attributes & _COMPRESSION
            yield RecordBatch(start, base, self.next_fetch_offset, count, first_ms, append_ms, compression, whole)

    def _is_hidden(self, whole: memoryview, base: int, attributes: int, producer: int) -> bool:
        control = bool(attributes & _CONTROL)
        if self._isolation_level == READ_COMMITTED and producer >= 0:
            self._consume_aborted_up_to(base)
            if control and self._contains_abort_marker(DefaultRecordBatch(whole)):
                self._aborted_producers.discard(producer)
            if attributes & _TRANSACTIONAL and producer in self._aborted_producers:
                return True
        return control


@dataclass(slots=True)
class EventBatch:
    """What an agent receives: the records of one partition between two offsets, not yet decoded."""

    topic: str
    partition: int
    parts: list[RecordBatch]

    @property
    def start(self) -> int:
        """First offset that it covers."""
        return self.parts[0].start

    @property
    def next(self) -> int:
        """First offset after it."""
        return self.parts[-1].next

    def __len__(self) -> int:
        return sum(part.count for part in self.parts)

    def records(self) -> Iterator[Any]:
        """Slow path, one aiokafka record (offset, timestamp, key, value, headers) after the other."""
        for part in self.parts:
            if part.count:
                yield from (record for record in DefaultRecordBatch(part.whole) if record.offset >= self.start)
