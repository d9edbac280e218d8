"""What the worker tells of itself: lag from the broker's end offsets, and the figures of its page."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from faust.types import TP
from prometheus_client import REGISTRY

from schemas import metrics
from schemas.kafka import consumer, offsets
from schemas.settings import Settings
from stream_processors.app import WorkerApp
from stream_processors.page import PartitionStatus, WorkerStatus


class Status:
    """Looks at the broker twice a second, from a thread of its own."""

    def __init__(self, settings: Settings, worker: WorkerApp) -> None:
        self._name, self._worker, self._grace_ms = settings.worker_name, worker, settings.grace_ms
        self._lags: dict[TP, int] = {}
        self._total: int | None = None
        self._consumer = consumer(settings, "crossfade-worker-lag")
        threading.Thread(target=self._watch, daemon=True, name="lag").start()

    def _watch(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the broker is away: the last figure stands
                self._total = self._look()
            time.sleep(0.5)

    def _look(self) -> int | None:
        owned = self._worker.next_offsets()
        for place in self._lags.keys() - owned.keys():  # taken over by another worker, which tells of it
            del self._lags[place]
            metrics.WORKER_LAG.remove(place.topic, place.partition)
        if not owned:
            return 0 if self._worker.is_spare() else None
        for tp, next_offset in owned.items():
            low, high = offsets(self._consumer, tp.topic, tp.partition)
            self._lags[tp] = high - max(low, next_offset or 0)
            metrics.WORKER_LAG.labels(tp.topic, tp.partition).set(self._lags[tp])
        return sum(self._lags.values()) + len(self._worker.outbox) + self._worker.waiting()

    def health(self) -> dict[str, Any]:
        """What /healthz answers."""
        partitions = {f"{tp.topic}/{tp.partition}": n for tp, n in self._worker.next_offsets().items()}
        return {"ok": True, "stage": "stream_processors", "lag": self._total, "next": partitions}

    def now(self) -> WorkerStatus:
        """What the page shows."""
        owned = sorted(self._worker.next_offsets().items(), key=lambda item: (item[0].topic, item[0].partition))
        return WorkerStatus(
            self._name,
            [self._partition(tp, next_offset or 0) for tp, next_offset in owned],
            int(_total("crossfade_worker_events_total")),
            int(_total("crossfade_worker_late_events_total")),
            int(_total("crossfade_worker_duplicate_events_total")),
            int(_total("crossfade_worker_batches_total")),
            int(_total("crossfade_worker_batches_total", path="slow")),
            int(_total("crossfade_worker_snapshots_total")),
            int(_total("crossfade_worker_snapshot_bytes_total")),
            _total("crossfade_worker_snapshot_seconds_sum"),
            time.time_ns() // 1_000_000,
        )

    def _partition(self, tp: TP, next_offset: int) -> PartitionStatus:
        events, merge, clock, waiting = self._worker.events, self._worker.merge, 0, 0
        if tp.topic == events.topic and (state := events.states.get(tp.partition)) is not None:
            clock, waiting = state.clock, state.waiting
        if tp.topic == merge.topic and (merging := merge.states.get(tp.partition)) is not None:
            clock = merging.watermark_clock
        saved_s = _total("crossfade_worker_snapshot_timestamp_seconds", topic=tp.topic, partition=str(tp.partition))
        return PartitionStatus(
            tp.topic,
            tp.partition,
            next_offset,
            self._lags.get(tp),
            clock - self._grace_ms if clock else None,
            int(saved_s * 1000) if saved_s else None,
            waiting,
        )


def _total(name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
