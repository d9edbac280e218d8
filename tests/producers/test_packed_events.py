"""Packed events are written as the encoder of every other way in writes them, in the partition of their key."""

from __future__ import annotations

from typing import Any

from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.encoder import EventEncoder
from producers.event import ClientEvent
from producers.location import coarsened
from producers.packed_events import PackedEncoder, pack
from schemas.codec import Codec
from schemas.ready_batch import ReadyBatch

from .test_event_encoder import CODEC, EVENTS


def records_of(batch: ReadyBatch) -> list[tuple[Any, Any]]:
    """(key, value) of all records, checksum and offsets verified."""
    records = MemoryRecords(batch._build())
    read = records.next_batch()
    assert read is not None
    assert read.validate_crc()
    found = list(read)
    assert [record.offset for record in found] == list(range(batch.record_count()))
    assert not records.has_next()
    return [(record.key, record.value) for record in found]


def name_of(user_id: str) -> str:
    return f"pseudonym of {user_id}"


@given(st.lists(EVENTS, min_size=1, max_size=5), st.integers(0, 2**62))
@settings(deadline=None)
def test_packed_events_are_what_the_encoder_writes(told: list[ClientEvent], received_at: int) -> None:
    """For any events: keys and values of the batch are byte for byte those of `EventEncoder`."""
    encoder = EventEncoder(CODEC, "ten", "replay", name_of, "told")
    packed = bytearray()
    for event in told:
        place = event.location and coarsened(event.location, "told")
        pack(event, None if event.user_id is None else name_of(event.user_id), place, packed)
    batch = PackedEncoder(CODEC, "ten", "replay").batch(packed, len(told), received_at)
    assert records_of(batch) == [encoder.encode(event, received_at) for event in told]


def test_a_registry_id_is_written_in_confluent_format() -> None:
    """With a schema registry every value begins with a zero byte and the id."""
    packed = bytearray()
    pack(ClientEvent("e", "play", "t", "p", "u", timestamp=5), "name", None, packed)
    batch = PackedEncoder(Codec("listening_event", 7), "ten", "replay").batch(packed, 1, 1)
    ((key, value),) = records_of(batch)
    assert key == b"name"
    assert value.startswith(b"\x00\x00\x00\x00\x07")
