"""The sink on a real Kafka: kill -9 at any moment, and every row is there once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import topics
from schemas.event_time import WATERMARK_KEY
from schemas.kafka import codec_of, partitions_of, producer
from schemas.settings import CHECKOUT, Settings
from sinks.ledger import Ledger, balance
from tests.sinks.conftest import free_port
from warehouse.runner import Reader, WarehouseError, reader

EVENTS = 40_000
NOW_MS = int(time.time() * 1000)  # brokers refuse records from the future


@pytest.fixture
def own(own_kafka: Settings) -> Settings:
    return own_kafka.model_copy(update={"quack_port": free_port(), "sink_metrics_port": free_port()})


@contextlib.contextmanager
def sink(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A sink process, killed at the end of the block if it still runs."""
    env = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(settings.data_dir),
        "CROSSFADE_QUACK_PORT": str(settings.quack_port),
        "CROSSFADE_SINK_METRICS_PORT": str(settings.sink_metrics_port),
        "CROSSFADE_SINK_BATCH_ROWS": "2000",
    }
    process = subprocess.Popen([sys.executable, "-m", "sinks"], cwd=CHECKOUT, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def letter(letter_id: str, topic: str | None = None) -> dict[str, Any]:
    return {
        "dead_letter_id": letter_id,
        "tenant": "default",
        "source": "replay",
        "stage": "producers",
        "reason": "not_json",
        "detail": "",
        "topic": topic,
        "payload": b"\xff{",
        "failed_at": NOW_MS,
    }


def fill(settings: Settings, seed: int) -> tuple[set[str], Ledger]:
    """Writes events with repetitions and broken records, letters and a broken play; what must come of it."""
    rnd = random.Random(seed)
    events, letters = codec_of(settings, topics.EVENTS), codec_of(settings, topics.DEAD_LETTERS)
    client = producer(settings)
    ids: set[str] = set()
    broken: list[tuple[int, int]] = []
    repeated = 0
    for number in range(EVENTS):
        if rnd.random() < 0.0005:
            client.produce(
                topics.EVENTS, b"nonsense", b"u", on_delivery=lambda _, m: broken.append((m.partition(), m.offset()))
            )
            continue
        event_id = str(rnd.randrange(number) if number and rnd.random() < 0.02 else number)
        repeated += event_id in ids
        ids.add(event_id)
        event = {
            "event_id": event_id,
            "event_type": "play",
            "user_id": f"u{int(event_id) % 500}",
            "track_id": "t",
            "timestamp": NOW_MS + number,
            "platform": "spotify",
            "tenant": "default",
            "source": "simulator",
            "received_at": NOW_MS,
        }
        client.produce(topics.EVENTS, events.encode(event), str(event["user_id"]))
        client.poll(0)
    for door in ("a", "b", "a"):
        client.produce(topics.DEAD_LETTERS, letters.encode(letter(f"replay/{door}")), door)
    for partition in partitions_of(client, topics.EVENTS):
        client.produce(topics.EVENTS, None, WATERMARK_KEY, partition, timestamp=NOW_MS + 70_000)
    client.produce(topics.PLAYS, b"nonsense", b"u")
    assert client.flush(30) == 0
    for _ in range(2):  # as a worker does that was killed: the same letters again
        for partition, offset in broken:
            record = letter(f"{topics.EVENTS}/{partition}/{offset}", topics.EVENTS)
            client.produce(topics.DEAD_LETTERS, letters.encode(record), b"l")
    assert client.flush(30) == 0
    accepted = len(ids) + repeated + len(broken) + 3
    return ids, Ledger(accepted, len(ids), len(broken) + 2, repeated + 1, 0)


def health(settings: Settings) -> dict[str, Any]:
    """What the sink tells of itself; nothing while it is not up yet. Raises HTTPError when it is unwell."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.sink_metrics_port}/healthz", timeout=5) as answer:
            state: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError:
        raise
    except OSError:
        return {}
    return state


def test_kill_9_loses_and_doubles_nothing(own: Settings) -> None:
    """Killed again and again while it loads, the sink ends with every event once, and the ledger balances."""
    ids, right = fill(own, seed=7)
    rnd = random.Random(1)
    killed = 0
    source = reader(own)
    for _ in range(6):
        with sink(own) as process:
            end = time.monotonic() + 30
            before = rows(own, source)
            while rows(own, source) == before and time.monotonic() < end and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rnd.uniform(0, 0.2))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
    assert killed == 6
    with sink(own) as process:
        end = time.monotonic() + 60
        while (now := balance(own)) != right and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.2)
        assert now == right
        assert now.settled
        found = source.query("SELECT event_id FROM events")
        assert len(found.rows) == len(ids)
        assert {row["event_id"] for row in found.rows} == ids
        assert source.query("SELECT SUM(difference) AS d FROM ledger_balance").rows == [{"d": 0}]
        while (state := health(own)).get("lag") != 0 and time.monotonic() < end:
            time.sleep(0.2)
        sink_letters = "SELECT topic, reason, payload FROM dead_letters WHERE stage = 'sinks'"
        assert source.query(sink_letters).rows == [
            {"topic": "plays", "reason": "unknown_schema", "payload": b"nonsense"}
        ]
        assert state["ledger"] == right.as_dict()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert balance(own) == right


def rows(settings: Settings, source: Reader) -> int:
    """Rows of events; 0 while there is no warehouse."""
    if not settings.duckdb_file.exists():
        return 0
    with contextlib.suppress(WarehouseError):
        return int(source.query("SELECT COUNT(*) AS n FROM events").rows[0]["n"])
    return 0


def test_a_missing_kafka_is_said_in_one_line(settings_without_kafka: Settings) -> None:
    """Without a broker the sink ends with one clear line, and no traceback."""
    env = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": "", "CROSSFADE_DATA_DIR": str(settings_without_kafka.data_dir)}
    done = subprocess.run(
        [sys.executable, "-m", "sinks"], cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "No Kafka is known" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def settings_without_kafka(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("none"))
