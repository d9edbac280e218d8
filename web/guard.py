"""What stands before every answer: who may ask, what a browser may do with the page, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.metrics import REQUEST_SECONDS, REQUESTS

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

ANY_HOST = ("/healthz", "/readyz", "/metrics")
"""Paths that a monitor asks by whatever name it knows us."""

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; object-src 'none'; "
        b"base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


def host_name(host: str) -> str:
    """The name in a Host header, without its port; empty when it cannot be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def refusal(headers: Mapping[str, str]) -> str | None:
    """Why a request must not change anything; None when it comes from our own page or a tool on this machine.

    A foreign page in the same browser cannot send our header without our consent (CORS), says where it comes from in
    Origin and Sec-Fetch-Site, and if its name was bound to 127.0.0.1 it carries that name in Host.
    """
    host = headers.get("host", "")
    origin = headers.get("origin")
    if host_name(host) not in LOOPBACK:
        return "Scenarios are started and stopped from this machine only: open http://localhost."
    if headers.get("x-crossfade") != "page":
        return "The header `X-Crossfade: page` is missing."
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return f"The page {origin} may not do this."
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "A foreign page may not do this."
    return None


class Guard:
    """ASGI middleware. Where the page is bound to loopback, it is read by loopback names only."""

    def __init__(self, app: ASGIApp, web_host: str) -> None:
        self._app = app
        self._open = web_host not in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or lets the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in HEADERS if h[0] not in present)]
            await send(message)

        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if self._open or scope["path"] in ANY_HOST or host_name(host) in LOOPBACK:
            await self._app(scope, receive, answer)
        else:
            said = PlainTextResponse("This page is open to this machine only: use http://localhost.\n", 421)
            await said(scope, receive, answer)
        path = getattr(scope.get("route"), "path", "other")
        REQUESTS.labels("web", path, str(status)).inc()
        REQUEST_SECONDS.labels("web", path).observe(time.perf_counter() - started)
