"""The queue on disk, an SQLite file that several processes may share, and the lease of the one that sends."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
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
    """What a store holds; both ids are None when that is nothing."""

    events: int = 0
    bytes: int = 0
    oldest_id: int | None = None
    newest_id: int | None = None


class Store:
    """Events in the order in which they were told; each method is one transaction.

    WAL with synchronous=NORMAL: a process that is killed loses nothing that was appended; a power cut may take the last
    moments, and may bring back what was removed in them, with the same event_ids.

    A process must not fork with an open connection (SQLite, How To Corrupt, 2.6): it is closed before, and opened again
    on both sides. Each method raises StoreError when that fails, and sqlite3.Error (disk full, locked for 5 s).
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file, readable by its owner only. Raises StoreError."""
        self._path, self._lock = path, threading.Lock()
        self._db: sqlite3.Connection | None = None
        with _forking:
            _stores.add(self)
        with self._used():
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._close()

    def append(self, bodies: Sequence[str]) -> int:
        """Keeps events, all or none; gives the id of the last."""
        with self._used() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany("INSERT INTO events (body) VALUES (?)", [(body,) for body in bodies])
                (last_id,) = db.execute("SELECT max(id) FROM events").fetchone()
                db.execute("COMMIT")
            except sqlite3.Error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return int(last_id)

    def first(self, events_max: int, bytes_max: int) -> list[Row]:
        """The oldest events, at least one if there is any, within both limits."""
        rows: list[Row] = []
        size = 0
        with self._used() as db:
            with contextlib.closing(
                db.execute("SELECT id, body FROM events ORDER BY id LIMIT ?", (events_max,))
            ) as found:
                for id_, body in found:
                    size += len(body)
                    if rows and size > bytes_max:
                        break
                    rows.append(Row(id_, body))
            return rows

    def remove(self, rows: Sequence[Row]) -> None:
        """Forgets the oldest events, which `first` gave."""
        with self._used() as db:
            db.execute("DELETE FROM events WHERE id <= ?", (rows[-1].id,))

    def size(self) -> Size:
        """What is kept now, by all processes together."""
        with self._used() as db:
            question = "SELECT events, bytes, (SELECT min(id) FROM events), (SELECT max(id) FROM events) FROM size"
            return Size(*db.execute(question).fetchone())

    @contextlib.contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db is None:
                self._db = _opened(self._path)
            yield self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class Lease:
    """The right to send what is in a store: one holder at a time, and free again however its process ends.

    It is a lock on an empty file beside the store. A forked child does not hold it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(f"{path}-lease", os.O_CREAT | os.O_RDWR, 0o600)
        self._taken = False
        with _forking:
            _leases.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _forking:
            _leases.discard(self)
        self.drop()

    def take(self) -> bool:
        """Whether it is ours now."""
        if not self._taken:
            self._taken = _locked(self._file)
        return self._taken

    def drop(self) -> None:
        """Closes the file; the lock goes with its last descriptor."""
        os.close(self._file)


def _opened(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # never open it beside SQLite, whose locks a close would end
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        return _connected(path)
    except (OSError, sqlite3.Error) as error:
        why = f"{path} cannot be used as a queue of events ({error}): move it away, or name another."
        raise StoreError(why) from None


def _connected(path: Path) -> sqlite3.Connection:
    end = time.monotonic() + _BUSY_S
    while True:
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
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


if sys.platform == "win32":
    import msvcrt

    def _locked(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _locked(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


_forking = threading.Lock()
_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_leases: weakref.WeakSet[Lease] = weakref.WeakSet()
_held: list[Store] = []


def _before_fork() -> None:
    _forking.acquire()
    _held.extend(_stores)
    for store in _held:
        store._lock.acquire()
        store._close()


def _after_fork() -> None:
    while _held:
        _held.pop()._lock.release()
    _forking.release()


def _after_fork_in_child() -> None:
    for lease in _leases:
        lease.drop()
    _leases.clear()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
