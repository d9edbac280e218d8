"""The thread that moves told events from memory to disk, so that no caller waits for a disk."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from itertools import islice
from pathlib import Path

from .progress import Progress
from .store import Store, StoreError

COMMIT_MAX_EVENTS = 1_000
_AGAIN_S = 1.0

log = logging.getLogger("crossfade")


class Recorder:
    """Events leave memory after the commit that holds them; while the disk refuses, they stay there."""

    def __init__(self, path: Path, waiting: deque[str], progress: Progress) -> None:
        self._path, self._waiting, self._progress = path, waiting, progress

    def run(self) -> None:
        """Returns when the client closes and everything is written, or cannot be."""
        while True:
            try:
                with Store(self._path) as store:
                    self._serve(store)
                return
            except (StoreError, sqlite3.Error) as error:
                if not self._failed(str(error)):
                    return

    def _serve(self, store: Store) -> None:
        progress, waiting = self._progress, self._waiting
        while True:
            with progress.changed:
                progress.changed.wait_for(lambda: bool(waiting) or progress.closing)
            bodies = list(islice(waiting, COMMIT_MAX_EVENTS))
            if not bodies:
                return
            last_id = store.append(bodies)
            size = store.size()
            with progress.changed:
                for _ in bodies:
                    waiting.popleft()
                progress.waiting_events -= len(bodies)
                progress.waiting_bytes -= sum(map(len, bodies))
                progress.last_id, progress.size, progress.keeping_problem = last_id, size, ""
                progress.changed.notify_all()

    def _failed(self, why: str) -> bool:
        """Tells; gives whether to try again."""
        progress = self._progress
        problem = f"Events cannot be kept in {self._path} ({why}): they wait in memory."
        if problem != progress.keeping_problem:
            log.error(problem)
        with progress.changed:
            progress.keeping_problem = problem
        if not progress.wait_for(lambda: progress.closing, _AGAIN_S):
            return True
        lost = len(self._waiting)
        if lost:
            log.error("%d events are lost: %s cannot be written (%s).", lost, self._path, why)
        progress.count(dropped=lost)
        with progress.changed:
            self._waiting.clear()
            progress.waiting_events = progress.waiting_bytes = 0
            progress.changed.notify_all()
        return False
