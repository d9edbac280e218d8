"""Dense codes for rows of texts, so that counting goes by integers.

Ids are told apart by two 64-bit hashes of different seeds: the chance that two of n are taken for one is n^2 / 2^129
(2e-25 for 10 million). Texts of few values go into the first hash only: n^2 / 2^65 (3e-10 for 100,000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.kernel import kernel
from schemas.texts import hash_names, hashed
from stream_processors.places import Ints, Keys

SmallInts = npt.NDArray[np.int32]

IDS = ("event_id", "track_id", "user_id")
"""Texts of many values: their hashes are made where they are read."""

_SEED = 0x5EED
MARKS = {
    "event": ["tenant", "event_id"],
    "profile": ["tenant", "platform", "country", "app_version"],
    "track": ["tenant", "track_id"],
    "user": ["user_id"],
    "listener": ["tenant", "user_id"],
    "device": ["device"],
}
"""What the parts of the worker tell events apart by."""
_TWICE = ("track", "user")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SLOTS_MIN = 64


@dataclass(frozen=True)
class Hashes:
    """Two hashes per row."""

    first: Keys
    second: Keys

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: Ints) -> Hashes:
        return Hashes(self.first[rows], self.second[rows])


class Hashed:
    """The columns of a frame, each hashed once; stable within one version of polars."""

    def __init__(self, frame: pl.DataFrame, columns: Sequence[str]) -> None:
        self._ids = hashed(frame, [name for name in columns if name in IDS])
        self._others = frame.select(pl.col([name for name in columns if name not in IDS]).hash(_SEED))

    def of(self, columns: Sequence[str]) -> Hashes:
        """The hashes of each row's values in these columns."""
        ids = {name: hash_names(name) for name in columns if name in IDS}
        first = mixed([self._ids[ids[n][0]].to_numpy() if n in ids else self._others[n].to_numpy() for n in columns])
        return Hashes(first, mixed([self._ids[again].to_numpy() for _, again in ids.values()]) if ids else first)


def hashes(frame: pl.DataFrame, columns: Sequence[str]) -> Hashes:
    """The hashes of each row's values in these columns."""
    return Hashed(frame, columns).of(columns)


def mixed(columns: Sequence[Keys]) -> Keys:
    """One hash of each row out of several."""
    found = columns[0]
    for column in columns[1:]:
        found = found * _MIX + column
    return found


def marked(frame: pl.DataFrame) -> pl.DataFrame:
    """Events with what they are about as hashes, made once for all that look at them: columns `_<mark>` of MARKS.

    `_track` and `_user` have their second hash as `_track_again` and `_user_again`.
    """
    known = Hashed(frame, list(dict.fromkeys(name for names in MARKS.values() for name in names)))
    found = {mark: known.of(names) for mark, names in MARKS.items()}
    again = {f"{mark}_again": found[mark].second for mark in _TWICE}
    columns = {**{mark: one.first for mark, one in found.items()}, **again}
    marks = [pl.Series(f"_{name}", column) for name, column in columns.items()]
    return frame.drop([name for column in IDS for name in hash_names(column)], strict=False).with_columns(marks)


def mark(frame: pl.DataFrame, name: str) -> Hashes:
    """The hashes of a mark: two of a track or user, one of anything else."""
    first = frame[f"_{name}"].to_numpy()
    return Hashes(first, frame[f"_{name}_again"].to_numpy() if name in _TWICE else first)


class Codes:
    """Numbers what comes from 0 on, in the order in which it first came."""

    def __init__(self) -> None:
        self._slots = np.zeros(_SLOTS_MIN, np.int32)
        self._known = np.empty((_SLOTS_MIN // 2, 2), np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, rows: Hashes) -> tuple[SmallInts, Ints]:
        """(code of each row, places of the rows that are the first of their code)."""
        self._grow(len(rows))
        codes, new = np.empty(len(rows), np.int32), np.empty(len(rows), np.int64)
        before = self._count
        self._count = _number(self._slots, self._known, before, rows.first, rows.second, codes, new)
        return codes, new[: self._count - before]

    def _grow(self, more: int) -> None:
        wanted = self._count + more
        if 2 * wanted > len(self._slots):
            self._slots = np.zeros(1 << (2 * wanted - 1).bit_length(), np.int32)
            known = self._known[: self._count]
            self._known = np.empty((len(self._slots) // 2, 2), np.uint64)
            _, new = np.empty(len(known), np.int32), np.empty(len(known), np.int64)
            _number(self._slots, self._known, 0, known[:, 0].copy(), known[:, 1].copy(), _, new)


@kernel
def _number(slots: SmallInts, known: Keys, count: int, first: Keys, second: Keys, codes: SmallInts, new: Ints) -> int:
    """Slots hold code + 1; both slots and `known` have room for all rows. Returns how many codes there are."""
    before = count
    mask = np.uint64(len(slots) - 1)
    for i in range(len(first)):
        place = first[i] & mask
        code = slots[place] - 1
        while code >= 0 and (known[code, 0] != first[i] or known[code, 1] != second[i]):
            place = (place + np.uint64(1)) & mask
            code = slots[place] - 1
        if code < 0:
            code = count
            known[code, 0], known[code, 1] = first[i], second[i]
            new[count - before] = i
            count += 1
            slots[place] = count
        codes[i] = code
    return count


def ordered(codes: SmallInts, number: int) -> tuple[Ints, Ints]:
    """(places of the rows in the order of their codes, where those of each code end); equal codes keep their order."""
    order, ends = np.empty(len(codes), np.int64), np.zeros(number + 1, np.int64)
    _order(np.ascontiguousarray(codes), ends, order)
    return order, ends[:number]


@kernel
def _order(codes: SmallInts, ends: Ints, order: Ints) -> None:
    for code in codes:
        ends[code + 1] += 1
    for i in range(1, len(ends)):
        ends[i] += ends[i - 1]
    for i in range(len(codes)):
        order[ends[codes[i]]] = i
        ends[codes[i]] += 1
