"""Listens through the door as columns: users become pseudonyms, and every event goes where its key belongs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.partitioner import murmur2

from producers.batch_door import BatchDoor
from producers.identity import pseudonyms
from producers.importers.columns import TEXT, events_of
from producers.importers.listens import Listen
from schemas.encode import columns
from schemas.ready_batch import ReadyBatch, ready_batches


class Sending:
    """Sends for the tenant of a door."""

    def __init__(self, door: BatchDoor) -> None:
        self._door, self._names = door, pseudonyms(door.settings, door.settings.tenant)

    def send(self, listens: Sequence[Listen]) -> None:
        """Takes listens that have passed the rules, in their order; raises KafkaUnavailableError."""
        door = self._door
        keys, partition, rows = self.records(listens)
        for place in np.unique(partition).tolist():
            here = pa.array(partition == place)
            part = rows.filter(here)
            latest_ms = pc.max(part["timestamp"]).as_py()
            door.take_columns(place, len(part), latest_ms, partial(self._encoded, keys.filter(here), part))

    def records(self, listens: Sequence[Listen]) -> tuple[pa.LargeStringArray, np.ndarray, pa.RecordBatch]:
        """(key, partition, columns of listening_event.avsc) of all events, as `Door.encode` gives them."""
        door, rows = self._door, events_of(listens)
        named = rows["user_id"].dictionary_encode()
        users = [self._names.of(user) for user in named.dictionary.to_pylist()]
        private = pc.fill_null(rows["incognito"], False)
        codes = pc.if_else(private, None, named.indices)
        alike = pa.array(np.zeros(len(rows), np.int32))
        more = {
            "user_id": pa.DictionaryArray.from_arrays(codes, pa.array(users, TEXT)),
            "tenant": pa.DictionaryArray.from_arrays(alike, pa.array([door.settings.tenant], TEXT)),
            "source": pa.DictionaryArray.from_arrays(alike, pa.array([door.source], TEXT)),
            "received_at": pa.array(np.full(len(rows), door.now_ms())),
        }
        partition = np.array([self._partition(user) for user in users])[named.indices]
        alone = np.flatnonzero(private)
        partition[alone] = [self._partition(event_id) for event_id in rows["event_id"].take(alone).to_pylist()]
        keys = pc.if_else(private, rows["event_id"], pa.array(users, TEXT).take(named.indices))
        columns = {name: rows[name] for name in rows.schema.names}
        return keys, partition, pa.record_batch({**columns, **more})

    def _partition(self, key: str) -> int:
        """Where every Kafka client puts a key."""
        return int((murmur2(key.encode()) & 0x7FFFFFFF) % self._door.partitions)

    def _encoded(self, keys: pa.LargeStringArray, rows: pa.RecordBatch) -> list[ReadyBatch]:
        return ready_batches(keys.cast(pa.large_binary()), columns(self._door.codec, rows))
