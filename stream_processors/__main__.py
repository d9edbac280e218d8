"""`python -m stream_processors`: the worker process."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any, NoReturn

import faust
from faust.types import TP

from schemas import metrics
from schemas.kafka import KafkaUnavailableError, consumer, offsets, wait_for_broker
from schemas.settings import Settings, settings
from schemas.telemetry import configure_logging, serve
from stream_processors.app import WorkerApp, create
from stream_processors.transport.guard import ChangedLibraryError

_STOP_S = 2.5


class Lag:
    """Records behind the broker's end offsets, looked up twice a second from a thread of its own."""

    def __init__(self, settings: Settings, worker: WorkerApp) -> None:
        self.records: int | None = None
        self._told: set[TP] = set()
        self._worker, self._consumer = worker, consumer(settings, "crossfade-worker-lag")
        threading.Thread(target=self._watch, daemon=True, name="lag").start()

    def _watch(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the broker is away: the last figure stands
                self.records = self._look()
            time.sleep(0.5)

    def _look(self) -> int | None:
        owned = self._worker.next_offsets()
        for place in self._told - owned.keys():  # taken over by another worker, which tells of it
            metrics.WORKER_LAG.remove(place.topic, place.partition)
        self._told &= owned.keys()
        if not owned:
            return 0 if self._worker.is_spare() else None
        total = len(self._worker.outbox) + self._worker.waiting()
        for tp, next_offset in owned.items():
            low, high = offsets(self._consumer, tp.topic, tp.partition)
            behind = high - max(low, next_offset or 0)
            metrics.WORKER_LAG.labels(tp.topic, tp.partition).set(behind)
            self._told.add(tp)
            total += behind
        return total


class Process(faust.Worker):  # type: ignore[misc]  # Faust's classes have no types
    """Faust's worker, whose stop is bounded: the state is safe at any moment, so one that hangs is cut short."""

    def _flag_as_shutdown_by_signal(self) -> None:
        super()._flag_as_shutdown_by_signal()
        timer = threading.Timer(_STOP_S, os._exit, (0,))
        timer.daemon = True
        timer.start()


def main() -> int:
    """Runs the worker until SIGTERM; returns the exit status."""
    current = settings()
    log = configure_logging("stream_processors", current.log_level)

    def fatal(error: Exception) -> NoReturn:
        log.error("worker_stops_and_replays", problem=f"{type(error).__name__}: {error}", exc_info=error)
        os._exit(1)

    try:
        wait_for_broker(current)
        worker = create(current, fatal)
    except (KafkaUnavailableError, ChangedLibraryError) as error:
        log.error("worker_cannot_start", problem=str(error))
        return 1
    lag = Lag(current, worker)

    def health() -> dict[str, Any]:
        partitions = {f"{tp.topic}/{tp.partition}": n for tp, n in worker.next_offsets().items()}
        return {"ok": True, "stage": "stream_processors", "lag": lag.records, "next": partitions}

    try:
        serve(current.stage_host, current.worker_metrics_port, health)
    except OSError as error:
        log.error("port_in_use", port=current.worker_metrics_port, problem=str(error))
        return 1
    process = Process(worker.faust, loglevel="WARNING", quiet=True, redirect_stdouts=False, override_logging=False)
    try:
        process.execute_from_commandline()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 1 if worker.faust.crash_reason or not worker.faust.started else 0


if __name__ == "__main__":
    sys.exit(main())
