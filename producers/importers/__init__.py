"""Readers of recorded events and of real listening histories, one file per format, told apart by what is in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from producers.door import Refused

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a history: the events that it tells, and its original bytes."""

    events: list[Event]
    payload: bytes


Record = bytes | Row | Refused
"""A client event as bytes, a row of a history, or what could not be read."""

Numbered = Iterator[tuple[int, bytes | Refused]]
"""Lines or elements with their number in the file, from 1."""

Told = Callable[[Event, str], list[Event]]
"""Turns one decoded row and the name of its listener into events; raises BadRecordError."""
