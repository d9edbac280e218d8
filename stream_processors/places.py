"""A place for each 64-bit key: open addressing with linear probing, all keys of a call at once; at most half full."""

from __future__ import annotations

import numpy as np

from stream_processors.lanes import Bools, Ints, Keys

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: keys that differ little fall on places that differ much
_EMPTY, _ONE = np.uint64(0), np.uint64(1)
_BITS_MIN = 10


class Places:
    """Keys are not 0, and never leave; who holds them makes a new one when it is full."""

    def __init__(self, keys: int) -> None:
        """With room for so many keys, and as many again."""
        bits = max(_BITS_MIN, (4 * keys).bit_length() - 1)
        self._keys = np.zeros(1 << bits, np.uint64)
        self._shift, self._mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
        self._count = 0

    def __len__(self) -> int:
        return len(self._keys)

    def have_room(self, keys: int) -> bool:
        """Whether so many more may come."""
        return 2 * (self._count + keys) <= len(self._keys)

    def put(self, keys: Keys) -> tuple[Ints, Bools]:
        """(place, whether it came just now) of each key; of equal keys in one call, one has come just now."""
        places, is_new = np.empty(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        left = np.arange(len(keys))
        place = (keys * _GOLDEN) >> self._shift
        wanted = keys
        while len(left):
            found = self._keys[place]
            free = np.flatnonzero(found == _EMPTY)
            if len(free):
                self._claim(place[free], wanted[free], left[free], is_new)
                found[free] = self._keys[place[free]]
            mine = found == wanted
            places[left[mine]] = place[mine]
            on = np.flatnonzero(~mine)
            left, wanted, place = left[on], wanted[on], (place[on] + _ONE) & self._mask
        self._count += int(np.count_nonzero(is_new))
        return places, is_new

    def _claim(self, place: Keys, wanted: Keys, rows: Ints, is_new: Bools) -> None:
        """Each free place goes to one of the rows that want it: to that whose number stands there in the end."""
        self._keys[place] = rows
        first = self._keys[place] == rows.view(np.uint64)
        self._keys[place[first]] = wanted[first]
        is_new[rows[first]] = True
