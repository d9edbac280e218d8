"""Plays: one row per uninterrupted stretch of a track, from a play event to the pause, skip, next play or time-out.

Events are taken in the order of the log, which for one listener is the order in which the client sent them. The rows
are a function of the log alone, whatever the batches are and whenever they are folded. The rules stand in listens.py.

Listeners, devices and tracks are told apart by 63-bit hashes: two of n are taken for one with a chance of n^2 / 2^64
(5e-8 at a million).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from stream_processors.codes import mixed
from stream_processors.listens import LANE, STRETCH, TIMEOUT, expire, fold
from stream_processors.open_rows import OpenRows, Schema
from stream_processors.row_table import NEVER, Records
from stream_processors.segment import Segment
from stream_processors.windows import EVENT_TYPE

_ENDED_BY = pl.Series("ended_by", ["play", "pause", "skip", "timeout"])
assert EVENT_TYPE.categories[:TIMEOUT].to_list() == _ENDED_BY[:TIMEOUT].to_list()

_TEXTS = ["tenant", "source", "user_id", "track_id", "platform", "country", "device", "session_id"]
_NUMBERS: Schema = {
    "key": pl.UInt64,
    "track": pl.UInt64,
    "kind": pl.UInt8,
    "timestamp": pl.Int64,
    "clock": pl.Int64,
    "position_ms": pl.Int32,
    "ms_played": pl.Int32,
    "duration_ms": pl.Int64,
}
_ROW: Schema = {
    "play_id": pl.String,
    **dict.fromkeys(_TEXTS, pl.String),
    "started_at": pl.Int64,
    "ended_at": pl.Int64,
    "ended_by": pl.String,
    "ms_played": pl.Int64,
    "duration_ms": pl.Int32,
    "completion": pl.Float64,
    "is_stream": pl.Boolean,
    "is_scrobble": pl.Boolean,
    "listen_id": pl.String,
    "stretch": pl.Int32,
}


class OpenPlays:
    """The unfinished and resumable plays of each listener, and the events not yet folded into them."""

    def __init__(self, timeout_ms: int, segments: Mapping[str, bytes] | None = None) -> None:
        self._timeout_ms = timeout_ms
        texts = ["play_id", *_TEXTS, "listen_id"]
        self._open = OpenRows(LANE, _NUMBERS, texts, {"listen_id": "listen"}, timeout_ms, segments or {})

    def add(self, frame: pl.DataFrame) -> None:
        """Takes marked events in the order of the log: the event's columns with `timestamp` in ms, and `clock`.

        `clock` of a row is stream time after it. Cheap: the work is done by `take`.
        """
        key = mixed([frame["_listener"].to_numpy(), frame["_device"].to_numpy()])
        self._open.wait(
            frame,
            key=pl.lit(pl.Series(key | np.uint64(1))),  # 0 is no key
            track=pl.col("_track"),
            position_ms=pl.col("position_ms").fill_null(-1),
            ms_played=pl.col("ms_played").fill_null(-1),
            duration_ms=pl.col("duration_ms").cast(pl.Int64).fill_null(NEVER),
            play_id=pl.col("event_id"),
            listen_id=pl.col("event_id"),
        )

    @property
    def waiting(self) -> int:
        """Events that are not folded yet."""
        return self._open.waiting

    @property
    def open_rows(self) -> int:
        """Unfinished and resumable plays."""
        return self._open.table.height

    def due(self, clock: int) -> bool:
        """Whether `take` at stream time `clock` is worth its cost; without it nothing is lost, only later."""
        return self._open.due(clock)

    def take(self, clock: int) -> pl.DataFrame:
        """The plays that have finished at stream time `clock`: the fields of schemas/play.avsc, times in ms.

        `clock` is not before that of any event taken.
        """
        if self._open.quiet(clock):
            return pl.DataFrame(schema=_ROW)
        table, timeout_ms = self._open.table, self._timeout_ms
        told, first_text = self._open.events()
        ended = np.empty(len(told["row"]), STRETCH)
        table.count, opened, found = fold(
            *(table.records, table.changed, table.count),
            *(told["row"], told["track"], told["kind"], told["timestamp"], told["clock"]),
            *(told["position_ms"], told["ms_played"], told["duration_ms"]),
            *(first_text, timeout_ms, ended),
        )
        table.height += opened
        ended = np.concatenate((ended[:found], self._open.expired(expire, clock, STRETCH)))
        finished = self._finished(ended)
        self._open.folded()
        return finished

    def _finished(self, ended: Records) -> pl.DataFrame:
        order, texts = self._open.texts_of(ended)
        ended = ended.take(order)
        copied = ("started_at", "ended_at", "ms_played", "duration_ms", "is_stream", "is_scrobble", "stretch")
        numbers = pl.DataFrame({name: ended[name] for name in copied})
        ended_by = _ENDED_BY.gather(ended["ended_by"].astype(np.uint32))
        duration = pl.col("duration_ms")
        known = {
            "duration_ms": pl.when(duration != NEVER).then(duration),
            "completion": pl.when(duration > 0).then((pl.col("ms_played") / duration).clip(upper_bound=1)),
        }
        rows = numbers.hstack([ended_by, *texts.get_columns()])
        return rows.select(known.get(name, pl.col(name)).cast(kind).alias(name) for name, kind in _ROW.items())

    def segments(self) -> dict[str, Segment]:
        """The state by name; a snapshot writes what has changed since the last."""
        return self._open.segments()
