"""One input partition: stream time, open windows, plays, sessions and recent ids, and what a batch makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.event_time import Millis, ahead, bounded
from schemas.event_time import Windows as Clockwork
from stream_processors.catalogue import SeenTracks
from stream_processors.codes import marked
from stream_processors.duplicates import RecentIds
from stream_processors.plays import OpenPlays
from stream_processors.rollups import Rollups
from stream_processors.segment import Segment
from stream_processors.sessions import OpenSessions
from stream_processors.windows import PARTIAL_SCHEMA, OpenWindows
from stream_processors.wire import BadRecord, Decoded


class Holder(Protocol):
    """A part of the state."""

    def segments(self) -> dict[str, Segment]:
        """Its segments by name."""


@dataclass(frozen=True)
class Result:
    """What a batch makes: rows of closed windows, finished plays and sessions, newly told tracks, bad records.

    `ahead` are the rows that are quarantined for their clock.
    """

    closed: pl.DataFrame
    plays: pl.DataFrame
    sessions: pl.DataFrame
    tracks: pl.DataFrame
    ahead: pl.DataFrame
    bad: list[BadRecord] = field(default_factory=list)
    late: int = 0
    duplicates: int = 0


class PartitionState:
    """State of one input partition, a function of the log up to `next` alone.

    `next` is the first offset that is not in the state; None before the first batch of an empty state.
    """

    VERSION = 6

    def __init__(
        self,
        clockwork: Clockwork,
        play_timeout_ms: int,
        session_gap_ms: int,
        header: Mapping[str, int] | None = None,
        segments: Mapping[str, bytes] | None = None,
    ) -> None:
        header, segments = header or {}, segments or {}
        self.next: int | None = header.get("next")
        self.clock: int = header.get("clock", 0)
        self.late: int = header.get("late", 0)
        self._clockwork = clockwork
        self._windows = OpenWindows(clockwork, _within("windows", segments))
        self._rollups = Rollups(clockwork.window_ms, _within("rollups", segments))
        self._plays = OpenPlays(play_timeout_ms, _within("plays", segments))
        self._sessions = OpenSessions(session_gap_ms, _within("sessions", segments))
        self._ids = RecentIds(_within("ids", segments))
        self._tracks = SeenTracks()

    def add(self, decoded: Decoded, next_offset: int) -> Result:
        """Takes the rows at or above `next` and moves `next` on; the result is the same for every cut of the log."""
        first = self.next or 0
        frame = decoded.frame
        if frame.height and frame["_offset"][0] < first:
            frame = frame.filter(pl.col("_offset") >= first)
        timestamps, arrivals = frame["timestamp"].dt.epoch("ms").to_numpy(), frame["_time"].to_numpy()
        quarantined = ahead(timestamps, arrivals)
        too_early = frame.filter(pl.Series(quarantined))
        if quarantined.any():
            frame = frame.filter(pl.Series(~quarantined))
            timestamps, arrivals = timestamps[~quarantined], arrivals[~quarantined]
        late, before, after = self._judge(frame["_offset"].to_numpy(), timestamps, arrivals, decoded.watermarks, first)
        frame = marked(frame)
        fresh = self._ids.fresh(frame["_event"].to_numpy(), int(arrivals.max(initial=0)))
        fresh_late = int((late & fresh).sum())
        self.late += fresh_late
        kept = frame
        if not fresh.all():
            kept, timestamps, after = frame.filter(pl.Series(fresh)), timestamps[fresh], after[fresh]
            late, before = late[fresh], before[fresh]
        self._windows.add(kept, timestamps, late, before)
        told = kept.with_columns(timestamp=pl.Series(timestamps), clock=pl.Series(after))
        by_somebody = told.filter(pl.col("user_id").is_not_null()) if told["user_id"].null_count() else told
        self._plays.add(by_somebody)
        self._sessions.add(by_somebody)
        self.next = next_offset
        return Result(
            self._closed(),
            self._plays.take(self.clock) if self._plays.due(self.clock) else pl.DataFrame(),
            self._sessions.take(self.clock) if self._sessions.due(self.clock) else pl.DataFrame(),
            self._tracks.unseen(kept, told["timestamp"]),
            too_early,
            [bad for bad in decoded.bad if bad.offset >= first],
            fresh_late,
            len(fresh) - int(fresh.sum()),
        )

    def settle(self) -> Result:
        """Finishes the plays and sessions that `add` has put off; the rows are the same whenever it is called."""
        none = pl.DataFrame()
        closed = pl.DataFrame(schema=PARTIAL_SCHEMA)
        return Result(closed, self._plays.take(self.clock), self._sessions.take(self.clock), none, none)

    @property
    def waiting(self) -> int:
        """Events that plays and sessions have put off."""
        return self._plays.waiting + self._sessions.waiting

    @property
    def open_rows(self) -> int:
        """Open plays and sessions."""
        return self._plays.open_rows + self._sessions.open_rows

    def early(self) -> pl.DataFrame:
        """What the open windows say so far."""
        return self._windows.early().with_columns(coupons=pl.lit(None, PARTIAL_SCHEMA["coupons"]))

    def _closed(self) -> pl.DataFrame:
        closed = self._windows.close(self.clock)
        border = self._clockwork.closed_before(self.clock)
        larger = self._rollups.close(closed, border) if closed.height or self._rollups.ends_before(border) else closed
        closed = closed.with_columns(coupons=pl.lit(None, PARTIAL_SCHEMA["coupons"]))  # only larger windows need them
        return pl.concat((closed, larger)) if larger.height else closed

    def _judge(
        self,
        offsets: Millis,
        timestamps: Millis,
        arrivals: Millis,
        watermarks: list[tuple[int, int]],
        first: int,
    ) -> tuple[npt.NDArray[np.bool_], Millis, Millis]:
        """(late, stream time before, stream time after) of each row; watermark records take part in their place."""
        advances = bounded(timestamps, arrivals)
        marks = [(offset, time_ms) for offset, time_ms in watermarks if offset >= first]
        if not marks:
            late, before, self.clock = self._clockwork.judge(timestamps, self.clock, advances)
            return late, before, np.maximum(before, advances)
        mark_offsets, mark_times = np.array(marks, np.int64).T
        order = np.argsort(np.concatenate((offsets, mark_offsets)), kind="stable")
        times = np.concatenate((timestamps, mark_times))
        moves = np.concatenate((advances, mark_times))
        late, before, self.clock = self._clockwork.judge(times[order], self.clock, moves[order])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        rows = back[: len(offsets)]
        return late[rows], before[rows], np.maximum(before[rows], advances)

    def header(self) -> dict[str, int]:
        """The small part of the state, kept in the manifest of a snapshot."""
        return {"next": self.next or 0, "clock": self.clock, "late": self.late}

    def segments(self) -> dict[str, Segment]:
        """The large parts of the state by name."""
        parts: dict[str, Holder] = {
            "windows": self._windows,
            "rollups": self._rollups,
            "plays": self._plays,
            "sessions": self._sessions,
            "ids": self._ids,
        }
        return {
            f"{part}/{name}": segment for part, holder in parts.items() for name, segment in holder.segments().items()
        }


def _within(part: str, segments: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(f"{part}/"): data for name, data in segments.items() if name.startswith(f"{part}/")}
