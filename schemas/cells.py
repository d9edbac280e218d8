"""Short byte strings, one per row, as rows of a byte matrix: the narrow fields of a record, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_LAST = (1 << np.arange(0, 64, 8, dtype=np.uint64)) * np.uint64(0x80)
_MORE = np.concatenate(([np.uint64(0)], np.cumsum(_LAST, dtype=np.uint64)))
"""By number of bytes that are followed by another: the bits that say so."""
_SPREAD = [
    (np.uint64(0x0000_0000_0FFF_FFFF), np.uint64(0x00FF_FFFF_F000_0000), np.uint64(4)),
    (np.uint64(0x0000_3FFF_0000_3FFF), np.uint64(0x0FFF_C000_0FFF_C000), np.uint64(2)),
    (np.uint64(0x007F_007F_007F_007F), np.uint64(0x3F80_3F80_3F80_3F80), np.uint64(1)),
]
"""Half by half, what takes 7 bits of a byte moves to a byte of its own."""
_WORD_BITS = 56


@dataclass(frozen=True)
class Cells:
    """The first `size` bytes of each row of `data` (one size for all, or one per row); rows are zero behind them."""

    data: Bytes
    size: int | Ints

    @classmethod
    def constant(cls, value: bytes, rows: int) -> Self:
        """The same bytes in every row."""
        return cls(np.broadcast_to(np.frombuffer(value, np.uint8), (rows, len(value))), len(value))

    @classmethod
    def fixed(cls, values: npt.NDArray[Any], present: Bools | None = None) -> Self:
        """Values of one width as their own bytes; nothing where not `present`."""
        data = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize)
        return cls(data, values.itemsize if present is None else present * np.int64(values.itemsize))

    @classmethod
    def varints(cls, numbers: Ints, present: Bools | None = None) -> Self:
        """Zigzag varints of Avro and Kafka; nothing where not `present`."""
        zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
        most, least = int(zigzag.max(initial=0)), int(zigzag.min(initial=1 << 63))
        width = max(1, -(-most.bit_length() // 7))
        size: int | Ints = width
        if least < 1 << (7 * (width - 1)) and width > 1:
            size = np.ones(len(numbers), np.int64)
            for group in range(1, width):
                size += zigzag >= np.uint64(1 << (7 * group))
        if width == 1:
            data = zigzag.astype(np.uint8)[:, None]
        elif most >> _WORD_BITS:
            data = _wide(zigzag, width, size)
        else:
            data = (_spread(zigzag, width) | _MORE[size - 1]).view(np.uint8).reshape(len(numbers), 8)[:, :width]
        return cls(data, size if present is None else np.where(present, size, 0))

    @classmethod
    def chosen(cls, values: list[bytes], index: npt.NDArray[Any]) -> Self:
        """One of few values in each row."""
        width = max(1, *map(len, values))
        table = np.array(values, f"S{width}").view(np.uint8).reshape(len(values), width)
        sizes = np.array([len(value) for value in values], np.int64)
        return cls(table[index], width if sizes.min() == width else sizes[index])


def _spread(numbers: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    for low, high, shift in _SPREAD[0 if width > 4 else 1 if width > 2 else 2 :]:
        numbers = (numbers & low) | ((numbers & high) << shift)
    return numbers


def _wide(zigzag: npt.NDArray[np.uint64], width: int, size: int | Ints) -> Bytes:
    """Varints of more than 8 bytes, which are rare."""
    group = np.arange(width)
    data = (zigzag[:, None] >> (np.uint64(7) * group.astype(np.uint64))).astype(np.uint8) & 0x7F
    more = group < np.broadcast_to(size, len(zigzag))[:, None] - 1
    found: Bytes = (data | np.where(more, 0x80, 0)).astype(np.uint8)
    return found


def array(cells: list[Cells]) -> pa.LargeBinaryArray:
    """The cells of each row, one behind the other."""
    rows = len(cells[0].data)
    width = sum(one.data.shape[1] for one in cells)
    data = np.empty((rows, width), np.uint8)
    offsets = np.zeros(rows + 1, np.int64)
    at = 0
    for one in cells:
        data[:, at : at + one.data.shape[1]] = one.data
        at += one.data.shape[1]
    if all(isinstance(one.size, int) for one in cells):
        offsets[1:] = width
        kept = data.reshape(-1)
    else:
        mask = np.ones((rows, width), np.bool_)
        at = 0
        for one in cells:
            offsets[1:] += one.size
            if not isinstance(one.size, int):
                for place in range(one.data.shape[1]):
                    np.greater(one.size, place, out=mask[:, at + place])
            at += one.data.shape[1]
        kept = data[mask]
    return binary(np.cumsum(offsets), kept)


def binary(offsets: Ints, data: npt.NDArray[Any]) -> pa.LargeBinaryArray:
    """The pieces of `data` between neighbouring offsets."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
