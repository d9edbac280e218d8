"""Histories written by a test, and what the importers make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from producers.door import Refused
from producers.event import from_json
from producers.importers.detect import Record, Recording
from producers.importers.listens import Known, Listen, NoListen
from producers.importers.origins import on_disk

NOW_MS = 2_000_000_000_000


@dataclass
class Told:
    """What a file told: its format, the events of each listen, why rows are none, and reason codes of broken rows."""

    format: str
    records: list[tuple[int, Record]]
    listens: list[list[dict[str, Any]]] = field(default_factory=list)
    duplicates: int = 0

    @property
    def none(self) -> list[str]:
        return [record.value for _, record in self.records if isinstance(record, NoListen)]

    @property
    def broken(self) -> list[str]:
        return [record.error.reason.value for _, record in self.records if isinstance(record, Refused)]

    @property
    def plays(self) -> list[dict[str, Any]]:
        return [events[0] for events in self.listens]


def events_of(listen: Listen) -> list[dict[str, Any]]:
    """The events as JSON; each of them passes the rules of the door."""
    events = [msgspec.json.encode(event) for event in listen.events()]
    for raw in events:
        from_json(raw, NOW_MS)
    return [json.loads(raw) for raw in events]


Read = Callable[..., Told]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes text, bytes or rows (as a JSON array) to a file and reads it; `known` are listens of earlier files."""

    def reader(content: object, user: str = "", known: Known | None = None) -> Told:
        path = tmp_path / "any name.txt"
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        recording = Recording(on_disk(path), user, clock=lambda: NOW_MS)
        told = Told(recording.format, list(recording.records()))
        known = known or Known()
        for _, record in told.records:
            if isinstance(record, Listen):
                if known.is_new(record):
                    told.listens.append(events_of(record))
                else:
                    told.duplicates += 1
        return told

    return reader
