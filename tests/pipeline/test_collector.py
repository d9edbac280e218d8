"""The collector as clients meet it: a real process, real HTTP, real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from backports import zstd
from confluent_kafka import TopicPartition
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from crossfade.kafka import Broker
from crossfade.topics import apply as apply_topics
from producers.collector import patience
from producers.collector.keyring import Keyring
from producers.collector.keys import Keys
from producers.collector.readiness import Readiness
from schemas import kafka as kafka_clients
from schemas import topics
from schemas.kafka import wait_for_broker
from schemas.settings import HOME, Settings
from tests.pipeline.conftest import running

GOOD = {
    "event_type": "play",
    "user_id": "somebody",
    "track_id": "t",
    "timestamp": "2026-01-15T09:30:00Z",
    "platform": "custom",
}
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


def event(event_id: str, **changes: object) -> dict[str, Any]:
    return {**GOOD, "event_id": event_id, **changes}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def collector(
    settings: Settings, data_dir: Path, log: Path | None = None, port: int | None = None, **environment: str
) -> Iterator[httpx.Client]:
    """Runs the collector and gives a client that has its key; checks that it stops cleanly, and keeps what it logs."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "producers.collector"],
        cwd=HOME,
        env={
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "CROSSFADE_DATA_DIR": str(data_dir),
            "CROSSFADE_COLLECTOR_PORT": str(port),
            **environment,
        },
        stderr=subprocess.PIPE,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            end = time.monotonic() + 30
            while True:
                with contextlib.suppress(httpx.TransportError):
                    client.get("/healthz")
                    break
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            client.headers["authorization"] = f"Bearer {(data_dir / 'dev-api-key').read_text().strip()}"
            yield client
    finally:
        process.terminate()
        try:
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    if log is not None:
        log.write_bytes(errors)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collector")


@pytest.fixture(scope="module")
def client(kafka: Settings, home: Path, ci_key: str, slow_key: str) -> Iterator[httpx.Client]:
    with collector(kafka, home) as ready:
        yield ready


@pytest.fixture(scope="module")
def keyring(kafka: Settings, home: Path) -> Keyring:
    return Keyring(kafka.model_copy(update={"data_dir": home}))


@pytest.fixture(scope="module")
def ci_key(keyring: Keyring) -> str:
    return keyring.create("ci", "default", "test", None, "")[0]


@pytest.fixture(scope="module")
def slow_key(keyring: Keyring) -> str:
    return keyring.create("slow", "default", "write", 5, "")[0]


def records(settings: Settings, topic: str, wanted: str) -> list[dict[str, Any]]:
    """Every record of a topic of which the bytes hold `wanted`, decoded."""
    consumer = kafka_clients.consumer(settings)
    codec = kafka_clients.codec_of(settings, topic)
    found = []
    try:
        for partition in kafka_clients.partitions_of(consumer, topic):
            low, high = kafka_clients.offsets(consumer, topic, partition)
            consumer.assign([TopicPartition(topic, partition, low)])
            at = low
            while at < high:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                at = message.offset() + 1
                value = message.value()
                if value is not None and wanted.encode() in value:
                    found.append({**codec.decode(value), "key": message.key()})
    finally:
        consumer.close()
    return found


def test_an_accepted_event_is_in_kafka_before_the_answer(client: httpx.Client, kafka: Settings) -> None:
    """202 says accepted; the record stands under a pseudonym, with tenant, source and time of receipt."""
    answer = client.post("/v1/events", json=event("c-one"))
    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 1,
        "duplicate": 0,
        "rejected": 0,
        "results": [
            {"event_id": "c-one", "status": "accepted", **dict.fromkeys(("reason", "detail", "path", "value"))}
        ],
    }
    (record,) = records(kafka, topics.EVENTS, "c-one")
    assert record["key"] == record["user_id"].encode()
    assert len(record["user_id"]) == 32
    assert record["user_id"] != "somebody"
    assert (record["tenant"], record["source"]) == ("default", "collector")


def test_a_duplicate_is_answered_as_such_and_sent_once(client: httpx.Client, kafka: Settings) -> None:
    """The same event_id twice in a request, and again later: accepted once, in Kafka once."""
    first = client.post("/v1/events", json=[event("c-twice"), event("c-twice")]).json()
    assert [result["status"] for result in first["results"]] == ["accepted", "duplicate"]
    assert client.post("/v1/events", json=event("c-twice")).json()["duplicate"] == 1
    assert len(records(kafka, topics.EVENTS, "c-twice")) == 1


def test_rejected_events_are_told_and_dead_lettered(client: httpx.Client, kafka: Settings) -> None:
    """Each refused line is answered with its reason and kept with its bytes; the others go through."""
    broken = b'{"event_id": "c-lines", "user_id": "\xff"}'
    body = b"\n".join([json.dumps(event("c-lines-1")).encode(), b"{c-lines", b"", broken, b"[1]"])
    answer = client.post("/v1/events", content=gzip.compress(body), headers={**NDJSON, "content-encoding": "gzip"})
    assert answer.status_code == 202
    told = answer.json()
    assert (told["accepted"], told["rejected"]) == (1, 3)
    assert [result.get("reason") for result in told["results"]] == [None, "not_json", "invalid_utf8", "not_an_object"]
    letters = records(kafka, topics.DEAD_LETTERS, "c-lines")
    assert {letter["payload"] for letter in letters} == {b"{c-lines", broken}
    assert {(letter["stage"], letter["source"], letter["topic"]) for letter in letters} == {
        ("producers", "collector", None)
    }


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{nope", JSON, 400),
        (b"", JSON, 400),
        (b'[{"event_id": 1}', JSON, 400),
        (b"not gzip", {**JSON, "content-encoding": "gzip"}, 400),
        (gzip.compress(b"{}")[:-5], {**JSON, "content-encoding": "gzip"}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"{}", {**JSON, "content-encoding": "br"}, 415),
        (gzip.compress(b" " * (11 << 20)), {**JSON, "content-encoding": "gzip"}, 413),
        (os.urandom((1 << 20) + 5), {**JSON, "content-encoding": "gzip"}, 400),
        (b" " * ((10 << 20) + 1), JSON, 413),
        (b"{}", {**JSON, "authorization": "Bearer wrong"}, 401),
        (b"{}", {**JSON, "authorization": ""}, 401),
    ],
)
def test_refused_requests_are_problem_documents(
    client: httpx.Client, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Each refusal says what is wrong, as RFC 9457 wants it, and never takes anything in."""
    answer = client.post("/v1/events", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_large_compressed_body_is_refused(client: httpx.Client) -> None:
    """More than 1 MiB of gzip is refused whatever it holds."""
    body = gzip.compress(os.urandom((1 << 20) + 200_000))
    answer = client.post("/v1/events", content=body, headers={**JSON, "content-encoding": "gzip"})
    assert answer.status_code == 413


def test_other_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    """404 and 405 speak the same language."""
    for answer, status in ((client.get("/nowhere"), 404), (client.get("/v1/events"), 405)):
        assert answer.status_code == status
        assert answer.json()["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_health_metrics_and_documents_are_served(client: httpx.Client) -> None:
    """Health, readiness, metrics and the OpenAPI page, which asks nobody else for anything."""
    assert client.get("/healthz").json()["ok"] is True
    assert client.get("/readyz").json()["ok"] is True
    assert "crossfade_events_accepted" in client.get("/metrics").text
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert client.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"]["several"]["value"]
    assert client.post("/v1/events", json=example).json()["rejected"] == 0


def test_many_clients_at_once(client: httpx.Client, kafka: Settings) -> None:
    """Concurrent batches are all answered, every event once in Kafka."""

    def send(n: int) -> int:
        batch = "\n".join(json.dumps(event(f"c-many-{n}-{i}", user_id=f"u{i}")) for i in range(100))
        answer = client.post("/v1/events", content=batch, headers=NDJSON)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["accepted"])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(40))) == 4_000
    found = [record["event_id"] for record in records(kafka, topics.EVENTS, "c-many-")]
    assert len(found) == len(set(found)) == 4_000


def test_events_of_a_listener_keep_their_order(client: httpx.Client, kafka: Settings) -> None:
    """Within a large request, and from one answered request to the next."""
    sent = [f"c-order-{n:04}" for n in range(1_300)]
    for batch in (sent[:1_200], sent[1_200:]):
        assert client.post("/v1/events", json=[event(event_id) for event_id in batch]).json()["accepted"] == len(batch)
    assert [record["event_id"] for record in records(kafka, topics.EVENTS, "c-order-")] == sent


def test_without_kafka_the_answer_is_503_within_two_seconds(tmp_path: Path) -> None:
    """Nothing is accepted that Kafka does not have, and the client is told when to come again."""
    away = Settings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}")
    with collector(away, tmp_path) as client:
        began = time.monotonic()
        answer = client.post("/v1/events", json=event("c-away"))
        assert answer.status_code == 503
        assert time.monotonic() - began < 3
        assert answer.headers["retry-after"] == "2"
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_too_much_in_flight_is_429(kafka: Settings, tmp_path: Path) -> None:
    """Above the limit a request is told to come again, and loses nothing by it."""
    with collector(kafka, tmp_path, CROSSFADE_COLLECTOR_IN_FLIGHT_MAX="1") as client:

        def send(n: int) -> httpx.Response:
            batch = "\n".join(json.dumps(event(f"c-busy-{n}-{i}")) for i in range(1_000))
            return client.post("/v1/events", content=batch, headers=NDJSON)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(16)))
    codes = {answer.status_code for answer in answers}
    assert codes == {202, 429}
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
    accepted = sum(answer.json()["accepted"] for answer in answers if answer.status_code == 202)
    assert len(records(kafka, topics.EVENTS, "c-busy-")) == accepted


def test_every_encoding_is_taken(client: httpx.Client) -> None:
    """gzip, zstd and deflate carry the same events; a file that was appended to is read to its end."""
    packers = {"gzip": gzip.compress, "zstd": zstd.compress, "deflate": zlib.compress}
    for name, pack in packers.items():
        body = json.dumps([event(f"c-{name}")]).encode()
        answer = client.post("/v1/events", content=pack(body), headers={**JSON, "content-encoding": name})
        assert answer.json()["accepted"] == 1
    lines = [json.dumps(event(f"c-member-{n}")).encode() + b"\n" for n in range(2)]
    headers = {**NDJSON, "content-encoding": "gzip"}
    assert (
        client.post("/v1/events", content=b"".join(map(gzip.compress, lines)), headers=headers).json()["accepted"] == 2
    )


def test_a_wrong_clock_is_repaired(client: httpx.Client, kafka: Settings) -> None:
    """A device that is a day ahead is counted when it listened; its own time stays beside the repaired one."""
    now_ms, day_ms = int(time.time() * 1000), 86_400_000
    sent_at = now_ms + day_ms
    told = event("c-clock", timestamp=sent_at - 60_000, sent_at=sent_at, device_timestamp=1)
    assert client.post("/v1/events", json=told).json()["accepted"] == 1
    (record,) = records(kafka, topics.EVENTS, "c-clock")
    assert record["device_timestamp"] == datetime.fromtimestamp((sent_at - 60_000) / 1000, UTC)
    assert abs((record["timestamp"] - record["device_timestamp"]).total_seconds() + 86_400) < 10
    assert record["received_at"] - record["timestamp"] == timedelta(seconds=60)


def test_a_test_key_is_answered_and_stores_nothing(client: httpx.Client, ci_key: str, kafka: Settings) -> None:
    """Judged as it would be, and said so in a header; neither events nor dead letters nor ids are kept."""
    headers = {"authorization": f"Bearer {ci_key}"}
    body = [event("c-test"), event("c-test"), {"event_id": "c-test", "event_type": "rewind"}]
    for _ in range(2):
        answer = client.post("/v1/events", json=body, headers=headers)
        assert answer.headers["crossfade-test"] == "true"
        assert [result["status"] for result in answer.json()["results"]] == ["accepted", "duplicate", "rejected"]
    assert answer.json()["results"][2]["path"] == "$[2].event_type"
    assert answer.json()["results"][2]["value"] == "rewind"
    assert records(kafka, topics.EVENTS, "c-test") == records(kafka, topics.DEAD_LETTERS, "c-test") == []
    assert "crossfade-test" not in client.post("/v1/events", json=event("c-real")).headers


def test_a_key_has_a_rate(client: httpx.Client, slow_key: str) -> None:
    """Answers tell what is left; a key that has used its rate waits, and the others do not notice."""
    headers = {"authorization": f"Bearer {slow_key}"}
    first = client.post("/v1/events", json=[event(f"c-rate-{n}") for n in range(60)], headers=headers)
    assert first.json()["accepted"] == 60
    assert first.headers["ratelimit-policy"] == '"events";q=50;qu="events";w=10'
    assert first.headers["ratelimit"].startswith('"events";r=0;t=')
    second = client.post("/v1/events", json=event("c-rate"), headers=headers)
    assert second.status_code == 429
    assert 1 <= int(second.headers["retry-after"]) <= 3
    assert client.post("/v1/events", json=event("c-rate")).status_code == 202


def test_pages_of_listed_origins_may_send(kafka: Settings, tmp_path: Path) -> None:
    """A preflight names the headers of a real request, answers can be read, and other origins get no leave."""
    with collector(kafka, tmp_path, CROSSFADE_COLLECTOR_CORS_ORIGINS='["https://radio.example"]') as client:
        asked = {
            "origin": "https://radio.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-encoding,content-type",
        }
        leave = client.options("/v1/events", headers=asked)
        assert leave.status_code == 200
        assert leave.headers["access-control-allow-origin"] == "https://radio.example"
        refused = client.options("/v1/events", headers={**asked, "origin": "https://other.example"})
        assert "access-control-allow-origin" not in refused.headers
        answer = client.post("/v1/events", json=event("c-cors"), headers={"origin": "https://radio.example"})
        assert answer.headers["access-control-allow-origin"] == "https://radio.example"
        assert "RateLimit" in answer.headers["access-control-expose-headers"]
        wrong = {"origin": "https://radio.example", "authorization": "Bearer no"}
        assert client.post("/v1/events", json={}, headers=wrong).headers["access-control-allow-origin"]


def test_a_beacon_brings_its_key_along(client: httpx.Client, kafka: Settings) -> None:
    """navigator.sendBeacon sets no headers: text with the key in the query is judged like anything else."""
    key = client.headers["authorization"].removeprefix("Bearer ")
    text = {"content-type": "text/plain;charset=UTF-8", "authorization": ""}
    lines = "\n".join(json.dumps(event(f"c-beacon-{n}")) for n in range(2))
    assert client.post("/v1/beacon", params={"key": key}, content=lines, headers=text).json()["accepted"] == 2
    one = json.dumps(event("c-beacon-one"))
    assert client.post("/v1/beacon", params={"key": key}, content=one, headers=text).json()["accepted"] == 1
    assert len(records(kafka, topics.EVENTS, "c-beacon-")) == 3
    assert client.post("/v1/beacon", params={"key": "wrong"}, content=one, headers=text).status_code == 401
    assert client.post("/v1/beacon", content=one).status_code == 401


def ready_as(client: httpx.Client, status: int) -> dict[str, Any]:
    """What /readyz says once it has this status."""
    end = time.monotonic() + 10
    while (answer := client.get("/readyz")).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
    return dict(answer.json())


def test_readiness_names_what_is_missing(client: httpx.Client, keyring: Keyring, kafka: Settings) -> None:
    """A file of keys that cannot be read, a Kafka without topics and a silent registry are each told by name."""
    assert client.get("/readyz").json() == {"ok": True, "stage": "collector", "kafka": "ready", "keys": "ready"}
    kept = keyring.file.read_bytes()
    keyring.file.write_text("{")
    answer = ready_as(client, 503)
    assert (answer["kafka"], "api-keys.json" in answer["keys"]) == ("ready", True)
    keyring.file.write_bytes(kept)
    ready_as(client, 200)
    keys = Keys(kafka.model_copy(update={"data_dir": keyring.file.parent}))
    silent = kafka.model_copy(update={"schema_registry_url": f"http://127.0.0.1:{free_port()}"})
    state = Readiness(silent, kafka_clients.producer(kafka), keys).state()
    assert (state["ok"], state["kafka"]) == (False, "ready")
    assert "schema registry" in state["schema_registry"]


def test_a_sender_that_never_finishes_its_head_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a request, or with an endless head, does not stay; one that asks in time does."""
    monkeypatch.setattr(patience, "HEAD_TIMEOUT_S", 0.3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def run() -> list[bytes]:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: patience.Connection(config, state, {}), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()

        async def answered(*pieces: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            for piece in pieces:
                writer.write(piece)
            found = await asyncio.wait_for(reader.read(100), 5)
            writer.close()
            return found

        try:
            endless = [b"GET / HTTP/1.1\r\n", b"X: " + b"a" * patience.HEAD_MAX_BYTES, b"a" * 100]
            whole = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
            return [
                await answered(),
                await answered(b"GET / HTTP/1.1\r\nX:"),
                await answered(*endless),
                await answered(whole),
            ]
        finally:
            server.close()

    silent, slow, endless, whole = asyncio.run(run())
    assert (silent, slow, endless) == (b"", b"", b"")
    assert whole.startswith(b"HTTP/1.1 204")


def test_addresses_of_clients_are_nowhere(kafka: Settings, tmp_path: Path) -> None:
    """What a proxy tells of the sender is neither logged nor stored, with good, bad and broken requests alike."""
    address = "203.0.113.77"
    log = tmp_path / "log"
    with collector(kafka, tmp_path, log, CROSSFADE_LOG_LEVEL="debug") as client:
        headers = {"x-forwarded-for": address, "forwarded": f"for={address}", "x-real-ip": address}
        client.post("/v1/events", json=event("c-address", location=address), headers=headers)
        client.post("/v1/events", json={"event_id": "c-address"}, headers=headers)
        client.post("/v1/events", content=b"{", headers={**JSON, **headers})
        client.post("/nowhere", headers=headers)
        assert address not in client.get("/metrics").text
    assert address not in log.read_text()
    assert "/v1/events" not in log.read_text()
    (record,) = records(kafka, topics.EVENTS, "c-address")
    (letter,) = records(kafka, topics.DEAD_LETTERS, "c-address")
    assert address not in repr(record) + repr(letter)


def test_a_kafka_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """While Kafka is known to be away a request is refused at once and whole; nothing of it is in Kafka afterwards."""
    settings = Settings(data_dir=tmp_path / "kafka", kafka_bootstrap_servers="")
    broker = Broker.prepare(settings, lambda *_: None, 21292)
    ready = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
    with contextlib.ExitStack() as stack:
        with running(broker):
            apply_topics(ready)
            client = stack.enter_context(collector(ready, tmp_path))
            assert client.post("/v1/events", json=event("c-before")).status_code == 202
        surprised = client.post("/v1/events", json=event("c-under"))
        assert surprised.status_code == 503
        assert surprised.headers["retry-after"] == "2"
        for n in range(20):
            began = time.monotonic()
            answer = client.post("/v1/events", json=[event(f"c-refused-{n}"), {"event_id": f"c-refused-{n}"}])
            assert answer.status_code == 503
            assert "nothing of this request" in answer.json()["detail"]
            assert time.monotonic() - began < 1
        assert client.get("/readyz").json()["kafka"] == "does not answer"
        with running(broker):
            wait_for_broker(ready)
            end = time.monotonic() + 20
            while (again := client.post("/v1/events", json=event("c-under"))).status_code != 202:
                assert time.monotonic() < end, again.text
                time.sleep(0.1)
            assert client.get("/healthz").json()["in_flight"] == 0
            assert len(records(ready, topics.EVENTS, "c-before")) == 1
            assert records(ready, topics.EVENTS, "c-refused") == []
            assert records(ready, topics.DEAD_LETTERS, "c-refused") == []
            client.close()
