"""Reads a request body within its limits and splits it into the bytes of single events."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
from fastapi import Request

from producers import event as events
from producers.collector.problems import ProblemError
from producers.door import Refused
from producers.importers.splitting import array, lines
from schemas.reasons import BadRecordError, Reason

COMPRESSED_MAX_BYTES = 1 << 20
BODY_MAX_BYTES = 10 << 20
SEND_TIMEOUT_S = 30.0
NDJSON = ("application/x-ndjson", "application/ndjson")

_DRAIN_MAX_BYTES = 64 << 20
_DRAIN_TIMEOUT_S = 5.0

Raw = bytes | Refused


async def read(request: Request) -> list[Raw]:
    """The events of a request. Raises ProblemError 400, 408, 413 or 415."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if media_type != "application/json" and media_type not in NDJSON:
        raise ProblemError(
            415, f"Content-Type {media_type or '(none)'} is not taken: send application/json or application/x-ndjson."
        )
    if encoding not in ("identity", "gzip", ""):
        raise ProblemError(415, f"Content-Encoding {encoding} is not taken: send gzip or none.", Accept_Encoding="gzip")
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            body = await _whole(request.stream(), encoding == "gzip")
    except TimeoutError:
        raise ProblemError(408, f"The body did not arrive within {SEND_TIMEOUT_S:.0f} s.") from None
    return [raw for _, raw in lines(iter([body]))] if media_type in NDJSON else _json(body)


async def drain(request: Request) -> None:
    """Lets the sender of a refused body finish, so that it reads the answer; bounded in bytes and time."""
    size = 0
    with suppress(TimeoutError, RuntimeError):
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > _DRAIN_MAX_BYTES:
                    return


async def _whole(chunks: AsyncIterator[bytes], compressed: bool) -> bytes:
    """The body, unpacked while it is being read, so that neither limit is passed in memory."""
    limit = COMPRESSED_MAX_BYTES if compressed else BODY_MAX_BYTES
    unpack = zlib.decompressobj(31) if compressed else None
    parts: list[bytes] = []
    received = size = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise ProblemError(413, f"The body has more than {limit} bytes{' compressed' if compressed else ''}.")
        try:
            part = unpack.decompress(chunk, BODY_MAX_BYTES + 1 - size) if unpack else chunk
        except zlib.error as error:
            raise ProblemError(400, f"The body is not gzip: {error}.") from None
        size += len(part)
        parts.append(part)
        if size > BODY_MAX_BYTES:
            raise ProblemError(413, f"The body has more than {BODY_MAX_BYTES} bytes decompressed.")
    if unpack and not unpack.eof:
        raise ProblemError(400, "The gzip stream ends too early.")
    return b"".join(parts)


def _json(body: bytes) -> list[Raw]:
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
        return [text]
    try:
        return [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        found = [raw for _, raw in array(text)]
        if not text.endswith(b"]") or any(isinstance(raw, Refused) for raw in found):
            raise ProblemError(400, f"The body is not JSON: {error}.") from None
        return list(found)
