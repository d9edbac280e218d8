"""The one way into Kafka: judges events, gives them pseudonyms, and produces them or their dead letters."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message

from producers import event as events
from producers.encoder import EventEncoder
from producers.identity import pseudonyms
from schemas import kafka, metrics, topics
from schemas.reasons import BadRecordError
from schemas.settings import Settings

Source = Literal["collector", "simulator", "replay", "import"]
Clock = Callable[[], int]
Delivered = Callable[[KafkaError | None, Message], None]

PAYLOAD_MAX_BYTES = 4 << 20
"""Original bytes that a dead letter keeps; what is longer is cut, and its detail says so."""

STOP_TIMEOUT_S = 2.0
"""How long a source that is asked to stop waits for what it has sent."""

_FULL_WAIT_S = 0.05


def now_ms() -> int:
    """Our clock: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Refused:
    """A record that is no event: why, and its original bytes."""

    error: BadRecordError
    payload: bytes
    event_id: str | None = None


@dataclass
class Tally:
    """What a door has let in so far. `dead_lettered` by reason; `latest_ms` is the greatest event time."""

    events: int = 0
    dead_lettered: Counter[str] = field(default_factory=Counter)
    latest_ms: int = 0

    @property
    def accepted(self) -> int:
        """Everything taken in: events and dead letters."""
        return self.events + self.dead_lettered.total()


class Door:
    """Takes raw client events and puts them into Kafka, in the order in which they come.

    Delivery guarantee: at least once within this process, and each record once in Kafka as long as the process lives
    (idempotent producer). Memory is bounded by `in_flight_max` records and 64 MiB. A record that Kafka did not
    acknowledge within `delivery_timeout_s` makes the next call raise KafkaUnavailableError: the source tells its caller
    to send the same again, and deterministic ids make the repetition harmless. While a call waits for Kafka it asks
    `interrupted` whether somebody wants to stop.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        *,
        delivery_timeout_s: float = 120.0,
        in_flight_max: int = 100_000,
        clock: Clock = now_ms,
        interrupted: Callable[[], bool] = lambda: False,
        **overrides: Any,
    ) -> None:
        self.tally = Tally()
        self.settings, self.source, self._clock, self._interrupted = settings, source, clock, interrupted
        self._timeout_s = delivery_timeout_s
        self._letters = kafka.codec_of(settings, topics.DEAD_LETTERS)
        self._events = kafka.codec_of(settings, topics.EVENTS)
        self._encoders: dict[str, EventEncoder] = {}
        self._failed: KafkaError | None = None
        self._reported: Tally = Tally()
        self.producer = kafka.producer(
            settings,
            **{
                "delivery.timeout.ms": int(delivery_timeout_s * 1000),
                "queue.buffering.max.messages": in_flight_max,
                "queue.buffering.max.kbytes": 64 << 10,
                "delivery.report.only.error": True,
                **overrides,
            },
        )

    def judge(self, raw: bytes | dict[str, Any]) -> events.ClientEvent | Refused:
        """The event, rules passed, or why it is refused."""
        now = self._clock()
        try:
            return events.from_json(raw, now) if isinstance(raw, bytes) else events.from_object(raw, now)
        except BadRecordError as error:
            return refused(raw, error)

    def take(self, raw: bytes | dict[str, Any] | Refused, place: str, tenant: str = "") -> None:
        """Judges and sends one record. `place` tells where it came from, the same at every attempt.

        Returns at once; waits, at most `delivery_timeout_s`, while too much is in flight. Raises KafkaUnavailableError.
        """
        outcome = raw if isinstance(raw, Refused) else self.judge(raw)
        if isinstance(outcome, Refused):
            self.send_dead_letter(outcome, place, tenant)
        else:
            self.send(outcome, tenant)

    def send(self, event: events.ClientEvent, tenant: str = "", on_delivery: Delivered | None = None) -> None:
        """Produces one event that has passed the rules."""
        key, value = self.encode(event, tenant)
        self._produce(topics.EVENTS, key, value, on_delivery or self._check)
        self.tally.events += 1
        self.tally.latest_ms = max(self.tally.latest_ms, int(event.timestamp))

    def send_all(
        self, told: Sequence[events.ClientEvent], tenant: str, received_at_ms: int, on_delivery: Delivered
    ) -> int:
        """Produces events that have passed the rules, in their order, and returns how many were taken.

        These are fewer when too much is in flight; `on_delivery` is called for each that was taken, while the producer
        is polled. Raises KafkaException.
        """
        encode = self._encoder(tenant or self.settings.tenant).encode
        records = (encode(event, received_at_ms) for event in told)
        messages = [{"key": key, "value": value} for key, value in records]
        return int(self.producer.produce_batch(topics.EVENTS, messages, on_delivery=on_delivery))

    def encode(self, event: events.ClientEvent, tenant: str = "") -> tuple[bytes, bytes]:
        """Key and value of an event that has passed the rules, received now."""
        return self._encoder(tenant or self.settings.tenant).encode(event, self._clock())

    def now_ms(self) -> int:
        """The clock of this door."""
        return self._clock()

    def send_dead_letter(
        self, letter: Refused, place: str, tenant: str = "", on_delivery: Delivered | None = None
    ) -> None:
        """Produces the dead letter of a refused record; its id is the same whenever it comes from the same place."""
        payload, detail = letter.payload, letter.error.detail
        digest = hashlib.sha256(f"{place}\n".encode() + payload).hexdigest()
        if len(payload) > PAYLOAD_MAX_BYTES:
            detail += f"; its first {PAYLOAD_MAX_BYTES} of {len(payload)} bytes"
            payload = payload[:PAYLOAD_MAX_BYTES]
        letter_id = f"{self.source}/{digest}"
        value = self._letters.encode(
            {
                "dead_letter_id": letter_id,
                "tenant": tenant or self.settings.tenant,
                "source": self.source,
                "stage": "producers",
                "reason": letter.error.reason.value,
                "detail": detail,
                "event_id": letter.event_id,
                "payload": payload,
                "failed_at": self._clock(),
            }
        )
        self._produce(topics.DEAD_LETTERS, letter_id.encode(), value, on_delivery or self._check)
        self.tally.dead_lettered[letter.error.reason.value] += 1

    def flush(self) -> None:
        """Returns once Kafka has acknowledged everything; raises KafkaUnavailableError after the time-out.

        The time-out is two seconds after an interruption.
        """
        start = time.monotonic()
        while left := self.producer.flush(0.2):
            self._raise_if_failed()
            waited_s = time.monotonic() - start
            if waited_s > (STOP_TIMEOUT_S if self._interrupted() else self._timeout_s):
                raise self._unavailable(f"{left} records were not acknowledged within {waited_s:.0f} s")
        self.report()

    def in_flight(self) -> int:
        """Records that are not acknowledged yet."""
        return len(self.producer)

    def report(self) -> None:
        """Serves delivery reports, moves the metrics on, and raises KafkaUnavailableError if a record was lost."""
        self.producer.poll(0)
        self._raise_if_failed()
        tenant, before, now = self.settings.tenant, self._reported, self.tally
        waiting = self.in_flight()
        acknowledged = max(before.events, now.events - waiting)
        metrics.IN_FLIGHT.labels(self.source).set(waiting)
        metrics.ACCEPTED.labels(tenant, self.source).inc(acknowledged - before.events)
        for reason, count in now.dead_lettered.items():
            new = count - before.dead_lettered[reason]
            metrics.REJECTED.labels(tenant, self.source, reason).inc(new)
            metrics.DEAD_LETTERED.labels("producers", reason).inc(new)
        self._reported = Tally(acknowledged, Counter(now.dead_lettered))

    def _encoder(self, tenant: str) -> EventEncoder:
        encoder = self._encoders.get(tenant)
        if encoder is None:
            names = pseudonyms(self.settings, tenant)
            encoder = self._encoders[tenant] = EventEncoder(
                self._events, tenant, self.source, names.of, self.settings.location_precision
            )
        return encoder

    def _produce(self, topic: str, key: bytes, value: bytes, on_delivery: Delivered) -> None:
        end = 0.0
        while True:
            try:
                self.producer.produce(topic, value, key, on_delivery=on_delivery)
                return
            except BufferError:
                end = end or time.monotonic() + self._timeout_s
                if time.monotonic() > end or self._interrupted():
                    raise self._unavailable(f"{len(self.producer)} records wait to be acknowledged") from None
                self.producer.poll(_FULL_WAIT_S)
                self._raise_if_failed()
            except KafkaException as error:
                raise self._unavailable(str(error.args[0])) from None

    def _check(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = error

    def _raise_if_failed(self) -> None:
        if self._failed is not None:
            raise self._unavailable(self._failed.str())

    def _unavailable(self, why: str) -> kafka.KafkaUnavailableError:
        return kafka.KafkaUnavailableError(
            f"Kafka at {self.settings.kafka_bootstrap_servers} did not take everything: {why}. "
            "Send the same again once it answers; what it has already is not counted twice."
        )


def refused(raw: bytes | dict[str, Any], error: BadRecordError) -> Refused:
    """A refused record with its bytes, and with its event_id when that can be read."""
    if isinstance(raw, bytes):
        try:
            value = events.load(raw[: 1 << 20])
        except BadRecordError:
            value = None
        return Refused(error, raw, events.event_id_of(value))
    return Refused(error, msgspec.json.encode(raw), events.event_id_of(raw))
