"""Reads a listening event with fastavro, one by one, as engines do that hand over single records."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro

_SCHEMA = fastavro.parse_schema(
    json.loads((Path(__file__).parents[2] / "schemas" / "listening_event.avsc").read_text())
)
_PREFIX = 10


def decode(value: bytes) -> dict[str, Any]:
    """The event; `timestamp` is an aware datetime. Raises whatever fastavro does."""
    record: Any = fastavro.schemaless_reader(io.BytesIO(value[_PREFIX:]), _SCHEMA, None)
    event: dict[str, Any] = record
    return event
