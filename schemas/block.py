"""Avro blocks as columns: reads records that stand one behind the other, and proves that none touched its neighbour.

polars takes some bytes that are no Avro: a union index that does not exist, a boolean of 2, an int above 32 bits. So
the columns are held against the bytes again (`Layout.ends`): a row is right when encoding it would give these bytes.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

os.environ["RUST_BACKTRACE"] = "0"  # polars panics on a broken block, which is handled here; one line says so

Field = dict[str, Any]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_SYNC = b"S" * 16
_BOUNDS = [1 << (7 * k - 1) for k in range(1, 10)]
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
_PER_MS = {"timestamp-millis": 1, "timestamp-micros": 1000}
NOT_EXACT = -1
"""End of a row whose bytes an encoder would not have written."""


def block_head(fields: list[Field]) -> bytes:
    """What `read_block` must know of the records: the beginning of an Avro container file."""
    told = [{"name": field["name"], "type": field["type"]} for field in fields]  # polars stumbles over some defaults
    out = b"Obj\x01" + varint(2)
    record = json.dumps({"type": "record", "name": "R", "fields": told}).encode()
    for key, text in ((b"avro.schema", record), (b"avro.codec", b"null")):
        out += varint(len(key)) + key + varint(len(text)) + text
    return out + b"\0" + _SYNC


class Block(NamedTuple):
    """Records as columns, and the bytes that they were read from, without a copy."""

    frame: pl.DataFrame
    data: Bytes


def read_block(head: bytes, count: int, *pieces: bytes | memoryview) -> Block | None:
    """Reads `count` records from the pieces of a block; None when polars cannot."""
    size = sum(map(len, pieces))
    before = b"".join((head, varint(count), varint(size))) if count else head
    whole = b"".join((before, *pieces, _SYNC)) if count else head
    try:
        frame = pl.read_avro(io.BytesIO(whole))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # polars reports a broken block as ComputeError or as a Rust panic
        return None
    return (
        Block(frame, np.frombuffer(whole, np.uint8)[len(before) : len(before) + size])
        if frame.height == count
        else None
    )


def limits(fields: list[Field]) -> list[tuple[str, int, int]]:
    """(field, least, most) of the numbers that have a range of their own: 32 bits, or the years 1 to 9999."""
    parts = [part for part in map(_part, fields) if part is not None]
    ints = [(part.name, -(1 << 31), (1 << 31) - 1) for part in parts if part.kind == "int"]
    return ints + [(part.name, *_range_of_times(part)) for part in parts if part.per_ms]


def varint(number: int) -> bytes:
    """A whole number as Avro and Kafka write it: zigzag, seven bits a byte."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number & ~0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def widths(numbers: Ints) -> Ints | int:
    """Bytes of each number as varint; one figure when all are alike."""
    if not len(numbers):
        return 0
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0:
        numbers = numbers ^ (numbers >> 63)
        low, high = int(numbers.min()), int(numbers.max())
    inside = [bound for bound in _BOUNDS if low < bound <= high]
    least = 1 + sum(bound <= low for bound in _BOUNDS)
    if not inside:
        return least
    found = (numbers >= inside[0]) + np.int64(least)
    for bound in inside[1:]:
        found += numbers >= bound
    return found


@dataclass(frozen=True)
class _Part:
    """A field as it stands in the bytes."""

    name: str
    kind: str
    """`text` (string or bytes), or Avro's own name."""
    size: int
    """Bytes of what always has the same size."""
    per_ms: int
    """Of a time: its units in a millisecond; 0 for what is no time."""
    value_branch: int | None
    """Of a nullable field: the branch of the union that holds the value (0 or 1)."""
    asked: pl.Expr | None
    """What must be known of the column: the length of a text, the number, the truth."""


def _part(field: Field) -> _Part | None:
    """None for a type whose values have more than one encoding, or that polars does not read."""
    avro_type, value_branch = field["type"], None
    if isinstance(avro_type, list):
        if len(avro_type) != 2 or avro_type.count("null") != 1:
            return None
        value_branch = 1 - avro_type.index("null")
        avro_type = avro_type[value_branch]
    full: Field = avro_type if isinstance(avro_type, dict) else {"type": avro_type}
    kind, logical = full["type"], full.get("logicalType")
    column, size, asked = pl.col(field["name"]), 0, None
    match kind:
        case "string":
            kind, asked = "text", column.str.len_bytes()
        case "bytes":
            kind, asked = "text", column.bin.size()
        case "int" | "long":
            asked = column.to_physical().cast(pl.Int64)
        case "boolean":
            asked = column
        case "float" | "double" | "fixed":
            size = {"float": 4, "double": 8}.get(kind) or int(full["size"])
        case "enum" if value_branch is None and len(full["symbols"]) <= 64:
            size = 1
        case _:
            return None
    if logical is not None and not (kind == "long" and logical in _PER_MS):
        return None
    return _Part(field["name"], kind, size, _PER_MS.get(logical or "", 0), value_branch, asked)


class Layout:
    """How records of some fields stand in a block.

    `exact` is False when nothing can be proven from the columns: a value may be encoded in more than one way (arrays,
    maps), or polars does not read the type.
    """

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        parts = [_part(field) for field in fields]
        self.exact = None not in parts
        self._parts = [part for part in parts if part is not None]
        self._asked = {p.name: p.asked.alias(p.name) for p in self._parts if p.asked is not None}
        zero = {p.name: pl.lit(False if p.kind == "boolean" else 0) for p in self._parts}
        self._filled = {name: asked.fill_null(zero[name]) for name, asked in self._asked.items()}
        self._present = {p.name: pl.col(p.name).is_not_null().alias(f"{p.name} present") for p in self._parts}

    def ends(self, frame: pl.DataFrame, block: Bytes, starts: Ints) -> Ints:
        """Where in `block` each row ends that starts at `starts`; NOT_EXACT for a row that is not what stands there.

        A row is proven when it ends where the next one starts, and all rows before it are: a block is read from its
        beginning, so the first wrong row spoils those behind it. All columns are asked in one query: queries cost, not
        rows.
        """
        nulls = {part.name: frame.get_column(part.name).null_count() for part in self._parts}
        mixed = [name for name, count in nulls.items() if 0 < count < frame.height]
        known = [name for name in self._asked if nulls[name] < frame.height]
        taken = frame.select(
            *((self._filled if name in mixed else self._asked)[name] for name in known),
            *(self._present[name] for name in mixed),
        )
        cursor = _Cursor(block, starts)
        for part in self._parts:
            present = taken.get_column(f"{part.name} present").to_numpy() if part.name in mixed else None
            if part.value_branch is not None:
                value, null = 2 * part.value_branch, 2 - 2 * part.value_branch
                if present is None:
                    cursor.expect(null if nulls[part.name] else value)
                else:
                    cursor.expect(np.where(present, np.uint8(value), np.uint8(null)))
                cursor.skip(1)
            if nulls[part.name] < frame.height:
                told = taken.get_column(part.name).to_numpy() if part.name in self._asked else None
                _walk(cursor, part, told, present)
        return cursor.ends()

    def times_exist(self, frame: pl.DataFrame) -> bool:
        """Whether all times lie in the years 1 to 9999, as Python and the warehouses demand."""
        cursor = _Cursor(np.zeros(1, np.uint8), np.zeros(frame.height, np.int64))
        for part in self._parts:
            if part.per_ms:
                _judge_times(cursor, part, frame.select(self._filled[part.name]).to_series().to_numpy())
        return not cursor.wrong.any()


class _Cursor:
    """A place in each row of a block, and which rows are not what they should be."""

    def __init__(self, block: Bytes, starts: Ints) -> None:
        self._block, self._at, self._fixed = block, starts.copy(), 0  # a row has come to at + fixed
        self.wrong = np.zeros(len(starts), np.bool_)

    def skip(self, size: Ints | int, present: Mask | None = None) -> None:
        """Goes on by `size` bytes, in the rows that are present."""
        if present is not None:
            self._at += size * present
        elif isinstance(size, int):
            self._fixed += size
        else:
            self._at += size

    def expect(self, wanted: npt.NDArray[Any] | int, present: Mask | None = None) -> None:
        """Marks the rows whose next byte is another."""
        self.mark(self._block[self._fixed :].take(self._at, mode="clip") != wanted, present)

    def expect_at_most(self, ahead: int, most: int, among: Mask) -> None:
        """Marks those among the rows whose byte `ahead` of here is greater."""
        rows = np.flatnonzero(among)
        self.wrong[rows] |= self._block.take(self._at[rows] + self._fixed + ahead, mode="clip") > most

    def mark(self, found: Mask, present: Mask | None = None) -> None:
        """Marks rows as wrong."""
        if found.any():
            self.wrong |= found if present is None else found & present

    def ends(self) -> Ints:
        """The places, NOT_EXACT where a row is wrong."""
        return np.where(self.wrong, NOT_EXACT, self._at + self._fixed)


def _walk(cursor: _Cursor, part: _Part, told: npt.NDArray[Any] | None, present: Mask | None) -> None:
    """Over one field; `told` is 0 where it is missing."""
    if told is None:  # enum or fixed
        cursor.skip(part.size, present)
        return
    if part.kind == "boolean":
        cursor.expect(told, present)
        cursor.skip(1, present)
        return
    width = widths(told)
    if part.kind == "text":
        cursor.skip(width, present)
        cursor.skip(told)
        return
    digits, most = (5, 0x0F) if part.kind == "int" else (10, 0x01)
    if np.max(width) == digits:  # polars cuts off what does not fit into 32 or 64 bits
        cursor.expect_at_most(digits - 1, most, np.broadcast_to(width == digits, told.shape))
    if part.per_ms:
        _judge_times(cursor, part, told)
    cursor.skip(width, present)


def _judge_times(cursor: _Cursor, part: _Part, told: npt.NDArray[Any]) -> None:
    first, last = _range_of_times(part)
    if len(told) and (told.min() < first or told.max() > last):
        cursor.mark((told < first) | (told > last))


def _range_of_times(part: _Part) -> tuple[int, int]:
    return _FIRST_MS * part.per_ms, (_LAST_MS + 1) * part.per_ms - 1
