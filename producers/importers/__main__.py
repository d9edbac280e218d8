"""`crossfade import FILE...`: real listening histories become events, in Kafka or in a file of JSON lines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from producers.importers import report
from producers.importers.detect import Recording
from producers.importers.listens import Known
from producers.importers.origins import Origin, Unreadable, origins
from producers.importers.transfer import Outlet, ToKafka, ToLines, Transfer
from producers.packed_door import PackedDoor
from producers.source import Source, run
from schemas.settings import settings

_NO_HISTORY = "no listening history"

_LOOK_ROWS = 4_000
"""Rows between two looks at the stop signal and the delivery reports."""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(prog="crossfade import", description=__doc__)
    add = arguments.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="histories, folders of them, or zips as downloaded")
    add("--user", default="", help="who listened; without it, whom the file names, or `me`")
    add("--output", type=Path, metavar="FILE", help="write JSON lines instead of sending them; needs no Kafka")
    add("--format", choices=("table", "json"), default="table", help="how the summary is printed")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status: 1 when there is no history at all."""
    options = parser().parse_args(argv)
    job = Import(options.files, options.user)
    if options.output is None:
        status = run("import", settings(), lambda source: _send(job, source))
    else:
        status = _write(job, options.output)
    if status:
        return status
    job.summary(as_json=options.format == "json")
    return 0 if job.transfers else 1


class Import:
    """Histories on their way to an outlet, one file after the other."""

    def __init__(self, paths: Sequence[Path], user: str) -> None:
        self.transfers: list[Transfer] = []
        self._paths, self._user, self._others = paths, user, list[Unreadable]()
        self._began, self._console = time.monotonic(), Console(stderr=True)

    def histories(self) -> list[Origin]:
        """The files that are histories; what tells the second before what tells the minute. Raises OSError."""
        found: list[tuple[bool, Origin]] = []
        for origin in origins(self._paths):
            if isinstance(origin, Unreadable):
                self._others.append(origin)
                continue
            recording = Recording(origin)
            if recording.is_history:
                found.append((recording.by_minute, origin))
            else:
                self._others.append(Unreadable(origin.name, _NO_HISTORY))
        return [origin for _, origin in sorted(found, key=lambda one: one[0])]

    def carry(self, histories: Sequence[Origin], outlet: Outlet, stopped: Callable[[], bool]) -> None:
        """Reads everything into the outlet, until `stopped`, which is asked now and then."""
        known = Known()
        total, done, rows, began = sum(origin.size for origin in histories), 0, 0, time.monotonic()
        with report.progress(self._console) as bar:
            task = bar.add_task("", total=total, rows=0, speed=0)
            for origin in histories:
                if stopped():
                    return
                recording = Recording(origin, self._user)
                transfer = Transfer(recording, outlet, known)
                self.transfers.append(transfer)
                for number, record in recording.records():
                    transfer.take(number, record)
                    if number % _LOOK_ROWS == 0:
                        if stopped():
                            return
                        now = rows + transfer.tally.rows
                        speed = round(now / (time.monotonic() - began))
                        bar.update(task, completed=done + recording.file.position, rows=now, speed=speed)
                done, rows = done + origin.size, rows + transfer.tally.rows

    def summary(self, *, as_json: bool) -> None:
        """Prints what became of every file."""
        files, seconds = [report.of(transfer) for transfer in self.transfers], time.monotonic() - self._began
        if as_json:
            print(report.as_json(files, self._others, seconds), flush=True)
        else:
            report.show(files, self._others, seconds)


def _write(job: Import, path: Path) -> int:
    try:
        histories = job.histories()
        if path.exists() and any(path.samefile(origin.path) for origin in histories):
            raise OSError(None, "is one of the files to be imported", str(path))
        with path.open("wb") as file:
            lines = ToLines(file)
            job.carry(histories, lines, lambda: False)
            lines.flush()
    except OSError as error:
        sys.stderr.write(f"crossfade: {error.filename or path}: {error.strerror or error}\n")
        return 1
    return 0


def _send(job: Import, source: Source) -> None:
    histories = job.histories()  # a wrong name is told before anything is sent
    if not histories:
        return
    door = source.open_door("import", PackedDoor)

    def stopped() -> bool:
        door.report()
        return source.stopping

    try:
        job.carry(histories, ToKafka(door), stopped)
        source.finish(door, end_of_input=False)
    finally:
        door.close()
    if source.stopping:
        source.log.warning("stopped before the end: import the same again, and nothing counts twice")


if __name__ == "__main__":
    sys.exit(main())
