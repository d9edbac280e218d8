"""The simple job on Quix Streams: group_by track, a tumbling window, final rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found,unused-ignore]
from quixstreams.models import Deserializer, Serializer  # type: ignore[import-not-found,unused-ignore]

from bench.jobs import job
from bench.jobs.avro import decode

GRACE = timedelta(minutes=5)
"""Longer than the job's: group_by mixes the input partitions, and what a slower one brings later would be dropped."""


class Event(Deserializer):  # type: ignore[misc,unused-ignore]
    """The fields that the job needs."""

    def __call__(self, value: bytes, ctx: Any) -> dict[str, Any]:  # noqa: ARG002 - Quix's signature
        """What Quix calls for each value."""
        event = decode(value)
        return {
            "track_id": event["track_id"],
            "type": job.TYPES.index(event["event_type"]),
            "time_ms": round(event["timestamp"].timestamp() * 1000),
            "ms_played": event["ms_played"] or 0,
        }


class Row(Serializer):  # type: ignore[misc,unused-ignore]
    """A final row as the oracle reads it."""

    def __call__(self, value: Any, ctx: Any) -> bytes:  # noqa: ARG002 - Quix's signature
        """What Quix calls for each row."""
        return job.ROW.pack(*value["value"][1:])


class Progress:
    """Counts the events that reach the window."""

    def __init__(self) -> None:
        self.consumed = 0

    def __call__(self, _event: dict[str, Any]) -> None:
        """Takes an event."""
        self.consumed += 1
        job.tell(self.consumed)


def first(event: dict[str, Any]) -> list[Any]:
    """The row of a track after its first event."""
    return add([event["track_id"], 0, 0, 0, 0, 0, 0], event)


def add(row: list[Any], event: dict[str, Any]) -> list[Any]:
    """The row after one more event."""
    row[1 + event["type"]] += 1
    row[6] += event["ms_played"]
    return row


def main() -> None:
    """Runs until SIGTERM."""
    app = Application(
        broker_address=job.BOOTSTRAP,
        consumer_group=f"{job.OUTPUT}-app",
        auto_offset_reset="earliest",
        commit_interval=job.SNAPSHOT_EVERY_MS / 1000,
        consumer_extra_config=job.LIBRDKAFKA,
        producer_extra_config={"linger.ms": 20, "compression.type": "lz4"},
        state_dir=job.DIRECTORY / "state",
        processing_guarantee="exactly-once",
        loglevel="WARNING",
    )
    events = app.topic(
        job.INPUT,
        key_deserializer="bytes",
        value_deserializer=Event(),
        timestamp_extractor=lambda event, _headers, _time, _kind: event["time_ms"],
    )
    results = app.topic(job.OUTPUT, key_serializer="str", value_serializer=Row())
    flow = app.dataframe(events).group_by("track_id").update(Progress())
    window = flow.tumbling_window(timedelta(milliseconds=job.WINDOW_MS), grace_ms=GRACE).reduce(add, first)
    rows = window.final(closing_strategy="partition")
    rows.to_topic(results, key=lambda found: f"{found['start']}/{found['value'][0]}")
    app.run()


if __name__ == "__main__":
    main()
