"""Rows of a frame as Avro, a column at a time: what `Codec.encode` writes row by row, many times as quick.

What is narrow (numbers, lengths, tags, and texts of few different values) is put side by side in a byte matrix, so that
only texts of many values are pieces of their own in what is joined row by row in the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cells import Cells, array
from schemas.codec import Codec

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_FEW = 64
_NARROW_BYTES = 24
_SAMPLE = 256


def encode(codec: Codec, frame: pl.DataFrame) -> pa.LargeBinaryArray:
    """Each row of `frame` as one value with its prefix; columns are found by name, times are ms or Datetime.

    A missing column of a nullable field is null in every row. Raises KeyError for any other missing column, and
    TypeError for a type that it does not know (arrays, maps, records).
    """
    pieces: list[Cells | pa.LargeBinaryArray] = [Cells.constant(codec.prefixes[0].data, frame.height)]
    for field in codec.fields:
        pieces += _pieces(frame, field["name"], field["type"])
    return joined(pieces)


def joined(pieces: list[Cells | pa.LargeBinaryArray]) -> pa.LargeBinaryArray:
    """Cells and texts, put one behind the other in each row."""
    columns: list[Any] = []
    run: list[Cells] = []
    for piece in pieces:
        if isinstance(piece, Cells):
            run.append(piece)
            continue
        if run:
            columns.append(array(run))
            run = []
        columns.append(piece)
    if run:
        columns.append(array(run))
    if len(columns) == 1:
        return columns[0]
    whole = pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.large_binary()))
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def sizes(texts: pa.LargeBinaryArray) -> Ints:
    """Bytes of each text."""
    ends = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8)
    found: Ints = ends[1:] - ends[:-1]
    return found


def _pieces(frame: pl.DataFrame, name: str, avro_type: Any) -> list[Cells | pa.LargeBinaryArray]:
    nullable = isinstance(avro_type, list)
    if nullable and name not in frame.columns:
        return [_tag(avro_type, None, frame.height)]
    column = _arrow(frame[name])
    if not nullable:
        return _value(column, avro_type, name, None)
    value = avro_type[1 if avro_type[0] == "null" else 0]
    if not column.null_count or column.null_count == frame.height:
        tag = _tag(avro_type, None if column.null_count else value, frame.height)
        return [tag] if column.null_count else [tag, *_value(column, value, name, None)]
    present: Bools = column.is_valid().to_numpy(zero_copy_only=False)
    tags = np.array([2 * avro_type.index("null"), 2 - 2 * avro_type.index("null")], np.uint8)
    return [Cells.fixed(tags[present.view(np.uint8)]), *_value(column, value, name, present)]


def _tag(union: list[Any], branch: Any, rows: int) -> Cells:
    return Cells.constant(bytes([2 * union.index(branch or "null")]), rows)


def _arrow(column: pl.Series) -> pa.Array:
    """In Arrow's plainest layout: texts as offsets and one run of bytes."""
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _value(column: pa.Array, avro_type: Any, name: str, present: Bools | None) -> list[Cells | pa.LargeBinaryArray]:
    """What stands for a column of this type, nothing where not `present` (None: everywhere)."""
    match avro_type["type"] if isinstance(avro_type, dict) else avro_type:
        case "string":
            column = column.cast(pa.large_string())
            few = _few_texts(column)
            return [few] if few is not None else _texts(column, present)
        case "bytes":
            return _texts(column, present)
        case "int" | "long":
            return [Cells.varints(_told(column.cast(pa.int64()), 0), present)]
        case "enum":
            index = pc.index_in(column.cast(pa.large_string()), pa.array(avro_type["symbols"], pa.large_string()))
            if index.null_count > column.null_count:
                raise ValueError(f"{name}: a text that is none of {', '.join(avro_type['symbols'])}")
            return [Cells.varints(_told(index.cast(pa.int64()), 0), present)]
        case "boolean":
            return [Cells.fixed(_told(column, False).view(np.uint8), present)]
        case "double":
            return [Cells.fixed(_told(column.cast(pa.float64()), 0.0).astype("<f8", copy=False), present)]
        case kind:
            raise TypeError(f"{name}: no column-wise encoding for Avro type {kind}")


def _told(column: pa.Array, otherwise: float) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = (column.fill_null(otherwise) if column.null_count else column).to_numpy(
        zero_copy_only=False
    )
    return found


def _texts(column: pa.Array, present: Bools | None) -> list[Cells | pa.LargeBinaryArray]:
    texts = column.cast(pa.large_binary())
    texts = texts.fill_null(b"") if texts.null_count else texts
    return [Cells.varints(sizes(texts), present), texts]


def _few_texts(column: pa.Array) -> Cells | None:
    """Length and text of a column of few short values, nothing for null; None if it has many or long ones."""
    if len(column[:_SAMPLE].dictionary_encode().dictionary) > _FEW:
        return None
    encoded = column.dictionary_encode()
    values = [value.encode() for value in encoded.dictionary.to_pylist()]
    if len(values) > _FEW or max(map(len, values), default=0) > _NARROW_BYTES:
        return None
    written = [bytes([2 * len(value)]) + value for value in values]
    if len(written) == 1 and not column.null_count:
        return Cells.constant(written[0], len(column))
    return Cells.chosen([*written, b""], _told(encoded.indices, len(written)))
