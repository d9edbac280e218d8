"""Plays: one row per uninterrupted stretch of a track, from a play event to the pause, skip, next play or time-out.

Events are taken in the order of the log, which for one listener is the order in which the client sent them. The rows
are a function of the log alone, whatever the batches are and whenever they are folded. The rules stand in listens.py.

Listeners, devices and tracks are told apart by 63-bit hashes: two of n are taken for one with a chance of n^2 / 2^64
(5e-8 at a million).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from stream_processors import lanes
from stream_processors.listens import HEAD, MOVE, PLAY, TOLD, fold
from stream_processors.open_rows import OpenRows
from stream_processors.row_table import RowTable
from stream_processors.segment import Segment
from stream_processors.windows import EVENT_TYPE


class OpenPlays:
    """The unfinished and resumable plays of each listener, and the events not yet folded into them."""

    def __init__(self, timeout_ms: int, segments: Mapping[str, bytes] | None = None) -> None:
        self._timeout_ms = timeout_ms
        self._open = OpenRows(RowTable(HEAD, TOLD, ["duration_ms"]), segments or {})

    def add(self, frame: pl.DataFrame) -> None:
        """Takes events in the order of the log: the event's columns with `timestamp` in ms, and `clock`.

        `clock` of a row is stream time after it. Cheap: the work is done by `take`.
        """
        kind = pl.col("event_type").cast(EVENT_TYPE).to_physical()
        key = pl.col("tenant").hash(1) ^ pl.col("user_id").hash(2) ^ pl.col("device").hash(3)
        key = key & pl.lit(lanes.WITHOUT_LANE, pl.UInt64)
        self._open.wait(
            frame.select(
                key.clip(2).alias("key"),  # 0 is no key
                pl.col("track_id").hash(4).alias("track"),
                kind.alias("kind"),
                *(pl.col(name).cast(MOVE[name]) for name in MOVE if name not in ("key", "track", "kind")),
            )
        )

    @property
    def waiting(self) -> int:
        """Events that are not folded yet."""
        return self._open.waiting

    @property
    def open_rows(self) -> int:
        """Unfinished and resumable plays."""
        return self._open.rows.height

    def due(self, clock: int) -> bool:
        """Whether `take` at stream time `clock` is worth its cost; without it nothing is lost, only later."""
        return self._open.due(clock - self._timeout_ms)

    def take(self, clock: int) -> pl.DataFrame:
        """The plays that have finished at stream time `clock`: the fields of schemas/play.avsc, times in ms.

        `clock` is not before that of any event taken.
        """
        if self._open.quiet(clock - self._timeout_ms):
            return pl.DataFrame(schema=PLAY)
        finished, touched = fold(self._open.rows, self._open.events(), self._timeout_ms, clock)
        self._open.folded(touched)
        return finished

    def segments(self) -> dict[str, Segment]:
        """The state by name; a snapshot writes what has changed since the last."""
        return self._open.segments()
