"""Avro records as columns: what the fields of a schema are read as, and reading them, each record judged by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.texts import Bools, Bytes, Ints, Views, hash_names, run_of
from schemas.walk import BOOLEAN, BYTES, FIXED, NUMBER, TEXT, walk

Field = dict[str, Any]
DataType = pl.DataType | type[pl.DataType]

_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999, as Python and the warehouses demand."""
_TIMES = {"timestamp-millis": ("ms", 1), "timestamp-micros": ("us", 1000)}
_PLAIN: dict[str, tuple[int, DataType]] = {
    "string": (TEXT, pl.String),
    "bytes": (BYTES, pl.Binary),
    "int": (NUMBER, pl.Int32),
    "long": (NUMBER, pl.Int64),
    "boolean": (BOOLEAN, pl.Boolean),
    "float": (FIXED, pl.Float32),
    "double": (FIXED, pl.Float64),
}
_RANGE = {"int": (-(1 << 31), (1 << 31) - 1), "long": (-(1 << 63), (1 << 63) - 1)}
_SIZE = {"boolean": 1, "float": 4, "double": 8}


@dataclass(frozen=True)
class Values:
    """Byte strings that stand in one run of bytes, from `starts` to `ends`."""

    data: bytes | memoryview
    starts: Ints
    ends: Ints

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Self:
        """These values, one behind the other."""
        ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
        return cls(b"".join(values), np.concatenate((np.zeros(1, np.int64), ends[:-1]))[: len(values)], ends)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> bytes:
        return bytes(self.data[self.starts[i] : self.ends[i]])

    def take(self, rows: Ints) -> Values:
        """Some of them."""
        return Values(self.data, self.starts[rows], self.ends[rows])


@dataclass(frozen=True)
class _Part:
    """A field as it stands in the bytes."""

    name: str
    kind: int
    dtype: DataType
    branch: int
    """Of a nullable field the branch of the union that holds the value (0 or 1), else -1."""
    least: int
    most: int
    """Of a number its range; of what has a fixed size, `most` is that size."""


def _part(field: Field) -> _Part | None:
    """None for a type whose values have more than one encoding, or none that is known here."""
    avro_type, branch = field["type"], -1
    if isinstance(avro_type, list):
        if len(avro_type) != 2 or avro_type.count("null") != 1:
            return None
        branch = 1 - avro_type.index("null")
        avro_type = avro_type[branch]
    full: Field = avro_type if isinstance(avro_type, dict) else {"type": avro_type}
    name, logical = full["type"], full.get("logicalType")
    if name == "enum" and len(full["symbols"]) < 1 << 16:
        symbols = full["symbols"]
        return _Part(field["name"], NUMBER, pl.Enum(symbols), branch, 0, len(symbols) - 1)
    if not isinstance(name, str) or name not in _PLAIN or (logical and not (name == "long" and logical in _TIMES)):
        return None
    kind, dtype = _PLAIN[name]
    least, most = _RANGE.get(name, (0, _SIZE.get(name, 0)))
    if logical:
        unit, per_ms = _TIMES[logical]
        dtype = pl.Datetime(unit, "UTC")  # type: ignore[arg-type]
        least, most = _FIRST_MS * per_ms, (_LAST_MS + 1) * per_ms - 1
    return _Part(field["name"], kind, dtype, branch, least, most)


def _dtype(avro_type: Any) -> DataType:
    """What a column of any Avro type is read as, also where it is read record by record."""
    part = _part({"name": "", "type": avro_type})
    if part is not None:
        return part.dtype
    if isinstance(avro_type, list):
        return _dtype(next(branch for branch in avro_type if branch != "null"))
    kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
    match kind:
        case "array":
            return pl.List(_dtype(avro_type["items"]))
        case "record":
            return pl.Struct({field["name"]: _dtype(field["type"]) for field in avro_type["fields"]})
        case "fixed":
            return pl.Binary()
        case _:
            return pl.Object()


class Layout:
    """How records of some fields are read; `wanted` names the columns that are asked for (default: all).

    `hashed` names texts whose hashes are asked for: columns as texts.hashed makes them.

    `exact` is False when records of this schema cannot be read as columns: arrays, maps, unions of several types, or no
    field at all.
    """

    def __init__(
        self, fields: Sequence[Field], wanted: Collection[str] | None = None, hashed: Sequence[str] = ()
    ) -> None:
        parts = [_part(field) for field in fields]
        self.exact = bool(parts) and None not in parts
        self.schema = pl.Schema(
            {field["name"]: _dtype(field["type"]) for field in fields if wanted is None or field["name"] in wanted}
        )
        self._hashed = [name for column in hashed for name in hash_names(column)]
        self.schema |= dict.fromkeys(self._hashed, pl.UInt64())
        self.ranges = [
            (part.name, part.least, part.most)
            for part in parts
            if part is not None and part.kind == NUMBER and not isinstance(part.dtype, pl.Enum)
        ]
        self._parts = [part for part in parts if part is not None]
        self._places: list[int] = []
        self._numbers = self._texts = 0
        for part in self._parts:
            place = -1
            if part.name in self.schema and part.kind <= BYTES:
                place, self._texts = self._texts, self._texts + 1
            elif part.name in self.schema:
                place, self._numbers = self._numbers, self._numbers + 1
            self._places.append(place)
        hashes = {
            part.name: self._hashed.index(hash_names(part.name)[0]) for part in self._parts if part.name in hashed
        }
        rows = zip(self._parts, self._places, strict=True)
        self._program = np.array(
            [[p.kind, place, p.branch, p.least, p.most, hashes.get(p.name, -1)] for p, place in rows], np.int64
        ).reshape(-1, 6)

    def read(self, values: Values, prefix: bytes = b"") -> tuple[pl.DataFrame, Bools]:
        """(columns, which values are right), of records behind a prefix.

        A value is right when it is, to the byte, the prefix and what an encoder writes; the row of one that is not
        means nothing.
        The texts stay where they are: who keeps some of them for long copies them, or keeps all.
        """
        rows = len(values)
        numbers = np.zeros((self._numbers, rows), np.int64)
        views = np.zeros((self._texts, rows, 2), np.uint64)
        hashes = np.zeros((len(self._hashed), rows), np.uint64)
        present = np.zeros((len(self._parts), rows), np.bool_)
        right = np.empty(rows, np.bool_)
        data = run_of(values.data)
        bounds = values.starts, values.ends, run_of(prefix)
        walk(data, *bounds, self._program, numbers, views, hashes, present, right)
        if not right.all():  # nothing of a broken record may be taken for a place in the bytes
            views[:, ~right] = 0
            numbers[:, ~right] = 0
        columns = []
        for i, (part, place) in enumerate(zip(self._parts, self._places, strict=True)):
            if place >= 0:
                valid = None if part.branch < 0 else present[i]
                if part.kind <= BYTES:
                    columns.append(_texts(part, views[place], data, valid))
                else:
                    columns.append(_numbers(part, numbers[place], valid))
        columns += [pl.Series(name, one) for name, one in zip(self._hashed, hashes, strict=True)]
        return pl.DataFrame(columns), right

    def empty(self) -> pl.DataFrame:
        """No rows, all columns."""
        return pl.DataFrame(schema=self.schema)


def _texts(part: _Part, views: Views, data: Bytes, valid: Bools | None) -> pl.Series:
    kind = pa.string_view() if part.kind == TEXT else pa.binary_view()
    if valid is not None and not valid.any():
        return pl.Series(part.name, [None], part.dtype).new_from_index(0, len(views))
    found = pa.Array.from_buffers(kind, len(views), [_bitmap(valid), pa.py_buffer(views), pa.py_buffer(data)])
    return pl.Series(part.name, found)


def _numbers(part: _Part, numbers: Ints, valid: Bools | None) -> pl.Series:
    if valid is not None and not valid.any():
        return pl.Series(part.name, [None], part.dtype).new_from_index(0, len(numbers))
    match part.dtype:
        case pl.Boolean:
            plain = (
                pa.array(numbers.astype(np.bool_)) if valid is None else pa.array(numbers.astype(np.bool_), mask=~valid)
            )
            return pl.Series(part.name, plain)
        case pl.Float32:
            typed: npt.NDArray[Any] = numbers.astype("<i4").view("<f4")
        case pl.Float64:
            typed = numbers.view("<f8")
        case pl.Int32:
            typed = numbers.astype(np.int32)
        case pl.Enum():
            typed = numbers.astype(np.uint8 if part.most < 1 << 8 else np.uint16)
        case _:
            typed = numbers
    kind = pa.from_numpy_dtype(typed.dtype)
    found = pl.Series(part.name, pa.Array.from_buffers(kind, len(typed), [_bitmap(valid), pa.py_buffer(typed)]))
    if isinstance(part.dtype, pl.Enum):
        return found.cat.to(part.dtype)
    return found if found.dtype == part.dtype else found.cast(part.dtype)


def _bitmap(valid: Bools | None) -> pa.Buffer | None:
    return None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
