"""The simple job on stock Faust: an agent that changes a tumbling Table by track, event after event."""

from __future__ import annotations

import sys
from typing import Any

import faust
from faust.serializers import codecs

from bench.jobs import job
from bench.jobs.avro import decode

PARTITIONS = 4


class Event(faust.Record):  # type: ignore[misc]  # Faust's classes have no types
    """The fields that the job needs; `timestamp` in seconds."""

    track_id: str
    event_type: str
    timestamp: float
    ms_played: int


class AvroCodec(codecs.Codec):  # type: ignore[misc]  # as above
    """Faust's way to read a format of one's own."""

    def _loads(self, s: bytes) -> Any:
        event = decode(s)
        return {
            "track_id": event["track_id"],
            "event_type": event["event_type"],
            "timestamp": event["timestamp"].timestamp(),
            "ms_played": event["ms_played"] or 0,
        }


codecs.register("listening_event", AvroCodec())
app = faust.App(
    f"{job.OUTPUT}-app",
    broker=f"kafka://{job.BOOTSTRAP}",
    datadir=str(job.DIRECTORY / "worker"),
    topic_partitions=PARTITIONS,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    broker_commit_interval=job.SNAPSHOT_EVERY_MS / 1000,
    web_enabled=False,
)
events = app.topic(job.INPUT, value_type=Event, value_serializer="listening_event", key_serializer="raw")
results = app.topic(job.OUTPUT, value_serializer="raw", key_serializer="raw")
counts = (
    app.Table("counts", default=lambda: [0] * 6, partitions=PARTITIONS)
    .tumbling(job.WINDOW_MS / 1000)  # without `expires`, which goes by the wall clock: old events would be forgotten
    .relative_to_field(Event.timestamp)
)


@app.agent(events)  # type: ignore[untyped-decorator]  # as above
async def count(stream: Any) -> None:
    """Counts each event, and writes the windows that every partition has passed."""
    consumed, closed = 0, 0
    clocks: dict[int, int] = {}
    async for raw in stream.events():
        event, partition = raw.value, raw.message.partition
        row = list(counts[event.track_id].value())  # current() goes by the time of the message
        row[job.TYPES.index(event.event_type)] += 1
        row[5] += event.ms_played
        counts[event.track_id] = row
        clocks[partition] = max(round(event.timestamp * 1000), clocks.get(partition, 0))
        if len(clocks) == PARTITIONS:
            border = (min(clocks.values()) - job.GRACE_MS) // job.WINDOW_MS * job.WINDOW_MS
            if border > closed:
                await emit(closed, border)
                closed = border
        consumed += 1
        job.tell(consumed)


async def emit(after: int, before: int) -> None:
    """Writes the rows of the windows that start in [after, before)."""
    for (track, (start, _)), row in list(counts.table.data.items()):
        window = round(start * 1000)
        if after <= window < before:
            await results.send(key=f"{window}/{track}".encode(), value=job.ROW.pack(*row))


if __name__ == "__main__":
    sys.argv = ["worker"]
    faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False).execute_from_commandline()
