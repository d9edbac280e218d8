"""Delimited text as rows of named fields, with the lines that each row came from; comments and headers are no rows."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from producers.door import Refused
from producers.importers.splitting import Numbered
from schemas.reasons import BadRecordError, Reason

_ROW_MAX_LINES = 20
"""A quoted field may hold newlines; one that goes on for longer was not closed."""


class Columns(NamedTuple):
    """Where each field stands; `header` when the row that told it is a header and no data."""

    at: dict[str, int]
    header: bool


@dataclass(frozen=True)
class Delimited:
    """How lines are cut into fields, and what a row must look like to tell where each field stands."""

    columns: Callable[[list[str]], Columns | None]
    csv: dict[str, Any] = field(default_factory=dict)

    def found(self, lines: list[tuple[int, bytes]]) -> tuple[int, Columns] | None:
        """The first line that tells the columns, and the columns."""
        for number, raw in lines:
            try:
                fields = next(csv.reader([raw.decode(errors="replace")], **self.csv), [])
            except csv.Error:
                continue
            if columns := self.columns(fields):
                return number, columns
        return None

    def rows(
        self, lines: Numbered, begin: int, columns: Columns
    ) -> Iterator[tuple[int, dict[str, str] | Refused, bytes]]:
        """Line number, fields by name, and original bytes of every row from line `begin` on."""
        wanted = max(columns.at.values()) + 1
        for number, fields, payload in self._whole(lines, begin + columns.header):
            if isinstance(fields, Refused):
                yield number, fields, fields.payload
            elif payload.startswith(b"#") and self._is_comment(fields, wanted):
                continue
            elif len(fields) >= wanted:
                yield number, {name: fields[at].strip() for name, at in columns.at.items()}, payload
            else:
                short = BadRecordError(Reason.BAD_FIELD, f"{len(fields)} fields, not {wanted}", "line")
                yield number, Refused(short, payload), payload

    def _is_comment(self, fields: list[str], wanted: int) -> bool:
        """Whether a row that begins with # is none: there are artists whose names begin so."""
        columns = self.columns(fields)
        return len(fields) < wanted or (columns is not None and columns.header)

    def _whole(self, lines: Numbered, begin: int) -> Iterator[tuple[int, list[str] | Refused, bytes]]:
        """Rows of one or several lines. Where a quote is never closed, its line is refused and the next are read."""
        source = _Lines(lines)
        while (record := source.next()) is not None:
            number, first = record
            if number < begin:
                continue
            if isinstance(first, Refused):
                yield number, first, b""
                continue
            row = _Row(number, first, source)
            try:
                fields = next(csv.reader(iter(row), **self.csv))
            except csv.Error as error:
                yield number, Refused(BadRecordError(Reason.BAD_FIELD, str(error), "line"), row.payload), b""
                continue
            if row.is_open:
                source.put_back(row.taken[1:])
                yield number, Refused(BadRecordError(Reason.BAD_FIELD, "a quote is not closed", "line"), first), b""
            else:
                yield number, fields, row.payload


class _Lines:
    """Lines that can be put back."""

    def __init__(self, lines: Numbered) -> None:
        self._lines, self._ahead = lines, deque[tuple[int, bytes | Refused]]()

    def next(self) -> tuple[int, bytes | Refused] | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def put_back(self, lines: Sequence[tuple[int, bytes | Refused]]) -> None:
        self._ahead.extendleft(reversed(lines))


class _Row:
    """The lines that a csv reader asks for to complete one row; `is_open` when it wanted more than it may have."""

    def __init__(self, number: int, first: bytes, source: _Lines) -> None:
        self.taken, self.is_open, self._source = [(number, first)], False, source

    @property
    def payload(self) -> bytes:
        return b"\n".join(raw for _, raw in self.taken)

    def __iter__(self) -> Iterator[str]:
        yield _text(self.taken[0][1])
        while len(self.taken) < _ROW_MAX_LINES and (record := self._source.next()) is not None:
            number, raw = record
            if isinstance(raw, Refused):
                self._source.put_back([record])
                break
            self.taken.append((number, raw))
            yield _text(raw)
        self.is_open = True


def _text(raw: bytes) -> str:
    """What is no UTF-8 stays to be seen: it is refused where it is used."""
    return raw.decode("utf-8", "surrogateescape") + "\n"
