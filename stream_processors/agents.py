"""What the two agents do with a batch: events of a partition become parts of windows, parts become final windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import polars as pl

from schemas import metrics, topics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.event_time import Windows as Clockwork
from schemas.kafka import codec_of
from schemas.reasons import BadRecordError, Reason
from schemas.settings import Settings
from stream_processors.catalogue import CONTEXT
from stream_processors.codes import IDS
from stream_processors.detectors.alert import Alert
from stream_processors.idle import Idle
from stream_processors.merge import MergeState, Part
from stream_processors.outbox import Outbox
from stream_processors.partition import PartitionState, Result
from stream_processors.sketch import estimates, sketches
from stream_processors.transport import EventBatch
from stream_processors.wire import BadRecord, Decoded, Wire

COLUMNS = [
    *("event_id", "event_type", "timestamp", "tenant", "source", "user_id", "session_id", "track_id", *CONTEXT),
    *("platform", "country", "device", "app_version", "position_ms", "ms_played"),
]
"""What the worker reads of an event."""

PART_BYTES = topics.MESSAGE_MAX_BYTES // 4
_TELL_EVERY_S = 0.5


class EventsAgent:
    """`listening-events` to plays, sessions, tracks, dead letters, and the parts of windows that closed here."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._outbox = outbox
        self._clockwork = Clockwork(settings.window_ms, settings.grace_ms)
        self._wire = Wire(codec_of(settings, topics.EVENTS, COLUMNS, IDS))
        written = (topics.PLAYS, topics.SESSIONS, topics.TRACK_CATALOGUE, topics.DEAD_LETTERS)
        self._codecs = {topic: codec_of(settings, topic) for topic in written}
        self._early_every_s = settings.early_every_ms / 1000 if settings.emit == "early" else None
        self._told: dict[int, tuple[int, float]] = {}
        self._told_early: dict[int, float] = {}
        self._settled: dict[int, float] = {}

    def read(self, batch: EventBatch) -> Decoded:
        """Decodes a batch."""
        return self._wire.read(batch)

    def process(self, partition: int, state: PartitionState, batch: EventBatch, decoded: Decoded) -> None:
        """Takes one batch."""
        result = state.add(decoded, batch.next)
        for bad in (*result.bad, *_ahead(batch, result.ahead)):
            self._dead_letter(batch, bad)
        self._emit(topics.TRACK_CATALOGUE, result.tracks, "key", 0)
        self._emit_finished(partition, result)
        self._tell(partition, state, result.closed)
        self._count(partition, state, result, len(batch), decoded.singly)

    def settle(self, partition: int, state: PartitionState) -> None:
        """Emits what `add` has put off to be done for many rows at once; the more is open, the more rarely."""
        elapsed_s = time.monotonic() - self._settled.get(partition, 0.0)
        if state.waiting and elapsed_s >= 1 + state.open_rows / 100_000:
            self._emit_finished(partition, state.settle())
            self._settled[partition] = time.monotonic()
        if self._early_every_s is not None:
            self._tell_early(partition, state)

    def _emit_finished(self, partition: int, result: Result) -> None:
        self._emit(topics.PLAYS, result.plays, "user_id", partition)
        self._emit(topics.SESSIONS, result.sessions, "user_id", partition)
        metrics.PLAYS.inc(result.plays.height)

    def _emit(self, topic: str, rows: pl.DataFrame, key: str, partition: int) -> None:
        self._outbox.emit_rows(topic, self._codecs[topic], rows, key, partition=partition)

    def _dead_letter(self, batch: EventBatch, bad: BadRecord) -> None:
        place = f"{batch.topic}/{batch.partition}/{bad.offset}"
        letter = {
            "dead_letter_id": place,
            "tenant": bad.tenant,
            "source": bad.source,
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

    def _tell(self, partition: int, state: PartitionState, closed: pl.DataFrame) -> None:
        clock = state.clock
        told_clock, told_at = self._told.get(partition, (0, 0.0))
        moved = self._clockwork.closed_before(clock) > self._clockwork.closed_before(told_clock)
        if not moved and not (clock > told_clock and time.monotonic() - told_at >= _TELL_EVERY_S):
            return
        pieces = _pieces(closed)
        for i, piece in enumerate(pieces):
            self._emit_part(Part(partition, clock if i == len(pieces) - 1 else told_clock, piece))
        self._told[partition] = (clock, time.monotonic())

    def _tell_early(self, partition: int, state: PartitionState) -> None:
        now = time.monotonic()
        if now - self._told_early.get(partition, 0.0) >= (self._early_every_s or 0):
            self._told_early[partition] = now
            for piece in _pieces(state.early()):
                self._emit_part(Part(partition, state.clock, piece, early=True))

    def _emit_part(self, part: Part) -> None:
        self._outbox.emit(topics.WINDOW_PARTIALS, str(part.partition).encode(), part.encode())

    def _count(self, partition: int, state: PartitionState, result: Result, records: int, slow: int) -> None:
        metrics.WORKER_EVENTS.labels(partition).inc(records)
        metrics.WORKER_BATCHES.labels("slow" if slow else "columnar").inc()
        metrics.WORKER_LATE.inc(result.late)
        metrics.WORKER_DUPLICATES.inc(result.duplicates)
        metrics.WORKER_WATERMARK.labels(partition).set((state.clock - self._clockwork.grace_ms) / 1000)


def _ahead(batch: EventBatch, rows: pl.DataFrame) -> Iterator[BadRecord]:
    """Events that are quarantined for their clock, with their original bytes."""
    if rows.is_empty():
        return
    told = {row["_offset"]: row for row in rows.iter_rows(named=True)}
    for record in batch.records():
        if (row := told.get(record.offset)) is not None:
            error = BadRecordError(Reason.CLOCK, str(row["timestamp"]), "timestamp")
            yield BadRecord(
                record.offset, record.timestamp, record.key, record.value, error, row["tenant"], row["source"]
            )


def _pieces(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Rows in pieces that the broker takes."""
    step = max(1, rows.height * PART_BYTES // max(1, int(rows.estimated_size())))
    return [rows[at : at + step] for at in range(0, rows.height, step)] or [rows]


class MergeAgent:
    """`window-partials` to final `window-metrics`, `window-rollups` and `anomaly-alerts`; moves idle partitions on."""

    def __init__(self, settings: Settings, outbox: Outbox, partitions: list[int], now_ms: Callable[[], int]) -> None:
        self._outbox, self._now_ms = outbox, now_ms
        self._window_ms = settings.window_ms
        written = (topics.WINDOW_METRICS, topics.WINDOW_ROLLUPS, topics.ANOMALY_ALERTS)
        self._codecs: dict[str, Codec] = {topic: codec_of(settings, topic) for topic in written}
        clockwork = Clockwork(settings.window_ms, settings.grace_ms)
        self._idle = Idle(clockwork, partitions, settings.idle_ms, settings.play_timeout_ms, now_ms())

    def read(self, batch: EventBatch) -> Iterator[tuple[int, Part]]:
        """Decodes parts, each with its offset, one after the other: decoded they take ten times the memory."""
        return ((record.offset, Part.decode(bytes(record.value))) for record in batch.records())

    def process(self, _partition: int, state: MergeState, batch: EventBatch, parts: Iterable[tuple[int, Part]]) -> None:
        """Takes one batch of parts."""
        for offset, part in parts:
            if offset >= (state.next or 0):
                final, alerts = state.add(part)
                self._emit_windows(final, "final")
                for alert in alerts:
                    self._emit_alert(alert)
        self._emit_windows(state.early(), "early")
        state.next = batch.next
        for detector, count in state.open_alerts.items():
            metrics.ALERTS_OPEN.labels(detector).set(count)
        self._idle.saw(state.clocks, self._now_ms())

    def settle(self, _partition: int, _state: MergeState) -> None:
        """Writes watermark records into partitions that hold time back."""
        for partition, time_ms in self._idle.due(self._now_ms()).items():
            self._outbox.emit(topics.EVENTS, WATERMARK_KEY, None, partition=partition, timestamp_ms=time_ms)

    def _emit_windows(self, rows: pl.DataFrame, emit: str) -> None:
        now_ms = self._now_ms()
        minutes = int((rows["size_ms"] == self._window_ms).sum())  # they stand first
        for mine, topic in ((rows[:minutes], topics.WINDOW_METRICS), (rows[minutes:], topics.WINDOW_ROLLUPS)):
            if mine.is_empty():
                continue
            is_rollup = topic == topics.WINDOW_ROLLUPS
            prefix = [pl.col("size_ms").cast(pl.String)] if is_rollup else []
            suffix = [pl.lit(f"early@{now_ms}")] if emit == "early" else []
            dimensions = ("scope", "tenant", "event_type", "platform", "country", "app_version", "track_id")
            names = [pl.col("window").cast(pl.String), *(pl.col(name).fill_null("") for name in dimensions)]
            shown = mine.with_columns(
                window_id=pl.concat_str(*prefix, *names, *suffix, separator="/"),
                window_start="window",
                window_end=pl.col("window") + pl.col("size_ms"),
                window_ms="size_ms",
                completion=pl.col("completed_ms") / pl.when(pl.col("duration_ms") > 0).then("duration_ms"),
                emit=pl.lit(emit),
                emitted_at=pl.lit(now_ms),
            )
            if is_rollup:
                written = sketches(shown["coupons"])
                shown = shown.with_columns(users=estimates(shown["coupons"], written), users_sketch=written)
            self._outbox.emit_rows(topic, self._codecs[topic], shown, "window_id")
            if emit == "final":
                for scope, count in shown.group_by("scope").len().iter_rows():
                    metrics.WINDOWS_FINAL.labels(scope).inc(count)

    def _emit_alert(self, alert: Alert) -> None:
        record = alert.record()
        value = self._codecs[topics.ANOMALY_ALERTS].encode(record)
        self._outbox.emit(topics.ANOMALY_ALERTS, record["transition_id"].encode(), value)
        metrics.ALERT_TRANSITIONS.labels(alert.detector, alert.status).inc()
