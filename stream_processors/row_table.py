"""Rows by 64-bit key as records that kernels change in place, and the segments that say which of them have changed.

A row keeps its number from one `compact` to the next, also while it is closed. What is written is what changed: a
snapshot writes the changed rows as one run, and the newest run that has a row wins. A run that has grown to half of the
run before it takes that one's rows too, so there are few runs and a row is written again log2(all / changed) times at
most.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.kernel import kernel
from stream_processors.places import Bools, Ints, Keys, first_place, next_place
from stream_processors.segment import Segment

T = TypeVar("T", bound=np.generic)
Records = npt.NDArray[np.void]
"""One record per row."""

NEVER = -(1 << 62)
"""A time before all times."""
CLOSED, SILENT = 0, 1
"""States of a row: no more, or kept only for what it knows of its key; all others are greater."""
FIELDS: list[Any] = [
    ("key", np.uint64),
    ("clock", np.int64),  # stream time when it was last heard of
    ("newest", np.int64),  # greatest timestamp of its key, which only the live row knows
    ("text", np.int32),  # number of its texts
    ("other", np.int32),  # row of the key's other lane, or -1
    ("state", np.uint8),
    ("behind", np.bool_),  # the lane of what is uploaded late; only the row of the live lane is found by its key
]
"""What each row has."""

_COMPACT_ROWS = 20_000
_ROWS_MIN = 1 << 10


class RowTable:
    """Records of a dtype that begins with FIELDS."""

    def __init__(self, dtype: np.dtype[np.void], segments: Mapping[str, bytes]) -> None:
        """`segments` are those of a snapshot, by number."""
        self._dtype, self._index = dtype, np.dtype(np.int32)
        runs = [(int(number), *self._parts(np.frombuffer(data, np.uint8))) for number, data in segments.items()]
        runs.sort(key=lambda run: run[0])
        self._start(max((int(rows.max(initial=-1)) + 1 for _, rows, _ in runs), default=0))
        for number, rows, records in runs:
            self.records[rows], self._run[rows] = records, number
        other = self.records["other"]
        lanes = self.records[np.minimum(other, self.count - 1)]
        is_told = (other < self.count) & (lanes["state"] != CLOSED) & (lanes["key"] == self.records["key"])
        other[~is_told] = -1  # the oldest run does not tell of rows that have closed, whose numbers are given again
        self._runs = [number for number, _, _ in runs]
        self._numbers = max(self._runs, default=0)
        self.height = int(np.count_nonzero(self.records["state"]))
        self._build(0)

    def _start(self, count: int) -> None:
        self.records: Records = np.zeros(count, self._dtype)
        """All rows, and room for some more."""
        self.changed: Bools = np.zeros(count, np.bool_)
        """Which rows are not as the last snapshot has them."""
        self._run = np.zeros(count, np.int64)
        self.count = count
        """Rows, open or closed."""
        self.height = 0
        """Open rows."""

    def _build(self, more: int) -> None:
        size = 1 << max(2 * _ROWS_MIN, 2 * (self.count + more)).bit_length()
        self._row_at = np.full(size, -1, np.int32)
        _index(self._row_at, self.records[: self.count])

    def find(self, keys: Keys) -> Ints:
        """The live row of each key, a closed one where there was none; afterwards each has room for a row behind it."""
        rows, found = np.empty(len(keys), np.int64), 0
        while found < len(keys):
            self._reserve(self.count + 1)
            if 2 * len(self.records) > len(self._row_at):
                self._build(len(self.records) - self.count)
            self.count, found = _find(self._row_at, keys, self.records, self.count, rows, found)
        self._reserve(self.count + min(len(keys), self.count))
        return rows

    def _reserve(self, rows: int) -> None:
        if rows > len(self.records):
            more = max(rows, 2 * len(self.records), _ROWS_MIN)
            self.records = _longer(self.records[: self.count], more)
            self.changed = _longer(self.changed[: self.count], more)
            self._run = _longer(self._run[: self.count], more)

    def compact(self) -> None:
        """Forgets closed rows once they are the most; row numbers change."""
        if self.count <= max(_COMPACT_ROWS, 2 * self.height):
            return
        kept = np.flatnonzero(self.records["state"][: self.count])
        number = np.full(self.count + 1, -1, np.int32)  # of -1: -1
        number[kept] = np.arange(len(kept))
        records = self.records[kept]
        records["other"] = number[records["other"]]
        self._start(len(kept))
        self.records, self.height, self._runs = records, len(kept), []
        self.changed[:] = True
        self._build(0)

    def segments(self) -> dict[str, Segment]:
        """The runs by number."""
        changed = np.flatnonzero(self.changed[: self.count])
        if len(changed):
            self._numbers += 1
            self._run[changed], size = self._numbers, len(changed)
            self.changed[changed] = False
            while self._runs and 2 * size >= np.count_nonzero(self._run == self._runs[-1]):
                self._run[self._run == self._runs.pop()] = self._numbers
                size = int(np.count_nonzero(self._run == self._numbers))
            self._runs.append(self._numbers)
        return {str(number): Segment(number, partial(self._bytes, number)) for number in self._runs}

    def _bytes(self, number: int) -> bytes:
        """Row numbers, then their records. Closed rows are told to hide those of older runs."""
        rows = np.flatnonzero(self._run == number)
        if number == self._runs[0]:
            rows = rows[self.records["state"][rows] != CLOSED]
        data = np.empty(len(rows) * (self._index.itemsize + self._dtype.itemsize), np.uint8)
        told, records = self._parts(data)
        told[:] = rows
        np.take(self.records, rows, out=records, mode="clip")
        return data.tobytes()

    def _parts(self, data: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], Records]:
        """Views of the row numbers and the records in such bytes."""
        count = len(data) // (self._index.itemsize + self._dtype.itemsize)
        border = count * self._index.itemsize
        return data[:border].view(self._index), data[border:].view(self._dtype)


def _longer(values: npt.NDArray[T], size: int) -> npt.NDArray[T]:
    longer = np.zeros(size, values.dtype)
    longer[: len(values)] = values
    return longer


@kernel
def _find(row_at: Any, keys: Keys, records: Records, count: int, rows: Ints, first: int) -> tuple[int, int]:
    """(rows that are used, keys that are found) once all are, or no row is left."""
    for i in range(first, len(keys)):
        place = first_place(len(row_at), keys[i])
        while row_at[place] >= 0 and records[row_at[place]].key != keys[i]:
            place = next_place(len(row_at), place)
        if row_at[place] < 0:
            if count == len(records):
                return count, i
            row_at[place] = count
            records[count].key, records[count].other = keys[i], -1
            count += 1
        rows[i] = row_at[place]
    return count, len(keys)


@kernel
def _index(row_at: Any, records: Records) -> None:
    for row in range(len(records)):
        if records[row].key != 0 and not records[row].behind:
            place = first_place(len(row_at), records[row].key)
            while row_at[place] >= 0:
                place = next_place(len(row_at), place)
            row_at[place] = row


@kernel
def row_behind(records: Records, live: int, count: int) -> int:
    """The open row behind this live one; `count`, the first that is not used, where it had none."""
    row: int = records[live].other
    if row < 0:
        row = records[live].other = count
    behind = records[row]
    if behind.state == CLOSED:
        behind.key, behind.other, behind.newest = records[live].key, live, NEVER
        behind.state, behind.behind = SILENT, True
    return row
