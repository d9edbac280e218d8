"""The simple job on this project's worker: its transport, snapshots and outbox, with a small state of the job's own."""

from __future__ import annotations

import functools
import os
import struct
import sys
from collections import defaultdict
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
from schemas.kernel import kernel
from schemas.settings import Settings
from schemas.texts import hash_names
from stream_processors import frames
from stream_processors.app import attach, faust_app, table
from stream_processors.codes import Codes, Hashes, SmallInts, hashes
from stream_processors.outbox import Outbox
from stream_processors.places import Ints
from stream_processors.resumable import Resumable
from stream_processors.segment import Segment
from stream_processors.snapshots import Snapshots
from stream_processors.transport import EventBatch
from stream_processors.transport import consumer as transport
from stream_processors.wire import Wire

PARTS = f"{job.OUTPUT}-parts"
CLOCKWORK = Clockwork(job.WINDOW_MS, job.GRACE_MS)
COLUMNS = ["timestamp", "track_id", "event_type", "ms_played"]
HASHED = ["track_id"]
_TAKEN = [
    pl.col("timestamp").to_physical(),
    pl.col("track_id", *hash_names("track_id")),
    pl.col("event_type").to_physical(),
    pl.col("ms_played").fill_null(0),
]
"""`event_type` is its place in job.TYPES."""
COUNTS = [*job.TYPES, "ms_played"]
EMPTY = pl.DataFrame(schema={"window": pl.Int64, "track_id": pl.String, **dict.fromkeys(COUNTS, pl.Int64)})
_HEAD = struct.Struct(">iq")


class Events:
    """A batch in columns."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.tracks, self.hashes = rows["track_id"], hashes(rows, HASHED)
        self.kinds, self.ms_played = rows["event_type"].to_numpy(), rows["ms_played"].to_numpy()


class Tracks:
    """Counts of one window: a row per track, columns COUNTS."""

    def __init__(self) -> None:
        self._codes = Codes()
        self._names: list[pl.DataFrame] = []
        self._counts = np.zeros((0, len(COUNTS)), np.int64)

    def count(self, events: Events, places: Ints) -> None:
        """Counts the events at these places."""
        codes = self._numbered(events.tracks, events.hashes[places], places)
        _count(self._counts, codes, events.kinds[places], events.ms_played[places])

    def add(self, rows: pl.DataFrame) -> None:
        """Adds counts of other events of the window, told by `rows`."""
        codes = self._numbered(rows["track_id"], hashes(rows, HASHED), np.arange(rows.height))
        _add(self._counts, codes, rows.select(COUNTS).to_numpy(order="c"))

    def rows(self, window: int) -> pl.DataFrame:
        """The counts, in the form of EMPTY."""
        counts = pl.from_numpy(self._counts[: len(self._codes)], schema=COUNTS)
        return pl.concat(self._names).select(pl.lit(window, pl.Int64).alias("window"), "track_id").hstack(counts)

    def _numbered(self, tracks: pl.Series, found: Hashes, places: Ints) -> SmallInts:
        codes, new = self._codes.of(found)
        if len(new):
            self._names.append(frames.owned(tracks.gather(places[new]).to_frame()))
        if len(self._codes) > len(self._counts):
            before = self._counts
            self._counts = np.zeros((2 * len(self._codes), len(COUNTS)), np.int64)
            self._counts[: len(before)] = before
        return codes


@kernel
def _count(counts: Ints, codes: SmallInts, kinds: SmallInts, ms_played: SmallInts) -> None:
    for i in range(len(codes)):
        counts[codes[i], kinds[i]] += 1
        counts[codes[i], counts.shape[1] - 1] += ms_played[i]


@kernel
def _add(counts: Ints, codes: SmallInts, more: Ints) -> None:
    for i in range(len(codes)):
        for k in range(counts.shape[1]):
            counts[codes[i], k] += more[i, k]


class PartitionWindows:
    """Open windows of one input partition."""

    def __init__(self, header: Mapping[str, int], segments: Mapping[str, bytes]) -> None:
        self.next: int | None = header.get("next")
        self.clock: int = header.get("clock", 0)
        self._open: dict[int, Tracks] = defaultdict(Tracks)
        self._changes = 0
        if "open" in segments:
            for (window,), rows in frames.from_bytes(segments["open"]).group_by("window"):
                self._open[int(window)].add(rows)

    def add(self, rows: pl.DataFrame, next_offset: int) -> pl.DataFrame | None:
        """Counts the rows; returns the rows of closed windows when stream time has passed the end of one."""
        if rows.height and rows["_offset"][0] < (self.next or 0):
            rows = rows.filter(pl.col("_offset") >= self.next)
        border = CLOCKWORK.closed_before(self.clock)
        if rows.height:
            times = rows["timestamp"].to_numpy()
            most = int(times.max())
            if times.min() < CLOCKWORK.closed_before(max(most, self.clock)):
                late, _, self.clock = CLOCKWORK.judge(times, self.clock)
                rows = rows.filter(~pl.Series(late))
            self.clock = max(self.clock, most)
            if rows.height:
                self._count(rows)
            self._changes += 1
        self.next = next_offset
        now = CLOCKWORK.closed_before(self.clock)
        return self._close(now) if now > border else None

    def _count(self, rows: pl.DataFrame) -> None:
        events, windows = Events(rows), CLOCKWORK.start(rows["timestamp"].to_numpy())
        order = np.argsort(windows, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(windows[order])) + 1):
            self._open[int(windows[places[0]])].count(events, places)

    def _close(self, border: int) -> pl.DataFrame:
        self._changes += 1
        closed = sorted(window for window in self._open if window < border)
        return pl.concat([EMPTY, *(self._open.pop(window).rows(window) for window in closed)])

    def header(self) -> dict[str, int]:
        """The small part of the state."""
        return {"next": self.next or 0, "clock": self.clock}

    def segments(self) -> dict[str, Segment]:
        """The open windows."""
        return {"open": Segment(self._changes, self._encode)}

    def _encode(self) -> bytes:
        return frames.to_bytes(pl.concat([EMPTY, *(one.rows(window) for window, one in self._open.items())]))


class MergedWindows:
    """Closed windows of all partitions, until each of them has closed its own."""

    def __init__(self, partitions: int, header: Mapping[str, int], segments: Mapping[str, bytes]) -> None:
        self.next: int | None = header.get("next")
        self.clocks = {int(name): clock for name, clock in header.items() if name != "next"}
        self._partitions = partitions
        self._waiting = frames.from_bytes(segments["waiting"]) if "waiting" in segments else EMPTY
        self._changes = 0

    def add(self, partition: int, clock: int, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Takes what a partition has closed; returns the rows that are final now. Rows told again are left out."""
        final = self._border()
        known = CLOCKWORK.closed_before(self.clocks.get(partition, 0))
        waiting = pl.concat([self._waiting, rows.filter(pl.col("window") >= known)])
        self.clocks[partition] = max(clock, self.clocks.get(partition, 0))
        self._changes += 1
        border = self._border()
        self._waiting = waiting.filter(pl.col("window") >= border)
        if border <= final:
            return None
        done: list[pl.DataFrame] = [EMPTY]
        for (window,), parts in waiting.filter(pl.col("window") < border).group_by("window"):
            tracks = Tracks()
            tracks.add(parts)
            done.append(tracks.rows(int(window)))
        return pl.concat(done)

    def _border(self) -> int:
        if len(self.clocks) < self._partitions:
            return 0
        return CLOCKWORK.closed_before(min(self.clocks.values()))

    def header(self) -> dict[str, int]:
        """The small part of the state."""
        return {"next": self.next or 0, **{str(partition): clock for partition, clock in self.clocks.items()}}

    def segments(self) -> dict[str, Segment]:
        """The waiting rows."""
        return {"waiting": Segment(self._changes, lambda: frames.to_bytes(self._waiting))}


class EventsAgent:
    """Events to the parts of windows that this partition has closed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox, self._wire = outbox, Wire(Codec("listening_event", wanted=COLUMNS, hashed=HASHED))
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
        counts = final.select(COUNTS).to_numpy().astype(">i8").tobytes()
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
