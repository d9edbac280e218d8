"""Records of one topic as rows of its table; what cannot be read or believed is set aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas import topics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY, ahead
from schemas.reasons import BadRecordError, Reason
from sinks.records import Numbers, Record, Records
from sinks.target import Place


@dataclass(frozen=True)
class Broken:
    """A record that cannot be read, or (`clock`) not be believed: only then are tenant and source known."""

    place: Place
    record: Record
    error: BadRecordError
    tenant: str = "unknown"
    source: str = "unknown"

    @property
    def is_letter_of_worker(self) -> bool:
        """Whether the worker writes its dead letter: it reads the events too, and judges them alike."""
        return self.place[0] == topics.EVENTS


@dataclass(frozen=True)
class Piece:
    """What one call of the client gave of a topic, in the order of arrival, without its bytes.

    `partitions` and `offsets` are those of all records. Indices say which record became which of the `rows` (which have
    kafka_partition, kafka_offset and `_arrived`, the time in Kafka), is `broken`, or is a control: no row and no loss
    (watermark, tombstone). `marks` are the controls that move time, to `mark_times_ms`.
    """

    topic: str
    partitions: Numbers
    offsets: Numbers
    rows: pl.DataFrame
    row_at: Numbers
    broken: list[Broken]
    broken_at: Numbers
    controls: Numbers
    marks: Numbers
    mark_times_ms: Numbers

    def __len__(self) -> int:
        return len(self.offsets)

    def split(self, rows: int) -> tuple[Piece, Piece]:
        """Cut behind its first `rows` rows (at least one): the records up to there, and those after it."""
        end = int(self.row_at[rows - 1]) + 1
        return self._part(0, end), self._part(end, len(self))

    def _part(self, start: int, end: int) -> Piece:
        row, bad, control, mark = (
            slice(*np.searchsorted(at, (start, end)).tolist())
            for at in (self.row_at, self.broken_at, self.controls, self.marks)
        )
        return Piece(
            self.topic,
            self.partitions[start:end],
            self.offsets[start:end],
            self.rows[row],
            self.row_at[row] - start,
            self.broken[bad],
            self.broken_at[bad] - start,
            self.controls[control] - start,
            self.marks[mark] - start,
            self.mark_times_ms[mark],
        )


def decode(records: Records, codec: Codec) -> Piece:
    """Decodes all values in one native pass."""
    values: list[bytes] = [value for value in records.values if value is not None]
    broken: dict[int, Broken] = {}
    full = np.arange(len(records))
    controls = marks = full[:0]
    if len(values) < len(records):
        is_empty = np.fromiter((value is None for value in records.values), np.bool_, len(records))
        full, controls = np.flatnonzero(~is_empty), np.flatnonzero(is_empty)
        if records.topic == topics.EVENTS:
            is_mark = np.array([records.keys[at] == WATERMARK_KEY for at in controls.tolist()], np.bool_)
            for at in controls[~is_mark].tolist():
                error = BadRecordError(Reason.BROKEN_RECORD, "no value")
                broken[at] = Broken(records.place(at), records.record(at), error)
            controls = marks = controls[is_mark]
    columns = codec.columns(values, lambda i: (int(records.partitions[at := int(full[i])]), int(records.offsets[at])))
    frame, good = columns.frame, full[columns.index]
    if (np.diff(good) < 0).any():  # several schemas in one batch
        order = np.argsort(good)
        frame, good = frame[order], good[order]
    for i, error in columns.bad:
        at = int(full[i])
        broken[at] = Broken(records.place(at), records.record(at), error)
    if records.topic == topics.EVENTS:
        early = ahead(frame["timestamp"].dt.epoch("ms").to_numpy(), records.times_ms[good])
        if early.any():
            broken |= _quarantined(records, good[early], frame.filter(early))
            frame, good = frame.filter(~early), good[~early]
    rows = frame.with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String),
        kafka_partition=pl.Series(records.partitions[good]),
        kafka_offset=pl.Series(records.offsets[good]),
        _arrived=pl.Series(records.times_ms[good]),
    )
    broken_at = sorted(broken)
    return Piece(
        records.topic,
        records.partitions,
        records.offsets,
        rows,
        good,
        [broken[at] for at in broken_at],
        np.array(broken_at, np.int64),
        controls,
        marks,
        records.times_ms[marks],
    )


def _quarantined(records: Records, at: Numbers, rows: pl.DataFrame) -> dict[int, Broken]:
    return {
        i: Broken(
            records.place(i),
            records.record(i),
            BadRecordError(Reason.CLOCK, row["timestamp"].isoformat(), "timestamp"),
            row["tenant"],
            row["source"],
        )
        for i, row in zip(at.tolist(), rows.iter_rows(named=True), strict=True)
    }
