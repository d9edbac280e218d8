"""One session of the sink: consume, prepare, commit rows and offsets together, over and over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import metrics, topics
from schemas.kafka import KafkaUnavailableError, codec_of, offsets, partitions_of, producer
from schemas.settings import Settings
from schemas.tables import TABLES
from sinks.batch import DAY_MS, HORIZON_DAYS, Batcher
from sinks.decode import Broken
from sinks.ledger import sink_topics
from sinks.records import sorted_out
from sinks.target import Place, Progress, SinkError, Target

LINGER_S = 0.25
"""How long a batch waits for more records: the delay of a row at low rates."""

BUSY_LINGER_S = 2.0
BUSY_RECORDS = 5_000
"""Where so many have come within LINGER_S, a batch waits longer: one large commit costs half of many small ones."""

_CONSUME_RECORDS = 10_000
_DELIVERY_S = 20.0

_log = structlog.get_logger()


class Loading:
    """One session: a target, a consumer and what they have in common."""

    def __init__(
        self, settings: Settings, target: Target, batcher: Batcher, client: Consumer, now_ms: Callable[[], int]
    ) -> None:
        self._target, self._batcher, self._client, self._now_ms = target, batcher, client, now_ms
        self._batch_rows = settings.sink_batch_rows
        self._letters = codec_of(settings, topics.DEAD_LETTERS)
        self._producer = producer(settings)
        self._progress: dict[Place, Progress] = {}

    def begin(self) -> dict[Place, Progress]:
        """Finds out where the warehouse ends, and what it knows."""
        self._assign()
        self._recall()
        return self._progress

    def step(self, stopped: threading.Event) -> dict[Place, Progress]:
        """Consumes a batch and commits it; the progress then."""
        if not self._gather(stopped):
            self._batcher.drop()
            self._assign()
        elif self._batcher.waiting():
            self._commit()
        return self._progress

    def _assign(self) -> None:
        """Starts every partition where the warehouse ends."""
        stored = self._target.progress()
        self._batcher.orphans = self._target.orphans(stored)
        progress: dict[Place, Progress] = {}
        self._earliest: dict[Place, int] = {}
        for topic in sink_topics():
            for partition in partitions_of(self._client, topic):
                place = (topic, partition)
                earliest, end = offsets(self._client, topic, partition)
                progress[place] = start_of(place, stored.get(place), earliest, end)
                self._earliest[place] = earliest
        self._client.assign([TopicPartition(*place, own.next_offset) for place, own in progress.items()])
        self._progress = progress

    def _recall(self) -> None:
        """Builds the sets of ids from the warehouse: what Kafka still has, events of 7 days, all imported ones."""
        today = self._now_ms() // DAY_MS
        for table in TABLES:
            if table.topic is None:
                continue
            first = today - HORIZON_DAYS
            since = datetime.fromtimestamp(first * DAY_MS / 1000, UTC) if table.name == "events" else None
            kept = {place[1]: offset for place, offset in self._earliest.items() if place[0] == table.topic}
            for rows in self._target.keys(table, since, {} if since else kept):
                days = np.full(rows.height, today)
                if since is not None:  # clocks may have been set back
                    days = np.minimum(rows["received_at"].dt.epoch("d").to_numpy(), today)
                self._batcher.remember(table.name, rows, days)

    def _gather(self, stopped: threading.Event) -> bool:
        """Consumes until a batch is worth a commit; False when partitions have to be assigned anew."""
        began: float | None = None
        while not stopped.is_set():
            wanted = self._batch_rows - self._batcher.waiting()
            messages = self._client.consume(min(wanted, _CONSUME_RECORDS), LINGER_S)
            taken, errors = sorted_out(messages)
            for records in taken:
                self._batcher.take(records)
            for error in errors:
                if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    return False
                if error.fatal():
                    raise KafkaUnavailableError(f"Kafka refused the sink: {error.str()}")
                _log.warning("Kafka has trouble", why=error.str())
            waiting = self._batcher.waiting()
            if not waiting:
                return True
            began = time.monotonic() if began is None else began
            linger_s = BUSY_LINGER_S if waiting >= BUSY_RECORDS else LINGER_S
            if waiting >= self._batch_rows or time.monotonic() - began >= linger_s or not messages:
                return True
        return True

    def _commit(self) -> None:
        step, broken = self._batcher.prepare(self._progress, self._now_ms())
        self._send_letters([bad for bad in broken if not bad.is_letter_of_worker])
        with metrics.SINK_COMMIT_SECONDS.time():
            self._target.commit(step)
        self._progress = {**self._progress, **step.progress}
        self._batcher.done(step, self._now_ms())
        for name, rows in step.rows.items():
            metrics.SINK_LOADED.labels(name).inc(rows.height)
            metrics.SINK_KNOWN_IDS.labels(name).set(len(self._batcher.seen[name]))
        for name, rows_held in step.deduplicated.items():
            metrics.SINK_DEDUPLICATED.labels(name).inc(rows_held)

    def _send_letters(self, broken: Sequence[Broken]) -> None:
        """Dead letters reach Kafka before their offsets are committed; a repeated one has the same id."""
        failed: list[str] = []
        for bad in broken:
            topic, partition = bad.place
            letter_id = f"{topic}/{partition}/{bad.record.offset}"
            value = self._letters.encode(
                {
                    "dead_letter_id": letter_id,
                    "tenant": "unknown",
                    "source": "unknown",
                    "stage": "sinks",
                    "reason": bad.error.reason.value,
                    "detail": bad.error.detail,
                    "topic": topic,
                    "partition": partition,
                    "offset": bad.record.offset,
                    "record_key": bad.record.key,
                    "payload": bad.record.value or b"",
                    "failed_at": bad.record.timestamp_ms,
                }
            )
            self._producer.produce(
                topics.DEAD_LETTERS,
                value,
                letter_id,
                on_delivery=lambda error, _: failed.append(str(error)) if error else None,
            )
            metrics.DEAD_LETTERED.labels("sinks", bad.error.reason.value).inc()
        if broken and (self._producer.flush(_DELIVERY_S) or failed):
            raise KafkaUnavailableError("Kafka did not take the sink's dead letters: the batch is read again.")


def start_of(place: Place, stored: Progress | None, earliest: int, end: int) -> Progress:
    """Where to read on; raises SinkError when the warehouse is ahead of this Kafka."""
    if stored is None:
        return Progress(earliest, earliest)
    if stored.next_offset > end:
        raise SinkError(
            f"The warehouse has read {place[0]}/{place[1]} up to offset {stored.next_offset}, but this Kafka ends at "
            f"{end}: it is another Kafka than the one that filled the warehouse. Start with --fresh, or set "
            "CROSSFADE_DATA_DIR to another directory."
        )
    lost = max(earliest - stored.next_offset, 0)
    if lost:
        _log.error(
            "Kafka deleted records before they were loaded: they are lost, and the ledger shows them as missing",
            topic=place[0],
            partition=place[1],
            records=lost,
            advice="load them again from their source, and lengthen CROSSFADE_RETENTION_HOURS",
        )
    return replace(stored, next_offset=stored.next_offset + lost, expired=stored.expired + lost)
