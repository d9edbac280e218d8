"""Avro on the wire: single-object encoding or Confluent format, one record at a time or a whole batch as columns."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
import numpy as np
import polars as pl

from schemas.layout import Field, Layout, Values
from schemas.reasons import BadRecordError, Reason
from schemas.texts import Ints, hashed
from schemas.writers import Prefix, Writer, Writers, bare, schema, unknown_schema

__all__ = ["Codec", "Columns", "Prefix", "schema"]

Place = tuple[int, int]
"""Partition and offset of a value."""


@dataclass(frozen=True)
class Columns:
    """A decoded batch. `frame` has one row per healthy value, `index` its place in the input, `bad` the others."""

    frame: pl.DataFrame
    index: Ints
    bad: list[tuple[int, BadRecordError]]
    singly: int = 0
    """How many values were judged one by one."""


class Codec:
    """Reads and writes records of one schema.

    Writes Confluent format when `registry_id` is given, single-object encoding otherwise; reads both, and the records
    of every known writer (schemas/writers.py). A value is read when it is what an encoder writes, to the byte: both
    ways of reading judge alike. Raises `BadRecordError` (unknown_schema, broken_record) for what it cannot read, and
    SchemaUnavailableError when a registry has to be asked and does not answer.
    """

    def __init__(
        self,
        name: str,
        registry_id: int | None = None,
        writers: Writers | None = None,
        wanted: Collection[str] | None = None,
        hashed: Sequence[str] = (),
    ) -> None:
        """`wanted`: the columns that `columns` gives (default: all); the others are judged, and not kept.

        `hashed`: texts whose hashes it gives, too: the columns that texts.hashed makes.
        """
        self.name = name
        self.writers = writers or Writers.named(name, registry_id)
        self.fields: list[Field] = self.writers.reader["fields"]
        self.prefixes = self.writers.prefixes
        self.column_names = [field["name"] for field in self.fields]
        self._parsed = fastavro.parse_schema(self.writers.reader)
        self._bare = fastavro.parse_schema(bare(self.writers.reader))
        self._layout = Layout(self.fields, wanted, hashed)
        self._hashed = hashed

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """One record as bytes; raises ValueError or TypeError when a field does not fit the schema."""
        return self.prefixes[0].data + _written(self._parsed, record)

    def decode(self, value: bytes) -> dict[str, Any]:
        """One value as a dict."""
        record: dict[str, Any] = _read(self._parsed, self.resolved(self.writers.find(value), value))
        return record

    def resolved(self, writer: Writer, value: bytes) -> bytes:
        """The body of a value as we would have written it, after fastavro's resolution; raises BadRecordError."""
        body = value[len(writer.prefix.data) :]
        try:
            record = _read(writer.bare, body)
            if writer.layout.exact and _written(writer.bare, record) != body:
                raise ValueError("not what an encoder writes")
            if not writer.is_reader:
                record = fastavro.schemaless_reader(io.BytesIO(body), writer.parsed, self._parsed)
            if not (writer.is_reader and writer.layout.exact):
                body = _written(self._parsed, record)
                record = _read(self._bare, body)
        except Exception as error:  # fastavro raises many kinds; each of them means: no such record
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise BadRecordError(Reason.BROKEN_RECORD, f"{len(value)} bytes, {told}") from None
        for name, least, most in self._layout.ranges:
            number = record[name]
            if number is not None and not least <= number <= most:
                raise BadRecordError(Reason.BROKEN_RECORD, f"{number} is not from {least} to {most}", name)
        return body

    def columns(self, values: Values | Sequence[bytes], place: Callable[[int], Place] | None = None) -> Columns:
        """Decodes values of any known writers, each judged by itself: one that is broken changes no other.

        What is not plainly right is judged by fastavro. `place` tells where in the log a value stands: a schema that
        was registered by hand counts from an offset on (everywhere without it).
        """
        values = values if isinstance(values, Values) else Values.of(values)
        if not len(values):
            return Columns(self.empty(), np.zeros(0, np.int64), [])
        found, left = _Found(), np.arange(len(values))
        mostly = self.writers.built_in(Prefix.of(values[0]))
        if mostly is not None and mostly.known_from is None and not mostly.resolution.problems:
            left = self._read(mostly, values, left, found)
        for start, rows in _by_writer(values, left).items():
            try:
                writer = self.writers.find(start or values[int(rows[0])])
            except BadRecordError as error:
                found.bad += [(i, error if start else unknown_schema(values[i])) for i in rows.tolist()]
                continue
            if writer.known_from is not None and place is not None:
                known = np.array([writer.knows(*place(i)) for i in rows.tolist()], np.bool_)
                found.bad += [(i, unknown_schema(values[i])) for i in rows[~known].tolist()]
                rows = rows[known]  # noqa: PLW2901
            self._judge(writer, values, self._read(writer, values, rows, found), found)
        found.bad.sort(key=lambda one: one[0])
        return Columns(*self._assembled(found.pieces), found.bad, found.singly)

    def _read(self, writer: Writer, values: Values, rows: Ints, found: _Found) -> Ints:
        """Takes the values at these places that are plainly right records of a writer; returns the other places."""
        if not writer.is_columnar:
            return rows
        layout = self._layout if writer.is_reader else writer.layout
        frame, right = layout.read(values if len(rows) == len(values) else values.take(rows), writer.prefix.data)
        if not right.all():
            frame = frame.filter(pl.Series(right))
        columns, doubtful = writer.project(frame)
        columns = hashed(columns, self._hashed).select(self._layout.schema.names())
        if doubtful is not None:
            columns, right[right] = columns.filter(~pl.Series(doubtful)), ~doubtful
        found.pieces.append((rows[right], columns))
        return rows[~right]

    def _judge(self, writer: Writer, values: Values, rows: Ints, found: _Found) -> None:
        """One value after the other, by fastavro."""
        healthy, bodies = [], []
        for i in rows.tolist():
            try:
                bodies.append(self.resolved(writer, values[i]))
                healthy.append(i)
            except BadRecordError as error:
                found.bad.append((i, error))
        found.singly += len(rows)
        if self._layout.exact:
            frame, right = self._layout.read(Values.of(bodies))
            if not right.all():
                raise RuntimeError(f"{self.name}: what fastavro writes is not read")
        else:
            schema = {name: kind for name, kind in self._layout.schema.items() if name in self.column_names}
            frame = hashed(pl.DataFrame([_read(self._bare, body) for body in bodies], schema=schema), self._hashed)
        found.pieces.append((np.array(healthy, np.int64), frame))

    def _assembled(self, pieces: list[tuple[Ints, pl.DataFrame]]) -> tuple[pl.DataFrame, Ints]:
        pieces = [(rows, frame) for rows, frame in pieces if len(rows)]
        if not pieces:
            return self.empty(), np.zeros(0, np.int64)
        frame = pl.concat([frame for _, frame in pieces])
        index = np.concatenate([rows for rows, _ in pieces])
        if (np.diff(index) > 0).all():
            return frame, index
        order = np.argsort(index)
        return frame[order], index[order]

    def empty(self) -> pl.DataFrame:
        """No rows, all columns."""
        return self._layout.empty()


@dataclass
class _Found:
    """What could be read, as pieces in the reader's columns with their places, and the rest."""

    pieces: list[tuple[Ints, pl.DataFrame]] = field(default_factory=list)
    bad: list[tuple[int, BadRecordError]] = field(default_factory=list)
    singly: int = 0


def _by_writer(values: Values, rows: Ints) -> dict[bytes, Ints]:
    """Places of some values by what they start with."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for i in rows.tolist():
        start, end = int(values.starts[i]), int(values.ends[i])
        places[Prefix.of(bytes(values.data[start : min(start + Prefix.BYTES_MAX, end)]))].append(i)
    return {start: np.array(found, np.int64) for start, found in places.items()}


def _read(parsed: Any, body: bytes) -> Any:
    rest = io.BytesIO(body)
    record = fastavro.schemaless_reader(rest, parsed, None)
    if rest.tell() != len(body):
        raise ValueError(f"{len(body) - rest.tell()} bytes left over")
    if not isinstance(record, dict):
        raise TypeError("no record")
    return record


def _written(parsed: Any, record: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, record)
    return out.getvalue()
