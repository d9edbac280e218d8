"""What a client is told: what became of each event, and of a refused one where and what is wrong."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import msgspec

from producers import event as events
from producers.door import Refused
from schemas.reasons import BadRecordError

VALUE_MAX_CHARACTERS = 200

Status = Literal["accepted", "duplicate", "rejected"]
Value = str | int | float | bool | None


class Result(msgspec.Struct, gc=False):
    """What became of one event; the fields after `status` are null unless it is rejected.

    `path` is the JSON path of what breaks the rule, in NDJSON with the number of the line in front; `value` stands
    there: a long one is cut, an object or array is told as JSON text, what is missing is null.
    """

    event_id: str | None
    status: Status
    reason: str | None = None
    detail: str | None = None
    path: str | None = None
    value: Value = None


class Answer(msgspec.Struct, gc=False):
    """What became of a request's events, in their order."""

    accepted: int
    duplicate: int
    rejected: int
    results: list[Result]

    def encoded(self) -> bytes:
        """As JSON."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode


def rejected(letter: Refused, path: str) -> Result:
    """The result of a refused event that stands at `path`."""
    error = letter.error
    value = _value(letter.payload, error.field)
    where = f"{path}.{error.field}" if error.field else path
    return Result(letter.event_id, "rejected", error.reason.value, error.detail, where, value)


def _value(payload: bytes, field: str) -> Value:
    if not field:
        return _cut(payload[: 4 * VALUE_MAX_CHARACTERS].decode(errors="replace"))
    try:
        found = events.load(payload)
    except BadRecordError:
        return None
    return _shown(found.get(field) if isinstance(found, dict) else None)


def _shown(value: Any) -> Value:
    if isinstance(value, str):
        return _cut(value.encode(errors="backslashreplace").decode())
    if isinstance(value, dict | list):
        return _cut(json.dumps(value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | float) or abs(value) < 1 << 63 else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_MAX_CHARACTERS else text[: VALUE_MAX_CHARACTERS - 3] + "..."
