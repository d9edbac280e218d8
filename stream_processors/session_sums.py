"""Sessions by sums: for a listener whose waiting events all belong to one session, whatever their order."""

from __future__ import annotations

import numpy as np
import polars as pl

from stream_processors.distinct import DistinctItems
from stream_processors.lanes import NEVER, WITHOUT_LANE, Bools, Columns, Ints
from stream_processors.row_table import RowTable
from stream_processors.session import DEVICE, KINDS
from stream_processors.windows import EVENT_TYPE

_ALL_KINDS = len(EVENT_TYPE.categories)


class Sums:
    """What the events of each listener sum up to, and of which listeners they are all of one session.

    `keys` are the listeners; `ordered` are the events of listeners for which the order decides.
    """

    def __init__(self, events: Columns, rows: RowTable, gap_ms: int, events_max: int) -> None:
        self._row = rows.find(events["key"])
        self._first, self._group = _groups(self._row, len(rows))
        self.keys = events["key"][self._first]
        listeners, numbers = len(self._first), len(self._row)
        timestamp, group = events["timestamp"], self._group
        self._last = np.empty(listeners, np.int64)
        self._last[group] = np.arange(numbers)
        self._oldest, self._newest = np.full(listeners, -NEVER), np.full(listeners, NEVER)
        np.minimum.at(self._oldest, group, timestamp)
        np.maximum.at(self._newest, group, timestamp)
        self._ms_played = np.zeros(listeners, np.int64)
        np.add.at(self._ms_played, group, events["ms_played"])
        kinds = np.bincount(group * _ALL_KINDS + events["kind"], minlength=_ALL_KINDS * listeners)
        self._kinds = kinds.reshape(listeners, _ALL_KINDS)
        self._counts = self._kinds.sum(axis=1)

        row, clock = self._row[self._first], events["clock"]
        self._goes_on = rows.is_open(row)
        had, heard, known = (rows.columns[name][row] for name in ("events", "clock", "newest"))
        since = np.where(self._goes_on, heard, clock[self._first])
        known = np.where(self._goes_on, known, self._newest)
        self._is_simple = (
            (self._oldest >= np.maximum(known, self._newest) - gap_ms)
            & (self._newest - known <= gap_ms)
            & (clock[self._last] - since <= gap_ms)
            & (np.where(self._goes_on, had, 0) + self._counts <= events_max)
        )
        behind = rows.behind()
        if len(behind):
            live = rows.find(rows.keys[behind] & np.uint64(WITHOUT_LANE))
            not_alone = np.zeros(len(rows), np.bool_)
            not_alone[live] = True
            self._is_simple &= ~not_alone[row]
        self.ordered = ~self._is_simple[group]

    def add(self, events: Columns, texts: list[pl.DataFrame], rows: RowTable, items: DistinctItems) -> None:
        """Adds up what is simple: begins sessions, and goes on with open ones. `texts` are those of the events."""
        simple = np.flatnonzero(self._is_simple)
        row, first, last = (values[simple] for values in (self._row[self._first], self._first, self._last))
        begins = ~self._goes_on[simple]
        asked = _asked(events, self._row, ~self.ordered, self._goes_on[self._group], rows)
        columns = rows.columns
        new = row[begins]
        for name in ("ms_played", "events", *KINDS, "tracks", "devices"):
            columns[name][new] = 0
        columns["owner"][new] = events["owner"][first[begins]]
        columns["started_at"][new], columns["ended_at"][new], columns["newest"][new] = -NEVER, NEVER, NEVER
        rows.tell_of(new, rows.texts_told + first[begins], texts)
        rows.open(row, events["clock"][last])
        for name in ("track", "device", "kind", "timestamp"):
            columns[name][row] = events[name][last]
        columns["started_at"][row] = np.minimum(columns["started_at"][row], self._oldest[simple])
        for name in ("ended_at", "newest"):
            columns[name][row] = np.maximum(columns[name][row], self._newest[simple])
        columns["ms_played"][row] += self._ms_played[simple]
        columns["events"][row] += self._counts[simple].astype(np.int32)
        for name, kind in KINDS.items():
            columns[name][row] += self._kinds[simple, kind].astype(np.int32)
        self._add_items(events, asked, rows, items)

    def _add_items(self, events: Columns, asked: tuple[Ints, Ints], rows: RowTable, items: DistinctItems) -> None:
        at = np.concatenate(asked)
        tracks, devices = asked
        told = np.concatenate((events["track"][tracks], events["device"][devices] ^ DEVICE))
        is_new = items.add(rows.columns["owner"][self._row[at]], told)
        for name, some, new in (
            ("tracks", tracks, is_new[: len(tracks)]),
            ("devices", devices, is_new[len(tracks) :]),
        ):
            np.add.at(rows.columns[name], self._row[some[new]], np.int32(1))


def _groups(rows: Ints, count: int) -> tuple[Ints, Ints]:
    """(first event of each row that is named, number of each event's row among these)."""
    numbers = np.arange(len(rows))
    first_at = np.empty(count, np.int64)
    first_at[rows[::-1]] = numbers[::-1]  # of equal rows the last that is written stays: the first event
    leader = first_at[rows]
    leads = leader == numbers
    return np.flatnonzero(leads), (np.cumsum(leads) - 1)[leader]


def _asked(events: Columns, row: Ints, mine: Bools, goes_on: Bools, rows: RowTable) -> tuple[Ints, Ints]:
    """The events whose track, and whose device, is another than the last of their session: it may be new."""
    track, device = (~goes_on | (events[name] != rows.columns[name][row]) for name in ("track", "device"))
    return np.flatnonzero(mine & track), np.flatnonzero(mine & device & (events["device"] != 0))
