"""What the two agents do with a batch: events of a partition become parts of windows, parts become final windows."""

from __future__ import annotations

import time
from collections.abc import Callable

import polars as pl

from schemas import metrics, topics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.event_time import Windows as Clockwork
from schemas.kafka import codec_of
from schemas.settings import Settings
from stream_processors.detectors.alert import Alert
from stream_processors.idle import Idle
from stream_processors.merge import MergeState, Part
from stream_processors.outbox import Outbox
from stream_processors.partition import PartitionState, Result
from stream_processors.transport import EventBatch
from stream_processors.windows import KEYS, PARTIAL_SCHEMA
from stream_processors.wire import BadRecord, Wire

_PART_ROWS = 50_000
_TELL_EVERY_S = 0.5


class EventsAgent:
    """`listening-events` to plays, tracks, dead letters, and the parts of windows that this partition has closed."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._outbox = outbox
        self._clockwork = Clockwork(settings.window_ms, settings.grace_ms)
        self._wire = Wire(codec_of(settings, topics.EVENTS))
        self._codecs = {t: codec_of(settings, t) for t in (topics.PLAYS, topics.TRACK_CATALOGUE, topics.DEAD_LETTERS)}
        self._told: dict[int, tuple[int, float]] = {}

    def process(self, partition: int, state: PartitionState, batch: EventBatch) -> None:
        """Takes one batch."""
        decoded = self._wire.read(batch)
        result = state.add(decoded, batch.next)
        for bad in result.bad:
            self._dead_letter(batch, bad)
        self._emit_rows(topics.TRACK_CATALOGUE, result.tracks, "key")
        self._emit_rows(topics.PLAYS, result.plays, "user_id")
        self._tell(partition, state.clock, result.closed)
        self._count(partition, state, result, len(batch), decoded.slow_batches)

    def _emit_rows(self, topic: str, rows: pl.DataFrame, key: str) -> None:
        codec = self._codecs[topic]
        for row in rows.iter_rows(named=True):
            self._outbox.emit(topic, row[key].encode(), codec.encode(row))

    def _dead_letter(self, batch: EventBatch, bad: BadRecord) -> None:
        place = f"{batch.topic}/{batch.partition}/{bad.offset}"
        letter = {
            "dead_letter_id": place,
            "tenant": "unknown",
            "source": "unknown",
            "stage": "stream_processors",
            "reason": bad.error.reason.value,
            "detail": bad.error.detail,
            "event_id": None,
            "topic": batch.topic,
            "partition": batch.partition,
            "offset": bad.offset,
            "record_key": bad.key,
            "payload": bad.value,
            "failed_at": bad.time_ms,
        }
        self._outbox.emit(topics.DEAD_LETTERS, place.encode(), self._codecs[topics.DEAD_LETTERS].encode(letter))
        metrics.DEAD_LETTERED.labels("stream_processors", bad.error.reason.value).inc()

    def _tell(self, partition: int, clock: int, closed: pl.DataFrame) -> None:
        told_clock, told_at = self._told.get(partition, (0, 0.0))
        moved = self._clockwork.closed_before(clock) > self._clockwork.closed_before(told_clock)
        if not moved and not (clock > told_clock and time.monotonic() - told_at >= _TELL_EVERY_S):
            return
        pieces = [closed[at : at + _PART_ROWS] for at in range(0, closed.height, _PART_ROWS)] or [closed]
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            part = Part(partition, clock if last else told_clock, piece)
            self._outbox.emit(topics.WINDOW_PARTIALS, str(partition).encode(), part.encode(), partition=0)
        self._told[partition] = (clock, time.monotonic())

    def _count(self, partition: int, state: PartitionState, result: Result, records: int, slow: int) -> None:
        metrics.WORKER_EVENTS.labels(partition).inc(records)
        metrics.WORKER_BATCHES.labels("slow" if slow else "columnar").inc()
        metrics.WORKER_LATE.inc(result.late)
        metrics.WORKER_DUPLICATES.inc(result.duplicates)
        metrics.PLAYS.inc(result.plays.height)
        metrics.WORKER_WATERMARK.labels(partition).set((state.clock - self._clockwork.grace_ms) / 1000)


class MergeAgent:
    """`window-partials` to final `window-metrics` and `anomaly-alerts`; moves idle partitions on."""

    def __init__(self, settings: Settings, outbox: Outbox, partitions: list[int], now_ms: Callable[[], int]) -> None:
        self._outbox, self._now_ms = outbox, now_ms
        self._window_ms = settings.window_ms
        self._windows: Codec = codec_of(settings, topics.WINDOW_METRICS)
        self._alerts: Codec = codec_of(settings, topics.ANOMALY_ALERTS)
        clockwork = Clockwork(settings.window_ms, settings.grace_ms)
        self._idle = Idle(clockwork, partitions, settings.idle_ms, settings.play_timeout_ms, now_ms())

    def process(self, _partition: int, state: MergeState, batch: EventBatch) -> None:
        """Takes one batch of parts."""
        for record in batch.records():
            if record.offset >= (state.next or 0):
                final, alerts = state.add(Part.decode(bytes(record.value)))
                self._emit_windows(final)
                for alert in alerts:
                    self._emit_alert(alert)
        state.next = batch.next
        for detector, count in state.open_alerts.items():
            metrics.ALERTS_OPEN.labels(detector).set(count)
        self._idle.saw(state.clocks, self._now_ms())

    def _emit_windows(self, final: pl.DataFrame) -> None:
        now_ms = self._now_ms()
        for row in final.select(PARTIAL_SCHEMA.keys()).iter_rows(named=True):
            start = row.pop("window")
            dimensions = [row[name] for name in KEYS if name not in ("tenant", "user_id")]
            window_id = "/".join(
                [str(start), row["scope"], row["tenant"], *("" if d is None else d for d in dimensions)]
            )
            record = {
                **row,
                "window_id": window_id,
                "window_start": start,
                "window_end": start + self._window_ms,
                "emitted_at": now_ms,
            }
            self._outbox.emit(topics.WINDOW_METRICS, window_id.encode(), self._windows.encode(record))
            metrics.WINDOWS_FINAL.labels(row["scope"]).inc()

    def _emit_alert(self, alert: Alert) -> None:
        record = alert.record()
        self._outbox.emit(topics.ANOMALY_ALERTS, record["transition_id"].encode(), self._alerts.encode(record))
        metrics.ALERT_TRANSITIONS.labels(alert.detector, alert.status).inc()

    def move_idle_partitions(self) -> None:
        """Writes watermark records into partitions that hold time back."""
        for partition, time_ms in self._idle.due(self._now_ms()).items():
            self._outbox.emit(topics.EVENTS, WATERMARK_KEY, None, partition=partition, timestamp_ms=time_ms)
