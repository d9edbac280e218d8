"""Tumbling windows of one partition: a window comes out once stream time has passed its end and grace."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.codec import schema
from schemas.event_time import Millis
from schemas.event_time import Windows as Clockwork
from stream_processors import frames
from stream_processors.segment import Segment
from stream_processors.sketch import coupons, stable_hashes

EVENT_TYPE = pl.Enum(
    next(f["type"]["symbols"] for f in schema("listening_event")["fields"] if f["name"] == "event_type")
)

SERIES = ["tenant", "event_type", "platform", "country", "app_version"]
TRACK = ["tenant", "track_id"]
KEYS = [*SERIES, "track_id", "user_id"]
DIMENSIONS = ["tenant", "event_type", "platform", "country", "app_version", "track_id", "user_id"]
_TYPES = {"play": "plays", "pause": "pauses", "skip": "skips", "like": "likes", "share": "shares"}
_HEARD = ["ms_played", "completed_ms", "duration_ms"]
COUNTS = ["events", "users", *_TYPES.values(), *_HEARD, "late_count"]

Schema = dict[str, pl.DataType | type[pl.DataType]]
OPEN_SCHEMA: Schema = {
    "window": pl.Int64,
    "tenant": pl.String,
    "event_type": EVENT_TYPE,
    "platform": pl.String,
    "country": pl.String,
    "app_version": pl.String,
    "track_id": pl.String,
    "user_id": pl.String,
    "events": pl.Int64,
    **dict.fromkeys(_HEARD, pl.Int64),
    "late_count": pl.Int64,
}
PARTIAL_SCHEMA: Schema = {
    "window": pl.Int64,
    "size_ms": pl.Int64,
    "scope": pl.String,
    **dict.fromkeys(DIMENSIONS, pl.String),
    **dict.fromkeys(COUNTS, pl.Int64),
    "coupons": pl.List(pl.UInt32),
}
IDENTITY = ["window", "size_ms", "scope", *DIMENSIONS]

LOOP_MIN_PLAYS = 2
"""A listener who starts one track so often within a window is named to the looping-bot detector."""

_SEGMENTS_MAX = 128
"""So many segments of one window are folded into one."""

_FOLD_ROWS = 200_000


def partial(cells: pl.DataFrame, size_ms: int) -> pl.DataFrame:
    """What windows of one partition say: rows of scope `series`, `track` and `listener` per window.

    Users are the Kafka key, so distinct users of different partitions add up. Their coupons are for larger windows.
    """
    in_time = cells.filter(pl.col("events") > 0)
    users = in_time.select("user_id").unique()
    users = users.with_columns(coupon=pl.Series(coupons(stable_hashes(users["user_id"])), dtype=pl.UInt32))
    in_time = in_time.join(users, on="user_id", how="left")
    late = cells.filter(pl.col("late_count") > 0).group_by("window", *SERIES).agg(pl.col("late_count").sum())
    series = (
        _per_user(in_time, ["window", *SERIES])
        .with_columns(
            pl.when(pl.col("event_type") == name).then("events").otherwise(0).alias(column)
            for name, column in _TYPES.items()
        )
        .join(late, on=["window", *SERIES], how="full", coalesce=True, nulls_equal=True)
    )
    typed = in_time.with_columns(
        pl.when(pl.col("event_type") == name).then("events").otherwise(0).alias(column)
        for name, column in _TYPES.items()
    )
    tracks = _per_user(typed, ["window", *TRACK], list(_TYPES.values()))
    listeners = (
        in_time.filter(pl.col("event_type") == "play")
        .group_by("window", "tenant", "user_id", "track_id")
        .agg(pl.col("events").sum().alias("plays"))
        .filter(pl.col("plays") >= LOOP_MIN_PLAYS)
    )
    scoped = (("series", series), ("track", tracks), ("listener", listeners))
    return pl.concat(_shaped(frame, scope, size_ms) for scope, frame in scoped)


def _per_user(cells: pl.DataFrame, dimensions: list[str], more: list[str] | None = None) -> pl.DataFrame:
    sums = [pl.col(name).sum() for name in ("events", *_HEARD, *(more or []))]
    by_user = cells.group_by(*dimensions, "user_id").agg(*sums, pl.col("coupon").first())
    return by_user.group_by(dimensions).agg(
        *sums, pl.len().cast(pl.Int64).alias("users"), pl.col("coupon").alias("coupons")
    )


def _shaped(frame: pl.DataFrame, scope: str, size_ms: int) -> pl.DataFrame:
    frame = frame.with_columns(scope=pl.lit(scope), size_ms=pl.lit(size_ms, pl.Int64))
    return frame.select(
        pl.col(c).cast(t) if c in frame.columns else pl.lit(0 if c in COUNTS else None, t).alias(c)
        for c, t in PARTIAL_SCHEMA.items()
    ).with_columns(pl.col(COUNTS).fill_null(0))


class OpenWindows:
    """Cells of the windows that are still open: counts by user, so that distinct users stay exact.

    Rows wait until they are worth grouping, or a snapshot is due; what was grouped is a segment of the state that does
    not change any more.
    """

    def __init__(self, clockwork: Clockwork, segments: Mapping[str, bytes] | None = None) -> None:
        self._clockwork = clockwork
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._cells: dict[int, dict[int, pl.DataFrame]] = {}
        for name, data in (segments or {}).items():
            window, number = (int(part) for part in name.split("/"))
            self._cells.setdefault(window, {})[number] = frames.from_bytes(data)

    def add(self, frame: pl.DataFrame, timestamps: Millis, late: npt.NDArray[np.bool_], clock: Millis) -> None:
        """Counts rows in their windows; a late row counts as late in the window that is current on its arrival."""
        if frame.is_empty():
            return
        start = np.where(late, self._clockwork.start(clock), self._clockwork.start(timestamps))
        in_time = pl.col("in_time")
        ms_played = pl.col("ms_played").cast(pl.Int64)
        timed = in_time & pl.col("ms_played").is_not_null() & (pl.col("duration_ms") > 0)
        rows = (
            frame.with_columns(in_time=pl.Series(~late))
            .select(
                *[name for name in KEYS if name != "event_type"],
                pl.col("event_type").cast(EVENT_TYPE),
                window=pl.Series(start),
                events=in_time.cast(pl.Int64),
                ms_played=pl.when(in_time).then(ms_played).fill_null(0),
                completed_ms=pl.when(timed).then(pl.min_horizontal(ms_played, "duration_ms")).fill_null(0),
                duration_ms=pl.when(timed).then(pl.col("duration_ms").cast(pl.Int64)).fill_null(0),
                late_count=(~in_time).cast(pl.Int64),
            )
            .select(OPEN_SCHEMA.keys())
        )
        self._waiting.append(rows)
        self._waiting_rows += rows.height
        if self._waiting_rows >= _FOLD_ROWS:
            self._fold()

    def cells(self, start: int) -> pl.DataFrame:
        """The cells of one open window; a key may stand in several rows."""
        self._fold()
        return pl.concat(self._cells[start].values())

    @property
    def starts(self) -> list[int]:
        """Starts of the open windows."""
        self._fold()
        return sorted(self._cells)

    def _fold(self) -> None:
        if not self._waiting:
            return
        rows = _grouped(pl.concat(self._waiting))
        self._waiting, self._waiting_rows = [], 0
        for (window,), cells in rows.partition_by("window", as_dict=True).items():
            held = self._cells.setdefault(int(window), {})
            number = max(held, default=-1) + 1
            held[number] = cells
            if len(held) > _SEGMENTS_MAX:
                self._cells[int(window)] = {number + 1: _grouped(pl.concat(held.values()))}

    def close(self, clock: int) -> pl.DataFrame:
        """Takes out the windows that nothing can enter any more at stream time `clock`, as `partial` rows."""
        border = self._clockwork.closed_before(clock)
        oldest = min((int(rows["window"].min()) for rows in self._waiting), default=border)  # type: ignore[arg-type]
        if min(oldest, min(self._cells, default=border)) >= border:
            return pl.DataFrame(schema=PARTIAL_SCHEMA)
        self._fold()
        done = [start for start in self._cells if start < border]
        closed = pl.concat([cells for start in done for cells in self._cells.pop(start).values()])
        return partial(closed, self._clockwork.window_ms)

    def early(self) -> pl.DataFrame:
        """What the open windows say so far, as `partial` rows."""
        cells = [self.cells(start) for start in self.starts]
        return partial(pl.concat(cells), self._clockwork.window_ms) if cells else pl.DataFrame(schema=PARTIAL_SCHEMA)

    def segments(self) -> dict[str, Segment]:
        """Window and number, as in the constructor."""
        self._fold()
        return {
            f"{window}/{number}": Segment(number, lambda cells=cells: frames.to_bytes(cells))  # type: ignore[misc]
            for window, held in self._cells.items()
            for number, cells in held.items()
        }


def _grouped(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("window", *KEYS).agg(pl.all().sum())
