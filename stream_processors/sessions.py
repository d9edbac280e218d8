"""Sessions: one row per stay of a listener, events with gaps of at most half an hour between them.

A session ends when the next event of the listener comes more than `gap_ms` after its last, when stream time has moved
on by more than that since, or when it has 10,000 events (ended_by `size`): so what is kept of one listener is bounded.
Events that are more than `gap_ms` older than one already seen of the listener (an offline upload) make sessions of
their own, beside the one that goes on now. The rows are a function of the log alone; the rules stand in session.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from stream_processors.distinct import PAIR, DistinctItems
from stream_processors.open_rows import FOLD_ROWS, Columns, OpenRows, Schema
from stream_processors.places import Ints
from stream_processors.row_table import SILENT, Records
from stream_processors.segment import Segment
from stream_processors.session import DEVICE, KINDS, SESSION, TRACK, expire, fold
from stream_processors.windows import EVENT_TYPE

EVENTS_MAX = 10_000
_KINDS = EVENT_TYPE.categories.to_list()
_COUNTED = {f"{kind}s": _KINDS.index(kind) for kind in ("play", "skip", "like", "share")}
assert len(_KINDS) == KINDS
_TEXTS = ["tenant", "source", "user_id", "platform", "country"]
_NUMBERS: Schema = {
    "key": pl.UInt64,
    "track": pl.UInt64,
    "device": pl.UInt64,
    "kind": pl.UInt8,
    "timestamp": pl.Int64,
    "clock": pl.Int64,
    "ms_played": pl.Int64,
}
_ROW: Schema = {
    "session_key": pl.String,
    **dict.fromkeys(_TEXTS, pl.String),
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
        rows = {name: data for name, data in segments.items() if not name.startswith("items/")}
        self._open = OpenRows(SESSION, _NUMBERS, ["session_key", *_TEXTS], {}, gap_ms + 1, rows)
        self._items = DistinctItems({n[6:]: data for n, data in segments.items() if n.startswith("items/")})
        self._owner = max(self._items.last_owner, int(self._open.table.records["owner"].max(initial=0)))

    def add(self, frame: pl.DataFrame) -> None:
        """Takes marked events in the order of the log: the event's columns with `timestamp` in ms, and `clock`.

        `clock` of a row is stream time after it. Cheap: the work is done by `take`.
        """
        self._open.wait(
            frame,
            key=pl.col("_listener") | 1,  # 0 is no key
            track=pl.col("_track"),
            device=pl.when(pl.col("device").is_not_null()).then("_device").otherwise(0),
            ms_played=pl.col("ms_played").cast(pl.Int64).fill_null(0).clip(0),
            session_key=pl.col("event_id"),
        )

    @property
    def waiting(self) -> int:
        """Events that are not folded yet."""
        return self._open.waiting

    @property
    def open_rows(self) -> int:
        """Sessions that go on."""
        return self._open.table.height

    def due(self, clock: int) -> bool:
        """Whether `take` at stream time `clock` is worth its cost; without it nothing is lost, only later."""
        return self._open.due(clock)

    def take(self, clock: int) -> pl.DataFrame:
        """The sessions that have ended at stream time `clock`: the fields of schemas/session.avsc, times in ms.

        `clock` is not before that of any event taken.
        """
        if self._open.quiet(clock):
            return pl.DataFrame(schema=_ROW)
        told, first_text = self._open.events()
        parts = [
            self._fold({name: column[at : at + FOLD_ROWS] for name, column in told.items()}, first_text + at)
            for at in range(0, len(told["row"]), FOLD_ROWS)
        ]
        ended = np.concatenate((*parts, self._open.expired(expire, clock, SESSION)))
        finished = self._finished(ended) if len(ended) else pl.DataFrame(schema=_ROW)
        self._open.folded()
        self._items.forget(int(ended["items"].sum()), self._owners)
        return finished

    def _fold(self, told: Columns, first_text: int) -> Records:
        table, ended = self._open.table, np.empty(len(told["row"]), SESSION)
        pairs = np.empty(2 * len(ended), PAIR)
        table.count, opened, found, new, self._owner = fold(
            *(table.records, table.changed, table.count),
            *(told["row"], told["track"], told["device"], told["kind"], told["timestamp"], told["clock"]),
            told["ms_played"],
            *(first_text, self._gap_ms, self._events_max, self._owner),
            *(pairs, ended),
        )
        self._items.put(pairs[:new])
        table.height += opened
        return ended[:found].copy()

    def _finished(self, ended: Records) -> pl.DataFrame:
        order, texts = self._open.texts_of(ended)
        ended = ended.take(order)
        counts = {name: ended["counts"][:, number] for name, number in _COUNTED.items()}
        items = self._items.counts(ended["owner"], int(ended["items"].sum()))
        counts |= {"tracks": items[:, TRACK], "devices": items[:, DEVICE]}
        by = pl.Series(["gap", "size"]).gather(ended["by_size"].astype(np.uint32))
        known: dict[str, Any] = {**texts.to_dict(), **counts, "ended_by": by}
        columns = {name: known[name] if name in known else ended[name] for name in _ROW}
        return pl.DataFrame([pl.Series(name, columns[name]).cast(kind) for name, kind in _ROW.items()])

    def _owners(self) -> Ints:
        records = self._open.table.records
        owners: Ints = records["owner"][records["state"] > SILENT]
        return owners

    def segments(self) -> dict[str, Segment]:
        """The state by name; a snapshot writes what has changed since the last."""
        items = {f"items/{name}": segment for name, segment in self._items.segments().items()}
        return {**self._open.segments(), **items}
