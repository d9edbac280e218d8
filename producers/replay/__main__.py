"""`python -m producers.replay FILE...`: sends recorded events or a real listening history, in the order of the file."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from producers.importers.detect import Recording
from producers.importers.listens import Known
from producers.importers.origins import on_disk
from producers.importers.transfer import ToKafka, Transfer
from producers.packed_door import PackedDoor
from producers.source import CHUNK, Pace, Source, run
from schemas.settings import settings

_PROGRESS_S = 2.0
_LOOK_AGAIN_S = 0.02


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(prog="python -m producers.replay", description=__doc__)
    add = arguments.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="JSON lines, a JSON array, or a listening history; .gz too")
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
    door = source.open_door("replay", PackedDoor)
    pace = Pace(options.rate) if options.rate else None
    known, outlet = Known(), ToKafka(door)
    transfers = [Transfer(recording, outlet, known) for recording in recordings]
    rows = 0
    for transfer in transfers:
        if not source.stopping:
            rows = _send(source, door, transfer, pace, rows)
    source.finish(door, options.end_of_input)
    told = [transfer.tally for transfer in transfers]
    source.summary(
        door,
        rows=rows,
        duplicates=sum(tally.duplicates for tally in told),
        no_listens=dict(sum((tally.no_listens for tally in told), Counter())),
        files={recording.file.name: recording.format for recording in recordings},
    )


def _open(path: Path, user: str) -> Recording:
    try:
        return Recording(on_disk(path), user)
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}") from None


def _send(source: Source, door: PackedDoor, transfer: Transfer, pace: Pace | None, rows: int) -> int:
    """Sends one file; returns the rows sent so far. A file cut by a stop can be sent again: ids stay the same."""
    recording, began, told_at = transfer.recording, time.monotonic(), time.monotonic()
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
                name = Path(recording.file.name).name
                source.log.info("replaying", file=name, rows=rows - before, rows_per_s=speed, percent=percent)
        rows += 1
        transfer.take(number, record)
    return rows


if __name__ == "__main__":
    sys.exit(main())
