"""How client events are broken: one way for each rule that a door has to hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Event = dict[str, Any]

_YEAR_2100_MS = 4_102_444_800_000


def _changed(**fields: object) -> Callable[[Event], Event]:
    return lambda event: {**event, **fields}


def _without(field: str) -> Callable[[Event], Event]:
    return lambda event: {name: value for name, value in event.items() if name != field}


def _cut(event: Event) -> bytes:
    told = msgspec.json.encode(event)
    return told[: len(told) // 2]


def _latin_1(event: Event) -> bytes:
    return msgspec.json.encode({**event, "location": "M@lmo"}).replace(b"M@lmo", b"Malm\xf6")


FAULTS: tuple[Callable[[Event], Event | bytes], ...] = (
    _changed(event_type="rewind"),
    _without("user_id"),
    _changed(track_id=""),
    _changed(track_id="x" * 300),
    _changed(timestamp="yesterday"),
    _changed(timestamp=_YEAR_2100_MS),
    _changed(location="Ber\x00lin"),
    _changed(ms_played=-1),
    _changed(position_ms=1.5),
    _changed(country="Atlantis"),
    _cut,
    _latin_1,
)
"""Each makes an event that is refused."""
