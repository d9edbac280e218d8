"""The collector as an ASGI application: routes, health, metrics, and the OpenAPI page."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from swagger_ui_bundle import swagger_ui_path

from producers.collector import body, description, problems
from producers.collector.intake import Intake, encode
from producers.collector.keys import Keys
from producers.collector.problems import ProblemError
from schemas import metrics

EVENTS_PATH = "/v1/events"

_PATHS = (EVENTS_PATH, "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Crossfade collector</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null});\n'

log = structlog.get_logger()


def create_app(intake: Intake, keys: Keys) -> FastAPI:
    """The application around an intake."""
    app = FastAPI(title="Crossfade collector", description=description.TEXT, docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled page draws
    app.middleware("http")(_measured)
    _add_refusals(app)
    _add_health(app, intake)
    _add_page(app)

    @app.post(
        EVENTS_PATH,
        status_code=202,
        summary="Send events",
        responses=description.responses(),
        openapi_extra={"requestBody": description.request_body(), "security": [{"key": []}]},
    )
    async def take(request: Request) -> Response:
        """One JSON object, an array of them, or one per line (application/x-ndjson); gzip allowed."""
        try:
            client = keys.client(request.headers.get("authorization", ""))
            if client is None:
                detail = "Send a key of this installation as `Authorization: Bearer KEY`."
                raise ProblemError(401, detail, WWW_Authenticate="Bearer")
            raws = await body.read(request)
        except ProblemError:
            await body.drain(request)
            raise
        request_id = request.headers.get("x-request-id", "")[:128] or uuid.uuid4().hex
        answer = await intake.take(raws, client.tenant, request_id)
        return Response(encode(answer), 202, media_type="application/json")

    return app


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def refused(_: Request, error: ProblemError) -> Response:
        return problems.response(error)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
        detail = f"{request.method} {request.url.path} is not served: see /docs."
        return problems.response(ProblemError(error.status_code, detail, **headers))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        log.error("a request failed", why=repr(error))
        return problems.response(ProblemError(500, "The collector failed; its log says why."))


def _add_health(app: FastAPI, intake: Intake) -> None:
    @app.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, object]:
        return {"ok": True, "stage": "collector", "in_flight": intake.in_flight}

    @app.get("/readyz", summary="Kafka answers too")
    async def readyz() -> Response:
        ready = await asyncio.to_thread(intake.reachable)
        state = {"ok": ready, "stage": "collector", "kafka": "ready" if ready else "does not answer"}
        return JSONResponse(state, 200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def served_metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI) -> None:
    """The page comes from this machine: nothing is fetched from elsewhere."""
    app.mount("/docs/assets", StaticFiles(directory=swagger_ui_path))

    @app.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    made = app.openapi

    def openapi() -> dict[str, object]:
        document = made()
        document.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"


async def _measured(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    path = request.url.path if request.url.path in _PATHS else "other"
    began = time.perf_counter()
    response = await call(request)
    metrics.REQUESTS.labels("collector", path, str(response.status_code)).inc()
    metrics.REQUEST_SECONDS.labels("collector", path).observe(time.perf_counter() - began)
    return response
