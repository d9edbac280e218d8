"""The simple job on Bytewax: key_on track, an event-time fold_window, recovery to a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found,unused-ignore]
import bytewax.operators.windowing as win  # type: ignore[import-not-found,unused-ignore]
from bytewax._bytewax import cli_main  # type: ignore[import-not-found,unused-ignore]
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource  # type: ignore[import-not-found,unused-ignore]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found,unused-ignore]
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found,unused-ignore]

from bench.jobs import job
from bench.jobs.avro import decode

Event = tuple[str, int, datetime, int]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WAIT = timedelta(minutes=30)
"""Bytewax keeps a clock per track, which partitions that are read unevenly would move too far; the end closes all."""


class Read:
    """Track, type, time and ms_played of a Kafka message; counts what it has read.

    Not the fold: Bytewax keeps events back until their clock has passed, and counts them all at the end.
    """

    def __init__(self) -> None:
        self.consumed = 0

    def __call__(self, message: Any) -> Event:
        """Takes a message."""
        event = decode(message.value)
        self.consumed += 1
        job.tell(self.consumed)
        return event["track_id"], job.TYPES.index(event["event_type"]), event["timestamp"], event["ms_played"] or 0


def add(row: list[int], event: Event) -> list[int]:
    """The row of a track after one more event."""
    row[event[1]] += 1
    row[5] += event[3]
    return row


def result(item: tuple[str, tuple[int, list[int]]]) -> Any:
    """A final row; the number of a window counts minutes since 1970."""
    track, (window, row) = item
    return KafkaSinkMessage(f"{window * job.WINDOW_MS}/{track}".encode(), job.ROW.pack(*row))


def merge(one: list[int], other: list[int]) -> list[int]:
    """Two rows of a track."""
    return [a + b for a, b in zip(one, other, strict=True)]


def flow() -> Any:
    """The dataflow."""
    dataflow = Dataflow("windows")
    source = KafkaSource([job.BOOTSTRAP], [job.INPUT], tail=False, add_config=job.LIBRDKAFKA, batch_size=1_000)
    events = op.map("read", op.input("events", dataflow, source), Read())
    clock = win.EventClock(lambda event: event[2], WAIT, to_system_utc=lambda _time: None)
    windower = win.TumblingWindower(align_to=EPOCH, length=timedelta(milliseconds=job.WINDOW_MS))
    keyed = op.key_on("track", events, lambda event: event[0])
    windows = win.fold_window("count", keyed, clock, windower, lambda: [0] * 6, add, merge)
    sink = KafkaSink([job.BOOTSTRAP], job.OUTPUT, {"linger.ms": 20, "compression.type": "lz4"})
    op.output("results", op.map("result", windows.down, result), sink)
    return dataflow


def main() -> None:
    """Runs to the end of the input."""
    recovery = job.DIRECTORY / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    cli_main(
        flow(),
        epoch_interval=timedelta(milliseconds=job.SNAPSHOT_EVERY_MS),
        recovery_config=RecoveryConfig(str(recovery)),
    )


if __name__ == "__main__":
    main()
