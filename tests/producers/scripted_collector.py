"""A real HTTP server that answers as the collector does, after the answers that a test has scripted."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "cf_write_test"
_CORS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Expose-Headers": "Retry-After",
}


@dataclass
class Scripted:
    """One answer: a status, or None to close the connection without one; with `first_takes` the events count."""

    status: int | None
    retry_after: str | None = None
    body: bytes = b""
    delay_s: float = 0.0
    first_takes: bool = False


@dataclass
class Request:
    """What arrived: when (time.monotonic), where, and the events."""

    at_s: float
    path: str
    headers: dict[str, str]
    events: list[dict[str, Any]]


@dataclass
class Collector:
    """What the server has seen. `taken` are the accepted events in order; events of `refused` tracks are rejected."""

    url: str = ""
    script: list[Scripted] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    events_max: int = 1_000_000
    in_flight: int = 0
    in_flight_most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ids(self) -> list[str]:
        """The accepted event_ids in their order."""
        return [event["event_id"] for event in self.taken]

    def take(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer to these events."""
        results = []
        for event in events:
            refused = {
                "event_id": event["event_id"],
                "status": "rejected",
                "reason": "bad_number",
                "detail": "ms_played",
            }
            if event["track_id"] in self.refused:
                results.append({**refused, "path": "$.ms_played", "value": -1})
            elif event["event_id"] in self.ids:
                results.append({"event_id": event["event_id"], "status": "duplicate"})
            else:
                self.taken.append(event)
                results.append({"event_id": event["event_id"], "status": "accepted"})
        return {"results": results}


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[Collector]:
    """Runs the server on 127.0.0.1 until the block ends."""
    state = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_OPTIONS(self) -> None:
            self._answer(200, b"", {})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            with state.lock:
                state.in_flight += 1
                state.in_flight_most = max(state.in_flight_most, state.in_flight)
            try:
                self._post(content)
            finally:
                with state.lock:
                    state.in_flight -= 1

        def _post(self, content: bytes) -> None:
            text = (gzip.decompress(content) if self.headers["Content-Encoding"] == "gzip" else content).decode()
            events = [json.loads(line) for line in text.splitlines()]
            where = urlsplit(self.path)
            with state.lock:
                state.requests.append(Request(time.monotonic(), where.path, dict(self.headers.items()), events))
                scripted = state.script.pop(0) if state.script else None
                key = (
                    parse_qs(where.query).get("key", [""])[0] or (self.headers["Authorization"] or "")[len("Bearer ") :]
                )
                if scripted is None and key != KEY:
                    scripted = Scripted(401, body=b'{"detail": "Send a key of this installation."}')
                if scripted is None and len(events) > state.events_max:
                    scripted = Scripted(413)
                told = state.take(events) if scripted is None or scripted.first_takes else {}
            if scripted is None:
                self._answer(202, json.dumps(told).encode(), {"Content-Type": "application/json"})
                return
            time.sleep(scripted.delay_s)
            if scripted.status is None:
                self.close_connection = True
                return
            headers = {"Retry-After": scripted.retry_after} if scripted.retry_after else {}
            self._answer(scripted.status, scripted.body, headers)

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**_CORS, **headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            if self.headers["Origin"]:
                self.send_header("Access-Control-Allow-Origin", self.headers["Origin"])
            self.end_headers()
            with contextlib.suppress(OSError):  # the client did not wait
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
