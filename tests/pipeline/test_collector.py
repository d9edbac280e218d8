"""The collector as clients meet it: a real process, real HTTP, real Kafka."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition

from schemas import kafka as kafka_clients
from schemas import topics
from schemas.settings import HOME, Settings

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
def collector(settings: Settings, data_dir: Path, **environment: str) -> Iterator[httpx.Client]:
    """Runs the collector and gives a client that has its key; checks that it stops cleanly."""
    port = free_port()
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
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


@pytest.fixture(scope="module")
def client(kafka: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with collector(kafka, tmp_path_factory.mktemp("collector")) as ready:
        yield ready


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
