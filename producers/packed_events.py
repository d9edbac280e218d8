"""Events packed by msgspec as finished record batches: a compiled loop writes the Avro of each, and its record."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from producers.encoder import FIELDS, event_types, long, text
from producers.event import FIELDS as TOLD
from producers.event import ClientEvent
from schemas.codec import Codec
from schemas.kernel import kernel
from schemas.packing import Bools, Bytes, Places, put_record_head, put_varint
from schemas.ready_batch import ReadyBatch
from schemas.record_batch import record_batch

_VALUES = {**{name: place + 2 for place, name in enumerate(TOLD)}, "user_id": 0, "location": 1}
"""Where each field stands in what is packed: the door's own two come first."""

_PACKED = len(TOLD) + 2
_ORDER = np.array([_VALUES[name] for name in FIELDS if name in _VALUES], np.uint64)
_SIZES_BYTES_MAX = 40 + 10 * len(FIELDS)
"""What an event may need besides what is packed: lengths, branches and numbers take other room."""

_USER, _EVENT_ID, _EVENT_TYPE = (np.uint64(_VALUES[name]) for name in ("user_id", "event_id", "event_type"))
_HEAD_BYTES = np.uint64(3)  # of an array of 16 values or more
_NIL, _FALSE, _TRUE = np.uint8(0xC0), np.uint8(0xC2), np.uint8(0xC3)
_FIXSTR, _UINT8, _STR8 = np.uint8(0xA0), np.uint8(0xCC), np.uint8(0xD9)
_FIXSTR_SIZE, _UINT_WIDTH = np.uint8(0x1F), np.uint8(3)
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
_NULL, _PRESENT = np.uint8(0), np.uint8(2)

_pack_into = msgspec.msgpack.Encoder().encode_into


def pack(event: ClientEvent, pseudonym: str | None, location: str | None, packed: bytearray) -> None:
    """Appends an event that has passed the rules, with this user and place instead of its own."""
    _pack_into((pseudonym, location) + msgspec.structs.astuple(event), packed, -1)  # noqa: RUF005 - twice as quick


class PackedEncoder:
    """Packed events of one tenant and source as a record batch: keys and values are those of `EventEncoder`."""

    def __init__(self, codec: Codec, tenant: str, source: str) -> None:
        symbols = event_types(codec)
        self._nullable = np.array([isinstance(field["type"], list) for field in codec.fields[: len(_ORDER)]], np.bool_)
        self._symbols = np.frombuffer("".join(symbols).encode(), np.uint8)
        self._symbol_ends = np.cumsum([0, *map(len, symbols)]).astype(np.uint64)
        self._prefix = codec.prefixes[0].data
        self._behind = text(tenant) + text(source)

    def batch(self, packed: bytearray, events: int, received_at_ms: int) -> ReadyBatch:
        """All events in their order, stamped with the time of this call."""
        behind = self._behind + long(received_at_ms)
        each = _SIZES_BYTES_MAX + len(self._prefix) + len(behind)
        value, out = (np.empty(times * len(packed) + each * events, np.uint8) for times in (1, 2))
        around = np.frombuffer(self._prefix, np.uint8), np.frombuffer(behind, np.uint8)
        size = _write(
            np.frombuffer(packed, np.uint8),
            events,
            _ORDER,
            self._nullable,
            self._symbol_ends,
            self._symbols,
            *around,
            value,
            out,
        )
        return ReadyBatch(record_batch(out[:size], events, time.time_ns() // 1_000_000), events)


@kernel
def _number(packed: Bytes, at: np.uint64, size: np.uint64) -> np.uint64:
    """A whole number of so many bytes, the greatest first."""
    number = np.uint64(0)
    for j in range(size):
        number = np.uint64((number << _EIGHT) | np.uint64(packed[at + j]))
    return number


@kernel
def _content(packed: Bytes, at: np.uint64) -> tuple[np.uint64, np.uint64]:
    """(place, size) of the bytes of a value: a text, a number that is not negative, a truth value, or nothing."""
    tag = packed[at]
    if tag >= _STR8:
        width = _ONE << np.uint64(tag - _STR8)
        return at + _ONE + width, _number(packed, at + _ONE, width)
    if tag >= _UINT8:
        return at + _ONE, _ONE << np.uint64(tag & _UINT_WIDTH)
    if _FIXSTR <= tag < _NIL:
        return at + _ONE, np.uint64(tag & _FIXSTR_SIZE)
    return at, _ONE


@kernel
def _copy(out: Bytes, at: np.uint64, data: Bytes, start: np.uint64, size: np.uint64) -> np.uint64:
    for j in range(size):
        out[at + j] = data[start + j]
    return at + size


@kernel
def _code(packed: Bytes, at: np.uint64, size: np.uint64, ends: Places, symbols: Bytes) -> np.uint64:
    """Which of the symbols a text is."""
    code = _ZERO
    for symbol in range(_ZERO, np.uint64(len(ends) - 1)):
        start = ends[symbol]
        is_alike = ends[symbol + _ONE] - start == size
        if is_alike:
            for j in range(size):
                is_alike &= symbols[start + j] == packed[at + j]
        if is_alike:
            code = np.uint64(symbol)
    return code


@kernel
def _write(
    packed: Bytes,
    events: int,
    order: Places,
    nullable: Bools,
    symbol_ends: Places,
    symbols: Bytes,
    prefix: Bytes,
    behind: Bytes,
    value: Bytes,
    out: Bytes,
) -> np.uint64:
    """Writes the records of all events, and gives the bytes written."""
    tags = np.empty(_PACKED, np.uint8)
    starts, sizes = np.empty(_PACKED, np.uint64), np.empty(_PACKED, np.uint64)
    at = place = _ZERO
    for event in range(events):
        place += _HEAD_BYTES
        for i in range(_PACKED):
            tags[i] = packed[place]
            starts[i], sizes[i] = _content(packed, place)
            place = starts[i] + sizes[i]
        size = _copy(value, _ZERO, prefix, _ZERO, np.uint64(len(prefix)))
        for field in range(len(order)):
            i = order[field]
            tag, start, width = tags[i], starts[i], sizes[i]
            if tag == _NIL:
                value[size] = _NULL
                size += _ONE
                continue
            if nullable[field]:
                value[size] = _PRESENT
                size += _ONE
            if tag in (_FALSE, _TRUE):
                value[size] = tag - _FALSE
                size += _ONE
            elif i == _EVENT_TYPE:
                size = put_varint(value, size, _code(packed, start, width, symbol_ends, symbols) << _ONE)
            elif tag >= _STR8 or _FIXSTR <= tag < _NIL:
                size = put_varint(value, size, width << _ONE)
                size = _copy(value, size, packed, start, width)
            else:
                size = put_varint(value, size, _number(packed, start, width) << _ONE)
        size = _copy(value, size, behind, _ZERO, np.uint64(len(behind)))
        key = _EVENT_ID if tags[_USER] == _NIL else _USER
        at = put_record_head(out, at, np.uint64(event), sizes[key], size)
        at = _copy(out, at, packed, starts[key], sizes[key])
        at = _copy(out, put_varint(out, at, size << _ONE), value, _ZERO, size)
        out[at] = _NULL  # no headers
        at += _ONE
    return at
