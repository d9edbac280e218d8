"""Writes events as Avro at speed: each field has a table from value to bytes, filled as values are met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from producers.event import FIELDS, ClientEvent
from producers.location import Precision, coarsened
from schemas.codec import Codec

TABLE_MAX = 16_384
"""Values that a table remembers before it starts anew: most fields repeat a few values, ids pass through."""

USERS_MAX = 131_072
"""Users whose pseudonym is remembered: making one costs as much as the rest of an event; 30 MB at most."""

_PASSING = (
    *("event_id", "user_id", "track_id", "session_id"),
    *("timestamp", "sent_at", "device_timestamp", "position_ms", "ms_played"),
)
"""Fields whose values do not come again soon. What stands between them repeats together, and has one table."""

Encode = Callable[[Any], bytes]


class EventEncoder:
    """Events of one tenant and source as records of listening_event.avsc; the result is what `Codec.encode` writes.

    Users become their pseudonyms, and locations as coarse as `location_precision` says.
    Several times as quick as fastavro, which stays the reference (tests/producers/test_event_encoder.py).
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
        encodes: dict[str, Encode] = {name: _encode_of(types[name]) for name in names}
        location = encodes["location"]
        self._keys = Table(lambda user_id: pseudonym(user_id).encode(), USERS_MAX)
        encodes["user_id"] = lambda user_id: b"\x00" if user_id is None else b"\x02" + _bytes(self._keys[user_id])
        encodes["location"] = lambda told: location(told and coarsened(told, location_precision))
        self._parts = list(_parts(told, encodes))
        self._prefix = codec.prefixes[0].data
        self._origin = encodes["tenant"](tenant) + encodes["source"](source)
        self._received_at = Table(lambda ms: self._origin + _long(ms))

    def encode(self, event: ClientEvent, received_at_ms: int) -> tuple[bytes, bytes]:
        """(Kafka key, value) of an event that has passed the rules.

        The key is the pseudonym, so that a listener's events keep their order; without a user it is the event_id, so
        that a repetition meets its first.
        """
        parts = [encode(taken(event)) for encode, taken in self._parts]
        key = event.event_id.encode() if event.user_id is None else self._keys[event.user_id]
        return key, b"".join((self._prefix, *parts, self._received_at[received_at_ms]))


def _parts(names: Sequence[str], encodes: Mapping[str, Encode]) -> Iterator[tuple[Encode, Callable[[Any], Any]]]:
    """(how to encode it, how to take it from an event) for each field, or run of fields, in their order."""
    for alone, run in groupby(names, lambda name: name if name in _PASSING else ""):
        fields = list(run)
        inner = [encodes[name] for name in fields]
        together = inner[0] if len(inner) == 1 else partial(_run, inner)
        yield together if alone else Table(together).__getitem__, attrgetter(*fields)


def _run(encodes: Sequence[Encode], values: Sequence[Any]) -> bytes:
    return b"".join([encode(value) for encode, value in zip(encodes, values, strict=True)])


class Table(dict[Any, bytes]):
    """What each value met lately is as bytes; bounded."""

    def __init__(self, encode: Encode, most: int = TABLE_MAX) -> None:
        super().__init__()
        self._encode, self._most = encode, most

    def __missing__(self, value: Any) -> bytes:
        encoded = self._encode(value)
        if len(self) >= self._most:
            self.clear()
        self[value] = encoded
        return encoded


def _encode_of(avro_type: Any, branch: bytes = b"") -> Encode:
    """`branch`: what stands before a value that is not null."""
    if isinstance(avro_type, list):
        null, other = avro_type
        if null != "null":
            raise TypeError(f"no encoding for {avro_type}")
        inner = _encode_of(other, b"\x02")
        return lambda value: b"\x00" if value is None else inner(value)
    kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
    match kind:
        case "string":
            return _texts(branch)
        case "int" | "long":
            return _longs(branch)
        case "boolean":
            return {True: branch + b"\x01", False: branch + b"\x00"}.__getitem__
        case "enum":
            return {symbol: branch + _long(i) for i, symbol in enumerate(avro_type["symbols"])}.__getitem__
        case _:
            raise TypeError(f"no encoding for {avro_type}")


def _texts(branch: bytes) -> Encode:
    heads = [branch + _long(size) for size in range(_SHORT)]

    def text(value: str) -> bytes:
        data = value.encode()
        size = len(data)
        return (heads[size] if size < _SHORT else branch + _long(size)) + data

    return text


def _longs(branch: bytes) -> Encode:
    """Times and counts: what stands above their last 14 bits repeats."""
    above = Table(_unsigned)

    def long(number: int) -> bytes:
        zigzag = (number << 1) ^ (number >> 63)
        if zigzag <= _LOW:
            return branch + _LAST[zigzag]
        return branch + _MORE[zigzag & _LOW] + above[zigzag >> _LOW_BITS]

    return long


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


def _long(number: int) -> bytes:
    return _unsigned((number << 1) ^ (number >> 63))


def _unsigned(rest: int) -> bytes:
    """Variable length, two groups of seven bits at a time."""
    out = b""
    while rest > _LOW:
        out += _MORE[rest & _LOW]
        rest >>= _LOW_BITS
    return out + _LAST[rest]


_LOW_BITS, _LOW, _SHORT = 14, 0x3FFF, 512
_MORE = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << _LOW_BITS)]
_LAST = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << _LOW_BITS)]
