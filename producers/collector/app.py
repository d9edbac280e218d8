"""The collector as an ASGI application: routes, readiness, metrics, CORS, and the OpenAPI page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from producers.collector import description, problems
from producers.collector.body import Bodies
from producers.collector.endpoint import TEST_HEADER, Events
from producers.collector.intake import Intake
from producers.collector.keys import Keys
from producers.collector.problems import ProblemError
from producers.collector.rate import Limits
from producers.collector.readiness import Readiness
from schemas import metrics
from schemas.settings import Settings

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Crossfade collector</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null});\n'
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
_PREFLIGHT_MAX_AGE_S = 7_200  # the longest that browsers keep it

log = structlog.get_logger()


def create_app(settings: Settings, intake: Intake, keys: Keys, readiness: Readiness) -> ASGIApp:
    """The application around an intake."""
    limits, bodies = Limits(settings.collector_rate_per_s), Bodies()
    events = Events(intake, keys, limits, bodies)
    beacon = Events(intake, keys, limits, bodies, beacon=True)
    routes = [
        Route(description.EVENTS_PATH, events, methods=["POST"]),
        Route(description.BEACON_PATH, beacon, methods=["POST"]),
        *_health(intake, readiness),
        *_page(),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        reports = asyncio.create_task(intake.delivery.serve(intake.producer))
        yield
        reports.cancel()

    refusals = {ProblemError: _refused, HTTPException: _not_served, Exception: _failed}
    app: ASGIApp = Starlette(routes=routes, lifespan=lifespan, exception_handlers=refusals)  # type: ignore[arg-type]
    if settings.collector_cors_origins:
        app = _with_cors(app, settings.collector_cors_origins)
    return Measured(app, [route.path for route in routes if isinstance(route, Route)])


class Measured:
    """Counts requests and their time, by path and status."""

    def __init__(self, app: ASGIApp, paths: Sequence[str]) -> None:
        self._app, self._paths = app, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            metrics.REQUESTS.labels("collector", path, str(status or "disconnected")).inc()
            metrics.REQUEST_SECONDS.labels("collector", path).observe(time.perf_counter() - began)


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding", "X-Request-Id"],
        expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy", TEST_HEADER],
        max_age=_PREFLIGHT_MAX_AGE_S,
    )


async def _refused(_: Request, error: ProblemError) -> Response:
    return problems.response(error)


async def _not_served(request: Request, error: HTTPException) -> Response:
    headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
    detail = f"{request.method} {request.url.path} is not served: see /docs."
    return problems.response(ProblemError(error.status_code, detail, **headers))


async def _failed(_: Request, error: Exception) -> Response:
    log.error("a request failed", why=repr(error))
    return problems.response(ProblemError(500, "The collector failed; its log says why."))


def _health(intake: Intake, readiness: Readiness) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return JSONResponse({"ok": True, "stage": "collector", "in_flight": intake.delivery.in_flight})

    async def readyz(_: Request) -> Response:
        state = await asyncio.to_thread(readiness.state)
        return JSONResponse(state, HTTPStatus.OK if state["ok"] else HTTPStatus.SERVICE_UNAVAILABLE)

    async def served_metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", served_metrics)]


def _page() -> list[Route | Mount]:
    """The page comes from this machine: nothing is fetched from elsewhere."""
    document = description.document()

    async def openapi(_: Request) -> Response:
        return JSONResponse(document)

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    async def start(_: Request) -> Response:
        return Response(_START, media_type="text/javascript")

    return [
        Route("/openapi.json", openapi),
        Route("/docs", page),
        Route("/docs/start.js", start),
        Mount("/docs/assets", StaticFiles(directory=swagger_ui_path)),
    ]
