"""A door that also takes whole batches of events that keep the rules by construction, many times as quick."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError as AIOKafkaError

from producers.door import STOP_TIMEOUT_S, Door
from schemas import kafka, topics
from schemas.ready_batch import ReadyBatch, batch_producer

EVENTS_IN_FLIGHT_MAX = 400_000
"""Events that are encoded or not acknowledged: about 120 MB."""

_ENCODERS = 2
_WAIT_S = 0.01

Encode = Callable[[], list[ReadyBatch]]


class BatchDoor(Door):
    """Delivery and order are those of `Door`: within a partition, batches arrive in the order in which they were taken.

    Between batches and what `take` takes singly there is no order. Batches are encoded in threads beside the caller.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it tells of a lost broker, `report` raises
        self.codec = self._events
        self.partitions = len(kafka.partitions_of(self.producer, topics.EVENTS))
        self._pool = ThreadPoolExecutor(_ENCODERS, "encode")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="batches")
        self._thread.start()
        self._lines: list[asyncio.Queue[tuple[int, Future[list[ReadyBatch]]]]] = []
        self._sender: Any = None
        self._counts = threading.Condition()
        self._waiting, self._moved_s, self._lost = 0, time.monotonic(), ""

    def take_batches(self, partition: int, events: int, latest_ms: int, encode: Encode) -> None:
        """Sends what `encode` gives, `events` events until `latest_ms`, to a partition.

        Returns at once; waits, at most `delivery_timeout_s` without any acknowledgement, while too much is in flight.
        Raises KafkaUnavailableError.
        """
        if self._sender is None:
            self._await(self._open())
        with self._counts:
            while self._waiting > EVENTS_IN_FLIGHT_MAX:
                self._counts.wait(_WAIT_S)
                self._raise_if_failed()
                if self._interrupted():
                    raise self._unavailable(f"{self._waiting} events wait to be acknowledged")
            if not self._waiting:
                self._moved_s = time.monotonic()
            self._waiting += events
        line, item = self._lines[partition], (events, self._pool.submit(encode))
        self._loop.call_soon_threadsafe(line.put_nowait, item)
        self.tally.events += events
        self.tally.latest_ms = max(self.tally.latest_ms, latest_ms)

    def in_flight(self) -> int:
        """As in `Door`."""
        return super().in_flight() + self._waiting

    def flush(self) -> None:
        """As in `Door`."""
        start = time.monotonic()
        with self._counts:
            while self._waiting:
                self._counts.wait(_WAIT_S)
                self._raise_if_failed()
                if self._interrupted() and time.monotonic() - start > STOP_TIMEOUT_S:
                    raise self._unavailable(f"{self._waiting} events were not acknowledged in time")
        super().flush()

    def close(self) -> None:
        """Lets go of the broker; what was not acknowledged may be in Kafka or not."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(2 * STOP_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    def _raise_if_failed(self) -> None:
        super()._raise_if_failed()
        if self._lost:
            raise self._unavailable(self._lost)
        if self._waiting and time.monotonic() - self._moved_s > self._timeout_s:
            raise self._unavailable(f"{self._waiting} events were not acknowledged within {self._timeout_s:.0f} s")

    def _await(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except AIOKafkaError as error:
            raise self._unavailable(f"{type(error).__name__}: {error}") from None

    async def _open(self) -> None:
        sender = batch_producer(self.settings.kafka_bootstrap_servers)
        await sender.start()
        self._sender = sender
        self._lines = [asyncio.Queue() for _ in range(self.partitions)]
        self._senders = [self._loop.create_task(self._send_line(place)) for place in range(self.partitions)]

    async def _shut(self) -> None:
        if self._sender is not None:
            with contextlib.suppress(TimeoutError, AIOKafkaError):
                await asyncio.wait_for(self._sender.stop(), STOP_TIMEOUT_S)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_line(self, partition: int) -> None:
        """Sends what stands in line for a partition, one after the other."""
        while not self._lost:
            events, encoding = await self._lines[partition].get()
            try:
                batches = await asyncio.wrap_future(encoding)
                for batch in batches:
                    sent = await self._sender.send_batch(batch, topics.EVENTS, partition=partition)
                    sent.add_done_callback(partial(self._sent, batch.record_count()))
            except Exception as error:  # whatever it is, the caller is told and nothing more is sent
                with self._counts:
                    self._lost = f"{type(error).__name__}: {error} ({events} events)"

    def _sent(self, events: int, future: asyncio.Future[Any]) -> None:
        with self._counts:
            if future.cancelled() or future.exception() is not None:
                self._lost = "cancelled" if future.cancelled() else repr(future.exception())
            else:
                self._waiting -= events
                self._moved_s = time.monotonic()
            self._counts.notify_all()
