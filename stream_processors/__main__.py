"""`python -m stream_processors`: the worker process."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

import faust
import structlog

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
        timer = threading.Timer(_STOP_S, self._cut_short)
        timer.daemon = True
        timer.start()

    def _cut_short(self) -> None:
        structlog.get_logger().warning("stop_cut_short", after_s=_STOP_S)
        os._exit(0)

    async def stop(self) -> None:
        """Stops the app and ends the process: Faust would wait two seconds more for tasks that have nothing to do."""
        await super().stop()
        os._exit(1 if self.app.crash_reason or not self.app.started else 0)


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
    process.execute_from_commandline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
