"""HTTP to the collector: one connection, one request at a time."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 15.0
ANSWER_MAX_BYTES = 16 << 20
_IDLE_MAX_S = 3.0  # servers close idle connections after 5 s or more


class TransportError(Exception):
    """No whole answer came."""


@dataclass(frozen=True)
class Response:
    """An answer: its status, its Retry-After, its body."""

    status: int
    retry_after: str | None
    body: bytes


class Transport:
    """POSTs events as gzip NDJSON."""

    def __init__(self, url: str, key: str, timeout_s: float = TIMEOUT_S) -> None:
        """`url` is where the collector is, without `/v1/events`. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {url!r}: it begins with http:// or https:// and names a host.")
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError("key: an API key of the collector, one line of ASCII text.")
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connection(parts.hostname, parts.port, timeout=timeout_s)
        self._path = f"{parts.path.rstrip('/')}/v1/events"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
            "User-Agent": "crossfade-python",
        }
        self._used_s = 0.0

    def post(self, events: Sequence[str]) -> Response:
        """Sends one batch. Raises TransportError: then nobody knows whether it arrived."""
        body = gzip.compress("\n".join(events).encode(), 6, mtime=0)
        if time.monotonic() - self._used_s > _IDLE_MAX_S:
            self._connection.close()
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            content = answer.read(ANSWER_MAX_BYTES)
            if not answer.isclosed():
                raise http.client.HTTPException(f"the answer has more than {ANSWER_MAX_BYTES} bytes")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise TransportError(str(error) or type(error).__name__) from None
        self._used_s = time.monotonic()
        return Response(answer.status, answer.getheader("Retry-After"), content)

    def abort(self) -> None:
        """Ends a request that another thread waits for."""
        found = self._connection.sock
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
