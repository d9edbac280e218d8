"""The rules by which plays, pauses and skips of a listener become rows of `plays`; pure, for all listeners at once.

Key: a listener and a device. A play that is older than the newest play of its key (an offline upload) goes to the lane
`behind`, everything else is `live`; the lanes know nothing of each other, so the past never ends what is heard now.
A pause or skip right after a play of its track goes where the play went, else it is judged by its own time.

Stretch: from a play to the next move of its lane, or to the time-out, after which nothing is known (0 ms).
Listen: a play of the same track continues the listen when it begins after position 0, and either nothing stands
between (seek) or a pause that lies no more than REWIND_MS further on (resume). A skip ends the listen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from stream_processors.lanes import (
    NEVER,
    Columns,
    after,
    before,
    continues,
    first_of,
    last_of,
    picked,
    running_max,
    running_sum,
)
from stream_processors.open_rows import Schema
from stream_processors.windows import EVENT_TYPE

STREAM_MS = 30_000
"""A listen of this length counts as a stream, as it does for royalties."""
SCROBBLE_MS = 240_000
"""Heard for so long, or for half of the track, a listen counts as a scrobble (Last.fm: tracks over 30 s)."""
REWIND_MS = 10_000
"""Players go back a little when they resume; a play further before the pause is a new listen."""

KINDS = PLAYED, PAUSED, SKIPPED = [EVENT_TYPE.categories.to_list().index(kind) for kind in ("play", "pause", "skip")]
_ENDED_BY = [*EVENT_TYPE.categories, "timeout"]
_TIMEOUT = len(_ENDED_BY) - 1
_TEXTS = ["event_id", "tenant", "source", "user_id", "track_id", "platform", "country", "device", "session_id"]
_NUMBERS: Schema = {
    "key": pl.UInt64,
    "track": pl.UInt64,
    "kind": pl.UInt8,
    "timestamp": pl.Int64,
    "clock": pl.Int64,
    "position_ms": pl.Int32,
    "ms_played": pl.Int32,
    "duration_ms": pl.Int32,
}
MOVE: Schema = {**_NUMBERS, **dict.fromkeys(_TEXTS, pl.String)}
"""A play, pause or skip; `clock` is stream time after it."""
_MEMORY: dict[str, tuple[Any, Any]] = {
    "behind": (pl.Boolean, False),
    "last": (pl.Boolean, False),  # no move of its key came after it, in whatever lane
    "newest": (pl.Int64, NEVER),  # timestamp of the newest play of the key
    "stretch": (pl.Int32, 0),
    "heard": (pl.Int64, 0),  # of the listen, before this play or up to this pause
    "scrobbled": (pl.Boolean, False),  # the listen has been counted as a scrobble
}
HEAD: Schema = {**MOVE, "listen_id": pl.String, **{name: kind for name, (kind, _) in _MEMORY.items()}}
"""What is kept of a lane: an open play, a pause that may be resumed, or a skip (for `newest` alone)."""

PLAY: Schema = {
    "play_id": pl.String,
    **{name: pl.String for name in _TEXTS if name != "event_id"},
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


def fold(
    heads: pl.DataFrame, moves: list[pl.DataFrame], timeout_ms: int, clock: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows of PLAY, new rows of HEAD) of keys with these heads, after these moves in the order of the log.

    `clock` is stream time, not before that of any move. The rows of PLAY depend on it only in that they may be fewer.
    """
    listens = (frame.select(pl.col("event_id").alias("listen_id")) for frame in moves)
    texts = pl.concat([frame.select(*_TEXTS, "duration_ms") for frame in (heads, *moves)]).with_columns(
        pl.concat([heads.select("listen_id"), *listens])
    )
    texts = texts.rechunk()  # rows are gathered 20 times faster from one chunk than from two
    lane = _in_lanes(_columns(heads, moves), timeout_ms)
    _join_listens(lane, timeout_ms)
    _end_stretches(lane, timeout_ms, clock)
    return _finished(lane, texts, timeout_ms), _open(lane, texts, timeout_ms, clock)


def _columns(heads: pl.DataFrame, moves: list[pl.DataFrame]) -> Columns:
    """All numbers, sorted by key, each key in the order of the log; a number that is not told is negative."""
    numbers = pl.concat([frame.select(*_NUMBERS) for frame in (heads, *moves)], rechunk=True)
    numbers = numbers.with_columns(pl.col(pl.Int32).fill_null(-1))
    told: Columns = {name: numbers[name].to_numpy() for name in _NUMBERS}
    told["row"] = np.arange(len(numbers))
    told["head"] = told["row"] < heads.height
    for name, (_, missing) in _MEMORY.items():
        known = heads[name].to_numpy()
        told[name] = np.concatenate((known, np.full(len(numbers) - heads.height, missing, known.dtype)))
    latest_last = np.argsort(told["last"][: heads.height], kind="stable")
    log = np.concatenate((latest_last, told["row"][heads.height :]))
    order = log[np.argsort(told["key"][log], kind="stable")]
    return {name: values[order] for name, values in told.items()}


def _in_lanes(rows: Columns, timeout_ms: int) -> Columns:
    """The rows sorted by lane, each lane in the order of the log; pauses of what is not played are left out."""
    track, kind, timestamp, clock, head = (rows[name] for name in ("track", "kind", "timestamp", "clock", "head"))
    same = continues(rows["key"])
    play = kind == PLAYED
    told = np.where(rows["behind"], NEVER, rows["newest"])
    newest = running_max(np.where(play & ~head, timestamp, told), first_of(same))
    known = np.where(same, before(newest), NEVER)
    old = np.where(head, rows["behind"], (timestamp < known) & (known > clock - timeout_ms))
    playing = play & (~head | rows["last"])
    soon = clock - before(clock) < timeout_ms
    its_end = same & ~play & ~head & before(playing) & (track == before(track)) & soon
    behind = np.where(its_end, before(old), old)
    rows |= {"behind": behind, "newest": newest[last_of(same)], "last": playing & ~after(same)}

    rows["lane"] = rows["key"] | behind.astype(np.uint64)
    if behind.any():
        rows = picked(rows, np.argsort(rows["lane"], kind="stable"))
    kind, clock = rows["kind"], rows["clock"]
    ends_play = continues(rows["lane"]) & before(kind == PLAYED) & (clock - before(clock) < timeout_ms)
    of_use = (kind != PAUSED) | rows["head"] | ends_play
    return rows if of_use.all() else picked(rows, np.flatnonzero(of_use))


def _join_listens(lane: Columns, timeout_ms: int) -> None:
    """Adds `begun`: the row with which the listen of a row began, a head or a play."""
    kind, head, track, clock, timestamp = (lane[name] for name in ("kind", "head", "track", "clock", "timestamp"))
    same = lane["same"] = continues(lane["lane"])
    pause = (kind == PAUSED) & ~head
    lane["told_track"] = track
    other = pause & (track != before(track))
    lane["position_ms"] = np.where(other, -1, lane["position_ms"])
    track = lane["track"] = np.where(pause, before(track), track)
    soon = same & (clock - before(clock) < timeout_ms) & (timestamp - before(timestamp) < timeout_ms)
    position = lane["position_ms"]
    further_on = np.where(before(kind) == PAUSED, position >= before(position) - REWIND_MS, before(kind) == PLAYED)
    again = (kind == PLAYED) & soon & (track == before(track)) & (position > 0) & further_on
    lane["begun"] = first_of(same & ((kind != PLAYED) | again))


def _end_stretches(lane: Columns, timeout_ms: int, clock_now: int) -> None:
    """Adds what is known of each stretch, and of its listen so far."""
    kind, timestamp, duration, begun = (lane[name] for name in ("kind", "timestamp", "duration_ms", "begun"))
    play = kind == PLAYED
    ended = lane["ended"] = after(lane["same"])
    next_kind, next_ms = after(kind), after(lane["ms_played"])
    between = np.maximum(after(timestamp) - timestamp, 0)
    told = ended & (next_kind != PLAYED) & (after(lane["told_track"]) == lane["track"]) & (next_ms >= 0)
    silent = np.where(ended, after(lane["clock"]), clock_now) - lane["clock"] >= timeout_ms
    lane["timed_out"] = silent | (ended & ~told & (between >= timeout_ms))
    lane["done"] = play & (ended | silent)
    capped = np.where(duration >= 0, np.minimum(between, duration), between)
    heard = np.where(lane["done"] & ~lane["timed_out"], np.where(told, next_ms, capped), 0)
    lane["ms"] = heard
    total = lane["heard"][begun] + running_sum(heard, begun)
    lane["heard"] = total - heard
    lane["stretch"] = lane["stretch"][begun] + running_sum(play & ~lane["head"], begun)
    lane["is_stream"] = (total >= STREAM_MS) & (lane["heard"] < STREAM_MS)
    border = np.where(duration > 0, np.minimum(duration / 2, SCROBBLE_MS), SCROBBLE_MS)
    enough = lane["done"] & ((duration <= 0) | (duration > STREAM_MS)) & (total >= border)
    counted = lane["scrobbled"][begun] + running_sum(enough, begun)
    lane["is_scrobble"] = enough & (counted == 1)
    lane["scrobbled"] = counted > 0


def _finished(lane: Columns, texts: pl.DataFrame, timeout_ms: int) -> pl.DataFrame:
    ends = {
        name: values[lane["done"]]
        for name, values in {
            **{name: lane[name] for name in ("row", "timestamp", "timed_out", "ms", "is_stream", "is_scrobble")},
            "begun": lane["row"][lane["begun"]],
            "stretch": lane["stretch"].astype(np.int32),
            "next": np.maximum(lane["timestamp"], after(lane["timestamp"])),
            "next_kind": after(lane["kind"]),
        }.items()
    }
    duration = pl.when(pl.col("duration_ms") > 0).then(pl.col("duration_ms"))
    ended_by = np.where(ends["timed_out"], _TIMEOUT, ends["next_kind"])
    return (
        texts.select(*_TEXTS, "duration_ms")[ends["row"]]
        .with_columns(
            play_id="event_id",
            listen_id=texts["listen_id"][ends["begun"]],
            started_at=ends["timestamp"],
            ended_at=np.where(ends["timed_out"], ends["timestamp"] + timeout_ms, ends["next"]),
            ended_by=pl.Series(_ENDED_BY).gather(ended_by),
            ms_played=ends["ms"],
            is_stream=ends["is_stream"],
            is_scrobble=ends["is_scrobble"],
            stretch=ends["stretch"],
        )
        .with_columns(completion=(pl.col("ms_played") / duration).clip(upper_bound=1.0))
        .select(pl.col(name).cast(kind) for name, kind in PLAY.items())
    )


def _open(lane: Columns, texts: pl.DataFrame, timeout_ms: int, clock_now: int) -> pl.DataFrame:
    kind = lane["kind"]
    play = kind == PLAYED
    of_use = np.where(
        play,
        ~lane["done"],
        np.where(
            kind == PAUSED,
            clock_now - lane["clock"] < timeout_ms,
            ~lane["behind"] & (lane["newest"] > clock_now - timeout_ms),
        ),
    )
    kept = ~after(lane["same"]) & of_use
    numbers = {name: lane[name][kept] for name in (*_NUMBERS, *_MEMORY) if name != "duration_ms"}
    return (
        texts[lane["row"][kept]]
        .with_columns(
            listen_id=texts["listen_id"][lane["row"][lane["begun"][kept]]],
            **{name: pl.Series(values) for name, values in numbers.items()},
        )
        .select(pl.col(name).cast(kind) for name, kind in HEAD.items())
    )
