"""Finished record batches as aiokafka's producer takes them: the worker's results and the simulator's events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaProducer

from schemas.packing import Column
from schemas.record_batch import record_batches, stamped
from schemas.topics import MESSAGE_MAX_BYTES


class ReadyBatch:
    """A finished record batch with the face of aiokafka's BatchBuilder."""

    def __init__(self, data: bytes, records: int) -> None:
        self._data, self._records = data, records

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._data = stamped(self._data, producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        return self._data

    def append(self, **_record: Any) -> None:
        """A finished batch takes no more."""
        return

    def close(self) -> None:
        """It is closed."""

    def closed(self) -> bool:
        """It is closed."""
        return True

    def size(self) -> int:
        """In bytes."""
        return len(self._data)

    def record_count(self) -> int:
        """Records in it."""
        return self._records


def ready_batches(keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray | Sequence[Column]) -> list[ReadyBatch]:
    """All rows in their order, stamped with the time of this call."""
    batches = record_batches(keys, values, time.time_ns() // 1_000_000)
    return [ReadyBatch(data, records) for data, records in batches]


def batch_producer(servers: str) -> Any:
    """An idempotent producer that is not started: it repeats what is not acknowledged for as long as it runs."""
    return AIOKafkaProducer(
        bootstrap_servers=servers,
        enable_idempotence=True,
        acks="all",
        compression_type=None,  # the batches are compressed already, beside the event loop
        linger_ms=5,
        max_request_size=MESSAGE_MAX_BYTES,
    )
