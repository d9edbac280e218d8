"""One input partition: its stream time, open windows, open plays and recent ids, and what a batch makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.event_time import Millis
from schemas.event_time import Windows as Clockwork
from stream_processors import frames
from stream_processors.catalogue import SeenTracks
from stream_processors.duplicates import RecentIds, hashes
from stream_processors.plays import OpenPlays
from stream_processors.segment import Segment as Segment  # noqa: PLC0414 - where snapshots look for it
from stream_processors.windows import OpenWindows
from stream_processors.wire import BadRecord, Decoded


@dataclass(frozen=True)
class Result:
    """What a batch makes: rows of closed windows, finished plays, newly told tracks, bad records."""

    closed: pl.DataFrame
    plays: pl.DataFrame
    tracks: pl.DataFrame
    bad: list[BadRecord] = field(default_factory=list)
    late: int = 0
    duplicates: int = 0


class PartitionState:
    """State of one input partition, a function of the log up to `next` alone.

    `next` is the first offset that is not in the state; None before the first batch of an empty state.
    """

    VERSION = 2

    def __init__(
        self,
        clockwork: Clockwork,
        play_timeout_ms: int,
        header: Mapping[str, int] | None = None,
        segments: Mapping[str, bytes] | None = None,
    ) -> None:
        header, segments = header or {}, segments or {}
        self.next: int | None = header.get("next")
        self.clock: int = header.get("clock", 0)
        self.late: int = header.get("late", 0)
        rows = {int(name[2:]): frames.from_bytes(data) for name, data in segments.items() if name.startswith("w/")}
        ids = sorted((int(name[2:]), data) for name, data in segments.items() if name.startswith("i/"))
        self._clockwork = clockwork
        self._windows = OpenWindows(clockwork, rows)
        plays = {name[6:]: data for name, data in segments.items() if name.startswith("plays/")}
        self._plays = OpenPlays(play_timeout_ms, plays)
        self._ids = RecentIds([np.frombuffer(data, np.uint64) for _, data in ids])
        self._first_id_segment = ids[0][0] if ids else 0
        self._id_segments = len(self._ids.segments)
        self._tracks = SeenTracks()

    def add(self, decoded: Decoded, next_offset: int) -> Result:
        """Takes the rows at or above `next` and moves `next` on; the result is the same for every cut of the log."""
        first = self.next or 0
        frame = decoded.frame.filter(pl.col("_offset") >= first)
        timestamps = frame["timestamp"].dt.epoch("ms").to_numpy()
        late, before, after = self._judge(frame["_offset"].to_numpy(), timestamps, decoded.watermarks, first)
        fresh = self._fresh(frame)
        self.late += int((late & fresh).sum())
        kept = frame.filter(pl.Series(fresh))
        self._windows.add(kept, timestamps[fresh], late[fresh], before[fresh])
        told = kept.with_columns(timestamp=pl.Series(timestamps[fresh]), clock=pl.Series(after[fresh]))
        self._plays.add(told)
        self.next = next_offset
        return Result(
            self._windows.close(self.clock),
            self._plays.take(self.clock),
            self._tracks.unseen(kept, told["timestamp"]),
            [bad for bad in decoded.bad if bad.offset >= first],
            int((late & fresh).sum()),
            int((~fresh).sum()),
        )

    def _judge(
        self, offsets: Millis, timestamps: Millis, watermarks: list[tuple[int, int]], first: int
    ) -> tuple[npt.NDArray[np.bool_], Millis, Millis]:
        """(late, stream time before, stream time after) of each row; watermark records take part in their place."""
        marks = [(offset, time_ms) for offset, time_ms in watermarks if offset >= first]
        places = np.concatenate((offsets, np.array([offset for offset, _ in marks], np.int64)))
        times = np.concatenate((timestamps, np.array([time_ms for _, time_ms in marks], np.int64)))
        order = np.argsort(places, kind="stable")
        late, before, self.clock = self._clockwork.judge(times[order], self.clock)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        rows = back[: len(offsets)]
        return late[rows], before[rows], np.maximum(before[rows], timestamps)

    def _fresh(self, frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
        before = len(self._ids.segments)
        fresh = self._ids.fresh(hashes(frame))
        self._id_segments += max(0, len(self._ids.segments) - before)
        self._first_id_segment = self._id_segments - len(self._ids.segments)
        return fresh

    def header(self) -> dict[str, int]:
        """The small part of the state, kept in the manifest of a snapshot."""
        return {"next": self.next or 0, "clock": self.clock, "late": self.late}

    def segments(self) -> dict[str, Segment]:
        """The large parts of the state by name."""
        found = {
            f"w/{start}": Segment(changes, lambda start=start: frames.to_bytes(self._windows.rows(start)))  # type: ignore[misc]
            for start, changes in self._windows.changes.items()
        }
        found |= {f"plays/{name}": segment for name, segment in self._plays.segments().items()}
        for i, ids in enumerate(self._ids.segments):
            found[f"i/{self._first_id_segment + i}"] = Segment(len(ids), ids.tobytes)
        return found
