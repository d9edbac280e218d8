"""Rows as Kafka record batches: a compiled loop writes each event's Avro and the record around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from producers.collector.clock import TOLERANCE_MS
from producers.encoder import event_types, optional, text
from producers.event import EVENT_TYPES
from producers.identity import PSEUDONYM_CHARACTERS
from producers.simulator.catalogue import Catalogue
from producers.simulator.memory import COPIED_BYTES, copy, prefetch
from producers.simulator.rows import Rows
from producers.simulator.scenario import Scenario
from producers.simulator.telling import NUMBER_DIGITS, SESSION_DIGITS
from producers.simulator.texts import characters
from producers.simulator.world import NONE, PLAY, REASONS_END, REASONS_START
from schemas.codec import Codec
from schemas.kernel import kernel, part
from schemas.packing import Bytes, Places, put_record_head, put_varint, zigzag
from schemas.record_batch import record_batch

PROFILE = np.dtype(
    [("user", "u1", (PSEUDONYM_CHARACTERS,)), ("city", "i2"), ("device", "i2"), ("country", "i2"), ("version", "i2")]
)
"""What is told of a listener: the pseudonym, and which text of each list."""

BATCH_BYTES = 2 << 20
"""A batch holds about so many bytes before compression: smaller ones cost Kafka and us more, larger ones no less."""

TRACK = np.dtype([("title", "i4"), ("artist", "i4"), ("album", "i4"), ("duration_ms", "i4")])

_VARINTS_BYTES_MAX = 20 * 10
_AHEAD = 4
"""So many rows are on their way from memory."""

_ZERO, _ONE, _TWO, _STEP = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(COPIED_BYTES)
_USER_BYTES, _PROFILE_BYTES, _FOUR_BITS = np.uint64(PSEUDONYM_CHARACTERS), np.uint64(PROFILE.itemsize), np.uint64(0xF)
_NULL, _PRESENT = np.uint8(0), np.uint8(2)
_REASONS, _FLAGS = 1 + len(REASONS_START), 8


class Texts(NamedTuple):
    """Fields as they stand in Avro, one behind the other; a copy may read some bytes behind the last."""

    ends: Places
    data: Bytes


class Ids(NamedTuple):
    """Texts of one width."""

    width: int
    data: Bytes


class Told(NamedTuple):
    """What events are made of besides their rows. `users` is the memory of `profiles`."""

    profiles: npt.NDArray[np.void]
    users: Bytes
    tracks: npt.NDArray[np.void]
    track_ids: Ids
    isrcs: Ids
    event_id_bytes: int
    kinds: Bytes
    alike: Texts
    cities: Texts
    devices: Texts
    countries: Texts
    hows: Texts
    versions: Texts
    titles: Texts
    artists: Texts
    albums: Texts


_EVENT_ID, _USER, _TRACK_ID, _SESSION, _NO_TRACK, _ISRC, _SOURCE = range(7)
"""Places of `alike`: what stands in every event before what is its own."""


class Records:
    """Events of one tenant, to the byte as the door writes them.

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
        client = scenario.client
        symbols = event_types(codec)
        kinds = np.array([2 * symbols.index(kind) for kind in EVENT_TYPES], np.uint8)
        tracks = np.zeros(scenario.tracks, TRACK)
        tracks["title"], tracks["artist"] = catalogue.title, catalogue.artist
        tracks["album"], tracks["duration_ms"] = catalogue.album_title, catalogue.duration_ms
        track_ids = _ids(characters(catalogue.track_ids))
        isrcs = _ids(characters(catalogue.isrcs)[:, : None if client.isrc else 0])
        alike = (
            codec.prefixes[0].data + _before(NUMBER_DIGITS, text, f"{run}-"),
            _before(PSEUDONYM_CHARACTERS, optional),
            _before(track_ids.width, text),
            _before(SESSION_DIGITS, optional, f"{run}-s"),
            bytes(5),
            _before(isrcs.width, optional) if client.isrc else optional(None),
            text(tenant) + text("simulator"),
        )
        starts, ends = (
            (None, *told) if client.reasons else (None,) * _REASONS for told in (REASONS_START, REASONS_END)
        )
        shuffles = (False, True) if client.shuffle else (None, None)
        hows = product(starts, ends, shuffles, (None, True), (None, True))
        titles = _texts(map(optional, catalogue.titles.to_pylist()))
        self._told = Told(
            profiles,
            profiles.view(np.uint8),
            tracks,
            track_ids,
            isrcs,
            len(run) + 1 + NUMBER_DIGITS,
            kinds,
            _texts(alike),
            _texts(text(scenario.platform) + optional(city) for city in cities),
            _texts(map(optional, scenario.devices)),
            _texts(map(optional, scenario.countries)),
            _texts(b"".join(map(optional, how)) for how in hows),
            _texts(map(optional, scenario.app_versions)),
            titles,
            _texts(map(optional, catalogue.artists.to_pylist())),
            titles if client.album else _texts([optional(None)] * len(catalogue.titles)),
        )
        texts_bytes = sum(int(np.diff(texts.ends).max()) for texts in self._told if isinstance(texts, Texts))
        ids_bytes = 2 * (self._told.event_id_bytes + PSEUDONYM_CHARACTERS) + track_ids.width + isrcs.width
        own_bytes = sum(map(len, alike)) + SESSION_DIGITS + _VARINTS_BYTES_MAX
        self._record_bytes_max = texts_bytes + ids_bytes + own_bytes + COPIED_BYTES

    def batches(self, rows: Rows, received_ms: int, time_ms: int) -> Iterator[tuple[bytes, int]]:
        """(record batch, its number of records) for all rows in their order; `time_ms` is the time of every record."""
        event = np.empty(self._record_bytes_max, np.uint8)
        out = np.empty(BATCH_BYTES + self._record_bytes_max, np.uint8)
        first = 0
        while first < len(rows):
            last, size = _write(rows, first, received_ms, self._told, event, out, BATCH_BYTES)
            yield record_batch(out[:size], last - first, time_ms), last - first
            first = last


def _before(characters: int, encode: Any, start: str = "") -> bytes:
    """What stands in Avro before the last characters of a text."""
    found: bytes = encode(start + "0" * characters)[:-characters]
    return found


def _texts(fields: Iterable[bytes]) -> Texts:
    told = list(fields)
    return Texts(np.cumsum([0, *map(len, told)]).astype(np.uint64), _padded(b"".join(told)))


def _ids(rows: Bytes) -> Ids:
    return Ids(rows.shape[1], _padded(rows.tobytes()))


def _padded(data: bytes) -> Bytes:
    return np.frombuffer(bytearray(data) + bytes(COPIED_BYTES), np.uint8)


@part
def _put(out: Bytes, at: np.uint64, data: Bytes, start: np.uint64, size: np.uint64) -> np.uint64:
    """Copies, up to COPIED_BYTES more than `size`, and returns the place behind."""
    for done in range(_ZERO, size, _STEP):
        copy(out, at + done, data, start + done)
    return at + size


@part
def _put_text(out: Bytes, at: np.uint64, texts: Texts, code: Any) -> np.uint64:
    start, end = texts.ends[np.uint64(code)], texts.ends[np.uint64(code) + _ONE]
    return _put(out, at, texts.data, start, end - start)


@part
def _put_id(out: Bytes, at: np.uint64, ids: Ids, row: Any) -> np.uint64:
    width = np.uint64(ids.width)
    return _put(out, at, ids.data, np.uint64(row) * width, width)


@part
def _put_hexadecimal(out: Bytes, at: np.uint64, number: Any, digits: int) -> np.uint64:
    for j in range(digits):
        digit = (np.uint64(number) >> np.uint64(4 * (digits - 1 - j))) & _FOUR_BITS
        out[at + np.uint64(j)] = np.uint8(digit + np.uint64(48 if digit < 10 else 87))
    return at + np.uint64(digits)


@part
def _put_number(out: Bytes, at: np.uint64, number: Any, is_told: Any) -> np.uint64:
    """A number that may be null."""
    out[at] = _PRESENT if is_told else _NULL
    at += _ONE
    return put_varint(out, at, zigzag(np.int64(number))) if is_told else at


@part
def _put_event(out: Bytes, row: Any, received_ms: int, told: Told) -> np.uint64:
    """An event, its fields in the order of listening_event.avsc; returns its size."""
    profile, track = told.profiles[row.listener], told.tracks[row.track]
    skew, is_play = np.int64(row.skew), row.kind == PLAY
    is_repaired = abs(skew) > TOLERANCE_MS
    at = _put_text(out, _ZERO, told.alike, _EVENT_ID)
    at = _put_hexadecimal(out, at, row.number, NUMBER_DIGITS)
    out[at] = told.kinds[row.kind]
    out[at + _ONE] = _NULL
    if row.private:
        at += _TWO
    else:
        at = _put_text(out, at + _ONE, told.alike, _USER)
        at = _put(out, at, told.users, np.uint64(row.listener) * _PROFILE_BYTES, _USER_BYTES)
    at = _put_text(out, at, told.alike, _TRACK_ID)
    at = _put_id(out, at, told.track_ids, row.track)
    at = put_varint(out, at, zigzag(row.at if is_repaired else row.at + skew))
    at = _put_text(out, at, told.cities, profile.city)
    if row.private:
        out[at] = _NULL
        at += _ONE
    else:
        at = _put_text(out, at, told.alike, _SESSION)
        at = _put_hexadecimal(out, at, (np.int64(row.listener) << 32) | row.session, SESSION_DIGITS)
    at = _put_text(out, at, told.devices, profile.device)
    at = _put_text(out, at, told.countries, profile.country)
    at = _put_number(out, at, row.position, True)
    at = _put_number(out, at, row.heard, row.heard >= 0)
    reasons = (row.reason_start - NONE) * _REASONS + row.reason_end - NONE
    at = _put_text(out, at, told.hows, reasons * _FLAGS + 4 * row.shuffle + 2 * row.offline + row.private)
    at = _put_text(out, at, told.versions, profile.version)
    at = _put_number(out, at, row.arrival + skew, True)
    at = _put_number(out, at, row.at + skew, is_repaired)
    if is_play:
        at = _put_text(out, at, told.titles, track.title)
        at = _put_text(out, at, told.artists, track.artist)
        at = _put_text(out, at, told.albums, track.album)
        at = _put_number(out, at, track.duration_ms, True)
        at = _put_text(out, at, told.alike, _ISRC)
        at = _put_id(out, at, told.isrcs, row.track)
    else:
        at = _put_text(out, at, told.alike, _NO_TRACK)
    at = _put_text(out, at, told.alike, _SOURCE)
    return put_varint(out, at, zigzag(np.int64(received_ms)))


@kernel
def _write(
    rows: Rows, first: int, received_ms: int, told: Told, event: Bytes, out: Bytes, full_bytes: int
) -> tuple[int, np.uint64]:
    """Writes records from the row `first` on until there are `full_bytes` or no more rows.

    Gives the row behind the last, and the bytes written. The key of an event without a user is its event_id.
    """
    id_bytes = np.uint64(told.event_id_bytes)
    id_start = told.alike.ends[_ONE] + np.uint64(NUMBER_DIGITS) - id_bytes
    at, i = _ZERO, first
    while i < len(rows) and at < np.uint64(full_bytes):
        row, ahead = rows[i], rows[min(i + _AHEAD, len(rows) - 1)]
        prefetch(told.profiles, np.int64(ahead.listener))
        prefetch(told.tracks, np.int64(ahead.track))
        prefetch(told.track_ids.data, ahead.track * told.track_ids.width)
        size = _put_event(event, row, received_ms, told)
        at = put_record_head(out, at, np.uint64(i - first), id_bytes if row.private else _USER_BYTES, size)
        if row.private:
            at = _put(out, at, event, id_start, id_bytes)
        else:
            at = _put(out, at, told.users, np.uint64(row.listener) * _PROFILE_BYTES, _USER_BYTES)
        at = put_varint(out, at, size << _ONE)
        at = _put(out, at, event, _ZERO, size)
        out[at] = np.uint8(0)
        at += _ONE
        i += 1
    return i, at
