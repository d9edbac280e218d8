"""Which ids are in the warehouse already: a set of 64-bit hashes that costs 8 bytes an id."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]

RUN_MAX_IDS = 1 << 23
"""Longest sorted run that is made by merging."""

_SEPARATOR = "\x1f"  # the doors let no control characters in


def hashes(rows: pl.DataFrame, columns: list[str]) -> Hashes:
    """A 64-bit hash of each row's key columns, the same in every process of one polars version."""
    text = [pl.col(column).cast(pl.String).fill_null("\x00") for column in columns]
    found: Hashes = rows.select(pl.concat_str(text, separator=_SEPARATOR).hash(0)).to_series().to_numpy()
    return found.astype(np.uint64, copy=False)


class SeenIds:
    """A set of hashes that forgets whole days. Not a filter with false answers by design: a caller confirms a hit.

    Hashes lie in sorted runs; a run is merged into its neighbour once it has half of its size, unless the result
    would be longer than RUN_MAX_IDS. Adding costs O(log n) an id over time, asking O(log n) a run. With n ids, the
    chance that a new one collides with any other is n / 2**64: 5e-11 at a thousand million.

    Memory is 8 bytes an id that is not forgotten, and while two runs are merged at most 12 bytes x RUN_MAX_IDS
    (100 MB) more. A thousand events a second with a horizon of 7 days are 605 million ids: 4.8 GB.
    """

    def __init__(self) -> None:
        self._days: dict[int, list[Hashes]] = {}

    def __len__(self) -> int:
        return sum(len(run) for runs in self._days.values() for run in runs)

    @property
    def bytes(self) -> int:
        """Memory of the set."""
        return 8 * len(self)

    def add(self, new: Hashes, day: int) -> None:
        """Adds hashes that arrived on `day` (days since 1970)."""
        if not len(new):
            return
        runs = self._days.setdefault(day, [])
        runs.append(np.sort(new))
        while len(runs) > 1 and len(runs[-2]) <= min(2 * len(runs[-1]), RUN_MAX_IDS - len(runs[-1])):
            last = runs.pop()
            runs[-1] = np.sort(np.concatenate((runs[-1], last)), kind="stable")  # merges what is sorted already

    def contains(self, asked: Hashes) -> npt.NDArray[np.bool_]:
        """For each hash whether it has been added and not forgotten."""
        order = np.argsort(asked)
        in_order = asked[order]  # neighbours in a run are neighbours in memory
        found = np.zeros(len(asked), np.bool_)
        for runs in self._days.values():
            for run in runs:
                place = np.minimum(np.searchsorted(run, in_order), len(run) - 1)
                found |= run[place] == in_order
        answer = np.empty(len(asked), np.bool_)
        answer[order] = found
        return answer

    def forget(self, before_day: int) -> None:
        """Forgets what arrived before a day."""
        self._days = {day: runs for day, runs in self._days.items() if day >= before_day}
