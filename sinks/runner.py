"""The sink from start to stop: sessions of loading, and patience while the warehouse or Kafka is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import KafkaException

from schemas import metrics
from schemas.codec import Codec
from schemas.event_time import Windows
from schemas.kafka import KafkaUnavailableError, codec_of, consumer
from schemas.settings import Settings
from schemas.topics import MESSAGE_MAX_BYTES
from sinks.batch import Batcher, horizons
from sinks.ledger import sink_topics
from sinks.loading import Loading
from sinks.target import Place, Progress, Target, WarehouseAwayError
from warehouse.runner import Reader

_SMALL_QUEUE: dict[str, Any] = {
    "queued.max.messages.kbytes": 8 << 10,
    "fetch.max.bytes": MESSAGE_MAX_BYTES,
    "max.partition.fetch.bytes": 1 << 20,
}
"""What the client keeps before it is asked for it: a second or so, since Kafka is the buffer."""

_BACKOFF_S = (0.125, 5.0)

_log = structlog.get_logger()


class Sink:
    """Loads every topic that has a table. Each record becomes visible once, with the offset that says so.

    Records that cannot be read are passed over: the worker dead-letters those of `listening-events`, the sink those of
    the other topics. Rows that the warehouse has are dropped and counted. While the warehouse or Kafka is away the sink
    waits and holds nothing: Kafka is the buffer.
    """

    def __init__(
        self, settings: Settings, open_target: Callable[[], Target], now_ms: Callable[[], int] | None = None
    ) -> None:
        self._settings, self._open_target = settings, open_target
        self.now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._codecs: dict[str, Codec] = {}
        self._progress: dict[Place, Progress] = {}
        self._reader: Reader | None = None
        self._waiting_for = ""

    @property
    def reader(self) -> Reader | None:
        """Answers questions about the warehouse; None while it is away. May be asked by other threads."""
        return self._reader

    @property
    def waiting_for(self) -> str:
        """What holds up the sink and why, in one line; empty when nothing does. May be asked by other threads."""
        return self._waiting_for

    def progress(self) -> dict[Place, Progress]:
        """How far the warehouse is, by partition; empty until the sink is ready. May be asked by other threads."""
        return dict(self._progress)

    def run(self, stopped: threading.Event) -> None:
        """Loads until stopped; raises SinkError when it can never go on."""
        pause_s = _BACKOFF_S[0]
        while not stopped.is_set():
            progress = self._progress
            try:
                self._session(stopped)
            except WarehouseAwayError as error:
                away, why = "warehouse", str(error)
            except KafkaUnavailableError as error:
                away, why = "Kafka", str(error)
            else:
                return
            if self._progress != progress:
                pause_s = _BACKOFF_S[0]
            if not self._waiting_for:
                _log.warning(f"waiting for {away}; nothing is lost, Kafka keeps the records", why=why)
            self._waiting_for = f"waiting for {away}: {why}"
            metrics.SINK_WAITING.set(1)
            stopped.wait(pause_s)
            pause_s = min(pause_s * 2, _BACKOFF_S[1])

    def _session(self, stopped: threading.Event) -> None:
        """From opening the warehouse until it or Kafka goes away, or until stopped."""
        settings = self._settings
        self._codecs = self._codecs or {topic: codec_of(settings, topic) for topic in sink_topics()}
        target = self._open_target()
        client = consumer(settings, **_SMALL_QUEUE)
        try:
            windows = Windows(settings.window_ms, settings.grace_ms)
            batcher = Batcher(self._codecs, windows, target.held, horizons(settings))
            loading = Loading(settings, target, batcher, client, self.now_ms)
            self._progress = loading.begin()
            self._reader = target.reader
            _log.info("loading", partitions=len(self._progress), known_ids=sum(map(len, batcher.seen.values())))
            while not stopped.is_set():
                self._progress = loading.step(stopped)
                if self._waiting_for:
                    _log.info("loading again")
                    self._waiting_for = ""
                    metrics.SINK_WAITING.set(0)
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka refused the sink: {error.args[0].str()}") from None
        finally:
            self._reader = None
            client.close()
            target.close()
