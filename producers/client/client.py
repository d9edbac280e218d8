"""The client: takes events at once, and gives everything slow to two threads."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from .events import text_of
from .progress import Progress, State, Timing
from .recorder import Recorder
from .sender import Rejected, Sender
from .store import Store
from .transport import TIMEOUT_S, Transport

LINGER_S = 1.0
QUEUE_MAX_EVENTS = 100_000
QUEUE_MAX_BYTES = 64 << 20

log = logging.getLogger("crossfade")


class Crossfade:
    """Takes listening events and delivers them to a collector, however long that takes.

    A call puts the event in memory and returns; within milliseconds it is on disk, in `store`, and a second later it is
    sent, in a batch with others. Events leave the disk when the collector has answered for each of them.

    Delivery guarantee: at least once, in the order told, always under the same event_id, by which the pipeline counts
    each once. What a kill -9 takes is what was told in the last milliseconds. When the queue is full, new events are
    refused: the call gives None, `state.dropped` counts. One client, or many in several processes, may use a store: one
    of them sends. Give each collector and tenant a store of its own.

    Thread-safe. After a fork the child goes on with threads of its own; close the client before a child ends by
    os._exit, as children of multiprocessing do.
    """

    def __init__(
        self,
        key: str,
        url: str = "http://localhost:8081",
        *,
        store: Path,
        defaults: Mapping[str, Any] | None = None,
        on_rejected: Callable[[Rejected], None] | None = None,
        max_events: int = QUEUE_MAX_EVENTS,
        max_bytes: int = QUEUE_MAX_BYTES,
        linger_s: float = LINGER_S,
        timeout_s: float = TIMEOUT_S,
        timing: Timing | None = None,
    ) -> None:
        """`defaults` are fields of every event, such as `platform`.

        `on_rejected` is called, in a thread of the client, for each event that the collector refuses for good; without
        it they are logged. Raises ValueError for an impossible key or url, StoreError for an unusable store.
        """
        self._key, self._url, self._path = key, url, Path(store)
        self._defaults, self._on_rejected = dict(defaults or {}), on_rejected
        self._max_events, self._max_bytes = max_events, max_bytes
        self._linger_s, self._timeout_s, self._timing = linger_s, timeout_s, timing or Timing()
        self._said = ""
        self._renew()
        with Store(self._path) as opened:
            self._progress.size = opened.size()
            self._progress.last_id = self._progress.size.newest_id or 0
        self._start()
        _clients.add(self)
        atexit.register(self.close)

    def play(self, user_id: str | None, track_id: str, **fields: Any) -> str | None:
        """A track begins; see `track`."""
        return self._tell("play", user_id, track_id, fields)

    def pause(self, user_id: str | None, track_id: str, **fields: Any) -> str | None:
        """A track is paused, or has ended; see `track`."""
        return self._tell("pause", user_id, track_id, fields)

    def skip(self, user_id: str | None, track_id: str, **fields: Any) -> str | None:
        """A track is skipped; see `track`."""
        return self._tell("skip", user_id, track_id, fields)

    def like(self, user_id: str | None, track_id: str, **fields: Any) -> str | None:
        """A track is liked; see `track`."""
        return self._tell("like", user_id, track_id, fields)

    def share(self, user_id: str | None, track_id: str, **fields: Any) -> str | None:
        """A track is shared; see `track`."""
        return self._tell("share", user_id, track_id, fields)

    def track(self, event: Mapping[str, Any]) -> str | None:
        """Takes one event, as docs/event.md describes it; never waits for disk or network.

        `event_id` and `timestamp` are made now where they are not told. Gives the event_id, or None when the queue is
        full or the client closed. Raises TypeError or ValueError for what JSON cannot say, nothing else.
        """
        event_id, body = text_of({**self._defaults, **event}, self._timing.now_ms())
        progress = self._progress
        with progress.changed:
            if progress.closing:
                refused = "the client is closed"
            elif (
                progress.size.events + progress.waiting_events >= self._max_events
                or progress.size.bytes + progress.waiting_bytes + len(body) > self._max_bytes
            ):
                refused = "the queue is full"
            else:
                if not self._threads:
                    self._start()
                self._waiting.append(body)
                progress.waiting_events += 1
                progress.waiting_bytes += len(body)
                progress.changed.notify_all()
                return event_id
            progress.count(dropped=1)
        if refused != self._said:
            log.error("%s: new events are dropped, and counted in state.dropped.", refused)
            self._said = refused
        return None

    @property
    def state(self) -> State:
        """What became of the events so far."""
        return self._progress.told()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until everything told so far, and what earlier runs left, is delivered; False when that takes longer.

        Gives up at once when the next attempt is further away than that.
        """
        progress = self._progress
        end_s = time.monotonic() + timeout_s
        with progress.changed:
            progress.flushing += 1
            progress.changed.notify_all()
            try:
                progress.changed.wait_for(lambda: progress.all_sent() or progress.pause_until_s > end_s, timeout_s)
                return progress.all_sent()
            finally:
                progress.flushing -= 1

    def close(self, timeout_s: float = 5.0) -> None:
        """Takes no more events, tries to deliver what there is for so long, and leaves the rest on disk.

        Happens by itself at the end of the program; a second call does nothing.
        """
        progress = self._progress
        with progress.changed:
            if progress.closing:
                return
            progress.closing = True
            progress.changed.notify_all()
        atexit.unregister(self.close)
        end_s = time.monotonic() + timeout_s
        if self._threads:
            self.flush(timeout_s)
        with progress.changed:
            progress.stopping = True
            progress.changed.notify_all()
        self._join(max(0.1, end_s - time.monotonic()))
        self._transport.abort()
        self._join(1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, event_type: str, user_id: str | None, track_id: str, fields: dict[str, Any]) -> str | None:
        return self.track({"event_type": event_type, "user_id": user_id, "track_id": track_id, **fields})

    def _renew(self) -> None:
        self._progress = Progress(self._timing)
        self._waiting: deque[str] = deque()
        self._transport = Transport(self._url, self._key, self._timeout_s)
        self._threads: list[threading.Thread] = []

    def _start(self) -> None:
        recorder = Recorder(self._path, self._waiting, self._progress)
        sender = Sender(self._path, self._transport, self._progress, self._on_rejected, self._linger_s)
        for name, run in (("recorder", recorder.run), ("sender", sender.run)):
            thread = threading.Thread(target=run, name=f"crossfade-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _join(self, timeout_s: float) -> None:
        for thread in self._threads:
            if thread is not threading.current_thread():  # on_rejected may close
                thread.join(timeout_s)

    def _forked(self) -> None:
        """In a child: its parent's threads, locks and connections are not ours; the first event starts new ones."""
        closed, size = self._progress.closing, self._progress.size
        self._renew()
        self._progress.closing, self._progress.size = closed, size


_clients: weakref.WeakSet[Crossfade] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
