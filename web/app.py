"""The page and its JSON API as one ASGI application."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from schemas.settings import HOME, Settings
from warehouse.answer import jsonable
from warehouse.runner import Reader, WarehouseError, to_csv
from web import charts, runbooks
from web.answers import Held, Threads
from web.guard import Guard, refusal
from web.live import Live, panel
from web.scenarios import Scenarios
from web.time_range import Choice

STATIC = Path(__file__).parent / "static"

RUNBOOKS = HOME / "ops" / "runbooks"

Range = Annotated[Choice | None, Query(alias="range")]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    source: Reader,
    scenarios: Scenarios,
    clock: Callable[[], datetime] = _utc_now,
) -> FastAPI:
    """The application; simulators that it started stop with it."""
    making = Threads(1)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        app.state.vega = asyncio.create_task(making.run(lambda: charts.vega_script(settings.cache_dir)))
        yield
        app.state.vega.cancel()
        await scenarios.stop_all()

    app = FastAPI(title="Crossfade", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=lifespan)
    app.add_middleware(Guard, web_host=settings.web_host)
    known = charts.load()
    live = app.state.live = Live(settings, source, known, clock)
    _add_page(app, settings.cache_dir, making)
    _add_health(app, live)
    _add_charts(app, live, known)
    _add_tracks(app, live)
    _add_scenarios(app, scenarios)

    @app.get("/api/live")
    async def snapshot(view: str = "behaviour", choice: Range = None, have: str = "") -> Response:
        """Everything that the page shows now. `have`: versions of charts that the page holds, with commas."""
        found = await live.snapshot(view, choice, frozenset(filter(None, have.split(","))))
        return JSONResponse({**found, "scenarios": scenarios.states()}, headers={"cache-control": "no-store"})

    return app


def _add_page(app: FastAPI, cache_dir: Path, making: Threads) -> None:
    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return _with_etag(request, (STATIC / "index.html").read_bytes(), "text/html; charset=utf-8")

    @app.get("/static/vega.js", include_in_schema=False)
    async def vega_script(request: Request) -> Response:
        try:
            script = await asyncio.shield(app.state.vega)
        except (OSError, subprocess.SubprocessError):
            app.state.vega = asyncio.create_task(making.run(lambda: charts.vega_script(cache_dir)))
            return _problem(503, "The drawing library could not be made: is the cache directory writable?")
        return _with_etag(request, script, "text/javascript; charset=utf-8")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        files = {file.name: file for file in STATIC.iterdir()}
        if name not in files:
            return PlainTextResponse("There is no such file.\n", 404)
        return FileResponse(files[name], headers={"cache-control": "no-cache"})

    @app.get("/runbooks", include_in_schema=False)
    async def runbook_index() -> Response:
        return HTMLResponse(runbooks.index(RUNBOOKS))

    @app.get("/runbooks/{name}", include_in_schema=False)
    async def runbook(name: str) -> Response:
        found = runbooks.page(RUNBOOKS, name.removesuffix(".md"))
        return HTMLResponse(found) if found is not None else HTMLResponse(runbooks.missing(name), 404)


def _with_etag(request: Request, body: bytes, kind: str) -> Response:
    etag = f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=kind, headers=headers)


def _add_health(app: FastAPI, live: Live) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the page itself is well; it is while the warehouse is away."""
        return {"ok": True, "stage": "web"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether the warehouse answers."""
        held, _ = await live.pulse()
        ready = held.error is None
        return JSONResponse({"ok": ready, "stage": "web", "message": held.error}, 200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _add_charts(app: FastAPI, live: Live, known: dict[str, charts.Chart]) -> None:
    drawing = Threads(1)

    @app.get("/api/charts")
    async def listing() -> dict[str, Any]:
        """Every view with its charts and their Vega-Lite specs."""
        views = [
            {"name": name, "title": title, "charts": [c.listing() for c in known.values() if c.view == name]}
            for name, title in charts.VIEWS.items()
        ]
        return {"views": views, "themes": charts.themes()}

    @app.get("/api/charts/{view}/{name}.{kind}")
    async def chart(
        view: str,
        name: str,
        kind: Literal["json", "csv", "sql", "svg", "png"],
        choice: Range = None,
        theme: charts.Theme = "light",
    ) -> Response:
        """One chart: its rows (json, csv), its question (sql), or drawn (svg, png)."""
        found = known.get(f"{view}/{name}")
        if found is None:
            return _problem(404, f"There is no chart {view}/{name}; /api/charts lists them.")
        if kind == "sql":
            return PlainTextResponse(found.sql)
        held: Held = await live.chart(found, choice)
        if held.error is not None:
            return _problem(503, held.error)
        match kind:
            case "json":
                about = {"view": view, "name": name, "title": found.title, "version": held.version}
                return JSONResponse({**about, "columns": held.answer.columns, "rows": jsonable(held.answer.rows)})
            case "csv":
                return Response(to_csv(held.answer), media_type="text/csv; charset=utf-8")
            case "svg":
                svg = await drawing.run(lambda: charts.to_svg(found, held.answer, theme))
                return Response(svg, media_type="image/svg+xml")
            case "png":
                png = await drawing.run(lambda: charts.to_png(found, held.answer, theme))
                return Response(png, media_type="image/png")


def _add_tracks(app: FastAPI, live: Live) -> None:
    @app.get("/api/tracks")
    async def find(words: Annotated[str, Query(max_length=100)] = "") -> Response:
        """Tracks whose title, artist or id holds the words, most played first."""
        return await _rows("find_tracks", {"words": words})

    @app.get("/api/similar")
    async def similar(
        track_id: Annotated[str, Query(max_length=256)], tenant: Annotated[str, Query(max_length=256)] = "default"
    ) -> Response:
        """A track, what is known about it, and the tracks that are similar to it."""
        params = {"track_id": track_id, "tenant": tenant}
        try:
            about, others = await asyncio.gather(
                live.answers.ask(panel("track"), params), live.answers.ask(panel("similar"), params)
            )
        except WarehouseError as error:
            return _problem(503, str(error))
        if not about.rows:
            return _problem(404, f"Nothing is known about the track {track_id}.")
        return JSONResponse({"track": jsonable(about.rows[0]), "similar": jsonable(others.rows)})

    async def _rows(name: str, params: dict[str, Any]) -> Response:
        try:
            return JSONResponse(jsonable((await live.answers.ask(panel(name), params)).rows))
        except WarehouseError as error:
            return _problem(503, str(error))


def _add_scenarios(app: FastAPI, scenarios: Scenarios) -> None:
    @app.get("/api/scenarios")
    async def states() -> list[dict[str, Any]]:
        """Every simulated platform and whether it runs."""
        return scenarios.states()

    @app.post("/api/scenarios/{name}/{action}")
    async def act(request: Request, name: str, action: Literal["start", "stop"]) -> Response:
        """Starts or stops a simulated platform; needs the header `X-Crossfade: page`."""
        why = refusal(request.headers)
        if why is not None:
            return _problem(403, why)
        try:
            if action == "start":
                scenarios.start(name)
            else:
                await scenarios.stop(name)
        except KeyError:
            return _problem(404, f"There is no scenario {name}.")
        except OSError as error:
            return _problem(500, f"The simulator cannot be started: {error.strerror}.")
        return JSONResponse(scenarios.states())


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"status": status, "detail": detail}, status, media_type="application/problem+json")
