"""Avro on the wire: single-object encoding or Confluent format, one record at a time or a whole batch as columns."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.block import Field, block_head, limits, read_block
from schemas.reasons import BadRecordError, Reason
from schemas.writers import Prefix, Writer, Writers, bare, schema, unknown_schema

__all__ = ["Codec", "Columns", "Prefix", "schema"]

_FIRST = 4_096
"""Columns are tried with so many values first: a broken one among them costs no more."""
_SINGLY, _SINGLY_MAX = 256, 4_096
"""Around a broken value so many are judged one by one, before columns are tried again; more where trouble goes on."""

Place = tuple[int, int]
"""Partition and offset of a value."""


@dataclass(frozen=True)
class Columns:
    """A decoded batch. `frame` has one row per healthy value, `index` its place in the input, `bad` the others."""

    frame: pl.DataFrame
    index: npt.NDArray[np.int64]
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

    def __init__(self, name: str, registry_id: int | None = None, writers: Writers | None = None) -> None:
        self.name = name
        self.writers = writers or Writers.named(name, registry_id)
        self.fields: list[Field] = self.writers.reader["fields"]
        self.prefixes = self.writers.prefixes
        self.column_names = [field["name"] for field in self.fields]
        self._parsed = fastavro.parse_schema(self.writers.reader)
        self.head = block_head(self.fields)
        self._bare = fastavro.parse_schema(bare(self.writers.reader))
        self._limits = limits(self.fields)

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
        for name, least, most in self._limits:
            number = record[name]
            if number is not None and not least <= number <= most:
                raise BadRecordError(Reason.BROKEN_RECORD, f"{number} is not from {least} to {most}", name)
        return body

    def columns(self, values: Sequence[bytes], place: Callable[[int], Place] | None = None) -> Columns:
        """Decodes values of any known writers, each writer's in one native pass.

        Only where that fails fastavro judges value by value. `place` tells where in the log a value stands: a schema
        that was registered by hand counts from an offset on (everywhere without it).
        """
        if not values:
            return Columns(self.empty(), np.zeros(0, np.int64), [])
        pieces: list[tuple[npt.NDArray[np.int64], pl.DataFrame]] = []
        bad: list[tuple[int, BadRecordError]] = []
        singly = 0
        for start, members in _by_writer(values).items():
            try:
                writer = self.writers.find(start or values[members[0]])
            except BadRecordError as error:
                bad += [(i, error if start else unknown_schema(values[i])) for i in members]
                continue
            if writer.known_from is not None and place is not None:
                strangers = {i for i in members if not writer.knows(*place(i))}
                bad += [(i, unknown_schema(values[i])) for i in strangers]
                known: Sequence[int] = [i for i in members if i not in strangers]
            else:
                known = members
            found = _Group(self, writer, values if len(known) == len(values) else [values[i] for i in known])
            found.read()
            own = np.asarray(known, np.int64)
            pieces += [(own[rows], frame) for rows, frame in found.pieces]
            bad += [(int(own[i]), error) for i, error in found.bad]
            singly += found.singly
        bad.sort(key=lambda one: one[0])
        return Columns(*self._assembled(pieces), bad, singly)

    def _assembled(
        self, pieces: list[tuple[npt.NDArray[np.int64], pl.DataFrame]]
    ) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
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
        nothing = read_block(self.head, 0)
        assert nothing is not None
        return nothing.frame


class _Group:
    """Values of one writer: what could be read, as pieces in the reader's columns with their places, and the rest."""

    def __init__(self, codec: Codec, writer: Writer, values: Sequence[bytes]) -> None:
        self._codec, self._writer, self._values = codec, writer, values
        self.pieces: list[tuple[npt.NDArray[np.int64], pl.DataFrame]] = []
        self.bad: list[tuple[int, BadRecordError]] = []
        self.singly = 0

    def read(self) -> None:
        """Reads columns as far as they can be proven, judges singly where they cannot, and goes on with columns."""
        at, step, singly, total = 0, _FIRST, _SINGLY, len(self._values)
        if not self._writer.is_columnar:
            self._judge(range(total))
            return
        while at < total:
            rows = min(step, total - at)
            proven = self._columns(at, rows)
            if proven is None and rows > _SINGLY:
                step = max(rows // 16, _SINGLY)
                continue
            at += proven or 0
            if proven == rows:
                step, singly = step * 4, _SINGLY
                continue
            around = range(at, min(at + singly, total))
            self._judge(around)
            at, step, singly = around.stop, _SINGLY, min(singly * 2, _SINGLY_MAX)

    def _columns(self, at: int, rows: int) -> int | None:
        """Takes the rows from `at` on that are proven, and returns how many; None when the block cannot be read."""
        writer, values = self._writer, self._values[at : at + rows]
        block = read_block(writer.head, rows, *values)
        if block is None:
            return None
        frame, proven = block.frame, rows
        if writer.layout.exact:
            ends = np.cumsum(np.fromiter(map(len, values), np.int64, rows))
            starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) + len(writer.prefix.data)
            found = writer.layout.ends(frame, block.data, starts)
            proven = rows if (right := found == ends).all() else int(right.argmin())
        elif not writer.layout.times_exist(frame):
            return None
        places = np.arange(at, at + proven)
        columns, doubtful = writer.project(frame[:proven] if proven < rows else frame)
        if doubtful is None:
            self.pieces.append((places, columns))
        else:
            self.pieces.append((places[~doubtful], columns.filter(~pl.Series(doubtful))))
            self._judge(places[doubtful].tolist())
        return proven

    def _judge(self, places: Sequence[int]) -> None:
        healthy, bodies = [], []
        for i in places:
            try:
                bodies.append(self._codec.resolved(self._writer, self._values[i]))
                healthy.append(i)
            except BadRecordError as error:
                self.bad.append((i, error))
        self.singly += len(places)
        block = read_block(self._codec.head, len(bodies), *bodies)
        if block is None:
            raise RuntimeError(f"{self._codec.name}: polars does not read what fastavro writes")
        self.pieces.append((np.array(healthy, np.int64), block.frame))


def _by_writer(values: Sequence[bytes]) -> dict[bytes, Sequence[int]]:
    """Places of the values by what they start with; mostly it is the same for all."""
    first = Prefix.of(values[0])
    if first and all(value.startswith(first) for value in values):
        return {first: range(len(values))}
    found: defaultdict[bytes, list[int]] = defaultdict(list)
    for i, value in enumerate(values):
        found[Prefix.of(value)].append(i)
    return dict(found)


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
