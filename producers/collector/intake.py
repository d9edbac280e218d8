"""Takes the events of one request through the door and waits until Kafka has acknowledged every one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message

from producers.collector.body import Raw
from producers.collector.problems import ProblemError
from producers.door import Door, Refused
from schemas import metrics, topics
from schemas.kafka import KafkaUnavailableError
from schemas.settings import Settings

ACKNOWLEDGE_TIMEOUT_S = 1.8
"""After so long without Kafka a request is answered 503."""

REMEMBERED = 100_000
"""Acknowledged event_ids that are known as duplicates."""

_SLICE = 500  # events between two turns of the event loop


class Result(msgspec.Struct):
    """What became of one event. `reason` and `detail` are null unless it is rejected."""

    event_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None
    detail: str | None = None


class Answer(msgspec.Struct):
    """What became of a request's events, in their order."""

    accepted: int
    duplicate: int
    rejected: int
    results: list[Result]


class Recent:
    """A bounded set that forgets what it learned first."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._capacity, self._seen = capacity, dict[tuple[str, str], None]()

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._seen

    def add(self, key: tuple[str, str]) -> None:
        """Learns one; may forget another."""
        self._seen[key] = None
        if len(self._seen) > self._capacity:
            del self._seen[next(iter(self._seen))]


class Intake:
    """The collector's door.

    Delivery guarantee: an answer says `accepted` only after all in-sync replicas have it. When the answer is a 503,
    some events of the request may be in Kafka all the same: the client sends the request again, with the same
    event_ids, and each event counts once. Memory is bounded by `collector_in_flight_max`.
    """

    def __init__(self, settings: Settings, on_fatal: Callable[[str], None]) -> None:
        self._max, self._on_fatal = settings.collector_in_flight_max, on_fatal
        reports: dict[str, Any] = {"delivery.report.only.error": False, "error_cb": self._noticed}
        self._door = Door(
            settings,
            "collector",
            delivery_timeout_s=ACKNOWLEDGE_TIMEOUT_S - 0.3,
            in_flight_max=1_000_000,
            interrupted=lambda: True,  # a request is refused rather than kept waiting
            **{"linger.ms": 2, **reports},
        )
        self._recent = Recent()
        self._sent = self._settled = 0  # each is written by one thread only
        self.answers = True
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._poller.start()

    @property
    def in_flight(self) -> int:
        """Records given to Kafka and not yet acknowledged."""
        return self._sent - self._settled

    async def take(self, raws: list[Raw], tenant: str, request_id: str) -> Answer:
        """Judges and sends the events of a request. Raises ProblemError 429 or 503."""
        if self.in_flight and self.in_flight + len(raws) > self._max:
            if not self.answers:
                raise _away("it does not answer at the moment")
            raise ProblemError(429, f"{self.in_flight} events wait for Kafka: send again later.", Retry_After="1")
        results: list[Result] = []
        told: set[tuple[str, str]] = set()
        batch = _Batch(self)
        for number, raw in enumerate(raws):
            results.append(self._one(raw, tenant, f"{request_id}/{number}", told, batch))
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        await batch.acknowledged()
        for key in told:
            self._recent.add(key)
        return self._answer(results, tenant)

    def reachable(self) -> bool:
        """Asks Kafka for the topic; blocks for at most a second."""
        try:
            found = self._door.producer.list_topics(topics.EVENTS, timeout=1)
        except KafkaException:
            return False
        return found.topics[topics.EVENTS].error is None

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._poller.join(1)

    def _one(self, raw: Raw, tenant: str, place: str, told: set[tuple[str, str]], batch: _Batch) -> Result:
        outcome = raw if isinstance(raw, Refused) else self._door.judge(raw)
        try:
            if isinstance(outcome, Refused):
                self._door.send_dead_letter(outcome, place, tenant, batch.settle)
                batch.count()
                return Result(outcome.event_id, "rejected", outcome.error.reason.value, outcome.error.detail)
            key = (tenant, outcome.event_id)
            if key in self._recent or key in told:
                return Result(outcome.event_id, "duplicate")
            self._door.send(outcome, tenant, batch.settle)
        except (KafkaUnavailableError, KafkaException) as error:
            raise _away(str(error)) from None
        batch.count()
        told.add(key)
        return Result(outcome.event_id, "accepted")

    def _answer(self, results: list[Result], tenant: str) -> Answer:
        count = Counter(result.status for result in results)
        metrics.ACCEPTED.labels(tenant, "collector").inc(count["accepted"])
        metrics.DUPLICATES_AT_DOOR.labels(tenant, "collector").inc(count["duplicate"])
        for result in results:
            if result.reason:
                metrics.REJECTED.labels(tenant, "collector", result.reason).inc()
                metrics.DEAD_LETTERED.labels("producers", result.reason).inc()
        return Answer(count["accepted"], count["duplicate"], count["rejected"], results)

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._door.producer.poll(0.05)
            metrics.IN_FLIGHT.labels("collector").set(self.in_flight)

    def sent(self) -> None:
        """Counts one record given to Kafka."""
        self._sent += 1

    def settled(self, error: KafkaError | None) -> None:
        """Counts one delivery report; a fatal one ends the process, which starts with a new producer."""
        self._settled += 1
        self.answers = error is None

    def _noticed(self, error: KafkaError) -> None:
        """What the client library tells of its own; after a fatal error only a new producer helps."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._on_fatal(error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.answers = False


class _Batch:
    """The records of one request on their way."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self._settled, self._error = intake, 0, ""
        self._sent, self._changed = 0, asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def count(self) -> None:
        """One more record is on its way."""
        self._sent += 1
        self._intake.sent()

    def settle(self, error: KafkaError | None, _: Message) -> None:
        """A delivery report, told by the polling thread."""
        self._settled += 1
        self._intake.settled(error)
        if error is not None:
            self._error = self._error or error.str()
        if self._settled >= self._sent:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def acknowledged(self) -> None:
        """Returns once Kafka has acknowledged all; raises ProblemError 503."""
        try:
            async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT_S):
                while self._settled < self._sent:
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            raise _away(f"no answer within {ACKNOWLEDGE_TIMEOUT_S} s") from None
        if self._error:
            raise _away(self._error)


def _away(why: str) -> ProblemError:
    return ProblemError(503, f"Kafka did not take everything ({why}): send the same request again.", Retry_After="2")


def encode(answer: Answer) -> bytes:
    """The answer as JSON."""
    return msgspec.json.encode(answer)
