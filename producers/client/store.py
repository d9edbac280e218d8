"""The queue on disk, an SQLite file that several processes may share, and the lease of the one that sends."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_VERSION = 1
_BUSY_S = 5.0
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS size (events INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO size SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM size);
CREATE TRIGGER IF NOT EXISTS grown AFTER INSERT ON events
    BEGIN UPDATE size SET events = events + 1, bytes = bytes + length(new.body); END;
CREATE TRIGGER IF NOT EXISTS shrunk AFTER DELETE ON events
    BEGIN UPDATE size SET events = events - 1, bytes = bytes - length(old.body); END;
PRAGMA user_version = 1;
COMMIT;
"""


class StoreError(Exception):
    """A file that cannot be used as a queue; the message says why, and what to do."""


@dataclass(frozen=True)
class Row:
    """One kept event; a greater id was told later."""

    id: int
    body: str


@dataclass(frozen=True)
class Size:
    """What a store holds; `oldest_id` is None when that is nothing."""

    events: int = 0
    bytes: int = 0
    oldest_id: int | None = None


class Store:
    """Events in the order in which they were told; each method is one transaction.

    WAL with synchronous=NORMAL: a process that is killed loses nothing that was appended; a power cut may take the last
    moments, and may bring back what was removed in them, with the same event_ids.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file, readable by its owner only. Raises StoreError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = _opened(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be used as a queue of events ({error}): move it away, or name another."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def append(self, bodies: Sequence[str]) -> int:
        """Keeps events, all or none; gives the id of the last. Raises sqlite3.Error (disk full, locked for 5 s)."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT INTO events (body) VALUES (?)", [(body,) for body in bodies])
            last_id = self.newest_id()
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return last_id

    def first(self, events_max: int, bytes_max: int) -> list[Row]:
        """The oldest events, at least one if there is any, within both limits."""
        rows: list[Row] = []
        size = 0
        for id_, body in self._db.execute("SELECT id, body FROM events ORDER BY id LIMIT ?", (events_max,)):
            size += len(body)
            if rows and size > bytes_max:
                break
            rows.append(Row(id_, body))
        return rows

    def remove(self, rows: Sequence[Row]) -> None:
        """Forgets the oldest events, which `first` gave."""
        self._db.execute("DELETE FROM events WHERE id <= ?", (rows[-1].id,))

    def newest_id(self) -> int:
        """The id of the event that was told last; 0 when nothing is kept."""
        (newest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(newest)

    def size(self) -> Size:
        """What is kept now, by all processes together."""
        return Size(*self._db.execute("SELECT events, bytes, (SELECT min(id) FROM events) FROM size").fetchone())


class Lease:
    """The right to send what is in a store: one holder at a time, and free again however its process ends.

    It is SQLite's exclusive lock of an empty file beside the store.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"{path}-lease", timeout=0, isolation_level=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def take(self) -> bool:
        """Whether it is ours now."""
        if not self._db.in_transaction:
            try:
                self._db.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                return False
        return True


def _opened(path: Path) -> sqlite3.Connection:
    end = time.monotonic() + _BUSY_S
    while True:
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"its version is {version}, not {_VERSION}")
            db.execute("PRAGMA journal_mode = WAL")  # does not wait for others by itself
            db.execute("PRAGMA synchronous = NORMAL")
            if version == 0:
                db.executescript(_SCHEMA)
            return db
        except sqlite3.Error as error:
            db.close()
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
