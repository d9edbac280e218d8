"""One event as the text that is kept and sent."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from typing import Any


def new_id(now_ms: int) -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then 74 random bits."""
    random = int.from_bytes(os.urandom(10))
    number = (now_ms & (1 << 48) - 1) << 80 | random
    return str(uuid.UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62))


def text_of(event: Mapping[str, Any], now_ms: int) -> tuple[str, str]:
    """(event_id, ASCII JSON without `sent_at`); id and time are those told, else new ones.

    A private event loses its user and session here already: they are not even kept on disk. Raises TypeError or
    ValueError for what JSON cannot say.
    """
    told = {"event_id": None, "timestamp": None, **event}
    told.pop("sent_at", None)
    if told.get("incognito") is True:
        told.pop("user_id", None)
        told.pop("session_id", None)
    told["event_id"] = told["event_id"] or new_id(now_ms)
    if told["timestamp"] is None:
        told["timestamp"] = now_ms
    return str(told["event_id"]), json.dumps(told, separators=(",", ":"))


def sent_at(text: str, now_ms: int) -> str:
    """The event as it is sent now, by which the collector repairs a wrong clock."""
    return f'{text[:-1]},"sent_at":{now_ms}}}'
