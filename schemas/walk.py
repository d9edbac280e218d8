"""Walks over Avro records, one after the other: where each field stands, and whether it is what an encoder writes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.kernel import kernel, part

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Views = npt.NDArray[np.uint64]

TEXT, BYTES, NUMBER, BOOLEAN, FIXED = range(5)
KIND, PLACE, BRANCH, LEAST, MOST = range(5)
"""Columns of a program. PLACE: row of `views` or `numbers`, -1 where nobody asks. BRANCH: that of the value, or -1.

LEAST and MOST: of a number its range; of what has a fixed size, MOST is that size.
"""

_INLINE_MAX = 12
_KEPT = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_HIGH = np.uint64(0x8080808080808080)
_SEVEN, _LAST_SHIFT, _HALF, _ONE = np.uint64(7), np.uint64(63), np.uint64(32), np.uint64(1)


def run_of(data: bytes | memoryview) -> Bytes:
    """Bytes as kernels take them: not to be written to, so that each kernel is compiled for one kind."""
    run = np.frombuffer(data, np.uint8)
    run.flags.writeable = False
    return run


@kernel
def varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """(number, place after it) of a zigzag varint in its shortest form; the place is -1 where there is none."""
    if at >= end:
        return 0, -1
    byte = np.uint64(data[at])
    if byte < 0x80:
        return int(np.int64(byte >> _ONE)) ^ -int(np.int64(byte & _ONE)), at + 1
    raw, shift = byte & np.uint64(0x7F), _SEVEN
    while True:
        at += 1
        if at >= end:
            return 0, -1
        byte = np.uint64(data[at])
        if shift == _LAST_SHIFT and byte > 1:
            return 0, -1
        raw |= (byte & np.uint64(0x7F)) << shift
        if byte < 0x80:
            break
        shift += _SEVEN
    if byte == 0:
        return 0, -1
    return int(np.int64(raw >> _ONE)) ^ -int(np.int64(raw & _ONE)), at + 1


@part
def _long(data: Bytes, at: int) -> np.uint64:
    """Eight bytes as a number, the lowest first: one instruction, as the compiler finds."""
    place, found = np.uint64(at), np.uint64(0)
    for i in range(8):
        found |= np.uint64(data[place + np.uint64(i)]) << np.uint64(8 * i)
    return found


@part
def _is_ascii(data: Bytes, at: int, size: int) -> bool:
    """Whether the bytes are ASCII; says no to a short text at the very end of the data."""
    if size >= 8:
        last = at + size - 8
        bits = _long(data, last)
        while at < last:
            bits |= _long(data, at)
            at += 8
        return bool(bits & _HIGH == 0)
    return at + 8 <= len(data) and bool(_long(data, at) & _KEPT[size] & _HIGH == 0)


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
def _bits(data: Bytes, at: int, size: int) -> int:
    """Up to eight bytes as a number, the lowest first."""
    bits = 0
    for i in range(size):
        bits |= int(data[at + i]) << (8 * i)
    return bits


@part
def _view(data: Bytes, at: int, size: int, views: Views, place: int, row: int) -> None:
    """Arrow's view of a text: its length, then itself when it is short, else its first bytes, buffer 0 and place."""
    if size > _INLINE_MAX:
        first, rest = _long(data, at), np.uint64(at) << _HALF
    elif at + _INLINE_MAX <= len(data):
        first, rest = _long(data, at) & _KEPT[min(size, 4)], _long(data, at + 4) & _KEPT[max(size - 4, 0)]
    else:
        first, rest = np.uint64(_bits(data, at, min(size, 4))), np.uint64(_bits(data, at + 4, max(size - 4, 0)))
    views[place, row, 0], views[place, row, 1] = np.uint64(size) | first << _HALF, rest


@part
def _starts_with(data: Bytes, at: int, end: int, prefix: Bytes) -> bool:
    differs = end - at < len(prefix)
    for i in range(0 if differs else len(prefix)):
        differs |= data[at + i] != prefix[i]
    return not differs


@kernel
def walk(
    data: Bytes,
    starts: Ints,
    ends: Ints,
    prefix: Bytes,
    program: Ints,
    numbers: Ints,
    views: Views,
    present: Bools,
    right: Bools,
) -> None:
    """Walks the records that stand in `data` from `starts` to `ends`, by a program with a row for each field.

    Fills `numbers` (places, records), `views` (places, records, 2), `present` (fields, records), and `right`: whether
    a record begins with the prefix and is, to the byte, what an encoder writes. Where nothing is present nothing is
    written; of a record that is not right nothing else is said.
    """
    for row in range(len(starts)):
        at, end = int(starts[row]), int(ends[row])
        right[row] = False
        if not _starts_with(data, at, end, prefix):
            continue
        at += len(prefix)
        for field in range(len(program)):
            kind, place, branch = program[field, KIND], program[field, PLACE], program[field, BRANCH]
            if branch >= 0:
                if at >= end or data[at] not in (0, 2):
                    at = -1
                    break
                at += 1
                if data[at - 1] != 2 * branch:
                    continue
                present[field, row] = True
            if kind <= BYTES:
                size, at = varint(data, at, end)
                if at < 0 or size < 0 or size > end - at:
                    at = -1
                    break
                if kind == TEXT and not _is_ascii(data, at, size) and not is_utf8(data, at, at + size):
                    at = -1
                    break
                if place >= 0:
                    _view(data, at, size, views, place, row)
                at += size
            elif kind == NUMBER:
                number, at = varint(data, at, end)
                if at < 0 or number < program[field, LEAST] or number > program[field, MOST]:
                    at = -1
                    break
                if place >= 0:
                    numbers[place, row] = number
            else:
                size = int(program[field, MOST])
                if size > end - at or (kind == BOOLEAN and data[at] > 1):
                    at = -1
                    break
                if place >= 0:
                    numbers[place, row] = _bits(data, at, size)
                at += size
        right[row] = at == end
