"""Refusals as problem documents (RFC 9457): what is wrong, and what to do."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that is refused as a whole; nothing of it was taken in."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def response(error: ProblemError) -> Response:
    """The problem as a response."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
    }
    return Response(msgspec.json.encode(document), error.status, error.headers, MEDIA_TYPE)
