"""Record batches to event columns: one native pass where every record fits, fastavro one by one where one does not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.codec import Codec, Field, Prefix, encoded_size, read_block, times_exist
from schemas.event_time import WATERMARK_KEY
from schemas.reasons import BadRecordError, Reason
from stream_processors.transport.records import EventBatch, RecordBatch

_BEFORE: list[Field] = [
    {"name": "_length", "type": "long"},
    {"name": "_attributes", "type": "int"},
    {"name": "_time_delta", "type": "long"},
    {"name": "_offset_delta", "type": "long"},
    {"name": "_key", "type": "bytes"},
    {"name": "_value_length", "type": "long"},
]
_AFTER: list[Field] = [{"name": "_headers", "type": "int"}]


@dataclass(frozen=True)
class BadRecord:
    """A record that is no event, with everything that its dead letter needs."""

    offset: int
    time_ms: int
    key: bytes | None
    value: bytes
    error: BadRecordError
    tenant: str = "unknown"
    source: str = "unknown"


@dataclass(frozen=True)
class Decoded:
    """A batch as columns, in the order of the log: the codec's columns, `_offset` and `_time` (Int64).

    `_time` is the Kafka record's timestamp in milliseconds since 1970: the producer's, or the broker's where the topic
    says LogAppendTime.

    `watermarks` are the control records: (offset, stream time in ms) pairs.
    """

    frame: pl.DataFrame
    bad: list[BadRecord] = field(default_factory=list)
    watermarks: list[tuple[int, int]] = field(default_factory=list)
    slow_batches: int = 0


class Wire:
    """Reads EventBatch with one codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def read(self, batch: EventBatch) -> Decoded:
        """Decodes; a record that does not fit never changes a neighbour, because every length is checked exactly."""
        parts, watermarks = _take_watermarks(batch)
        frame = self._fast(parts, batch.start)
        if frame is not None:
            return Decoded(frame, watermarks=watermarks)
        if len(parts) == 1:
            return self._slow(EventBatch(batch.topic, batch.partition, parts), batch.start, watermarks)
        each = [self.read(EventBatch(batch.topic, batch.partition, [part])) for part in parts]
        return Decoded(
            pl.concat([one.frame for one in each]).filter(pl.col("_offset") >= batch.start),
            [bad for one in each for bad in one.bad if bad.offset >= batch.start],
            watermarks + [mark for one in each for mark in one.watermarks if mark[0] >= batch.start],
            sum(one.slow_batches for one in each),
        )

    def empty(self) -> pl.DataFrame:
        """No rows, all columns."""
        return self._codec.empty().with_columns(_offset=pl.lit(None, pl.Int64), _time=pl.lit(None, pl.Int64))

    def _fast(self, parts: list[RecordBatch], start: int) -> pl.DataFrame | None:
        if not parts:
            return self.empty()
        for prefix in self._codec.prefixes:
            frame = self._columns(parts, prefix)
            if frame is not None:
                return frame if frame["_offset"][0] >= start else frame.filter(pl.col("_offset") >= start)
        return None

    def _columns(self, parts: list[RecordBatch], prefix: Prefix) -> pl.DataFrame | None:
        value = [*prefix.fields, *self._codec.fields]
        count = sum(part.count for part in parts)
        frame = read_block([*_BEFORE, *value, *_AFTER], count, b"".join(part.payload for part in parts))
        if frame is None or frame.height != count:
            return None
        value_size = encoded_size(frame, value)
        record_size = encoded_size(frame, [*_BEFORE[1:], *_AFTER]) + value_size
        offsets = frame["_offset_delta"].to_numpy() + _repeat(parts, [part.base for part in parts])
        fits = (
            (frame["_value_length"].to_numpy() == value_size).all()
            and (frame["_length"].to_numpy() == record_size).all()
            and not frame["_headers"].to_numpy().any()
            and not frame["_attributes"].to_numpy().any()
            and (np.diff(offsets) > 0).all()
            and offsets[0] >= parts[0].base
            and offsets[-1] < parts[-1].next
            and prefix.matches(frame)
            and times_exist(frame)
        )
        if not fits:
            return None
        times = pl.Series("_time", _times(parts, frame))
        return frame.select(*self._codec.column_names, pl.Series("_offset", offsets), times)

    def _slow(self, batch: EventBatch, start: int, watermarks: list[tuple[int, int]]) -> Decoded:
        healthy: list[bytes] = []
        places: list[tuple[int, int]] = []
        bad: list[BadRecord] = []
        for record in batch.records():
            if record.offset < start:
                continue
            if record.value is None:
                if record.key == WATERMARK_KEY:
                    watermarks.append((record.offset, record.timestamp))
                    continue
                error = BadRecordError(Reason.BROKEN_RECORD, "no value")
                bad.append(BadRecord(record.offset, record.timestamp, record.key, b"", error))
                continue
            try:
                self._codec.decode(record.value)
            except BadRecordError as error:
                bad.append(BadRecord(record.offset, record.timestamp, record.key, record.value, error))
            else:
                healthy.append(record.value)
                places.append((record.offset, record.timestamp))
        columns = self._codec.columns(healthy)
        place = np.array(places, np.int64).reshape(-1, 2)[columns.index]
        frame = columns.frame.with_columns(_offset=pl.Series(place[:, 0]), _time=pl.Series(place[:, 1]))
        return Decoded(frame, bad, watermarks, 1)


def _take_watermarks(batch: EventBatch) -> tuple[list[RecordBatch], list[tuple[int, int]]]:
    """A watermark record mostly stands alone in its record batch: it need not cost the others the fast path."""
    parts: list[RecordBatch] = []
    watermarks: list[tuple[int, int]] = []
    for part in batch.parts:
        only = next(iter(EventBatch(batch.topic, batch.partition, [part]).records()), None) if part.count == 1 else None
        if only is not None and only.value is None and only.key == WATERMARK_KEY:
            watermarks.append((only.offset, only.timestamp))
        elif part.count:
            parts.append(part)
    return parts, [mark for mark in watermarks if mark[0] >= batch.start]


def _repeat(parts: list[RecordBatch], values: list[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.array(values, np.int64), np.array([part.count for part in parts], np.int64))


def _times(parts: list[RecordBatch], frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    stamps = _repeat(parts, [part.first_ms if part.append_ms is None else part.append_ms for part in parts])
    deltas: npt.NDArray[np.int64] = frame["_time_delta"].to_numpy()
    if any(part.append_ms is not None for part in parts):
        deltas = deltas * _repeat(parts, [int(part.append_ms is None) for part in parts])
    times: npt.NDArray[np.int64] = stamps + deltas
    return times
