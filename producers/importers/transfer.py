"""One file on its way: each listen once to an outlet, everything else counted with its reason and place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import BinaryIO, Protocol

import msgspec

from producers.door import Door, Refused
from producers.importers.detect import Record, Recording
from producers.importers.listens import Known, Listen, NoListen

SHOWN = 5
"""Places of each reason that are remembered."""

_BATCH_EVENTS = 2_000


class Outlet(Protocol):
    """Where events go."""

    def listen(self, listen: Listen) -> None:
        """Takes the events of a listen."""

    def event(self, raw: bytes, place: str) -> None:
        """Takes an event as a client would send it."""

    def broken(self, record: Refused, place: str) -> None:
        """Takes a record that cannot be read."""


class ToKafka:
    """Through the door; broken records become dead letters."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def listen(self, listen: Listen) -> None:
        """Sends play and end."""
        for event in listen.events():
            self._door.send(event)

    def event(self, raw: bytes, place: str) -> None:
        """Judges and sends it."""
        self._door.take(raw, place)

    def broken(self, record: Refused, place: str) -> None:
        """Sends its dead letter."""
        self._door.send_dead_letter(record, place)


class ToLines:
    """Into a file, one JSON object a line, as clients send them; broken records are only counted."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held, self._encoder = file, list[object](), msgspec.json.Encoder()

    def listen(self, listen: Listen) -> None:
        """Writes play and end."""
        self._held += listen.events()
        if len(self._held) >= _BATCH_EVENTS:
            self.flush()

    def event(self, raw: bytes, place: str) -> None:  # noqa: ARG002 - a file has no use for the place
        """Writes it as it is."""
        self._held.append(msgspec.Raw(raw))

    def broken(self, record: Refused, place: str) -> None:
        """Nothing: the summary tells it."""

    def flush(self) -> None:
        """Writes what is held; raises OSError."""
        self._file.write(self._encoder.encode_lines(self._held))
        self._held.clear()


@dataclass
class Tally:
    """What became of one file: `no_listens` are rows by the reason why they are none, `broken` went to dead letters."""

    rows: int = 0
    imported: int = 0
    duplicates: int = 0
    no_listens: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=dict)

    def skip(self, counter: Counter[str], reason: str, number: int) -> None:
        """Counts a row that is not sent as a listen, and remembers where the first ones stand."""
        counter[reason] += 1
        places = self.first.setdefault(reason, [])
        if len(places) < SHOWN:
            places.append(number)


class Transfer:
    """Puts the records of one file into an outlet; `known` are the listens of all files of the run."""

    def __init__(self, recording: Recording, outlet: Outlet, known: Known) -> None:
        self.recording, self.tally = recording, Tally()
        self._name, self._outlet, self._known = PurePath(recording.file.name).name, outlet, known

    def take(self, number: int, record: Record) -> None:
        """Takes one record; its place (name of the file and number) makes the id of its dead letter."""
        tally = self.tally
        tally.rows += 1
        if type(record) is Listen:
            if self._known.is_new(record):
                self._outlet.listen(record)
                tally.imported += 1
            else:
                tally.duplicates += 1
        elif isinstance(record, NoListen):
            tally.skip(tally.no_listens, record.value, number)
        elif isinstance(record, Refused):
            self._outlet.broken(record, f"{self._name}:{number}")
            tally.skip(tally.broken, record.error.reason.value, number)
        elif isinstance(record, bytes):
            self._outlet.event(record, f"{self._name}:{number}")
            tally.imported += 1
