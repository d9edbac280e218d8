"""A Kafka of one's own for one run of a bench: the embedded node in a temporary directory, and what is asked of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.generator import Log
from crossfade.child import with_parent
from crossfade.kafka import Broker, answers
from crossfade.ports import reserve
from schemas import kafka
from schemas.settings import Settings
from schemas.topics import MESSAGE_MAX_BYTES

_START_S, _WRITE_S = 60.0, 600.0
_PORT = 23092
_CHUNK = 50_000

BATCHES = "linger 20 ms, at most 1 MB, lz4"
"""How the input stands in Kafka, as schemas.kafka.producer writes it."""


@dataclass(frozen=True)
class Row:
    """A record of an output topic. `time_ms`: when the broker appended it."""

    key: bytes
    value: bytes
    time_ms: int


@dataclass(frozen=True)
class Cluster:
    """A running node."""

    settings: Settings
    pid: int
    health_port: int
    """Free for the /healthz of a worker under test."""

    def create(self, topic: str, partitions: int, **configs: str) -> None:
        """Makes a topic whose records are stamped by the broker; a topic that exists is emptied."""
        admin = self._admin()
        self.delete(topic)
        settings = {"max.message.bytes": str(MESSAGE_MAX_BYTES), "message.timestamp.type": "LogAppendTime", **configs}
        for future in admin.create_topics([NewTopic(topic, partitions, 1, config=settings)]).values():
            future.result(30)
        end = time.monotonic() + _START_S
        while len(self._partitions(admin, topic)) < partitions:
            if time.monotonic() > end:
                raise TimeoutError(f"topic {topic} has no leader")
            time.sleep(0.1)

    def delete(self, *topics: str) -> None:
        """Deletes topics, those of them that exist."""
        admin = self._admin()
        found = [topic for topic in topics if topic in admin.list_topics(timeout=10).topics]
        for future in admin.delete_topics(found).values() if found else ():
            future.result(30)
        end = time.monotonic() + _START_S
        while any(topic in admin.list_topics(timeout=10).topics for topic in found) and time.monotonic() < end:
            time.sleep(0.1)

    def topics(self) -> set[str]:
        """The topics that exist."""
        return set(self._admin().list_topics(timeout=10).topics)

    def write(self, topic: str, log: Log, **producer_settings: Any) -> float:
        """Writes the log and returns the seconds it took."""
        producer = kafka.producer(self.settings, **producer_settings)
        began = time.monotonic()
        for first in range(0, log.frame.height, _CHUNK):
            part = log.frame[first : first + _CHUNK]
            values = log.values(first, first + part.height)
            for value, user, partition in zip(values, part["user_id"], part["partition"], strict=True):
                while True:
                    try:
                        producer.produce(topic, value, user, partition)
                        break
                    except BufferError:
                        producer.poll(0.1)
        if producer.flush(_WRITE_S):
            raise TimeoutError(f"Kafka took not all of the input within {_WRITE_S:.0f} s")
        return time.monotonic() - began

    def ends(self, topic: str, consumer: Consumer) -> int:
        """Sum of the end offsets of a topic: how much stands in it, markers of transactions included."""
        return sum(kafka.offsets(consumer, topic, p)[1] for p in self._partitions(self._admin(), topic))

    def rows(self, topic: str, timeout_s: float = 60.0) -> list[Row]:
        """Every committed record of a topic."""
        consumer = kafka.consumer(self.settings, "bench-reader", **{"enable.partition.eof": True})
        places = self._partitions(self._admin(), topic)
        consumer.assign([TopicPartition(topic, place, 0) for place in places])
        rows: list[Row] = []
        ended: set[int] = set()
        end = time.monotonic() + timeout_s
        while len(ended) < len(places) and time.monotonic() < end:
            for message in consumer.consume(10_000, 0.5):
                if message.error() is not None:
                    ended.add(message.partition())
                elif message.value() is not None:
                    rows.append(Row(message.key() or b"", message.value(), message.timestamp()[1]))
        consumer.close()
        return rows

    def _admin(self) -> AdminClient:
        return kafka.admin(self.settings)

    @staticmethod
    def _partitions(admin: AdminClient, topic: str) -> list[int]:
        found = admin.list_topics(topic, timeout=10).topics[topic]
        return sorted(found.partitions) if found.error is None else []


@contextlib.contextmanager
def cluster(directory: Path | None = None) -> Iterator[Cluster]:
    """A node that is gone, with its data, when the block ends; raises ProblemError when it cannot start."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-", dir=directory, ignore_cleanup_errors=True) as home:
        settings = Settings(data_dir=Path(home), kafka_bootstrap_servers="")
        broker = Broker.prepare(settings, _progress, _PORT)
        with (broker.home / "kafka.log").open("ab") as log:
            process = subprocess.Popen(with_parent(broker.command()), cwd=broker.home, stdout=log, stderr=log)
        try:
            end = time.monotonic() + _START_S
            while not answers(broker.bootstrap_servers):
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"Kafka did not start: {(broker.home / 'kafka.log').read_text()[-2000:]}")
                time.sleep(0.05)
            ready = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
            kafka.wait_for_broker(ready)
            yield Cluster(ready, process.pid, reserve(_PORT + 400))
        finally:
            process.kill()
            process.wait(10)


def _progress(done: int, total: int) -> None:
    print(f"\rKafka archives {done}/{total}", end="\n" if done == total else "", file=sys.stderr)
