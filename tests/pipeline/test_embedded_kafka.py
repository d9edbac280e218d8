"""The embedded Kafka's own life: formatted once, restarted after kill -9, nothing acknowledged lost."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from crossfade import topics
from crossfade.kafka import Broker
from schemas.kafka import consumer, producer, wait_for_broker
from schemas.settings import Settings
from schemas.topics import PLAYS
from tests.pipeline.conftest import running


def quiet(_done: int, _total: int) -> None:
    """Nobody looks at the progress."""


def test_any_cluster_id_can_be_formatted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that starts with a dash (one in 64 does) is not taken for an option."""
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
    broker = Broker.prepare(Settings(data_dir=tmp_path), quiet, 21292)
    assert "cluster.id=-Pj4" in (broker.home / "log" / "meta.properties").read_text()


def test_acknowledged_records_survive_kill_9(tmp_path: Path) -> None:
    """Every record that was acknowledged before the kill is read after the restart, on another port too."""
    settings = Settings(data_dir=tmp_path, kafka_bootstrap_servers="")
    for round_number in range(2):
        broker = Broker.prepare(settings, quiet, 21292)
        with running(broker) as process:
            reached = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
            wait_for_broker(reached)
            topics.apply(reached)
            if round_number == 0:
                sender = producer(reached)
                for number in range(1000):
                    sender.produce(PLAYS, str(number).encode(), partition=0)
                assert sender.flush(30) == 0
                process.kill()
                process.wait(10)
            else:
                reader = consumer(reached)
                reader.assign([TopicPartition(PLAYS, 0, 0)])
                values: list[bytes] = []
                while len(values) < 1000:
                    found = reader.consume(1000, 20)
                    assert found, f"only {len(values)} records came back"
                    values += [message.value() for message in found]
                reader.close()
                assert values == [str(number).encode() for number in range(1000)]
