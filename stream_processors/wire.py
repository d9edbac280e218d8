"""Record batches to event columns: in one native pass, the framing of Kafka included, where every record is plain.

Where one is not (headers, a null key, another writer's schema, broken bytes), the values are cut out of their framing
first, and read by writer; fastavro judges only those that remain doubtful.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from schemas import metrics
from schemas.block import Field, Layout, block_head, read_block, widths
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.reasons import BadRecordError, Reason
from schemas.writers import Writer
from stream_processors import framing
from stream_processors.transport.records import EventBatch, RecordBatch

# names that no Avro field can have
_BEFORE: list[Field] = [
    {"name": "kafka.length", "type": "long"},
    {"name": "kafka.attributes", "type": "int"},
    {"name": "kafka.time_delta", "type": "long"},
    {"name": "kafka.offset_delta", "type": "long"},
    {"name": "kafka.key", "type": "bytes"},
    {"name": "kafka.value_length", "type": "long"},
]
_AFTER: list[Field] = [{"name": "kafka.headers", "type": "int"}]
_ENVELOPE = Layout(_BEFORE[1:])

_IN_PLACE, _CUT, _SINGLY = (metrics.WIRE_RECORDS.labels(path) for path in ("in_place", "cut", "singly"))


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
        self._heads: dict[bytes, bytes] = {}

    def read(self, batch: EventBatch) -> Decoded:
        """Decodes; a record that does not fit never changes a neighbour, because every length is checked exactly.

        Raises SchemaUnavailableError, having changed nothing, when a registry has to be asked and does not answer.
        """
        parts, watermarks = _take_watermarks(batch)
        if not parts:
            return Decoded(self.empty(), watermarks=watermarks)
        frame = self._in_place(parts, batch)
        if frame is None:
            return self._cut(parts, batch, watermarks)
        _IN_PLACE.inc(frame.height)
        if frame.item(0, "_offset") < batch.start:
            frame = frame.filter(pl.col("_offset") >= batch.start)
        return Decoded(frame, watermarks=watermarks)

    def empty(self) -> pl.DataFrame:
        """No rows, all columns."""
        return self._codec.empty().with_columns(_offset=pl.lit(None, pl.Int64), _time=pl.lit(None, pl.Int64))

    def _in_place(self, parts: list[RecordBatch], batch: EventBatch) -> pl.DataFrame | None:
        """Everything in one pass; None when a record is not plain, or of another writer than the first."""
        writer = self._writer_of_first(parts[0], batch)
        if writer is None or not (writer.is_columnar and writer.layout.exact):
            return None
        block = read_block(self._head_of(writer), sum(part.count for part in parts), *(part.payload for part in parts))
        if block is None:
            return None
        frame, data = block
        if not writer.prefix.matches(frame):
            return None
        if frame.get_column("kafka.headers").to_numpy().any() or frame.get_column("kafka.attributes").to_numpy().any():
            return None
        lengths = frame.get_column("kafka.length").to_numpy()
        ends = np.cumsum(lengths + widths(lengths))
        values = _ENVELOPE.ends(frame, data, ends - lengths)
        value_ends = writer.layout.ends(frame, data, values + len(writer.prefix.data))
        offsets = (
            framing.of_parts(parts, [part.base for part in parts]) + frame.get_column("kafka.offset_delta").to_numpy()
        )
        if not (
            ends[-1] == len(data)
            and (value_ends + 1 == ends).all()  # no headers: one byte
            and (value_ends - values == frame.get_column("kafka.value_length").to_numpy()).all()
            and (np.diff(offsets) > 0).all()
            and offsets[0] >= parts[0].base
            and offsets[-1] < parts[-1].next
        ):
            return None
        columns, doubtful = writer.project(frame)
        if doubtful is not None:
            return None
        times = framing.times(parts, frame.get_column("kafka.time_delta").to_numpy())
        return columns.with_columns(pl.Series("_offset", offsets), pl.Series("_time", times))

    def _head_of(self, writer: Writer) -> bytes:
        head = self._heads.get(writer.prefix.data)
        if head is None:
            head = block_head([*_BEFORE, *writer.prefix.fields, *writer.fields, *_AFTER])
            self._heads[writer.prefix.data] = head
        return head

    def _writer_of_first(self, part: RecordBatch, batch: EventBatch) -> Writer | None:
        """The writer of a plain first record: it tells how the others are probably written."""
        payload, at = part.payload, 0
        try:
            for _ in range(4):  # length, attributes, timestamp delta, offset delta
                number, at = framing.first_varint(payload, at)
            key_length, at = framing.first_varint(payload, at)
            value_length, at = framing.first_varint(payload, at + key_length)
            if min(key_length, value_length) < 0 or payload[at + value_length] != 0:
                return None  # null, or headers
            writer = self._codec.writers.find(bytes(payload[at : at + min(value_length, 10)]))
        except (IndexError, BadRecordError):
            return None
        return writer if writer.knows(batch.partition, max(batch.start, part.base + number)) else None

    def _cut(self, parts: list[RecordBatch], batch: EventBatch, watermarks: list[tuple[int, int]]) -> Decoded:
        """Record by record as far as Kafka's framing goes, then in columns again."""
        found = framing.records(parts)
        wanted = found.offsets >= batch.start
        offsets, times = found.offsets.tolist(), found.times_ms.tolist()
        bad: list[BadRecord] = []
        for i in np.flatnonzero(wanted & (found.value_lengths < 0)).tolist():
            if found.key(i) == WATERMARK_KEY:
                watermarks.append((offsets[i], times[i]))
            else:
                error = BadRecordError(Reason.BROKEN_RECORD, "no value")
                bad.append(BadRecord(offsets[i], times[i], found.key(i), b"", error))
        rows = np.flatnonzero(wanted & (found.value_lengths >= 0))
        values = found.values(rows)
        columns = self._codec.columns(values, lambda i: (batch.partition, offsets[rows[i]]))
        for i, error in columns.bad:
            row = int(rows[i])
            bad.append(BadRecord(offsets[row], times[row], found.key(row), values[i], error))
        bad.sort(key=lambda one: one.offset)
        good = rows[columns.index]
        frame = columns.frame.with_columns(
            pl.Series("_offset", found.offsets[good]), pl.Series("_time", found.times_ms[good])
        )
        _SINGLY.inc(columns.singly)
        _CUT.inc(len(values) - columns.singly)
        return Decoded(frame, bad, watermarks, len(parts))


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
