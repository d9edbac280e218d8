"""How a stage reports: /metrics and /healthz on its port, and structured logs without secrets."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from prometheus_client import REGISTRY, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Health = Callable[[], dict[str, Any]]
"""Gives what /healthz answers; `{"ok": False, ...}` turns into status 503."""


def configure_logging(stage: str, level: str = "info") -> structlog.typing.FilteringBoundLogger:
    """Readable lines in a terminal, JSON elsewhere, on stderr. Levels say what to do: error now, warning today."""
    terminal = sys.stderr.isatty()
    number = logging.getLevelName(level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    structlog.contextvars.bind_contextvars(stage=stage)
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Scrapes are not news."""


def serve(host: str, port: int, health: Health, page: Callable[[], str] | None = None) -> int:
    """Serves /metrics, /healthz and a stage's own page (HTML) from a daemon thread; returns the port (0: a free one).

    Raises OSError when the port is taken.
    """
    metrics = make_wsgi_app(REGISTRY)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        if path in ("/healthz", "/readyz"):
            state = health()
            status = "200 OK" if state.get("ok", True) else "503 Service Unavailable"
            start_response(status, [("Content-Type", "application/json")])
            return [json.dumps(state).encode()]
        if path == "/" and page is not None:
            start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [page().encode()]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics or /healthz\n"]

    server = make_server(host, port, app, handler_class=_QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True, name="telemetry").start()
    return int(server.server_port)
