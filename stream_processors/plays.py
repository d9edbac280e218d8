"""Plays: one row per track heard by one listener, from a play event to the pause, skip, next play or time-out after it.

Events are taken in the order of the log, which for one listener is the order in which the client sent them; the result
therefore does not depend on how the log is cut into batches.
"""

from __future__ import annotations

import polars as pl

from stream_processors.windows import EVENT_TYPE

STREAM_MS = 30_000
"""A play of this length counts as a stream, as it does for royalties."""
SCROBBLE_MS = 240_000
"""Heard for so long, or for half of the track, a play counts as a scrobble (Last.fm: tracks over 30 s)."""

_LISTENER = ["tenant", "user_id"]
OPEN_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "tenant": pl.String,
    "user_id": pl.String,
    "event_type": EVENT_TYPE,
    "event_id": pl.String,
    "source": pl.String,
    "track_id": pl.String,
    "platform": pl.String,
    "country": pl.String,
    "device": pl.String,
    "session_id": pl.String,
    "duration_ms": pl.Int32,
    "ms_played": pl.Int32,
    "timestamp": pl.Int64,
    "clock": pl.Int64,
}


class OpenPlays:
    """The last unfinished play of each listener."""

    def __init__(self, timeout_ms: int, rows: pl.DataFrame | None = None) -> None:
        self._timeout_ms = timeout_ms
        self.rows = pl.DataFrame(schema=OPEN_SCHEMA) if rows is None else rows
        self.changes = 0

    def add(self, frame: pl.DataFrame, clock: int) -> pl.DataFrame:
        """Finishes plays: rows of schemas/play.avsc, times in ms.

        `frame` has the columns of OPEN_SCHEMA in the order of the log; `clock` of a row is stream time after it, the
        argument is stream time after the batch.
        """
        moves = frame.filter(pl.col("event_type").is_in(["play", "pause", "skip"])).select(
            pl.col(name).cast(kind) for name, kind in OPEN_SCHEMA.items()
        )
        if moves.is_empty() and self._none_times_out(clock):
            return _finished(self.rows.clear(), self._timeout_ms)
        rows = pl.concat([self.rows, moves]).sort(_LISTENER, maintain_order=True)
        same = pl.all_horizontal(pl.col(c) == pl.col(c).shift(-1) for c in _LISTENER).fill_null(value=False)
        following = {
            f"next_{name}": pl.when(same).then(pl.col(name).shift(-1))
            for name in ("event_type", "track_id", "ms_played", "timestamp", "clock")
        }
        plays = rows.with_columns(**following).filter(pl.col("event_type") == "play")
        expired = (
            pl.coalesce(pl.max_horizontal("next_clock", "next_timestamp"), pl.lit(clock))
            >= pl.col("clock") + self._timeout_ms
        )
        plays = plays.with_columns(timed_out=expired)
        done = plays.filter(pl.col("timed_out") | pl.col("next_event_type").is_not_null())
        still_open = plays.filter(~pl.col("timed_out") & pl.col("next_event_type").is_null()).select(OPEN_SCHEMA.keys())
        if not still_open.equals(self.rows):
            self.rows = still_open
            self.changes += 1
        return _finished(done, self._timeout_ms)

    def _none_times_out(self, clock: int) -> bool:
        oldest = self.rows["clock"].min()
        return not isinstance(oldest, int) or clock < oldest + self._timeout_ms


def _finished(plays: pl.DataFrame, timeout_ms: int) -> pl.DataFrame:
    if plays.is_empty() and "timed_out" not in plays.columns:
        return pl.DataFrame()
    own_end = pl.col("next_event_type").is_in(["pause", "skip"]) & (pl.col("next_track_id") == pl.col("track_id"))
    between = pl.min_horizontal(
        (pl.col("next_timestamp") - pl.col("timestamp")).clip(0), pl.col("duration_ms").cast(pl.Int64)
    )
    told = pl.when(own_end).then(pl.col("next_ms_played")).cast(pl.Int64)
    heard = pl.when(pl.col("timed_out")).then(pl.lit(0, pl.Int64)).otherwise(pl.coalesce(told, between))
    duration = pl.when(pl.col("duration_ms") > 0).then(pl.col("duration_ms"))
    return plays.with_columns(
        ms_played=heard,
        ended_at=pl.when(pl.col("timed_out"))
        .then(pl.col("timestamp") + timeout_ms)
        .otherwise(pl.max_horizontal("timestamp", "next_timestamp")),
        ended_by=pl.when(pl.col("timed_out")).then(pl.lit("timeout")).otherwise(pl.col("next_event_type").cast(str)),
    ).select(
        pl.col("event_id").alias("play_id"),
        "tenant",
        "source",
        "user_id",
        "track_id",
        "platform",
        "country",
        "device",
        "session_id",
        pl.col("timestamp").alias("started_at"),
        "ended_at",
        "ended_by",
        "ms_played",
        "duration_ms",
        (pl.col("ms_played") / duration).clip(upper_bound=1.0).alias("completion"),
        (pl.col("ms_played") >= STREAM_MS).alias("is_stream"),
        (
            duration.fill_null(STREAM_MS + 1).gt(STREAM_MS)
            & (pl.col("ms_played") >= pl.min_horizontal(duration / 2, pl.lit(SCROBBLE_MS, pl.Float64)))
        ).alias("is_scrobble"),
    )
