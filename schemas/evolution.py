"""Records of another writer's schema as ours: Avro's schema resolution (1.12), for whole columns.

What is asked of a pair of schemas: can the reader read what the writer wrote (`Resolution.problems`), which values may
be refused all the same (`notes`), and how do the writer's columns become the reader's (`projection`). Where columns
cannot follow (maps, unions of several types), fastavro resolves record by record; it is the reference in the tests.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.layout import Field, Layout

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
_PRIMITIVE = {"boolean", "int", "long", "float", "double", "string", "bytes"}
_TIMES = {"timestamp-millis", "timestamp-micros"}
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


class Projection:
    """The writer's columns as the reader's."""

    def __init__(self, columns: Sequence[pl.Expr], doubts: Sequence[pl.Expr]) -> None:
        self._columns, self._doubts = list(columns), list(doubts)
        self._names = [column.meta.output_name() for column in columns]

    def __call__(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, npt.NDArray[np.bool_] | None]:
        """(reader's columns, rows that do not resolve); None when all do."""
        columns = frame.with_columns(self._columns).select(self._names)
        if not self._doubts:
            return columns, None
        doubtful = frame.select(pl.any_horizontal(self._doubts).fill_null(False)).to_series().to_numpy()
        return columns, doubtful if doubtful.any() else None


@dataclass(frozen=True)
class Resolution:
    """How a reader reads a writer's records."""

    problems: list[str]
    """Why no record can be read; empty when they can."""
    notes: list[str]
    """Which values will be refused."""
    writer: dict[str, Any]
    """The writer's schema, its logical types left only where they say the same to the reader."""
    columns: list[Field]
    """The writer's fields as columns are read: bytes that we take for text are text at once."""
    projection: Projection | None
    """None when columns cannot follow."""


def resolve(writer: dict[str, Any], reader: dict[str, Any]) -> Resolution:
    """Compares two record schemas; never raises for what a writer may have written."""
    effective = copy.deepcopy(writer)
    problems, notes, pairs = _match(effective, reader)
    columnar = not problems
    read_as = {field["name"]: field["type"] for field in effective.get("fields", [])}
    columns: list[pl.Expr] = []
    doubts: list[pl.Expr] = []
    dtypes = Layout(reader["fields"]).schema
    for field, source in pairs:
        if source is None:
            if "default" in field and not problems:
                columns.append(_default(field, dtypes[field["name"]]))
            continue
        theirs, ours = _plain(source["type"]), _plain(field["type"])
        if theirs is None or ours is None:
            columnar &= source["type"] == field["type"]
            columns.append(pl.col(source["name"]).alias(field["name"]))
            continue
        place = f"{field['name']}: " if field["name"] == source["name"] else f"{field['name']} ({source['name']}): "
        wrong, doubt = _compare(theirs, ours)
        problems += [place + text for text in wrong]
        notes += [place + text for text in doubt]
        if not problems:
            if theirs.kind == "bytes" and ours.kind == "string":
                read_as[source["name"]] = _as_text(source["type"])
            column, doubtful = _convert(pl.col(source["name"]), theirs, ours, dtypes[field["name"]])
            columns.append(column.alias(field["name"]))
            doubts += doubtful
    fields: list[Field] = [{"name": name, "type": avro_type} for name, avro_type in read_as.items()]
    projection = Projection(columns, doubts) if columnar and not problems else None
    return Resolution(problems, notes, effective, fields, projection)


@dataclass(frozen=True)
class _Plain:
    """A type whose columns can be converted: a primitive, enum or fixed, and whether it may be missing."""

    kind: str
    nullable: bool
    full: dict[str, Any]

    @property
    def logical(self) -> str | None:
        return self.full.get("logicalType")


def _plain(avro_type: Any) -> _Plain | None:
    nullable = isinstance(avro_type, list)
    if nullable:
        branches = [branch for branch in avro_type if branch != "null"]
        if len(branches) != 1 or len(avro_type) != 2:
            return None
        avro_type = branches[0]
    full = avro_type if isinstance(avro_type, dict) else {"type": avro_type}
    kind = full["type"]
    return _Plain(kind, nullable, full) if kind in _PRIMITIVE or kind in ("enum", "fixed") else None


def _match(
    writer: dict[str, Any], reader: dict[str, Any]
) -> tuple[list[str], list[str], list[tuple[Field, Field | None]]]:
    """(problems, notes, the reader's fields each with the writer's); strips the writer's foreign logical types."""
    problems: list[str] = []
    notes: list[str] = []
    if writer.get("type") != "record":
        return ["the schema is no record"], [], []
    if not _same_name(writer, reader):
        problems.append(f"the record is named {_last(writer)}, and must be named {_last(reader)}")
    by_name = {name: field for field in reader["fields"] for name in field.get("aliases", [])}
    by_name |= {field["name"]: field for field in reader["fields"]}
    found: dict[str, Field] = {}
    for source in writer["fields"]:
        field = by_name.get(source["name"])
        if field is not None and field["name"] in found:
            problems.append(f"{field['name']}: both {found[field['name']]['name']} and {source['name']} stand for it")
        _strip(source, None if field is None else field["type"])
        if field is not None:
            found[field["name"]] = source
    for field in reader["fields"]:
        if field["name"] not in found and "default" not in field:
            problems.append(f"{field['name']}: is missing, and has no default")
    return problems, notes, [(field, found.get(field["name"])) for field in reader["fields"]]


def _strip(source: Field, wanted: Any) -> None:
    """Takes the logical type off a writer's field, unless the reader has the same, or another unit of time."""
    theirs, ours = _plain(source["type"]), None if wanted is None else _plain(wanted)
    if theirs is None or theirs.logical is None:
        return
    if ours is not None and (ours.logical == theirs.logical or {ours.logical, theirs.logical} <= _TIMES):
        return
    theirs.full.pop("logicalType")


def _compare(theirs: _Plain, ours: _Plain) -> tuple[list[str], list[str]]:
    """(why no value resolves, which values do not)."""
    if theirs.kind != ours.kind and ours.kind not in _PROMOTIONS.get(theirs.kind, ()):
        return [f"the writer has {theirs.kind}, which cannot be read as {ours.kind}"], []
    if theirs.kind in ("enum", "fixed") and not _same_name(theirs.full, ours.full):
        return [f"the {theirs.kind} is named {_last(theirs.full)}, and must be named {_last(ours.full)}"], []
    if theirs.kind == "fixed" and theirs.full["size"] != ours.full["size"]:
        return [f"the writer has {theirs.full['size']} bytes, the reader {ours.full['size']}"], []
    notes = []
    if theirs.nullable and not ours.nullable:
        notes.append("a missing value is refused")
    if theirs.kind == "enum" and (unknown := _unknown(theirs, ours)):
        default = ours.full.get("default")
        notes.append(f"{', '.join(unknown)} " + (f"become {default}" if default else "are refused: unknown symbols"))
    if theirs.kind == "bytes" and ours.kind == "string":
        notes.append("bytes that are no UTF-8 are refused")
    return [], notes


def _convert(column: pl.Expr, theirs: _Plain, ours: _Plain, dtype: pl.DataType) -> tuple[pl.Expr, list[pl.Expr]]:
    """(the column as the reader has it, which rows do not resolve)."""
    doubts = [column.is_null()] if theirs.nullable and not ours.nullable else []
    converted = column
    match theirs.kind, ours.kind:
        case "enum", _:
            converted = column.cast(pl.String)
            if unknown := _unknown(theirs, ours):
                if default := ours.full.get("default"):
                    converted = converted.replace(unknown, [default] * len(unknown))
                else:
                    doubts.append(converted.is_in(unknown))
        case (("int" | "long"), ("float" | "double")):
            converted = column.to_physical().cast(pl.Float64)  # what a float cannot hold is rounded once
        case (("int" | "long"), "long") if ours.logical in _TIMES and theirs.logical is None:
            per_ms = 1 if ours.logical == "timestamp-millis" else 1000
            converted = column.cast(pl.Int64)
            doubts.append(~converted.is_between(_FIRST_MS * per_ms, (_LAST_MS + 1) * per_ms - 1))
    return converted.cast(dtype, strict=False), doubts


def _as_text(avro_type: Any) -> Any:
    """The type of nullable or plain bytes, as text."""
    if isinstance(avro_type, list):
        return [branch if branch == "null" else "string" for branch in avro_type]
    return "string"


def _default(field: Field, dtype: pl.DataType) -> pl.Expr:
    """The reader's default as a column."""
    avro = fastavro.parse_schema({"type": "record", "name": "R", "fields": [field]})
    out = io.BytesIO()
    fastavro.schemaless_writer(out, avro, {})
    record: Any = fastavro.schemaless_reader(io.BytesIO(out.getvalue()), avro, None)
    return pl.lit(pl.Series(field["name"], [record[field["name"]]], dtype)).first()


def _unknown(theirs: _Plain, ours: _Plain) -> list[str]:
    known = set(ours.full["symbols"])
    return [symbol for symbol in theirs.full["symbols"] if symbol not in known]


def _last(named: dict[str, Any]) -> str:
    return str(named["name"]).rpartition(".")[2]


def _same_name(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Names match without their namespace, or through an alias of the reader's (Avro 1.12, Schema Resolution)."""
    names = {_last(theirs), str(theirs["name"])}
    if "namespace" in theirs:
        names.add(f"{theirs['namespace']}.{theirs['name']}")
    aliases = set(ours.get("aliases", []))
    return _last(theirs) == _last(ours) or bool(names & (aliases | {alias.rpartition(".")[2] for alias in aliases}))
