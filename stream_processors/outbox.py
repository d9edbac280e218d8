"""What the worker emits: records under deterministic keys, confirmed by the broker before the state forgets them."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import polars as pl
import pyarrow as pa
from aiokafka.errors import KafkaError

from schemas.codec import Codec
from schemas.encode import columns
from schemas.ready_batch import ReadyBatch, batch_producer, ready_batches
from schemas.settings import Settings

_CONFIRM_TIMEOUT_S = 120.0


class EmitError(RuntimeError):
    """The broker did not take what was emitted; the worker stops and replays from its last snapshot."""


class Outbox:
    """Delivery: at least once, in order within a topic partition; with the deterministic keys, effectively once.

    `emit` and `emit_rows` queue; `push` hands what is queued to the client; `confirm` waits for the broker. Rows are
    encoded in a thread of their own, beside the agents.
    """

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_bootstrap_servers
        self._producer: Any = None
        self._queued: deque[tuple[str, int, dict[str, Any] | Future[list[ReadyBatch]]]] = deque()
        self._encoder = ThreadPoolExecutor(1, "encode")
        self._pushing = asyncio.Lock()
        self._sent: set[asyncio.Future[Any]] = set()
        self._failed: str | None = None

    def emit(
        self, topic: str, key: bytes, value: bytes | None, *, partition: int = 0, timestamp_ms: int | None = None
    ) -> None:
        """Queues one record."""
        self._queued.append((topic, partition, {"key": key, "value": value, "timestamp_ms": timestamp_ms}))

    def emit_rows(self, topic: str, codec: Codec, rows: pl.DataFrame, key: str, *, partition: int = 0) -> None:
        """Queues a record per row; the column `key` holds its Kafka key."""
        if rows.is_empty():
            return
        self._queued.append((topic, partition, self._encoder.submit(_encoded, codec, rows, key)))

    def emit_columns(
        self, topic: str, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, *, partition: int = 0
    ) -> None:
        """Queues a record per key and value."""
        self._queued.append((topic, partition, self._encoder.submit(ready_batches, keys, values)))

    def __len__(self) -> int:
        """What is queued or not yet confirmed: 0 means that nothing is on its way."""
        return len(self._queued) + len(self._sent)

    async def push(self, *, wait: bool) -> None:
        """Hands what is queued to the client; with `wait` all of it, otherwise what is encoded. Raises EmitError."""
        if self._pushing.locked() and not wait:
            return  # who holds it pushes ours too, or the next call does
        async with self._pushing:
            try:
                await self._push(wait=wait)
            except KafkaError as error:
                raise EmitError(f"{type(error).__name__}: {error}") from error

    async def _push(self, *, wait: bool) -> None:
        if self._queued and self._producer is None:
            self._producer = await self._start()
        while self._queued:
            topic, partition, what = self._queued[0]
            if isinstance(what, dict):
                self._sends(await self._producer.send(topic, partition=partition, **what))
            elif wait or what.done():
                for batch in await asyncio.wrap_future(what):
                    self._sends(await self._producer.send_batch(batch, topic, partition=partition))
            else:
                return
            self._queued.popleft()

    def _sends(self, future: asyncio.Future[Any]) -> None:
        self._sent.add(future)
        future.add_done_callback(self._delivered)

    async def _start(self) -> Any:
        producer = batch_producer(self._servers)
        await producer.start()
        return producer

    def _delivered(self, future: asyncio.Future[Any]) -> None:
        self._sent.discard(future)
        if future.cancelled() or future.exception() is not None:
            self._failed = "cancelled" if future.cancelled() else repr(future.exception())

    async def confirm(self) -> None:
        """Returns once everything emitted so far is acknowledged by all in-sync replicas; raises EmitError."""
        await self.push(wait=True)
        if self._sent:
            _, left = await asyncio.wait(self._sent, timeout=_CONFIRM_TIMEOUT_S)
            if left and self._failed is None:
                self._failed = f"{len(left)} batches were not acknowledged within {_CONFIRM_TIMEOUT_S:.0f} s"
        if self._failed is not None:
            raise EmitError(self._failed)

    async def close(self) -> None:
        """Lets go of the broker; what was not confirmed is emitted again after the next start."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()


def _encoded(codec: Codec, rows: pl.DataFrame, key: str) -> list[ReadyBatch]:
    return ready_batches(rows[key].cast(pl.Binary).to_arrow(), columns(codec, rows))
