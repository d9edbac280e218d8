"""Writes events as Avro at speed: each field has a table from value to bytes, filled as values are met."""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem, itemgetter
from typing import Any

import msgspec

from producers.event import FIELDS, ClientEvent
from producers.location import Precision, coarsened
from schemas.codec import Codec

TABLE_MAX = 16_384
"""Values that a table remembers before it starts anew: most fields repeat a few values, ids pass through."""

_UNIQUE = ("event_id", "timestamp", "sent_at", "device_timestamp")

Encode = Callable[[Any], bytes]


class EventEncoder:
    """Events of one tenant and source as records of listening_event.avsc; the result is what `Codec.encode` writes.

    Users become their pseudonyms, and locations as coarse as `location_precision` says.
    Three times as quick as fastavro, which stays the reference (tests/producers/test_event_encoder.py).
    """

    def __init__(
        self,
        codec: Codec,
        tenant: str,
        source: str,
        pseudonym: Callable[[str], str],
        location_precision: Precision = "city",
    ) -> None:
        types = {field["name"]: field["type"] for field in codec.fields}
        names = list(types)
        told, added = names[: len(FIELDS)], names[len(FIELDS) :]
        if sorted(told) != sorted(FIELDS) or added != ["tenant", "source", "received_at"]:
            raise ValueError("listening_event.avsc is what clients tell, then tenant, source and received_at")
        self._in_order = itemgetter(*(FIELDS.index(name) for name in told))
        encodes: dict[str, Encode] = {name: _encode_of(types[name]) for name in names}
        self._keys = Table(lambda user_id: pseudonym(user_id).encode())
        encodes["user_id"] = lambda user_id: b"\x00" if user_id is None else b"\x02" + _bytes(self._keys[user_id])
        location = encodes["location"]
        encodes["location"] = lambda told: location(told and coarsened(told, location_precision))
        self._tables = [Unique(encodes[name]) if name in _UNIQUE else Table(encodes[name]) for name in told]
        self._prefix = codec.prefixes[0].data
        self._origin = encodes["tenant"](tenant) + encodes["source"](source)
        self._received_at = Table(lambda ms: self._origin + _long(ms))

    def encode(self, event: ClientEvent, received_at_ms: int) -> tuple[bytes, bytes]:
        """(Kafka key, value) of an event that has passed the rules.

        The key is the pseudonym, so that a listener's events keep their order; without a user it is the event_id, so
        that a repetition meets its first.
        """
        fields = self._in_order(msgspec.structs.astuple(event))
        body = b"".join(map(getitem, self._tables, fields))
        key = event.event_id.encode() if event.user_id is None else self._keys[event.user_id]
        return key, self._prefix + body + self._received_at[received_at_ms]


class Table(dict[Any, bytes]):
    """What each value met lately is as bytes; bounded."""

    def __init__(self, encode: Encode) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, value: Any) -> bytes:
        encoded = self._encode(value)
        if len(self) >= TABLE_MAX:
            self.clear()
        self[value] = encoded
        return encoded


class Unique:
    """The same face for values that do not come again."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode

    def __getitem__(self, value: Any) -> bytes:
        return self._encode(value)


def _encode_of(avro_type: Any) -> Encode:
    if isinstance(avro_type, list):
        null, other = avro_type
        if null != "null":
            raise TypeError(f"no encoding for {avro_type}")
        inner = _encode_of(other)
        return lambda value: b"\x00" if value is None else b"\x02" + inner(value)
    kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
    match kind:
        case "string":
            return _text
        case "int" | "long":
            return _long
        case "boolean":
            return lambda value: b"\x01" if value else b"\x00"
        case "enum":
            return {symbol: _long(i) for i, symbol in enumerate(avro_type["symbols"])}.__getitem__
        case _:
            raise TypeError(f"no encoding for {avro_type}")


def _text(value: str) -> bytes:
    return _bytes(value.encode())


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


def _long(number: int) -> bytes:
    """Zigzag and variable length, two groups of seven bits at a time."""
    rest = (number << 1) ^ (number >> 63)
    out = b""
    while rest > 0x3FFF:
        out += _MORE[rest & 0x3FFF]
        rest >>= 14
    return out + _LAST[rest]


_MORE = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]
_LAST = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << 14)]
