"""Dead letters put back in, on a real broker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from crossfade import letters
from crossfade.problem import ProblemError
from schemas import topics
from schemas.kafka import codec_of, consumer, offsets, partitions_of
from schemas.settings import Settings
from warehouse.answer import Answer

EVENT = (
    b'{"event_id": "letter-1", "event_type": "play", "user_id": "u", "track_id": "t", "platform": "custom", '
    b'"timestamp": "2026-01-01T00:00:00Z", "location": null}'
)


class Letters:
    """A warehouse that holds these dead letters."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        """All of them, whatever is asked."""
        assert "dead_letters" in sql
        assert params is not None
        return Answer(["dead_letter_id"], self.rows)


def letter(payload: bytes, topic: str | None, key: bytes | None = None) -> dict[str, Any]:
    return {"dead_letter_id": "x", "tenant": "default", "topic": topic, "record_key": key, "payload": payload}


def ends(kafka: Settings, topic: str) -> dict[int, int]:
    client = consumer(kafka)
    try:
        return {partition: offsets(client, topic, partition)[1] for partition in partitions_of(client, topic)}
    finally:
        client.close()


def new_values(kafka: Settings, topic: str, before: dict[int, int]) -> list[bytes]:
    client = consumer(kafka)
    try:
        wanted = sum(ends(kafka, topic).values()) - sum(before.values())
        client.assign([TopicPartition(topic, partition, offset) for partition, offset in before.items()])
        values: list[bytes] = []
        end = time.monotonic() + 20
        while len(values) < wanted:
            assert time.monotonic() < end
            if (message := client.poll(0.5)) is not None and message.error() is None:
                values.append(message.value())
        return values
    finally:
        client.close()


def test_what_passes_now_goes_in_and_the_rest_stays(kafka: Settings) -> None:
    """A letter of the door is judged again: good bytes become an event, bad ones are counted only."""
    events, dead = ends(kafka, topics.EVENTS), ends(kafka, topics.DEAD_LETTERS)
    outcome = letters.replay(kafka, Letters(letter(EVENT, None), letter(b"\xff", None), letter(b"{", None)), None)
    assert outcome.sent == 1
    assert outcome.refused == {"invalid_utf8": 1, "not_json": 1}
    loaded = [codec_of(kafka, topics.EVENTS).decode(value) for value in new_values(kafka, topics.EVENTS, events)]
    assert [event["event_id"] for event in loaded] == ["letter-1"]
    assert ends(kafka, topics.DEAD_LETTERS) == dead


def test_an_unreadable_record_returns_once_it_can_be_read(kafka: Settings) -> None:
    """Bytes from a topic go back as they were, with their key, if they are a record now; otherwise they stay."""
    codec = codec_of(kafka, topics.TRACK_CATALOGUE)
    value = codec.encode({field["name"]: sample(field["type"]) for field in codec.fields})
    before = ends(kafka, topics.TRACK_CATALOGUE)
    rows = (
        letter(value, topics.TRACK_CATALOGUE, b"key"),
        letter(b"junk", topics.TRACK_CATALOGUE),
        letter(b"x", "gone"),
    )
    outcome = letters.replay(kafka, Letters(*rows), None)
    assert outcome.sent == 1
    assert outcome.refused == {"unknown_schema": 2}
    assert new_values(kafka, topics.TRACK_CATALOGUE, before) == [value]


def sample(avro_type: Any) -> Any:
    """Some value of an Avro type."""
    if isinstance(avro_type, list):
        return None if "null" in avro_type else sample(avro_type[0])
    kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
    return {"string": "x", "bytes": b"x", "boolean": False, "array": [], "double": 0.0}.get(kind, 0)


def test_a_reason_that_does_not_exist_is_refused(kafka: Settings) -> None:
    """A slip of the pen in --reason replays nothing."""
    with pytest.raises(ProblemError, match="There is no reason nonsense: it is one of not_json"):
        letters.replay(kafka, Letters(letter(EVENT, None)), "nonsense")
