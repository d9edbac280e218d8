"""Brings the topics of a Kafka to what schemas.topics says: creates what is missing, alters what differs.

Where a schema registry is set, our schemas are registered there too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from crossfade import writers
from crossfade.problem import ProblemError
from schemas.kafka import admin, wait_for_broker
from schemas.settings import Settings
from schemas.topics import Topic, topics

FAUST_PREFIX = "crossfade-"
"""Changelogs and other topics that Faust makes for the worker start with its app id."""

_TIMEOUT_S = 30.0


class TopicsError(ProblemError):
    """Kafka did not let us; the message says which topic and why."""


def apply(settings: Settings) -> list[str]:
    """Creates and alters topics; returns one line per thing done, none when everything is right already.

    Raises TopicsError when Kafka refuses, SchemaError when the registry does, KafkaUnavailableError when one of them
    does not answer.
    """
    wait_for_broker(settings)
    client, wanted = admin(settings), topics(settings)
    existing = client.list_topics(timeout=_TIMEOUT_S).topics
    new = [topic for topic in wanted if topic.name not in existing]
    done = _create(client, new, settings.replication_factor)
    old = [topic for topic in wanted if topic.name in existing]
    done += _grow(client, old, {name: len(found.partitions) for name, found in existing.items()})
    return done + _configure(client, old) + writers.apply(settings)


def _create(client: AdminClient, new: Sequence[Topic], copies: int) -> list[str]:
    if not new:
        return []
    requests = [NewTopic(t.name, num_partitions=t.partitions, replication_factor=copies, config=t.configs) for t in new]
    for name, future in client.create_topics(requests, request_timeout=_TIMEOUT_S).items():
        _wait(name, future, fine=KafkaError.TOPIC_ALREADY_EXISTS)
    _until_led(client, new)
    return [f"created {topic.name}: {topic.partitions} partition(s), {topic.holds}" for topic in new]


def _until_led(client: AdminClient, new: Sequence[Topic]) -> None:
    """Returns once every partition answers: its leader knows of it a moment later than the metadata says."""
    places = {
        TopicPartition(topic.name, number): OffsetSpec.latest() for topic in new for number in range(topic.partitions)
    }
    end = time.monotonic() + _TIMEOUT_S
    while places:
        for place, future in client.list_offsets(dict(places), request_timeout=_TIMEOUT_S).items():
            try:
                future.result(timeout=_TIMEOUT_S)
                del places[place]
            except KafkaException as error:
                if time.monotonic() > end:
                    raise TopicsError(f"{place.topic} was created, but has no leader: {error.args[0].str()}") from None
        time.sleep(0.05 if places else 0)


def _grow(client: AdminClient, old: Sequence[Topic], partitions: dict[str, int]) -> list[str]:
    grow = [topic for topic in old if partitions[topic.name] < topic.partitions]
    if grow:
        for name, future in client.create_partitions([NewPartitions(t.name, t.partitions) for t in grow]).items():
            _wait(name, future)
    return [f"grew {t.name}: {partitions[t.name]} to {t.partitions} partitions" for t in grow] + [
        f"kept {t.name}: it has {partitions[t.name]} partitions, {t.partitions} are set, and Kafka cannot take any away"
        for t in old
        if partitions[t.name] > t.partitions
    ]


def _configure(client: AdminClient, old: Sequence[Topic]) -> list[str]:
    if not old:
        return []
    done, requests = [], []
    described = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic.name) for topic in old])
    found: dict[str, dict[str, Any]] = {resource.name: _wait(resource.name, f) for resource, f in described.items()}
    for topic in old:
        have = {name: entry.value for name, entry in found[topic.name].items()}
        differ = {name: value for name, value in topic.configs.items() if have.get(name) != value}
        if differ:
            changes = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in differ.items()
            ]
            requests.append(ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=changes))
            done += [f"set {topic.name} {name}: {have.get(name)} to {value}" for name, value in differ.items()]
    for resource, future in client.incremental_alter_configs(requests).items() if requests else ():
        _wait(resource.name, future)
    return done


def delete(settings: Settings) -> list[str]:
    """Deletes every topic of ours, Faust's included, and waits until they are gone; returns their names.

    Raises TopicsError when Kafka refuses.
    """
    wait_for_broker(settings)
    client, ours = admin(settings), {topic.name for topic in topics(settings)}

    def standing() -> list[str]:
        return sorted(
            n for n in client.list_topics(timeout=_TIMEOUT_S).topics if n in ours or n.startswith(FAUST_PREFIX)
        )

    gone = standing()
    if gone:
        for name, future in client.delete_topics(gone, request_timeout=_TIMEOUT_S).items():
            _wait(name, future, fine=KafkaError.UNKNOWN_TOPIC_OR_PART)
    end = time.monotonic() + _TIMEOUT_S
    while standing():
        if time.monotonic() > end:
            raise TopicsError(f"Kafka still lists {', '.join(standing())} {_TIMEOUT_S:.0f} s after deleting them.")
        time.sleep(0.1)
    return gone


def _wait(name: str, future: Future[Any], fine: int | None = None) -> Any:
    try:
        return future.result(timeout=_TIMEOUT_S)
    except KafkaException as error:
        problem = error.args[0]
        if fine is not None and problem.code() == fine:
            return None
        raise TopicsError(f"Kafka refused for topic {name}: {problem.str()}") from None
