"""Rows of a frame as Avro, a column at a time: what `Codec.encode` writes row by row, many times as quick."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import Codec
from schemas.packing import Bools, Column, Fixed, Texts, Varints, measured, packed


def encode(codec: Codec, rows: pl.DataFrame) -> pa.LargeBinaryArray:
    """Each row as one value with its prefix; see `columns`."""
    fields = columns(codec, rows)
    sizes = measured(fields, len(rows))
    ends = np.concatenate((np.zeros(1, np.uint64), np.cumsum(sizes)))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(packed(fields, sizes))]
    return pa.Array.from_buffers(pa.large_binary(), len(rows), buffers)


def columns(codec: Codec, rows: pl.DataFrame) -> list[Column]:
    """What makes up the values; columns of `rows` are found by name, times are ms or Datetime.

    A missing column of a nullable field is null in every row.
    Raises KeyError for any other missing column, and TypeError for a type that it does not know (arrays, maps,
    records).
    """
    prefix = Fixed.constant(codec.prefixes[0].data, len(rows))
    return [prefix, *(_column(rows, field["name"], field["type"]) for field in codec.fields)]


def _column(rows: pl.DataFrame, name: str, avro_type: Any) -> Column:
    everywhere = np.ones(len(rows), np.bool_)
    if not isinstance(avro_type, list):
        return _values(_arrow(rows[name]), avro_type, name, everywhere, b"")
    null = avro_type.index("null")
    if name not in rows.columns:
        return Fixed.constant(bytes([2 * null]), len(rows))
    column = _arrow(rows[name])
    present = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else everywhere
    return _values(column, avro_type[1 - null], name, present, bytes([2 * null, 2 - 2 * null]))


def _arrow(column: pl.Series) -> pa.Array:
    """In Arrow's plainest layout: texts as offsets and one run of bytes."""
    return column.to_arrow(compat_level=pl.CompatLevel.oldest())


def _values(column: pa.Array, avro_type: Any, name: str, present: Bools, branches: bytes) -> Column:
    """The values of a column of this type; a null where a value is wanted is empty, 0 or false."""
    match avro_type["type"] if isinstance(avro_type, dict) else avro_type:
        case "string" | "bytes":
            texts = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
            return Texts.of(texts, present, branches)
        case "int" | "long":
            return Varints(present, branches, _numbers(column.cast(pa.int64())))
        case "enum":
            index = _places(column, pa.array(avro_type["symbols"], pa.large_string()))
            if index.null_count > column.null_count:
                raise ValueError(f"{name}: a text that is none of {', '.join(avro_type['symbols'])}")
            return Varints(present, branches, _numbers(index.cast(pa.int64())))
        case "boolean":
            return Fixed(present, branches, _numbers(column.cast(pa.uint8())).reshape(-1, 1))
        case "double":
            numbers = _numbers(column.cast(pa.float64())).astype("<f8", copy=False)
            return Fixed(present, branches, numbers.view(np.uint8).reshape(-1, 8))
        case kind:
            raise TypeError(f"{name}: no column-wise encoding for Avro type {kind}")


def _places(column: pa.Array, symbols: pa.Array) -> pa.Array:
    if isinstance(column, pa.DictionaryArray):
        return _places(column.dictionary, symbols).take(column.indices)
    return pc.index_in(column.cast(pa.large_string()), symbols)


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
    return found
