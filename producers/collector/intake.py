"""Takes the events of one request through the door and waits until Kafka has acknowledged every one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaException, Producer

from producers import event as events
from producers.collector.answer import Answer, Result, rejected
from producers.collector.body import HELD_MAX_BYTES, Split
from producers.collector.clock import repaired
from producers.collector.delivery import ACKNOWLEDGE_TIMEOUT_S, Batch, Delivery, away
from producers.collector.keyring import Client
from producers.collector.problems import ProblemError
from producers.door import Door, Refused, refused
from schemas import metrics
from schemas.kafka import KafkaUnavailableError
from schemas.reasons import BadRecordError
from schemas.settings import Settings

REMEMBERED = 100_000
"""Acknowledged event_ids of a tenant that are known as duplicates, at least."""

_LINGER_MS = 3
_QUEUE_KIB = 4 * HELD_MAX_BYTES >> 10  # more than all bodies in memory can become
_SLICE = 500  # events between two turns of the event loop


class Recent:
    """A bounded set of event_ids: the last `capacity` at least, twice as many at most; `old` are the elder ones."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._capacity = capacity
        self.young: set[str] = set()
        self.old: set[str] = set()

    def learn(self, event_ids: Iterable[str]) -> None:
        """Learns some; may forget others."""
        self.young.update(event_ids)
        if len(self.young) >= self._capacity:
            self.young, self.old = set(), self.young


class Intake:
    """The collector's door.

    Delivery guarantee: an answer says `accepted` only after all in-sync replicas have it. While Kafka is known to be
    away, a request is refused with 503 before anything of it is sent on. When Kafka goes away under a request, some of
    its events may be in Kafka at the 503: the client sends it again, with the same event_ids, and each counts once.
    Memory is bounded by `collector_in_flight_max` events, and by HELD_MAX_BYTES of bodies.
    """

    def __init__(self, settings: Settings, on_fatal: Callable[[str], None]) -> None:
        self._max = settings.collector_in_flight_max
        self.delivery = Delivery(on_fatal)
        producing: dict[str, Any] = {
            "delivery.report.only.error": False,
            "error_cb": self.delivery.noticed,
            "linger.ms": _LINGER_MS,
            "queue.buffering.max.kbytes": _QUEUE_KIB,
        }
        self._door = Door(
            settings,
            "collector",
            delivery_timeout_s=ACKNOWLEDGE_TIMEOUT_S - 0.3,
            in_flight_max=1_000_000,
            interrupted=lambda: True,  # a request is refused rather than kept waiting
            **producing,
        )
        self._recent: defaultdict[str, Recent] = defaultdict(Recent)  # by tenant

    @property
    def producer(self) -> Producer:
        """The producer behind the door."""
        return self._door.producer

    def now_ms(self) -> int:
        """The clock of the door."""
        return self._door.now_ms()

    def require_room(self, more: int = 0) -> None:
        """Raises ProblemError 503 while Kafka is known to be away, and 429 while too many events wait for it."""
        self.delivery.require()
        waiting = self.delivery.in_flight
        if waiting and waiting + more > self._max:
            raise ProblemError(429, f"{waiting} events wait for Kafka: send again later.", Retry_After="1")

    async def take(self, split: Split, client: Client, request_id: str, received_at_ms: int) -> Answer:
        """Judges and sends the events of a request. Raises ProblemError 429 or 503.

        With a key of scope `test` nothing is sent or remembered, and Kafka is not asked.
        """
        test = client.scope == "test"
        if not test:
            self.require_room(len(split.raws))
        recent = self._recent[client.tenant]
        judged = _Judged(client.tenant, received_at_ms, recent)
        batch = Batch(self.delivery)
        for first in range(0, len(split.raws), _SLICE):
            if first:
                await asyncio.sleep(0)
            judged.judge(split, range(first, min(first + _SLICE, len(split.raws))))
            if not test:
                self._send(judged, request_id, batch)
        await batch.acknowledged()
        answer = judged.answer()
        if not test:
            recent.learn(judged.accepted)
            _count(answer, client.tenant)
        return answer

    def _send(self, judged: _Judged, request_id: str, batch: Batch) -> None:
        """Hands over what was judged since the last time."""
        told, letters = judged.events, judged.letters
        judged.events, judged.letters = [], []
        try:
            taken = self._door.send_all(told, judged.tenant, judged.received_at_ms, batch.settle)
            batch.handed_over(taken)
            if taken < len(told):
                raise KafkaUnavailableError("too much waits to be acknowledged")
            for number, letter in letters:
                self._door.send_dead_letter(letter, f"{request_id}/{number}", judged.tenant, batch.settle)
                batch.handed_over(1)
        except (KafkaUnavailableError, KafkaException) as error:
            raise away(str(error), "some of it may have arrived all the same") from None


class _Judged:
    """The events of one request: what is to be sent of them, and what is to be answered."""

    def __init__(self, tenant: str, received_at_ms: int, recent: Recent) -> None:
        self.tenant, self.received_at_ms, self._recent = tenant, received_at_ms, recent
        self.events: list[events.ClientEvent] = []
        self.letters: list[tuple[int, Refused]] = []
        self.accepted: set[str] = set()
        self._results: list[Result] = []
        self._rejected = 0

    def judge(self, split: Split, numbers: range) -> None:
        """Judges these events of the request."""
        now_ms, accepted, results = self.received_at_ms, self.accepted, self._results
        young, old = self._recent.young, self._recent.old
        for number in numbers:
            raw = split.raws[number]
            try:
                if isinstance(raw, Refused):
                    raise raw.error
                event = events.from_json(raw, now_ms, repaired)
            except BadRecordError as error:
                letter = raw if isinstance(raw, Refused) else refused(raw, error)
                self._rejected += 1
                self.letters.append((number, letter))
                results.append(rejected(letter, split.path(number)))
                continue
            event_id = event.event_id
            if event_id in accepted or event_id in young or event_id in old:
                results.append(Result(event_id, "duplicate"))
                continue
            accepted.add(event_id)
            self.events.append(event)
            results.append(Result(event_id, "accepted"))

    def answer(self) -> Answer:
        """What the client is told."""
        results, accepted, refused_ = self._results, len(self.accepted), self._rejected
        return Answer(accepted, len(results) - accepted - refused_, refused_, results)


def _count(answer: Answer, tenant: str) -> None:
    metrics.ACCEPTED.labels(tenant, "collector").inc(answer.accepted)
    if answer.duplicate:
        metrics.DUPLICATES_AT_DOOR.labels(tenant, "collector").inc(answer.duplicate)
    for result in answer.results if answer.rejected else ():
        if result.reason:
            metrics.REJECTED.labels(tenant, "collector", result.reason).inc()
            metrics.DEAD_LETTERED.labels("producers", result.reason).inc()
