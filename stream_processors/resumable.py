"""The loop of an agent whose state and input offset live in one snapshot: effectively once, whatever dies.

Order: process a batch, emit, take a snapshot, wait for the broker to have what was emitted, write the snapshot; the
waiting and the writing go on beside the next batches. After a crash the input is read again from the snapshot's offset,
and the same records are emitted again under the same keys.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

import structlog
from faust.types import TP

from schemas import metrics
from stream_processors.outbox import Outbox
from stream_processors.segment import Segment
from stream_processors.snapshots import Snapshot, Snapshots
from stream_processors.transport import EventBatch

log = structlog.get_logger()


class State(Protocol):
    """State of one input partition. `next` is the first offset not in it, None when it has seen nothing."""

    next: int | None

    def header(self) -> dict[str, int]:
        """The small part."""

    def segments(self) -> dict[str, Segment]:
        """The large parts."""


LANES = 4
"""So many partitions are worked on at a time: while one waits for the broker, others go on, in a thread for each core.
Columns and kernels leave Python's lock alone."""

S = TypeVar("S", bound=State)
T = TypeVar("T")
S_contra = TypeVar("S_contra", bound=State, contravariant=True)
Load = Callable[[Mapping[str, int], Mapping[str, bytes]], S]


class Agent(Protocol[S_contra]):
    """What is done with the state of a partition."""

    def read(self, batch: EventBatch) -> Any:
        """Decodes a batch."""

    def process(self, partition: int, state: S_contra, batch: EventBatch, content: Any) -> None:
        """Changes the state by a batch that was read and emits; must move `state.next` to `batch.next`."""

    def settle(self, partition: int, state: S_contra) -> None:
        """Called about once a snapshot: emits what `process` has put off."""


class Resumable(Generic[S]):
    """Runs `agent` over the batches of `topic`, resumed from `snapshots` on each assignment."""

    def __init__(
        self,
        app: Any,
        topic: str,
        snapshots: Snapshots,
        outbox: Outbox,
        load: Load[S],
        agent: Agent[S],
        every_ms: int,
    ) -> None:
        self.topic = topic
        self.states: dict[int, S] = {}
        self._app, self._snapshots, self._outbox = app, snapshots, outbox
        self._load, self._agent = load, agent
        self._every_s = every_ms / 1000
        self._saved: dict[int, tuple[float, int | None]] = {}
        self._writing: dict[int, asyncio.Task[None]] = {}
        self._sought: dict[int, int] = {}
        self._busy = [asyncio.Lock() for _ in range(LANES)]
        self._queues: list[asyncio.Queue[EventBatch]] = [asyncio.Queue(1) for _ in range(LANES)]
        self._workers = ThreadPoolExecutor(min(LANES, os.cpu_count() or 1), topic)

    def resume_at(self, partition: int, earliest: int) -> int:
        """Loads the partition's state and returns the offset to read on from.

        A state that has seen nothing begins at `earliest`, the first offset that Kafka keeps: a batch that was fetched
        before this assignment may begin later, and must not be taken for the first.
        """
        header, segments = self._snapshots.load(partition)
        state = self.states[partition] = self._load(header, segments)
        if header:
            self._snapshots.adopt(partition, state.segments())
        if state.next is None:
            state.next = earliest
        self._saved[partition] = (time.monotonic(), state.next)
        self._sought.pop(partition, None)
        log.info("partition_resumed", topic=self.topic, partition=partition, next=state.next)
        return max(state.next, earliest)

    def forget(self) -> None:
        """After a rebalance the state comes from the changelog, for every partition alike."""
        self.states.clear()

    async def feed(self, stream: AsyncIterator[EventBatch]) -> None:
        """The agent: hands batches to `work` as they were fetched, for unpacked they take ten times the memory."""
        async for batch in stream:
            await self._queues[batch.partition % LANES].put(batch)

    async def work(self, lane: int) -> None:
        """Takes batch after batch of the partitions of a lane for as long as the worker lives.

        Partitions know nothing of each other: while one waits for the broker, another goes on.
        """
        while True:
            batch = await self._queues[lane].get()
            async with self._busy[lane]:
                state = self.states.get(batch.partition)
                if state is None:
                    continue  # taken away; the next assignment loads it again
                if await self._follows(batch, state):
                    await self._in_thread(self._take, state, batch)
                await self._outbox.push(wait=self._queues[lane].empty())
                await self._save_when_due(batch.partition, state)

    async def _follows(self, batch: EventBatch, state: S) -> bool:
        assert state.next is not None  # since its assignment
        if batch.start > state.next and not await self._go_back(batch, state):
            return False
        return batch.next > state.next

    def _take(self, state: S, batch: EventBatch) -> None:
        self._agent.process(batch.partition, state, batch, self._agent.read(batch))
        metrics.WORKER_NEXT_OFFSET.labels(self.topic, batch.partition).set(batch.next)

    async def save_quiet_partitions(self) -> None:
        """Snapshots partitions whose input paused before the next snapshot was due."""
        for partition, state in list(self.states.items()):
            busy = self._busy[partition % LANES]
            if not busy.locked():
                async with busy:
                    await self._save_when_due(partition, state)

    async def _save_when_due(self, partition: int, state: S) -> None:
        """Takes a snapshot, which is written while the partition goes on: one at a time, and for a period at most."""
        if not self._is_due(partition, state):
            return
        if (writing := self._writing.pop(partition, None)) is not None:
            await writing
            if not self._is_due(partition, state):
                return
        snapshot = await self._in_thread(self._snapshot, partition, state)
        if snapshot is not None and self.states.get(partition) is state:
            self._saved[partition] = (time.monotonic(), state.next)
            self._writing[partition] = asyncio.create_task(self._write(snapshot, state))

    def _is_due(self, partition: int, state: S) -> bool:
        return self.states.get(partition) is state and time.monotonic() - self._saved[partition][0] >= self._every_s

    def _snapshot(self, partition: int, state: S) -> Snapshot | None:
        self._agent.settle(partition, state)
        if state.next == self._saved[partition][1] and not len(self._outbox):
            return None
        return self._snapshots.take(partition, state.header(), state.segments())

    async def _write(self, snapshot: Snapshot, state: S) -> None:
        began, partition = time.monotonic(), snapshot.partition
        await self._outbox.confirm()
        if self.states.get(partition) is state:
            await self._snapshots.write(snapshot)
            self._saved[partition] = (time.monotonic(), snapshot.header["next"])
            metrics.SNAPSHOT_SECONDS.observe(time.monotonic() - began)
            metrics.SNAPSHOT_AT.labels(self.topic, partition).set_to_current_time()

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)

    async def _go_back(self, batch: EventBatch, state: S) -> bool:
        """Seeks back to the state's offset once; what retention has deleted meanwhile is counted and logged."""
        wanted, tp = state.next, TP(batch.topic, batch.partition)
        assert wanted is not None
        if self._sought.get(batch.partition) != wanted:
            self._sought[batch.partition] = wanted
            await self._app.consumer.seek(tp, wanted)
            return False
        earliest: int = (await self._app.consumer.earliest_offsets(tp))[tp]
        if earliest <= wanted:
            return False
        metrics.WORKER_EXPIRED.inc(earliest - wanted)
        log.error("input_expired", topic=batch.topic, partition=batch.partition, lost=earliest - wanted)
        state.next = earliest
        return batch.start <= earliest
