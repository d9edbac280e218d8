"""Whose records can be read: the schemas of all known writers, found by what stands before the Avro body.

Known are our own schema, its earlier versions (`schemas/history/<name>/`), what was registered by hand
(`<data_dir>/schemas/<name>/`, written by `crossfade schemas register`), and what a schema registry tells by id.

Whether a record can be read must be the same for every reader and every replay, so a schema that is registered by hand
counts from the offsets on where the partitions ended at that moment: what stood before was refused, and stays refused
until it is replayed.
"""

from __future__ import annotations

import copy
import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.evolution import Resolution, resolve
from schemas.layout import Layout
from schemas.reasons import BadRecordError, Reason
from schemas.registry import CachedRegistry, read_json, write_json

Schema = dict[str, Any]

_SINGLE_OBJECT = b"\xc3\x01"
_CONFLUENT = b"\0"
PENDING_S = 10.0
"""A registration that takes longer than this has failed, and readers no longer wait for it."""


@cache
def schema(name: str) -> Schema:
    """The Avro schema of `schemas/<name>.avsc`."""
    loaded: Schema = json.loads((Path(__file__).parent / f"{name}.avsc").read_text())
    return loaded


def history(name: str) -> dict[int, Schema]:
    """All versions of a schema that were ever released, by number; none where no version was kept."""
    files = (Path(__file__).parent / "history" / name).glob("*.avsc")
    return {int(file.stem): json.loads(file.read_text()) for file in sorted(files, key=lambda file: int(file.stem))}


def schema_fingerprint(avro: Schema) -> str:
    """CRC-64-AVRO of the canonical form, in hexadecimal, as it stands in the bytes (lowest byte first).

    Raises what fastavro raises for something that is no Avro schema.
    """
    return str(fingerprint(to_parsing_canonical_form(fastavro.parse_schema(avro)), "CRC-64-AVRO"))


def bare(avro: Schema) -> Schema:
    """The schema without the logical types of its fields: times are plain numbers, which is quicker and never fails."""
    found = copy.deepcopy(avro)
    for field in found.get("fields", []):
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for branch in branches:
            if isinstance(branch, dict):
                branch.pop("logicalType", None)
    return found


def unknown_schema(value: bytes) -> BadRecordError:
    """The refusal of a value whose writer is not known."""
    return BadRecordError(Reason.UNKNOWN_SCHEMA, f"value starts with {value[:10].hex() or 'nothing'}")


@dataclass(frozen=True)
class Prefix:
    """What stands before the Avro body."""

    data: bytes
    BYTES_MAX: ClassVar[int] = 10

    @classmethod
    def single_object(cls, avro: Schema) -> Prefix:
        """C3 01 and the CRC-64-AVRO fingerprint, little-endian (Avro 1.12, Single-object encoding)."""
        return cls(_SINGLE_OBJECT + bytes.fromhex(schema_fingerprint(avro)))

    @classmethod
    def confluent(cls, schema_id: int) -> Prefix:
        """A zero byte and the registry's id, big-endian."""
        return cls(struct.pack(">bI", 0, schema_id))

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)

    @staticmethod
    def of(value: bytes) -> bytes:
        """The bytes of a value that name its schema; empty when it starts like none."""
        if value[:2] == _SINGLE_OBJECT and len(value) >= 10:
            return value[:10]
        return value[:5] if value[:1] == _CONFLUENT and len(value) >= 5 else b""


class Writer:
    """How the records of one known writer are read."""

    def __init__(
        self, prefix: Prefix, avro: Schema, reader: Schema, origin: str, known_from: Mapping[int, int] | None = None
    ) -> None:
        self.prefix, self.origin, self.known_from = prefix, origin, known_from
        self.is_reader = avro == reader
        self.resolution = Resolution([], [], avro, avro["fields"], None) if self.is_reader else resolve(avro, reader)
        self.parsed = fastavro.parse_schema(self.resolution.writer)
        self.bare = fastavro.parse_schema(bare(self.resolution.writer))
        self.layout = Layout(self.resolution.columns)

    @property
    def is_columnar(self) -> bool:
        """Whether its records are read as columns; otherwise fastavro reads one after the other."""
        return self.layout.exact and (self.is_reader or self.resolution.projection is not None)

    def project(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, npt.NDArray[np.bool_] | None]:
        """The reader's columns, and which rows do not resolve (None: all do)."""
        if self.is_reader:
            return frame, None
        assert self.resolution.projection is not None
        return self.resolution.projection(frame)

    def knows(self, partition: int, offset: int) -> bool:
        """Whether the schema was known when this record came."""
        return self.known_from is None or offset >= self.known_from.get(partition, 0)


class Writers:
    """The known writers of records that are read with one schema.

    `home` is the directory of what was registered by hand, `registry` answers for ids; both may be None.
    """

    def __init__(
        self,
        reader: Schema,
        registry_id: int | None = None,
        home: Path | None = None,
        registry: CachedRegistry | None = None,
    ) -> None:
        self.reader, self._home, self._registry = reader, home, registry
        self._known: dict[bytes, Writer] = {}
        self.prefixes = [Prefix.single_object(self.reader)]
        if registry_id is not None:
            self.prefixes.insert(0, Prefix.confluent(registry_id))
        for prefix in self.prefixes:
            self.add(prefix, self.reader, "this release")

    @classmethod
    def named(
        cls,
        name: str,
        registry_id: int | None = None,
        home: Path | None = None,
        registry: CachedRegistry | None = None,
    ) -> Writers:
        """Those of `schemas/<name>.avsc`, with its earlier versions."""
        writers = cls(schema(name), registry_id, None if home is None else home / name, registry)
        for version, avro in history(name).items():
            prefix = Prefix.single_object(avro)
            if prefix.data not in writers._known:
                writers.add(prefix, avro, f"version {version}")
        return writers

    def add(self, prefix: Prefix, avro: Schema, origin: str, known_from: Mapping[int, int] | None = None) -> Writer:
        """Makes a writer known to this reader."""
        writer = self._known[prefix.data] = Writer(prefix, avro, self.reader, origin, known_from)
        return writer

    def find(self, value: bytes) -> Writer:
        """The writer of a record.

        Raises BadRecordError (unknown_schema), and SchemaUnavailableError when the registry has to be asked and does
        not answer: then the record must wait.
        """
        start = Prefix.of(value)
        writer = self._known.get(start) or self._registered(start) or self._of_registry(start)
        if writer is None:
            raise unknown_schema(value)
        if writer.resolution.problems:
            raise BadRecordError(Reason.UNKNOWN_SCHEMA, f"{writer.origin}: {writer.resolution.problems[0]}")
        return writer

    def built_in(self, start: bytes) -> Writer | None:
        """The writer of records that start so, if this release knows it by itself."""
        return self._known.get(start)

    def _registered(self, start: bytes) -> Writer | None:
        if self._home is None or not start:
            return None
        found = read_json(self._home / f"{start.hex()}.json")
        while found is not None and found["known_from"] is None and time.time() - found["at"] < PENDING_S:
            time.sleep(0.02)  # a command is just asking where the partitions end
            found = read_json(self._home / f"{start.hex()}.json")
        return None if found is None or found["known_from"] is None else self._add_registered(found)

    def _add_registered(self, found: Mapping[str, Any]) -> Writer:
        start = bytes.fromhex(found["start"])
        prefix = Prefix(start)
        known_from = {int(partition): int(offset) for partition, offset in found["known_from"].items()}
        return self.add(prefix, found["schema"], f"registered, {found['file']}", known_from)

    def _of_registry(self, start: bytes) -> Writer | None:
        if self._registry is None or len(start) != 5:
            return None
        schema_id = int.from_bytes(start[1:], "big")
        avro = self._registry.schema(schema_id)
        if avro is None:
            return None
        try:
            return self.add(Prefix.confluent(schema_id), avro, f"registry, id {schema_id}")
        except Exception as error:  # fastavro names many kinds of what is no schema
            raise BadRecordError(Reason.UNKNOWN_SCHEMA, f"registry, id {schema_id}: {error}") from None

    def all(self) -> Iterator[Writer]:
        """Every known writer; those of the registry as far as somebody asked for them."""
        if self._home is not None:
            for file in sorted(self._home.glob("*.json")):
                found = read_json(file)
                if found is not None and found["known_from"] is not None:
                    self._add_registered(found)
        for schema_id, avro in (self._registry.verdicts() if self._registry else {}).items():
            if avro is not None and (start := Prefix.confluent(schema_id).data) not in self._known:
                self._of_registry(start)
        yield from self._known.values()

    def register(self, avro: Schema, start: bytes, file: str, ends: Callable[[], Mapping[int, int]]) -> None:
        """Makes a schema known, from where the partitions end now; `ends` asks Kafka.

        Readers that meet a record of it meanwhile wait for the answer. A schema that was registered before keeps its
        offsets, unless the topic has been made anew. Raises TimeoutError when Kafka takes too long.
        """
        assert self._home is not None
        place, began = self._home / f"{start.hex()}.json", time.time()
        entry = {"start": start.hex(), "file": file, "schema": avro, "at": began, "known_from": None}
        before = (read_json(place) or {}).get("known_from")
        if before is None:
            write_json(place, entry, replace=True)
        known_from = dict(ends())
        if before is not None:
            known_from = {p: min(end, before.get(str(p), 0)) for p, end in known_from.items()}
        elif time.time() - began > PENDING_S / 2:
            place.unlink()
            raise TimeoutError("Kafka took too long to tell where its partitions end: nothing was registered.")
        write_json(place, {**entry, "known_from": known_from}, replace=True)
