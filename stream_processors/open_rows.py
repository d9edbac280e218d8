"""Open rows by 64-bit key, and the events that wait to be folded into them: in memory, and as segments of the state.

What is written is what changed. A fold notes the keys that it touched; a snapshot writes the rows of these keys as one
run, where a key without a row is a tombstone, and the newest run of a key wins. A run that has grown to half of the run
before it is merged with it, so there are few runs and a row is written again log2(all / changed) times at most.
Waiting events are one immutable segment per snapshot until they are folded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from stream_processors import frames
from stream_processors.lanes import Keys
from stream_processors.row_table import RowTable
from stream_processors.segment import Segment

FOLD_ROWS = 20_000
FOLD_SHARE = 4
"""A fold looks at the clocks of all open rows: worthwhile once a quarter as many events wait, or rows time out."""
_PARTS_MAX = 4


@dataclass(frozen=True)
class _Run:
    number: int
    keys: pl.Series | None
    """None: all rows. Only the oldest run has no keys of its own, and no tombstones."""
    rows: int


class OpenRows:
    """Rows with the columns `key` (UInt64) and `clock` (Int64, stream time when they were last heard of)."""

    def __init__(self, rows: RowTable, segments: Mapping[str, bytes]) -> None:
        self.rows = rows
        self._waiting: list[pl.DataFrame] = []
        self._logged: list[tuple[int, pl.DataFrame]] = []
        self._runs: list[_Run] = []
        self._touched: list[pl.Series] = []
        self._numbers = 0
        self._worth_at: int | None = None
        self._oldest: int | None = None
        self.waiting = 0
        self._load(segments)

    def _load(self, segments: Mapping[str, bytes]) -> None:
        found = sorted((name.split("/")[0], int(name.split("/")[1]), data) for name, data in segments.items())
        parts = [(number, frames.from_bytes(data)) for kind, number, data in found if kind == "run"]
        known = pl.Series("key", [], pl.UInt64)
        newest_wins = []
        for number, part in reversed(parts):
            newest_wins.append(part.filter(~pl.col("key").is_in(known.implode())))
            known = pl.concat([known, part["key"]])
            self._runs.insert(0, _Run(number, part["key"].unique(), part.height))
        if newest_wins:
            self.rows.put(pl.concat(newest_wins, rechunk=True).filter(pl.col("clock").is_not_null()))
            self._runs[0] = _Run(self._runs[0].number, None, self._runs[0].rows)
        self._logged = [(number, frames.from_bytes(data)) for kind, number, data in found if kind == "log"]
        self.waiting = sum(frame.height for _, frame in self._logged)
        self._numbers = max((number for _, number, _ in found), default=0)
        self._look_at_clocks()

    def wait(self, frame: pl.DataFrame) -> None:
        """Keeps events, in the order of the log, until the next fold."""
        if frame.height:
            self._waiting.append(frame)
            self.waiting += frame.height

    def due(self, expired_before: int) -> bool:
        """Whether a fold is worth a pass over all rows; rows with a clock up to `expired_before` have timed out."""
        share = self.rows.height // FOLD_SHARE
        enough_expired = self._worth_at is not None and self._worth_at <= expired_before
        return self.waiting >= max(FOLD_ROWS, share) or enough_expired

    def events(self) -> list[pl.DataFrame]:
        """Takes out the events that wait, in the order of the log and in few frames: a fold begins."""
        events = [frame for _, frame in self._logged] + self._waiting
        self._waiting, self._logged, self.waiting = [], [], 0
        return events if len(events) <= _PARTS_MAX else [pl.concat(events, rechunk=True)]

    def folded(self, *keys: Keys) -> None:
        """A fold has ended, which has touched the rows of these keys."""
        self._touched += [pl.Series("key", some) for some in keys]
        self.rows.compact()
        self._look_at_clocks()

    def _look_at_clocks(self) -> None:
        clocks = self.rows.columns["clock"][: len(self.rows)]
        height = self.rows.height
        place = height // FOLD_SHARE if height > FOLD_ROWS else 0
        self._worth_at = int(np.partition(clocks, place)[place]) if height else None
        self._oldest = int(clocks.min()) if height else None

    def quiet(self, expired_before: int) -> bool:
        """Whether a fold would find nothing to do."""
        return not self.waiting and (self._oldest is None or self._oldest > expired_before)

    def segments(self) -> dict[str, Segment]:
        """The runs as `run/<n>` and the waiting events as `log/<n>`."""
        if self._waiting:
            self._logged.append((self._next(), pl.concat(self._waiting, rechunk=True)))
            self._waiting = []
        if self._touched:
            self._add_run(pl.concat(self._touched).unique())
            self._touched = []
        runs = {f"run/{run.number}": Segment(run.number, self._data(run.keys)) for run in self._runs}
        logs = {f"log/{number}": Segment(number, _bytes(frame)) for number, frame in self._logged}
        return {**runs, **logs}

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _add_run(self, keys: pl.Series) -> None:
        run = _Run(self._next(), keys, len(keys))
        while self._runs and 2 * run.rows >= self._runs[-1].rows:
            older = self._runs.pop()
            if run.keys is None or older.keys is None:
                run = _Run(run.number, None, self.rows.height)
            else:
                union = pl.concat([older.keys, run.keys]).unique()
                run = _Run(run.number, union, len(union))
        if not self._runs:
            run = _Run(run.number, None, self.rows.height)
        self._runs.append(run)

    def _data(self, keys: pl.Series | None) -> Callable[[], bytes]:
        def data() -> bytes:
            if keys is None:
                return frames.to_bytes(self.rows.frame(self.rows.open_rows()))
            present = self.rows.frame(self.rows.of(keys))
            gone = keys.filter(~keys.is_in(present["key"].implode())).alias("key")
            return frames.to_bytes(pl.concat([present, pl.DataFrame([gone])], how="diagonal"))

        return data


def _bytes(frame: pl.DataFrame) -> Callable[[], bytes]:
    return lambda: frames.to_bytes(frame)
