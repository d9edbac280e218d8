"""`python -m web`: the page on its port, until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import socket
import sys

import uvicorn

from schemas.settings import settings
from schemas.telemetry import configure_logging
from warehouse.runner import WarehouseError, reader
from web.app import create_app
from web.scenarios import Scenarios

CLOSE_WITHIN_S = 1


def main() -> int:
    """Serves the page; the exit status."""
    own = settings()
    log = configure_logging("web", own.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again once it has shut down
    family = socket.AF_INET6 if ":" in own.web_host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((own.web_host, own.web_port))
    except OSError as error:
        log.error(
            f"The page cannot be served at {own.web_host}:{own.web_port} ({error.strerror}): "
            "stop what uses the port, or set CROSSFADE_WEB_PORT (--port) to another one."
        )
        return 1
    try:
        app = create_app(own, reader(own), Scenarios(own))
    except WarehouseError as error:
        log.error(str(error))
        return 1
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=CLOSE_WITHIN_S)
    server = uvicorn.Server(config)
    log.info(f"The page is at http://{'localhost' if own.web_host == '127.0.0.1' else own.web_host}:{own.web_port}")
    server.run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
