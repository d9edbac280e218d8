"""Rows of a stream into Kafka: healthy ones as columns, broken ones singly, so that the door says what is wrong."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from producers.batch_door import BatchDoor
from producers.identity import Pseudonyms
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
        self._ids = stream.teller.event_ids
        self._told = 0

    def send(self, rows: Rows) -> None:
        """Takes the next rows of the stream, in their order; raises KafkaUnavailableError."""
        now = self._door.now_ms()
        is_healthy = (rows["fault"] == 0) & (rows["at"] <= now + FUTURE_MAX_MS)
        self._send_singly(taken(rows, ~is_healthy), self._told + np.flatnonzero(~is_healthy))
        self._told += len(rows)
        partition = np.where(is_healthy, self._partition[rows["listener"]], -1)
        private = np.flatnonzero(is_healthy & rows["private"])
        partition[private] = partitions_of(self._ids(taken(rows, private)), self._door.partitions)
        for place in range(self._door.partitions):
            part = taken(rows, partition == place)
            if not len(part):
                continue
            self._door.take_columns(place, len(part), int(part["at"].max()), partial(self._encoded, part, now))
        self._door.report()

    def columns(self, rows: Rows, now_ms: int) -> pa.RecordBatch:
        """Healthy rows as columns of listening_event.avsc."""
        users = pa.array(np.ascontiguousarray(rows["listener"]), mask=rows["private"])
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
        keys = self._users.take(pa.array(np.ascontiguousarray(rows["listener"])))
        if rows["private"].any():
            keys = pc.if_else(pa.array(rows["private"]), self._ids(rows), keys)
        return ready_batches(keys.cast(pa.large_binary()), columns(self._door.codec, self.columns(rows, now_ms)))

    def _send_singly(self, rows: Rows, numbers: npt.NDArray[np.int64]) -> None:
        if len(rows):
            for number, item in zip(numbers.tolist(), self._stream.items(rows), strict=True):
                self._door.take(item, f"{self._stream.plan.run}/{number}")


def partitions_of(keys: pa.LargeStringArray, partitions: int) -> npt.NDArray[np.int32]:
    """The partition of each key, where every Kafka client puts it: murmur2, as the Java client computes it.

    The keys are ASCII and of one length, as pseudonyms are, and event_ids of one run.
    """
    if not len(keys):
        return np.zeros(0, np.int32)
    width = len(keys[0].as_py())
    characters = np.frombuffer(keys.buffers()[2], np.uint8, len(keys) * width).reshape(len(keys), width)
    m = np.uint32(0x5BD1E995)
    h = np.full(len(keys), 0x9747B28C ^ width, np.uint32)
    for at in range(0, width - 3, 4):
        k = np.ascontiguousarray(characters[:, at : at + 4]).view("<u4")[:, 0] * m
        k ^= k >> np.uint32(24)
        h = (h * m) ^ (k * m)
    if rest := width % 4:
        for place in range(rest):
            h ^= characters[:, width - rest + place].astype(np.uint32) << np.uint32(8 * place)
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return ((h & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)
