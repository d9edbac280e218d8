"""The worker process on a real Kafka, killed again and again, compared with the batch oracle."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition

from crossfade import ports
from schemas import kafka, topics
from schemas.event_time import WATERMARK_KEY
from schemas.settings import Settings
from tests.oracle import COUNTS, DIMENSIONS, Oracle

START_MS = 1_699_920_600_000
"""Ten minutes after midnight: a rebuild goes through a day step by step, from its beginning."""

PORT = ports.reserve(21101)


@contextmanager
def worker(settings: Settings, session_ms: int = 2_500) -> Iterator[subprocess.Popen[bytes]]:
    """The worker as it is started by the supervisor; its next start waits for the end of its session, if killed."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(settings.data_dir),
        "CROSSFADE_WORKER_METRICS_PORT": str(PORT),
        "CROSSFADE_IDLE_MS": "60000",
        "CROSSFADE_SNAPSHOT_EVERY_MS": "300",
        "CROSSFADE_SESSION_TIMEOUT_MS": str(session_ms),
    }
    with (settings.data_dir / "worker.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "stream_processors"], env=environment, stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.2)


def lag() -> int | None:
    try:
        answer: int | None = httpx.get(f"http://127.0.0.1:{PORT}/healthz", timeout=2).json()["lag"]
    except (httpx.HTTPError, KeyError):
        return None
    return answer


def page() -> str:
    return httpx.get(f"http://127.0.0.1:{PORT}/", timeout=10).text


def read_all(settings: Settings, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
    """Every record of a topic from its beginning."""
    consumer, codec, found = kafka.consumer(settings, "test"), kafka.codec_of(settings, topic), []
    for partition in kafka.partitions_of(consumer, topic):
        low, high = kafka.offsets(consumer, topic, partition)
        consumer.assign([TopicPartition(topic, partition, low)])
        at = low
        while at < high:
            for message in consumer.consume(min(1_000, high - at), 5):
                assert message.error() is None
                found.append((message.key(), codec.decode(message.value())))
                at = message.offset() + 1
    consumer.close()
    return found


def event(number: int, rnd: random.Random) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "event_type": rnd.choice(["play", "play", "pause", "skip", "like", "share"]),
        "user_id": f"user{rnd.randrange(300)}",
        "track_id": f"t{rnd.randrange(50)}",
        "timestamp": START_MS + number * 60 + rnd.randrange(-4_000, 4_000) - (300_000 if rnd.random() < 0.002 else 0),
        "platform": rnd.choice(["spotify", "custom"]),
        "country": rnd.choice([None, "DE", "US"]),
        "ms_played": rnd.choice([None, rnd.randrange(300_000)]),
        "duration_ms": 180_000,
        "track_name": "Slow Blues",
        "tenant": "default",
        "source": "replay",
        "received_at": START_MS,
    }


class Feed:
    """Writes a log to Kafka and remembers it, partition by partition."""

    def __init__(self, settings: Settings) -> None:
        self.log: list[list[Any]] = [[] for _ in range(settings.partitions)]
        self.broken = 0
        self._producer, self._rnd = kafka.producer(settings), random.Random(11)
        self._codec = kafka.codec_of(settings, topics.EVENTS)

    def send(self, numbers: range) -> None:
        for number in numbers:
            one = event(number, self._rnd)
            partition = hash_of(one["user_id"]) % len(self.log)
            value = self._codec.encode(one)
            for _ in range(2 if self._rnd.random() < 0.01 else 1):
                self._produce(partition, one["user_id"].encode(), value)
                self.log[partition].append(one)
            if self._rnd.random() < 0.001:
                self._produce(partition, b"broken", value[:-5])
                self.broken += 1
        assert self._producer.flush(30) == 0

    def end(self, last: int) -> None:
        for partition in range(len(self.log)):
            mark = START_MS + last * 60 + 100_000
            self._producer.produce(topics.EVENTS, None, WATERMARK_KEY, partition, timestamp=mark)
            self.log[partition].append(mark)
        assert self._producer.flush(30) == 0

    def _produce(self, partition: int, key: bytes, value: bytes) -> None:
        self._producer.produce(topics.EVENTS, value, key, partition)


def hash_of(user: str) -> int:
    return int(user.removeprefix("user"))


@pytest.mark.timeout(240)
def test_windows_and_plays_survive_kill_9(own_kafka: Settings) -> None:
    """24,000 events with duplicates, late and broken ones, the worker killed three times: nothing lost or twice.

    In the end its page tells the watermark of each partition and of the merge; SIGTERM stops it: clean, and bounded.
    """
    feed = Feed(own_kafka)
    for round_ in range(3):
        with worker(own_kafka) as process:
            feed.send(range(round_ * 8_000, (round_ + 1) * 8_000))
            wait_until(lambda: lag() is not None, "the worker's start")
            time.sleep(0.2 + 0.5 * round_)  # somewhere in the middle of its work
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    feed.end(24_000)
    with worker(own_kafka) as process:
        wait_until(lambda: lag() == 0, "the worker's catching up")
        time.sleep(1.2)
        wait_until(lambda: lag() == 0, "the merge of the last windows")
        reached = datetime.fromtimestamp((START_MS + 24_000 * 60 + 100_000 - own_kafka.grace_ms) / 1000, UTC)
        cell, places = f"<td>{reached:%Y-%m-%d %H:%M:%S}</td>", own_kafka.partitions + 1
        wait_until(lambda: page().count(cell) == places, "the telling of the watermark")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    oracle = Oracle()
    for log in feed.log:
        oracle.read(log)
    windows: dict[Any, Any] = {}
    for key, row in read_all(own_kafka, topics.WINDOW_METRICS):
        start = int(row["window_start"].timestamp() * 1000)
        found = ((start, *(row[n] for n in DIMENSIONS)), tuple(row[n] for n in COUNTS))
        assert windows.setdefault(key, found) == found, "a window that is emitted again says the same"
    assert dict(windows.values()) == oracle.counts()
    plays: dict[str, Any] = {}
    for _, row in read_all(own_kafka, topics.PLAYS):
        found = {"ended_by": row["ended_by"], "ms_played": row["ms_played"]}
        assert plays.setdefault(row["play_id"], found) == found, "a play that is emitted again says the same"
    assert plays == oracle.plays
    letters = {row["dead_letter_id"]: row["reason"] for _, row in read_all(own_kafka, topics.DEAD_LETTERS)}
    assert len(letters) == feed.broken
    assert set(letters.values()) <= {"broken_record"}
    tracks = {row["track_id"] for _, row in read_all(own_kafka, topics.TRACK_CATALOGUE)}
    assert tracks == {one["track_id"] for log in feed.log for one in log if not isinstance(one, int)}
