"""Walks over Avro records, one after the other: where each field stands, and whether it is what an encoder writes."""

from __future__ import annotations

import numpy as np

from schemas.kernel import kernel, part
from schemas.texts import Bools, Bytes, Hashes, Ints, Views, bits, hashes_at, is_ascii, is_utf8, write_view

TEXT, BYTES, NUMBER, BOOLEAN, FIXED = range(5)
KIND, PLACE, BRANCH, LEAST, MOST, HASH = range(6)
"""Columns of a program. PLACE: row of `views` or `numbers`, -1 where nobody asks. BRANCH: that of the value, or -1.

LEAST and MOST: of a number its range; of what has a fixed size, MOST is that size. HASH: its first row of `hashes`, or
-1.
"""

_SEVEN, _LAST_SHIFT, _ONE = np.uint64(7), np.uint64(63), np.uint64(1)


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
    hashes: Hashes,
    present: Bools,
    right: Bools,
) -> None:
    """Walks the records that stand in `data` from `starts` to `ends`, by a program with a row for each field.

    Fills `numbers` (places, records), `views` (places, records, 2), `hashes` (two rows of a text, records), `present`
    (fields, records), and `right`: whether a record begins with the prefix and is, to the byte, what an encoder writes.
    Where nothing is present nothing is written; of a record that is not right nothing else is said.
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
                if kind == TEXT and not is_ascii(data, at, size) and not is_utf8(data, at, at + size):
                    at = -1
                    break
                if place >= 0:
                    write_view(data, at, size, views, place, row)
                hashed = program[field, HASH]
                if hashed >= 0:
                    hashes[hashed, row], hashes[hashed + 1, row] = hashes_at(data, at, size)
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
                    numbers[place, row] = bits(data, at, size)
                at += size
        right[row] = at == end
