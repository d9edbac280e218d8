"""What schemathesis asks of the collector beyond its own checks; loaded by test_contract.py."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import schemathesis

from producers.collector.description import EVENTS_PATH, event_schema
from schemas.reasons import Reason

OF_TIME = {Reason.FUTURE_TIMESTAMP.value, Reason.BAD_TIMESTAMP.value}
"""What a schema cannot say: how far from now a time may be."""


def _plain(schema: Any) -> Any:
    """A schema of OpenAPI 3.0 in the words of JSON Schema: `nullable` is a type of its own there."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _plain(part) for name, part in schema.items() if name != "nullable"}
    return {"anyOf": [{"type": "null"}, plain]} if schema.get("nullable") is True else plain


EVENT = jsonschema_rs.Draft202012Validator(_plain(event_schema()), validate_formats=True)


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Lines of text as they are."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.check
def judged_as_described(_: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """An event that the documented schema refuses is rejected, and one that it takes is not."""
    sent_as = response.request.headers.get("Content-Type", "")
    if case.path != EVENTS_PATH or response.status_code != 202 or sent_as != "application/json":
        return
    try:
        told = json.loads(response.request.body)
    except ValueError:  # not UTF-8, or no JSON: other tests tell what becomes of it
        return
    events = told if isinstance(told, list) else [told]
    answer = response.json()
    assert len(events) == len(answer["results"]) == sum(answer[name] for name in ("accepted", "duplicate", "rejected"))
    for event, result in zip(events, answer["results"], strict=True):
        rejected = result["status"] == "rejected"
        if EVENT.is_valid(event):
            assert not rejected or result["reason"] in OF_TIME, (event, result)
        else:
            assert rejected, (event, result)
        assert rejected == (result["path"] is not None) == (result["reason"] is not None)
