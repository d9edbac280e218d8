"""Sessions: one row per stay of a listener, events with gaps of at most half an hour between them.

A session ends when the next event of the listener comes more than `gap_ms` after its last, when stream time has moved
on by more than that since, or when it has 10,000 events (ended_by `size`): so what is kept of one listener is bounded.
Events that are more than `gap_ms` older than one already seen of the listener (an offline upload) make sessions of
their own, beside the one that goes on now. The rows are a function of the log alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import polars as pl

from stream_processors.distinct import DistinctItems
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
    picked,
    running_max,
    sorting,
    spread,
)
from stream_processors.open_rows import OpenRows, Schema
from stream_processors.segment import Segment
from stream_processors.windows import EVENT_TYPE

EVENTS_MAX = 10_000
_COUNTED = {"plays": "play", "skips": "skip", "likes": "like", "shares": "share"}
_KINDS = {column: EVENT_TYPE.categories.to_list().index(kind) for column, kind in _COUNTED.items()}
_DEVICE = np.uint64(0xD1CE)
_BITS = 15
_MASK = (1 << _BITS) - 1
_PACKED = np.array(
    [
        sum(1 << (_BITS * i) for i, known in enumerate(_KINDS.values()) if known == kind)
        for kind in range(len(EVENT_TYPE.categories))
    ]
)
"""What an event adds to the four counts of a session, which has at most 10,000 events: all in one number."""
_TEXTS = ["event_id", "tenant", "source", "user_id", "platform", "country"]
_NUMBERS: Schema = {
    "key": pl.UInt64,
    "owner": pl.UInt64,  # hash of listener and first event: the session
    "track": pl.UInt64,
    "device": pl.UInt64,  # 0: not told
    "kind": pl.UInt8,
    "timestamp": pl.Int64,
    "clock": pl.Int64,
    "ms_played": pl.Int64,
}
_EVENT: Schema = {**_NUMBERS, **dict.fromkeys(_TEXTS, pl.String)}
_SUMS = ["events", *_COUNTED, "tracks", "devices"]
_MEMORY: Schema = {
    "behind": pl.Boolean,
    "newest": pl.Int64,  # greatest timestamp of the lane
    "started_at": pl.Int64,
    "ended_at": pl.Int64,
    **dict.fromkeys(_SUMS, pl.Int32),
}
_OPEN: Schema = {**_EVENT, **_MEMORY}
SESSION: Schema = {
    "session_key": pl.String,
    **dict.fromkeys(_TEXTS[1:], pl.String),
    "devices": pl.Int32,
    "started_at": pl.Int64,
    "ended_at": pl.Int64,
    "ended_by": pl.String,
    **dict.fromkeys(["events", *_COUNTED, "tracks"], pl.Int32),
    "ms_played": pl.Int64,
}


class OpenSessions:
    """The open sessions of each listener, and the events not yet folded into them."""

    def __init__(
        self, gap_ms: int, segments: Mapping[str, bytes] | None = None, *, events_max: int = EVENTS_MAX
    ) -> None:
        segments = segments or {}
        self._gap_ms, self._events_max = gap_ms, events_max
        self._open = OpenRows(_OPEN, {n: data for n, data in segments.items() if not n.startswith("items/")})
        self._items = DistinctItems({n[6:]: data for n, data in segments.items() if n.startswith("items/")})

    def add(self, frame: pl.DataFrame) -> None:
        """Takes events in the order of the log: the event's columns with `timestamp` in ms, and `clock`.

        `clock` of a row is stream time after it. Cheap: the work is done by `take`.
        """
        key = (pl.col("tenant").hash(1) ^ pl.col("user_id").hash(2)) & pl.lit(WITHOUT_LANE, pl.UInt64)
        self._open.wait(
            frame.select(
                key.alias("key"),
                (pl.col("event_id").hash(5) ^ key).alias("owner"),
                pl.col("track_id").hash(4).alias("track"),
                pl.when(pl.col("device").is_not_null()).then(pl.col("device").hash(3)).otherwise(0).alias("device"),
                pl.col("event_type").cast(EVENT_TYPE).to_physical().alias("kind"),
                pl.col("timestamp", "clock").cast(pl.Int64),
                pl.col("ms_played").cast(pl.Int64).fill_null(0).clip(0),
                *_TEXTS,
            )
        )

    @property
    def waiting(self) -> int:
        """Events that are not folded yet."""
        return self._open.waiting

    @property
    def open_rows(self) -> int:
        """Sessions that go on."""
        return self._open.rows.height

    def due(self, clock: int) -> bool:
        """Whether `take` at stream time `clock` is worth its cost; without it nothing is lost, only later."""
        return self._open.due(clock - self._gap_ms - 1)

    def take(self, clock: int) -> pl.DataFrame:
        """The sessions that have ended at stream time `clock`: the fields of schemas/session.avsc, times in ms.

        `clock` is not before that of any event taken.
        """
        if self._open.quiet(clock - self._gap_ms - 1):
            return pl.DataFrame(schema=SESSION)
        heads, events = self._open.take(clock - self._gap_ms - 1)
        parts = [heads.rechunk(), *events]
        lane = _in_lanes(_columns(parts), parts[0], self._gap_ms)
        begins = _borders(lane, parts[0], self._gap_ms, self._events_max)
        sessions = self._summed(lane, parts[0], begins)
        follows = after(continues(lane["lane"]))[sessions["end"]]
        by_size = follows & ~after(lane["apart"])[sessions["end"]]
        closed = follows | (clock - sessions["clock"] > self._gap_ms)
        sessions["ended_by"] = by_size.astype(np.int64)
        self._open.put(_rows(parts, picked(sessions, np.flatnonzero(~closed)), _OPEN))
        finished = picked(sessions, np.flatnonzero(closed))
        self._items.forget(int((finished["tracks"] + finished["devices"]).sum()), lambda: self._open.rows["owner"])
        return _rows(parts, finished, SESSION)

    def _summed(self, lane: Columns, heads: pl.DataFrame, begins: Bools) -> Columns:
        """One row per session: what its head says, if it begins with one, and what its events add."""
        start = np.flatnonzero(begins)
        end = np.append(start[1:], len(begins)) - 1
        sessions: Columns = {
            **{name: lane[name][end] for name in ("track", "device", "kind", "timestamp", "clock", "newest")},
            **{name: lane[name][start] for name in ("key", "owner", "row", "behind")},
            "end": end,
            "ms_played": np.add.reduceat(lane["ms_played"], start),
            "started_at": np.minimum.reduceat(lane["timestamp"], start),
            "ended_at": np.maximum.reduceat(lane["timestamp"], start),
        }
        is_head = lane["row"] < heads.height
        counts = np.add.reduceat(np.where(is_head, 0, _PACKED[lane["kind"]]), start)
        tracks, devices = self._new_items(lane, is_head, begins, sessions["owner"])
        added = {name: counts >> (_BITS * i) & _MASK for i, name in enumerate(_KINDS)}
        added |= {"events": np.add.reduceat(~is_head, start, dtype=np.int64), "tracks": tracks, "devices": devices}
        for name, more in added.items():
            sessions[name] = spread(heads[name], sessions["row"]) + more
        old = np.flatnonzero(sessions["row"] < heads.height)
        for name, choose in (("started_at", np.minimum), ("ended_at", np.maximum)):
            sessions[name][old] = choose(sessions[name][old], heads[name].to_numpy()[sessions["row"][old]])
        return sessions

    def _new_items(self, lane: Columns, is_head: Bools, begins: Bools, owner: Keys) -> tuple[Ints, Ints]:
        """How many tracks and devices each session has not had before. Only changes of the item need to be asked."""
        nth = np.cumsum(begins) - 1
        track = np.flatnonzero(~is_head & (begins | (lane["track"] != before(lane["track"]))))
        other = begins | (lane["device"] != before(lane["device"]))
        device = np.flatnonzero(~is_head & other & (lane["device"] != 0))
        of = nth[np.concatenate((track, device))]
        items = np.concatenate((lane["track"][track], lane["device"][device] ^ _DEVICE))
        is_new = self._items.add(owner[of], items)
        tracks, devices = of[: len(track)][is_new[: len(track)]], of[len(track) :][is_new[len(track) :]]
        return np.bincount(tracks, minlength=len(owner)), np.bincount(devices, minlength=len(owner))

    def segments(self) -> dict[str, Segment]:
        """The state by name; a snapshot writes what has changed since the last."""
        items = {f"items/{name}": segment for name, segment in self._items.segments().items()}
        return {**self._open.segments(), **items}


def _columns(parts: list[pl.DataFrame]) -> Columns:
    """All numbers of the heads and then of the events, sorted by key, each key in the order of the log."""
    numbers = pl.concat([part.select(*_NUMBERS) for part in parts], rechunk=True)
    told: Columns = {name: numbers[name].to_numpy() for name in _NUMBERS}
    told["row"] = np.arange(len(numbers))
    return picked(told, sorting(told["key"]))


def _in_lanes(rows: Columns, heads: pl.DataFrame, gap_ms: int) -> Columns:
    """The rows sorted by lane, each lane in the order of the log; adds `newest`, what each row says about it."""
    timestamp, clock = rows["timestamp"], rows["clock"]
    same = continues(rows["key"])
    is_head = rows["row"] < heads.height
    was_behind = spread(heads["behind"], rows["row"])
    says = rows["newest"] = np.where(is_head, spread(heads["newest"], rows["row"]), timestamp)
    newest = running_max(np.where(was_behind, NEVER, says), first_of(same))
    known = np.where(same, before(newest), NEVER)
    rows["behind"] = np.where(is_head, was_behind, (timestamp < known - gap_ms) & (known >= clock - gap_ms))
    rows["lane"] = rows["key"] | rows["behind"].astype(np.uint64)
    return picked(rows, sorting(rows["lane"])) if rows["behind"].any() else rows


def _borders(lane: Columns, heads: pl.DataFrame, gap_ms: int, events_max: int) -> Bools:
    """Where a session begins; makes `newest` that up to each row, and adds `apart`: it begins because of a gap."""
    timestamp, clock = lane["timestamp"], lane["clock"]
    same = continues(lane["lane"])
    near = same & (clock - before(clock) <= gap_ms) & (before(timestamp) - timestamp <= gap_ms)
    newest = lane["newest"] = running_max(lane["newest"], first_of(near))
    near &= timestamp - before(newest) <= gap_ms
    lane["apart"] = ~near
    first = first_of(near)
    had = spread(heads["events"], lane["row"])
    events = np.arange(len(near)) - first + (had - (had > 0))[first]
    number = events // events_max
    begins: Bools = ~near | (number != before(number))
    return begins


def _rows(parts: list[pl.DataFrame], sessions: Columns, schema: Schema) -> pl.DataFrame:
    """The sessions as a frame: texts from the rows with which they began, in the order of these rows."""
    sessions = picked(sessions, np.argsort(sessions["row"]))
    ends = np.cumsum([0, *(part.height for part in parts)])
    cuts = np.searchsorted(sessions["row"], ends)
    texts: list[pl.DataFrame] = [
        part.select(*_TEXTS)[sessions["row"][a:b] - first]
        for part, first, (a, b) in zip(parts, ends[:-1], pairwise(cuts), strict=True)
    ]
    told = pl.concat(texts).with_columns(
        pl.col("event_id").alias("session_key"),
        *(pl.Series(name, values) for name, values in sessions.items() if name != "ended_by"),
        ended_by=pl.Series(["gap", "size"]).gather(sessions["ended_by"]),
    )
    return told.select(pl.col(name).cast(kind) for name, kind in schema.items())
