"""Prints rows as a table for people, or as JSON or CSV for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from warehouse.answer import Answer, jsonable, to_csv, to_json


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def answer_of(rows: Iterable[dict[str, Any]], *columns: str) -> Answer:
    """Rows with these columns."""
    return Answer(list(columns), [{column: row.get(column) for column in columns} for row in rows])


def show(answer: Answer, form: Format) -> None:
    """Prints all rows on stdout, and nothing else."""
    if form is Format.JSON:
        print(to_json(answer))
    elif form is Format.CSV:
        sys.stdout.write(to_csv(answer))
    else:
        _table(answer)
    sys.stdout.flush()


def _table(answer: Answer) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no edge
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in answer.columns:
        values = [row[column] for row in answer.rows]
        table.add_column(Text(column), justify="right" if values and all(map(_is_number, values)) else "left")
    for row in answer.rows:
        table.add_row(*(Text(_cell(row[column])) for column in answer.columns))
    console.print(table)
    print(f"{len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'}", file=sys.stderr)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, float):
        return f"{value:.6g}"
    plain = jsonable(value)
    text = plain if isinstance(plain, str) else to_json(Answer([], [])) if plain == [] else str(plain)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # a value must not steer the terminal
