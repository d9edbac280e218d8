"""From records of Kafka to rows of the warehouse: pure, so that it can be held against an oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import topics
from schemas.codec import Codec
from schemas.event_time import Windows, bounded
from schemas.settings import Settings
from schemas.tables import TABLES, Table, table
from sinks.decode import Broken, Piece, decode
from sinks.entries import ledger_entries, no_entries
from sinks.records import Records
from sinks.seen import SeenIds, hashes
from sinks.target import IMPORTED, Commit, Place, Progress, key_columns

HORIZON_DAYS = 7
"""How long after its arrival an event_id is known."""

FOR_EVER = 1 << 40
"""Histories are imported again after months: the ids of events from there count as of this day, and stay."""

DAY_MS = 86_400_000

GROUP_ROWS = 122_880
"""Rows of one row group of DuckDB: whole ones go to the file at once, others by way of the write-ahead log."""

Held = Callable[[Table, pl.DataFrame], pl.DataFrame]
"""Which of these keys the warehouse has. Given are the key columns and the table's time, which narrows the search."""


def horizons(settings: Settings) -> dict[str, int]:
    """For how many days after its arrival an id is known, by table; compacted topics: always.

    A record that a worker derives can come again for as long as Kafka keeps what it was derived from.
    """
    retention = {topic.name: topic.configs.get("retention.ms") for topic in topics.topics(settings)}
    derived = {t.name: int(kept) // DAY_MS + 2 for t in TABLES if t.topic and (kept := retention.get(t.topic))}
    return {**derived, "events": HORIZON_DAYS}


class Batcher:
    """Gathers what was consumed (`take`) and turns it into a Commit (`prepare`); `done` tells it that it succeeded.

    Keeps one `SeenIds` per table, see there for the memory. `orphans` are rows (by table, as kafka_partition and
    kafka_offset) that a step left which was not completed: their records count as loaded when they are read again,
    and are not written again.
    """

    def __init__(self, codecs: Mapping[str, Codec], windows: Windows, held: Held, horizons: Mapping[str, int]) -> None:
        self._codecs, self._windows, self._held, self._horizons = codecs, windows, held, horizons
        self._tables = {t.topic: t for t in TABLES if t.topic is not None}
        self._pieces: dict[str, list[Piece]] = {}
        self.orphans: Mapping[str, pl.DataFrame] = {}
        self.seen = {t.name: SeenIds() for t in self._tables.values()}

    def take(self, records: Records) -> None:
        """Decodes records and keeps them for the next step."""
        self._pieces.setdefault(records.topic, []).append(decode(records, self._codecs[records.topic]))

    def waiting(self) -> int:
        """Records of the topic that most wait of, for the next step."""
        return max((sum(map(len, pieces)) for pieces in self._pieces.values()), default=0)

    def drop(self) -> None:
        """Forgets what waits: it is read again."""
        self._pieces = {}

    def prepare(self, progress: Mapping[Place, Progress], now_ms: int) -> tuple[Commit, list[Broken]]:
        """The step that waiting records make from `progress`, and the records that cannot be read.

        Where more new rows of a table wait than GROUP_ROWS, the step ends at a multiple of it, and the rest waits on.
        """
        moved: dict[Place, Progress] = {}
        rows: dict[str, pl.DataFrame] = {}
        deduplicated: dict[str, int] = {}
        broken: list[Broken] = []
        entries = [no_entries()]
        for topic in sorted(self._pieces):
            found, columns = self._tables[topic], [column.name for column in self._tables[topic].columns]
            pieces = self._pieces.pop(topic)
            mine = pl.concat([piece.rows for piece in pieces])
            new = self._new(found, mine)
            written = self._orphaned(found, mine)
            new |= written
            if (end := whole_groups(new)) < mine.height:
                mine, new, written = mine[:end], new[:end], written[:end]
                pieces, self._pieces[topic] = cut(pieces, end)
            steps = advanced(topic, pieces, progress)
            if topic == topics.EVENTS:
                mine = mine.with_columns(is_late=self._late(mine, pieces, steps))
            rows[found.name] = mine.filter(new & ~written).select(columns)
            deduplicated[found.name] = int((~new).sum())
            refused = [bad for piece in pieces for bad in piece.broken]
            broken += refused
            first = pieces[0]
            batch = f"{topic}/{first.partitions[0]}/{first.offsets[0]}"
            entries.append(ledger_entries(found, mine, refused, new, batch, now_ms))
            moved |= steps
        return Commit(rows, pl.concat(entries), moved, deduplicated), broken

    def done(self, step: Commit, now_ms: int) -> None:
        """Remembers the ids of a step that is in the warehouse, and forgets those older than their horizon."""
        day = now_ms // DAY_MS
        for name, rows in step.rows.items():
            self.remember(name, rows, np.full(rows.height, day))
        for name, days in self._horizons.items():
            self.seen[name].forget(day - days)

    def remember(self, name: str, rows: pl.DataFrame, days: npt.NDArray[np.int64]) -> None:
        """Adds the ids of rows of this table that came on these days (since 1970); imported events stay for ever."""
        found = hashes(rows, key_columns(table(name)))
        if name == "events":
            days = np.where((rows["source"] == IMPORTED).to_numpy(), FOR_EVER, days)
        for day in np.unique(days).tolist():
            self.seen[name].add(found[days == day], day)

    def _late(self, rows: pl.DataFrame, pieces: list[Piece], progress: dict[Place, Progress]) -> pl.Series:
        """Judges each row where it stood in the log; watermark records move the clock too."""
        partitions, offsets = rows["kafka_partition"].to_numpy(), rows["kafka_offset"].to_numpy()
        times = rows["timestamp"].dt.epoch("ms").to_numpy()
        advances = bounded(times, rows["_arrived"].to_numpy())
        mark_partitions = np.concatenate([piece.partitions[piece.marks] for piece in pieces])
        mark_offsets = np.concatenate([piece.offsets[piece.marks] for piece in pieces])
        mark_times = np.concatenate([piece.mark_times_ms for piece in pieces])
        late = np.zeros(rows.height, np.bool_)
        for place, own in progress.items():
            mine, marks = np.flatnonzero(partitions == place[1]), mark_partitions == place[1]
            log_times = np.concatenate((times[mine], mark_times[marks]))
            order = np.argsort(np.concatenate((offsets[mine], mark_offsets[marks])))
            moves = np.concatenate((advances[mine], mark_times[marks]))
            judged, _, clock = self._windows.judge(log_times[order], own.clock_ms, moves[order])
            verdict = np.empty(len(order), np.bool_)
            verdict[order] = judged
            late[mine] = verdict[: len(mine)]
            progress[place] = replace(own, clock_ms=clock)
        return pl.Series(late)

    def _orphaned(self, of: Table, rows: pl.DataFrame) -> pl.Series:
        """Marks the rows that an incomplete step has written."""
        place = ["kafka_partition", "kafka_offset"]
        written = self.orphans.get(of.name)
        if written is None:
            return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
        marked = written.unique().with_columns(_orphan=pl.lit(True))
        return rows.select(place).join(marked, on=place, how="left", maintain_order="left")["_orphan"].fill_null(False)

    def _new(self, of: Table, rows: pl.DataFrame) -> pl.Series:
        """Marks the rows that are neither earlier in the batch nor in the warehouse."""
        columns = key_columns(of)
        hashed = hashes(rows, columns)
        new = pl.Series(hashed).is_first_distinct()
        if not new.all():  # equal hashes are told apart by their keys
            alike = pl.Series(hashed).is_duplicated()
            first = rows.filter(alike).select(pl.struct(columns).is_first_distinct()).to_series()
            new = new.scatter(alike.arg_true(), first)
        doubtful = new & pl.Series(self.seen[of.name].contains(hashed))
        if doubtful.any():
            asked = rows.filter(doubtful).select(list(dict.fromkeys((*columns, of.time))))
            held = self._held(of, asked).select(columns).unique()
            known = rows.select(columns).join(
                held.with_columns(_held=pl.lit(True)), on=columns, how="left", nulls_equal=True, maintain_order="left"
            )
            new &= known["_held"].is_null()
        return new


def whole_groups(new: pl.Series) -> int:
    """How many rows to take so that a multiple of GROUP_ROWS are new; all, where there are fewer new ones."""
    groups = int(new.sum()) // GROUP_ROWS
    return int(new.cum_sum().search_sorted(groups * GROUP_ROWS)) + 1 if groups else len(new)


def cut(pieces: list[Piece], rows: int) -> tuple[list[Piece], list[Piece]]:
    """The pieces up to their first `rows` rows, and what comes after."""
    for i, piece in enumerate(pieces):
        if rows <= piece.rows.height and rows:
            head, tail = piece.split(rows)
            return [*pieces[:i], head], [*([tail] if len(tail) else []), *pieces[i + 1 :]]
        rows -= piece.rows.height
    return pieces, []


def advanced(topic: str, pieces: list[Piece], progress: Mapping[Place, Progress]) -> dict[Place, Progress]:
    """Progress of the partitions that these records came from, after them."""
    partitions = np.concatenate([piece.partitions for piece in pieces])
    offsets = np.concatenate([piece.offsets for piece in pieces])
    controls = np.concatenate([piece.partitions[piece.controls] for piece in pieces])
    broken = [bad.place[1] for piece in pieces for bad in piece.broken]
    after: dict[Place, Progress] = {}
    for partition in np.unique(partitions).tolist():
        own = progress[topic, partition]
        after[topic, partition] = replace(
            own,
            next_offset=int(offsets[partitions == partition].max()) + 1,
            controls=own.controls + int((controls == partition).sum()),
            broken=own.broken + broken.count(partition),
        )
    return after
