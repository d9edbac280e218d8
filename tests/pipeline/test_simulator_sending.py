"""The simulator's columns in a real Kafka: in order, where every client puts them, and told when Kafka goes away."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from pydantic import SecretStr

from crossfade import topics as topic_list
from crossfade.kafka import Broker
from producers.batch_door import BatchDoor
from producers.door import Door
from producers.identity import Pseudonyms
from producers.simulator.rows import Rows, joined, taken
from producers.simulator.scenario import load
from producers.simulator.sending import Sending
from producers.simulator.stream import Plan, Stream
from schemas import kafka as kafka_clients
from schemas import topics
from schemas.kafka import KafkaUnavailableError, wait_for_broker
from schemas.settings import Settings
from tests.pipeline.conftest import running

EVENTS = 20_000
NAMES = Pseudonyms(b"secret")


def sent(settings: Settings, seed: int, **how: Any) -> tuple[BatchDoor, Sending, Stream]:
    stream = Stream(Plan("custom", load("custom"), seed, 200, 1_790_000_000_000, EVENTS))
    door = BatchDoor(settings, "simulator", **how)
    return door, Sending(stream, door, NAMES, "default"), stream


def healthy(stream: Stream, rows: Rows) -> list[dict[str, Any]]:
    return [item for item in stream.items(taken(rows, rows["fault"] == 0)) if isinstance(item, dict)]


def records(settings: Settings) -> list[tuple[int, dict[str, Any]]]:
    """(partition, event) of everything in listening-events, in the order of each partition."""
    consumer, codec = kafka_clients.consumer(settings), kafka_clients.codec_of(settings, topics.EVENTS)
    found = []
    for partition in kafka_clients.partitions_of(consumer, topics.EVENTS):
        low, high = kafka_clients.offsets(consumer, topics.EVENTS, partition)
        consumer.assign([TopicPartition(topics.EVENTS, partition, low)])
        while low < high:
            message = consumer.poll(10)
            assert message is not None and message.error() is None
            found.append((partition, codec.decode(message.value())))
            low = message.offset() + 1
    consumer.close()
    return found


def test_columns_arrive_in_order_and_beside_other_ways_in(own_kafka: Settings) -> None:
    """Every listener's events stand in one partition in the order of the stream, and another client's beside them."""
    door, sending, stream = sent(own_kafka, 1)
    rows = joined(list(stream.batches()))
    for first in range(0, EVENTS, 3_000):
        sending.send(rows[first : first + 3_000])
    door.flush()
    assert door.in_flight() == 0
    door.close()
    assert door.tally.accepted == EVENTS
    found = records(own_kafka)
    assert len(found) == door.tally.events
    wanted: dict[str | None, list[str]] = defaultdict(list)
    got: dict[str | None, list[str]] = defaultdict(list)
    events = healthy(stream, rows)
    for item in events:
        wanted[None if "incognito" in item else NAMES.of(item["user_id"])].append(item["event_id"])
    for _, event in found:
        got[event["user_id"]].append(event["event_id"])
    assert sorted(got.pop(None)) == sorted(wanted.pop(None))  # private sessions: the event_id is the key
    assert got == wanted
    secrets = own_kafka.model_copy(update={"pseudonym_secrets": {"default": SecretStr("secret")}})
    singly = Door(secrets, "simulator")
    for number, item in enumerate(events[:50]):
        singly.take({**item, "event_id": f"beside-{number}"}, str(number))
    singly.flush()
    places = defaultdict(set)
    for partition, event in records(own_kafka):
        places[event["user_id"] or event["event_id"]].add(partition)
    assert {len(partitions) for partitions in places.values()} == {1}


def test_a_kafka_that_stops_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """Without acknowledgements the door raises in time; sent again from the start, everything is there by its id."""
    settings = Settings(data_dir=tmp_path, kafka_bootstrap_servers="")
    broker = Broker.prepare(settings, lambda done, total: print(f"archives {done}/{total}", file=sys.stderr), 21392)
    with running(broker) as process:
        settings = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
        wait_for_broker(settings)
        topic_list.apply(settings)
        door, sending, stream = sent(settings, 2, delivery_timeout_s=1.5)
        rows = joined(list(stream.batches()))
        sending.send(rows[:5_000])
        door.flush()
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(KafkaUnavailableError, match="not acknowledged"):
            sending.send(rows[5_000:])
            door.flush()
        assert time.monotonic() - began < 10
        process.send_signal(signal.SIGCONT)
        door.close()
        door, sending, stream = sent(settings, 2)
        for rows in stream.batches():
            sending.send(rows)
        door.flush()
        door.close()
        ids = Counter(event["event_id"] for _, event in records(settings))
        again = joined(list(Stream(stream.plan).batches()))
        told = {item["event_id"] for item in healthy(stream, again)}
        assert set(ids) == told
