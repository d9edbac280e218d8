"""Rows by 64-bit key that change in place: numbers in arrays, texts in frames that are only appended to.

A row keeps its number from one `compact` to the next, also while it is closed; texts are copied only when a row begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from stream_processors import frames
from stream_processors.lanes import NEVER, WITHOUT_LANE, Bools, Columns, Ints, Keys, sorting
from stream_processors.places import Places

Schema = dict[str, pl.DataType | type[pl.DataType]]

NO_TEXT = -1
_LANE = np.uint64(1)
_LIVE = np.uint64(WITHOUT_LANE)
_CLOSED = 1 << 62
"""The clock of a row that is not open: after all times."""
_COMPACT_ROWS = 160_000


class RowTable:
    """The schema has `key` (UInt64, without the lane), `behind` (Boolean: the lane) and `clock` (Int64)."""

    def __init__(self, schema: Schema, texts: Sequence[str], nullable: Sequence[str] = ()) -> None:
        """`texts` are the columns that are told once for a row; `nullable` are numbers, where NEVER stands for null."""
        self._schema, self._nullable = schema, nullable
        self._texts = {name: schema[name] for name in texts}
        self._numbers = [name for name in schema if name not in texts and name not in ("key", "behind")]
        self._empty()

    def _empty(self) -> None:
        kinds = {name: pl.Series([], dtype=self._schema[name]).to_numpy().dtype for name in self._numbers}
        kinds |= dict.fromkeys(self._nullable, np.dtype(np.int64))
        self.columns: Columns = {name: np.zeros(0, kind) for name, kind in kinds.items()}
        """The numbers of all rows, to be read and written by row number; `clock` by `open` and `close` alone."""
        self.keys: Keys = np.zeros(0, np.uint64)
        """Of all rows, with the lane."""
        self.text: Ints = np.zeros(0, np.int64)
        """Of all rows: the number of their texts."""
        self._rows = 0
        self._height = 0
        self._places = Places(0)
        self._row_at = np.zeros(len(self._places), np.int32)
        self._told: list[pl.DataFrame] = []
        self._told_rows = 0

    @property
    def height(self) -> int:
        """Open rows."""
        return self._height

    def __len__(self) -> int:
        return self._rows

    def find(self, keys: Keys) -> Ints:
        """The row of each key, which is a new one, not open, where there was none."""
        if not self._places.have_room(len(keys)):
            self._places = Places(self._rows + len(keys))
            self._row_at = np.empty(len(self._places), np.int32)
            self._row_at[self._places.put(self.keys[: self._rows])[0]] = np.arange(self._rows, dtype=np.int32)
        places, is_new = self._places.put(keys)
        new = keys[is_new]
        end = self._rows + len(new)
        self._reserve(end)
        self.keys[self._rows : end] = new
        self.columns["clock"][self._rows : end] = _CLOSED
        self._row_at[places[is_new]] = np.arange(self._rows, end, dtype=np.int32)
        self._rows = end
        return self._row_at[places].astype(np.int64)

    def _reserve(self, rows: int) -> None:
        if rows > len(self.keys):
            more = max(rows, 2 * len(self.keys)) - len(self.keys)

            def longer(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
                return np.concatenate((values, np.zeros(more, values.dtype)))

            self.keys, self.text = longer(self.keys), longer(self.text)  # type: ignore[assignment]
            self.columns = {name: longer(values) for name, values in self.columns.items()}

    def is_open(self, rows: Ints) -> Bools:
        """Which of these rows are open."""
        found: Bools = self.columns["clock"][rows] != _CLOSED
        return found

    def open_rows(self) -> Ints:
        """All open rows."""
        return np.flatnonzero(self.columns["clock"][: self._rows] != _CLOSED)

    def of(self, keys: pl.Series) -> Ints:
        """The open rows with these keys, in either lane."""
        rows = self.open_rows()
        found: Ints = rows[pl.Series(self.keys[rows] & _LIVE).is_in(keys.implode()).to_numpy()]
        return found

    def heads(self, rows: Ints, up_to: int) -> Ints:
        """The open rows of which a fold is about: these and those behind them, and what was last heard of `up_to`."""
        behind = self.behind()
        live = self.find(self.keys[behind] & _LIVE)
        clocks = self.columns["clock"][: self._rows]
        named = clocks <= up_to
        named[rows] = True
        named[behind] |= named[live]
        return np.flatnonzero(named & (clocks != _CLOSED))

    def up_to(self, clock: int) -> Ints:
        """The open rows that were last heard of up to this time."""
        return np.flatnonzero(self.columns["clock"][: self._rows] <= clock)

    def behind(self) -> Ints:
        """The open rows of the lane behind."""
        rows = np.flatnonzero(self.keys[: self._rows] & _LANE)
        return rows[self.is_open(rows)]

    def open(self, rows: Ints, clock: Ints) -> None:
        """Says when these rows, each named once, were last heard of; they are open from now on."""
        self._height += len(rows) - int(np.count_nonzero(self.is_open(rows)))
        self.columns["clock"][rows] = clock

    def close(self, rows: Ints) -> None:
        """These open rows, each named once, are no more."""
        self._height -= len(rows)
        self.columns["clock"][rows] = _CLOSED

    def tell(self, rows: Ints, texts: pl.DataFrame) -> None:
        """The texts of these rows, in their order."""
        self.text[rows] = np.arange(self._told_rows, self._told_rows + len(rows))
        self._told_rows += len(rows)
        self._told.append(texts.select(*self._texts).rechunk())
        while len(self._told) > 1 and self._told[-1].height >= self._told[-2].height:
            self._told[-2:] = [pl.concat(self._told[-2:], rechunk=True)]

    def tell_of(self, rows: Ints, texts: Ints, more: Sequence[pl.DataFrame]) -> None:
        """These rows have these texts, told before or standing in `more` (see `told`)."""
        self.text[rows] = texts
        new = np.flatnonzero(texts >= self._told_rows)
        if len(new):
            new = new[sorting(texts[new])]
            self.tell(rows[new], self.told(texts[new], more))

    @property
    def texts_told(self) -> int:
        """The number of the text that comes next."""
        return self._told_rows

    def told(self, texts: Ints, more: Sequence[pl.DataFrame] = ()) -> pl.DataFrame:
        """Texts by their number, which do not fall; nulls where there is none. `more` is as if told in addition."""
        parts = [*self._told, *more]
        ends = np.cumsum([0, *(part.height for part in parts)])
        cuts = np.searchsorted(texts, ends)
        found: list[pl.DataFrame] = [
            part[texts[a:b] - first]
            for part, first, (a, b) in zip(parts, ends[:-1], pairwise(cuts), strict=True)
            if a < b
        ]
        if cuts[0] or not found:
            found.insert(0, pl.DataFrame(schema=self._texts).clear(int(cuts[0])))
        return pl.concat(found) if len(found) > 1 else found[0]

    def frame(self, rows: Ints) -> pl.DataFrame:
        """These rows, in the order of their texts, as a frame of the schema."""
        rows = rows[sorting(self.text[rows] - NO_TEXT)]
        told = self.told(self.text[rows])
        keys = self.keys[rows]
        numbers = {name: self.columns[name][rows] for name in self._numbers}
        numbers |= {"key": keys & _LIVE, "behind": (keys & _LANE).astype(np.bool_)}
        columns = [told[name] if name in self._texts else pl.Series(name, numbers[name]) for name in self._schema]
        return pl.DataFrame(columns).with_columns(
            pl.when(pl.col(name) != NEVER).then(name).cast(self._schema[name]) for name in self._nullable
        )

    def put(self, frame: pl.DataFrame) -> None:
        """Takes rows of the schema, which are open then; each key is there once."""
        rows = self.find(frame["key"].to_numpy() | frame["behind"].to_numpy().astype(np.uint64))
        self.open(rows, frame["clock"].to_numpy())
        for name in self._numbers:
            column = frame[name].cast(pl.Int64).fill_null(NEVER) if name in self._nullable else frame[name]
            self.columns[name][rows] = column.to_numpy()
        self.tell(rows, frame)

    def compact(self) -> None:
        """Forgets closed rows and unused texts once they are the most; row numbers change."""
        if max(self._rows, self._told_rows) > max(_COMPACT_ROWS, 2 * self._height):
            open_rows = self.frame(self.open_rows())
            self._empty()
            self.put(frames.compacted(open_rows))
