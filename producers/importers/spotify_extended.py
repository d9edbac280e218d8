"""Spotify extended streaming history: `Streaming_History_Audio_*.json`, and `endsong_*.json` of older exports.

Odd: `ts` is when playback stopped. Without a better word, start = ts - ms_played, which is too late after a pause;
the better word is `offline_timestamp`, the start on the device, in seconds or (older exports) milliseconds, or 0 or
null. It is believed when it fits: at most a day before that start. What was heard offline may carry a `ts` that is
days or a year off (when the device was online again): then the device's start counts, and its end is start +
ms_played. `skipped` is null in old rows, and later true for tracks heard to their end: `reason_end` decides, and
ms_played where the reason is missing or only says that something else was chosen. The album field has had two names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from producers.event import milliseconds
from producers.importers.listens import (
    WITHOUT_NAME,
    Listen,
    NoListen,
    device,
    is_unknown_track,
    played,
    track,
)

NAME = "Spotify extended streaming history"

_COUNTRY = re.compile("[A-Z]{2}")
_DAY_MS = 86_400_000
_CLOCKS_DIFFER_MS = 60_000
_MILLISECONDS_FROM = 100_000_000_000
"""A smaller number of `offline_timestamp` is seconds: as seconds it would be the year 5138."""


class Row(msgspec.Struct, gc=False):
    """One element of the file; addresses and whatever is unknown are not even read."""

    ts: Any = None
    ms_played: Any = None
    username: str | None = None
    platform: str | None = None
    conn_country: str | None = None
    master_metadata_track_name: str | None = None
    master_metadata_album_artist_name: str | None = None
    master_metadata_album_album_name: str | None = None
    master_metadata_album_name: str | None = None
    spotify_track_uri: str | None = None
    episode_name: str | None = None
    episode_show_name: str | None = None
    spotify_episode_uri: str | None = None
    audiobook_title: str | None = None
    audiobook_uri: str | None = None
    audiobook_chapter_uri: str | None = None
    reason_start: str | None = None
    reason_end: str | None = None
    shuffle: bool | None = None
    offline: bool | None = None
    offline_timestamp: Any = None
    incognito_mode: bool | None = None


def is_row(row: dict[str, Any]) -> bool:
    """Whether a decoded object is a row of this format."""
    return "ts" in row and "ms_played" in row


def listen(row: Row, user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    title, artist = row.master_metadata_track_name, row.master_metadata_album_artist_name
    track_id = row.spotify_track_uri
    if not track_id:
        if row.spotify_episode_uri or row.episode_name or row.episode_show_name:
            return NoListen.PODCAST
        if row.audiobook_uri or row.audiobook_title or row.audiobook_chapter_uri:
            return NoListen.AUDIOBOOK
        if is_unknown_track(title):
            return NoListen.UNKNOWN_TRACK
    album = row.master_metadata_album_album_name or row.master_metadata_album_name
    track_id, title, artist, album = track(artist, title, album, track_id)
    stop_ms, ms_played = milliseconds(row.ts, "ts"), played(row.ms_played, "ms_played")
    if not ms_played:
        return NoListen.NOTHING_HEARD
    start_ms = stop_ms - ms_played
    if row.offline_timestamp:
        start_ms, stop_ms = _told_by_device(row, start_ms, stop_ms, ms_played)
    return Listen(
        user or row.username or WITHOUT_NAME,
        "spotify",
        track_id,
        title,
        artist,
        album,
        stop_ms,
        start_ms,
        stop_ms,
        f"spotify {ms_played}",
        ms_played=ms_played,
        reason_start=row.reason_start,
        reason_end=row.reason_end,
        country=_country(row.conn_country),
        device=device(row.platform),
        shuffle=row.shuffle,
        offline=row.offline,
        incognito=row.incognito_mode,
    )


@lru_cache(1024)
def _country(told: str | None) -> str | None:
    return told if told and told != "ZZ" and _COUNTRY.fullmatch(told) else None


def _told_by_device(row: Row, start_ms: int, stop_ms: int, ms_played: int) -> tuple[int, int]:
    """Start and stop with what `offline_timestamp` adds, if it can be believed."""
    value = row.offline_timestamp
    if type(value) is not int:
        if not isinstance(value, float) or not 0 < value < 1e15:  # NaN is no time
            return start_ms, stop_ms
        value = int(value)
    device_ms = value if value >= _MILLISECONDS_FROM else value * 1000
    paused_ms = start_ms - device_ms
    if -_CLOCKS_DIFFER_MS <= paused_ms <= _DAY_MS:
        return min(device_ms, start_ms), stop_ms
    if row.offline and paused_ms > _DAY_MS:
        return device_ms, device_ms + ms_played
    return start_ms, stop_ms
