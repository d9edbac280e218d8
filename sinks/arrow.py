"""Rows as the Arrow record batches that BigQuery's Storage Write API takes, none larger than a request may be."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
from sqlglot import exp

from schemas.tables import Table

REQUEST_MAX_BYTES = 8 << 20
"""BigQuery refuses requests above 10 MB; the headers need some of it."""

_SCALARS = {
    "TEXT": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "BINARY": pa.binary(),
    "VARBINARY": pa.binary(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table's columns."""
    return pa.schema([(c.name, arrow_type(exp.DataType.build(c.type, dialect="bigquery"))) for c in table.columns])


def arrow_type(kind: exp.DataType) -> pa.DataType:
    """The Arrow type of a BigQuery type."""
    match kind.this.name:
        case "ARRAY":
            return pa.list_(arrow_type(kind.expressions[0]))
        case "STRUCT":
            return pa.struct([(part.name, arrow_type(part.args["kind"])) for part in kind.expressions])
        case name:
            return _SCALARS[name]


def record_batches(rows: pl.DataFrame, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in order, cut so that each batch fits into a request.

    Raises ValueError for a single row that does not.
    """
    table = rows.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
    for batch in table.combine_chunks().to_batches():
        yield from _fitting(batch)


def _fitting(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.get_total_buffer_size() <= REQUEST_MAX_BYTES or batch.serialize().size <= REQUEST_MAX_BYTES:
        yield batch
    elif batch.num_rows == 1:
        raise ValueError(f"one row has {batch.serialize().size} bytes, a request at most {REQUEST_MAX_BYTES}")
    else:
        half = batch.num_rows // 2
        yield from _fitting(batch.slice(0, half))
        yield from _fitting(batch.slice(half))
