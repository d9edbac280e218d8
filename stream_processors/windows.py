"""Tumbling windows of one partition: a window comes out once stream time has passed its end and grace."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.codec import schema
from schemas.event_time import Millis
from schemas.event_time import Windows as Clockwork

EVENT_TYPE = pl.Enum(
    next(f["type"]["symbols"] for f in schema("listening_event")["fields"] if f["name"] == "event_type")
)

KEYS = ["tenant", "event_type", "platform", "country", "track_id", "user_id"]
OPEN_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "window": pl.Int64,
    "tenant": pl.String,
    "event_type": EVENT_TYPE,
    "platform": pl.String,
    "country": pl.String,
    "track_id": pl.String,
    "user_id": pl.String,
    "events": pl.Int64,
    "ms_played": pl.Int64,
    "late_count": pl.Int64,
}
COUNTS = ["events", "users", "plays", "skips", "likes", "shares", "ms_played", "late_count"]
PARTIAL_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "window": pl.Int64,
    "scope": pl.String,
    **dict.fromkeys(KEYS, pl.String),
    **dict.fromkeys(COUNTS, pl.Int64),
}
LOOP_MIN_PLAYS = 2
"""A listener who starts one track so often within a window is named to the looping-bot detector."""


def partial(rows: pl.DataFrame) -> pl.DataFrame:
    """What closed windows of one partition say: rows of scope `series`, `track` and `listener` per window.

    Users are the Kafka key, so distinct users of different partitions add up.
    """
    in_time = rows.filter(pl.col("events") > 0)
    kind = pl.col("event_type")
    counts = [
        pl.col("events").sum(),
        pl.col("user_id").n_unique().cast(pl.Int64).alias("users"),
        *[
            pl.col("events").filter(kind == name).sum().alias(column)
            for name, column in (("play", "plays"), ("skip", "skips"), ("like", "likes"), ("share", "shares"))
        ],
        pl.col("ms_played").sum(),
    ]
    dimensions = ["window", "tenant", "event_type", "platform", "country"]
    late = rows.group_by(dimensions).agg(pl.col("late_count").sum()).filter(pl.col("late_count") > 0)
    series = (
        in_time.group_by(dimensions).agg(counts).join(late, on=dimensions, how="full", coalesce=True, nulls_equal=True)
    )
    tracks = in_time.group_by("window", "tenant", "track_id").agg(counts)
    listeners = (
        in_time.filter(kind == "play")
        .group_by("window", "tenant", "user_id", "track_id")
        .agg(pl.col("events").sum().alias("plays"))
        .filter(pl.col("plays") >= LOOP_MIN_PLAYS)
    )
    scoped = [
        frame.with_columns(scope=pl.lit(scope)).select(
            *(
                pl.col(c).cast(t) if c in (*frame.columns, "scope") else pl.lit(None, t).alias(c)
                for c, t in PARTIAL_SCHEMA.items()
            )
        )
        for scope, frame in (("series", series), ("track", tracks), ("listener", listeners))
    ]
    return pl.concat(scoped).with_columns(pl.selectors.integer().fill_null(0))


class OpenWindows:
    """Rows of the windows that are still open, grouped by user so that distinct counts stay exact."""

    def __init__(self, clockwork: Clockwork, rows: Mapping[int, pl.DataFrame] | None = None) -> None:
        self._clockwork = clockwork
        self._frames = list((rows or {}).values())
        self.changes: dict[int, int] = dict.fromkeys(rows or {}, 0)
        """How often each open window has changed: a snapshot rewrites only what did."""

    def add(self, frame: pl.DataFrame, timestamps: Millis, late: npt.NDArray[np.bool_], clock: Millis) -> None:
        """Counts rows in their windows; a late row counts as late in the window that is current on its arrival."""
        if frame.is_empty():
            return
        start = np.where(late, self._clockwork.start(clock), self._clockwork.start(timestamps))
        grouped = (
            frame.select(
                *[name for name in KEYS if name != "event_type"],
                pl.col("event_type").cast(EVENT_TYPE),
                ms_played=pl.col("ms_played").cast(pl.Int64).fill_null(0),
                window=pl.Series(start),
                late=pl.Series(late),
            )
            .group_by("window", *KEYS)
            .agg(
                (~pl.col("late")).sum().cast(pl.Int64).alias("events"),
                pl.col("ms_played").filter(~pl.col("late")).sum(),
                pl.col("late").sum().cast(pl.Int64).alias("late_count"),
            )
        )
        self._frames.append(grouped)
        for window in grouped["window"].unique().to_list():
            self.changes[window] = self.changes.get(window, 0) + 1

    def rows(self, start: int) -> pl.DataFrame:
        """The rows of one open window, each key once."""
        return self._folded().filter(pl.col("window") == start)

    def _folded(self) -> pl.DataFrame:
        if len(self._frames) > 1:
            self._frames = [pl.concat(self._frames).group_by("window", *KEYS).agg(pl.all().sum())]
        return self._frames[0] if self._frames else pl.DataFrame(schema=OPEN_SCHEMA)

    def close(self, clock: int) -> pl.DataFrame:
        """Takes out the windows that nothing can enter any more at stream time `clock`, as `partial` rows."""
        border = self._clockwork.closed_before(clock)
        done = [start for start in self.changes if start < border]
        if not done:
            return pl.DataFrame(schema=PARTIAL_SCHEMA)
        rows = self._folded()
        self._frames = [rows.filter(pl.col("window") >= border)]
        for start in done:
            del self.changes[start]
        return partial(rows.filter(pl.col("window") < border))
