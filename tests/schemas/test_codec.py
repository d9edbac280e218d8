"""Avro on the wire: fastavro is the reference, columns are the speed."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, schema
from schemas.layout import Layout, Values
from schemas.reasons import BadRecordError, Reason
from schemas.settings import Settings
from schemas.texts import hash_names, hashed
from schemas.topics import topics
from schemas.walk import varint

NAMES = [topic.schema for topic in topics(Settings()) if topic.schema]
text = st.text(max_size=12)


def values_of(avro_type: Any) -> st.SearchStrategy[Any]:
    """Any value of an Avro type, with the corners of integers and doubles."""
    if isinstance(avro_type, list):
        return st.one_of(*(values_of(branch) for branch in avro_type))
    if isinstance(avro_type, dict):
        match avro_type["type"]:
            case "record":
                return st.fixed_dictionaries({f["name"]: values_of(f["type"]) for f in avro_type["fields"]})
            case "enum":
                return st.sampled_from(avro_type["symbols"])
            case "array":
                return st.lists(values_of(avro_type["items"]), max_size=3)
            case "long":
                return st.integers(-(10**10), 4 * 10**12)  # what a datetime holds
    return {
        "null": st.none(),
        "string": text,
        "bytes": st.binary(max_size=12),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(allow_nan=False),
    }[avro_type]


@pytest.mark.parametrize("registry_id", [None, 5], ids=["single-object", "confluent"])
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_columns_are_what_fastavro_reads(name: str, registry_id: int | None, data: st.DataObject) -> None:
    """For every schema: encode, then read as columns and one by one, gives the same records."""
    codec = Codec(name, registry_id)
    records = data.draw(st.lists(values_of({"type": "record", "fields": codec.fields}), min_size=1, max_size=5))
    values = [codec.encode(record) for record in records]
    columns = codec.columns(values)
    assert columns.bad == []
    assert columns.frame.to_dicts() == [codec.decode(value) for value in values]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "track_insight"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_each_record_ends_where_it_ends(name: str, data: st.DataObject) -> None:
    """A record is right between its own ends alone: a byte less or more, and it is not; its neighbours stay right."""
    codec = Codec(name)
    layout, prefix = Layout(codec.fields), codec.prefixes[0].data
    records = data.draw(st.lists(values_of({"type": "record", "fields": codec.fields}), min_size=1, max_size=5))
    values = Values.of([codec.encode(record) for record in records])
    assert layout.read(values, prefix)[1].all()
    row = data.draw(st.integers(0, len(records) - 1))
    moved = values.ends.copy()
    moved[row] += -1 if row == len(records) - 1 else data.draw(st.sampled_from([-1, 1]))
    right = layout.read(Values(values.data, values.starts, moved), prefix)[1]
    assert right.tolist() == [i != row for i in range(len(records))]


@given(st.one_of(st.text(max_size=15).map(str.encode), st.binary(max_size=63)), st.booleans())
@settings(max_examples=1000, deadline=None)
def test_text_is_utf8_when_python_says_so(data: bytes, is_last: bool) -> None:
    """A text is right when bytes.decode takes it, and is read as that, also where nothing stands behind it."""
    value = bytes([2 * len(data)]) + data
    values = Values.of([value] if is_last else [value, bytes(20)])
    frame, right = Layout([{"name": "it", "type": "string"}]).read(values)
    try:
        expected = data.decode()
    except UnicodeDecodeError:
        assert not right[0]
    else:
        assert right[0]
        assert frame["it"][0] == expected


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=12))
@settings(max_examples=300, deadline=None)
def test_numbers_are_read_in_their_shortest_form_only(number: int, noise: bytes) -> None:
    """What fastavro writes is read back; any other bytes are a number only when fastavro writes them so."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    written = np.frombuffer(out.getvalue(), np.uint8)
    assert varint(written, 0, len(written)) == (number, len(written))
    assert varint(written, 0, len(written) - 1)[1] == -1
    found, end = varint(np.frombuffer(noise, np.uint8), 0, len(noise))
    if end >= 0:
        again = io.BytesIO()
        fastavro.schemaless_writer(again, "long", int(found))
        assert again.getvalue() == noise[:end]


def test_columns_that_nobody_wants_are_judged_all_the_same() -> None:
    """A codec for some columns gives these alone, and refuses what the whole codec refuses."""
    whole, part = Codec("track"), Codec("track", wanted=["track_id"])
    value = whole.encode({"track_id": "t", "tenant": "default", "first_seen_at": 1, "isrc": "i"})
    values = [value, value[:-1], value]
    assert part.columns(values).frame.to_dict(as_series=False) == {"track_id": ["t", "t"]}
    assert part.columns(values).bad[0][0] == whole.columns(values).bad[0][0] == 1
    assert part.columns([b""]).frame.columns == ["track_id"]


def test_the_fingerprint_is_little_endian_crc_64_avro() -> None:
    """Single-object encoding as Avro 1.12 states it: C3 01, then the fingerprint with its lowest byte first."""
    prefix = Codec("listening_event").prefixes[0].data
    canonical = fastavro.schema.to_parsing_canonical_form(schema("listening_event"))
    rabin, empty = 0xC15D213AA4D7A795, 0xC15D213AA4D7A795
    table = []
    for i in range(256):
        crc = i
        for _ in range(8):
            crc = (crc >> 1) ^ (empty & -(crc & 1))
        table.append(crc)
    for byte in canonical.encode():
        rabin = (rabin >> 8) ^ table[(rabin ^ byte) & 0xFF]
    assert prefix == b"\xc3\x01" + rabin.to_bytes(8, "little")


def test_a_broken_value_among_healthy_ones_is_named_by_its_place() -> None:
    """columns() tells which values are bad and why, and keeps the others in order."""
    codec = Codec("track")
    record = {"track_id": "t", "tenant": "default", "first_seen_at": 1}
    good = codec.encode(record)
    columns = codec.columns([good, good[:-1], b"", good, good + b"!"])
    assert columns.index.tolist() == [0, 3]
    assert [(i, error.reason) for i, error in columns.bad] == [
        (1, Reason.BROKEN_RECORD),
        (2, Reason.UNKNOWN_SCHEMA),
        (4, Reason.BROKEN_RECORD),
    ]


@pytest.mark.parametrize("time_ms", [-62_135_596_800_001, 253_402_300_800_000, 2**62])
def test_a_time_that_no_calendar_holds_is_broken(time_ms: int) -> None:
    """Every reader judges such a record alike, whether it stands alone or in a batch."""
    codec = Codec("track")
    value = codec.encode({"track_id": "t", "tenant": "default", "first_seen_at": time_ms})
    good = codec.encode({"track_id": "t", "tenant": "default", "first_seen_at": 253_402_300_799_999})
    columns = codec.columns([good, value])
    assert [(i, error.reason) for i, error in columns.bad] == [(1, Reason.BROKEN_RECORD)]


def test_a_refusal_says_value_rule_and_what_happens_now() -> None:
    """The detail of a bad record is a sentence that a client developer can act on."""
    with pytest.raises(BadRecordError) as error:
        Codec("track").decode(b"hello")
    assert error.value.detail == (
        "value starts with 68656c6c6f - the value starts with the fingerprint or id of a schema that is known here; "
        "the record is kept in dead-letters"
    )


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_text_has_the_same_hashes_wherever_it_stands(texts: list[str | None]) -> None:
    """The hashes of a text are the same in a record and in a column, 0 without a text, and tell texts apart."""
    fields = [{"name": "before", "type": "long"}, {"name": "it", "type": ["null", "string"]}]
    parsed = fastavro.parse_schema({"type": "record", "name": "R", "fields": fields})
    values = []
    for number, one in enumerate(texts):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, {"before": 7**number, "it": one})
        values.append(out.getvalue())
    frame, right = Layout(fields, hashed=["it"]).read(Values.of(values))
    assert right.all()
    assert frame.drop("before").equals(hashed(pl.DataFrame({"it": texts}, {"it": pl.String}), ["it"]))
    for name in hash_names("it"):
        assert len(set(frame[name].to_list())) == len(set(texts))
        assert all((number == 0) == (one is None) for number, one in zip(frame[name], texts, strict=True))


@pytest.mark.parametrize(
    "form", ["0198c1d2-7b1a-7c3e-9f00-{:012d}", "{:036d}", "spotify:track:{:08x}", "{:06d}/{:06d}"]
)
def test_ids_that_count_up_are_told_apart(form: str) -> None:
    """Of a million ids that differ in a few digits no two have the same hash."""
    ids = [form.format(number, 7 * number) for number in range(1_000_000)]
    frame = hashed(pl.DataFrame({"it": ids}), ["it"])
    assert [frame[name].n_unique() for name in hash_names("it")] == [len(ids), len(ids)]
