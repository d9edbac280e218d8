"""The simple job on this project's worker: its transport, snapshots and outbox, with a small state of the job's own."""

from __future__ import annotations

import functools
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import faust
import numpy as np
import polars as pl
import pyarrow as pa

from bench.jobs import job
from schemas.codec import Codec
from schemas.event_time import Windows as Clockwork
from schemas.kafka import admin, partitions_of
from schemas.settings import Settings
from stream_processors import frames
from stream_processors.app import attach, faust_app, table
from stream_processors.outbox import Outbox
from stream_processors.resumable import Resumable
from stream_processors.segment import Segment
from stream_processors.snapshots import Snapshots
from stream_processors.transport import EventBatch
from stream_processors.transport import consumer as transport
from stream_processors.wire import Wire

PARTS = f"{job.OUTPUT}-parts"
CLOCKWORK = Clockwork(job.WINDOW_MS, job.GRACE_MS)
COLUMNS = ["timestamp", "track_id", "event_type", "ms_played"]
_TAKEN = [
    pl.col("timestamp").to_physical(),
    pl.col("track_id"),
    pl.col("event_type").to_physical().cast(pl.Int64),
    pl.col("ms_played").cast(pl.Int64).fill_null(0),
]
"""`event_type` is its place in job.TYPES."""
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
                rows = rows.filter(~pl.Series(late)) if late.any() else rows
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


class EventsAgent:
    """Events to the parts of windows that this partition has closed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox, self._wire = outbox, Wire(Codec("listening_event", wanted=COLUMNS))
        self.consumed = self.batches = 0

    def read(self, batch: EventBatch) -> pl.DataFrame:
        """Decodes a batch of events."""
        job.wait_at_gate()
        return self._wire.read(batch).frame.select(*_TAKEN, "_offset")

    def process(self, partition: int, state: PartitionWindows, batch: EventBatch, rows: pl.DataFrame) -> None:
        """Counts a batch of events, and tells the merge what that has closed."""
        closed = state.add(rows, batch.next)
        if closed is not None:
            value = _HEAD.pack(partition, state.clock) + frames.to_bytes(closed)
            # not emit: aiokafka compresses with lz4 at level 9, 18 ms a MB, what is compressed already
            self._outbox.emit_columns(
                PARTS, *(pa.array([one], pa.large_binary()) for one in (b"%d" % partition, value))
            )
        self.consumed += len(batch)
        self.batches += 1
        job.tell(self.consumed, self.batches)

    def settle(self, partition: int, state: PartitionWindows) -> None:
        """Nothing is put off."""


class MergeAgent:
    """Parts of windows to final rows."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def read(self, batch: EventBatch) -> list[tuple[int, bytes]]:
        """The parts of windows, each with its offset."""
        return [(record.offset, bytes(record.value)) for record in batch.records()]

    def process(self, _partition: int, state: MergedWindows, batch: EventBatch, parts: list[tuple[int, bytes]]) -> None:
        """Adds the parts of windows, and emits the windows that are final, a record per track."""
        for offset, value in parts:
            if offset >= (state.next or 0):
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
        self._outbox.emit_columns(job.OUTPUT, keys, values)

    def settle(self, partition: int, state: MergedWindows) -> None:
        """Nothing is put off."""


def create(settings: Settings) -> Any:
    """The Faust app, wired like stream_processors.app."""
    partitions = len(partitions_of(admin(settings), job.INPUT))
    app = faust_app(settings, f"{job.OUTPUT}-app", partitions, Path(job.DIRECTORY) / f"worker-{os.getpid()}")
    if fetch_bytes := os.environ.get("BENCH_FETCH_BYTES"):
        app.conf.consumer_max_fetch_size = int(fetch_bytes)
        transport._FETCH_MIN_BYTES = 1  # small batches must not wait for more
    outbox, every_ms = Outbox(settings), job.SNAPSHOT_EVERY_MS
    opened, waiting = Snapshots(table(app, "open", partitions), "1"), Snapshots(table(app, "waiting", 1), "1")
    merged = functools.partial(MergedWindows, partitions)
    stages: list[Resumable[Any]] = [
        Resumable(app, job.INPUT, opened, outbox, PartitionWindows, EventsAgent(outbox), every_ms),
        Resumable(app, PARTS, waiting, outbox, merged, MergeAgent(outbox), every_ms),
    ]
    attach(app, stages, every_ms, _fatal)
    return app


def _fatal(error: Exception) -> NoReturn:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    os._exit(1)


def main() -> None:
    """Runs until SIGTERM."""
    settings = Settings(kafka_bootstrap_servers=job.BOOTSTRAP, data_dir=Path(job.DIRECTORY))
    app = create(settings)
    sys.argv = ["worker"]
    faust.Worker(
        app, loglevel="WARNING", quiet=True, redirect_stdouts=False, override_logging=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main()
