"""`python -m producers.replay FILE...`: sends recorded events or a real listening history, in the order of the file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from producers.door import Door
from producers.importers import Row
from producers.importers.detect import Recording
from producers.source import CHUNK, Pace, Source, run
from schemas.settings import settings

_PROGRESS_S = 2.0
_LOOK_AGAIN_S = 0.02


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(prog="python -m producers.replay", description=__doc__)
    add = arguments.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="JSON lines, a JSON array, or a Spotify history; .gz too")
    add("--rate", type=float, help="lines or rows per second; as fast as possible when not given")
    add("--user", default="", help="who listened, for histories that do not say")
    add("--end-of-input", action="store_true", help="close all open windows after the last event")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status."""
    options = parser().parse_args(argv)
    return run("replay", settings(), lambda source: _replay(source, options))


def _replay(source: Source, options: argparse.Namespace) -> None:
    if options.rate is not None and options.rate <= 0:
        raise ValueError("--rate is above 0")
    recordings = [_open(path, options.user) for path in options.files]  # a wrong name is told before anything is sent
    door = source.open_door("replay")
    pace = Pace(options.rate) if options.rate else None
    rows = 0
    for recording in recordings:
        if not source.stopping:
            rows = _send(source, door, recording, pace, rows)
    source.finish(door, options.end_of_input)
    source.summary(door, rows=rows, files={str(r.file.path): r.format for r in recordings})


def _open(path: Path, user: str) -> Recording:
    try:
        return Recording(path, user)
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}") from None


def _send(source: Source, door: Door, recording: Recording, pace: Pace | None, rows: int) -> int:
    """Sends one file; returns the rows sent so far. A file cut by a stop can be sent again: ids stay the same."""
    name, began, told_at = recording.file.path.name, time.monotonic(), time.monotonic()
    before = rows
    for number, record in recording.records():
        while pace and rows >= pace.due() and not source.stopping:
            door.report()
            source.sleep(_LOOK_AGAIN_S)
        if pace and source.stopping:
            break
        if rows % CHUNK == 0:
            door.report()
            if source.stopping:
                break
            now = time.monotonic()
            if now - told_at > _PROGRESS_S:
                told_at = now
                percent = round(100 * recording.file.position / max(recording.file.size, 1))
                speed = round((rows - before) / (now - began))
                source.log.info("replaying", file=name, rows=rows - before, rows_per_s=speed, percent=percent)
        rows += 1
        place = f"{name}:{number}"
        if isinstance(record, Row):
            door.take_row(record.events, record.payload, place)
        else:
            door.take(record, place)
    return rows


if __name__ == "__main__":
    sys.exit(main())
