"""What the worker emits: records under deterministic keys, confirmed by the broker before the state forgets them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, Message

from schemas.kafka import producer
from schemas.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Producer

_CONFIRM_TIMEOUT_S = 120.0


class EmitError(RuntimeError):
    """The broker did not take what was emitted; the worker stops and replays from its last snapshot."""


class Outbox:
    """Delivery: at least once, in order within a topic partition; with the deterministic keys, effectively once."""

    def __init__(self, settings: Settings) -> None:
        self._producer: Producer = producer(settings, **{"linger.ms": 5})
        self._failed: str | None = None

    def emit(
        self, topic: str, key: bytes, value: bytes | None, *, partition: int = -1, timestamp_ms: int | None = None
    ) -> None:
        """Queues one record; waits for room when the queue is full."""
        extra = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
        while True:
            try:
                self._producer.produce(topic, value, key, partition, on_delivery=self._delivered, **extra)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = f"{message.topic()}: {error.str()}"

    def __len__(self) -> int:
        return len(self._producer)

    async def confirm(self) -> None:
        """Returns once everything emitted so far is acknowledged by all in-sync replicas; raises EmitError."""
        if len(self._producer):
            loop = asyncio.get_running_loop()
            left = await loop.run_in_executor(None, self._producer.flush, _CONFIRM_TIMEOUT_S)
            if left and self._failed is None:
                self._failed = f"{left} records were not acknowledged within {_CONFIRM_TIMEOUT_S:.0f} s"
        else:
            self._producer.poll(0)
        if self._failed is not None:
            raise EmitError(self._failed)
