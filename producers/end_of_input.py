"""Moves event time on after the last event, so that the windows it fell into close at once."""

from __future__ import annotations

from producers.door import Door
from schemas import kafka, topics
from schemas.event_time import WATERMARK_KEY
from schemas.settings import Settings


def end_input(door: Door, settings: Settings) -> None:
    """Writes a watermark record to every partition of `listening-events`, after everything before is acknowledged.

    Its time is the greatest event time, one window and the grace. Does nothing when no event was accepted. Raises
    KafkaUnavailableError.
    """
    door.flush()
    if not door.tally.latest_ms:
        return
    time_ms = door.tally.latest_ms + settings.window_ms + settings.grace_ms
    for partition in kafka.partitions_of(door.producer, topics.EVENTS):
        door.producer.produce(topics.EVENTS, None, WATERMARK_KEY, partition, timestamp=time_ms)
    door.flush()
