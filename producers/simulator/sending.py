"""Rows of a stream into Kafka: healthy ones as finished batches, broken ones singly for the door to judge."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import numpy.typing as npt

from producers.batch_door import BatchDoor
from producers.identity import Pseudonyms
from producers.location import Precision, coarsened
from producers.simulator.records import PROFILE, Records
from producers.simulator.rows import Rows, taken
from producers.simulator.stream import Stream
from producers.simulator.texts import Bytes
from schemas.ready_batch import ReadyBatch
from schemas.reasons import FUTURE_MAX_MS

_AT_ONCE = 50_000


class Sending:
    """Sends for one tenant. The pseudonym and the partition of a listener are computed once."""

    def __init__(
        self, stream: Stream, door: BatchDoor, names: Pseudonyms, tenant: str, precision: Precision = "city"
    ) -> None:
        self._stream, self._door = stream, door
        plan, people = stream.plan, stream.crowd.people
        profiles = np.zeros(len(people), PROFILE)
        for field in ("city", "device", "country", "version"):
            profiles[field] = people[field]
        for first in range(0, len(people), _AT_ONCE):
            users = [names.of(stream.user_id(i)) for i in range(first, min(first + _AT_ONCE, len(people)))]
            told = np.frombuffer("".join(users).encode(), np.uint8)
            profiles["user"][first : first + len(users)] = told.reshape(len(users), -1)
        self._partition = partitions_of(profiles["user"], door.partitions)
        is_told = plan.scenario.client.location
        cities = [coarsened(city, precision) if is_told else None for city in stream.teller.cities]
        self._records = Records(door.codec, plan.scenario, stream.catalogue, profiles, cities, plan.run, tenant)
        self._told = 0

    def send(self, rows: Rows) -> None:
        """Takes the next rows of the stream, in their order; raises KafkaUnavailableError."""
        now = self._door.now_ms()
        is_healthy = (rows["fault"] == 0) & (rows["at"] <= now + FUTURE_MAX_MS)
        self._send_singly(taken(rows, ~is_healthy), self._told + np.flatnonzero(~is_healthy))
        self._told += len(rows)
        partition = np.where(is_healthy, self._partition[rows["listener"]], -1)
        private = np.flatnonzero(is_healthy & rows["private"])
        ids = self._stream.teller.event_ids(taken(rows, private))
        partition[private] = partitions_of(ids, self._door.partitions)
        for place in range(self._door.partitions):
            part = taken(rows, partition == place)
            if not len(part):
                continue
            self._door.take_batches(place, len(part), int(part["at"].max()), partial(self.batches, part, now))
        self._door.report()

    def batches(self, rows: Rows, received_ms: int) -> list[ReadyBatch]:
        """Healthy rows as finished batches, stamped with the time of this call."""
        found = self._records.batches(rows, received_ms, time.time_ns() // 1_000_000)
        return [ReadyBatch(data, records) for data, records in found]

    def _send_singly(self, rows: Rows, numbers: npt.NDArray[np.int64]) -> None:
        if len(rows):
            for number, item in zip(numbers.tolist(), self._stream.items(rows), strict=True):
                self._door.take(item, f"{self._stream.plan.run}/{number}")


def partitions_of(keys: Bytes, partitions: int) -> npt.NDArray[np.int32]:
    """The partition of each key, where every Kafka client puts it: murmur2, as the Java client computes it.

    The keys are rows of characters, all of one length, as pseudonyms are, and event_ids of one run.
    """
    width = keys.shape[1]
    m = np.uint32(0x5BD1E995)
    h = np.full(len(keys), 0x9747B28C ^ width, np.uint32)
    for at in range(0, width - 3, 4):
        k = np.ascontiguousarray(keys[:, at : at + 4]).view("<u4")[:, 0] * m
        k ^= k >> np.uint32(24)
        h = (h * m) ^ (k * m)
    if rest := width % 4:
        for place in range(rest):
            h ^= keys[:, width - rest + place].astype(np.uint32) << np.uint32(8 * place)
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return ((h & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)
