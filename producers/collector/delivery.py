"""Records on their way to Kafka, who waits for them, and whether Kafka is known to be away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.collector.problems import ProblemError
from schemas import metrics, topics

ACKNOWLEDGE_TIMEOUT_S = 1.8
"""After so long without Kafka a request is answered 503."""

_TICK_S = 0.001  # how late a delivery report may be served
_IDLE_S = 0.05
_PROBE_S = 0.5


class Delivery:
    """Serves the producer's reports. Everything happens on the event loop's thread, so nothing needs a lock.

    Once a report or the client library says that Kafka is away, it counts as away until it answers a question again.
    """

    def __init__(self, on_fatal: Callable[[str], None]) -> None:
        self.in_flight = 0
        self.away = ""
        """Why Kafka is known to be away; empty while it answers."""
        self._on_fatal, self._sent = on_fatal, asyncio.Event()

    def noticed(self, error: KafkaError) -> None:
        """What the client library tells of its own (`error_cb`); after a fatal error only a new producer helps."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._on_fatal(error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.away = error.str()

    async def serve(self, producer: Producer) -> None:
        """Runs until it is cancelled."""
        watch = asyncio.create_task(self._watch(producer))
        try:
            while True:
                producer.poll(0)
                metrics.IN_FLIGHT.labels("collector").set(self.in_flight)
                if self.in_flight:
                    await asyncio.sleep(_TICK_S)
                    continue
                self._sent.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._sent.wait(), _IDLE_S)
        except Exception as error:  # nobody would hear of an acknowledgement any more
            self._on_fatal(repr(error))
            raise
        finally:
            watch.cancel()

    async def _watch(self, producer: Producer) -> None:
        """Asks an absent Kafka whether it is back: no event has to find out."""
        while True:
            await asyncio.sleep(_PROBE_S)
            if self.away:
                with suppress(KafkaException):
                    await asyncio.to_thread(producer.list_topics, topics.EVENTS, 1)
                    self.away = ""

    def require(self) -> None:
        """Raises ProblemError 503 while Kafka is known to be away."""
        if self.away:
            raise away(self.away, "nothing of this request was sent on")

    def handed_over(self, records: int) -> None:
        """So many records more were given to the producer."""
        self.in_flight += records
        self._sent.set()

    def settled(self, records: int, error: str) -> None:
        """So many records were acknowledged; with an error, at least one of them was given up."""
        self.in_flight -= records
        self.away = error


class Batch:
    """The records of one request on their way."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery, self._records, self._waiting, self._error = delivery, 0, 0, ""
        self._done: asyncio.Future[None] | None = None

    def handed_over(self, records: int) -> None:
        """So many records more are on their way."""
        self._records += records
        self._waiting += records
        self._delivery.handed_over(records)

    def settle(self, error: KafkaError | None, _: Message | None) -> None:
        """A delivery report."""
        if error is not None:
            self._error = self._error or error.str()
        self._waiting -= 1
        if not self._waiting:
            self._delivery.settled(self._records, self._error)
            self._records = 0
            if self._done is not None and not self._done.done():
                self._done.set_result(None)

    async def acknowledged(self) -> None:
        """Returns once Kafka has acknowledged all; raises ProblemError 503."""
        if self._waiting:
            self._done = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT_S):
                    await self._done
            except TimeoutError:
                self._error = self._error or f"no answer within {ACKNOWLEDGE_TIMEOUT_S} s"
                self._delivery.away = self._error
        if self._error:
            raise away(self._error, "some of it may have arrived all the same")


def away(why: str, state: str) -> ProblemError:
    """The refusal of a request that Kafka did not take."""
    detail = f"Kafka is away ({why}); {state}: send the same request again, with the same event_ids."
    return ProblemError(503, detail, Retry_After="2")
