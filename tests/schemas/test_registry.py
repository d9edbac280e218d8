"""The registry's client and its cache, against a small HTTP server on this machine that errs as registries do."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Codec, schema
from schemas.reasons import BadRecordError, Reason
from schemas.registry import TIMEOUT_S, CachedRegistry, Registry, RegistryRefusedError, SchemaUnavailableError
from schemas.writers import PENDING_S, Prefix, Writers

OURS = schema("listening_event")
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "ann",
    "track_id": "t1",
    "timestamp": 1_700_000_000_000,
    "platform": "custom",
    "tenant": "default",
    "source": "replay",
    "received_at": 1_700_000_000_000,
}


class Server(ThreadingHTTPServer):
    """Answers GET /schemas/ids/N from `schemas`; `mood` says how it fails."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.schemas: dict[int, dict[str, Any]] = {}
        self.mood: str | int = "well"
        self.asked: list[str] = []
        self.logins: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.logins.append(self.headers.get("Authorization"))
        if self.server.mood == "hangs":
            time.sleep(TIMEOUT_S + 1)
            return
        if self.server.mood == "garbage":
            self._answer(200, b"<html>")
            return
        if isinstance(self.server.mood, int):
            self._answer(self.server.mood, b'{"error_code": 1, "message": "no luck"}')
            return
        found = self.server.schemas.get(int(self.path.rpartition("/")[2]))
        if found is None:
            self._answer(404, b'{"error_code": 40403, "message": "Schema not found"}')
        else:
            self._answer(200, json.dumps({"schema": json.dumps(found)}).encode())

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        avro = json.loads(json.loads(self.rfile.read(length))["schema"])
        if isinstance(self.server.mood, int):
            self._answer(self.server.mood, b'{"error_code": 409, "message": "reader is missing a default"}')
            return
        known = next((n for n, found in self.server.schemas.items() if found == avro), len(self.server.schemas) + 1)
        self.server.schemas[known] = avro
        self._answer(200, json.dumps({"id": known}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.shutdown()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def codec(cached: CachedRegistry) -> Codec:
    return Codec("listening_event", writers=Writers.named("listening_event", registry=cached))


def confluent(schema_id: int) -> bytes:
    return Prefix.confluent(schema_id).data + Codec("listening_event").encode(EVENT)[10:]


@pytest.mark.parametrize("mood", [500, 503, 429, 408, "garbage", "hangs", "gone"])
def test_a_registry_that_does_not_answer_makes_records_wait(server: Server, tmp_path: Path, mood: str | int) -> None:
    """Whatever ails it: no record is refused for it, nobody waits long, and the answer is taken when it is back."""
    server.mood, server.schemas[7] = mood, OURS
    if mood == "gone":
        server.socket.close()
    clock = Clock()
    reader = codec(CachedRegistry(Registry(server.url, clock), tmp_path, patience_s=0))
    began = time.monotonic()
    with pytest.raises(
        SchemaUnavailableError, match=r"The schema registry at http://127\.0\.0\.1:\d+/api cannot be asked"
    ):
        reader.columns([confluent(7)])
    with pytest.raises(SchemaUnavailableError):
        reader.columns([confluent(7)])
    assert time.monotonic() - began < TIMEOUT_S + 1, "the second question is not even put"
    assert len(server.asked) <= 1
    assert list(tmp_path.rglob("*.json")) == []
    if mood != "gone":
        server.mood, clock.now = "well", 2.0
        assert reader.columns([confluent(7)]).frame["event_id"].to_list() == ["e1"]


def test_a_record_waits_for_a_registry_that_comes_back(server: Server, tmp_path: Path) -> None:
    """A registry that restarts costs a pause, not a restart of the worker."""
    server.mood, server.schemas[7] = 503, OURS
    threading.Timer(0.7, lambda: setattr(server, "mood", "well")).start()
    assert codec(CachedRegistry(Registry(server.url), tmp_path)).decode(confluent(7))["event_id"] == "e1"


def test_an_id_is_asked_once_and_remembered_on_disk(server: Server, tmp_path: Path) -> None:
    """A process that starts while the registry is away reads what another has asked before."""
    server.schemas[7] = OURS
    assert codec(CachedRegistry(Registry(server.url), tmp_path)).decode(confluent(7))["event_id"] == "e1"
    server.mood = 500
    later = codec(CachedRegistry(Registry(server.url), tmp_path))
    assert later.decode(confluent(7))["event_id"] == "e1"
    assert len(server.asked) == 1


def test_the_first_verdict_stands_for_every_reader(server: Server, tmp_path: Path) -> None:
    """An id that was unknown stays so, although the registry learns it: worker and sink must judge a record alike."""
    worker = codec(CachedRegistry(Registry(server.url), tmp_path))
    with pytest.raises(BadRecordError) as error:
        worker.decode(confluent(9))
    assert error.value.reason == Reason.UNKNOWN_SCHEMA
    server.schemas[9] = OURS
    sink = codec(CachedRegistry(Registry(server.url), tmp_path))
    assert [e.reason for _, e in sink.columns([confluent(9)]).bad] == [Reason.UNKNOWN_SCHEMA]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "found",
    [
        {"type": "record", "name": "Other", "fields": []},
        {"type": "string"},
        {"type": "record"},
        {"type": "nonsense"},
        {},
    ],
    ids=str,
)
def test_an_id_of_something_else_is_an_unknown_schema(server: Server, tmp_path: Path, found: dict[str, Any]) -> None:
    """A schema that is no event, or no schema at all, refuses its records and nothing more."""
    server.schemas[3] = found
    columns = codec(CachedRegistry(Registry(server.url), tmp_path)).columns([confluent(3), confluent(3)])
    assert [(i, error.reason) for i, error in columns.bad] == [(0, Reason.UNKNOWN_SCHEMA), (1, Reason.UNKNOWN_SCHEMA)]


def test_a_full_disk_costs_the_memory_not_the_answer(server: Server) -> None:
    """Where nothing can be written, the registry is asked by each process."""
    server.schemas[7] = OURS
    assert codec(CachedRegistry(Registry(server.url), Path("/proc/none"))).decode(confluent(7))["event_id"] == "e1"


def test_our_own_id_is_remembered(server: Server, tmp_path: Path) -> None:
    """Down at start: the id of our schema comes from the disk; never asked before, it is a plain refusal to start."""
    cached = CachedRegistry(Registry(server.url), tmp_path)
    schema_id = cached.register("listening-events-value", OURS)
    server.mood = 503
    assert CachedRegistry(Registry(server.url), tmp_path).register("listening-events-value", OURS) == schema_id
    with pytest.raises(SchemaUnavailableError):
        CachedRegistry(Registry(server.url), tmp_path).register("plays-value", OURS)
    server.mood = 409
    with pytest.raises(RegistryRefusedError, match="reader is missing a default"):
        CachedRegistry(Registry(server.url), tmp_path).register("listening-events-value", OURS)


def test_a_login_in_the_address_is_sent_and_never_shown(server: Server, tmp_path: Path) -> None:
    """Basic authentication by the address; messages and directory names leave it out."""
    registry = Registry(server.url.replace("//", "//key:s%40cret@"))
    server.mood = 500
    with pytest.raises(SchemaUnavailableError) as error:
        registry.schema(1)
    assert server.logins == ["Basic " + base64.b64encode(b"key:s@cret").decode()]
    assert "cret" not in str(error.value)


def test_a_schema_registered_by_hand_counts_from_where_the_partitions_end(tmp_path: Path) -> None:
    """A running reader knows it at once, and judges by offset: what stood before stays refused."""
    newer = {**OURS, "fields": OURS["fields"][::-1]}
    start = Prefix.single_object(newer).data
    reader = Codec("listening_event", writers=Writers.named("listening_event", home=tmp_path))
    value = start + written(newer)
    places = [(0, 4), (0, 5), (1, 0), (2, 0)]
    assert len(reader.columns([value] * 4, places.__getitem__).bad) == 4
    Writers.named("listening_event", home=tmp_path).register(newer, start, "new.avsc", lambda: {0: 5, 1: 1})
    for one in (reader, Codec("listening_event", writers=Writers.named("listening_event", home=tmp_path))):
        columns = one.columns([value] * 4, places.__getitem__)
        assert (columns.index.tolist(), [i for i, _ in columns.bad]) == ([1, 3], [0, 2])
        assert one.decode(value)["event_id"] == "e1", "without a place it is known: so a dead letter can be replayed"
    Writers.named("listening_event", home=tmp_path).register(newer, start, "new.avsc", lambda: {0: 50, 1: 0})
    later = Codec("listening_event", writers=Writers.named("listening_event", home=tmp_path))
    assert later.columns([value] * 4, places.__getitem__).index.tolist() == [1, 2, 3], "a topic made anew"


def test_readers_wait_while_a_schema_is_being_registered(tmp_path: Path) -> None:
    """Between the question where partitions end and its answer no record of that schema is judged."""
    newer = {**OURS, "fields": OURS["fields"][::-1]}
    start, asked, answer = Prefix.single_object(newer).data, threading.Event(), threading.Event()

    def ends() -> dict[int, int]:
        asked.set()
        answer.wait(5)
        return {0: 3}

    writers = Writers.named("listening_event", home=tmp_path)
    command = threading.Thread(target=writers.register, args=(newer, start, "new.avsc", ends))
    command.start()
    assert asked.wait(5)
    reader = Codec("listening_event", writers=Writers.named("listening_event", home=tmp_path))
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(reader.columns([start + written(newer)], lambda _: (0, 3))))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    answer.set()
    command.join(5)
    waiting.join(5)
    assert found[0].bad == []


def test_a_registration_that_died_is_passed_over(tmp_path: Path) -> None:
    """A command that was killed half-way leaves nothing that readers would wait for; it can be repeated."""
    newer = {**OURS, "fields": OURS["fields"][::-1]}
    start = Prefix.single_object(newer).data
    home = tmp_path / "listening_event"
    home.mkdir()
    entry = {"start": start.hex(), "file": "x", "schema": newer, "at": time.time() - PENDING_S, "known_from": None}
    (home / f"{start.hex()}.json").write_text(json.dumps(entry))
    writers = Writers.named("listening_event", home=tmp_path)
    with pytest.raises(BadRecordError):
        writers.find(start)
    writers.register(newer, start, "x", lambda: {0: 1})
    assert writers.find(start).known_from == {0: 1}


def written(avro: dict[str, Any]) -> bytes:
    """The body of EVENT."""
    return Codec("x", writers=Writers(avro)).encode(EVENT)[10:]
