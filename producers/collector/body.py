"""Reads a request body within its limits and splits it into the bytes of single events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from starlette.requests import ClientDisconnect, Request

from producers import event as events
from producers.collector.problems import ProblemError
from producers.collector.unpacking import ENCODINGS, Unpacker
from producers.door import Refused
from producers.importers.splitting import array, lines
from schemas.reasons import BadRecordError, Reason

COMPRESSED_MAX_BYTES = 1 << 20
BODY_MAX_BYTES = 10 << 20
EVENTS_MAX = 50_000
"""Events of one request: a body of the greatest size holds that many small ones."""
HELD_MAX_BYTES = 64 << 20
"""Bodies that are in memory together, from their first byte to the answer."""
SEND_TIMEOUT_S = 30.0
NDJSON = ("application/x-ndjson", "application/ndjson")

_DRAIN_MAX_BYTES = 64 << 20
_DRAIN_TIMEOUT_S = 5.0

Raw = bytes | Refused


@dataclass(frozen=True)
class Split:
    """The events of a body, and where each stands in it: `path(i)` is the JSON path of the i-th."""

    raws: list[Raw]
    path: Callable[[int], str]


class Bodies:
    """Reads bodies. Memory: HELD_MAX_BYTES, however many clients send at once."""

    def __init__(self) -> None:
        self.held_bytes = 0

    async def read(self, request: Request) -> bytes:
        """The unpacked body, to be given back by `release`. Raises ProblemError 400, 408, 413, 415 or 429."""
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", *ENCODINGS):
            taken = ", ".join(ENCODINGS)
            raise ProblemError(
                415, f"Content-Encoding {encoding} is not taken: send {taken} or none.", Accept_Encoding=taken
            )
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                async for part in _unpacked(request.stream(), encoding if encoding in ENCODINGS else ""):
                    parts.append(part)
                    self.held_bytes += len(part)
                    if self.held_bytes > HELD_MAX_BYTES:
                        raise ProblemError(429, "Too much is being sent at once: send again later.", Retry_After="1")
            return b"".join(parts)
        except BaseException as error:
            self.release(sum(map(len, parts)))
            if isinstance(error, TimeoutError):
                raise ProblemError(408, f"The body did not arrive within {SEND_TIMEOUT_S:.0f} s.") from None
            raise

    def release(self, size: int) -> None:
        """A body of `size` bytes is no longer needed."""
        self.held_bytes -= size


async def drain(request: Request) -> None:
    """Lets the sender of a refused body finish, so that it reads the answer; bounded in bytes and time."""
    size = 0
    with suppress(TimeoutError, RuntimeError, ClientDisconnect):
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > _DRAIN_MAX_BYTES:
                    return


async def _unpacked(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The pieces of a body, none of them beyond a limit."""
    limit = COMPRESSED_MAX_BYTES if encoding else BODY_MAX_BYTES
    unpacker = Unpacker(encoding) if encoding else None
    received = size = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise ProblemError(413, f"The body has more than {limit} bytes{' compressed' if encoding else ''}.")
        if unpacker is None:
            yield chunk
            continue
        try:
            part = unpacker.unpack(chunk, BODY_MAX_BYTES + 1 - size)
        except ValueError as error:
            raise ProblemError(400, f"The body is not {encoding}: {error}.") from None
        size += len(part)
        if size > BODY_MAX_BYTES:
            raise ProblemError(413, f"The body has more than {BODY_MAX_BYTES} bytes decompressed.")
        yield part
    if unpacker is not None and not unpacker.ended:
        raise ProblemError(400, f"The {encoding} stream ends too early.")


def media_type_of(request: Request) -> str:
    """`application/json` or one of NDJSON; raises ProblemError 415 for anything else."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != "application/json" and found not in NDJSON:
        raise ProblemError(
            415, f"Content-Type {found or '(none)'} is not taken: send application/json or application/x-ndjson."
        )
    return found


def split(body: bytes, media_type: str) -> Split:
    """The events of a body of this media type. Raises ProblemError 400 when it is no JSON at all, or 413."""
    return _lines(body) if media_type in NDJSON else _json(body)


def sniffed(body: bytes) -> Split:
    """The events of a body that does not say what it is: JSON if it can be read as such, else one event per line.

    Whoever leaves a page reads no answer, so nothing is refused as a whole: what is no JSON becomes a dead letter.
    """
    try:
        return _json(body)
    except ProblemError as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return _lines(body)


def _require_few(events: int) -> None:
    if events > EVENTS_MAX:
        raise ProblemError(413, f"The body has more than {EVENTS_MAX} events.")


def _lines(body: bytes) -> Split:
    _require_few(body.count(b"\n"))
    numbered = list(lines(iter([body])))
    return Split([raw for _, raw in numbered], lambda i: f"{numbered[i][0]}:$")


def _json(body: bytes) -> Split:
    """One event, or the elements of an array. A body that is no JSON is refused as a whole."""
    text = body.strip()
    if not text:
        raise ProblemError(400, "The body is empty: send one event as a JSON object, or an array of them.")
    if not text.startswith(b"["):
        try:
            events.load(text)
        except BadRecordError as error:
            if error.reason is Reason.NOT_JSON:
                raise ProblemError(400, f"The body is not JSON: {error.detail.partition(' - ')[0]}.") from None
        return Split([text], lambda _: "$")
    try:
        raws: list[Raw] = [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raws = [raw for _, raw in array(text)]
        if not text.endswith(b"]") or any(isinstance(raw, Refused) for raw in raws):
            raise ProblemError(400, f"The body is not JSON: {error}.") from None
    _require_few(len(raws))
    return Split(raws, lambda i: f"$[{i}]")
