"""Records of other writers' schemas: columns say what fastavro's schema resolution says, value by value."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, schema
from schemas.evolution import resolve
from schemas.reasons import Reason
from schemas.writers import Prefix, Writers, history

Schema = dict[str, Any]
NARROWER = {
    "long": ["int", "long"],
    "float": ["int", "long", "float"],
    "double": ["int", "long", "float", "double"],
    "string": ["bytes", "string"],
    "bytes": ["string", "bytes"],
}
KINDS = ["boolean", "int", "long", "float", "double", "string", "bytes", "enum", "time"]
TIME = {"type": "long", "logicalType": "timestamp-millis"}
text = st.text(max_size=70) | st.text("abc", max_size=3)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70),
    "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**10), 4 * 10**12),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": text,
    "bytes": st.binary(max_size=9) | text.map(str.encode),
}
DEFAULTS = {"boolean": True, "int": 7, "long": -7, "float": 0.5, "double": 0.25, "string": "ü", "bytes": "b", "time": 9}


def value_of(avro_type: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro_type, list):
        return st.one_of(*(value_of(branch) for branch in avro_type))
    if isinstance(avro_type, dict):
        match avro_type["type"]:
            case "enum":
                return st.sampled_from(avro_type["symbols"])
            case "map":
                return st.dictionaries(text, st.integers(-5, 5), max_size=2)
            case "array":
                return st.lists(text, max_size=2)
        return st.integers(-(10**13), 4 * 10**12)
    return st.none() if avro_type == "null" else VALUES[avro_type]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """(writer, reader), related by every kind of evolution."""
    theirs: list[Any] = []
    ours: list[Any] = []
    for number in range(draw(st.integers(1, 5))):
        kind, name = draw(st.sampled_from(KINDS)), f"f{number}"
        symbols = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
        enum = {"type": "enum", "name": f"E{number}", "symbols": symbols}
        if draw(st.booleans()):
            enum["default"] = symbols[0]
        reader_type: Any = {"enum": enum, "time": TIME}.get(kind, kind)
        writer_type: Any = reader_type
        if kind in NARROWER:
            writer_type = draw(st.sampled_from(NARROWER[kind]))
        elif kind == "time":
            writer_type = draw(st.sampled_from([TIME, "long", "int"]))
        elif kind == "enum":
            more = draw(st.permutations(["a", "b", "c", "d", "e"]))
            writer_type = {"type": "enum", "name": f"E{number}", "symbols": more[: draw(st.integers(1, 5))]}
        field: dict[str, Any] = {"name": name, "type": reader_type}
        if kind != "enum" and draw(st.booleans()):
            field |= {"type": ["null", reader_type], "default": None}
        elif kind != "bytes" and draw(st.booleans()):  # fastavro takes the default of bytes for text
            field["default"] = DEFAULTS.get(kind, symbols[0])
        if draw(st.integers(0, 3)) == 0:
            writer_type = draw(st.sampled_from([["null", writer_type], [writer_type, "null"]]))
        source = {"name": name, "type": writer_type}
        if draw(st.integers(0, 3)) == 0:
            source["name"], field["aliases"] = f"old{number}", [f"old{number}"]
        ours.append(field)
        if not ("default" in field and draw(st.integers(0, 3)) == 0):
            theirs.append(source)
    extra = [
        "int",
        "string",
        ["null", "bytes"],
        TIME,
        {"type": "map", "values": "int"},
        {"type": "array", "items": "string"},
    ]
    for number in range(draw(st.integers(0, 2))):
        theirs.append({"name": f"x{number}", "type": draw(st.sampled_from(extra))})
    theirs = draw(st.permutations(theirs))
    return ({"type": "record", "name": "R", "fields": theirs}, {"type": "record", "name": "R", "fields": ours})


def written(avro: Schema, record: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(avro), record)
    return out.getvalue()


def reference(body: bytes, writer: Schema, reader: Schema) -> Any:
    """What fastavro makes of a body, written as the reader writes it; None when it refuses."""
    try:
        record = fastavro.schemaless_reader(
            io.BytesIO(body), fastavro.parse_schema(writer), fastavro.parse_schema(reader)
        )
        return fastavro.schemaless_reader(io.BytesIO(written(reader, record)), fastavro.parse_schema(reader), None)
    except Exception:
        return None


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_columns_of_another_writer_are_what_fastavro_resolves(data: st.DataObject) -> None:
    """Added, removed, renamed, widened, reordered fields, other enums, lost nulls: the same rows, the same refusals."""
    writer, reader = data.draw(pairs())
    records = data.draw(
        st.lists(st.fixed_dictionaries({f["name"]: value_of(f["type"]) for f in writer["fields"]}), max_size=6)
    )
    prefix = Prefix.single_object(writer)
    bodies = [written(writer, record) for record in records]
    writers = Writers(reader)
    known = writers.add(prefix, writer, "test")
    codec = Codec("test", writers=writers)
    expected = [reference(body, writer, reader) for body in bodies]
    columns = codec.columns([prefix.data + body for body in bodies])
    if known.resolution.problems:
        assert not any(expected)
        assert len(columns.bad) == len(bodies)
        return
    assert columns.index.tolist() == [i for i, row in enumerate(expected) if row is not None]
    assert columns.frame.to_dicts() == [row for row in expected if row is not None]
    assert [i for i, _ in columns.bad] == [i for i, row in enumerate(expected) if row is None]
    assert columns.frame.schema == codec.empty().schema
    if known.is_columnar and not columns.bad:
        assert columns.singly == 0


OURS = schema("listening_event")
FIELDS = {field["name"]: field for field in OURS["fields"]}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({**FIELDS, "track_id": None}, "track_id: is missing, and has no default"),
        (
            {**FIELDS, "tenant": {"name": "tenant", "type": "int"}},
            "tenant: the writer has int, which cannot be read as string",
        ),
        (
            {**FIELDS, "position_ms": {"name": "position_ms", "type": "long"}},
            "position_ms: the writer has long, which cannot be read as int",
        ),
        (
            {
                **FIELDS,
                "event_type": {"name": "event_type", "type": {"type": "enum", "name": "Kind", "symbols": ["play"]}},
            },
            "event_type: the enum is named Kind, and must be named EventType",
        ),
    ],
)
def test_a_schema_that_cannot_be_read_says_why(fields: dict[str, Any], problem: str) -> None:
    """The problem names field and rule; no record of such a writer is read."""
    writer = {**OURS, "fields": [field for field in fields.values() if field]}
    assert problem in resolve(writer, OURS).problems


def test_what_may_be_refused_is_noted() -> None:
    """A writer with more symbols, or with nulls where we have none, can be read; the values in question cannot."""
    symbols = [*FIELDS["event_type"]["type"]["symbols"], "rewind"]
    theirs = {
        **FIELDS,
        "event_type": {"name": "event_type", "type": {**FIELDS["event_type"]["type"], "symbols": symbols}},
        "tenant": {"name": "tenant", "type": ["null", "string"]},
    }
    found = resolve({**OURS, "fields": list(theirs.values())}, OURS)
    assert (found.problems, found.notes) == (
        [],
        ["event_type: rewind are refused: unknown symbols", "tenant: a missing value is refused"],
    )


def test_microseconds_become_milliseconds() -> None:
    """Another unit of time is converted, not misread."""
    micros = {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    writer = {**OURS, "fields": [micros if f["name"] == "timestamp" else f for f in OURS["fields"]]}
    prefix, writers = Prefix.confluent(5), Writers(OURS)
    writers.add(prefix, writer, "test")
    codec = Codec("test", writers=writers)
    plain = {**EVENT, "timestamp": 1_700_000_000_123_456}
    values = [prefix.data + written(writer, plain), prefix.data + written(writer, {**plain, "timestamp": -1})]
    found = codec.columns(values)
    assert found.frame["timestamp"].dt.epoch("ms").to_list() == [1_700_000_000_123, -1]
    assert [codec.decode(value)["timestamp"] for value in values] == found.frame["timestamp"].to_list()


def test_every_released_version_can_be_read_without_loss() -> None:
    """All versions kept in schemas/history resolve; the newest is this release's (add one on change)."""
    versions = history("listening_event")
    assert list(versions) == list(range(1, len(versions) + 1))
    assert versions[len(versions)] == OURS
    for avro in versions.values():
        found = resolve(avro, OURS)
        assert (found.problems, found.notes) == ([], [])


def test_writers_of_many_schemas_mix_in_one_batch() -> None:
    """Old, new, foreign and unknown writers, and a broken value among them: each judged by its own schema, in order."""
    old = {**OURS, "fields": [f for f in OURS["fields"] if f["name"] not in ("isrc", "session_id")]}
    registered, unknown = Prefix.confluent(77), Prefix.confluent(78)
    writers = Writers(OURS, 12)
    writers.add(Prefix.single_object(old), old, "old")
    writers.add(registered, {**OURS, "fields": OURS["fields"][::-1]}, "registry")
    codec = Codec("test", writers=writers)
    event = {**EVENT, "session_id": "s", "isrc": "i"}
    values = [
        codec.encode(event),
        Prefix.single_object(old).data + written(old, event),
        registered.data + written({**OURS, "fields": OURS["fields"][::-1]}, event),
        unknown.data + written(OURS, event),
        Prefix.single_object(OURS).data + written(OURS, event),
        registered.data + written(OURS, event),
        b"",
    ] * 3
    found = codec.columns(values)
    assert found.index.tolist() == [i for i in range(21) if i % 7 in (0, 1, 2, 4)]
    assert found.frame["isrc"].to_list() == ["i", None, "i", "i"] * 3
    assert [(i, error.reason) for i, error in found.bad] == [
        (i, Reason.BROKEN_RECORD if i % 7 == 5 else Reason.UNKNOWN_SCHEMA) for i in range(21) if i % 7 in (3, 5, 6)
    ]
    for i, row in zip(found.index, found.frame.to_dicts(), strict=True):
        assert codec.decode(values[i]) == row


EVENT: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "ann",
    "track_id": "t1",
    "timestamp": 1_700_000_000_000,
    "platform": "custom",
    "tenant": "default",
    "source": "replay",
    "received_at": 1_700_000_000_000,
}
