"""A batch door for events that come one by one: they are packed, and encoded many at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from aiokafka.partitioner import murmur2

from producers.batch_door import BatchDoor
from producers.door import Delivered
from producers.event import ClientEvent
from producers.identity import pseudonyms
from producers.location import coarsened
from producers.packed_events import PackedEncoder, pack
from schemas.ready_batch import ReadyBatch
from schemas.record_batch import BATCH_BYTES

_REMEMBERED = 65_536


@dataclass
class _Held:
    """Events of one partition that are not on their way yet."""

    packed: bytearray = field(default_factory=bytearray)
    events: int = 0
    latest_ms: int = 0


class _Tenant:
    """What a tenant's events become, and those that are held, by partition."""

    def __init__(self, door: PackedDoor, tenant: str) -> None:
        of, precision = pseudonyms(door.settings, tenant).of, door.settings.location_precision

        def user(user_id: str) -> tuple[str, int]:
            return (name := of(user_id)), partition_of(name, door.partitions)

        self.user: Callable[[str], tuple[str, int]] = lru_cache(_REMEMBERED)(user)
        self.place = lru_cache(_REMEMBERED)(lambda location: coarsened(location, precision))
        self.encoder = PackedEncoder(door.codec, tenant, door.source)
        self.held = [_Held() for _ in range(door.partitions)]


class PackedDoor(BatchDoor):
    """Delivery and order are those of `Door`.

    What is sent is held until it fills a batch (1 MiB a partition), or until the next `report` or `flush`; it counts in
    the tally from then on.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tenants: dict[str, _Tenant] = {}

    def send(self, event: ClientEvent, tenant: str = "", on_delivery: Delivered | None = None) -> None:
        """As in `Door`; an event whose delivery is to be told goes singly."""
        if on_delivery is not None:
            super().send(event, tenant, on_delivery)
            return
        told = self._tenants.get(tenant) or self._tenant(tenant)
        if event.user_id is None:
            name, partition = None, partition_of(event.event_id, self.partitions)
        else:
            name, partition = told.user(event.user_id)
        held = told.held[partition]
        pack(event, name, event.location and told.place(event.location), held.packed)
        held.events += 1
        held.latest_ms = max(held.latest_ms, event.timestamp)  # type: ignore[assignment]  # a number, by the rules
        if len(held.packed) >= BATCH_BYTES:
            self._send_held(told, partition)

    def report(self) -> None:
        """As in `Door`; sends what is held."""
        for told in self._tenants.values():
            for partition, held in enumerate(told.held):
                if held.events:
                    self._send_held(told, partition)
        super().report()

    def flush(self) -> None:
        """As in `Door`."""
        self.report()
        super().flush()

    def _tenant(self, tenant: str) -> _Tenant:
        told = self._tenants[tenant] = _Tenant(self, tenant or self.settings.tenant)
        return told

    def _send_held(self, told: _Tenant, partition: int) -> None:
        held, told.held[partition] = told.held[partition], _Held()
        encode = partial(_encoded, told.encoder, held, self.now_ms())
        self.take_columns(partition, held.events, held.latest_ms, encode)


def partition_of(key: str, partitions: int) -> int:
    """Where every Kafka client puts a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


def _encoded(encoder: PackedEncoder, held: _Held, received_at_ms: int) -> list[ReadyBatch]:
    return [encoder.batch(held.packed, held.events, received_at_ms)]
