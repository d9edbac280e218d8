"""Rows of a stream into Kafka: healthy ones as columns, broken ones singly, so that the door says what is wrong."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from producers.batch_door import BatchDoor
from producers.identity import PSEUDONYM_CHARACTERS, Pseudonyms
from producers.location import Precision, coarsened
from producers.simulator.rows import Rows, taken
from producers.simulator.stream import Stream
from schemas.encode import columns
from schemas.ready_batch import ReadyBatch, ready_batches
from schemas.reasons import FUTURE_MAX_MS


class Sending:
    """Sends for one tenant. The pseudonym and the partition of a listener are computed once."""

    def __init__(
        self, stream: Stream, door: BatchDoor, names: Pseudonyms, tenant: str, precision: Precision = "city"
    ) -> None:
        self._stream, self._door = stream, door
        of, listeners = names.of, range(len(stream.crowd.people))
        self._users = pa.array([of(stream.user_id(listener)) for listener in listeners], pa.large_string())
        self._partition = partitions_of(self._users, door.partitions)
        self._tenant, self._source = (pa.array([text], pa.large_string()) for text in (tenant, "simulator"))
        self._cities = [coarsened(city, precision) for city in stream.teller.cities]
        self._told = 0

    def send(self, rows: Rows) -> None:
        """Takes the next rows of the stream, in their order; raises KafkaUnavailableError."""
        now = self._door.now_ms()
        is_healthy = (rows["fault"] == 0) & (rows["at"] <= now + FUTURE_MAX_MS)
        self._send_singly(taken(rows, ~is_healthy), self._told + np.flatnonzero(~is_healthy))
        self._told += len(rows)
        partition = np.where(is_healthy, self._partition[rows["listener"]], -1)
        for place in range(self._door.partitions):
            part = taken(rows, partition == place)
            if not len(part):
                continue
            self._door.take_columns(place, len(part), int(part["at"].max()), partial(self._encoded, part, now))
        self._door.report()

    def columns(self, rows: Rows, now_ms: int) -> pa.RecordBatch:
        """Healthy rows as columns of listening_event.avsc."""
        users = pa.array(np.ascontiguousarray(rows["listener"]))
        alike = pa.array(np.zeros(len(rows), np.int32))
        return self._stream.teller.batch(
            rows,
            self._cities,
            user_id=pa.DictionaryArray.from_arrays(users, self._users, safe=False),
            tenant=pa.DictionaryArray.from_arrays(alike, self._tenant),
            source=pa.DictionaryArray.from_arrays(alike, self._source),
            received_at=pa.array(np.full(len(rows), now_ms)),
        )

    def _encoded(self, rows: Rows, now_ms: int) -> list[ReadyBatch]:
        keys = self._users.take(pa.array(np.ascontiguousarray(rows["listener"]))).cast(pa.large_binary())
        return ready_batches(keys, columns(self._door.codec, self.columns(rows, now_ms)))

    def _send_singly(self, rows: Rows, numbers: npt.NDArray[np.int64]) -> None:
        if len(rows):
            for number, item in zip(numbers.tolist(), self._stream.items(rows), strict=True):
                self._door.take(item, f"{self._stream.plan.run}/{number}")


def partitions_of(keys: pa.LargeStringArray, partitions: int) -> npt.NDArray[np.int32]:
    """The partition of each pseudonym, where every Kafka client puts it: murmur2, as the Java client computes it."""
    words = np.frombuffer(keys.buffers()[2], "<u4", len(keys) * PSEUDONYM_CHARACTERS // 4).reshape(len(keys), -1)
    m = np.uint32(0x5BD1E995)
    h = np.full(len(keys), 0x9747B28C ^ PSEUDONYM_CHARACTERS, np.uint32)
    for word in words.T:
        k = word * m
        k ^= k >> np.uint32(24)
        h = (h * m) ^ (k * m)
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return ((h & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)
