"""A place for each 64-bit key: open addressing with linear probing, at most three quarters full."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.kernel import kernel

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: keys that differ little fall on places that differ much
_ONE, _HALF = np.uint64(1), np.uint64(32)
_BITS_MIN = 10


class Places:
    """Keys are not 0, and never leave; who holds them makes a new one when it is full."""

    def __init__(self, keys: int) -> None:
        """With room for so many keys, and half as many again."""
        bits = max(_BITS_MIN, (2 * keys).bit_length())
        self._keys = np.zeros(1 << bits, np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return len(self._keys)

    def have_room(self, keys: int) -> bool:
        """Whether so many more may come."""
        return 4 * (self._count + keys) <= 3 * len(self._keys)

    @property
    def slots(self) -> Keys:
        """The table, for kernels that put keys where `place_of` says; there must be room, and `have_come` be told."""
        return self._keys

    def have_come(self, keys: int) -> None:
        """So many have been put into the slots by another kernel."""
        self._count += keys

    def put(self, keys: Keys) -> tuple[Ints, Bools]:
        """(place, whether it came just now) of each key; of equal keys in one call, the first has come just now."""
        places, is_new = np.empty(len(keys), np.int64), np.empty(len(keys), np.bool_)
        self._count += _put(self._keys, keys, places, is_new)
        return places, is_new

    def hold(self, keys: Keys) -> Bools:
        """Which of these keys are there."""
        found = np.empty(len(keys), np.bool_)
        _hold(self._keys, keys, found)
        return found


@kernel
def place_of(slots: Keys, key: np.uint64) -> np.uint64:
    """Where the key stands, or may be put: the slot is 0 then."""
    place = first_place(len(slots), key)
    while slots[place] != 0 and slots[place] != key:
        place = next_place(len(slots), place)
    return place


@kernel
def first_place(slots: int, key: np.uint64) -> np.uint64:
    """Where to look first for a key in a table of so many slots, a power of 2 up to 2^32."""
    return (((key * _GOLDEN) >> _HALF) * np.uint64(slots)) >> _HALF


@kernel
def next_place(slots: int, place: np.uint64) -> np.uint64:
    """Where to look next."""
    return (place + _ONE) & (np.uint64(slots) - _ONE)


@kernel
def _put(slots: Keys, keys: Keys, places: Ints, is_new: Bools) -> int:
    count = 0
    for i in range(len(keys)):
        place = place_of(slots, keys[i])
        is_new[i] = slots[place] == 0
        if is_new[i]:
            slots[place] = keys[i]
            count += 1
        places[i] = place
    return count


@kernel
def _hold(slots: Keys, keys: Keys, found: Bools) -> None:
    for i in range(len(keys)):
        found[i] = slots[place_of(slots, keys[i])] != 0
