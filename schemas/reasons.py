"""Why a record is refused: the one list of reason codes, from the doors to the page."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A reason code; its text is what a client developer reads in docs/event.md."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_UTF8 = "invalid_utf8"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_ID = "missing_id"
    ID_TOO_LONG = "id_too_long"
    CONTROL_CHARACTERS = "control_characters"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    BAD_NUMBER = "bad_number"
    BAD_FIELD = "bad_field"
    TOO_LARGE = "too_large"
    UNKNOWN_SCHEMA = "unknown_schema"
    BROKEN_RECORD = "broken_record"
    CLOCK = "clock"


RULES: dict[Reason, str] = {
    Reason.NOT_JSON: "the line or body is not JSON",
    Reason.NOT_AN_OBJECT: "an event is one JSON object",
    Reason.INVALID_UTF8: "text is UTF-8",
    Reason.UNKNOWN_TYPE: "event_type is play, pause, skip, like or share",
    Reason.MISSING_ID: "event_id, user_id, track_id and platform are strings that are not empty",
    Reason.ID_TOO_LONG: "an id has at most 256 characters",
    Reason.CONTROL_CHARACTERS: "text holds no control characters",
    Reason.BAD_TIMESTAMP: "timestamp is ISO 8601 with a zone, or milliseconds since 1970",
    Reason.FUTURE_TIMESTAMP: "timestamp is at most 1 hour ahead of our clock",
    Reason.BAD_NUMBER: "numbers are whole, not negative, and possible: position and duration below 7 days",
    Reason.BAD_FIELD: "the field has the type that docs/event.md states",
    Reason.TOO_LARGE: "an event has at most 64 KiB",
    Reason.UNKNOWN_SCHEMA: "the value starts with the fingerprint or id of a schema that is known here",
    Reason.BROKEN_RECORD: "the value is exactly one Avro record of its schema",
    Reason.CLOCK: "the device's clock is at most 1 hour ahead of the arrival",
}
"""The rule behind each code, as the detail of an answer or dead letter states it."""

ID_MAX_CHARACTERS = 256
FUTURE_MAX_MS = 3_600_000
MEDIA_MAX_MS = 7 * 24 * 3_600_000
EVENT_MAX_BYTES = 64 << 10


class BadRecordError(ValueError):
    """A record that is refused; `detail` says the value, the rule, and what happens now."""

    def __init__(self, reason: Reason, value: str, field: str = "") -> None:
        place = f"{field}: " if field else ""
        shown = value if len(value) <= 120 else value[:117] + "..."
        self.reason = reason
        self.field = field
        self.detail = f"{place}{shown} - {RULES[reason]}; the record is kept in dead-letters"
        super().__init__(self.detail)
