"""The Java engines read events by hand: what they rely on in the schema."""

from __future__ import annotations

from schemas.codec import schema


def test_the_java_reader_knows_the_fields_that_it_passes_over() -> None:
    """A field that comes, goes or becomes nullable before ms_played must be told to bench/java/src/bench/Event.java."""
    fields = [(field["name"], isinstance(field["type"], list)) for field in schema("listening_event")["fields"]]
    plain = ("event_id", "event_type", "track_id", "timestamp", "platform")
    nullable = ("user_id", "location", "session_id", "device", "country", "position_ms", "ms_played")
    order = ("event_id", "event_type", "user_id", "track_id", "timestamp", "platform", *nullable[1:])
    assert [name for name, _ in fields[: len(order)]] == list(order)
    assert {name for name, is_nullable in fields[: len(order)] if is_nullable} == set(nullable)
    assert {name for name, is_nullable in fields[: len(order)] if not is_nullable} == set(plain)
