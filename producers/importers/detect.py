"""Finds the format of a file by its content and reads it as records for the door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from producers import event as events
from producers.door import Refused, refused
from producers.importers import Record, Row, Told, spotify_account, spotify_extended
from producers.importers.files import InputFile
from schemas.reasons import EVENT_MAX_BYTES, BadRecordError, Reason


@dataclass(frozen=True)
class Format:
    """How rows of a history are known, and what they tell."""

    name: str
    is_row: Callable[[object], bool]
    told: Told


HISTORIES = (
    Format("Spotify extended streaming history", spotify_extended.is_row, spotify_extended.told),
    Format("Spotify account data", spotify_account.is_row, spotify_account.told),
)
EVENTS = "events"


class Recording:
    """A file of which the format is known: `format` is its name. Raises OSError when the file cannot be read."""

    def __init__(self, path: Path, user: str = "") -> None:
        self.file, self._user = InputFile(path), user
        sample = self.file.sample()
        self._history = next((h for h in HISTORIES if any(map(h.is_row, sample))), None)
        self.format = self._history.name if self._history else EVENTS

    def records(self) -> Iterator[tuple[int, Record]]:
        """Everything in the file, in its order, with its line or element number."""
        if self._history is None:
            yield from self.file.records()
            return
        told = self._history.told
        for number, raw in self.file.records():
            yield number, raw if isinstance(raw, Refused) else self._row(raw, told)

    def _row(self, raw: bytes, told: Told) -> Record:
        try:
            if len(raw) > EVENT_MAX_BYTES:
                raise BadRecordError(Reason.TOO_LARGE, f"{len(raw)} bytes")
            row = _decode(raw)
            if not isinstance(row, dict):
                raise BadRecordError(Reason.NOT_AN_OBJECT, type(row).__name__)
            return Row(told(row, self._user), raw)
        except BadRecordError as error:
            return refused(raw, error)


def _decode(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return events.load(raw)
