"""A direct producer with a schema of its own: refused with a reason, registered by a command, read from then on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossfade import writers
from crossfade.writers import SchemaError
from schemas import kafka, topics
from schemas.codec import Codec, schema
from schemas.settings import Settings
from schemas.writers import Prefix, Writers
from tests.pipeline.test_worker import START_MS, lag, read_all, wait_until, worker

OURS = schema("listening_event")


def theirs() -> dict[str, Any]:
    """Another order, an additional field, microseconds, and most optional fields left out."""
    fields = {field["name"]: field for field in OURS["fields"]}
    kept = [
        "tenant",
        "source",
        "user_id",
        "event_type",
        "event_id",
        "track_id",
        "platform",
        "received_at",
        "track_name",
    ]
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    mood = {"name": "mood", "type": {"type": "map", "values": "int"}, "default": {}}
    return {**OURS, "fields": [*(fields[name] for name in kept), {"name": "timestamp", "type": micros}, mood]}


def event(number: int) -> dict[str, Any]:
    return {
        "event_id": f"direct{number}",
        "event_type": "play",
        "user_id": "ann",
        "track_id": f"direct{number}",
        "timestamp": (START_MS + number) * 1000,
        "platform": "custom",
        "track_name": "Slow Blues",
        "tenant": "default",
        "source": "direct",
        "received_at": START_MS,
        "mood": {"calm": 3},
    }


def send(settings: Settings, numbers: range) -> None:
    codec = Codec("direct", writers=Writers(theirs()))
    producer = kafka.producer(settings)
    for number in numbers:
        producer.produce(topics.EVENTS, codec.encode(event(number)), b"ann", number % settings.partitions)
    assert producer.flush(30) == 0


@pytest.mark.timeout(240)
def test_a_direct_producers_schema_is_registered_while_the_worker_runs(own_kafka: Settings, tmp_path: Path) -> None:
    """Before: dead letters `unknown_schema`. Afterwards: read, by the running worker; what came before stays."""
    file = tmp_path / "direct.avsc"
    file.write_text(json.dumps(theirs()))
    with worker(own_kafka):
        wait_until(lambda: lag() == 0, "the worker's start")
        send(own_kafka, range(40))
        wait_until(lambda: len(read_all(own_kafka, topics.DEAD_LETTERS)) == 40, "the dead letters")
        lines = writers.register(own_kafka, file)
        assert lines[0].startswith(f"records that start with {Prefix.single_object(theirs()).data.hex()} can be read")
        send(own_kafka, range(40, 80))
        wait_until(lambda: lag() == 0, "the worker's catching up")
        wait_until(lambda: len(read_all(own_kafka, topics.TRACK_CATALOGUE)) == 40, "the tracks")
    letters = [row for _, row in read_all(own_kafka, topics.DEAD_LETTERS)]
    assert {row["reason"] for row in letters} == {"unknown_schema"}
    assert len(letters) == 40
    tracks = {row["track_id"] for _, row in read_all(own_kafka, topics.TRACK_CATALOGUE)}
    assert tracks == {f"direct{n}" for n in range(40, 80)}
    for row in letters:
        decoded = kafka.codec_of(own_kafka, topics.EVENTS).decode(row["payload"])
        assert decoded["timestamp"].timestamp() * 1000 // 1 == START_MS + int(
            decoded["event_id"].removeprefix("direct")
        )
    again = writers.register(own_kafka, file)
    known = {row["starts_with"]: row for row in writers.known(own_kafka)}[Prefix.single_object(theirs()).data.hex()]
    assert (known["origin"], known["reads"]) == ("registered, direct.avsc", "one by one")
    assert known["from"] == f"offsets {dict.fromkeys(range(own_kafka.partitions), 10)}"
    assert again == lines


def test_registering_says_what_is_wrong(kafka: Settings, tmp_path: Path) -> None:
    """Each thing that is no schema of an event is refused in one plain sentence, and nothing is kept."""
    settings = kafka.model_copy(update={"data_dir": tmp_path})
    file = tmp_path / "x.avsc"
    for text, message in (
        ("{", "is no JSON"),
        ("[]", "is no Avro schema of a record"),
        (
            '{"type": "record", "name": "ListeningEvent", "fields": [{"name": "a", "type": "nonsense"}]}',
            "is no Avro schema",
        ),
        ('{"type": "record", "name": "ListeningEvent", "fields": []}', "event_id: is missing, and has no default"),
        (json.dumps({**OURS, "name": "Event"}), "the record is named Event, and must be named ListeningEvent"),
    ):
        file.write_text(text)
        with pytest.raises(SchemaError, match=message):
            writers.register(settings, file)
    assert [path for path in tmp_path.rglob("*") if path != file] == []
    file.write_text(json.dumps(OURS))
    assert writers.register(settings, file) == ["known already: this release"]
