"""One request of events, from its head to its answer: a plain ASGI application, because this is the busy path."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producers.collector import problems
from producers.collector.body import Bodies, drain, media_type_of, sniffed, split
from producers.collector.intake import Intake
from producers.collector.keyring import Client
from producers.collector.keys import Keys
from producers.collector.problems import ProblemError
from producers.collector.rate import Limits

TEST_HEADER = "Crossfade-Test"


class Events:
    """Takes the requests of one path.

    A beacon (`navigator.sendBeacon`) can set no headers: its key stands in the query, and its text is JSON or NDJSON.
    """

    def __init__(self, intake: Intake, keys: Keys, limits: Limits, bodies: Bodies, *, beacon: bool = False) -> None:
        self._intake, self._keys, self._limits, self._bodies, self._beacon = intake, keys, limits, bodies, beacon

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 202 with what became of each event, or a problem document."""
        request = Request(scope, receive)
        headers: dict[str, str] = {}
        try:
            response = await self._answer(request, headers)
        except ProblemError as error:
            await drain(request)
            response = problems.response(error)
        except ClientDisconnect:
            return
        response.headers.update(headers)
        await response(scope, receive, send)

    async def _answer(self, request: Request, headers: dict[str, str]) -> Response:
        received_at_ms = self._intake.now_ms()  # before the body: a slow sender has no slow clock
        client = self._client(request)
        bucket = self._limits.of(client)
        try:
            bucket.require()
            if client.scope == "test":
                headers[TEST_HEADER] = "true"
            else:
                self._intake.require_room()
            media_type = "" if self._beacon else media_type_of(request)
            body = await self._bodies.read(request)
            try:
                events = split(body, media_type) if media_type else sniffed(body)
                bucket.take(max(1, len(events.raws)))
                request_id = request.headers.get("x-request-id", "")[:128] or uuid.uuid4().hex
                answer = await self._intake.take(events, client, request_id, received_at_ms)
            finally:
                self._bodies.release(len(body))
        finally:
            headers.update(bucket.headers())
        return Response(answer.encoded(), 202, media_type="application/json")

    def _client(self, request: Request) -> Client:
        if self._beacon:
            key = parse_qs(request.url.query).get("key", [""])[0]
            client, how = self._keys.client(key), "as `?key=KEY`"
        else:
            client = self._keys.bearer(request.headers.get("authorization", ""))
            how = "as `Authorization: Bearer KEY`"
        if client is None:
            raise ProblemError(401, f"Send a key of this installation {how}.", WWW_Authenticate="Bearer")
        return client
