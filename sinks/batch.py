"""From records of Kafka to rows of the warehouse: pure, so that it can be held against an oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from schemas import topics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY, Windows, ahead
from schemas.reasons import BadRecordError, Reason
from schemas.tables import TABLES, Table, table
from sinks.seen import SeenIds, hashes
from sinks.target import Commit, Place, Progress, key_columns

HORIZON_DAYS = 7
"""How long after its arrival an event_id is known; the other tables know every id."""

DAY_MS = 86_400_000


Held = Callable[[Table, pl.DataFrame], pl.DataFrame]
"""Which of these keys the warehouse has."""


class Record(NamedTuple):
    """A record as Kafka gave it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


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
class Decoded:
    """Records of one topic as rows of its table, in the order of partition and offset."""

    table: Table
    rows: pl.DataFrame
    broken: list[Broken]


class Batcher:
    """Turns what was consumed into a Commit. Keeps `SeenIds`; `done` tells it that a commit succeeded.

    `orphans` are rows (by table, as kafka_partition and kafka_offset) that a step left which was not completed: their
    records count as loaded when they are read again, and are not written again.
    """

    def __init__(self, codecs: Mapping[str, Codec], windows: Windows, held: Held) -> None:
        self._codecs, self._windows, self._held = codecs, windows, held
        self._tables = {t.topic: t for t in TABLES if t.topic is not None}
        self.orphans: Mapping[str, pl.DataFrame] = {}
        self.seen = {t.name: SeenIds() for t in self._tables.values()}

    def prepare(
        self, taken: Mapping[Place, Sequence[Record]], progress: Mapping[Place, Progress], now_ms: int
    ) -> tuple[Commit, list[Broken]]:
        """The step that these records make from `progress`, and the records that cannot be read."""
        after = dict(progress)
        rows: dict[str, pl.DataFrame] = {}
        deduplicated: dict[str, int] = {}
        broken: list[Broken] = []
        entries: list[pl.DataFrame] = []
        for topic in sorted({topic for topic, _ in taken}):
            mine = {place: records for place, records in sorted(taken.items()) if place[0] == topic}
            decoded = self._decode(topic, mine, after)
            orphaned = self._orphaned(decoded)
            new = self._new(decoded) | orphaned
            rows[decoded.table.name] = decoded.rows.filter(new & ~orphaned)
            deduplicated[decoded.table.name] = int((~new).sum())
            broken += decoded.broken
            (_, partition), records = next(iter(mine.items()))
            entries.append(ledger_entries(decoded, new, f"{topic}/{partition}/{records[0].offset}", now_ms))
        moved = {place: after[place] for place in taken}
        return Commit(rows, pl.concat(entries) if entries else _no_entries(), moved, deduplicated), broken

    def done(self, step: Commit, now_ms: int) -> None:
        """Remembers the ids of a step that is in the warehouse, and forgets events older than the horizon."""
        day = now_ms // DAY_MS
        for name, rows in step.rows.items():
            self.seen[name].add(hashes(rows, key_columns(table(name))), day)
        self.seen["events"].forget(day - HORIZON_DAYS)

    def _decode(self, topic: str, taken: Mapping[Place, Sequence[Record]], progress: dict[Place, Progress]) -> Decoded:
        """Decodes all partitions of a topic in one pass, and moves `progress`."""
        codec, found = self._codecs[topic], self._tables[topic]
        places: list[Place] = []
        readable: list[Record] = []
        broken: list[Broken] = []
        for place, records in taken.items():
            controls = 0
            for record in records:
                if record.value is not None:
                    places.append(place)
                    readable.append(record)
                elif topic != topics.EVENTS or record.key == WATERMARK_KEY:
                    controls += 1  # a watermark, or the tombstone of a compacted topic
                else:
                    broken.append(Broken(place, record, BadRecordError(Reason.BROKEN_RECORD, "no value")))
            before = progress[place]
            next_offset = records[-1].offset + 1
            progress[place] = replace(before, next_offset=next_offset, controls=before.controls + controls)
        columns = codec.columns([record.value for record in readable if record.value is not None])
        broken += [Broken(places[i], readable[i], error) for i, error in columns.bad]
        frame, good = columns.frame, columns.index
        if topic == topics.EVENTS:
            arrived = np.array([readable[i].timestamp_ms for i in good.tolist()], np.int64)
            early = ahead(frame["timestamp"].dt.epoch("ms").to_numpy(), arrived)
            if early.any():
                broken += [
                    Broken(
                        places[i],
                        readable[i],
                        BadRecordError(Reason.CLOCK, str(row["timestamp"]), "timestamp"),
                        row["tenant"],
                        row["source"],
                    )
                    for i, row in zip(good[early].tolist(), frame.filter(early).iter_rows(named=True), strict=True)
                ]
                frame, good = frame.filter(~early), good[~early]
        for bad in broken:
            progress[bad.place] = replace(progress[bad.place], broken=progress[bad.place].broken + 1)
        rows = frame.with_columns(
            pl.col(pl.Categorical, pl.Enum).cast(pl.String),
            kafka_partition=pl.Series([places[i][1] for i in good.tolist()], dtype=pl.Int64),
            kafka_offset=pl.Series([readable[i].offset for i in good.tolist()], dtype=pl.Int64),
        )
        if topic == topics.EVENTS:
            rows = rows.with_columns(is_late=self._late(rows, taken, progress))
        return Decoded(found, rows.select([column.name for column in found.columns]), broken)

    def _late(
        self, rows: pl.DataFrame, taken: Mapping[Place, Sequence[Record]], progress: dict[Place, Progress]
    ) -> pl.Series:
        """Judges each row where it stood in the log; watermark records move the clock too."""
        partitions, offsets = rows["kafka_partition"].to_numpy(), rows["kafka_offset"].to_numpy()
        times = rows["timestamp"].dt.epoch("ms").to_numpy()
        late = np.zeros(rows.height, np.bool_)
        for place, records in taken.items():
            mine = np.flatnonzero(partitions == place[1])
            marks = [r for r in records if r.value is None and r.key == WATERMARK_KEY]
            log_offsets = np.concatenate((offsets[mine], np.array([r.offset for r in marks], np.int64)))
            log_times = np.concatenate((times[mine], np.array([r.timestamp_ms for r in marks], np.int64)))
            order = np.argsort(log_offsets)
            judged, _, clock = self._windows.judge(log_times[order], progress[place].clock_ms)
            verdict = np.empty(len(order), np.bool_)
            verdict[order] = judged
            late[mine] = verdict[: len(mine)]
            progress[place] = replace(progress[place], clock_ms=clock)
        return pl.Series(late)

    def _orphaned(self, decoded: Decoded) -> pl.Series:
        """Marks the rows that an incomplete step has written."""
        place = ["kafka_partition", "kafka_offset"]
        written = self.orphans.get(decoded.table.name)
        if written is None:
            return pl.repeat(False, decoded.rows.height, dtype=pl.Boolean, eager=True)
        marked = written.unique().with_columns(_orphan=pl.lit(True))
        return (
            decoded.rows.select(place)
            .join(marked, on=place, how="left", maintain_order="left")["_orphan"]
            .fill_null(False)
        )

    def _new(self, decoded: Decoded) -> pl.Series:
        """Marks the rows that are neither earlier in the batch nor in the warehouse."""
        rows, columns = decoded.rows, key_columns(decoded.table)
        new = rows.select(pl.struct(columns).is_first_distinct()).to_series()
        hit = pl.Series(self.seen[decoded.table.name].contains(hashes(rows, columns)))
        doubtful = rows.select(columns).filter(new & hit)
        if doubtful.height:
            held = self._held(decoded.table, doubtful).select(columns).unique()
            known = rows.select(columns).join(
                held.with_columns(_held=pl.lit(True)), on=columns, how="left", nulls_equal=True, maintain_order="left"
            )
            new &= known["_held"].is_null()
        return new


def ledger_entries(decoded: Decoded, new: pl.Series, batch: str, now_ms: int) -> pl.DataFrame:
    """Rows of `ledger` of one topic's part of a batch; none for topics that are no way in.

    Events are accepted by being in `listening-events`, the unreadable ones too (under `unknown`, in the hour of their
    Kafka timestamp); their dead letter completes them. A letter of a door (without topic) is accepted itself, as often
    as it was sent. Letters about records of other topics are no part of the ledger.
    """
    rows = decoded.rows
    counts: dict[str, pl.Series | pl.Expr]
    if decoded.table.name == "events":
        time = "received_at"
        counts = {"accepted": pl.lit(1), "loaded": new, "dead_lettered": pl.lit(0), "deduplicated": ~new}
    elif decoded.table.name == "dead_letters":
        mask = rows["topic"].is_null() | ((rows["topic"] == topics.EVENTS).fill_null(False) & new)
        rows, new = rows.filter(mask), new.filter(mask)
        at_door = rows["topic"].is_null()
        time = "failed_at"
        counts = {"accepted": at_door, "loaded": pl.lit(0), "dead_lettered": new, "deduplicated": at_door & ~new}
    else:
        return _no_entries()
    counted = rows.select(
        "tenant",
        "source",
        hour=pl.col(time).dt.truncate("1h"),
        **counts,
    )
    if decoded.table.name == "events" and decoded.broken:
        counted = pl.concat(
            [counted.with_columns(pl.col(name).cast(pl.Int64) for name in _ENTRY_COUNTS), _unreadable(decoded.broken)]
        )
    sums = (
        counted.with_columns(pl.col(name).cast(pl.Int64) for name in _ENTRY_COUNTS)
        .group_by("tenant", "source", "hour")
        .sum()
    )
    return sums.select(
        entry_id=pl.format("{}/{}/{}/{}", pl.lit(batch), "tenant", "source", pl.col("hour").dt.strftime("%Y-%m-%dT%H")),
        tenant="tenant",
        source="source",
        hour="hour",
        **{name: name for name in _ENTRY_COUNTS},
        committed_at=pl.lit(now_ms).cast(pl.Datetime("ms", "UTC")),
    )


_ENTRY_COUNTS: dict[str, pl.DataType] = dict.fromkeys(
    ("accepted", "loaded", "dead_lettered", "deduplicated"), pl.Int64()
)


def _unreadable(broken: Sequence[Broken]) -> pl.DataFrame:
    times = pl.Series([bad.record.timestamp_ms for bad in broken]).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame(
        {
            "tenant": [bad.tenant for bad in broken],
            "source": [bad.source for bad in broken],
            "hour": times.dt.truncate("1h"),
        }
    ).with_columns(
        *(pl.lit(int(name == "accepted"), pl.Int64).alias(name) for name in _ENTRY_COUNTS),
    )


def _no_entries() -> pl.DataFrame:
    time = pl.Datetime("ms", "UTC")
    text = dict.fromkeys(("entry_id", "tenant", "source"), pl.String)
    return pl.DataFrame(schema={**text, "hour": time, **_ENTRY_COUNTS, "committed_at": time})
