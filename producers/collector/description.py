"""What the OpenAPI page says: the event as JSON, examples that work, and the answers."""

from __future__ import annotations

from typing import Any

from producers.collector.problems import MEDIA_TYPE
from producers.event import EVENT_TYPES, FIELDS
from schemas.codec import schema
from schemas.reasons import ID_MAX_CHARACTERS, MEDIA_MAX_MS, RULES

PLAY = {
    "event_id": "6f1c-play",
    "event_type": "play",
    "user_id": "user-17",
    "track_id": "track-42",
    "timestamp": "2026-01-15T09:30:00.000Z",
    "platform": "custom",
    "location": "Berlin",
    "country": "DE",
    "device": "mobile",
    "track_name": "Midnight Road",
    "artist_name": "The Iron Wolves",
    "duration_ms": 214000,
}
PAUSE = {
    "event_id": "6f1c-pause",
    "event_type": "pause",
    "user_id": "user-17",
    "track_id": "track-42",
    "timestamp": "2026-01-15T09:33:34.000Z",
    "platform": "custom",
    "ms_played": 214000,
    "reason_end": "trackdone",
}

TEXT = (
    "Send listening events. An answer says `accepted` only after Kafka has acknowledged. "
    "Reasons of refused events: " + ", ".join(f"`{reason}` ({rule})" for reason, rule in RULES.items()) + "."
)


def event_schema() -> dict[str, Any]:
    """JSON schema of one event, from the Avro file."""
    fields = {field["name"]: field for field in schema("listening_event")["fields"]}
    return {
        "type": "object",
        "required": ["event_id", "event_type", "user_id", "track_id", "timestamp", "platform"],
        "properties": {
            name: {**_json_type(name, field["type"]), "description": field["doc"]}
            for name, field in fields.items()
            if name in FIELDS
        },
    }


def _json_type(name: str, avro_type: Any) -> dict[str, Any]:
    if isinstance(avro_type, list):
        return {**_json_type(name, avro_type[1]), "nullable": True}
    if name in ("timestamp", "sent_at"):
        return {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "format": "int64"}]}
    if name == "event_type":
        return {"type": "string", "enum": list(EVENT_TYPES)}
    if name == "country":
        return {"type": "string", "pattern": "^[A-Za-z]{2}$"}
    if name.endswith("_id") or name == "platform":
        return {"type": "string", "minLength": 1, "maxLength": ID_MAX_CHARACTERS}
    match avro_type:
        case "int":
            return {"type": "integer", "minimum": 0, "maximum": MEDIA_MAX_MS}
        case "boolean":
            return {"type": "boolean"}
        case _:
            return {"type": "string"}


def request_body() -> dict[str, Any]:
    """The three forms of a body, with examples."""
    event = event_schema()
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [event, {"type": "array", "items": event}]},
                "examples": {
                    "one": {"summary": "One event", "value": PLAY},
                    "several": {"summary": "Several events", "value": [PLAY, PAUSE]},
                },
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }


def responses() -> dict[int | str, dict[str, Any]]:
    """Every answer of POST /v1/events."""
    result = {
        "type": "object",
        "required": ["event_id", "status", "reason", "detail"],
        "properties": {
            "event_id": {"type": "string", "nullable": True},
            "status": {"type": "string", "enum": ["accepted", "duplicate", "rejected"]},
            "reason": {"type": "string", "nullable": True, "enum": [*(str(reason) for reason in RULES), None]},
            "detail": {"type": "string", "nullable": True},
        },
    }
    counts = {name: {"type": "integer"} for name in ("accepted", "duplicate", "rejected")}
    answer = {"type": "object", "properties": {**counts, "results": {"type": "array", "items": result}}}
    problem = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("type", "title", "detail")}
        | {"status": {"type": "integer"}},
    }
    refusals = {
        400: "The body is not JSON, or not gzip",
        401: "No key, or an unknown one",
        408: "The body did not arrive in time",
        413: "More than 1 MiB compressed or 10 MiB decompressed",
        415: "A media type or encoding that is not taken",
        429: "Too much is in flight; see Retry-After",
        503: "Kafka is away; send the same again after Retry-After seconds",
    }
    example = {
        "accepted": 1,
        "duplicate": 0,
        "rejected": 0,
        "results": [{"event_id": PLAY["event_id"], "status": "accepted", "reason": None, "detail": None}],
    }
    accepted = {"application/json": {"schema": answer, "example": example}}
    told: dict[int | str, dict[str, Any]] = {
        202: {"description": "Kafka has acknowledged every accepted event", "content": accepted}
    }
    for status, text in refusals.items():
        told[status] = {"description": text, "content": {MEDIA_TYPE: {"schema": problem}}}
    return told
