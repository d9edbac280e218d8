"""Which events of a partition were seen before: 64-bit hashes of the last million event ids.

A client's retries carry the same user, so they come to the same partition. 8 bytes an id: 8 MiB a partition at most.
The chance that a new event is taken for an old one is n / 2**64 (5e-14 at a million ids); it would be missing in
windows and plays only, because the warehouse compares the ids themselves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]

HORIZON_IDS = 1 << 20
_SEGMENT_IDS = 1 << 15


def hashes(frame: pl.DataFrame) -> Hashes:
    """A hash per row of (tenant, event_id); stable within one version of polars, which the state names."""
    pair = frame.select(pl.struct("tenant", "event_id").hash(seed=0x5EED))
    return pair.to_series().to_numpy()


class RecentIds:
    """Ids in segments of 32,768, oldest first; only the last segment changes, so snapshots write little."""

    def __init__(self, segments: list[Hashes] | None = None) -> None:
        self.segments: list[Hashes] = segments or [np.zeros(0, np.uint64)]
        self._known: set[int] = set()
        for segment in self.segments:
            self._known.update(segment.tolist())

    def fresh(self, ids: Hashes) -> npt.NDArray[np.bool_]:
        """True for each id that was not seen before, in this batch or earlier; remembers them."""
        known = self._known
        keep = np.zeros(len(ids), np.bool_)
        for i, one in enumerate(ids.tolist()):
            if one not in known:
                known.add(one)
                keep[i] = True
        if keep.any():
            self._append(ids[keep])
        return keep

    def _append(self, ids: Hashes) -> None:
        joined = np.concatenate((self.segments.pop(), ids))
        pieces = [joined[i : i + _SEGMENT_IDS] for i in range(0, len(joined), _SEGMENT_IDS)]
        self.segments.extend(pieces)
        while len(self._known) > HORIZON_IDS and len(self.segments) > 1:
            self._known.difference_update(self.segments.pop(0).tolist())
