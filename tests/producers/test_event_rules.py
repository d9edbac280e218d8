"""The rules of the door, one by one, and on anything at all."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.encoder import EventEncoder
from producers.event import FIELDS, ClientEvent, event_id_of, from_json, from_object, milliseconds
from schemas.codec import Codec
from schemas.reasons import BadRecordError, Reason

NOW = 1_790_000_000_000
GOOD: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "u1",
    "track_id": "t1",
    "timestamp": "2026-01-15T09:30:00.123Z",
    "platform": "spotify",
}


def reason_of(raw: bytes | dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(BadRecordError) as caught:
        from_json(raw, NOW) if isinstance(raw, bytes) else from_object(raw, NOW)
    return caught.value.reason.value, caught.value.field


REFUSED = [
    ({"event_type": "rewind"}, "unknown_type", "event_type"),
    ({"event_type": "PLAY"}, "unknown_type", "event_type"),
    ({"event_type": None}, "unknown_type", "event_type"),
    ({"event_type": ["play"]}, "unknown_type", "event_type"),
    ({"event_id": None}, "missing_id", "event_id"),
    ({"event_id": ""}, "missing_id", "event_id"),
    ({"user_id": 17}, "missing_id", "user_id"),
    ({"track_id": {"id": 1}}, "missing_id", "track_id"),
    ({"platform": ""}, "missing_id", "platform"),
    ({"event_id": "x" * 257}, "id_too_long", "event_id"),
    ({"session_id": "x" * 257}, "id_too_long", "session_id"),
    ({"timestamp": None}, "bad_timestamp", "timestamp"),
    ({"timestamp": "2026-01-15T09:30:00"}, "bad_timestamp", "timestamp"),
    ({"timestamp": "yesterday"}, "bad_timestamp", "timestamp"),
    ({"timestamp": "1790000000000"}, "bad_timestamp", "timestamp"),
    ({"timestamp": True}, "bad_timestamp", "timestamp"),
    ({"timestamp": -5}, "bad_timestamp", "timestamp"),
    ({"timestamp": 0}, "bad_timestamp", "timestamp"),
    ({"timestamp": "0001-01-01T00:00:00+14:00"}, "bad_timestamp", "timestamp"),
    ({"timestamp": float("nan")}, "bad_timestamp", "timestamp"),
    ({"timestamp": NOW + 3_600_001}, "future_timestamp", "timestamp"),
    ({"timestamp": 10**30}, "future_timestamp", "timestamp"),
    ({"sent_at": "soon"}, "bad_timestamp", "sent_at"),
    ({"sent_at": 10**18}, "bad_timestamp", "sent_at"),
    ({"location": "Ber\x00lin"}, "control_characters", "location"),
    ({"track_name": "a\nb"}, "control_characters", "track_name"),
    ({"artist_name": "a\x85b"}, "control_characters", "artist_name"),
    ({"user_id": "a\x7fb"}, "control_characters", "user_id"),
    ({"location": "\ud800"}, "invalid_utf8", "location"),
    ({"ms_played": -1}, "bad_number", "ms_played"),
    ({"ms_played": 1.5}, "bad_number", "ms_played"),
    ({"ms_played": float("nan")}, "bad_number", "ms_played"),
    ({"ms_played": float("inf")}, "bad_number", "ms_played"),
    ({"ms_played": True}, "bad_number", "ms_played"),
    ({"ms_played": "17"}, "bad_number", "ms_played"),
    ({"position_ms": 604_800_001}, "bad_number", "position_ms"),
    ({"duration_ms": 10**30}, "bad_number", "duration_ms"),
    ({"country": "Germany"}, "bad_field", "country"),
    ({"country": "ß"}, "bad_field", "country"),
    ({"country": 49}, "bad_field", "country"),
    ({"location": {"city": "Berlin"}}, "bad_field", "location"),
    ({"shuffle": 1}, "bad_field", "shuffle"),
]


@pytest.mark.parametrize(("change", "reason", "field"), REFUSED, ids=lambda value: ascii(value)[:40])
def test_a_broken_event_is_refused_with_reason_and_field(change: dict[str, Any], reason: str, field: str) -> None:
    """Each rule has its own reason code, names the field, and judges decoded and undecoded events alike."""
    event = {**GOOD, **change}
    assert reason_of(event) == (reason, field)
    assert reason_of(json.dumps(event).encode()) == (reason, field)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"nonsense", "not_json"),
        (b"[" * 100_000, "too_large"),
        (b"[" * 60_000, "not_json"),
        (b"[]", "not_an_object"),
        (b"17", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"event_id": "\xff"}', "invalid_utf8"),
        (b"\xff\xfe{}", "invalid_utf8"),
        (b'{"event_id": "a\x00b"}', "control_characters"),
        (b'{"x": "' + b"y" * 65_536 + b'"}', "too_large"),
    ],
)
def test_bytes_that_are_no_event_are_refused(raw: bytes, reason: str) -> None:
    """What is no JSON object at all is told apart."""
    assert reason_of(raw)[0] == reason


@pytest.mark.parametrize("name", ["event_id", "event_type", "user_id", "track_id", "timestamp", "platform"])
def test_required_fields_are_required(name: str) -> None:
    """Leaving out a required field is refused under its name."""
    assert reason_of({key: value for key, value in GOOD.items() if key != name})[1] == name


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({}, "timestamp", 1_768_469_400_123),
        ({"timestamp": "2026-01-15T11:30:00.123+02:00"}, "timestamp", 1_768_469_400_123),
        ({"timestamp": 1_768_469_400_123}, "timestamp", 1_768_469_400_123),
        ({"timestamp": 1_768_469_400_123.0}, "timestamp", 1_768_469_400_123),
        ({"timestamp": "2026-01-15T09:30:00.9999Z"}, "timestamp", 1_768_469_400_999),
        ({"timestamp": "1999-12-31T23:59:59Z"}, "timestamp", 946_684_799_000),
        ({"timestamp": NOW + 3_600_000}, "timestamp", NOW + 3_600_000),
        ({"country": "de"}, "country", "DE"),
        ({"country": ""}, "country", None),
        ({"country": None}, "country", None),
        ({"ms_played": 3.0}, "ms_played", 3),
        ({"ms_played": 604_800_000}, "ms_played", 604_800_000),
        ({"event_id": "x" * 256}, "event_id", "x" * 256),
        ({"track_name": "Noël 🎄 \u200d\u00a0"}, "track_name", "Noël 🎄 \u200d\u00a0"),
        ({"unknown": {"any": ["thing", float("nan")]}}, "event_id", "e1"),
        ({"tenant": "somebody else", "source": 5, "received_at": "never"}, "event_id", "e1"),
        ({"device_timestamp": "the door's"}, "device_timestamp", None),
        ({"incognito": False}, "user_id", "u1"),
        ({"incognito": True}, "user_id", None),
        ({"incognito": True, "session_id": "s1"}, "session_id", None),
        ({"incognito": True, "user_id": None}, "user_id", None),
    ],
)
def test_a_good_event_is_taken_and_normalised(change: dict[str, Any], field: str, expected: object) -> None:
    """Times become milliseconds, countries upper case; unknown fields and the fields that we set are ignored."""
    event = {**GOOD, **change}
    assert getattr(from_object(event, NOW), field) == expected
    assert from_json(json.dumps(event).encode(), NOW) == from_object(event, NOW)


def test_the_id_of_a_refused_event_is_told_only_when_it_is_usable() -> None:
    """A dead letter names the event_id unless that is itself the trouble."""
    assert event_id_of({"event_id": "e1"}) == "e1"
    assert [event_id_of(value) for value in ({"event_id": "a\x00"}, {"event_id": 5}, [], {"event_id": "x" * 300})] == [
        None
    ] * 4


def test_milliseconds_names_the_field() -> None:
    """Importers use the same clock reader and their own field names."""
    with pytest.raises(BadRecordError, match="endTime") as caught:
        milliseconds("2026-13-01T00:00:00Z", "endTime")
    assert caught.value.reason is Reason.BAD_TIMESTAMP


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.text(min_size=250, max_size=260),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
EVENTS = st.dictionaries(st.sampled_from([*FIELDS, "other"]), VALUES, max_size=6).map(lambda change: {**GOOD, **change})
CODEC = Codec("listening_event")


@given(EVENTS)
@settings(deadline=None)
def test_any_object_is_refused_with_a_reason_or_fits_the_schema(event: dict[str, Any]) -> None:
    """The rules raise nothing but BadRecordError, and what passes them can always be written and read back."""
    try:
        taken = from_object(event, NOW)
    except BadRecordError as error:
        assert error.reason in set(Reason)
        return
    encoder = EventEncoder(CODEC, "default", "collector", lambda user: "p" * 32)
    _, value = encoder.encode(taken, NOW)
    back = CODEC.decode(value)
    assert back["event_id"] == event["event_id"]
    assert len(CODEC.columns([value]).frame) == 1


@given(st.binary(max_size=64) | EVENTS.map(lambda event: json.dumps(event).encode()))
def test_any_bytes_are_refused_with_a_reason_or_taken(raw: bytes) -> None:
    """No bytes make the rules fail in another way, and the quick decoder never lets in what the careful one refuses."""
    try:
        taken = from_json(raw, NOW)
    except BadRecordError:
        return
    assert isinstance(taken, ClientEvent)
    try:
        decoded = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        decoded = json.loads(raw)
    assert from_object(decoded, NOW) == taken
