"""Reads a few columns of plain records with one cursor per record, moved over all records at once; proves every end.

polars reads all columns of a block, or some of them without telling where a record ended. Here the fields are walked in
numpy: what the job does not ask for is stepped over, and each record must end exactly where Kafka's framing says. A
record batch that has anything else in it (headers, null keys, other schemas, broken bytes) goes to Wire as it is; the
judgement is a function of the record batch alone, so a replay with other chunk borders gives the same rows.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.block import block_head, varint
from schemas.codec import Codec
from schemas.writers import Prefix, schema
from stream_processors.transport import EventBatch, RecordBatch
from stream_processors.wire import Wire

Ints = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_FRAMED = block_head([{"name": "record", "type": "bytes"}])
"""A Kafka record is a length and so many bytes, which is how Avro writes bytes."""
_VARINT_MAX = 9
_INLINE_MAX = 12
"""Arrow keeps so short a text in its view."""
_ROWS = 20_000
"""So many records are walked at a time that their bytes stay in the processor's cache."""


class NotPlainError(Exception):
    """The records are not of the one kind that is read here."""


class CursorWire:
    """Reads `columns` (string, enum, int or long fields of the schema) and `_offset` of an EventBatch.

    An enum becomes the index of its symbol, a time its milliseconds, a number that is null 0.
    """

    def __init__(self, codec: Codec, columns: list[str]) -> None:
        self._wire, self._columns = Wire(codec), columns
        avro = schema(codec.name)
        self._prefix = Prefix.single_object(avro).data
        self._steps = [(field["name"], field["type"], field["name"] in columns) for field in avro["fields"]]
        symbols = {f["name"]: f["type"]["symbols"] for f in avro["fields"] if "symbols" in f["type"]}
        empty = codec.empty()
        self._types = {name: pl.String if empty.schema[name] == pl.String else pl.Int64 for name in columns}
        self._slow = [_as_number(name, empty.schema[name], symbols.get(name)) for name in columns]

    def read(self, batch: EventBatch) -> pl.DataFrame:
        """The rows of the batch in the order of the log; broken records are left out."""
        parts = [part for part in batch.parts if part.count]
        try:
            frame = self._plain(parts)
        except NotPlainError:
            frame = pl.concat([self._one(batch, part) for part in parts])
        return frame if not frame.height or frame.item(0, "_offset") >= batch.start else _from(frame, batch.start)

    def _one(self, batch: EventBatch, part: RecordBatch) -> pl.DataFrame:
        try:
            return self._plain([part])
        except NotPlainError:
            return self._wire.read(EventBatch(batch.topic, batch.partition, [part])).frame.select(
                *self._slow, "_offset"
            )

    def _plain(self, parts: list[RecordBatch]) -> pl.DataFrame:
        if not parts:
            return pl.DataFrame(schema={**self._types, "_offset": pl.Int64})
        block, records = _framed(parts)
        sizes = records.bin.size().to_numpy().astype(np.int32)
        ends = np.cumsum(sizes + _width(sizes), dtype=np.int32)
        frames = []
        for first in range(0, len(sizes), _ROWS):
            rows = slice(first, first + _ROWS)
            frames.append(self._walk(block, records[rows], ends[rows] - sizes[rows], ends[rows]))
        frame = pl.concat(frames)
        bases = np.repeat([part.base for part in parts], [part.count for part in parts])
        offsets = frame.get_column("_offset").to_numpy() + bases
        if (np.diff(offsets) <= 0).any() or offsets[0] < parts[0].base or offsets[-1] >= parts[-1].next:
            raise NotPlainError
        return frame.with_columns(_offset=pl.Series(offsets))

    def _walk(self, block: Bytes, records: pl.Series, starts: Ints, ends: Ints) -> pl.DataFrame:
        walk = _Walk(block, starts.copy())
        walk.expect(0)  # attributes
        walk.skip_number()  # timestamp delta
        offsets = walk.number().astype(np.int64)
        walk.step(walk.number())  # key
        length = walk.number()
        value_ends = (walk.at + length).astype(np.int32)
        walk.expect_bytes(self._prefix)
        columns: dict[str, pl.Series | Ints] = {}
        for name, avro_type, is_wanted in self._steps:
            taken = walk.field(avro_type, records if is_wanted else None, starts)
            if is_wanted:
                columns[name] = _column(taken, self._types[name], len(starts))
        if (walk.at != value_ends).any():
            raise NotPlainError
        walk.expect(0)  # headers
        if (walk.at != ends).any():
            raise NotPlainError
        return pl.DataFrame({**{name: columns[name] for name in self._columns}, "_offset": offsets})


def _framed(parts: list[RecordBatch]) -> tuple[Bytes, pl.Series]:
    """The bytes of all records, with some behind so that a number that breaks off can be read; and each record."""
    payloads = [part.payload for part in parts]
    size, sync = sum(map(len, payloads)), _FRAMED[-16:]
    before = _FRAMED + varint(sum(part.count for part in parts)) + varint(size)
    data = b"".join((before, *payloads, sync))
    try:
        records = pl.read_avro(io.BytesIO(data)).get_column("record")
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # polars reports a broken block as ComputeError or as a Rust panic
        raise NotPlainError from None
    if len(records) != sum(part.count for part in parts):
        raise NotPlainError
    return np.frombuffer(data, np.uint8)[len(before) :], records


class _Walk:
    """A place in each record."""

    def __init__(self, block: Bytes, at: Ints) -> None:
        self._block, self.at = block, at

    def expect(self, byte: int) -> None:
        """Steps over a byte that must be this one."""
        if (self._block.take(self.at, mode="clip") != byte).any():
            raise NotPlainError
        self.at += 1

    def expect_bytes(self, wanted: bytes) -> None:
        """Steps over bytes that must be these."""
        found = self._block.take(self.at[:, None] + np.arange(len(wanted), dtype=np.int32), mode="clip")
        if (found != np.frombuffer(wanted, np.uint8)).any():
            raise NotPlainError
        self.at += len(wanted)

    def step(self, size: Ints) -> None:
        """Steps over so many bytes."""
        if size.min() < 0:
            raise NotPlainError
        self.at += size.astype(np.int32)

    def number(self, among: Ints | None = None) -> Ints:
        """Steps over a number, in some of the records or all."""
        raw, width = self._varint(self.at if among is None else self.at[among])
        self._move(width, among)
        return np.asarray((raw >> 1) ^ -(raw & 1))

    def skip_number(self, among: Ints | None = None) -> None:
        """Steps over a number that nobody asks for."""
        at = self.at if among is None else self.at[among]
        width: Ints | int = 1
        for place in range(_VARINT_MAX):
            goes_on = self._block.take(at + place if place else at, mode="clip") >= 0x80
            if not goes_on.any():
                self._move(width, among)
                return
            if isinstance(width, int) and goes_on.all():
                width += 1
            else:
                width = (width + goes_on * (width == place + 1)).astype(np.int32)
        raise NotPlainError

    def _move(self, size: Ints | int, among: Ints | None) -> None:
        if among is None:
            self.at += size
        else:
            self.at[among] += size

    def _varint(self, at: Ints) -> tuple[Ints, Ints | int]:
        byte = self._block.take(at, mode="clip")
        if not len(at) or byte.max() < 0x80:
            return byte.astype(np.int32), 1
        raw = (byte & 0x7F).astype(np.int64)
        width = np.ones(len(at), np.int32)
        more = np.flatnonzero(byte >= 0x80)
        for place in range(1, _VARINT_MAX):
            every = len(more) == len(at)
            byte = self._block.take((at if every else at[more]) + place, mode="clip")
            bits = (byte & 0x7F).astype(np.int64) << 7 * place
            if every:
                raw |= bits
                width += 1
            else:
                raw[more] |= bits
                width[more] += 1
            goes_on = byte >= 0x80
            if not goes_on.any():
                return raw, width
            if not goes_on.all():
                more = more[goes_on]
        raise NotPlainError

    def field(self, avro_type: Any, records: pl.Series | None, starts: Ints) -> tuple[Any, Ints | None] | None:
        """Steps over a field; when `records` are given, returns (values, the rows that have one; None: all).

        Returns None for a column that is null in every row.
        """
        among: Ints | None = None
        if isinstance(avro_type, list):
            branch = self._block.take(self.at, mode="clip")
            most = branch.max()
            self.at += 1
            if most == 0:
                return None
            if most != 2 or (branch == 1).any():
                raise NotPlainError
            among = None if branch.min() == 2 else np.flatnonzero(branch)
            (avro_type,) = (branch_type for branch_type in avro_type if branch_type != "null")
        kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
        match kind:
            case "string":
                length = self.number(among).astype(np.int32)
                if length.min() < 0:
                    raise NotPlainError
                at = (self.at if among is None else self.at[among]) if records is not None else None
                at = at.copy() if at is not None else None
                self._move(length, among)
                if at is None or records is None:
                    return None
                if len(length) and length.min() > _INLINE_MAX:
                    return self._views(at, length), among
                return _texts(records, at - (starts if among is None else starts[among]), length, among), among
            case "int" | "long" if records is None:
                self.skip_number(among)
                return None
            case "int" | "long":
                numbers = self.number(among)
                return numbers, among
            case "enum":
                symbol = self.number(among)
                if symbol.min() < 0 or symbol.max() >= len(avro_type["symbols"]):
                    raise NotPlainError
                return symbol, among
            case "boolean":
                if self.number(among).min() < -1:
                    raise NotPlainError
                return None
            case _:
                raise NotPlainError

    def _views(self, at: Ints, lengths: Ints) -> pl.Series:
        """Texts that stay where they are: Arrow's views of length, first four bytes, buffer and place."""
        views = np.empty((len(at), 4), np.uint32)
        views[:, 0], views[:, 2], views[:, 3] = lengths, 0, at
        first = self._block.take(at[:, None] + np.arange(4, dtype=np.int32), mode="clip")
        views[:, 1] = first.view(np.uint32).ravel()
        if int((at + lengths).max()) > len(self._block):
            raise NotPlainError
        buffers = [None, pa.py_buffer(views), pa.py_buffer(self._block)]
        found = pl.Series(pa.Array.from_buffers(pa.binary_view(), len(at), buffers))
        try:
            texts: pl.Series = found.cast(pl.String)
        except pl.exceptions.PolarsError:  # no UTF-8
            raise NotPlainError from None
        return texts


def _texts(records: pl.Series, starts: Ints, lengths: Ints, among: Ints | None) -> pl.Series:
    if among is not None:
        records = records.gather(among)
    try:
        cut = pl.lit(records).bin.slice(pl.lit(pl.Series(starts)), pl.lit(pl.Series(lengths)))
        return pl.select(cut.cast(pl.String)).to_series()
    except pl.exceptions.PolarsError:  # no UTF-8
        raise NotPlainError from None


def _column(taken: tuple[Any, Ints | None] | None, dtype: Any, count: int) -> pl.Series | Ints:
    is_text = dtype == pl.String
    if taken is None:
        return pl.Series([None], dtype=dtype).new_from_index(0, count) if is_text else np.zeros(count, np.int64)
    values, among = taken
    if not is_text:
        numbers = np.zeros(count, np.int64)
        numbers[slice(None) if among is None else among] = values
        return numbers
    if among is None:
        texts: pl.Series = values
        return texts
    rows = np.full(count, len(among), np.int64)
    rows[among] = np.arange(len(among))
    texts = pl.concat([values, pl.Series([None], dtype=pl.String)])
    return texts.gather(rows)


def _as_number(name: str, dtype: Any, symbols: list[str] | None) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.String:
        return column
    if symbols is not None:
        column = column.cast(pl.String).cast(pl.Enum(symbols))
    return column.to_physical().cast(pl.Int64).fill_null(0)


def _width(sizes: Ints) -> Ints:
    return 1 + (sizes >= 1 << 6).astype(np.int32) + (sizes >= 1 << 13) + (sizes >= 1 << 20)


def _from(frame: pl.DataFrame, start: int) -> pl.DataFrame:
    return frame.filter(pl.col("_offset") >= start)
