"""`python -m stream_processors`: the worker process."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

import faust

from schemas.kafka import KafkaUnavailableError, wait_for_broker
from schemas.settings import settings
from schemas.telemetry import configure_logging, serve
from stream_processors.app import create
from stream_processors.page import render
from stream_processors.status import Status
from stream_processors.transport.guard import ChangedLibraryError

_STOP_S = 2.5


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
    status = Status(current, worker)
    try:
        serve(current.stage_host, current.worker_metrics_port, status.health, lambda: render(status.now()))
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
