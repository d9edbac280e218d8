"""Writes events as Avro at speed: what repeats is looked up in tables, what does not is put together in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from producers.event import ClientEvent
from producers.location import Precision, coarsened
from schemas.codec import Codec

TABLE_MAX = 16_384
"""Values that a table remembers before it starts anew: most fields repeat a few values, and some repeat together."""

USERS_MAX = 131_072
"""Users whose pseudonym is remembered: making one costs as much as the rest of an event; 30 MB at most."""

FIELDS = (
    *("event_id", "event_type", "user_id", "track_id", "timestamp", "platform", "location", "session_id", "device"),
    *("country", "position_ms", "ms_played", "reason_start", "reason_end", "shuffle", "offline", "incognito"),
    *("app_version", "sent_at", "device_timestamp", "track_name", "artist_name", "album_name", "duration_ms", "isrc"),
    *("tenant", "source", "received_at"),
)


def event_types(codec: Codec) -> list[str]:
    """The types of events as the schema numbers them; raises ValueError when it has other fields than FIELDS."""
    kinds = {field["name"]: field["type"] for field in codec.fields}
    if tuple(kinds) != FIELDS:
        raise ValueError("listening_event.avsc has other fields than its encoders write")
    symbols: list[str] = kinds["event_type"]["symbols"]
    return symbols


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
        self._types = {symbol: long(i) for i, symbol in enumerate(event_types(codec))}
        self._keys = Table(lambda user_id: pseudonym(user_id).encode(), USERS_MAX)
        self._places = Table(lambda told: text(told[0]) + optional(told[1] and coarsened(told[1], location_precision)))
        self._together = Table(lambda told: b"".join(map(optional, told)))
        self._prefix = codec.prefixes[0].data
        self._received = Table(lambda ms: text(tenant) + text(source) + long(ms))

    def encode(self, event: ClientEvent, received_at_ms: int) -> tuple[bytes, bytes]:
        """(Kafka key, value) of an event that has passed the rules.

        The key is the pseudonym, so that a listener's events keep their order; without a user it is the event_id, so
        that a repetition meets its first.
        """
        event_id, track_id, together = event.event_id.encode(), event.track_id.encode(), self._together
        if event.user_id is None:
            key, user = event_id, _NULL
        else:
            key = self._keys[event.user_id]
            user = _PRESENT + _SIZES[len(key)] + key
        how = (event.reason_start, event.reason_end, event.shuffle, event.offline, event.incognito, event.app_version)
        track = (event.track_name, event.artist_name, event.album_name, event.duration_ms, event.isrc)
        value = (
            self._prefix,
            _SIZES[len(event_id)],
            event_id,
            self._types[event.event_type],
            user,
            _SIZES[len(track_id)],
            track_id,
            _time(event.timestamp),
            self._places[event.platform, event.location],
            optional(event.session_id),
            together[event.device, event.country],
            _NULL if event.position_ms is None else _PRESENT + long(event.position_ms),
            _NULL if event.ms_played is None else _PRESENT + long(event.ms_played),
            together[how],
            _NULL if event.sent_at is None else _PRESENT + _time(event.sent_at),
            _NULL if event.device_timestamp is None else _PRESENT + _time(event.device_timestamp),
            together[track],
            self._received[received_at_ms],
        )
        return key, b"".join(value)


class Table(dict[Any, bytes]):
    """What each value met lately is as bytes; bounded."""

    def __init__(self, encode: Callable[[Any], bytes], most: int = TABLE_MAX) -> None:
        super().__init__()
        self._encode, self._most = encode, most

    def __missing__(self, value: Any) -> bytes:
        encoded = self._encode(value)
        if len(self) >= self._most:
            self.clear()
        self[value] = encoded
        return encoded


def optional(value: str | int | None) -> bytes:
    """The second branch of a union with null; a truth value is a number of one byte."""
    if value is None:
        return _NULL
    if type(value) is str:
        data = value.encode()
        return _PRESENT + _size(len(data)) + data
    if type(value) is bool:
        return _PRESENT + (b"\x01" if value else b"\x00")
    return _PRESENT + long(int(value))


def text(value: str) -> bytes:
    """A text behind its length."""
    data = value.encode()
    return _size(len(data)) + data


def _size(size: int) -> bytes:
    return _SIZES[size] if size < _SIZES_MAX else long(size)


def _time(ms: Any) -> bytes:
    """A time after 1970: what stands above its last 14 bits, 8 seconds, repeats."""
    zigzag: int = ms << 1
    return _LAST[zigzag] if zigzag <= _LOW else _MORE[zigzag & _LOW] + _times[zigzag >> _LOW_BITS]


def long(number: int) -> bytes:
    """Zigzag and variable length."""
    return _unsigned((number << 1) ^ (number >> 63))


def _unsigned(rest: int) -> bytes:
    """Variable length, two groups of seven bits at a time."""
    out = b""
    while rest > _LOW:
        out += _MORE[rest & _LOW]
        rest >>= _LOW_BITS
    return out + _LAST[rest]


_NULL, _PRESENT = b"\x00", b"\x02"
_LOW_BITS, _LOW = 14, 0x3FFF
_MORE = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << _LOW_BITS)]
_LAST = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << _LOW_BITS)]
_SIZES_MAX = 4 * 512  # an id has at most 256 characters of four bytes
_SIZES = [long(size) for size in range(_SIZES_MAX)]
_times = Table(_unsigned)
