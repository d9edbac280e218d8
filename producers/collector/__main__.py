"""`python -m producers.collector`: serves the HTTP door until it is asked to stop."""

from __future__ import annotations

import gc
import signal
import socket
import sys

import uvicorn

from producers.collector.app import create_app
from producers.collector.intake import Intake
from producers.collector.keys import Keys
from producers.collector.patience import Connection
from producers.collector.readiness import Readiness
from schemas import telemetry
from schemas.kafka import KafkaUnavailableError
from schemas.settings import settings

_GC_THRESHOLD = 50_000  # requests make thousands of objects and no cycles: to look for these costs 4 % of the time


def main() -> int:
    """Runs the collector and gives its exit status."""
    known = settings()
    log = telemetry.configure_logging("collector", known.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn stops, then raises the signal once more
    failures: list[str] = []
    try:
        listening = _listen(known.collector_host, known.collector_port)
        keys = Keys(known)
        keys.refresh()  # makes the development key
        server: uvicorn.Server

        def on_fatal(why: str) -> None:
            failures.append(why)
            server.should_exit = True

        intake = Intake(known, on_fatal)
    except (OSError, ValueError, KafkaUnavailableError) as error:
        log.error(str(error))
        return 1
    config = uvicorn.Config(
        create_app(known, intake, keys, Readiness(known, intake.producer, keys)),
        http=Connection,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    log.info("collector listens", address=f"http://{known.collector_host}:{listening.getsockname()[1]}")
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    server.run(sockets=[listening])
    if failures:
        log.error("Kafka ended this producer: the collector starts anew", why=failures[0])
        return 1
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(
            f"Port {port} of {host} cannot be served ({error.strerror}): set CROSSFADE_COLLECTOR_PORT to another."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
