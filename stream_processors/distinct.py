"""Exact numbers of distinct items per owner: a hash set of (owner, item) pairs, kept for as long as the owner is open.

8 bytes a pair in the table (at most half full) and 16 in the log from which the table is built again. A pair is taken
for another with a chance of n^2 / 2^65 for n pairs (3e-8 at a million).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from stream_processors import frames
from stream_processors.lanes import Bools, Keys
from stream_processors.places import Places
from stream_processors.segment import Segment

_FORGET_MIN = 1 << 16
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class _Run:
    number: int
    pairs: pl.DataFrame


class DistinctItems:
    """Pairs in runs that are written once; a run that has grown to half of the run before it is merged with it."""

    def __init__(self, segments: Mapping[str, bytes] | None = None) -> None:
        numbered = sorted((int(name), data) for name, data in (segments or {}).items())
        self._runs = [_Run(number, frames.from_bytes(data)) for number, data in numbered]
        self._numbers = numbered[-1][0] if numbered else 0
        self._new: list[pl.DataFrame] = []
        self._count = sum(run.pairs.height for run in self._runs)
        self._gone = 0
        self._build(0)

    def add(self, owners: Keys, items: Keys) -> Bools:
        """True for each pair that was not known; of equal pairs in one call, for one of them."""
        pairs = np.maximum(owners * _MIX ^ items, np.uint64(1))
        self._grow(len(pairs))
        _, is_new = self._places.put(pairs)
        self._new.append(pl.DataFrame({"owner": owners[is_new], "pair": pairs[is_new]}))
        self._count += self._new[-1].height
        return is_new

    def _grow(self, more: int) -> None:
        if not self._places.have_room(more):
            self._build(more)

    def _build(self, more: int) -> None:
        self._places = Places(self._count + more)
        for frame in [run.pairs for run in self._runs] + self._new:
            self._places.put(frame["pair"].to_numpy())

    def forget(self, pairs: int, open_owners: Callable[[], pl.Series]) -> None:
        """Says that so many pairs belong to owners that have closed; they are dropped once they are the half."""
        self._gone += pairs
        if self._gone <= max(_FORGET_MIN, self._count // 2):
            return
        kept = pl.concat([run.pairs for run in self._runs] + self._new)
        kept = kept.filter(pl.col("owner").is_in(open_owners().implode()))
        self._runs, self._new, self._count, self._gone = [], [kept], kept.height, 0
        self._build(0)

    def segments(self) -> dict[str, Segment]:
        """The runs by number."""
        if any(frame.height for frame in self._new):
            pairs = pl.concat(self._new, rechunk=True)
            while self._runs and 2 * pairs.height >= self._runs[-1].pairs.height:
                pairs = pl.concat([self._runs.pop().pairs, pairs], rechunk=True)
            self._numbers += 1
            self._runs.append(_Run(self._numbers, pairs))
        self._new = []
        return {str(run.number): Segment(run.number, _bytes(run.pairs)) for run in self._runs}


def _bytes(frame: pl.DataFrame) -> Callable[[], bytes]:
    return lambda: frames.to_bytes(frame)
