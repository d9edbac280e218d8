"""Exact numbers of distinct items per owner: a log of (owner, item) pairs, read when the owner has closed.

12 bytes a pair, kept as the bytes that snapshots write. Whoever writes a pair leaves out what is plainly the item
before; what is there twice is counted once. Of the n pairs that are counted together, two are taken for one with a
chance of n^2 / 2^65 (3e-10 for 100,000).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from schemas.kernel import kernel
from stream_processors.places import Ints, Keys, Places, place_of
from stream_processors.segment import Segment

Pairs = npt.NDArray[np.void]

PAIR = np.dtype([("owner", np.uint32), ("item", np.uint64)])
"""`item` is a hash whose lowest bit says of which of two sorts it is."""

_FORGET_MIN = 1 << 16
_RUN_BYTES = (2 << 20) // PAIR.itemsize * PAIR.itemsize
_MIX = np.uint64(0x9E3779B97F4A7C15)


class DistinctItems:
    """Pairs in runs that are written once; a run that has grown to half of the run before it is merged with it.

    Runs of about 2 MiB stay as they are.
    """

    def __init__(self, segments: Mapping[str, bytes] | None = None) -> None:
        self._runs = sorted((int(name), data) for name, data in (segments or {}).items())
        self._numbers = self._runs[-1][0] if self._runs else 0
        self._new: list[Pairs] = []
        self._count = sum(len(pairs) for pairs in self._all())
        self._gone = 0

    def _all(self) -> list[Pairs]:
        return [np.frombuffer(run, PAIR) for _, run in self._runs] + self._new

    @property
    def last_owner(self) -> int:
        """The greatest number of an owner; 0 without any."""
        return max((int(pairs["owner"].max(initial=0)) for pairs in self._all()), default=0)

    def put(self, pairs: Pairs) -> None:
        """Takes pairs of open owners."""
        self._new.append(pairs.copy())
        self._count += len(pairs)

    def counts(self, owners: Ints, pairs: int) -> Ints:
        """How many distinct items of either sort these owners have, of shape (owners, 2); `pairs` have been put."""
        numbers = Places(len(owners))
        places, _ = numbers.put(owners.astype(np.uint64))
        row_at = np.zeros(len(numbers), np.int64)
        row_at[places] = np.arange(len(owners))
        met, found = Places(pairs), np.zeros((len(owners), 2), np.int64)
        for run in self._all():
            _count(run, numbers.slots, row_at, met.slots, found)
        return found

    def forget(self, pairs: int, open_owners: Callable[[], Ints]) -> None:
        """Says that so many pairs belong to owners that have closed; they are dropped once they are the half."""
        self._gone += pairs
        if self._gone <= max(_FORGET_MIN, self._count // 2):
            return
        known, owners = self._all(), open_owners()
        kept = np.concatenate([pairs[np.isin(pairs["owner"], owners)] for pairs in known])
        self._runs, self._new, self._count, self._gone = [], [kept], len(kept), 0

    def segments(self) -> dict[str, Segment]:
        """The runs by number."""
        fresh = b"".join(pairs.tobytes() for pairs in self._new)
        self._new = []
        for at in range(0, len(fresh), _RUN_BYTES):
            run = fresh[at : at + _RUN_BYTES]
            while self._runs and len(self._runs[-1][1]) <= min(2 * len(run), _RUN_BYTES - len(run)):
                run = self._runs.pop()[1] + run
            self._numbers += 1
            self._runs.append((self._numbers, run))
        return {str(number): Segment.of(number, run) for number, run in self._runs}


@kernel
def _count(pairs: Pairs, owners: Keys, row_at: Ints, met: Keys, found: Ints) -> None:
    for i in range(len(pairs)):
        owner, item = np.uint64(pairs[i].owner), pairs[i].item
        place = place_of(owners, owner)
        if owners[place] == 0:
            continue
        key = max(owner * _MIX ^ item, np.uint64(1))
        seen = place_of(met, key)
        if met[seen] == 0:
            met[seen] = key
            found[row_at[place], item & np.uint64(1)] += 1
