"""Simulator and replay as processes, against a real Kafka: what goes in is all there, in order, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Message, TopicPartition

from schemas import kafka as kafka_clients
from schemas import topics
from schemas.event_time import WATERMARK_KEY
from schemas.settings import HOME, Settings


def environment(settings: Settings, data_dir: Path) -> dict[str, str]:
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(data_dir),
    }


def run(settings: Settings, data_dir: Path, module: str, *arguments: object) -> dict[str, Any]:
    """Runs a source to its end and gives its summary."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, check=False, cwd=HOME, env=environment(settings, data_dir), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


class Ends:
    """Where the topics ended when the test began, so that each test sees its own records only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starts = {topic: self._offsets(topic) for topic in (topics.EVENTS, topics.DEAD_LETTERS)}

    def _offsets(self, topic: str) -> dict[int, int]:
        consumer = kafka_clients.consumer(self._settings)
        try:
            partitions = kafka_clients.partitions_of(consumer, topic)
            for _ in range(50):
                try:
                    return {p: kafka_clients.offsets(consumer, topic, p)[1] for p in partitions}
                except KafkaException:  # a topic that was made just now has no leader for a moment
                    time.sleep(0.1)
            raise AssertionError("Kafka does not tell where the topic ends")
        finally:
            consumer.close()

    def messages(self, topic: str) -> Iterator[Message]:
        """What came since, partition by partition."""
        ends = self._offsets(topic)
        consumer = kafka_clients.consumer(self._settings)
        try:
            for partition, start in self._starts[topic].items():
                consumer.assign([TopicPartition(topic, partition, start)])
                for _ in range(start, ends[partition]):
                    message = consumer.poll(10)
                    assert message is not None
                    assert message.error() is None
                    yield message
        finally:
            consumer.close()

    def decoded(self, topic: str) -> list[dict[str, Any]]:
        """The records that came since, watermark records left out."""
        codec = kafka_clients.codec_of(self._settings, topic)
        found = self.messages(topic)
        return [codec.decode(value) for message in found if (value := message.value()) is not None]


@pytest.fixture
def came(kafka: Settings) -> Ends:
    return Ends(kafka)


def event(number: int, **changes: object) -> bytes:
    told = {
        "event_id": f"r{number}",
        "event_type": "play",
        "user_id": f"u{number % 3}",
        "track_id": "t",
        "timestamp": 1_768_469_400_000 + number,
        "platform": "custom",
    }
    return json.dumps({**told, **changes}).encode()


def test_a_replay_takes_everything_in_file_order(kafka: Settings, came: Ends, tmp_path: Path) -> None:
    """Good lines are events in order, duplicates included; broken lines are dead letters with their exact bytes."""
    broken = [b"{", b'{"event_id": "\xff\x00"}', b'{"event_id": "x", "event_type": "rewind"}', b"x" * 70_000]
    lines = [event(n) for n in range(300)] + [event(7)]
    for place, line in zip((250, 100, 50, 0), broken, strict=True):
        lines.insert(place, line)
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    summary = run(kafka, tmp_path, "producers.replay", file, "--end-of-input")
    assert (summary["accepted"], summary["events"], summary["dead_lettered"]) == (305, 301, 4)
    records = came.decoded(topics.EVENTS)
    assert Counter(record["event_id"] for record in records) == Counter([f"r{n}" for n in range(300)] + ["r7"])
    for user in {record["user_id"] for record in records}:
        ids = [record["event_id"] for record in records if record["user_id"] == user]
        assert sorted(ids[:-1], key=lambda i: int(i[1:])) == ids[:-1]
    letters = came.decoded(topics.DEAD_LETTERS)
    assert {letter["payload"] for letter in letters} == set(broken)
    assert {letter["reason"] for letter in letters} == {"not_json", "invalid_utf8", "unknown_type", "too_large"}


def test_end_of_input_moves_time_on_in_every_partition(kafka: Settings, came: Ends, tmp_path: Path) -> None:
    """Each partition ends with a watermark record: last event time, one window, and the grace."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(event(n) for n in range(10)))
    run(kafka, tmp_path, "producers.replay", file, "--end-of-input")
    marks = {m.partition(): m for m in came.messages(topics.EVENTS)}
    assert len(marks) == kafka.partitions
    for message in marks.values():
        assert (message.key(), message.value()) == (WATERMARK_KEY, None)
        assert message.timestamp()[1] == 1_768_469_400_009 + kafka.window_ms + kafka.grace_ms


def test_a_second_replay_makes_the_same_ids(kafka: Settings, came: Ends, tmp_path: Path) -> None:
    """Dead letters of the same file have the same ids, so that they count once however often it is sent."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"{broken\n{broken\n")
    for _ in range(2):
        assert run(kafka, tmp_path, "producers.replay", file)["dead_lettered"] == 2
    ids = Counter(letter["dead_letter_id"] for letter in came.decoded(topics.DEAD_LETTERS))
    assert sorted(ids.values()) == [2, 2]


def test_a_history_is_accounted_for_row_by_row(kafka: Settings, came: Ends, tmp_path: Path) -> None:
    """Two events for each listen, one dead letter for each row that is none."""
    row = {"endTime": "2021-03-01 12:05", "artistName": "A", "trackName": "T", "msPlayed": 1_000}
    rows = [row, {**row, "msPlayed": 2_000}, {**row, "trackName": None}, {**row, "trackName": "T\x00"}]
    file = tmp_path / "StreamingHistory0.json"
    file.write_text(json.dumps(rows))
    summary = run(kafka, tmp_path, "producers.replay", file, "--user", "me")
    assert (summary["accepted"], summary["events"], summary["reasons"]) == (
        6,
        4,
        {"control_characters": 1, "missing_id": 1},
    )
    kinds = Counter(record["event_type"] for record in came.decoded(topics.EVENTS))
    assert kinds == {"play": 2, "skip": 2}
    assert {json.loads(letter["payload"])["trackName"] for letter in came.decoded(topics.DEAD_LETTERS)} == {
        None,
        "T\x00",
    }


def test_a_simulation_is_all_in_kafka(kafka: Settings, came: Ends, tmp_path: Path) -> None:
    """Accepted counts events and dead letters; the labels stand where the summary says."""
    summary = run(kafka, tmp_path, "producers.simulator", "--scenario", "custom", "--events", 20_000, "--seed", 5)
    events, letters = came.decoded(topics.EVENTS), came.decoded(topics.DEAD_LETTERS)
    assert summary["accepted"] == 20_000 == len(events) + len(letters)
    assert summary["dead_lettered"] == len(letters) > 0
    assert {record["source"] for record in events} == {"simulator"}
    assert [label["kind"] for label in json.loads(Path(summary["labels"]).read_text())][:1] == ["drop"]


def test_a_live_simulation_tells_nothing_of_the_past_that_is_live_already(
    kafka: Settings, came: Ends, tmp_path: Path
) -> None:
    """Started beside another source, or once more, it sends no 20 minutes that would all be late."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(event(1))
    run(kafka, tmp_path, "producers.replay", file)
    process = subprocess.Popen(
        [sys.executable, "-m", "producers.simulator", "--rate", "100"],
        cwd=HOME,
        env=environment(kafka, tmp_path),
        stdout=subprocess.PIPE,
    )
    end = time.monotonic() + 60
    while len(came.decoded(topics.EVENTS)) < 100:
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=5)
    assert json.loads(out.splitlines()[-1])["events"] < 10_000


def test_a_live_simulation_stops_when_asked(kafka: Settings, came: Ends, tmp_path: Path) -> None:
    """SIGTERM ends it within 3 s, everything acknowledged, with a summary."""
    process = subprocess.Popen(
        [sys.executable, "-m", "producers.simulator", "--scenario", "spotify", "--rate", "10"],
        cwd=HOME,
        env=environment(kafka, tmp_path),
        stdout=subprocess.PIPE,
    )
    end = time.monotonic() + 60
    while not came.decoded(topics.EVENTS):
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    assert summary["stopped"] is True
    assert summary["events"] == len(came.decoded(topics.EVENTS))
    assert len(json.loads(Path(summary["labels"]).read_text())) >= 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["producers.replay", "/does/not/exist"], "No such file"),
        (["producers.simulator", "--scenario", "nope"], "known are"),
        (["producers.simulator", "--events", "0"], "at least 1"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(kafka: Settings, tmp_path: Path, arguments: list[str], said: str) -> None:
    """Status 1, one line that says what is wrong, and no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        check=False,
        cwd=HOME,
        env=environment(kafka, tmp_path),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
