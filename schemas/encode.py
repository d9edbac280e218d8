"""Rows of a frame as Avro, a column at a time: what `Codec.encode` writes row by row, ten times as quick."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import Codec

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_BOUNDS = np.array([1 << (7 * k - 1) for k in range(1, 10)], np.int64)


def encode(codec: Codec, frame: pl.DataFrame) -> pa.LargeBinaryArray:
    """Each row of `frame` as one value with its prefix; columns are found by name, times are ms or Datetime.

    A missing column of a nullable field is null in every row. Raises KeyError for any other missing column, and
    TypeError for a type that it does not know (arrays, maps, records).
    """
    pieces: list[Any] = [pa.scalar(codec.prefixes[0].data, pa.large_binary())]
    for field in codec.fields:
        pieces += _pieces(frame, field["name"], field["type"])
    return joined(pieces, frame.height)


def joined(pieces: list[Any], rows: int) -> pa.LargeBinaryArray:
    """Arrays and scalars of bytes, put one behind the other in each row."""
    if not rows:
        return pa.array([], pa.large_binary())
    whole = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def varints(numbers: Ints, present: npt.NDArray[np.bool_] | None = None) -> pa.LargeBinaryArray:
    """Zigzag varints of Avro and Kafka; nothing where not `present`."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    size = np.searchsorted(_BOUNDS, numbers ^ (numbers >> 63), side="right") + 1
    if present is not None:
        size = np.where(present, size, 0)
    offsets = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum(size, out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.uint8)
    longest = int(size.max(initial=0))
    if longest == 1:
        out[:] = zigzag if present is None else zigzag[present]
        return _binary(offsets, out)
    for group in range(longest):
        rows = np.flatnonzero(size > group)
        seven_bits = (zigzag[rows] >> np.uint64(7 * group)) & np.uint64(0x7F)
        more = np.where(size[rows] - 1 > group, np.uint64(0x80), np.uint64(0))
        out[offsets[rows] + group] = seven_bits | more
    return _binary(offsets, out)


def _binary(offsets: Ints, data: npt.NDArray[Any]) -> pa.LargeBinaryArray:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _fixed(values: npt.NDArray[Any], present: npt.NDArray[np.bool_] | None) -> pa.LargeBinaryArray:
    """Values of one width as their own bytes."""
    size = np.full(len(values), values.itemsize, np.int64) if present is None else present * values.itemsize
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(size, out=offsets[1:])
    return _binary(offsets, values if present is None else values[present])


def _pieces(frame: pl.DataFrame, name: str, avro_type: Any) -> list[Any]:
    if not isinstance(avro_type, list):
        return _value(frame[name], avro_type, None)
    null_first = avro_type[0] == "null"
    tags = np.array([0, 2] if null_first else [2, 0], np.uint8)
    branch = avro_type[1 if null_first else 0]
    missing = frame[name].null_count() if name in frame.columns else frame.height
    if missing in (0, frame.height):
        tag = pa.scalar(tags[int(not missing)].tobytes(), pa.large_binary())
        return [tag] if missing else [tag, *_value(frame[name], branch, None)]
    present = frame[name].is_not_null().to_numpy()
    return [_fixed(tags[present.astype(np.uint8)], None), *_value(frame[name], branch, present)]


def _value(column: pl.Series, avro_type: Any, present: npt.NDArray[np.bool_] | None) -> list[Any]:
    kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
    match kind:
        case "string" | "bytes":
            text = column.cast(pl.Binary).fill_null(b"")
            return [varints(text.bin.size().to_numpy().astype(np.int64), present), _large_binary(text)]
        case "int" | "long":
            return [varints(column.to_physical().fill_null(0).to_numpy().astype(np.int64), present)]
        case "enum":
            index = column.cast(pl.String).cast(pl.Enum(avro_type["symbols"])).to_physical()
            return [varints(index.fill_null(0).to_numpy().astype(np.int64), present)]
        case "boolean":
            return [_fixed(column.fill_null(value=False).to_numpy().astype(np.uint8), present)]
        case "double":
            return [_fixed(column.fill_null(0.0).to_numpy().astype("<f8"), present)]
        case _:
            raise TypeError(f"{column.name}: no column-wise encoding for Avro type {kind}")


def _large_binary(column: pl.Series) -> pa.LargeBinaryArray:
    array = column.to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array if array.type == pa.large_binary() else array.cast(pa.large_binary())
