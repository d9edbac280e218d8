"""Texts as they stand in bytes: whether they are UTF-8, Arrow's view of them, and their hashes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.kernel import kernel, part

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Views = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint64]

_INLINE_MAX = 12
_KEPT = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_HIGH, _HALF = np.uint64(0x8080808080808080), np.uint64(32)
_SEEDS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_FACTORS = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_MIX_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def run_of(data: bytes | memoryview) -> Bytes:
    """Bytes as kernels take them: not to be written to, so that each kernel is compiled for one kind."""
    run = np.frombuffer(data, np.uint8)
    run.flags.writeable = False
    return run


@part
def word(data: Bytes, at: int) -> np.uint64:
    """Eight bytes as a number, the lowest first: one instruction, as the compiler finds."""
    place, found = np.uint64(at), np.uint64(0)
    for i in range(8):
        found |= np.uint64(data[place + np.uint64(i)]) << np.uint64(8 * i)
    return found


@part
def is_ascii(data: Bytes, at: int, size: int) -> bool:
    """Whether the bytes are ASCII; says no to a short text at the very end of the data."""
    if size >= 8:
        last = at + size - 8
        bits = word(data, last)
        while at < last:
            bits |= word(data, at)
            at += 8
        return bool(bits & _HIGH == 0)
    return at + 8 <= len(data) and bool(word(data, at) & _KEPT[size] & _HIGH == 0)


@kernel
def is_utf8(data: Bytes, at: int, end: int) -> bool:
    """Whether the bytes are UTF-8 (Unicode 16, table 3-7: no surrogates, nothing overlong)."""
    while at < end:
        lead = data[at]
        at += 1
        if lead < 0x80:
            continue
        low, high = np.uint8(0x80), np.uint8(0xBF)
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = np.uint8(0xA0)
            elif lead == 0xED:
                high = np.uint8(0x9F)
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = np.uint8(0x90)
            elif lead == 0xF4:
                high = np.uint8(0x8F)
        else:
            return False
        if at + more > end:
            return False
        for i in range(more):
            if data[at + i] < low or data[at + i] > high:
                return False
            low, high = np.uint8(0x80), np.uint8(0xBF)
        at += more
    return True


@kernel
def bits(data: Bytes, at: int, size: int) -> int:
    """Up to eight bytes as a number, the lowest first."""
    bits = 0
    for i in range(size):
        bits |= int(data[at + i]) << (8 * i)
    return bits


@part
def write_view(data: Bytes, at: int, size: int, views: Views, place: int, row: int) -> None:
    """Arrow's view of a text: its length, then itself when it is short, else its first bytes, buffer 0 and place."""
    if size > _INLINE_MAX:
        first, rest = word(data, at), np.uint64(at) << _HALF
    elif at + _INLINE_MAX <= len(data):
        first, rest = word(data, at) & _KEPT[min(size, 4)], word(data, at + 4) & _KEPT[max(size - 4, 0)]
    else:
        first, rest = np.uint64(bits(data, at, min(size, 4))), np.uint64(bits(data, at + 4, max(size - 4, 0)))
    views[place, row, 0], views[place, row, 1] = np.uint64(size) | first << _HALF, rest


@part
def splitmix(bits: np.uint64) -> np.uint64:
    """The finalizer of splitmix64: every bit of the result hangs on all bits.

    Steele et al., Fast Splittable Pseudorandom Number Generators, 2014.
    """
    bits = (bits ^ (bits >> _SHIFTS[0])) * _MIX_FACTORS[0]
    bits = (bits ^ (bits >> _SHIFTS[1])) * _MIX_FACTORS[1]
    return bits ^ (bits >> _SHIFTS[2])


@part
def hashes_at(data: Bytes, at: int, size: int) -> tuple[np.uint64, np.uint64]:
    """Two hashes of a text, word by word; the last eight bytes are a word even where they overlap the one before.

    Each word is mixed before it is taken in: ids that count up differ in few bits of neighbouring words, which would
    cancel one another. 0 stands for no text.
    """
    end = at + size
    first, second = _SEEDS[0] ^ np.uint64(size), _SEEDS[1] + np.uint64(size)
    while at < end:
        if at + 8 <= end:
            some = word(data, at)
        elif size >= 8:
            some = word(data, end - 8)
        else:
            some = np.uint64(bits(data, at, size))
        some = splitmix(some)
        first, second = (first ^ some) * _FACTORS[0], (second + some) * _FACTORS[1]
        first, second = first ^ (first >> _HALF), second ^ (second >> _HALF)
        at += 8
    return splitmix(first), splitmix(second)


@kernel
def _hash(data: Bytes, ends: Ints, present: Bools, found: Hashes) -> None:
    at = ends[0]
    for row in range(len(present)):
        if present[row]:
            found[0, row], found[1, row] = hashes_at(data, at, ends[row + 1] - at)
        at = ends[row + 1]


def hash_names(column: str) -> tuple[str, str]:
    """What the columns with the two hashes of a column are called."""
    return f"#{column}", f"#{column}/2"


def hashed(frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """The frame with the hashes of these columns of texts, which it may have already; 0 for no text."""
    found: list[pl.Series] = []
    for column in columns:
        names = hash_names(column)
        if names[0] not in frame.columns:
            texts = frame[column].to_arrow(compat_level=pl.CompatLevel.oldest())
            _, ends, data = texts.buffers()
            made = np.zeros((2, len(frame)), np.uint64)
            if len(frame):
                ends = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(frame) + 1]
                _hash(run_of(data or b""), ends, frame[column].is_not_null().to_numpy(), made)
            found += [pl.Series(name, one) for name, one in zip(names, made, strict=True)]
    return frame.with_columns(found) if found else frame
