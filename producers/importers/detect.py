"""Finds the format of a file by its content and reads it as listens, or as events for the door."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from producers.door import Clock, Refused, now_ms, refused
from producers.importers import (
    apple_music,
    lastfm,
    librefm,
    listenbrainz,
    maloja,
    rockbox,
    spotify_account,
    spotify_extended,
    youtube_music,
)
from producers.importers.files import InputFile
from producers.importers.listens import Listen, NoListen, Told
from producers.importers.origins import Origin
from producers.importers.table import Columns, Delimited
from producers.importers.typed import typed
from schemas.reasons import BadRecordError

Record = bytes | Listen | NoListen | Refused
"""A client event as bytes, a listen that passed the rules, why a row is no listen, or what could not be read."""

EVENTS = "events"


@dataclass(frozen=True)
class Rows:
    """A history in JSON: how its rows are known and typed, and what they tell."""

    name: str
    is_row: Callable[[dict[str, Any]], bool]
    kind: type[Any]
    told: Told
    inside: str = ""
    by_minute: bool = False


@dataclass(frozen=True)
class Lines:
    """A history in delimited text; without the column `exact` it tells the minute only."""

    name: str
    table: Delimited
    told: Told
    exact: str = ""


_TABS = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
_ROWS = (
    Rows(spotify_extended.NAME, spotify_extended.is_row, spotify_extended.Row, spotify_extended.listen),
    Rows(
        spotify_account.NAME,
        spotify_account.is_row,
        spotify_account.Row,
        spotify_account.listen,
        by_minute=True,
    ),
    Rows(youtube_music.NAME, youtube_music.is_row, youtube_music.Row, youtube_music.listen),
    Rows(listenbrainz.NAME, listenbrainz.is_row, listenbrainz.Row, listenbrainz.listen),
    Rows(maloja.NAME, maloja.is_row, maloja.Row, maloja.listen, maloja.INSIDE),
)
_LINES = (
    Lines(rockbox.NAME, Delimited(rockbox.columns, _TABS), rockbox.listen),
    Lines(apple_music.NAME, Delimited(apple_music.columns), apple_music.listen),
    Lines(librefm.NAME, Delimited(librefm.columns), librefm.listen),
    Lines(lastfm.NAME, Delimited(lastfm.columns), lastfm.listen, "uts"),
)


class Recording:
    """A file of which the format is known: `format` is its name, "events" when it is no history.

    `counted` says what its numbers count, `by_minute` that it tells the minute of a listen and not the second. Raises
    OSError when the file cannot be read.
    """

    def __init__(self, origin: Origin, user: str = "", clock: Clock = now_ms) -> None:
        self.file, self._user, self._clock = InputFile(origin), user, clock
        objects = self._objects()
        self._rows = next(
            (f for f in _ROWS if any(map(f.is_row, self._objects(f.inside) if f.inside else objects))), None
        )
        self._lines: tuple[Lines, int, Columns] | None = None
        if self._rows is None and not objects:
            first = self.file.lines()
            tried = ((f, f.table.found(first)) for f in _LINES)
            self._lines = next(((f, *found) for f, found in tried if found), None)
        found = self._rows or (self._lines and self._lines[0])
        self.is_history = found is not None
        self.format = found.name if found else EVENTS
        self.by_minute = bool(self._rows and self._rows.by_minute) or bool(
            self._lines and self._lines[0].exact and self._lines[0].exact not in self._lines[2].at
        )
        self.counted = "row" if self._rows and (self._rows.inside or self.file.is_array) else "line"

    def records(self) -> Iterator[tuple[int, Record]]:
        """Everything in the file, in its order, with its line or element number."""
        if self._rows:
            return self._of_rows(self._rows)
        return self._of_lines(*self._lines) if self._lines else self.file.records()

    def _objects(self, inside: str = "") -> list[dict[str, Any]]:
        return [row for row in self.file.sample(inside) if isinstance(row, dict)]

    def _of_rows(self, rows: Rows) -> Iterator[tuple[int, Record]]:
        elements = None if rows.inside else self.file.elements(rows.kind)
        if elements is None:
            yield from self._one_by_one(rows)
            return
        told, user, now = rows.told, self._user, self._clock()
        for number, row in enumerate(elements.rows, 1):
            try:
                found: Record = told(row, user)
                if type(found) is Listen:
                    found.pass_rules(now)
            except BadRecordError as error:
                found = refused(elements.raw(number), error)
            if not number & 1023:
                self.file.position = self.file.size * number // len(elements.rows)
            yield number, found
        self.file.release()

    def _one_by_one(self, rows: Rows) -> Iterator[tuple[int, Record]]:
        read, now = typed(rows.kind), self._clock()
        for number, raw in self.file.records(rows.inside):
            if isinstance(raw, Refused):
                yield number, raw
                continue
            try:
                yield number, self._judged(rows.told, read(raw), now)
            except BadRecordError as error:
                yield number, refused(raw, error)

    def _of_lines(self, lines: Lines, begin: int, columns: Columns) -> Iterator[tuple[int, Record]]:
        now = self._clock()
        for number, row, payload in lines.table.rows(self.file.records(), begin, columns):
            if isinstance(row, Refused):
                yield number, row
                continue
            try:
                yield number, self._judged(lines.told, row, now)
            except BadRecordError as error:
                yield number, Refused(error, payload)

    def _judged(self, told: Told, row: Any, now_ms: int) -> Listen | NoListen:
        """What a row tells, if it passes the rules of the door; raises BadRecordError."""
        found = told(row, self._user)
        if type(found) is Listen:
            found.pass_rules(now_ms)
        return found
