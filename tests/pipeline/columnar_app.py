"""The worker's Faust app with an agent of the test's, run in the test's own process: what it receives, and when."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from confluent_kafka.admin import NewTopic
from faust.types import TP

from schemas import kafka
from schemas.settings import Settings
from stream_processors import app as worker_app
from stream_processors.transport import BatchSchema, EventBatch


def new_topic(settings: Settings, partitions: int = 1, **configs: str) -> str:
    """A topic of the test's own."""
    name, client = f"test-{uuid.uuid4().hex[:12]}", kafka.admin(settings)
    for future in client.create_topics([NewTopic(name, partitions, 1, config=configs)]).values():
        future.result(30)
    return name


def send(settings: Settings, topic: str, values: list[bytes], partition: int = 0, **config: Any) -> None:
    """Writes records and waits for the broker."""
    producer = kafka.producer(settings, **config)
    for value in values:
        producer.produce(topic, value, b"k", partition)
    assert producer.flush(30) == 0


class ColumnarApp:
    """The app, the batches that its agent got, and where it resumes (`resume_at`: offset by partition)."""

    def __init__(self, settings: Settings, topic: str, group: str = "") -> None:
        self.topic = topic
        self.batches: list[EventBatch] = []
        self.resume_at: dict[int, int] = {}
        self.on_batch: Callable[[EventBatch], Awaitable[None]] | None = None
        self.on_resume: Callable[[TP], Awaitable[None]] | None = None
        group = group or f"test-{uuid.uuid4().hex[:12]}"
        self.app: Any = worker_app.faust_app(settings, group, 1, settings.data_dir / group)
        self.app.resume_at = self._resume_at
        channel = self.app.topic(topic, schema=BatchSchema(), partitions=None)

        async def agent(stream: Any) -> None:
            async for batch in stream:
                self.batches.append(batch)
                if self.on_batch is not None:
                    await self.on_batch(batch)

        self.app.agent(channel, name=f"agent-{topic}")(agent)

    async def _resume_at(self, tp: TP, earliest: int) -> int:
        if self.on_resume is not None:
            await self.on_resume(tp)
        return max(self.resume_at.get(tp.partition, 0), earliest)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ColumnarApp]:
        """Runs until the block ends."""
        self.app.finalize()
        await self.app.start()
        try:
            yield self
        finally:
            await asyncio.wait_for(self.app.stop(), 30)

    @property
    def covered(self) -> list[tuple[int, int]]:
        """First offset and the one after the last of each batch."""
        return [(batch.start, batch.next) for batch in self.batches]

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        """Waits for a condition."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)
                assert not self.app.crashed, f"the app crashed before {what}: {self.app.crash_reason!r}"
