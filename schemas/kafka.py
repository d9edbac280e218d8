"""How every stage talks to Kafka: client settings, codecs of topics, and the wait for a broker."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.codec import Codec, schema
from schemas.problem import KafkaUnavailableError as KafkaUnavailableError  # noqa: PLC0414 - handed on
from schemas.registry import CachedRegistry, RegistryRefusedError, registry_at
from schemas.settings import Settings
from schemas.topics import MESSAGE_MAX_BYTES, topics
from schemas.writers import Writers


def _base(settings: Settings) -> dict[str, Any]:
    if not settings.kafka_bootstrap_servers:
        raise KafkaUnavailableError(
            "No Kafka is known: start the pipeline with ./start_local.sh, or set KAFKA_BOOTSTRAP_SERVERS."
        )
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "log_level": 2,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1_000,  # 10 s by default: so long would every stage be behind a restarted broker
    }


def producer(settings: Settings, **overrides: Any) -> Producer:
    """An idempotent producer that waits for all in-sync replicas: nothing is reported delivered and then lost.

    Retries never reorder or double a record within this producer's life; a restart may repeat one, which its
    deterministic key or event_id makes harmless.
    """
    return Producer(
        {
            **_base(settings),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 1 << 20,
            "message.max.bytes": MESSAGE_MAX_BYTES,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 256 << 10,
            **overrides,
        }
    )


def consumer(settings: Settings, group: str = "crossfade-unmanaged", **overrides: Any) -> Consumer:
    """A consumer that commits nothing by itself: offsets live where the results live."""
    return Consumer(
        {
            **_base(settings),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 64 << 10,
            "fetch.max.bytes": 2 * MESSAGE_MAX_BYTES,
            "max.partition.fetch.bytes": MESSAGE_MAX_BYTES,
            **overrides,
        }
    )


def admin(settings: Settings) -> AdminClient:
    """An admin client."""
    return AdminClient(_base(settings))


def wait_for_broker(settings: Settings, timeout_s: float = 30.0) -> None:
    """Returns once a broker answers; raises KafkaUnavailableError after `timeout_s`."""
    client, end = admin(settings), time.monotonic() + timeout_s
    while True:
        try:
            client.list_topics(timeout=2)
            return
        except KafkaException:
            if time.monotonic() > end:
                raise KafkaUnavailableError(
                    f"No Kafka answers at {settings.kafka_bootstrap_servers} for {timeout_s:.0f} s: "
                    "is it running, and is KAFKA_BOOTSTRAP_SERVERS right?"
                ) from None


def partitions_of(client: AdminClient | Consumer | Producer, topic: str) -> list[int]:
    """Partition numbers of a topic; raises KafkaUnavailableError when the topic does not exist."""
    found = client.list_topics(topic, timeout=10).topics[topic]
    if found.error is not None or not found.partitions:
        raise KafkaUnavailableError(f"Topic {topic} does not exist: run `crossfade topics apply`.")
    return sorted(found.partitions)


def offsets(client: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """(earliest offset that is kept, offset after the last) of a partition, asked from the broker."""
    low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10, cached=False)
    return low, high


def is_fatal(message: Message) -> bool:
    """Whether a polled message carries an error that the client cannot recover from by itself."""
    error = message.error()
    return error is not None and (error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET)


def codec_of(
    settings: Settings, topic: str, wanted: Collection[str] | None = None, hashed: Sequence[str] = ()
) -> Codec:
    """The codec of a topic's values, which reads all columns or those that are wanted, and hashes of some.

    Registers the schema when a registry is configured. Raises ValueError for a topic without Avro, and
    KafkaUnavailableError when the registry refuses, or is away and has never told the id.
    """
    name = next((t.schema for t in topics(settings) if t.name == topic), None)
    if name is None:
        raise ValueError(f"{topic} holds no Avro")
    registry = registry_of(settings)
    registry_id = None if registry is None else registered(registry, topic, name)
    writers = Writers.named(name, registry_id, schemas_home(settings), registry)
    return Codec(name, writers=writers, wanted=wanted, hashed=hashed)


def schemas_home(settings: Settings) -> Path:
    """The directory of schemas that were registered by hand, and of what a registry told."""
    return settings.data_dir / "schemas"


def registry_of(settings: Settings) -> CachedRegistry | None:
    """The registry of SCHEMA_REGISTRY_URL; None when none is set."""
    if not settings.schema_registry_url:
        return None
    return CachedRegistry(registry_at(settings.schema_registry_url), schemas_home(settings) / "registry")


def registered(registry: CachedRegistry, topic: str, name: str) -> int:
    """The registry's id of `schemas/<name>.avsc` under the topic's subject; raises KafkaUnavailableError."""
    try:
        return registry.register(f"{topic}-value", schema(name))
    except RegistryRefusedError as error:
        raise KafkaUnavailableError(
            f"The schema registry at {registry.registry.name} refused {name} as {topic}-value: {error}"
        ) from None
