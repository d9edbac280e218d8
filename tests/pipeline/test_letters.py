"""Dead letters put back in, on a real broker and a real warehouse: each once, whatever happens in between."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from crossfade.letters import export
from crossfade.problem import ProblemError
from crossfade.repairs import repairs
from crossfade.replay_letters import event_id_of, replay
from crossfade.verify import recount
from producers.door import Door
from schemas import topics
from schemas.event_time import FUTURE_MAX_MS
from schemas.kafka import KafkaUnavailableError, codec_of, producer
from schemas.settings import Settings
from sinks.ledger import balance
from tests.pipeline.test_sink import own, sink
from warehouse.runner import Bulk, reader

__all__ = ["own"]

NOW_MS = time.time_ns() // 1_000_000
EVENT = {
    "event_id": "good",
    "event_type": "play",
    "user_id": "u",
    "track_id": "t",
    "timestamp": NOW_MS,
    "platform": "custom",
}


def fill(settings: Settings) -> None:
    """Letters as they arise: refused at the door, unreadable in Kafka, of a clock far ahead, of another topic."""
    door = Door(settings, "collector")
    for number in range(5):
        door.take(json.dumps({**EVENT, "event_id": f"skipped-{number}", "event_type": "skipp"}).encode(), str(number))
    without_id = {name: value for name, value in EVENT.items() if name != "event_id"} | {"event_type": "skipp"}
    door.take(json.dumps(without_id).encode(), "6")
    door.take(b"{", "7")
    door.flush()
    events, letters = codec_of(settings, topics.EVENTS), codec_of(settings, topics.DEAD_LETTERS)
    kept = {**EVENT, "tenant": "default", "source": "collector", "received_at": NOW_MS}
    ahead = events.encode({**kept, "event_id": "ahead", "timestamp": NOW_MS + 2 * FUTURE_MAX_MS})
    play = codec_of(settings, topics.TRACK_CATALOGUE).encode({"tenant": "a", "track_id": "t", "first_seen_at": 0})
    client = producer(settings)
    client.produce(topics.EVENTS, ahead, b"u", 0)
    client.produce(topics.EVENTS, b"junk", b"u", 0)
    for letter_id, topic, reason, payload in (
        (f"{topics.EVENTS}/0/0", topics.EVENTS, "clock", ahead),
        (f"{topics.EVENTS}/0/1", topics.EVENTS, "unknown_schema", b"junk"),
        (f"{topics.TRACK_CATALOGUE}/0/0", topics.TRACK_CATALOGUE, "unknown_schema", play),
    ):
        letter = {"dead_letter_id": letter_id, "topic": topic, "reason": reason, "payload": payload, "record_key": b"k"}
        rest = {"tenant": "default", "source": "collector", "stage": "stream_processors", "detail": ""}
        client.produce(topics.DEAD_LETTERS, letters.encode({**letter, **rest, "failed_at": NOW_MS}), letter_id)
    assert client.flush(20) == 0


def settled(settings: Settings, source: Bulk, events: int) -> None:
    """Waits until the warehouse has so many events and nothing is in flight."""
    end = time.monotonic() + 60
    while not (found := balance(settings, source)).settled or found.loaded != events:
        assert time.monotonic() < end, found
        time.sleep(0.1)


def sends(outcome: Any) -> tuple[int, int, int, dict[str, int]]:
    return outcome.sent, outcome.there, outcome.left, dict(outcome.refused)


def test_letters_go_back_in_once(own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repaired, killed in the middle, run again and again: every event is one row and the ledger balances."""
    fill(own)
    source = reader(own)
    with sink(own) as process:
        settled_at = time.monotonic() + 60
        while not own.duckdb_file.exists() and time.monotonic() < settled_at:
            time.sleep(0.1)
        settled(own, source, 0)
        assert sends(replay(own, source, "not_json")) == (0, 0, 0, {"not_json": 1})
        with pytest.raises(ProblemError, match="There is no reason nonsense"):
            replay(own, source, "nonsense")

        fix = tmp_path / "fix.py"
        fix.write_text("def fix(event):\n    return {**event, 'event_type': 'skip'}\n")
        repair = repairs(fix)
        with monkeypatch.context() as patched:
            patched.setattr("crossfade.letters._PAGE_ROWS", 2)
            patched.setattr("crossfade.letters._PAGE", PAGE_OF_TWO)
            flushes = iter([None, KafkaUnavailableError("killed")])
            flush = Door.flush

            def killed(door: Door) -> None:
                flush(door)
                if (error := next(flushes)) is not None:
                    raise error

            patched.setattr(Door, "flush", killed)
            with pytest.raises(KafkaUnavailableError):
                replay(own, source, "unknown_type", repair)
        assert sends(replay(own, source, "unknown_type", repair)) == (2, 4, 0, {})
        settled(own, source, 6)
        assert sends(replay(own, source, "unknown_type", repair)) == (0, 6, 0, {})

        assert sends(replay(own, source, "clock")) == (0, 0, 0, {"clock": 1})
        fix.write_text(f"def fix(event):\n    return {{**event, 'timestamp': {NOW_MS}}}\n")
        assert sends(replay(own, source, "clock", repairs(fix))) == (1, 0, 0, {})

        assert sends(replay(own, source, "unknown_schema")) == (1, 0, 0, {"unknown_schema": 1})
        lines = [json.loads(line) for line in export(source, "unknown_schema", codec_of(own, topics.EVENTS))]
        assert [line["event"] for line in lines if line["dead_letter_id"].startswith(topics.EVENTS)] == [None]
        written = tmp_path / "fix.jsonl"
        written.write_text(
            json.dumps({"dead_letter_id": f"{topics.EVENTS}/0/1", "event": {**EVENT, "event_id": "junk"}})
        )
        assert sends(replay(own, source, "unknown_schema", repairs(written))) == (1, 0, 1, {})
        settled(own, source, 8)
        for again in (repairs(written), None):
            assert replay(own, source, "unknown_schema", again).sent == 0

        rows = source.query("SELECT event_id, source, user_id FROM events ORDER BY event_id").rows
        unnamed = event_id_of(source.query(_UNNAMED).rows[0]["dead_letter_id"])
        expected = sorted(["ahead", "junk", unnamed, *(f"skipped-{n}" for n in range(5))])
        assert [row["event_id"] for row in rows] == expected
        assert {row["source"] for row in rows} == {"replay"}
        assert [row["event_id"] for row in rows if row["user_id"] == "u"] == ["ahead"]  # was a pseudonym already
        assert source.query("SELECT COUNT(*) AS n FROM tracks").rows == [{"n": 1}]
        verdict = recount(own, source)
        assert (verdict.ok, verdict.checked) == (True, 7 + 2 + 8)
        assert process.poll() is None


PAGE_OF_TWO = """
SELECT dead_letter_id, tenant, reason, detail, topic, record_key, payload, kafka_offset
FROM dead_letters WHERE (@reason IS NULL OR reason = @reason) AND kafka_offset > @after ORDER BY kafka_offset LIMIT 2
"""
_UNNAMED = "SELECT dead_letter_id FROM dead_letters WHERE event_id IS NULL AND reason = 'unknown_type'"
