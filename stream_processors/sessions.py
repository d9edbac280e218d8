"""Sessions: one row per stay of a listener, events with gaps of at most half an hour between them.

A session ends when the next event of the listener comes more than `gap_ms` after its last, when stream time has moved
on by more than that since, or when it has 10,000 events (ended_by `size`): so what is kept of one listener is bounded.
Events that are more than `gap_ms` older than one already seen of the listener (an offline upload) make sessions of
their own, beside the one that goes on now. The rows are a function of the log alone.

Of most listeners all waiting events belong to one session in whatever order they stand: these are summed
(session_sums.py). Only for the others the order is looked at (session_order.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from stream_processors.distinct import DistinctItems
from stream_processors.lanes import NEVER, WITHOUT_LANE, Columns, Ints, picked, sorting
from stream_processors.open_rows import OpenRows
from stream_processors.row_table import RowTable
from stream_processors.segment import Segment
from stream_processors.session import EVENTS_MAX, NUMBERS, OPEN, SESSION, TEXTS
from stream_processors.session_order import in_order
from stream_processors.session_sums import Sums
from stream_processors.windows import EVENT_TYPE


class OpenSessions:
    """The open sessions of each listener, and the events not yet folded into them."""

    def __init__(
        self, gap_ms: int, segments: Mapping[str, bytes] | None = None, *, events_max: int = EVENTS_MAX
    ) -> None:
        segments = segments or {}
        self._gap_ms, self._events_max = gap_ms, events_max
        rows = RowTable(OPEN, TEXTS)
        self._open = OpenRows(rows, {n: data for n, data in segments.items() if not n.startswith("items/")})
        self._items = DistinctItems({n[6:]: data for n, data in segments.items() if n.startswith("items/")})

    def add(self, frame: pl.DataFrame) -> None:
        """Takes events in the order of the log: the event's columns with `timestamp` in ms, and `clock`.

        `clock` of a row is stream time after it. Cheap: the work is done by `take`.
        """
        key = (pl.col("tenant").hash(1) ^ pl.col("user_id").hash(2)) & pl.lit(WITHOUT_LANE, pl.UInt64)
        key = key.clip(2)  # 0 is no key
        self._open.wait(
            frame.select(
                key.alias("key"),
                (pl.col("event_id").hash(5) ^ key).alias("owner"),
                pl.col("track_id").hash(4).alias("track"),
                pl.when(pl.col("device").is_not_null()).then(pl.col("device").hash(3)).otherwise(0).alias("device"),
                pl.col("event_type").cast(EVENT_TYPE).to_physical().alias("kind"),
                pl.col("timestamp", "clock").cast(pl.Int64),
                pl.col("ms_played").cast(pl.Int64).fill_null(0).clip(0),
                *TEXTS,
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
        events, rows = self._open.events(), self._open.rows
        numbers = _columns(events)
        sums = Sums(numbers, rows, self._gap_ms, self._events_max)
        texts = [part.select(TEXTS) for part in events]
        finished = [self._in_order(numbers, texts, np.flatnonzero(sums.ordered), clock)] if sums.ordered.any() else []
        sums.add(numbers, texts, rows, self._items)
        timed_out = rows.up_to(clock - self._gap_ms - 1)
        if len(timed_out):
            finished.append(_ended(_numbers(rows, timed_out), rows, []))
            rows.close(timed_out)
        self._open.folded(sums.keys, rows.keys[timed_out] & np.uint64(WITHOUT_LANE))
        ended = pl.concat(finished or [pl.DataFrame(schema=SESSION)])
        self._items.forget(int((ended["tracks"] + ended["devices"]).sum()), self._owners)
        return ended

    def _in_order(self, numbers: Columns, texts: list[pl.DataFrame], places: Ints, clock: int) -> pl.DataFrame:
        """Folds the events at these places, which are all of their listeners; the sessions that have ended."""
        rows = self._open.rows
        mine = picked(numbers, places) | {"text": rows.texts_told + places}
        mine["key"] = rows.find(mine["key"])
        open_rows = rows.heads(mine["key"], NEVER)
        heads = _numbers(rows, open_rows)
        heads["key"] = rows.find(rows.keys[open_rows] & np.uint64(WITHOUT_LANE))
        ended, still = in_order(heads, mine, self._items, self._gap_ms, self._events_max, clock)
        finished = _ended(ended, rows, texts)
        rows.close(open_rows)
        row = rows.find(rows.keys[still["key"]] | still["behind"].astype(np.uint64))
        rows.tell_of(row, still["text"], texts)
        for name in rows.columns.keys() - {"clock"}:
            rows.columns[name][row] = still[name]
        rows.open(row, still["clock"])
        return finished

    def _owners(self) -> pl.Series:
        rows = self._open.rows
        return pl.Series(rows.columns["owner"][rows.open_rows()])

    def segments(self) -> dict[str, Segment]:
        """The state by name; a snapshot writes what has changed since the last."""
        items = {f"items/{name}": segment for name, segment in self._items.segments().items()}
        return {**self._open.segments(), **items}


def _columns(events: list[pl.DataFrame]) -> Columns:
    """All numbers of the events, in the order of the log."""
    if not events:
        return {name: pl.Series([], dtype=kind).to_numpy() for name, kind in NUMBERS.items()}
    return {name: np.concatenate([part[name].to_numpy() for part in events]) for name in NUMBERS}


def _numbers(rows: RowTable, places: Ints) -> Columns:
    """What the table says of these open sessions, which have not ended by their size."""
    behind = (rows.keys[places] & ~np.uint64(WITHOUT_LANE)).astype(np.bool_)
    told = {"text": rows.text[places], "behind": behind, "by_size": np.zeros(len(places), np.bool_)}
    return picked(rows.columns, places) | told


def _ended(sessions: Columns, rows: RowTable, texts: list[pl.DataFrame]) -> pl.DataFrame:
    """Rows of SESSION; `texts` are those that follow on the table's."""
    sessions = picked(sessions, sorting(sessions["text"]))
    told = rows.told(sessions["text"], texts)
    by_size = pl.Series(["gap", "size"]).gather(sessions["by_size"].astype(np.uint32))
    known = {name: told[name] for name in TEXTS} | {"session_key": told["event_id"], "ended_by": by_size}
    return pl.DataFrame(
        [pl.Series(name, known[name] if name in known else sessions[name]).cast(kind) for name, kind in SESSION.items()]
    )
