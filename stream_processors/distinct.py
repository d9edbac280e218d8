"""Exact numbers of distinct items per owner: a hash set of (owner, item) pairs, kept for as long as the owner is open.

A pair is one 64-bit key: 8 bytes in the table (at most three quarters full) and, with its owner, 16 in the log from
which the table is built again; the log is kept as the bytes that snapshots write. A pair is taken for another with a
chance of n^2 / 2^65 for n pairs (3e-8 at a million).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from stream_processors.places import Keys, Places
from stream_processors.segment import Segment

Pairs = npt.NDArray[np.uint64]
"""Of shape (n, 2): owner, key of the pair."""

_FORGET_MIN = 1 << 16
_RUN_BYTES = 2 << 20


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
        self._build(0)

    def _all(self) -> list[Pairs]:
        return [_pairs(run) for _, run in self._runs] + self._new

    def _build(self, more: int) -> None:
        self._places = Places(self._count + more)
        for pairs in self._all():
            self._places.put(pairs[:, 1].copy())

    @property
    def last_owner(self) -> int:
        """The greatest number of an owner; 0 without any."""
        return max((int(pairs[:, 0].max(initial=0)) for pairs in self._all()), default=0)

    def slots(self, more: int) -> Keys:
        """Slots of Places with room for so many pairs; a kernel puts them there and tells `put` those that are new."""
        if not self._places.have_room(more):
            self._build(more)
        return self._places.slots

    def put(self, pairs: Pairs) -> None:
        """These stand in the slots now."""
        self._places.have_come(len(pairs))
        self._new.append(pairs.copy())
        self._count += len(pairs)

    def forget(self, pairs: int, open_owners: Callable[[], Keys]) -> None:
        """Says that so many pairs belong to owners that have closed; they are dropped once they are the half."""
        self._gone += pairs
        if self._gone <= max(_FORGET_MIN, self._count // 2):
            return
        known = np.concatenate(self._all())
        kept = known[np.isin(known[:, 0], open_owners())]
        self._runs, self._new, self._count, self._gone = [], [kept], len(kept), 0
        self._build(0)

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


def _pairs(run: bytes) -> Pairs:
    return np.frombuffer(run, np.uint64).reshape(-1, 2)
