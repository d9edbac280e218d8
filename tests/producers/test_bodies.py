"""Bodies: their encodings, their limits, and where each event stands in them."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from producers.collector import body as bodies
from producers.collector.answer import Answer, rejected
from producers.collector.body import BODY_MAX_BYTES, EVENTS_MAX, HELD_MAX_BYTES, Bodies, sniffed, split
from producers.collector.problems import ProblemError
from producers.door import refused
from producers.event import from_json
from schemas.reasons import BadRecordError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "": bytes,
}


def request(chunks: Sequence[bytes], encoding: str) -> Request:
    waiting = list(chunks)

    async def receive() -> dict[str, object]:
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    headers = [(b"content-encoding", encoding.encode())] if encoding else []
    return Request({"type": "http", "headers": headers}, receive)


def read(chunks: Sequence[bytes], encoding: str, reader: Bodies | None = None) -> bytes:
    return asyncio.run((reader or Bodies()).read(request(chunks, encoding)))


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=3000), st.integers(1, 700))
def test_any_encoding_in_any_pieces_gives_the_body(encoding: str, data: bytes, size: int) -> None:
    """Whatever the encoding and however the network cuts it, the body is what was sent."""
    assert read(pieces(PACKERS[encoding](data), size), encoding) == data


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_members_and_frames_may_follow_one_another(encoding: str) -> None:
    """Files that were appended to are read whole, not just their first part."""
    pack = PACKERS[encoding]
    for size in (1, 7, 1 << 16):
        assert read(pieces(pack(b"one\n") + pack(b"two\n"), size), encoding) == b"one\ntwo\n"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_a_bomb_is_refused_while_it_is_read(encoding: str) -> None:
    """A bomb of half a GB takes no more memory than the limit, and is refused long before its end."""
    packed = PACKERS[encoding](bytes(64 << 20)) * (1 if encoding == "deflate" else 9)
    tracemalloc.start()
    with pytest.raises(ProblemError) as caught:
        read(pieces(packed, 4096), encoding)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 3 * BODY_MAX_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_what_is_cut_off_or_not_of_its_encoding_is_refused(encoding: str) -> None:
    """Neither half a stream nor something else is taken for a body."""
    packed = PACKERS[encoding](b"[1, 2, 3]" * 100)
    for broken in (packed[:-5], b"[1, 2, 3]", packed[:-1] + b"!!!!!", b""):
        with pytest.raises(ProblemError) as caught:
            read([broken], encoding)
        assert caught.value.status == 400


def test_memory_is_bounded_over_all_requests() -> None:
    """Bodies that are being worked on count together; what is released makes room again."""
    reader, whole = Bodies(), bytes(BODY_MAX_BYTES)
    held = [read([whole], "", reader) for _ in range(HELD_MAX_BYTES // BODY_MAX_BYTES)]
    with pytest.raises(ProblemError) as caught:
        read([whole], "", reader)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
    reader.release(len(held.pop()))
    assert read([whole], "", reader) == whole


def test_a_slow_sender_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come is 408, and holds no memory."""
    monkeypatch.setattr(bodies, "SEND_TIMEOUT_S", 0.05)
    reader = Bodies()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield b"["
        await asyncio.Event().wait()

    async def run() -> None:
        asked = request([], "")
        asked.stream = slow  # type: ignore[method-assign]
        await reader.read(asked)

    with pytest.raises(ProblemError) as caught:
        asyncio.run(run())
    assert caught.value.status == 408
    assert reader.held_bytes == 0


BAD = {"event_id": "e", "event_type": "rewind"}
LINE = json.dumps(BAD).encode()


PLAY = b'{"event_type": "play", "event_id": '


@pytest.mark.parametrize(
    ("body", "media_type", "path", "value"),
    [
        (LINE, "application/json", "$.event_type", "rewind"),
        (b"[" + LINE + b"]", "application/json", "$[0].event_type", "rewind"),
        (b"[1, " + LINE + b"]", "application/json", "$[0]", "1"),
        (b"\n\n" + LINE, "application/x-ndjson", "3:$.event_type", "rewind"),
        (b"{nope", "application/x-ndjson", "1:$", "{nope"),
        (PLAY + b"17}", "application/json", "$.event_id", 17),
        (PLAY + b'{"a": [1]}}', "application/json", "$.event_id", '{"a": [1]}'),
        (PLAY + b"null}", "application/json", "$.event_id", None),
        (PLAY + b"NaN}", "application/json", "$.event_id", "nan"),
        (PLAY + b'"' + b"x" * 300 + b'"}', "application/json", "$.event_id", "x" * 197 + "..."),
        (PLAY + b'"\\ud800"}', "application/json", "$.track_id", None),
    ],
)
def test_a_refused_event_is_told_with_its_place_and_value(
    body: bytes, media_type: str, path: str, value: object
) -> None:
    """The path leads to the value that breaks the rule, in all three forms of a body."""
    found = split(body, media_type)
    raw = found.raws[0]
    assert isinstance(raw, bytes)
    with pytest.raises(BadRecordError) as caught:
        from_json(raw, 10**12)
    told = rejected(refused(raw, caught.value), found.path(0))
    assert (told.path, told.value) == (path, value)
    assert json.loads(Answer(0, 0, 1, [told]).encoded())["results"][0]["path"] == path


@pytest.mark.parametrize(
    ("body", "events"),
    [(LINE, 1), (b"[" + LINE + b"," + LINE + b"]", 2), (LINE + b"\n" + LINE + b"\n", 2), (b"{x\n{y", 2), (b"?", 1)],
)
def test_a_beacon_need_not_say_what_it_is(body: bytes, events: int) -> None:
    """Text that is an object, an array, or one event per line is found out; anything else is a line to be refused."""
    assert len(sniffed(body).raws) == events


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"{}\n" * (EVENTS_MAX + 1), "application/x-ndjson"),
        (b"[" + b"1," * EVENTS_MAX + b"1]", "application/json"),
        (b"[" + b"1," * EVENTS_MAX + b"1]", ""),
    ],
)
def test_a_body_has_only_so_many_events(body: bytes, media_type: str) -> None:
    """Millions of empty events in a small compressed body are refused whole, before any is judged."""
    with pytest.raises(ProblemError) as caught:
        split(body, media_type) if media_type else sniffed(body)
    assert caught.value.status == 413
