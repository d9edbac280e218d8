"""The sink's loop: consume, prepare, commit rows and offsets together, over and over."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas import metrics, topics
from schemas.event_time import Windows
from schemas.kafka import KafkaUnavailableError, codec_of, consumer, offsets, partitions_of, producer
from schemas.settings import Settings
from schemas.tables import TABLES
from sinks.batch import DAY_MS, HORIZON_DAYS, Batcher, Broken, Record
from sinks.ledger import sink_topics
from sinks.seen import hashes
from sinks.target import Place, Progress, SinkError, Target, key_columns

LINGER_S = 0.25
"""How long a batch waits for more records: the delay of a row at low rates."""

_DELIVERY_S = 20.0

_log = structlog.get_logger()


class Sink:
    """Loads every topic that has a table. Each record becomes visible once, with the offset that says so.

    Records that cannot be read are passed over: the worker dead-letters those of `listening-events`, the sink those of
    the other topics. Rows that the warehouse has are dropped and counted.
    """

    def __init__(self, settings: Settings, target: Target, now_ms: Callable[[], int] | None = None) -> None:
        self._settings, self._target = settings, target
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        codecs = {topic: codec_of(settings, topic) for topic in sink_topics()}
        self._letters = codecs[topics.DEAD_LETTERS]
        self._batcher = Batcher(codecs, Windows(settings.window_ms, settings.grace_ms), target.held)
        self._progress: dict[Place, Progress] = {}

    def run(self, stopped: threading.Event) -> None:
        """Loads until stopped; raises SinkError or KafkaUnavailableError when it cannot go on."""
        self._recall()
        client = consumer(self._settings)
        letters = producer(self._settings)
        try:
            self._assign(client)
            _log.info("loading", partitions=len(self._progress), known_ids=self._known())
            while not stopped.is_set():
                messages = client.consume(self._settings.sink_batch_rows, LINGER_S)
                if messages and not self._load(messages, letters):
                    self._assign(client)
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka refused the sink: {error.args[0].str()}") from None
        finally:
            client.close()

    def progress(self) -> dict[Place, Progress]:
        """How far the warehouse is, by partition; empty until the sink is ready. May be asked by other threads."""
        return dict(self._progress)

    def _known(self) -> int:
        return sum(len(seen) for seen in self._batcher.seen.values())

    def _recall(self) -> None:
        """Builds the sets of known ids from the warehouse."""
        today = self._now_ms() // DAY_MS
        for table in TABLES:
            if table.topic is None:
                continue
            first = today - HORIZON_DAYS
            since = datetime.fromtimestamp(first * DAY_MS / 1000, UTC) if table.name == "events" else None
            for rows in self._target.keys(table, since):
                found = hashes(rows, key_columns(table))
                seen = self._batcher.seen[table.name]
                if since is None:
                    seen.add(found, today)
                    continue
                days = np.minimum(rows["received_at"].dt.epoch("d").to_numpy(), today)  # clocks may have been set back
                for day in range(first, today + 1):
                    seen.add(found[days == day], day)

    def _assign(self, client: Consumer) -> None:
        """Starts every partition where the warehouse ends."""
        stored = self._target.progress()
        self._batcher.orphans = self._target.orphans(stored)
        progress: dict[Place, Progress] = {}
        for topic in sink_topics():
            for partition in partitions_of(client, topic):
                place = (topic, partition)
                progress[place] = start_of(place, stored.get(place), *offsets(client, topic, partition))
        client.assign([TopicPartition(*place, own.next_offset) for place, own in progress.items()])
        self._progress = progress

    def _load(self, messages: Sequence[Message], letters: Producer) -> bool:
        """Loads what was consumed; False when partitions have to be assigned anew."""
        taken: dict[Place, list[Record]] = defaultdict(list)
        in_range = True
        for message in messages:
            error = message.error()
            if error is None:
                record = Record(message.offset(), message.timestamp()[1], message.key(), message.value())
                taken[(message.topic(), message.partition())].append(record)
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                in_range = False
            elif error.fatal():
                raise KafkaUnavailableError(f"Kafka refused the sink: {error.str()}")
            else:
                _log.warning("Kafka has trouble", why=error.str())
        if taken:
            self._commit(taken, letters)
        return in_range

    def _commit(self, taken: dict[Place, list[Record]], letters: Producer) -> None:
        step, broken = self._batcher.prepare(taken, self._progress, self._now_ms())
        self._send_letters([bad for bad in broken if not bad.is_letter_of_worker], letters)
        with metrics.SINK_COMMIT_SECONDS.time():
            self._target.commit(step)
        self._progress.update(step.progress)
        self._batcher.done(step, self._now_ms())
        for name, rows in step.rows.items():
            metrics.SINK_LOADED.labels(name).inc(rows.height)
        for name, rows_held in step.deduplicated.items():
            metrics.SINK_DEDUPLICATED.labels(name).inc(rows_held)

    def _send_letters(self, broken: Sequence[Broken], letters: Producer) -> None:
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
            letters.produce(
                topics.DEAD_LETTERS,
                value,
                letter_id,
                on_delivery=lambda error, _: failed.append(str(error)) if error else None,
            )
            metrics.DEAD_LETTERED.labels("sinks", bad.error.reason.value).inc()
        if broken and (letters.flush(_DELIVERY_S) or failed):
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
