"""The simple job on this project's worker: its transport, snapshots and outbox, with a small state of the job's own."""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import faust
import numpy as np
import polars as pl
import pyarrow as pa
from faust.types import TP

from bench.jobs import job
from bench.jobs.cursor import CursorWire
from schemas import topics
from schemas.codec import Codec
from schemas.event_time import Windows as Clockwork
from schemas.kafka import admin, partitions_of
from schemas.record_batch import record_batches
from schemas.settings import Settings
from stream_processors import frames
from stream_processors import outbox as outbox_parts
from stream_processors.outbox import Outbox
from stream_processors.resumable import Resumable
from stream_processors.segment import Segment
from stream_processors.snapshots import Snapshots
from stream_processors.transport import BatchSchema, EventBatch, guard

PARTS = f"{job.OUTPUT}-parts"
CLOCKWORK = Clockwork(job.WINDOW_MS, job.GRACE_MS)
COLUMNS = ["timestamp", "track_id", "event_type", "ms_played"]
"""What the job asks for; `event_type` comes as its place in job.TYPES."""
EMPTY = pl.DataFrame(
    schema={
        "window": pl.Int64,
        "track_id": pl.String,
        "event_type": pl.Int64,
        "events": pl.Int64,
        "ms_played": pl.Int64,
    }
)
_KEYS = ["window", "track_id", "event_type"]
_SUMS = [pl.col("events").sum(), pl.col("ms_played").sum()]
_FOLD_ROWS = 200_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEEP_BYTES = -1, -3, 1 << 30
_HEAD = struct.Struct(">iq")


class PartitionWindows:
    """Open windows of one input partition."""

    def __init__(self, header: Mapping[str, int], segments: Mapping[str, bytes]) -> None:
        self.next: int | None = header.get("next")
        self.clock: int = header.get("clock", 0)
        self._frames = [frames.from_bytes(segments["open"])] if "open" in segments else []
        self._raw: list[pl.DataFrame] = []
        self._raw_rows = 0
        self._changes = 0

    def add(self, rows: pl.DataFrame, next_offset: int) -> pl.DataFrame | None:
        """Counts the rows; returns the rows of closed windows when stream time has passed the end of one."""
        if rows.height and rows["_offset"][0] < (self.next or 0):
            rows = rows.filter(pl.col("_offset") >= self.next)
        border = CLOCKWORK.closed_before(self.clock)
        if rows.height:
            times = rows["timestamp"]
            least, most = times.min(), times.max()
            assert isinstance(least, int) and isinstance(most, int)
            if least < CLOCKWORK.closed_before(max(most, self.clock)):
                late, _, self.clock = CLOCKWORK.judge(times.to_numpy(), self.clock)
                rows = rows.filter(~pl.Series(late))
            self.clock = max(self.clock, most)
            self._raw.append(rows.select(COLUMNS))
            self._raw_rows += rows.height
            self._changes += 1
        self.next = next_offset
        if self._raw_rows > _FOLD_ROWS:
            self._group()
        now = CLOCKWORK.closed_before(self.clock)
        return self._close(now) if now > border else None

    def _group(self) -> None:
        if self._raw:
            window = pl.col("timestamp") // job.WINDOW_MS * job.WINDOW_MS
            counts = [pl.len().cast(pl.Int64).alias("events"), pl.col("ms_played").sum()]
            raw = pl.concat(self._raw).lazy().with_columns(window=window)
            self._frames.append(raw.group_by(_KEYS).agg(counts).collect())
            self._raw, self._raw_rows = [], 0

    def _fold(self) -> pl.DataFrame:
        self._group()
        if len(self._frames) != 1:
            self._frames = [pl.concat([EMPTY, *self._frames]).group_by(_KEYS).agg(_SUMS)]
        return self._frames[0]

    def _close(self, border: int) -> pl.DataFrame:
        rows = self._fold()
        self._frames = [rows.filter(pl.col("window") >= border)]
        self._changes += 1
        return rows.filter(pl.col("window") < border)

    def header(self) -> dict[str, int]:
        """The small part of the state."""
        return {"next": self.next or 0, "clock": self.clock}

    def segments(self) -> dict[str, Segment]:
        """The open windows."""
        return {"open": Segment(self._changes, lambda: frames.to_bytes(self._fold()))}


class MergedWindows:
    """Closed windows of all partitions, until each of them has closed its own."""

    def __init__(self, partitions: int, header: Mapping[str, int], segments: Mapping[str, bytes]) -> None:
        self.next: int | None = header.get("next")
        self.clocks = {int(name): clock for name, clock in header.items() if name != "next"}
        self._partitions = partitions
        self._waiting = [frames.from_bytes(segments["waiting"])] if "waiting" in segments else []
        self._changes = 0

    def add(self, partition: int, clock: int, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Takes what a partition has closed; returns the rows that are final now. Rows told again are left out."""
        final = self._border()
        known = CLOCKWORK.closed_before(self.clocks.get(partition, 0))
        self._waiting.append(rows.filter(pl.col("window") >= known))
        self.clocks[partition] = max(clock, self.clocks.get(partition, 0))
        self._changes += 1
        border = self._border()
        if border <= final:
            return None
        waiting = pl.concat(self._waiting)
        self._waiting = [waiting.filter(pl.col("window") >= border)]
        kind = pl.col("event_type")
        return (
            waiting.filter(pl.col("window") < border)
            .group_by("window", "track_id")
            .agg(*(pl.col("events").filter(kind == i).sum().alias(name) for i, name in enumerate(job.TYPES)), _SUMS[1])
        )

    def _border(self) -> int:
        if len(self.clocks) < self._partitions:
            return 0
        return CLOCKWORK.closed_before(min(self.clocks.values()))

    def header(self) -> dict[str, int]:
        """The small part of the state."""
        return {"next": self.next or 0, **{str(partition): clock for partition, clock in self.clocks.items()}}

    def segments(self) -> dict[str, Segment]:
        """The waiting rows."""
        return {"waiting": Segment(self._changes, lambda: frames.to_bytes(pl.concat([EMPTY, *self._waiting])))}


class Results(Outbox):
    """Results whose bytes are made here: emit_rows would write Avro, which the other engines do not."""

    def emit_bytes(self, topic: str, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray) -> None:
        """Queues a record per key."""
        for data, records in record_batches(keys, values, time.time_ns() // 1_000_000):
            self._queued.append((topic, 0, outbox_parts._Ready(data, records)))


class EventsAgent:
    """Events to the parts of windows that this partition has closed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox, self._wire = outbox, CursorWire(Codec("listening_event"), COLUMNS)
        self.consumed = 0

    def process(self, partition: int, state: PartitionWindows, batch: EventBatch) -> None:
        """Counts a batch of events, and tells the merge what that has closed."""
        closed = state.add(self._wire.read(batch), batch.next)
        if closed is not None:
            value = _HEAD.pack(partition, state.clock) + frames.to_bytes(closed)
            self._outbox.emit(PARTS, str(partition).encode(), value)
        self.consumed += len(batch)
        job.tell(self.consumed)

    def settle(self, partition: int, state: PartitionWindows) -> None:
        """Nothing is put off."""


class MergeAgent:
    """Parts of windows to final rows."""

    def __init__(self, outbox: Results) -> None:
        self._outbox = outbox

    def process(self, _partition: int, state: MergedWindows, batch: EventBatch) -> None:
        """Adds the parts of windows, and emits the windows that are final, a record per track."""
        for record in batch.records():
            if record.offset >= (state.next or 0):
                value = bytes(record.value)
                partition, clock = _HEAD.unpack_from(value)
                final = state.add(partition, clock, frames.from_bytes(value[_HEAD.size :]))
                if final is not None and final.height:
                    self._emit(final)
        state.next = batch.next

    def _emit(self, final: pl.DataFrame) -> None:
        key = pl.concat_str("window", "track_id", separator="/").cast(pl.Binary)
        keys = final.select(key).to_series().to_arrow().cast(pa.large_binary())
        counts = final.select(*job.TYPES, "ms_played").to_numpy().astype(">i8").tobytes()
        places = np.arange(final.height + 1, dtype=np.int64) * job.ROW.size
        buffers = [None, pa.py_buffer(places), pa.py_buffer(counts)]
        values = pa.Array.from_buffers(pa.large_binary(), final.height, buffers)
        self._outbox.emit_bytes(job.OUTPUT, keys, values)

    def settle(self, partition: int, state: MergedWindows) -> None:
        """Nothing is put off."""


def create(settings: Settings) -> Any:
    """The Faust app, wired like stream_processors.app."""
    guard.check()
    partitions = len(partitions_of(admin(settings), job.INPUT))
    app = faust.App(
        f"{job.OUTPUT}-app",
        broker=f"columnar://{settings.kafka_bootstrap_servers}",
        datadir=str(job.DIRECTORY / f"worker-{os.getpid()}"),
        topic_partitions=partitions,
        topic_disable_leader=True,
        stream_buffer_maxsize=8,
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 3000,
        broker_commit_interval=1.0,
        producer_max_request_size=topics.MESSAGE_MAX_BYTES,
        web_enabled=False,
    )
    outbox = Results(settings)
    load = functools.partial(MergedWindows, partitions)
    stages: dict[str, Resumable[Any]] = {
        job.INPUT: Resumable(
            app,
            job.INPUT,
            Snapshots(_table(app, "open", partitions), "1"),
            outbox,
            PartitionWindows,
            EventsAgent(outbox),
            job.SNAPSHOT_EVERY_MS,
        ),
        PARTS: Resumable(
            app,
            PARTS,
            Snapshots(_table(app, "waiting", 1), "1"),
            outbox,
            load,
            MergeAgent(outbox),
            job.SNAPSHOT_EVERY_MS,
        ),
    }

    async def resume_at(tp: TP, earliest: int) -> int:
        return stages[tp.topic].resume_at(tp.partition, earliest)

    app.resume_at = resume_at

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget(_app: Any, _revoked: set[TP], **_kwargs: Any) -> None:
        for stage in stages.values():
            stage.forget()

    for stage in stages.values():
        app.agent(app.topic(stage.topic, schema=BatchSchema(), partitions=None), name=stage.topic)(_agent(stage))

    @app.timer(interval=job.SNAPSHOT_EVERY_MS / 1000)  # type: ignore[untyped-decorator]
    async def save_quiet_partitions() -> None:
        for stage in stages.values():
            await stage.save_quiet_partitions()

    return app


def _table(app: Any, name: str, partitions: int) -> Any:
    large = {"max.message.bytes": topics.MESSAGE_MAX_BYTES}
    return app.Table(
        name, key_type=str, value_type=bytes, partitions=partitions, extra_topic_configs=large, recovery_buffer_size=4
    )


def _agent(stage: Resumable[Any]) -> Any:
    async def agent(stream: Any) -> None:
        try:
            await stage.run(stream)
        except Exception as error:
            _fatal(error)

    return agent


def _fatal(error: Exception) -> NoReturn:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    os._exit(1)


def _keep_freed_memory() -> None:
    """Glibc gives large buffers back to the system at once, and each new one costs a page fault per 4 KB."""
    if sys.platform.startswith("linux"):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def main() -> None:
    """Runs until SIGTERM."""
    _keep_freed_memory()
    settings = Settings(kafka_bootstrap_servers=job.BOOTSTRAP, data_dir=Path(job.DIRECTORY))
    app = create(settings)
    sys.argv = ["worker"]
    faust.Worker(
        app, loglevel="WARNING", quiet=True, redirect_stdouts=False, override_logging=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main()
