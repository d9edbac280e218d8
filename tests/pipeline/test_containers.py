"""A Kafka and a schema registry that are not ours, in containers: they run where Docker runs."""

from __future__ import annotations

import struct
from pathlib import Path

import docker
import pytest
from confluent_kafka import TopicPartition
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs
from testcontainers.kafka import KafkaContainer

from crossfade import topics as topic_setup
from producers.door import Door
from schemas import kafka, topics
from schemas.settings import Settings


def _docker_runs() -> bool:
    try:
        docker.from_env().ping()
    except DockerException:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not _docker_runs(), reason="no Docker engine on this machine: another Kafka and a registry run in containers"
)

EVENT = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "ann",
    "track_id": "t1",
    "timestamp": "2026-01-05T20:15:00Z",
    "platform": "custom",
    "location": None,
}


def send_and_read(settings: Settings) -> bytes:
    """One event through the door; its value as it stands in Kafka."""
    topic_setup.apply(settings)
    door = Door(settings, "replay")
    door.take(EVENT, "line 1")
    door.flush()
    consumer = kafka.consumer(settings, "test")
    for partition in kafka.partitions_of(consumer, topics.EVENTS):
        low, high = kafka.offsets(consumer, topics.EVENTS, partition)
        if high > low:
            consumer.assign([TopicPartition(topics.EVENTS, partition, low)])
            (message,) = consumer.consume(1, 20)
            value: bytes = message.value()
            return value
    raise AssertionError("the event is in no partition")


def test_a_kafka_of_ones_own(tmp_path: Path) -> None:
    """Topics are made and an event is read back from a Kafka that somebody else runs."""
    with KafkaContainer("confluentinc/cp-kafka:7.9.1").with_kraft() as container:
        settings = Settings(data_dir=tmp_path, kafka_bootstrap_servers=container.get_bootstrap_server())
        record = kafka.codec_of(settings, topics.EVENTS).decode(send_and_read(settings))
    assert (record["event_id"], record["tenant"]) == ("e1", "default")
    assert record["user_id"] != "ann"


def test_a_schema_registry_switches_to_confluent_format(tmp_path: Path) -> None:
    """With SCHEMA_REGISTRY_URL the schema is registered and values start with a zero byte and its id."""
    registry = DockerContainer("apicurio/apicurio-registry-mem:2.6.5.Final").with_exposed_ports(8080)
    with KafkaContainer("confluentinc/cp-kafka:7.9.1").with_kraft() as container, registry:
        wait_for_logs(registry, "Listening on")
        url = f"http://{registry.get_container_host_ip()}:{registry.get_exposed_port(8080)}/apis/ccompat/v7"
        settings = Settings(
            data_dir=tmp_path, kafka_bootstrap_servers=container.get_bootstrap_server(), schema_registry_url=url
        )
        value = send_and_read(settings)
        codec = kafka.codec_of(settings, topics.EVENTS)
    assert value[:1] == b"\0"
    assert value.startswith(codec.prefixes[0].data)
    assert struct.unpack(">I", value[1:5])[0] > 0
    assert codec.decode(value)["event_id"] == "e1"
