"""The ledger recounted from the rows every half a minute: by hour and way in, with alerts when it does not balance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import structlog
from confluent_kafka import TopicPartition

from schemas import metrics, topics
from schemas.kafka import KafkaUnavailableError, codec_of, consumer, producer
from schemas.settings import Settings
from sinks.imbalance import DETECTOR, TOTAL, Imbalance, Series
from sinks.ledger import Ledger, Line, lines
from sinks.target import Place, Progress
from warehouse.runner import Reader

EVERY_S = {"duckdb": 30.0, "bigquery": 900.0}
"""BigQuery is paid per question."""

_DELIVERY_S = 10.0
_LOOK_S = 5.0
_TOLD = f"""
SELECT alert_id, status, onset, `at`, observed, evidence FROM anomaly_alerts WHERE detector = '{DETECTOR}'
"""  # noqa: S608 - a name of ours

_ONE_LOOK: dict[str, Any] = {"queued.max.messages.kbytes": 1024, "max.partition.fetch.bytes": 64 << 10}

_log = structlog.get_logger()


class Audit:
    """Asks for all lines of the ledger, sets their metrics, and writes alerts to `anomaly-alerts`. For one thread."""

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._settings, self._now_ms = settings, now_ms
        self._codec = codec_of(settings, topics.ANOMALY_ALERTS)
        self._producer = producer(settings)
        self._imbalance: Imbalance | None = None

    def look(self, source: Reader, ledger: Ledger, oldest_ms: int | None) -> list[dict[str, Any]]:
        """One look; the alerts that it led to, which Kafka has then.

        `oldest_ms`: arrival of the oldest record that the sink has not read. Raises WarehouseError and
        KafkaUnavailableError; the next look goes on where this one failed.
        """
        if self._imbalance is None:
            self._imbalance = Imbalance(source.query(_TOLD).rows)
        now_ms, found = self._now_ms(), lines(source)
        tell(found, ledger, now_ms, oldest_ms)
        alerts = self._imbalance.observe(differences(found, ledger), now_ms)
        metrics.ALERTS_OPEN.labels(DETECTOR).set(self._imbalance.open)
        if alerts:
            self._send(alerts)
        return alerts

    def _send(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        failed: list[str] = []
        for alert in alerts:
            _log.error(alert["summary"], status=alert["status"], runbook=alert["runbook"])
            self._producer.produce(
                topics.ANOMALY_ALERTS,
                self._codec.encode(alert),
                alert["transition_id"],
                on_delivery=lambda error, _: failed.append(str(error)) if error else None,
            )
            metrics.ALERT_TRANSITIONS.labels(DETECTOR, alert["status"]).inc()
        if self._producer.flush(_DELIVERY_S) or failed:
            self._imbalance = None  # what was told is asked again
            raise KafkaUnavailableError("Kafka did not take the alerts about the ledger.")


def differences(found: Sequence[Line], ledger: Ledger) -> dict[Series, int]:
    """What is missing (or too much, below 0), by line; in total, what the lines do not explain."""
    lost = {Series(line.tenant, line.source, line.hour.isoformat()): line.difference for line in found}
    accounted = ledger.loaded + ledger.dead_lettered + ledger.deduplicated + ledger.in_flight
    return {**lost, TOTAL: ledger.accepted - accounted - sum(lost.values())}


def tell(found: Sequence[Line], ledger: Ledger, now_ms: int, oldest_ms: int | None) -> None:
    """Sets the metrics of the lines."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for line in found:
        own = sums.setdefault((line.tenant, line.source), {})
        for name, number in asdict(line).items():
            if name not in ("hour", "tenant", "source", "age_s"):
                # what is missing in one hour is not made good by what is there twice in another
                own[name] = own.get(name, 0) + (abs(number) if name == "difference" else number)
    for key, own in sums.items():
        metrics.LEDGER_DIFFERENCE.labels(*key).set(own.pop("difference"))
        for entry, number in own.items():
            metrics.LEDGER_SOURCE.labels(*key, entry).set(number)
    metrics.LEDGER_AGE.set(age_s(found, now_ms, oldest_ms) if ledger.in_flight else 0)


def age_s(found: Sequence[Line], now_ms: int, oldest_ms: int | None) -> int:
    """Age of the oldest event in flight, read or not; 0 when nothing is."""
    unread_s = max(now_ms - oldest_ms, 0) // 1000 if oldest_ms is not None else 0
    return max([unread_s, *(line.age_s for line in found)])


def oldest_unread_ms(
    settings: Settings, progress: Mapping[Place, Progress], ends: Mapping[Place, tuple[int, int]]
) -> int | None:
    """When the oldest event that the sink has not read arrived, by Kafka's timestamps; None when all is read.

    Takes at most 5 s; a partition that does not answer in that time is left out.
    """
    places = {
        place: max(progress[place].next_offset if place in progress else 0, earliest)
        for place, (earliest, end) in ends.items()
        if place[0] == topics.EVENTS and (place not in progress or progress[place].next_offset < end)
    }
    if not places:
        return None
    client = consumer(settings, **_ONE_LOOK)
    try:
        client.assign([TopicPartition(*place, offset) for place, offset in places.items()])
        waiting, found, end = set(places), [], time.monotonic() + _LOOK_S
        while waiting and time.monotonic() < end:
            for message in client.consume(100, 0.25):
                place = (message.topic(), message.partition())
                if message.error() is None and place in waiting:
                    waiting.discard(place)
                    found.append(message.timestamp()[1])
                    client.pause([TopicPartition(*place)])
        return min(found, default=None)
    finally:
        client.close()
