"""Record batches to event columns, each record judged by itself: broken bytes never touch a neighbour."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from schemas import metrics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.reasons import BadRecordError, Reason
from stream_processors import framing
from stream_processors.transport.records import EventBatch

_COLUMNS, _SINGLY = (metrics.WIRE_RECORDS.labels(path) for path in ("columns", "singly"))


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

    `watermarks` are the control records: (offset, stream time in ms) pairs. `singly`: how many were judged one by one.
    """

    frame: pl.DataFrame
    bad: list[BadRecord] = field(default_factory=list)
    watermarks: list[tuple[int, int]] = field(default_factory=list)
    singly: int = 0


class Wire:
    """Reads EventBatch with one codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def read(self, batch: EventBatch) -> Decoded:
        """Decodes; a record is an event when it is, to the byte, what an encoder writes.

        Raises SchemaUnavailableError, having changed nothing, when a registry has to be asked and does not answer.
        """
        parts = [part for part in batch.parts if part.count]
        if not parts:
            return Decoded(self.empty())
        found = framing.records(parts)
        wanted = found.offsets >= batch.start
        bad: list[BadRecord] = []
        watermarks: list[tuple[int, int]] = []
        for i in np.flatnonzero(wanted & (found.value_lengths < 0)).tolist():
            offset, time_ms, key = int(found.offsets[i]), int(found.times_ms[i]), found.key(i)
            if key == WATERMARK_KEY:
                watermarks.append((offset, time_ms))
            else:
                bad.append(BadRecord(offset, time_ms, key, b"", BadRecordError(Reason.BROKEN_RECORD, "no value")))
        rows = np.flatnonzero(wanted & (found.value_lengths >= 0))
        values = found.values(rows)
        columns = self._codec.columns(values, lambda i: (batch.partition, int(found.offsets[rows[i]])))
        for i, error in columns.bad:
            row = int(rows[i])
            offset, time_ms = int(found.offsets[row]), int(found.times_ms[row])
            bad.append(BadRecord(offset, time_ms, found.key(row), values[i], error))
        bad.sort(key=lambda one: one.offset)
        good = rows[columns.index]
        frame = columns.frame.with_columns(
            pl.Series("_offset", found.offsets[good]), pl.Series("_time", found.times_ms[good])
        )
        _SINGLY.inc(columns.singly)
        _COLUMNS.inc(len(values) - columns.singly)
        return Decoded(frame, bad, watermarks, columns.singly)

    def empty(self) -> pl.DataFrame:
        """No rows, all columns."""
        return self._codec.empty().with_columns(_offset=pl.lit(None, pl.Int64), _time=pl.lit(None, pl.Int64))
