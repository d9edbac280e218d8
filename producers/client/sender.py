"""The thread that sends what is on disk, oldest first, one batch at a time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .events import sent_at
from .progress import Progress
from .retry import backoff_s, refused_s, retry_after_s
from .store import Lease, Row, Store
from .transport import Response, Transport, TransportError

BATCH_MAX_EVENTS = 500
BATCH_MAX_BYTES = 512 << 10
_EVENTS_MORE = 10  # of a batch, after one that was taken, when one was too large before
_POLL_S = 1.0  # how soon another process's events are seen, or its end
_AGAIN = (408, 425, 429, *range(500, 600))

log = logging.getLogger("crossfade")


@dataclass(frozen=True)
class Rejected:
    """An event that the collector refuses for good; docs/event.md explains the reasons."""

    event: dict[str, Any]
    reason: str
    detail: str
    path: str | None = None
    value: Any = None


class Sender:
    """Delivery guarantee: at least once, in order, under one event_id.

    Events leave the store after an answer that accounts for each of them. A rejected one is told first, so a crash
    between may tell it twice.
    """

    def __init__(
        self,
        path: Path,
        transport: Transport,
        progress: Progress,
        on_rejected: Callable[[Rejected], None] | None,
        linger_s: float,
    ) -> None:
        self._path, self._transport, self._progress = path, transport, progress
        self._on_rejected, self._linger_s = on_rejected, linger_s
        self._failures = 0
        self._events_max = BATCH_MAX_EVENTS

    def run(self) -> None:
        """Returns when the client stops."""
        progress = self._progress
        while not progress.stopping:
            try:
                with Store(self._path) as store, Lease(self._path) as lease:
                    while not progress.stopping:
                        self._turn(store, lease)
            except Exception as error:  # whatever it is, the next attempt may go well, and the caller goes on
                self._pause(f"Sending fails ({error!r})", 0.0)

    def _turn(self, store: Store, lease: Lease) -> None:
        progress = self._progress
        mine = lease.take()
        size, seen = progress.look(store)
        if not mine or not size.events:
            progress.wait_for(lambda: progress.stopping or (mine and progress.last_id > seen), _POLL_S)
            return
        if size.events < BATCH_MAX_EVENTS:
            progress.wait_for(self._hurry, self._linger_s)
        if progress.stopping:
            return
        rows = store.first(self._events_max, BATCH_MAX_BYTES)
        if self._done(rows):
            store.remove(rows)
            progress.look(store)

    def _hurry(self) -> bool:
        progress = self._progress
        return progress.stopping or progress.flushing > 0 or progress.size.events >= BATCH_MAX_EVENTS

    def _done(self, rows: Sequence[Row]) -> bool:
        """Sends one batch; gives whether every event of it has come to its end. Pauses when not."""
        now_ms = self._progress.timing.now_ms()
        try:
            response = self._transport.post([sent_at(row.body, now_ms) for row in rows])
        except TransportError as error:
            self._pause(f"The collector does not answer ({error})", 0.0)
            return False
        if response.status == 202:
            return self._accounted(rows, response)
        if response.status == 413:
            return self._split(rows)
        said = f"The collector answers {response.status}{_detail(response)}"
        if response.status < 400 or response.status in _AGAIN:  # below 400 it is a Wi-Fi's login page
            self._pause(said, retry_after_s(response.retry_after, now_ms))
        else:
            self._pause(f"{said}: nothing is sent until that is repaired", refused_s(self._progress.timing.random))
        return False

    def _accounted(self, rows: Sequence[Row], response: Response) -> bool:
        results = _results(response.body, rows)
        if results is None:
            self._pause("What answers 202 is no collector: it does not say what became of each event", 0.0)
            return False
        for row, result in zip(rows, results, strict=True):
            if result["status"] == "rejected":
                self._reject(row, result)
        told = [result["status"] for result in results]
        self._progress.count(told.count("accepted"), told.count("duplicate"), told.count("rejected"))
        self._resumed()
        self._events_max = min(self._events_max + _EVENTS_MORE, BATCH_MAX_EVENTS)
        return True

    def _split(self, rows: Sequence[Row]) -> bool:
        """A batch that is too large comes again as halves; an event that is too large alone is rejected."""
        if len(rows) > 1:
            self._events_max = len(rows) // 2
            return False
        self._reject(
            rows[0], {"reason": "too_large", "detail": f"{len(rows[0].body)} bytes: the collector answers 413"}
        )
        self._progress.count(rejected=1)
        self._resumed()
        return True

    def _reject(self, row: Row, result: dict[str, Any]) -> None:
        event: dict[str, Any] = json.loads(row.body)
        reason, detail = str(result.get("reason")), str(result.get("detail"))
        told = Rejected(event, reason, detail, result.get("path"), result.get("value"))
        if self._on_rejected is None:
            log.warning("event %s is rejected: %s, %s", event["event_id"], told.reason, told.detail)
            return
        try:
            self._on_rejected(told)
        except Exception:
            log.exception("on_rejected failed for event %s, which is rejected: %s", event["event_id"], told.reason)

    def _pause(self, why: str, at_least_s: float) -> None:
        """Waits the longer of backoff and `at_least_s`, to which jitter is added, so that clients come back apart."""
        progress = self._progress
        if progress.stopping:
            return
        self._failures += 1
        wait_s = at_least_s + backoff_s(1 if at_least_s else self._failures, progress.timing.random)
        if why != progress.sending_problem:
            log.warning("%s; events are kept, next attempt in %.0f s.", why, wait_s)
        with progress.changed:
            progress.sending_problem, progress.pause_until_s = why, time.monotonic() + wait_s
            progress.changed.notify_all()
        progress.wait_for(lambda: progress.stopping, wait_s)
        with progress.changed:
            progress.pause_until_s = 0.0

    def _resumed(self) -> None:
        self._failures = 0
        with self._progress.changed:
            if self._progress.sending_problem:
                log.info("the collector takes events again")
            self._progress.sending_problem = ""


def _results(body: bytes, rows: Sequence[Row]) -> list[dict[str, Any]] | None:
    """What became of each event, or None when the answer does not say so."""
    try:
        results = json.loads(body)["results"]
        told = [json.loads(row.body)["event_id"] for row in rows]
        fits = len(results) == len(rows) and all(
            result["status"] == "rejected"
            or (result["status"] in ("accepted", "duplicate") and result["event_id"] == event_id)
            for result, event_id in zip(results, told, strict=True)
        )
    except (ValueError, KeyError, TypeError):
        return None
    return results if fits else None


def _detail(response: Response) -> str:
    try:
        return f" ({json.loads(response.body)['detail']})"
    except (ValueError, KeyError, TypeError):
        return ""
