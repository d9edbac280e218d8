"""The quick encoder writes what the reference codec writes."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from producers.encoder import TABLE_MAX, EventEncoder, Table
from producers.event import EVENT_TYPES, ClientEvent
from producers.location import coarsened
from schemas.codec import Codec

CODEC = Codec("listening_event")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
MILLIS = st.integers(0, 2**31 - 1)
EVENTS = st.builds(
    ClientEvent,
    TEXT,
    st.sampled_from(EVENT_TYPES),
    *[TEXT] * 2,
    *[st.none() | TEXT] * 12,
    st.integers(0, 2**62),
    *[st.none() | st.integers(0, 2**62)] * 2,
    *[st.none() | MILLIS] * 3,
    *[st.none() | st.booleans()] * 3,
)


@given(EVENTS, st.integers(0, 2**62))
def test_bytes_equal_those_of_fastavro(event: ClientEvent, received_at: int) -> None:
    """For every event: key is the pseudonym or the event_id, value is byte for byte what the codec would write."""
    encoder = EventEncoder(CODEC, "ten", "replay", lambda user: f"pseudonym of {user}", "told")
    key, value = encoder.encode(event, received_at)
    record = msgspec.structs.asdict(event) | {
        "user_id": None if event.user_id is None else f"pseudonym of {event.user_id}",
        "location": event.location and coarsened(event.location, "told"),
        "tenant": "ten",
        "source": "replay",
        "received_at": received_at,
    }
    assert value == CODEC.encode(record)
    assert key == (event.event_id if event.user_id is None else record["user_id"]).encode()


def test_a_registry_id_is_written_in_confluent_format() -> None:
    """With a schema registry the value begins with a zero byte and the id."""
    encoder = EventEncoder(Codec("listening_event", 7), "ten", "replay", str)
    event = ClientEvent("e", "play", "t", "p", "u", timestamp=5)
    assert encoder.encode(event, 1)[1].startswith(b"\x00\x00\x00\x00\x07")


def test_tables_are_bounded() -> None:
    """A field with endless different values does not take endless memory."""
    table = Table(lambda value: str(value).encode())
    assert all(table[n] == str(n).encode() for n in range(TABLE_MAX + 5))
    assert len(table) <= TABLE_MAX
