"""A batch door for events that come one by one: they are packed as they come, and encoded many at a time."""

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


@dataclass(slots=True)
class _Held:
    """Events of one tenant and partition that are not on their way yet."""

    encoder: PackedEncoder
    partition: int
    packed: bytearray = field(default_factory=bytearray)
    events: int = 0
    latest_ms: int = 0

    def taken(self) -> _Held:
        """What is held now; nothing is held from then on."""
        taken = _Held(self.encoder, self.partition, self.packed, self.events, self.latest_ms)
        self.packed, self.events, self.latest_ms = bytearray(), 0, 0
        return taken

    def encoded(self, received_at_ms: int) -> list[ReadyBatch]:
        """All of it as one batch."""
        return [self.encoder.batch(self.packed, self.events, received_at_ms)]


class _Tenant:
    """What becomes of users and places of a tenant, and where its events are held, by partition."""

    def __init__(self, door: PackedDoor, tenant: str) -> None:
        of, precision = pseudonyms(door.settings, tenant).of, door.settings.location_precision
        encoder = PackedEncoder(door.codec, tenant, door.source)
        self.held = [_Held(encoder, partition) for partition in range(door.partitions)]

        def user(user_id: str) -> tuple[str, _Held]:
            return (name := of(user_id)), self.holding(name)

        self.user: Callable[[str], tuple[str, _Held]] = lru_cache(_REMEMBERED)(user)
        self.place = lru_cache(_REMEMBERED)(lambda location: coarsened(location, precision))

    def holding(self, key: str) -> _Held:
        """Where every Kafka client puts a key."""
        return self.held[int(murmur2(key.encode()) & 0x7FFFFFFF) % len(self.held)]


class PackedDoor(BatchDoor):
    """Delivery and order are those of `Door`.

    What is sent is held until it fills a batch (1 MiB a partition), or until the next `report` or `flush`, and counted
    then.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tenants: dict[str, _Tenant] = {}

    def send(self, event: ClientEvent, tenant: str = "", on_delivery: Delivered | None = None) -> None:
        """As in `Door`; an event whose own delivery is to be told goes singly."""
        if on_delivery is not None:
            super().send(event, tenant, on_delivery)
            return
        told = self._tenants.get(tenant) or self._tenant(tenant)
        user_id, location, at_ms = event.user_id, event.location, event.timestamp
        name, held = told.user(user_id) if user_id is not None else (None, told.holding(event.event_id))
        pack(event, name, location and told.place(location), held.packed)
        held.events += 1
        if at_ms > held.latest_ms:  # type: ignore[operator]  # noqa: PLR1730 - a number by now, and quicker than max
            held.latest_ms = at_ms  # type: ignore[assignment]
        if len(held.packed) >= BATCH_BYTES:
            self._send_held(held)

    def report(self) -> None:
        """As in `Door`; sends what is held."""
        for told in self._tenants.values():
            for held in told.held:
                if held.events:
                    self._send_held(held)
        super().report()

    def flush(self) -> None:
        """As in `Door`."""
        self.report()
        super().flush()

    def _tenant(self, tenant: str) -> _Tenant:
        name = tenant or self.settings.tenant
        told = self._tenants[tenant] = self._tenants[name] = self._tenants.get(name) or _Tenant(self, name)
        return told

    def _send_held(self, held: _Held) -> None:
        taken = held.taken()
        self.take_batches(taken.partition, taken.events, taken.latest_ms, partial(taken.encoded, self.now_ms()))
