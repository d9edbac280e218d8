"""Which events of a partition were seen before: 64-bit hashes of the event ids of the last hour.

A client's retries carry the same user, so they come to the same partition. Ids are kept in two generations; a new one
begins when the current one is an hour old (by the arrival in Kafka) or holds 524,288 ids, and the one before last is
forgotten then. So a repeated event is known for an hour or half a million ids of its partition, whichever is less, and
at most twice as long. 24 bytes an id, with what snapshots keep: 24 MiB a partition at most.

The chance that a new event is taken for an old one is n / 2**64 (6e-14 at a million ids); it would be missing in
windows and plays only, because the warehouse compares the ids themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stream_processors.places import Places
from stream_processors.segment import Segment

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

HORIZON_IDS = 1 << 19
HORIZON_MS = 3_600_000
_SEGMENT_IDS = 1 << 15


class _Generation:
    """A set of hashes, in the order in which they came."""

    def __init__(self, number: int, began_ms: int) -> None:
        self.number, self.began_ms = number, began_ms
        self.count = 0
        self.pieces = [b""]
        self._places = Places(0)

    def holds(self, ids: Hashes) -> Mask:
        """Which ids are in the set."""
        return self._places.hold(ids)

    def add(self, ids: Hashes) -> Mask:
        """Takes ids that are not in the set; True for each that is the first of its kind among them."""
        if not self._places.have_room(len(ids)):
            self._places = Places(self.count + len(ids))
            for piece in self.pieces:
                self._places.put(_ids(piece))
        _, is_new = self._places.put(ids)
        joined = np.concatenate((_ids(self.pieces.pop()), ids[is_new]))
        self.count += int(np.count_nonzero(is_new))
        self.pieces += [joined[i : i + _SEGMENT_IDS].tobytes() for i in range(0, max(len(joined), 1), _SEGMENT_IDS)]
        return is_new


class RecentIds:
    """The current generation and the one before; kept in segments of 32,768 ids, of which only the last changes."""

    def __init__(self, segments: Mapping[str, bytes] | None = None) -> None:
        self._generations: list[_Generation] = []
        for name, data in sorted((segments or {}).items(), key=lambda item: [int(part) for part in item[0].split("/")]):
            number, began_ms, _ = (int(part) for part in name.split("/"))
            if not self._generations or self._generations[-1].number != number:
                self._generations.append(_Generation(number, began_ms))
            self._generations[-1].add(_ids(data))

    def fresh(self, ids: Hashes, arrival_ms: int) -> Mask:
        """True for each hash of an id that was not seen before, in this batch or earlier; remembers them.

        `arrival_ms` is the newest Kafka timestamp of the batch.
        """
        ids = np.maximum(ids, np.uint64(1))  # 0 is an empty place
        keep = np.ones(len(ids), np.bool_)
        for generation in self._generations:
            keep &= ~generation.holds(ids)
        current = self._generations[-1] if self._generations else None
        if current is None or current.count >= HORIZON_IDS or arrival_ms - current.began_ms >= HORIZON_MS:
            number = 0 if current is None else current.number + 1
            self._generations = [*self._generations[-1:], _Generation(number, arrival_ms)]
        keep[keep] = self._generations[-1].add(ids[keep])
        return keep

    def __len__(self) -> int:
        return sum(generation.count for generation in self._generations)

    def segments(self) -> dict[str, Segment]:
        """Generation, its begin and number of the piece, as in the constructor."""
        return {
            f"{one.number}/{one.began_ms}/{i}": Segment.of(len(piece), piece)
            for one in self._generations
            for i, piece in enumerate(one.pieces)
            if len(piece)
        }


def _ids(piece: bytes) -> Hashes:
    return np.frombuffer(piece, np.uint64).copy()
