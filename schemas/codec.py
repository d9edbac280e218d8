"""Avro on the wire: single-object encoding or Confluent format, one record at a time or a whole batch as columns."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.reasons import BadRecordError, Reason

os.environ["RUST_BACKTRACE"] = "0"  # polars panics on a broken block, which is handled here; one line says so

_SYNC = b"S" * 16
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
_VARINT_BOUNDS = np.array([1 << (7 * k - 1) for k in range(1, 10)], np.int64)
_SINGLE_OBJECT_FIELDS = [{"name": "_magic", "type": "int"}, {"name": "_schema", "type": "double"}]
_CONFLUENT_FIELDS = [{"name": "_magic", "type": "int"}, {"name": "_schema", "type": "float"}]

Field = dict[str, Any]


@cache
def schema(name: str) -> dict[str, Any]:
    """The Avro schema of `schemas/<name>.avsc`."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.avsc").read_text())
    return loaded


@dataclass(frozen=True)
class Columns:
    """A decoded batch. `frame` has one row per healthy value, `index` its place in the input, `bad` the others."""

    frame: pl.DataFrame
    index: npt.NDArray[np.int64]
    bad: list[tuple[int, BadRecordError]]


@dataclass(frozen=True)
class Prefix:
    """What stands before the Avro body: the bytes, and the Avro fields that read them."""

    data: bytes
    fields: list[Field]

    @classmethod
    def single_object(cls, parsed: Any) -> Prefix:
        """C3 01 and the CRC-64-AVRO fingerprint, little-endian (Avro 1.12, Single-object encoding)."""
        crc = fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")
        return cls(b"\xc3\x01" + bytes.fromhex(crc), _SINGLE_OBJECT_FIELDS)

    @classmethod
    def confluent(cls, schema_id: int) -> Prefix:
        """A zero byte and the registry's id, big-endian."""
        return cls(struct.pack(">bI", 0, schema_id), _CONFLUENT_FIELDS)

    def matches(self, frame: pl.DataFrame) -> bool:
        """Whether every row of a frame that was read with `fields` starts with these bytes."""
        wanted = read_block(self.fields, 1, self.data)
        assert wanted is not None
        bits = np.uint64 if wanted["_schema"].dtype == pl.Float64 else np.uint32
        same = frame["_schema"].to_numpy().view(bits) == wanted["_schema"].to_numpy().view(bits)
        return bool(same.all()) and bool((frame["_magic"] == wanted["_magic"][0]).all())


class Codec:
    """Reads and writes records of one schema.

    Writes Confluent format when `registry_id` is given, single-object encoding otherwise; reads both. Raises
    `BadRecordError` (unknown_schema, broken_record) for what it cannot read.
    """

    def __init__(self, name: str, registry_id: int | None = None) -> None:
        self.name = name
        self.fields: list[Field] = schema(name)["fields"]
        self._parsed = fastavro.parse_schema(schema(name))
        single = Prefix.single_object(self._parsed)
        self.prefixes = [single] if registry_id is None else [Prefix.confluent(registry_id), single]
        self.column_names = [field["name"] for field in self.fields]
        self._countable = all(countable(field["type"]) for field in self.fields)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """One record as bytes; raises ValueError or TypeError when a field does not fit the schema."""
        out = io.BytesIO()
        out.write(self.prefixes[0].data)
        fastavro.schemaless_writer(out, self._parsed, record)
        return out.getvalue()

    def decode(self, value: bytes) -> dict[str, Any]:
        """One value as a dict."""
        body = self._body(value)
        rest = io.BytesIO(body)
        try:
            record = fastavro.schemaless_reader(rest, self._parsed, None)
        except Exception as error:
            raise BadRecordError(Reason.BROKEN_RECORD, f"{len(value)} bytes, {type(error).__name__}") from None
        if rest.tell() != len(body):
            raise BadRecordError(Reason.BROKEN_RECORD, f"{len(body) - rest.tell()} bytes left over")
        if not isinstance(record, dict):
            raise BadRecordError(Reason.BROKEN_RECORD, f"{len(value)} bytes that are no record")
        return record

    def _body(self, value: bytes) -> bytes:
        for prefix in self.prefixes:
            if value.startswith(prefix.data):
                return value[len(prefix.data) :]
        raise BadRecordError(Reason.UNKNOWN_SCHEMA, f"value starts with {value[:10].hex() or 'nothing'}")

    def columns(self, values: Sequence[bytes]) -> Columns:
        """Decodes a batch in one native pass; where that fails, fastavro judges each value by itself."""
        if not values:
            return Columns(self.empty(), np.zeros(0, np.int64), [])
        for prefix in self.prefixes:
            if all(value.startswith(prefix.data) for value in values):
                sizes = np.fromiter(map(len, values), np.int64, len(values)) - len(prefix.data)
                frame = read_block([*prefix.fields, *self.fields], len(values), b"".join(values))
                if frame is not None and self.fits(frame, sizes):
                    return Columns(frame.select(self.column_names), np.arange(len(values)), [])
        return self._one_by_one(values)

    def _one_by_one(self, values: Sequence[bytes]) -> Columns:
        index, bodies = [], []
        bad: list[tuple[int, BadRecordError]] = []
        for i, value in enumerate(values):
            try:
                self.decode(value)
            except BadRecordError as error:
                bad.append((i, error))
            else:
                index.append(i)
                bodies.append(self._body(value))
        frame = read_block(self.fields, len(bodies), b"".join(bodies))
        if frame is None:
            raise RuntimeError(f"{self.name}: fastavro reads {len(bodies)} records that polars does not")
        return Columns(frame, np.array(index, np.int64), bad)

    def empty(self) -> pl.DataFrame:
        """No rows, all columns."""
        frame = read_block(self.fields, 0, b"")
        assert frame is not None
        return frame

    def fits(self, frame: pl.DataFrame, sizes: npt.NDArray[np.int64]) -> bool:
        """True when each row, encoded again, would have exactly its own size: no record slipped into a neighbour."""
        if frame.height != len(sizes) or not times_exist(frame):
            return False
        return not self._countable or bool((encoded_size(frame, self.fields) == sizes).all())


def read_block(fields: list[Field], count: int, block: bytes) -> pl.DataFrame | None:
    """Reads `count` records that stand one behind the other; None when polars cannot."""
    head = _container_head(json.dumps(fields))
    data = b"".join((head, _varint(count), _varint(len(block)), block, _SYNC)) if count else head
    try:
        return pl.read_avro(io.BytesIO(data))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # polars reports a broken block as ComputeError or as a Rust panic
        return None


@cache
def _container_head(fields: str) -> bytes:
    out = b"Obj\x01" + _varint(2)
    record = '{"type": "record", "name": "R", "fields": ' + fields + "}"
    for key, text in (("avro.schema", record), ("avro.codec", "null")):
        out += _varint(len(key)) + key.encode() + _varint(len(text.encode())) + text.encode()
    return out + b"\0" + _SYNC


def _varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number & ~0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def times_exist(frame: pl.DataFrame) -> bool:
    """Whether all times lie in the years 1 to 9999, as fastavro, Python and the warehouses demand."""
    times = frame.select(pl.selectors.datetime().to_physical())
    if not times.width or not times.height:
        return True
    least, most = times.min_horizontal().min(), times.max_horizontal().max()
    return not isinstance(least, int) or not isinstance(most, int) or (least >= _FIRST_MS and most <= _LAST_MS)


def countable(avro_type: Any) -> bool:
    """Whether a value of the type has one encoding only; arrays and maps may be split into blocks at will."""
    if isinstance(avro_type, list):
        return all(countable(branch) for branch in avro_type)
    if isinstance(avro_type, dict):
        if avro_type["type"] == "record":
            return all(countable(field["type"]) for field in avro_type["fields"])
        return avro_type["type"] not in ("array", "map")
    return True


def encoded_size(frame: pl.DataFrame, fields: list[Field]) -> npt.NDArray[np.int64]:
    """Bytes that Avro needs for each row, from the columns alone.

    Raises TypeError for a type without one size. All lengths are taken in one query: queries cost, not rows.
    """
    parts = [part for field in fields for part in _size_parts(pl.col(field["name"]), field["type"])]
    fixed = sum(part for part in parts if isinstance(part, int))
    variable = [part for part in parts if not isinstance(part, int)]
    taken = frame.select(expression.alias(str(i)) for i, (_, expression) in enumerate(variable))
    total = np.full(frame.height, fixed, np.int64)
    for (kind, _), column in zip(variable, taken.iter_columns(), strict=True):
        missing = column.null_count()
        if missing == frame.height:
            continue
        numbers = (column.fill_null(0) if missing else column).to_numpy()
        size = _varint_size(numbers) if kind != "fixed" else numbers
        size = size + numbers if kind == "length" else size
        total += np.where(column.is_not_null().to_numpy(), size, 0) if missing else size
    return total


def _size_parts(column: pl.Expr, avro_type: Any) -> list[int | tuple[str, pl.Expr]]:
    """What adds to the size: a number for every row, or (`number`, `length` or `fixed`, an Int64 expression).

    An expression is null where the value is, and then adds nothing.
    """
    if isinstance(avro_type, list):
        (branch,) = (t for t in avro_type if t != "null")
        parts = _size_parts(column, branch)
        present = pl.when(column.is_not_null())
        return [1, *(("fixed", present.then(pl.lit(p, pl.Int64))) if isinstance(p, int) else p for p in parts)]
    kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
    match kind:
        case "record":
            return [p for f in avro_type["fields"] for p in _size_parts(column.struct.field(f["name"]), f["type"])]
        case "string":
            return [("length", column.str.len_bytes().cast(pl.Int64))]
        case "bytes":
            return [("length", column.bin.size().cast(pl.Int64))]
        case "int" | "long":
            return [("number", column.cast(pl.Int64))]
        case "enum" | "boolean":
            return [1]
        case "double" | "float":
            return [8 if kind == "double" else 4]
        case _:
            raise TypeError(f"no size is known for Avro type {kind}")


def _varint_size(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    groups_of_7_bits = np.searchsorted(_VARINT_BOUNDS, numbers ^ (numbers >> 63), side="right")
    return groups_of_7_bits.astype(np.int64) + 1
