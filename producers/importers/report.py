"""What an import tells: progress while it runs, and what became of every file at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from producers.importers.origins import Unreadable
from producers.importers.transfer import Transfer


@dataclass(frozen=True)
class FileReport:
    """One file. `skipped` gives, by reason, how many rows there were and the numbers of the first of them."""

    file: str
    format: str
    rows: int
    imported: int
    duplicates: int
    skipped: dict[str, dict[str, int | list[int]]]
    counted: str


def of(transfer: Transfer) -> FileReport:
    """What became of a file."""
    tally, recording = transfer.tally, transfer.recording
    skipped: dict[str, dict[str, int | list[int]]] = {
        reason: {"rows": rows, "first": tally.first[reason]}
        for reason, rows in (tally.no_listens + tally.broken).most_common()
    }
    name, counted = recording.file.name, recording.counted
    return FileReport(name, recording.format, tally.rows, tally.imported, tally.duplicates, skipped, counted)


def as_json(files: Sequence[FileReport], others: Sequence[Unreadable], seconds: float, **more: object) -> str:
    """The whole import as one JSON object."""
    told = {
        "imported": sum(file.imported for file in files),
        "duplicates": sum(file.duplicates for file in files),
        "rows": sum(file.rows for file in files),
        "seconds": round(seconds, 2),
        **more,
        "files": [asdict(file) for file in files],
        "not_read": {other.name: other.why for other in others},
    }
    return json.dumps(told)


def show(files: Sequence[FileReport], others: Sequence[Unreadable], seconds: float) -> None:
    """The whole import as a table: a line for each file, and below it one for each reason why rows were skipped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no edge
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("file", "format"):
        table.add_column(name, overflow="fold")
    for name in ("imported", "duplicates", "skipped"):
        table.add_column(name, justify="right")
    table.add_column("why", overflow="fold")
    for file in files:
        skipped = file.rows - file.imported - file.duplicates
        why = "\n".join(f"{found['rows']:,} {reason} {_places(file, reason)}" for reason, found in file.skipped.items())
        figures = [f"{number:,}" for number in (file.imported, file.duplicates, skipped)]
        table.add_row(Text(_printable(file.file)), file.format, *figures, Text(why))
    for other in others:
        table.add_row(Text(_printable(other.name)), "-", "", "", "", Text(f"not read: {other.why}"))
    console.print(table)
    rows = sum(file.rows for file in files)
    listens = sum(file.imported for file in files)
    console.print(f"{listens:,} listens of {rows:,} rows in {seconds:.1f} s ({rows / max(seconds, 1e-9):,.0f} rows/s)")


def _places(file: FileReport, reason: str) -> str:
    found = file.skipped[reason]
    first = found["first"]
    assert isinstance(first, list)
    more = ", ..." if found["rows"] != len(first) else ""
    return f"({file.counted}{'' if len(first) == 1 else 's'} {', '.join(map(str, first))}{more})"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # a name must not steer the terminal


def progress(console: Console) -> Progress:
    """A bar over the bytes of all files, with rows/s; nothing where nobody sees it."""
    speed = TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,}/s")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), speed, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
