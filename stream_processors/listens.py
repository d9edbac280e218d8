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
import numpy.typing as npt
import polars as pl

from stream_processors.lanes import (
    NEVER,
    WITHOUT_LANE,
    Bools,
    Columns,
    Ints,
    Keys,
    after,
    before,
    continues,
    first_of,
    last_of,
    picked,
    running_max,
    running_sum,
    sorting,
    spread,
)
from stream_processors.row_table import NO_TEXT, RowTable, Schema
from stream_processors.windows import EVENT_TYPE

STREAM_MS = 30_000
"""A listen of this length counts as a stream, as it does for royalties."""
SCROBBLE_MS = 240_000
"""Heard for so long, or for half of the track, a listen counts as a scrobble (Last.fm: tracks over 30 s)."""
REWIND_MS = 10_000
"""Players go back a little when they resume; a play further before the pause is a new listen."""

PLAYED, PAUSED, _SKIPPED = _MOVES = [EVENT_TYPE.categories.to_list().index(kind) for kind in ("play", "pause", "skip")]
_IS_MOVE = np.isin(np.arange(len(EVENT_TYPE.categories)), _MOVES)
_ENDED_BY = pl.Series([*EVENT_TYPE.categories, "timeout"])
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
"""An event; what is no play, pause or skip is passed over. `clock` is stream time after it."""
_MEMORY: Schema = {
    "behind": pl.Boolean,
    "last": pl.Boolean,  # no move of its key came after it, in whatever lane
    "newest": pl.Int64,  # timestamp of the newest play of the key
    "stretch": pl.Int32,
    "heard": pl.Int64,  # of the listen, before this play or up to this pause
    "scrobbled": pl.Boolean,  # the listen has been counted as a scrobble
}
_REMEMBERED = [name for name in _MEMORY if name != "behind"]
HEAD: Schema = {**MOVE, "listen_id": pl.String, **_MEMORY}
"""What is kept of a lane: an open play, a pause that may be resumed, or a skip (for `newest` alone)."""
TOLD = [*_TEXTS, "listen_id"]
"""What of HEAD is only copied."""

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


def fold(table: RowTable, events: list[pl.DataFrame], timeout_ms: int, clock: int) -> tuple[pl.DataFrame, Keys]:
    """Brings the rows of HEAD in `table` up to date; (rows of PLAY, keys of what was touched).

    `events` follow in the order of the log. `clock` is stream time, not before that of any of them. The rows of PLAY
    depend on it only in that they may be fewer.
    """
    told = _told(events)
    moves = np.flatnonzero(_IS_MOVE[told["kind"]])
    row = table.find(told["key"][moves])
    heads = table.heads(row, clock - timeout_ms)
    heads = heads[np.argsort(table.columns["last"][heads], kind="stable")]
    touched = np.concatenate((told["key"][moves], table.keys[heads] & np.uint64(WITHOUT_LANE)))
    known = {name: table.columns[name][heads] for name in (*_REMEMBERED, *_NUMBERS) if name != "key"}
    known["behind"] = (table.keys[heads] & np.uint64(1)).astype(np.bool_)
    known["key"] = np.where(known["behind"], 0, heads)
    known["key"][known["behind"]] = table.find(touched[len(moves) :][known["behind"]])
    told = {**told, "key": row} | {name: values[moves] for name, values in told.items() if name != "key"}
    lane: Columns = {name: np.concatenate((known[name], told[name])) for name in _NUMBERS}
    lane["text"] = np.concatenate((table.text[heads], table.texts_told + moves))
    lane = _in_lanes(lane, known, timeout_ms)
    _join_listens(lane, timeout_ms)
    _end_stretches(lane, timeout_ms, clock)
    texts = [part.select(*_TEXTS, listen_id="event_id") for part in events]
    finished = _finished(lane, table, texts, timeout_ms)
    table.close(heads)
    _keep(lane, table, texts, timeout_ms, clock)
    return finished, touched


def _told(events: list[pl.DataFrame]) -> Columns:
    """All numbers of the events; one that is not told is negative."""
    if not events:
        return {name: pl.Series([], dtype=kind).to_numpy() for name, kind in _NUMBERS.items()}
    numbers = pl.concat([part.select(*_NUMBERS) for part in events]).with_columns(
        pl.col("position_ms", "ms_played").fill_null(-1), pl.col("duration_ms").cast(pl.Int64).fill_null(NEVER)
    )
    return {name: numbers[name].to_numpy() for name in _NUMBERS}


def _in_lanes(told: Columns, heads: Columns, timeout_ms: int) -> Columns:
    """The rows sorted by lane, each lane in the order of the log; pauses of what is not played are left out."""
    row = sorting(told["key"])
    key, track, kind, timestamp, clock = (told[name][row] for name in ("key", "track", "kind", "timestamp", "clock"))
    head = row < len(heads["key"])
    same = continues(key)
    play = kind == PLAYED
    was_behind, was_last = (spread(heads[name], row) for name in ("behind", "last"))
    newest = np.where(play & ~head, timestamp, NEVER)
    newest[head] = heads["newest"][row[head]]
    newest[was_behind] = NEVER
    newest = running_max(newest, first_of(same))
    known = np.where(same, before(newest), NEVER)
    old = np.where(head, was_behind, (timestamp < known) & (known > clock - timeout_ms))
    playing = play & (~head | was_last)
    soon = clock - before(clock) < timeout_ms
    its_end = same & ~play & ~head & before(playing) & (track == before(track)) & soon
    behind = np.where(its_end, before(old), old)
    judged = {"behind": behind, "newest": newest[last_of(same)], "last": playing & ~after(same)}

    order = np.arange(len(row))
    lane = 2 * key + behind
    if behind.any():
        order = sorting(lane)
        lane, kind, clock, head = lane[order], kind[order], clock[order], head[order]
    ends_play = continues(lane) & before(kind == PLAYED) & (clock - before(clock) < timeout_ms)
    of_use = np.flatnonzero((kind != PAUSED) | head | ends_play)
    order, row = order[of_use], row[order[of_use]]
    rows = picked(told, row) | picked(judged, order) | {"lane": lane[of_use], "head": head[of_use]}
    return rows | {name: spread(heads[name], row) for name in ("stretch", "heard", "scrobbled")}


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


def _finished(lane: Columns, table: RowTable, texts: list[pl.DataFrame], timeout_ms: int) -> pl.DataFrame:
    done = np.flatnonzero(lane["done"])
    done = done[sorting(lane["text"][done])]
    started, timed_out, duration = (lane[name][done] for name in ("timestamp", "timed_out", "duration_ms"))
    ended = np.maximum(started, after(lane["timestamp"])[done])
    played = lane["ms"][done]
    told = _texts_of(lane, done, table, texts)
    completion = np.minimum(played / np.maximum(duration, 1), 1.0)
    columns: dict[str, Any] = {
        **{name: told[name] for name in PLAY if name in told.columns},
        "play_id": told["event_id"],
        "started_at": started,
        "ended_at": np.where(timed_out, started + timeout_ms, ended),
        "ended_by": _ENDED_BY.gather(np.where(timed_out, _TIMEOUT, after(lane["kind"])[done])),
        "ms_played": played,
        "duration_ms": _or_null(duration, duration != NEVER),
        "completion": _or_null(completion, duration > 0),
        "is_stream": lane["is_stream"][done],
        "is_scrobble": lane["is_scrobble"][done],
        "stretch": lane["stretch"][done],
    }
    return pl.DataFrame([pl.Series(name, columns[name]).cast(kind) for name, kind in PLAY.items()])


def _or_null(values: npt.NDArray[Any], known: Bools) -> pl.Series:
    return pl.DataFrame({"value": values, "known": known}).select(pl.when("known").then("value")).to_series()


def _texts_of(lane: Columns, rows: Ints, table: RowTable, texts: list[pl.DataFrame]) -> pl.DataFrame:
    """The texts of these rows, which stand in the order of their texts, with the ids of their listens."""
    own, begun = lane["text"][rows], lane["text"][lane["begun"][rows]]
    found = table.told(own, texts)
    others = np.flatnonzero(own != begun)
    if not len(others):
        return found
    others = others[sorting(begun[others])]
    places = np.arange(len(rows))
    places[others] = len(rows) + np.arange(len(others))
    ids = pl.concat([found["listen_id"], table.told(begun[others], texts)["listen_id"]], rechunk=True)
    return found.with_columns(ids.gather(places))


def _keep(lane: Columns, table: RowTable, texts: list[pl.DataFrame], timeout_ms: int, clock_now: int) -> None:
    """What goes on is written into the table. A pause and what was told before keep their texts where they stand."""
    last = np.flatnonzero(~after(lane["same"]))
    kind, clock, behind = (lane[name][last] for name in ("kind", "clock", "behind"))
    play, pause = kind == PLAYED, kind == PAUSED
    resumable = pause & (clock_now - clock < timeout_ms)
    remembered = ~play & ~pause & ~behind & (lane["newest"][last] > clock_now - timeout_ms)
    kept = last[(play & ~lane["done"][last]) | resumable | remembered]
    row, behind = lane["key"][kept], lane["behind"][kept]
    if behind.any():
        row[behind] = table.find(table.keys[row[behind]] | np.uint64(1))
    teller = np.where(lane["kind"][kept] == PLAYED, kept, lane["begun"][kept])
    text = np.where(np.isin(lane["kind"][kept], (PLAYED, PAUSED)), lane["text"][teller], NO_TEXT)
    table.text[row] = text
    new = np.flatnonzero(text >= table.texts_told)
    new = new[sorting(text[new])]
    table.tell(row[new], _texts_of(lane, teller[new], table, texts))
    for name in (*_REMEMBERED, *_NUMBERS):
        if name not in ("key", "clock"):
            table.columns[name][row] = lane[name][kept]
    table.open(row, lane["clock"][kept])
