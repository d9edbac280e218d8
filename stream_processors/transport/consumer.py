"""Faust's consumer for whole record batches: a message per batch, offsets by batch, resumed from the state."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult
from aiokafka.errors import IllegalStateError
from aiokafka.protocol.fetch import FetchRequest
from faust import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from stream_processors.transport import quiet
from stream_processors.transport.records import BatchRecords, EventBatch

ResumeAt = Callable[[TP, int], Awaitable[int]]
"""Loads the state of an input partition and tells where to read on; the number is the earliest offset that is kept."""


_FETCH_MIN_BYTES = 1 << 20
_FETCH_MAX_WAIT_MS = 200


class BatchSchema(Schema):  # type: ignore[misc]  # Faust's classes have no types
    """Hands the batch to the agent as it came; `app.topic(schema=BatchSchema())` makes a topic columnar."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """A batch has no key of its own."""
        return

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """The EventBatch."""
        return message.value


class _Tap:
    """Stands before aiokafka's client and keeps the record bytes of the columnar partitions of a fetch response."""

    def __init__(self, client: Any, is_columnar: Callable[[str], bool]) -> None:
        self._client, self._is_columnar = client, is_columnar
        self.raw: dict[Any, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: Any, request: Any) -> Any:
        response = await self._client.send(node_id, request)
        if isinstance(request, FetchRequest):
            for topic, partitions in response.topics:
                if self._is_columnar(topic):
                    self.raw.update((driver._TopicPartition(topic, part[0]), part[-1]) for part in partitions)
        return response


class ColumnarFetcher(Fetcher):  # type: ignore[misc]
    """aiokafka's Fetcher, with BatchRecords for the columnar topics."""

    @classmethod
    def adopt(cls, fetcher: Any, is_columnar: Callable[[str], bool]) -> None:
        """Turns a living Fetcher into one of this class: aiokafka builds it itself and offers no factory.

        A batch costs some milliseconds however small it is, so the broker is asked to wait for more, but not for long.
        What a direct producer's transaction took back is not read, as in the sink: Faust offers that only together
        with its own exactly-once mode, which does not work.
        """
        fetcher.__class__ = cls
        fetcher._isolation_level = READ_COMMITTED
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = _FETCH_MIN_BYTES, _FETCH_MAX_WAIT_MS
        fetcher._client = _Tap(fetcher._client, is_columnar)

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        wake = await super()._proc_fetch_request(assignment, node_id, request)
        for topic, partitions in request.topics:
            for partition, *_ in partitions:
                tp = driver._TopicPartition(topic, partition)
                raw = self._client.raw.pop(tp, None)
                result = self._records.get(tp)
                if raw is None or type(result) is not FetchResult:
                    continue
                old = result._partition_records
                if type(old) is not BatchRecords:
                    result._partition_records = BatchRecords(
                        tp,
                        raw,
                        old._aborted_transactions,
                        old.next_fetch_offset,
                        None,
                        None,
                        self._check_crcs,
                        self._isolation_level,
                    )
        return wake


class ColumnarConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, which makes one EventBatch of what a partition fetched.

    A rebalance sets partitions to the offsets that the group committed, and fetches from there before `perform_seek`
    has been heard: such batches are ahead of the state, and are dropped. All of this happens in one thread, so a batch
    is either from before the seek or from behind it.
    """

    def __post_init__(self) -> None:
        """Called by Faust when the thread is made."""
        super().__post_init__()
        self._in_place: set[TP] = set()

    async def on_start(self) -> None:
        """Starts the client and puts the columnar fetcher in its place."""
        await super().on_start()
        ColumnarFetcher.adopt(self._consumer._fetcher, self.consumer.is_columnar)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """No partition is where its state wants it, until the next seek."""
        self._in_place.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """The same: the client has just set them to the group's offsets."""
        self._in_place.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._in_place.update(partitions)  # the seeks follow before anything else runs in this thread
        await super()._seek_wait(consumer, partitions)

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> dict[Any, list[Any]]:
        found = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        return {
            tp: [EventBatch(tp.topic, tp.partition, records)] if self.consumer.is_columnar(tp.topic) else records
            for tp, records in found.items()
            if tp in self._in_place or not self.consumer.is_columnar(tp.topic)
        }


class ColumnarConsumer(driver.Consumer):  # type: ignore[misc]
    """Counts offsets by batch: a batch is one message that carries its last offset."""

    def on_init(self) -> None:
        """Called by Faust when the service is made."""
        super().on_init()
        quiet.install()
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)
        self._has_recovered = False
        self.app.on_rebalance_complete.connect(self._recovered)

    async def _recovered(self, *_sender: Any, **_more: Any) -> None:
        self._has_recovered = True

    def is_columnar(self, topic: str) -> bool:
        """Whether an agent has asked for this topic in batches."""
        return any(isinstance(t.schema, BatchSchema) for t in self.app.topics._topics if topic in t.topics)

    def _new_consumer_thread(self) -> ColumnarConsumerThread:
        return ColumnarConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> Any:
        if not isinstance(record, EventBatch):
            return super()._to_message(tp, record)
        last = record.next - 1
        self._delivered[tp].append(last)
        return ConsumerMessage(
            record.topic,
            record.partition,
            last,
            record.parts[0].first_ms / 1000,
            0,
            [],
            None,
            record,
            None,
            0,
            0,
            tp,
            # without it the stream takes the message for one of an older assignment and drops it silently
            generation_id=self.app.consumer_generation_id,
        )

    async def _seek(self, partition: TP, offset: int) -> None:
        # in the consumer's own thread: from the main thread aiokafka dies in fetched_records with a KeyError
        with contextlib.suppress(IllegalStateError):  # taken away just now: the next assignment seeks
            await self._thread.seek_wait({partition: offset})

    async def perform_seek(self) -> None:
        """Resumes columnar partitions where their state says; the group's offsets can be ahead of the state.

        Faust also calls this when a fetch ends within a rebalance. Then there is no state yet: tables are as the last
        assignment left them, and what they say would be taken for the state, or for its absence.
        """
        await super().perform_seek()
        columnar = [tp for tp in self.assignment() if self.is_columnar(tp.topic)]
        if not columnar or not self._has_recovered:
            return
        resume_at: ResumeAt = self.app.resume_at
        earliest = await self.earliest_offsets(*columnar)
        for tp in columnar:
            await self.seek(tp, await resume_at(tp, earliest.get(tp) or 0))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self.is_columnar(tp.topic):
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if not self.is_columnar(tp.topic):
            offset: int | None = super()._new_offset(tp)
            return offset
        acked, order, newest = self._acked_index[tp], self._delivered[tp], None
        while order and order[0] in acked:
            newest = order.popleft()
            acked.discard(newest)
        self._acked[tp] = [offset for offset in self._acked[tp] if offset in acked]
        return None if newest is None else newest + 1

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forgets what was delivered of the partitions that go; states come with the recovery that follows."""
        self._has_recovered = False
        for tp in revoked:
            self._delivered.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """What has been recovered meanwhile was the assignment before."""
        self._has_recovered = False
        await super().on_partitions_assigned(assigned, generation_id)
