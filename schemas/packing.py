"""Columns packed into runs of bytes, one per row: varints, texts behind their lengths, and values of one width.

Places are unsigned: numba then neither looks for negative ones nor copies texts byte by byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.kernel import kernel, part

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint64]

_MORE, _SEVEN, _ONE = np.uint64(0x80), np.uint64(7), np.uint64(1)
_FRAME_BYTES = np.uint64(3)  # of a Kafka record: attributes, time, number of headers


@dataclass
class Column(ABC):
    """What is written in each row: the branch, and the value where it is `present`.

    `branches` has the byte for a row without a value and that for one with a value, or nothing.
    """

    present: Bools
    branches: bytes

    def __post_init__(self) -> None:
        """A kernel is compiled again for arrays that may be written to: none of these may."""
        self._branches = np.frombuffer(self.branches, np.uint8)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, view := value.view())
                view.flags.writeable = False

    @abstractmethod
    def measure(self, sizes: Places) -> None:
        """Adds the bytes that each row takes to `sizes`."""

    @abstractmethod
    def write(self, out: Bytes, at: Places, first: int) -> None:
        """Writes the rows from `first` on to the places `at`, and moves these behind them."""


@dataclass
class Fixed(Column):
    """Values of one width: `data` has a row of bytes for each row, or one for all."""

    data: Bytes

    @classmethod
    def constant(cls, value: bytes, rows: int) -> Fixed:
        """The same bytes in every row."""
        return cls(np.ones(rows, np.bool_), b"", np.frombuffer(value, np.uint8).reshape(1, -1))

    def measure(self, sizes: Places) -> None:
        """As in `Column`."""
        sizes += self.present * np.uint64(self.data.shape[1])
        sizes += np.uint64(len(self.branches) // 2)

    def write(self, out: Bytes, at: Places, first: int) -> None:
        """As in `Column`."""
        _write_fixed(out, at, self.present, self._branches, self.data, first)


@dataclass
class Varints(Column):
    """Whole numbers as the zigzag varints of Avro and Kafka."""

    numbers: Ints

    @classmethod
    def of(cls, numbers: Ints) -> Varints:
        """A number in every row."""
        return cls(np.ones(len(numbers), np.bool_), b"", numbers)

    def measure(self, sizes: Places) -> None:
        """As in `Column`."""
        _measure_varints(sizes, self.present, self._branches, self.numbers)

    def write(self, out: Bytes, at: Places, first: int) -> None:
        """As in `Column`."""
        _write_varints(out, at, self.present, self._branches, self.numbers, first)


@dataclass
class Texts(Column):
    """Texts behind their lengths: `data` between neighbouring `ends`."""

    ends: Places
    data: Bytes

    @classmethod
    def of(cls, texts: pa.Array, present: Bools | None = None, branches: bytes = b"") -> Texts:
        """The texts of an array of any layout."""
        texts = texts.cast(pa.large_binary())
        ends, data = texts.buffers()[1:] if len(texts) else (bytes(8), None)
        return cls(
            np.ones(len(texts), np.bool_) if present is None else present,
            branches,
            np.frombuffer(ends, np.uint64, len(texts) + 1, texts.offset * 8),
            np.frombuffer(data or b"", np.uint8),
        )

    def measure(self, sizes: Places) -> None:
        """As in `Column`."""
        _measure_texts(sizes, self.present, self._branches, self.ends)

    def write(self, out: Bytes, at: Places, first: int) -> None:
        """As in `Column`."""
        _write_texts(out, at, self.present, self._branches, self.ends, self.data, first)


def measured(columns: Sequence[Column], rows: int) -> Places:
    """Bytes that each row takes; raises ValueError when a column has another number of rows."""
    if any(len(column.present) != rows for column in columns):
        raise ValueError(f"columns of {', '.join(str(len(column.present)) for column in columns)} rows, not of {rows}")
    sizes = np.zeros(rows, np.uint64)
    for column in columns:
        column.measure(sizes)
    return sizes


def packed(columns: Sequence[Column], sizes: Places, first: int = 0) -> Bytes:
    """Rows from `first` on, one behind the other; `sizes` has what `measured` says of each of them."""
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    at = ends - sizes
    for column in columns:
        column.write(out, at, first)
    return out


@kernel
def zigzag(number: np.int64) -> np.uint64:
    """Small for numbers near 0, positive or negative."""
    return np.uint64((number << np.int64(1)) ^ (number >> np.int64(63)))


@kernel
def varint_size(number: np.uint64) -> np.uint64:
    """Bytes of a varint."""
    size = _ONE
    while number >= _MORE:
        number >>= _SEVEN
        size += _ONE
    return size


@kernel
def put_varint(out: Bytes, at: np.uint64, number: np.uint64) -> np.uint64:
    """Writes a varint, and returns the place behind it."""
    while number >= _MORE:
        out[at] = np.uint8(number | _MORE)
        number >>= _SEVEN
        at += _ONE
    out[at] = np.uint8(number)
    return at + _ONE


@part
def put_record_head(
    out: Bytes, at: np.uint64, number: np.uint64, key_bytes: np.uint64, value_bytes: np.uint64
) -> np.uint64:
    """Writes what stands before the key of a Kafka record, and returns the place of the key.

    That is the record's length, no attributes, no time of its own, its number in the batch, and the key's length.
    """
    delta = number << _ONE
    body = _FRAME_BYTES + varint_size(delta) + varint_size(key_bytes << _ONE) + key_bytes
    at = put_varint(out, at, (body + varint_size(value_bytes << _ONE) + value_bytes) << _ONE)
    out[at] = out[at + _ONE] = np.uint8(0)
    at = put_varint(out, at + _ONE + _ONE, delta)
    return put_varint(out, at, key_bytes << _ONE)


@kernel
def _branch(out: Bytes, at: np.uint64, is_present: np.bool_, branches: Bytes) -> np.uint64:
    if len(branches):
        out[at] = branches[np.uint64(is_present)]
        return at + _ONE
    return at


@kernel
def _write_fixed(out: Bytes, at: Places, present: Bools, branches: Bytes, data: Bytes, first: int) -> None:
    step, width = np.uint64(len(data) > 1), np.uint64(data.shape[1])
    for row in range(len(at)):
        i = first + row
        place = _branch(out, at[row], present[i], branches)
        if present[i]:
            for j in range(width):
                out[place + j] = data[np.uint64(i) * step, j]
            place += width
        at[row] = place


@kernel
def _measure_varints(sizes: Places, present: Bools, branches: Bytes, numbers: Ints) -> None:
    for i in range(len(sizes)):
        sizes[i] += np.uint64(len(branches) > 0)
        if present[i]:
            sizes[i] += varint_size(zigzag(numbers[i]))


@kernel
def _write_varints(out: Bytes, at: Places, present: Bools, branches: Bytes, numbers: Ints, first: int) -> None:
    for row in range(len(at)):
        i = first + row
        place = _branch(out, at[row], present[i], branches)
        at[row] = put_varint(out, place, zigzag(numbers[i])) if present[i] else place


@kernel
def _measure_texts(sizes: Places, present: Bools, branches: Bytes, ends: Places) -> None:
    for i in range(len(sizes)):
        sizes[i] += np.uint64(len(branches) > 0)
        if present[i]:
            size = ends[i + 1] - ends[i]
            sizes[i] += varint_size(size << _ONE) + size


@kernel
def _write_texts(
    out: Bytes, at: Places, present: Bools, branches: Bytes, ends: Places, data: Bytes, first: int
) -> None:
    for row in range(len(at)):
        i = first + row
        place = _branch(out, at[row], present[i], branches)
        if present[i]:
            start, size = ends[i], ends[i + 1] - ends[i]
            place = put_varint(out, place, size << _ONE)
            for j in range(size):
                out[place + j] = data[start + j]
            place += size
        at[row] = place
