"""The OpenAPI document: the event as JSON, examples that work, and every answer."""

from __future__ import annotations

import json
from typing import Any

from producers.collector.answer import VALUE_MAX_CHARACTERS
from producers.collector.body import NDJSON
from producers.collector.problems import MEDIA_TYPE
from producers.event import EVENT_TYPES, FIELDS
from schemas.codec import schema
from schemas.reasons import ID_MAX_CHARACTERS, MEDIA_MAX_MS, RULES

EVENTS_PATH = "/v1/events"
BEACON_PATH = "/v1/beacon"

Json = dict[str, Any]

PLAY: Json = {
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
PAUSE: Json = {
    "event_id": "6f1c-pause",
    "event_type": "pause",
    "user_id": "user-17",
    "track_id": "track-42",
    "timestamp": "2026-01-15T09:33:34.000Z",
    "platform": "custom",
    "ms_played": 214000,
    "reason_end": "trackdone",
}

_TEXT = (
    "Send listening events. An answer says `accepted` only after Kafka has acknowledged. "
    "Reasons of refused events: " + ", ".join(f"`{reason}` ({rule})" for reason, rule in RULES.items()) + "."
)
_VERSION = "3.0.3"  # the newest that the bundled page draws
_PRINTABLE = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"
_LAST_MS = 253_402_300_799_999
_DOOR_ONLY = ("device_timestamp",)
_REQUIRED = ("event_id", "event_type", "track_id", "timestamp", "platform")


def document() -> Json:
    """The whole document."""
    in_query = {"type": "apiKey", "in": "query", "name": "key", "description": "One that everybody may see."}
    return {
        "openapi": _VERSION,
        "info": {"title": "Crossfade collector", "version": "1", "description": _TEXT},
        "paths": {
            EVENTS_PATH: {
                "post": {
                    "summary": "Send events",
                    "description": "One JSON object, an array of them, or one per line; gzip, zstd or deflate.",
                    "operationId": "send_events",
                    "security": [{"key": []}],
                    "requestBody": {"required": True, "content": {**_json_body(), **_ndjson_body()}},
                    "responses": _responses(),
                }
            },
            BEACON_PATH: {
                "post": {
                    "summary": "Send events as a page is left (navigator.sendBeacon)",
                    "description": "The same as text, JSON or one event per line, with the key in the query.",
                    "operationId": "send_beacon",
                    "security": [{"page_key": []}],
                    "requestBody": {"required": True, "content": {"text/plain": _text(json.dumps(PLAY))}},
                    "responses": _responses(),
                }
            },
            "/healthz": _question("The process answers", "healthz", {"in_flight": {"type": "integer"}}, 200),
            "/readyz": _question(
                "Whether events can be taken, and which dependency is not ready",
                "readyz",
                {name: {"type": "string"} for name in ("kafka", "keys", "schema_registry")},
                200,
                503,
            ),
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}, "page_key": in_query},
            "schemas": {"Event": event_schema(), "Answer": _answer(), "Problem": _problem()},
        },
    }


def event_schema() -> Json:
    """JSON schema of one event, from the Avro file."""
    fields = {field["name"]: field for field in schema("listening_event")["fields"]}
    private = {"required": ["incognito"], "properties": {"incognito": {"type": "boolean", "enum": [True]}}}
    somebody = {"required": ["user_id"], "properties": {"user_id": _id()}}
    return {
        "type": "object",
        "required": list(_REQUIRED),
        "properties": {
            name: {**_json_type(name, field["type"]), "description": field["doc"]}
            for name, field in fields.items()
            if name in FIELDS and name not in _DOOR_ONLY
        },
        "anyOf": [somebody, private],
    }


def _json_type(name: str, avro_type: Any) -> Json:
    if isinstance(avro_type, list):
        return {**_json_type(name, avro_type[1]), "nullable": True}
    match name:
        case "timestamp" | "sent_at":
            number = {"type": "integer", "format": "int64", "minimum": 1, "maximum": _LAST_MS}
            return {"anyOf": [{"type": "string", "format": "date-time"}, number]}
        case "event_type":
            return {"type": "string", "enum": list(EVENT_TYPES)}
        case "country":
            return {"type": "string", "pattern": "^([A-Za-z]{2})?$"}
        case "session_id":
            return {"type": "string", "maxLength": ID_MAX_CHARACTERS, "pattern": _PRINTABLE}
    if name.endswith("_id") or name == "platform":
        return _id()
    match avro_type:
        case "int":
            return {"type": "integer", "minimum": 0, "maximum": MEDIA_MAX_MS}
        case "boolean":
            return {"type": "boolean"}
        case _:
            return {"type": "string", "pattern": _PRINTABLE}


def _id() -> Json:
    return {"type": "string", "minLength": 1, "maxLength": ID_MAX_CHARACTERS, "pattern": _PRINTABLE}


def _json_body() -> Json:
    event = {"$ref": "#/components/schemas/Event"}
    return {
        "application/json": {
            "schema": {"anyOf": [event, {"type": "array", "items": event}]},
            "examples": {
                "one": {"summary": "One event", "value": PLAY},
                "several": {"summary": "Several events", "value": [PLAY, PAUSE]},
            },
        }
    }


def _ndjson_body() -> Json:
    return {NDJSON[0]: _text(f"{json.dumps(PLAY)}\n{json.dumps(PAUSE)}\n")}


def _text(example: str) -> Json:
    return {"schema": {"type": "string"}, "example": example}


def _answer() -> Json:
    text = {"type": "string", "nullable": True}
    value = {"type": "string", "maxLength": VALUE_MAX_CHARACTERS}
    result = {
        "type": "object",
        "required": ["event_id", "status", "reason", "detail", "path", "value"],
        "properties": {
            "event_id": text,
            "status": {"type": "string", "enum": ["accepted", "duplicate", "rejected"]},
            "reason": {**text, "enum": [*(str(reason) for reason in RULES), None]},
            "detail": text,
            "path": {**text, "description": "JSON path of what breaks the rule; in NDJSON after the line's number."},
            "value": {
                "nullable": True,
                "anyOf": [value, {"type": "number"}, {"type": "boolean"}],
                "description": "What stands there; long texts are cut, objects and arrays are told as JSON text.",
            },
        },
    }
    counts = {name: {"type": "integer", "minimum": 0} for name in ("accepted", "duplicate", "rejected")}
    return {
        "type": "object",
        "required": [*counts, "results"],
        "properties": {**counts, "results": {"type": "array", "items": result}},
    }


def _problem() -> Json:
    names = ("type", "title", "detail")
    properties = {name: {"type": "string"} for name in names} | {"status": {"type": "integer"}}
    return {"type": "object", "required": list(properties), "properties": properties}


_REFUSALS = {
    400: "The body is no JSON at all, or not of its encoding",
    401: "No key, or an unknown one",
    408: "The body did not arrive in time",
    413: "More than 1 MiB compressed, 10 MiB decompressed, or 50,000 events",
    415: "A media type or encoding that is not taken",
    429: "The key has used its rate, or too much is in flight; see Retry-After",
    503: "Kafka is away; send the same again after Retry-After seconds",
}


def _responses() -> Json:
    """Every answer to a request of events."""
    result = {"event_id": PLAY["event_id"], "status": "accepted"} | dict.fromkeys(("reason", "detail", "path", "value"))
    example = {"accepted": 1, "duplicate": 0, "rejected": 0, "results": [result]}
    limits = {name: _header(text) for name, text in _RATE_HEADERS.items()}
    told: Json = {
        "202": {
            "description": "Kafka has acknowledged every accepted event",
            "headers": {**limits, "Crossfade-Test": _header("`true` with a key of scope test: nothing was stored.")},
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}, "example": example}},
        }
    }
    for status, text in _REFUSALS.items():
        problem: Json = {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": _PROBLEM}}}}
        if status in (429, 503):
            problem["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
        told[str(status)] = problem
    return told


_PROBLEM = "#/components/schemas/Problem"
_RATE_HEADERS = {
    "RateLimit-Policy": "Events that the key may send in a window of seconds.",
    "RateLimit": "Events that are left, and the seconds until all are there again.",
}


def _header(text: str) -> Json:
    return {"description": text, "schema": {"type": "string"}}


def _question(summary: str, name: str, more: Json, *statuses: int) -> Json:
    state = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}, **more}}
    content = {"application/json": {"schema": state}}
    answers = {
        str(status): {"description": "Yes" if status == 200 else "No", "content": content} for status in statuses
    }
    return {"get": {"summary": summary, "operationId": name, "responses": answers}}
