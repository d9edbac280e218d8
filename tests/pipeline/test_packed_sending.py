"""Packed events in a real Kafka: every format arrives as if sent one by one, and a stopped Kafka is told."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from crossfade import topics as topic_list
from crossfade.kafka import Broker
from producers.door import Door
from producers.importers.__main__ import Import
from producers.importers.transfer import ToKafka, ToLines
from producers.packed_door import PackedDoor
from schemas import kafka as kafka_clients
from schemas import topics
from schemas.kafka import KafkaUnavailableError, wait_for_broker
from schemas.settings import Settings
from tests.pipeline.conftest import running
from tests.producers.test_importers_apple_youtube import APPLE, YOUTUBE, table
from tests.producers.test_importers_scrobbles import HEAD, LASTFM, LISTENBRAINZ, MALOJA, ROCKBOX, maloja, rockbox
from tests.producers.test_importers_spotify import ACCOUNT, EXTENDED

EXTENDED_ROWS = [
    {**EXTENDED, "ms_played": n, "username": f"user {n % 7}", "incognito_mode": n % 50 == 0, "conn_country": country}
    for n, country in enumerate(["DE", "ZZ", "FR"] * 500, start=1)
]
FILES = {
    "extended.json": json.dumps(EXTENDED_ROWS, ensure_ascii=False),
    "account.json": json.dumps([{**ACCOUNT, "trackName": "Läntern ✨ \u3000", "msPlayed": n} for n in (5, 40_000)]),
    "apple.csv": table(APPLE, {**APPLE, "Artist Name": "", "Start Position In Milliseconds": ""}),
    "youtube.json": json.dumps([YOUTUBE, {**YOUTUBE, "titleUrl": "https://music.youtube.com/post/1"}]),
    "lastfm.csv": HEAD + LASTFM,
    "librefm.csv": "Artist,Track,Album,Time\nPaper Lakes,Two,Harbor,1700000000\nPaper Lakes,Two,Harbor,soon\n",
    "listenbrainz.jsonl": json.dumps(LISTENBRAINZ),
    "maloja.json": json.dumps(maloja(MALOJA)),
    "rockbox.log": ROCKBOX + rockbox(title="Three", rating="S"),
}


def records(settings: Settings) -> dict[int, list[tuple[bytes | None, dict[str, Any]]]]:
    """(key, event without the time of its arrival) of everything in listening-events, by partition, in order."""
    consumer, codec = kafka_clients.consumer(settings), kafka_clients.codec_of(settings, topics.EVENTS)
    found = defaultdict(list)
    for partition in kafka_clients.partitions_of(consumer, topics.EVENTS):
        low, high = kafka_clients.offsets(consumer, topics.EVENTS, partition)
        consumer.assign([TopicPartition(topics.EVENTS, partition, low)])
        for _ in range(low, high):
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            event = codec.decode(message.value() or b"")
            assert event.pop("received_at") is not None
            found[partition].append((message.key(), event))
    consumer.close()
    return found


def test_every_format_arrives_as_if_sent_one_by_one(own_kafka: Settings, tmp_path: Path) -> None:
    """For all formats: key, partition, order and every field are those of the written lines taken by the plain door."""
    folder, lines = tmp_path / "export", tmp_path / "lines.jsonl"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with lines.open("wb") as file:
        job, outlet = Import([folder], ""), ToLines(file)
        job.carry(job.histories(), outlet, lambda: False)
        outlet.flush()
    assert len({transfer.recording.format for transfer in job.transfers}) == len(FILES)
    packed = PackedDoor(own_kafka, "import")
    job = Import([folder], "")
    job.carry(job.histories(), ToKafka(packed), lambda: bool(packed.report()))
    packed.flush()
    assert packed.in_flight() == 0
    packed.close()
    told = lines.read_bytes().splitlines()
    assert packed.tally.events == len(told)
    assert packed.tally.dead_lettered == {"bad_timestamp": 1}
    arrived = records(own_kafka)
    assert len(arrived) > 1
    plain = Door(own_kafka, "import")
    for raw in told:
        plain.take(raw, "")
    plain.flush()
    for partition, both in records(own_kafka).items():
        half = len(both) // 2
        assert both[:half] == arrived[partition]
        assert both[half:] == arrived[partition]


def test_a_kafka_that_stops_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """Without acknowledgements the door raises in time; imported again, every event is there by its id."""
    file = tmp_path / "history.json"
    file.write_text(json.dumps(EXTENDED_ROWS[:500]))
    settings = Settings(data_dir=tmp_path, kafka_bootstrap_servers="")
    broker = Broker.prepare(settings, lambda done, total: print(f"archives {done}/{total}", file=sys.stderr), 21592)
    with running(broker) as process:
        settings = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
        wait_for_broker(settings)
        topic_list.apply(settings)

        def imported(door: PackedDoor) -> None:
            job = Import([file], "")
            job.carry(job.histories(), ToKafka(door), lambda: bool(door.report()))
            door.flush()

        door = PackedDoor(settings, "import", delivery_timeout_s=1.5)
        imported(door)
        file.write_text(json.dumps(EXTENDED_ROWS))
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(KafkaUnavailableError, match="not acknowledged"):
            imported(door)
        assert time.monotonic() - began < 10
        process.send_signal(signal.SIGCONT)
        door.close()
        door = PackedDoor(settings, "import")
        imported(door)
        door.close()
        ids = {event["event_id"] for found in records(settings).values() for _, event in found}
        assert len(ids) == 2 * len(EXTENDED_ROWS) == door.tally.events
