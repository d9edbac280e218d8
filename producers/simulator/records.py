"""Rows as Kafka record batches: a compiled loop writes each event's Avro and the record around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from producers.collector.clock import TOLERANCE_MS
from producers.encoder import FIELDS, optional, text
from producers.event import EVENT_TYPES
from producers.identity import PSEUDONYM_CHARACTERS
from producers.simulator.catalogue import Catalogue
from producers.simulator.rows import Rows
from producers.simulator.scenario import Scenario
from producers.simulator.telling import NUMBER_DIGITS, SESSION_DIGITS
from producers.simulator.texts import characters
from producers.simulator.world import NONE, PLAY, REASONS_END, REASONS_START
from schemas.codec import Codec
from schemas.kernel import kernel, part
from schemas.packing import Bytes, Places, put_varint, varint_size, zigzag
from schemas.record_batch import BATCH_BYTES, record_batch

PROFILE = np.dtype(
    [("user", "u1", (PSEUDONYM_CHARACTERS,)), ("city", "i2"), ("device", "i2"), ("country", "i2"), ("version", "i2")]
)
"""What is told of a listener: the pseudonym, and which text of each list."""

_VARINTS_BYTES_MAX = 20 * 10
_COPIED = 16
"""Bytes that are copied at once: a text may have so many behind it that are written over."""

_STEP, _ZERO, _ONE, _TWO = np.uint64(_COPIED), np.uint64(0), np.uint64(1), np.uint64(2)
_USER, _FOUR_BITS = np.uint64(PSEUDONYM_CHARACTERS), np.uint64(0xF)
_NULL, _PRESENT = np.uint8(0), np.uint8(2)
_REASONS, _FLAGS = 1 + len(REASONS_START), 8


class Table(NamedTuple):
    """Fields as they stand in Avro, one behind the other."""

    ends: Places
    data: Bytes


class Told(NamedTuple):
    """What events are made of besides their rows. Rows of `tracks`: title, artist, album, and duration in ms."""

    profiles: npt.NDArray[np.void]
    tracks: npt.NDArray[np.int32]
    track_ids: Bytes
    isrcs: Bytes
    kinds: Bytes
    event_id_bytes: int
    alike: Table
    cities: Table
    devices: Table
    countries: Table
    hows: Table
    versions: Table
    titles: Table
    artists: Table
    albums: Table


_EVENT_ID, _TRACK_ID, _SESSION_ID, _SOURCE = range(4)
"""Places of `alike`: what stands in every event before what is its own."""


class Records:
    """Events of one tenant as the door writes them (tests/producers/test_simulator_columns.py).

    `profiles` has a row per listener, `cities` what is told instead of each city of the scenario.
    """

    def __init__(
        self,
        codec: Codec,
        scenario: Scenario,
        catalogue: Catalogue,
        profiles: npt.NDArray[np.void],
        cities: Sequence[str | None],
        run: str,
        tenant: str,
    ) -> None:
        if tuple(field["name"] for field in codec.fields) != FIELDS:
            raise ValueError("listening_event.avsc has other fields than the simulator writes")
        client = scenario.client
        (symbols,) = (field["type"]["symbols"] for field in codec.fields if field["name"] == "event_type")
        track_ids = characters(catalogue.track_ids)
        alike = (
            codec.prefixes[0].data + text(f"{run}-{'0' * NUMBER_DIGITS}")[:-NUMBER_DIGITS],
            text("0" * track_ids.shape[1])[: -track_ids.shape[1]],
            optional(f"{run}-s{'0' * SESSION_DIGITS}")[:-SESSION_DIGITS],
            text(tenant) + text("simulator"),
        )
        starts, ends = ((None, *told) if client.reasons else (None,) * _REASONS for told in (REASONS_START, REASONS_END))
        shuffles = (False, True) if client.shuffle else (None, None)
        hows = product(starts, ends, shuffles, (None, True), (None, True))
        titles = _table(map(optional, catalogue.titles.to_pylist()))
        self._told = Told(
            profiles,
            np.stack([catalogue.title, catalogue.artist, catalogue.album_title, catalogue.duration_ms], axis=1),
            track_ids,
            characters(catalogue.isrcs)[:, : None if client.isrc else 0],
            np.array([2 * symbols.index(kind) for kind in EVENT_TYPES], np.uint8),
            len(run) + 1 + NUMBER_DIGITS,
            _table(alike),
            _table(text(scenario.platform) + optional(city) for city in cities),
            _table(map(optional, scenario.devices)),
            _table(map(optional, scenario.countries)),
            _table(b"".join(map(optional, how)) for how in hows),
            _table(map(optional, scenario.app_versions)),
            titles,
            _table(map(optional, catalogue.artists.to_pylist())),
            titles if client.album else _table([optional(None)] * len(catalogue.titles)),
        )
        tables = [part for part in self._told if isinstance(part, Table)]
        texts_bytes = sum(int(np.diff(table.ends).max()) for table in tables)
        digits_bytes = NUMBER_DIGITS + SESSION_DIGITS + 2 * len(text(f"{run}-")) + 2 * PSEUDONYM_CHARACTERS
        self._record_bytes_max = texts_bytes + digits_bytes + track_ids.shape[1] + 16 + _VARINTS_BYTES_MAX

    def batches(self, rows: Rows, received_ms: int, time_ms: int) -> Iterator[tuple[bytes, int]]:
        """(record batch, its number of records) for all rows in their order; every record carries the time `time_ms`."""
        value = np.empty(self._record_bytes_max, np.uint8)
        out = np.empty(BATCH_BYTES + self._record_bytes_max, np.uint8)
        first = 0
        while first < len(rows):
            end, size = _write(rows, first, received_ms, self._told, value, out, BATCH_BYTES)
            yield record_batch(out[:size], end - first, time_ms), end - first
            first = end


def _table(fields: Iterable[bytes]) -> Table:
    told = list(fields)
    ends = np.cumsum([0, *map(len, told)]).astype(np.uint64)
    return Table(ends, np.frombuffer(b"".join(told) + bytes(_COPIED), np.uint8).copy())


@part
def _copy(out: Bytes, at: np.uint64, data: Bytes, start: np.uint64, size: np.uint64) -> np.uint64:
    for block in range(_ZERO, size, _STEP):
        for j in range(_STEP):
            out[at + block + j] = data[start + block + j]
    return at + size


@part
def _put(out: Bytes, at: np.uint64, table: Table, code: Any) -> np.uint64:
    place = np.uint64(code)
    return _copy(out, at, table.data, table.ends[place], table.ends[place + _ONE] - table.ends[place])


@part
def _put_number(out: Bytes, at: np.uint64, number: Any) -> np.uint64:
    """A number that may be null, and is not."""
    out[at] = _PRESENT
    return put_varint(out, at + _ONE, zigzag(np.int64(number)))


@part
def _put_hexadecimal(out: Bytes, at: np.uint64, number: Any, digits: int) -> np.uint64:
    rest = np.uint64(number)
    for j in range(digits):
        four = (rest >> np.uint64(4 * (digits - 1 - j))) & _FOUR_BITS
        out[at + np.uint64(j)] = np.uint8(four + np.uint64(48 if four < 10 else 87))
    return at + np.uint64(digits)


@part
def _put_row(out: Bytes, at: np.uint64, data: Bytes, row: Any) -> np.uint64:
    for j in range(data.shape[1]):
        out[at + np.uint64(j)] = data[row, j]
    return at + np.uint64(data.shape[1])


@part
def _put_user(out: Bytes, at: np.uint64, profile: Any) -> np.uint64:
    for j in range(PSEUDONYM_CHARACTERS):
        out[at + np.uint64(j)] = profile.user[j]
    return at + _USER


@part
def _put_value(out: Bytes, row: Any, received_ms: int, told: Told) -> np.uint64:
    """An event of listening_event.avsc."""
    profile, track = told.profiles[row.listener], told.tracks[row.track]
    skew = np.int64(row.skew)
    is_repaired = abs(skew) > TOLERANCE_MS
    at = _put(out, _ZERO, told.alike, _EVENT_ID)
    at = _put_hexadecimal(out, at, row.number, NUMBER_DIGITS)
    out[at] = told.kinds[row.kind]
    out[at + _ONE] = _NULL
    at += _TWO
    if not row.private:
        out[at - _ONE] = _PRESENT
        at = put_varint(out, at, zigzag(np.int64(PSEUDONYM_CHARACTERS)))
        at = _put_user(out, at, profile)
    at = _put(out, at, told.alike, _TRACK_ID)
    at = _put_row(out, at, told.track_ids, row.track)
    at = put_varint(out, at, zigzag(row.at if is_repaired else row.at + skew))
    at = _put(out, at, told.cities, profile.city)
    if row.private:
        out[at] = _NULL
        at += _ONE
    else:
        at = _put(out, at, told.alike, _SESSION_ID)
        at = _put_hexadecimal(out, at, (np.int64(row.listener) << 32) | row.session, SESSION_DIGITS)
    at = _put(out, at, told.devices, profile.device)
    at = _put(out, at, told.countries, profile.country)
    at = _put_number(out, at, row.position)
    if row.heard < 0:
        out[at] = _NULL
        at += _ONE
    else:
        at = _put_number(out, at, row.heard)
    flags = 4 * row.shuffle + 2 * row.offline + row.private
    at = _put(out, at, told.hows, ((row.reason_start - NONE) * _REASONS + row.reason_end - NONE) * _FLAGS + flags)
    at = _put(out, at, told.versions, profile.version)
    at = _put_number(out, at, row.arrival + skew)
    if is_repaired:
        at = _put_number(out, at, row.at + skew)
    else:
        out[at] = _NULL
        at += _ONE
    if row.kind == PLAY:
        at = _put(out, at, told.titles, track[0])
        at = _put(out, at, told.artists, track[1])
        at = _put(out, at, told.albums, track[2])
        at = _put_number(out, at, track[3])
        out[at] = _NULL
        if told.isrcs.shape[1]:
            out[at] = _PRESENT
            at = put_varint(out, at + _ONE, zigzag(np.int64(told.isrcs.shape[1])))
            at = _put_row(out, at, told.isrcs, row.track)
        else:
            at += _ONE
    else:
        for j in range(5):
            out[at + np.uint64(j)] = _NULL
        at += np.uint64(5)
    at = _put(out, at, told.alike, _SOURCE)
    return put_varint(out, at, zigzag(np.int64(received_ms)))


@kernel
def _write(
    rows: Rows, first: int, received_ms: int, told: Told, value: Bytes, out: Bytes, full: int
) -> tuple[int, np.uint64]:
    """Writes records from the row `first` on, until `out` is full or there are no more.

    Gives the row behind the last, and the bytes written. The key of a private event is its event_id.
    """
    at = _ZERO
    id_end = told.alike.ends[_ONE] + np.uint64(NUMBER_DIGITS)
    id_size = np.uint64(told.event_id_bytes)
    row = first
    while row < len(rows) and at < np.uint64(full):
        size = _put_value(value, rows[row], received_ms, told)
        key_size = id_size if rows[row].private else _USER
        delta = zigzag(np.int64(row - first))
        body = np.uint64(3) + varint_size(delta) + varint_size(key_size << _ONE) + key_size
        body += varint_size(size << _ONE) + size
        at = put_varint(out, at, body << _ONE)
        out[at] = out[at + _ONE] = _NULL  # no attributes, no time of its own
        at = put_varint(out, at + _TWO, delta)
        at = put_varint(out, at, key_size << _ONE)
        if rows[row].private:
            at = _copy(out, at, value, id_end - id_size, id_size)
        else:
            at = _put_user(out, at, told.profiles[rows[row].listener])
        at = put_varint(out, at, size << _ONE)
        at = _copy(out, at, value, _ZERO, size)
        out[at] = _NULL  # no headers
        at += _ONE
        row += 1
    return row, at
