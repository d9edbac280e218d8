"""Everything that is derived from events, computed again by the code of the worker and the sink, from the log alone.

The log is Kafka's as far as Kafka keeps it. What retention has deleted comes from the table `events`, which has each
event with its offset and whether it was late. It has neither watermark records nor repetitions: where an event was late
and nothing before it explains that, a watermark is put before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa

from crossfade.verify import records_of
from schemas import topics
from schemas.codec import Codec
from schemas.encode import encode
from schemas.event_time import WATERMARK_KEY, Windows, bounded
from schemas.kafka import codec_of
from schemas.reasons import BadRecordError, Reason
from schemas.settings import Settings
from schemas.tables import TABLES, table
from sinks.records import Numbers, Record, Records
from sinks.target import Place
from stream_processors.agents import EventsAgent, MergeAgent
from stream_processors.merge import MergeState, Part
from stream_processors.outbox import Outbox
from stream_processors.partition import PartitionState
from stream_processors.transport import EventBatch
from stream_processors.wire import BadRecord, Decoded
from warehouse.runner import Bulk

_AT_ONCE = 200_000
_SPILL_ROWS = 100_000


@dataclass(frozen=True)
class Stretch:
    """A stretch of a partition's log, decoded, with the face of the transport's EventBatch."""

    topic: str
    partition: int
    next: int
    decoded: Decoded
    originals: list[Record] = field(default_factory=list)

    def __len__(self) -> int:
        return self.decoded.frame.height

    def records(self) -> Iterator[Any]:
        """Original records, for their dead letters."""
        for record in self.originals:
            yield _Original(record.offset, record.timestamp_ms, record.key, record.value)


@dataclass(frozen=True)
class _Original:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Shelf:
    """Rows of the derived tables, kept in files of a folder, with the face of the worker's Outbox."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.parts: list[Part] = []
        self._folder = folder
        self._tables = {each.topic: each.name for each in TABLES if each.topic is not None}
        self._codecs = {topic: codec_of(settings, topic) for topic in self._tables}
        self._values: dict[str, list[bytes]] = {}
        self._files = 0

    def emit(self, topic: str, key: bytes, value: bytes | None, **_: object) -> None:
        """Takes one record."""
        if topic == topics.WINDOW_PARTIALS and value is not None:
            self.parts.append(Part.decode(value))
        elif value is not None and key != WATERMARK_KEY:
            self._keep(topic, [value])

    def emit_rows(self, topic: str, codec: Codec, rows: pl.DataFrame, key: str, **_: object) -> None:  # noqa: ARG002
        """Takes a record per row."""
        if rows.height:
            self._keep(topic, cast(pa.LargeBinaryArray, encode(codec, rows)).to_pylist())

    def _keep(self, topic: str, values: list[bytes]) -> None:
        kept = self._values.setdefault(topic, [])
        kept += values
        if len(kept) >= _SPILL_ROWS:
            self._spill(topic)

    def _spill(self, topic: str) -> None:
        rows = self._codecs[topic].columns(self._values.pop(topic)).frame
        folder = self._folder / self._tables[topic]
        folder.mkdir(exist_ok=True)
        self._files += 1
        rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).write_parquet(
            folder / f"{self._files}.parquet"
        )

    def rows(self, name: str) -> pl.LazyFrame:
        """Rows of a table."""
        for topic in list(self._values):
            self._spill(topic)
        folder = self._folder / name
        if not folder.exists():
            codec = self._codecs[str(table(name).topic)]
            return codec.empty().with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).lazy()
        return pl.scan_parquet(folder / "*.parquet")


class Recomputation:
    """The worker's two agents with fresh states, fed with stretches of the log. For one thread."""

    def __init__(self, settings: Settings, partitions: int, shelf: Shelf) -> None:
        self._settings, self._shelf = settings, shelf
        self._clockwork = Windows(settings.window_ms, settings.grace_ms)
        outbox = cast(Outbox, shelf)
        final = settings.model_copy(update={"emit": "final"})
        self._events = EventsAgent(final, outbox)
        self._merge_agent = MergeAgent(final, outbox, list(range(partitions)), lambda: time.time_ns() // 1_000_000)
        self._merge = MergeState(self._clockwork, partitions)
        self._states: dict[int, PartitionState] = {}
        self._offset = 0

    @property
    def final_before(self) -> int:
        """Windows that end at or before this time (ms) are final."""
        return self._merge.final_before

    def add(self, stretch: Stretch) -> None:
        """Takes a stretch; those of one partition come in order."""
        state = self._states.get(stretch.partition)
        if state is None:
            settings = self._settings
            state = PartitionState(self._clockwork, settings.play_timeout_ms, settings.session_gap_ms)
            self._states[stretch.partition] = state
        batch = cast(EventBatch, stretch)
        self._events.process(stretch.partition, state, batch, stretch.decoded)
        self._events.settle(stretch.partition, state)
        self._pass_on()

    def end(self) -> None:
        """Finishes what was put off; what is open stays open."""
        for partition, state in self._states.items():
            self._events._emit_finished(partition, state.settle())
        self._pass_on()

    def _pass_on(self) -> None:
        parts, self._shelf.parts = self._shelf.parts, []
        if parts:
            numbered = list(enumerate(parts, self._offset))
            self._offset += len(parts)
            batch = cast(EventBatch, Stretch(topics.WINDOW_PARTIALS, 0, self._offset, Decoded(pl.DataFrame())))
            self._merge_agent.process(0, self._merge, batch, numbered)


def from_kafka(settings: Settings, places: Mapping[Place, range]) -> Iterator[Stretch]:
    """The log as Kafka has it; raises KafkaUnavailableError."""
    codec = codec_of(settings, topics.EVENTS)
    for records in records_of(settings, places):
        for partition in np.unique(records.partitions).tolist():
            yield _stretch(_of_partition(records, partition), partition, codec)


def _of_partition(records: Records, partition: int) -> Records:
    mine = np.flatnonzero(records.partitions == partition)
    if len(mine) == len(records):
        return records
    at = mine.tolist()
    columns = (records.partitions[mine], records.offsets[mine], records.times_ms[mine])
    return Records(records.topic, *columns, [records.keys[i] for i in at], [records.values[i] for i in at])


def _stretch(records: Records, partition: int, codec: Codec) -> Stretch:
    full = [i for i, value in enumerate(records.values) if value is not None]
    empty = [records.record(i) for i, value in enumerate(records.values) if value is None]
    read = codec.columns(
        [value for value in records.values if value is not None],
        lambda i: (partition, int(records.offsets[full[i]])),
    )
    good: Numbers = np.array(full, np.int64)[read.index]
    order = np.argsort(good, kind="stable")
    frame = read.frame.with_columns(_offset=pl.Series(records.offsets[good]), _time=pl.Series(records.times_ms[good]))
    refused = [(records.record(full[i]), error) for i, error in read.bad]
    refused += [(r, BadRecordError(Reason.BROKEN_RECORD, "no value")) for r in empty if r.key != WATERMARK_KEY]
    bad = [BadRecord(r.offset, r.timestamp_ms, r.key, r.value or b"", error) for r, error in refused]
    marks = [(record.offset, record.timestamp_ms) for record in empty if record.key == WATERMARK_KEY]
    return Stretch(
        topics.EVENTS,
        partition,
        int(records.offsets[-1]) + 1,
        Decoded(frame[order], bad, marks),
        [records.record(i) for i in full],
    )


def from_table(settings: Settings, source: Bulk, places: Mapping[Place, range]) -> Iterator[Stretch]:
    """The log as the table `events` remembers it; raises WarehouseError."""
    codec = codec_of(settings, topics.EVENTS)
    names, shape = [field["name"] for field in codec.fields], codec.empty()
    clockwork = Windows(settings.window_ms, settings.grace_ms)
    clocks: dict[int, int] = {}
    for (_, partition), offsets in places.items():
        for start in range(offsets.start, offsets.stop, _AT_ONCE):
            params = {"partition": partition, "start": start, "stop": min(start + _AT_ONCE, offsets.stop)}
            rows = source.frame(
                f"SELECT {', '.join(f'`{n}`' for n in names)}, is_late, kafka_offset FROM events "  # noqa: S608 - ours
                "WHERE kafka_partition = @partition AND kafka_offset >= @start AND kafka_offset < @stop",
                params,
            ).sort("kafka_offset")
            frame = rows.select(pl.col(name).cast(shape[name].dtype) for name in names).with_columns(
                _offset=rows["kafka_offset"], _time=rows["received_at"].dt.epoch("ms")
            )
            marks, clocks[partition] = explained(frame, rows["is_late"], clockwork, clocks.get(partition, 0))
            if marks and marks[0][0] < start:  # before everything that this stretch covers
                _, time_ms = marks.pop(0)
                yield Stretch(topics.EVENTS, partition, start, Decoded(frame.clear(), watermarks=[(start, time_ms)]))
            yield Stretch(topics.EVENTS, partition, params["stop"], Decoded(frame, watermarks=marks))


def explained(
    frame: pl.DataFrame, is_late: pl.Series, clockwork: Windows, clock: int
) -> tuple[list[tuple[int, int]], int]:
    """Watermarks without which the late rows would not be late, each just before its row; the clock after them."""
    if frame.is_empty():
        return [], clock
    times, offsets = frame["timestamp"].dt.epoch("ms").to_numpy(), frame["_offset"].to_numpy()
    after = np.maximum(np.maximum.accumulate(bounded(times, frame["_time"].to_numpy())), clock)
    needed = clockwork.start(times) + clockwork.window_ms + clockwork.grace_ms  # of a row that is late
    marks: list[tuple[int, int]] = []
    marked = clock
    for i in np.flatnonzero(is_late.to_numpy()).tolist():
        before = max(int(after[i - 1]) if i else clock, marked)
        if before < needed[i]:
            marked = int(needed[i])
            marks.append((int(offsets[i]) - 1, marked))
    return marks, max(int(after[-1]), marked)
